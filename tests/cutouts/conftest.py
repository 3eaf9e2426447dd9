"""Small fields of Gaussian stars, and catalogues of them: what stores are assembled from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS
from numpy.typing import NDArray

from gqs.labels import CLASSES
from gqs.surveys.sdss import FRAME_OFFSET, FieldId

SHAPE = (131, 172)  # rows, columns
NOISE = 0.02
SCALE = 1.1e-4  # degrees a pixel


@dataclass(frozen=True)
class SmallField:
    """A field of stars that is not from SDSS: one HDU a frame, no calibration."""

    field: FieldId
    ra: float
    dec: float = 10.0
    n: int = 12

    @property
    def wcs(self) -> WCS:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [SHAPE[1] / 2, SHAPE[0] / 2]
        wcs.wcs.cd = [[-SCALE, 0], [0, SCALE]]
        return wcs

    def stars(self) -> NDArray[np.float64]:
        """(n, 2) pixels, well apart and off the edge."""
        rng = np.random.default_rng([*self.field])
        x, y = np.meshgrid(np.linspace(30, SHAPE[1] - 30, 4), np.linspace(30, SHAPE[0] - 30, 3))
        grid = np.column_stack([x.ravel(), y.ravel()])[: self.n]
        return grid + rng.uniform(-3, 3, grid.shape)

    def flux(self, band: str) -> NDArray[np.float32]:
        rng = np.random.default_rng([*self.field, ord(band)])
        y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
        image = rng.normal(0, NOISE, SHAPE)
        for sx, sy in self.stars():
            image += 2 * np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / (2 * 1.5**2))
        return image.astype(np.float32)

    def write(self, folder: Path, bands: str = "ugriz") -> list[Path]:
        folder = folder / str(self.field)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for band in bands:
            header = self.wcs.to_header()
            header["BUNIT"], header["FILTER"] = "nanomaggy", band
            header["RUN"], header["CAMCOL"] = self.field.run, self.field.camcol
            header["FRAME"] = self.field.field + FRAME_OFFSET[band]
            path = folder / f"frame-{band}-{self.field}.fits"
            fits.PrimaryHDU(self.flux(band), header).writeto(path, overwrite=True)
            paths.append(path)
        return paths

    def catalog(self) -> Table:
        x, y = self.stars().T
        ra, dec = self.wcs.all_pix2world(x, y, 0)
        number = np.arange(len(x))
        table = Table({"objid": (self.field.run * 1000 + self.field.field) * 1000 + number})
        table["objid"] = table["objid"].astype(np.uint64)
        table["ra"], table["dec"] = ra, dec
        for name, value in zip(("run", "camcol", "field"), self.field, strict=True):
            table[name] = np.full(len(x), value)
        table["class"] = np.array(CLASSES)[number % 3]
        table["redshift"] = number / 10
        return table


@pytest.fixture(scope="session")
def three_fields() -> tuple[SmallField, ...]:
    """Three fields of 12 stars, far apart on the sky."""
    return tuple(SmallField(FieldId(756, 2, 40 + i), ra=10.0 + i) for i in range(3))


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory, three_fields: Sequence[SmallField]) -> Path:
    """A folder with frames/ and catalog.csv of the three fields; read, never changed."""
    folder = tmp_path_factory.mktemp("survey")
    for field in three_fields:
        field.write(folder / "frames")
    vstack([f.catalog() for f in three_fields]).write(folder / "catalog.csv", format="ascii.csv")
    return folder
