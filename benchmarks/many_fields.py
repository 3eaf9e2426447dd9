"""Many fields out of few, for benchmarks of surveys: real ones renumbered, simulated ones cut up.

Renumbered fields are whole real fields, pixel for pixel, whose headers say another field number
and another right ascension, so that no two of them overlap. Only the header is compressed anew,
as a bz2 stream of its own before that of the pixels: to read them costs what the real ones cost.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits

from gqs.simulation.fields import simulate
from gqs.simulation.population import Mix
from gqs.surveys.sdss import BANDS, FRAME_OFFSET, FieldId, FrameName
from measured import real_folder

FIRST = 1000  # number of the first renumbered field
APART = 1.0  # degrees of right ascension between them


def real_paths() -> list[list[Path]]:
    """Frames of each real field, u g r i z."""
    folders = sorted((real_folder() / "frames").iterdir())
    return [[next(folder.glob(f"frame-{b}-*.bz2")) for b in BANDS] for folder in folders]


def renumbered(out: Path, number: int) -> list[Path]:
    """Write so many fields, from each real one in turn; those that are there stay."""
    makers = [list(map(_Frame, paths)) for paths in real_paths()]
    return [
        frame.write(out, FIRST + i, i * APART)
        for i in range(number)
        for frame in makers[i % len(makers)]
    ]


class _Frame:
    """A real frame, its header apart from its pixels."""

    def __init__(self, path: Path) -> None:
        name = FrameName.of_file(path.name)
        assert name is not None
        self.path, self.name, self.rest = path, name, b""

    def write(self, out: Path, number: int, shift: float) -> Path:
        field = FieldId(self.name.field.run, self.name.field.camcol, number)
        path = out / str(field) / str(FrameName(self.name.band, field))
        if not path.is_file():
            if not self.rest:
                data = bz2.decompress(self.path.read_bytes())
                end = next(b for b in range(0, len(data), 80) if data[b : b + 80] == _END)
                end = -(-(end + 80) // 2880) * 2880
                self.header, self.rest = data[:end], bz2.compress(data[end:])
            header = _changed(self.header, "FRAME", lambda _: number + FRAME_OFFSET[self.name.band])
            for key in ("CRVAL1", "CRVAL2"):  # SDSS writes declination first
                if _value(header, key.replace("CRVAL", "CTYPE")).startswith("'RA"):
                    header = _changed(header, key, lambda a: round((float(a) + shift) % 360, 9))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bz2.compress(header) + self.rest)
        return path


_END = b"END".ljust(80)


def _value(header: bytes, key: str) -> str:
    found = re.search(rf"{key:<8}= *([^/]*?) */".encode(), header)
    assert found is not None, key
    return found[1].decode().strip()


def _changed(header: bytes, key: str, change) -> bytes:
    at = header.index(f"{key:<8}= ".encode())
    card = f"{key:<8}= {change(_value(header, key)):>20} /".ljust(80).encode()
    return header[:at] + card + header[at + 80 :]


def strip(folder: Path, number: int, seed: int) -> list[Path]:
    """Cut one simulated field into so many that overlap by 120 of their 300 columns."""
    wide = folder / "whole"
    simulate(wide, 1, seed, Mix.enriched_with(300 * number), shape=(300, 180 * number + 120))
    source = next((wide / "frames").iterdir())
    return [path for i in range(number) for path in _cut(source, folder / "frames", i)]


def _cut(source: Path, out: Path, i: int) -> Iterator[Path]:
    for path in sorted(source.iterdir()):
        name = FrameName.of_file(path.name)
        assert name is not None
        with fits.open(path) as opened:
            header = opened[0].header.copy()
            data = np.ascontiguousarray(opened[0].data[:, 180 * i : 180 * i + 300])
        field = FieldId(name.field.run, name.field.camcol, FIRST + i)
        header["CRPIX1"] -= 180 * i
        header["ORIGIN"] = "cut"  # one HDU: no camera's counts can be rebuilt
        header["FRAME"] = field.field + FRAME_OFFSET[name.band]
        target = out / str(field) / f"{FrameName(name.band, field)}".removesuffix(".bz2")
        target.parent.mkdir(parents=True, exist_ok=True)
        fits.PrimaryHDU(data, header).writeto(target, overwrite=True)
        yield target
