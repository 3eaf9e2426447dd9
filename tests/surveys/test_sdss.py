"""SDSS's facts against its own published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqs.errors import UsageError
from gqs.surveys import sdss
from gqs.surveys.sdss import FieldId, FrameName

# Magnitudes of zero flux: sdss.org/dr17/algorithms/magnitudes, table of asinh softenings.
ZERO_FLUX = {"u": 24.63, "g": 25.11, "r": 24.80, "i": 24.36, "z": 22.83}
# Magnitude where f = 10 b f0, in the same table: asinh and Pogson agree to 0.01 there.
TEN_B = {"u": 22.12, "g": 22.60, "r": 22.29, "i": 21.85, "z": 20.32}


@pytest.mark.parametrize("band", "ugriz")
def test_asinh_magnitudes_of_the_published_table(band: str) -> None:
    assert sdss.asinh_magnitude(0.0, band) == pytest.approx(ZERO_FLUX[band], abs=0.01)
    ten_b = 10 * sdss.SOFTENING[band] * 1e9
    assert sdss.asinh_magnitude(ten_b, band) == pytest.approx(TEN_B[band], abs=0.01)


@pytest.mark.parametrize("band", "ugriz")
def test_bright_asinh_magnitudes_are_pogson(band: str) -> None:
    flux = np.array([10.0, 1e3, 1e5])
    pogson = sdss.ZERO_POINT - 2.5 * np.log10(flux)
    np.testing.assert_allclose(sdss.asinh_magnitude(flux, band), pogson, atol=0.007)


@given(st.floats(-20, 1e6), st.sampled_from("ugriz"))
def test_asinh_round_trip(flux: float, band: str) -> None:
    magnitude = sdss.asinh_magnitude(flux, band)
    back = sdss.flux_of_asinh_magnitude(magnitude, band)
    assert back == pytest.approx(flux, rel=1e-9, abs=1e-9)


def test_asinh_keeps_nan() -> None:
    assert np.isnan(sdss.asinh_magnitude(np.nan, "r"))


@pytest.mark.parametrize("text", ["3918-3-213", "003918-3-0213", " 3918-3-213\n"])
def test_field_from_text(text: str) -> None:
    assert FieldId.parse(text) == FieldId(3918, 3, 213)


@given(st.integers(0, 999_999), st.integers(1, 6), st.integers(0, 9999))
def test_field_text_round_trip(run: int, camcol: int, field: int) -> None:
    name = FieldId(run, camcol, field)
    assert FieldId.parse(str(name)) == name
    assert all(type(part) is int for part in FieldId.parse(str(name)))


@pytest.mark.parametrize(
    "text", ["", "3918", "3918-7-213", "3918-0-1", "3918-3-", "a-b-c", "3918-3-213-1", "../3-3-1"]
)
def test_no_field(text: str) -> None:
    with pytest.raises(UsageError, match="run-camcol-field"):
        FieldId.parse(text)


def test_frame_name() -> None:
    name = FrameName("r", FieldId(3918, 3, 213))
    assert str(name) == "frame-r-003918-3-0213.fits.bz2"


def test_bands_in_order() -> None:
    assert sdss.check_bands("irg") == "gri"
    assert sdss.check_bands("zirgu") == "ugriz"


@pytest.mark.parametrize("bands", ["", "rr", "v", "ugrizy", "R", "g,r", "gr "])
def test_bad_bands(bands: str) -> None:
    with pytest.raises(UsageError):
        sdss.check_bands(bands)


def test_photo_objid_of_a_known_object() -> None:
    # A DR8 identifier as SkyServer's examples show it; 1237... is sky version 2, rerun 301.
    value = 1237648720693755918
    field = FieldId((value >> 32) & 0xFFFF, (value >> 29) & 7, (value >> 16) & 0xFFF)
    assert (value >> 48) & 0x7FF == sdss.RERUN
    objid = sdss.photo_objid(field, np.array([value & 0xFFFF]))
    assert objid.dtype == np.uint64
    assert int(objid[0]) == value


@pytest.mark.parametrize("number", [-1, 65536])
def test_photo_objid_refuses_what_has_no_bits(number: int) -> None:
    with pytest.raises(UsageError):
        sdss.photo_objid(FieldId(3918, 3, 213), np.array([number]))


@pytest.mark.parametrize("field", [(65536, 3, 1), (100, 3, 4096), (-1, 3, 1)])
def test_photo_objid_refuses_fields_that_have_no_bits(field: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError):
        sdss.photo_objid(FieldId(*field), np.array([1]))


def test_detection_objid_is_unique_and_not_sdss() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 2047, 500), rng.uniform(0, 1488, 500)
    x[1], y[1] = x[0], y[0]  # two sources in one pixel
    x[2], y[2] = x[0] + 0.1, y[0]
    field = FieldId(3918, 3, 213)
    objid = sdss.detection_objid(field, x, y)
    assert len(set(objid.tolist())) == 500
    np.testing.assert_array_equal(objid, sdss.detection_objid(field, x, y))
    np.testing.assert_array_equal(objid[3:], sdss.detection_objid(field, x[3:], y[3:]))
    assert ((objid >> np.uint64(59)) == 15).all()
    assert objid.max() < 2**63  # fits the signed integers of other software


@given(
    st.lists(
        st.tuples(st.integers(1, 999_999), st.integers(1, 6), st.integers(0, 4095)),
        min_size=2,
        max_size=5,
        unique=True,
    )
)
def test_detection_objid_tells_fields_apart(fields: list[tuple[int, int, int]]) -> None:
    x, y = np.array([5.0, 2047.0]), np.array([0.0, 1488.0])
    seen = [int(v) for field in fields for v in sdss.detection_objid(FieldId(*field), x, y)]
    assert len(set(seen)) == len(seen)


def test_detection_objid_refuses_positions_that_are_none() -> None:
    with pytest.raises(UsageError):
        sdss.detection_objid(FieldId(3918, 3, 213), np.array([np.nan]), np.array([3.0]))


def test_detection_objid_does_not_mind_the_corner() -> None:
    at = np.full(3, 4095.0)
    objid = sdss.detection_objid(FieldId(3918, 3, 213), at, at)
    assert len(set(objid.tolist())) == 3
    assert ((objid >> np.uint64(24)) == objid[0] >> np.uint64(24)).all()
