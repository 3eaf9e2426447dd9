"""What passes as the frame that was asked for, and what does not."""

from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from gqs.errors import BadInputError, IntegrityError
from gqs.imaging import unpack
from gqs.imaging.frames import check_frame, read_frame
from gqs.surveys.sdss import FieldId, FrameName
from loopback.sas import any_field, small_frame

NAME = FrameName("g", FieldId(3918, 3, 213))


@pytest.fixture(scope="module")
def whole() -> bytes:
    data = any_field(small_frame())(NAME)
    assert data is not None
    return data


def test_the_frame_that_was_asked_for_passes(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any name"
    path.write_bytes(whole)
    check_frame(path, NAME)
    assert read_frame(path).field == NAME.field


@pytest.mark.parametrize(
    "other",
    [
        FrameName("r", NAME.field),
        FrameName("g", FieldId(3918, 3, 214)),
        FrameName("g", FieldId(3918, 4, 213)),
        FrameName("g", FieldId(3919, 3, 213)),
    ],
)
def test_another_frame_does_not(whole: bytes, tmp_path: Path, other: FrameName) -> None:
    path = tmp_path / "frame"
    path.write_bytes(whole)
    with pytest.raises(IntegrityError, match="band g of field 003918-3-0213, not"):
        check_frame(path, other)


def test_no_bit_may_be_wrong_and_no_byte_missing(whole: bytes, tmp_path: Path) -> None:
    """bzip2's sums cover every block; 1 in 2^32 wrong ones would pass."""
    path = tmp_path / "frame"
    for at in range(12, len(whole), len(whole) // 12):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises((BadInputError, IntegrityError)):
            check_frame(path, NAME)
        path.write_bytes(whole[:at])
        with pytest.raises(BadInputError):
            check_frame(path, NAME)


def test_every_hdu_must_be_there(whole: bytes, tmp_path: Path) -> None:
    plain = bz2.decompress(whole)
    path = tmp_path / "frame"
    last = unpack.hdus(plain, path)[-1]
    path.write_bytes(bz2.compress(plain[: last.start], 1))
    with pytest.raises(BadInputError, match="has 3 of the 4 HDUs"):
        check_frame(path, NAME)


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", bz2.compress(b"<html></html>")])
def test_what_is_no_frame_does_not(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "frame"
    path.write_bytes(data)
    with pytest.raises(BadInputError):
        check_frame(path, NAME)
