"""Whatever is wrong with a file or a header: one sentence, no wrong frame, no hang, no crash."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from gqs.errors import BadInputError
from gqs.imaging import unpack
from gqs.imaging.frames import group_fields, identify, read_frame

SEED = 20240229


def refuse(path: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        read_frame(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and "\n" not in sentence and sentence.endswith(".")
    assert len(sentence) < len(str(path)) + 260
    return sentence


def put(folder: Path, data: bytes) -> Path:
    path = folder / "frame-r-003918-3-0213.fits.bz2"
    path.write_bytes(data)
    return path


def card(text: str) -> bytes:
    return text.ljust(80).encode()


def header(*cards: str, end: bool = True) -> bytes:
    block = b"".join(map(card, cards)) + (card("END") if end else b"")
    return block.ljust(-(-len(block) // 2880) * 2880)


PLAIN = ("SIMPLE  =                    T", "BITPIX  =                  -32")


def bomb(pack, size: int = 200 << 20) -> bytes:
    """Zeros over the limit, packed a piece at a time so that the test itself stays small."""
    out = [pack.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*out, pack.flush()])


FILES = {
    "empty": lambda good: b"",
    "zeros": lambda good: bytes(28800),
    "html": lambda good: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "bz2 of html": lambda good: bz2.compress(b"  <html>Service unavailable</html>"),
    "bz2 of bz2": lambda good: bz2.compress(bz2.compress(good, 1), 1),
    "cut at 1 %": lambda good: good[: len(good) // 100],
    "cut at 50 %": lambda good: good[: len(good) // 2],
    "cut at 99.9 %": lambda good: good[: len(good) * 999 // 1000],
    "cut at the end of HDU 1": lambda good: good[: unpack.hdus(good, "")[1].end],
    "cut at the end of HDU 2": lambda good: good[: unpack.hdus(good, "")[2].end],
    "cut in the last table": lambda good: good[:-2880],
    "bz2 cut": lambda good: bz2.compress(good, 1)[:-40],
    "bz2 cut in its tail": lambda good: bz2.compress(good, 1)[:-1],
    "gz cut": lambda good: gzip.compress(good, 1)[:-3],
    "gz cut in half": lambda good: gzip.compress(good, 1)[:30000],
    "no END": lambda good: header(*PLAIN, *["COMMENT x"] * 100, end=False),
    "200,000 cards": lambda good: header(*PLAIN, *["COMMENT x"] * 200_000),
    "trailing junk": lambda good: good + b"junk" * 900,
    "two frames in a row": lambda good: bz2.compress(good, 1) * 2,
    "junk after the archive": lambda good: bz2.compress(good, 1) + b"<html>",
    "bz2 bomb": lambda good: bomb(bz2.BZ2Compressor(9)),
    "gz bomb": lambda good: bomb(zlib.compressobj(9, wbits=31)),
    "xz bomb": lambda good: lzma.compress(bytes(1 << 20)),
    "100,000 a side": lambda good: header(
        *PLAIN, "NAXIS   =                    2", "NAXIS1  =               100000",
        "NAXIS2  =               100000"),
    "2^31 - 1 a side": lambda good: header(
        *PLAIN, "NAXIS   =                    2", "NAXIS1  =           2147483647",
        "NAXIS2  =           2147483647"),
    "negative side": lambda good: good.replace(
        b"NAXIS1  =                  203", b"NAXIS1  =                   -5", 1),
    "a side of words": lambda good: good.replace(
        b"NAXIS1  =                  203", b"NAXIS1  = 'many'              ", 1),
    "BITPIX 7": lambda good: good.replace(
        b"BITPIX  =                  -32", b"BITPIX  =                    7", 1),
    "10,000 HDUs": lambda good: good + header(
        "XTENSION= 'IMAGE   '", "BITPIX  =                    8",
        "NAXIS   =                    0", "PCOUNT  =                    0",
        "GCOUNT  =                    1") * 10_000,
    "header of bytes": lambda good: good.replace(b"ORIGIN  = 'SDSS", b"ORIGIN  = '\xff\x00SS", 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_refused_in_one_sentence(sky, tmp_path, kind):
    refuse(put(tmp_path, FILES[kind](sky.bytes("r"))))


@pytest.mark.parametrize("packed", ["bz2", "gz", "checksummed"])
def test_no_flipped_bit_passes_in_silence(sky, tmp_path, packed):
    """An archive's own checksum or FITS's: a changed frame is refused or was not changed."""

    def sum_up(hdus):
        for hdu in hdus:
            hdu.add_checksum()

    good = sky.bytes("r", sum_up if packed == "checksummed" else None)
    data = {"bz2": lambda: bz2.compress(good, 1), "gz": lambda: gzip.compress(good, 1),
            "checksummed": lambda: good}[packed]()  # fmt: skip
    rng = np.random.default_rng(SEED)
    refused = 0
    for place in rng.integers(0, len(data) * 8, 60):
        bad = bytearray(data)
        bad[place // 8] ^= 1 << (place % 8)
        try:
            read = unpack.read(put(tmp_path, bytes(bad)))
            unpack.hdus(read, "frame")
        except BadInputError:
            refused += 1
        else:  # bits that gzip's header does not protect, such as its time stamp
            assert read == good
    assert refused >= 57


def test_checksums_agree_with_astropys(sky):
    def sum_up(hdus):
        for hdu in hdus:
            hdu.add_checksum()

    assert len(unpack.hdus(sky.bytes("r", sum_up), "frame")) == 4


@pytest.mark.parametrize("key", ["CHECKSUM", "DATASUM"])
def test_wrong_checksums_are_refused(sky, tmp_path, key):
    def spoil(hdus):
        hdus[0].add_checksum()
        hdus[0].header[key] = "0123456789abcdef" if key == "CHECKSUM" else "12345"

    data = sky.bytes("r", spoil)
    assert key in refuse(put(tmp_path, data)) or "CHECKSUM" in refuse(put(tmp_path, data))


@pytest.mark.parametrize("codec", ["HCOMPRESS_1", "PLIO_1", "RICE_1"])
def test_tile_decompressors_never_run(tmp_path, codec):
    data = np.arange(64 * 80, dtype=np.int32).reshape(64, 80)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type=codec)]).writeto(
        buffer
    )
    good = bytearray(buffer.getvalue())
    rng = np.random.default_rng(SEED)
    for _ in range(20):  # mutants on which astropy has been seen to abort the process
        bad = bytearray(good)
        for place in rng.integers(2880, len(bad), 8):
            bad[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(BadInputError):
            read_frame(put(tmp_path, bytes(bad)))
    assert "axes" in refuse(put(tmp_path, bytes(good)))


def _set(**cards):
    def change(hdus):
        for key, value in cards.items():
            hdus[0].header[key] = value

    return change


def _drop(*keys):
    def change(hdus):
        for key in keys:
            hdus[0].header.remove(key, ignore_missing=True)

    return change


def _data(make):
    def change(hdus):
        hdus[0].data = make(hdus[0].data)

    return change


def _sip(order, value):
    def change(hdus):
        header = hdus[0].header
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header["A_ORDER"], header["B_ORDER"] = order, order
        header["A_2_0"], header["B_0_2"] = value, value

    return change


_CD = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
HEADERS = {
    "no WCS": (_drop("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", *_CD), "CTYPE1"),
    "no CD": (_drop(*_CD), "CD matrix"),
    "singular CD": (_set(CD1_1=1e-4, CD1_2=1e-4, CD2_1=1e-4, CD2_2=1e-4), "singular"),
    "text in CRVAL": (_set(CRVAL1="12h30m"), "not a number"),
    "CRVAL2 = 950": (_set(CRVAL2=950.0), "not a position"),
    "CTYPE swapped": (_set(CTYPE1="DEC--TAN", CTYPE2="RA---TAN"), "CTYPE1"),
    "unknown projection": (_set(CTYPE1="RA---XYZ", CTYPE2="DEC--XYZ"), "XYZ"),
    "linear": (_set(CTYPE1="LINEAR", CTYPE2="LINEAR"), "LINEAR"),
    "one celestial axis": (_set(CTYPE2="FREQ"), "FREQ"),
    "SIP of order a million": (_sip(1_000_000, 1e-6), "A_ORDER"),
    "diverging SIP": (_sip(2, 0.05), "cannot be used"),
    "SIP that folds": (_sip(2, 4e-3), "cannot be used"),
    "pixels of a degree": (_set(CD1_1=1.0, CD1_2=0.0, CD2_1=0.0, CD2_2=1.0), "arcsec"),
    "B1950": (_set(RADESYS="FK4", EQUINOX=1950.0), "FK4"),
    "no run": (_drop("RUN"), "RUN is missing"),
    "run in words": (_set(RUN="../../etc"), "RUN"),
    "camera column 9": (_set(CAMCOL=9), "CAMCOL"),
    "field below 0": (_set(FRAME=-3), "FRAME"),
    "band v": (_set(FILTER="v"), "FILTER"),
    "counts": (_set(BUNIT="adu"), "BUNIT"),
    "BSCALE 0": (lambda hdus: hdus[0].header.set("BSCALE", 0.0), None),
    "all NaN": (_data(lambda data: data * np.nan), "no valid pixel"),
    "constant": (_data(lambda data: data * 0 + 3), "constant"),
    "a cube": (_data(lambda data: np.stack([data, data])), "axes"),
    "no image": (_data(lambda data: None), "axes"),
    "a stripe": (_data(lambda data: data[:20]), "pixels"),
    "calibration of zeros": (lambda hdus: hdus[1].data.fill(0), "calibration"),
    "calibration of NaN": (lambda hdus: hdus[1].data.fill(np.nan), "calibration"),
    "sky of NaN": (lambda hdus: hdus[2].data["ALLSKY"].fill(np.nan), "sky"),
    "tables swapped": (lambda hdus: hdus.insert(2, hdus.pop(3)), "frame"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_lie_are_refused_in_one_sentence(sky, tmp_path, kind):
    change, word = HEADERS[kind]
    data = sky.bytes("r", change)
    if kind == "BSCALE 0":  # astropy itself drops such a card when it writes
        data = sky.bytes("r", _set(BSCALX=0.0)).replace(b"BSCALX  ", b"BSCALE  ", 1)
    sentence = refuse(put(tmp_path, data))
    assert word is None or word in sentence


def test_bzero_nan_is_refused(sky, tmp_path):
    data = sky.bytes("r", _set(BZERX=1.0)).replace(
        card("BZERX   =                  1.0"), card("BZERO   =                  NaN"), 1
    )
    assert "BZERO" in refuse(put(tmp_path, data))


def test_names_in_headers_go_nowhere(sky, tmp_path):
    """Script in OBJECT and a path in FILENAME are only text, and nothing of them is kept."""
    change = _set(OBJECT="<script>alert(1)</script>", FILENAME="../../etc/passwd")
    frame = read_frame(put(tmp_path, sky.bytes("r", change)))
    assert "script" not in repr(frame.wcs.to_header()) and frame.path.parent == tmp_path


@pytest.mark.parametrize("kind", ["empty", "html", "bz2 bomb", "no END", "200,000 cards", "zeros"])
def test_identify_and_grouping_set_aside_the_same_files(sky, tmp_path, kind):
    path = put(tmp_path, FILES[kind](sky.bytes("r")))
    with pytest.raises(BadInputError):
        identify(path)
    fields, set_aside = group_fields([path])
    assert not fields and len(set_aside) == 1


def test_random_bytes_in_the_header_never_crash(sky, tmp_path):
    good = sky.bytes("r")
    end = unpack.hdus(good, "")[0].data
    rng = np.random.default_rng(SEED)
    for _ in range(150):
        bad = bytearray(good)
        for place in rng.integers(0, end, 6):
            bad[place] = int(rng.integers(32, 127))
        path = put(tmp_path, bytes(bad))
        try:
            frame = read_frame(path)
        except BadInputError as error:
            assert str(error).startswith(str(path))
        else:
            assert frame.flux.shape == sky.shape and (np.isfinite(frame.flux) | frame.bad).all()
