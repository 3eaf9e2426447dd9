"""Safe reading of FITS bytes: bounded decompression, sizes checked before memory is allocated.

Headers are not trusted. The archive is decompressed completely, which verifies its checksums. The
declared size of every HDU is compared with the actual bytes, so that the parser never allocates
what a header asks for and never runs a tile decompressor.
"""

from __future__ import annotations

import bz2
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from gqs.errors import BadInputError, UsageError

LIMIT: Final = 64 << 20  # bytes after decompression; a frame of SDSS has 12 MB
BLOCK: Final = 2880
MAX_HDUS: Final = 16
MAX_CARDS: Final = 3600
_CHUNK: Final = 1 << 20
_CARDS: Final = BLOCK // 80
_MAGIC: Final = {b"BZh": "bz2", b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
_BITPIX: Final = (8, 16, 32, 64, -32, -64)


class Hdu(NamedTuple):
    """Location and declared properties of an HDU."""

    start: int
    data: int  # offset of its data
    end: int  # offset of the next HDU
    size: int  # bytes of data before padding
    cards: dict[str, str]
    naxis: tuple[int, ...]


class _Gunzip:
    """gzip with bz2's interface: `decompress(data, max_length)`, `eof`, `unused_data`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.eof, self.needs_input, self.unused_data = False, True, b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.eof, self.unused_data = self._inner.eof, self._inner.unused_data
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out


def read(path: Path, limit: int = LIMIT) -> bytes:
    """A file's content, decompressed completely."""
    data = b"".join(_pieces(path, limit))
    if not data.startswith(b"SIMPLE  ="):
        raise BadInputError(f"{path}: {_describe_content(data)}. Fetch the frame again.")
    return data


def head(path: Path) -> bytes:
    """A file's first header, for which little is decompressed."""
    data = b""
    for piece in _pieces(path, LIMIT):
        data += piece
        if data and not data.startswith(b"SIMPLE  =" if len(data) > 8 else data[:1]):
            break
        end = _header_end(data, 0)
        if end is not None:
            return data[:end]
        if len(data) >= MAX_CARDS * 80:
            break
    if data.startswith(b"SIMPLE  ="):
        raise BadInputError(
            f"{path}: its header has no END within {MAX_CARDS} cards, or it was cut. "
            "Fetch the frame again."
        )
    raise BadInputError(f"{path}: {_describe_content(data)}. Fetch the frame again.")


def _pieces(path: Path, limit: int) -> Iterator[bytes]:
    """A file's decompressed content in pieces of bounded size."""
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if path.is_file() and size <= limit else b""
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file.") from error
    except OSError as error:
        raise BadInputError(
            f"{path}: cannot be read ({error.strerror}). Check the disk."
        ) from error
    if not path.is_file():
        raise UsageError(f"{path}: is not a file. Name the frames themselves.")
    if size > limit:
        raise BadInputError(
            f"{path}: is larger than {limit >> 20} MiB, more than a frame. Split it."
        )
    kind = next((name for magic, name in _MAGIC.items() if raw.startswith(magic)), "plain")
    if kind == "plain":
        yield raw
    elif kind == "bz2":
        yield from _inflate(path, raw, limit, bz2.BZ2Decompressor, b"BZh")
    elif kind == "gzip":
        yield from _inflate(path, raw, limit, _Gunzip, b"\x1f\x8b")
    else:
        raise BadInputError(f"{path}: is a {kind} archive. Decompress it, or use .bz2 or .gz.")


def _inflate(
    path: Path, raw: bytes, limit: int, new: type[bz2.BZ2Decompressor] | type[_Gunzip], magic: bytes
) -> Iterator[bytes]:
    total, rest = 0, raw
    try:
        while rest:
            stream = new()
            while not stream.eof:
                if stream.needs_input and not rest:
                    raise BadInputError(
                        f"{path}: the archive was cut before its end. Fetch the frame again."
                    )
                piece = stream.decompress(rest if stream.needs_input else b"", _CHUNK)
                rest = b""
                total += len(piece)
                if total > limit:
                    raise BadInputError(
                        f"{path}: decompresses to more than {limit >> 20} MiB; refused."
                    )
                yield piece
            rest = stream.unused_data.lstrip(b"\x00")
            if rest and not rest.startswith(magic):
                raise BadInputError(
                    f"{path}: {len(rest)} other bytes follow the archive. Fetch the frame again."
                )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInputError(
            f"{path}: the archive is damaged ({error}). Fetch the frame again."
        ) from error


def _describe_content(data: bytes) -> str:
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return "is empty"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<")):
        return "is a web page instead of a frame, perhaps a server's error message"
    if data.startswith(tuple(_MAGIC)):
        return "is an archive inside an archive"
    return "is not a FITS file"


def _header_end(data: bytes, start: int) -> int | None:
    """End of the header that starts at `start`, or None if there is no END."""
    last = min(len(data) - BLOCK, start + MAX_CARDS * 80)
    for block in range(start, last + 1, BLOCK):
        for card in range(block, block + BLOCK, 80):
            if data[card : card + 8] == b"END     ":
                return block + BLOCK
    return None


def hdus(data: bytes, where: object) -> list[Hdu]:
    """List the HDUs of a FITS file; declared sizes are checked against its actual size."""
    found: list[Hdu] = []
    at = 0
    while at < len(data) and data[at:].strip(b"\x00"):
        if len(found) == MAX_HDUS:
            raise BadInputError(f"{where}: has over {MAX_HDUS} HDUs; frames have four. Refused.")
        if found and data[at : at + 9] != b"XTENSION=":
            raise BadInputError(
                f"{where}: {len(data) - at} bytes after HDU {len(found)} are not FITS. "
                "Fetch the frame again."
            )
        try:
            hdu = _parse(data, at)
        except ValueError as error:
            raise BadInputError(
                f"{where}: HDU {len(found)}: {error}. Fetch the frame again."
            ) from error
        _verify_sums(data, hdu, len(found), where)
        found.append(hdu)
        at = hdu.end
    return found


def _parse(data: bytes, start: int) -> Hdu:
    end = _header_end(data, start)
    if end is None:
        raise ValueError(f"its header has no END within {MAX_CARDS} cards")
    text = data[start:end].decode("latin-1")
    if re.search(r"[^\x20-\x7e]", text[: text.index("END     ")]):
        raise ValueError("its header contains bytes that are not text")
    cards: dict[str, str] = {}
    for i in range(0, len(text), 80):
        if text[i + 8 : i + 10] == "= ":
            value = text[i + 10 : i + 80]
            cards.setdefault(text[i : i + 8].rstrip(), value.split("/")[0].strip())
    bitpix, axes = _whole(cards, "BITPIX"), _whole(cards, "NAXIS")
    if bitpix not in _BITPIX:
        raise ValueError(f"BITPIX is {bitpix}, which FITS does not know")
    if not 0 <= axes <= 9:
        raise ValueError(f"NAXIS is {axes}")
    naxis = tuple(_whole(cards, f"NAXIS{i + 1}") for i in range(axes))
    pcount = _whole(cards, "PCOUNT", 0)
    gcount = _whole(cards, "GCOUNT", 1)
    if min(*naxis, pcount, gcount, 0) < 0:
        raise ValueError("it declares a negative size")
    size = abs(bitpix) // 8 * gcount * (pcount + math.prod(naxis)) if naxis else 0
    padded = -(-size // BLOCK) * BLOCK
    if end + padded > len(data):
        raise ValueError(f"it declares {size:,} bytes of data, but has {len(data) - end:,}")
    return Hdu(start, end, end + padded, size, cards, naxis)


def _whole(cards: dict[str, str], key: str, default: int | None = None) -> int:
    if key not in cards and default is not None:
        return default
    text = cards.get(key, "")
    if not re.fullmatch(r"[+-]?\d{1,19}", text):
        raise ValueError(f"{key} is {text!r}, not an integer" if text else f"{key} is missing")
    return int(text)


def _verify_sums(data: bytes, hdu: Hdu, number: int, where: object) -> None:
    """Verify CHECKSUM and DATASUM if the header has them (FITS standard 4.0, appendix J)."""
    wrong = None
    datasum = hdu.cards.get("DATASUM", "").strip("' ")
    if datasum and datasum != str(_ones_complement(data[hdu.data : hdu.end])):
        wrong = "DATASUM"
    if hdu.cards.get("CHECKSUM", "").strip("' ") and (
        _ones_complement(data[hdu.start : hdu.end]) not in (0, 0xFFFFFFFF)
    ):
        wrong = "CHECKSUM"
    if wrong:
        raise BadInputError(
            f"{where}: HDU {number} does not match its {wrong}: it was changed or damaged. "
            "Fetch the frame again."
        )


def _ones_complement(data: bytes) -> int:
    total = int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
