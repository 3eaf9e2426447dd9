"""Small frames in the layout of SDSS's own, made from a seed: where imaging tests start from."""

from __future__ import annotations

import bz2
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from gqs.imaging.align import BandStack, align
from gqs.imaging.frames import read_frame
from gqs.surveys.sdss import FRAME_OFFSET, FieldId, dark_variance, gain

SHAPE = (161, 203)  # rows, columns
OFFSETS = {"u": (-1.5, 3.8), "g": (-2.6, 8.9), "r": (0.0, 0.0), "i": (1.7, 3.2), "z": (0.8, 7.9)}
SCALE = 1.1e-4  # degrees a pixel


@dataclass
class Sky:
    """Gaussian stars and how to write them as a frame."""

    seed: int = 0
    shape: tuple[int, int] = SHAPE
    field: FieldId = field(default_factory=lambda: FieldId(3918, 3, 213))
    sigma: float = 1.6
    margin: float = 12.0
    n_stars: int = 14
    flux: float = 60.0
    calibration: float = 0.005
    sky_counts: float = 120.0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        ny, nx = self.shape
        low, high = self.margin, np.array([nx, ny]) - self.margin
        self.stars = rng.uniform(low, high, (self.n_stars, 2))  # x, y on the r grid

    def to_band(self, band: str) -> NDArray[np.float64]:
        """Matrix (2, 3) from r pixels to the band's: a shift, a touch of scale and rotation."""
        dx, dy = OFFSETS[band]
        if band == "r":
            return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        return np.array([[1.0004, -0.0002, dx], [0.0001, 0.9997, dy]])

    def header(self, band: str) -> fits.Header:
        header = fits.Header()
        header["BUNIT"], header["ORIGIN"], header["NMGY"] = "nanomaggy", "SDSS", self.calibration
        header["RUN"], header["CAMCOL"] = self.field.run, self.field.camcol
        header["FRAME"] = self.field.field + FRAME_OFFSET[band]
        header["FILTER"], header["RERUN"] = band, "301"
        # The sky is linear around the r grid's middle; the band sees it through its matrix.
        matrix = self.to_band(band)
        cd = SCALE * np.array([[0.55, 0.83], [0.83, -0.55]])
        middle = np.array([self.shape[1] / 2, self.shape[0] / 2])
        pixel = matrix[:, :2] @ middle + matrix[:, 2]
        cd = cd @ np.linalg.inv(matrix[:, :2])
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
        header["CRPIX1"], header["CRPIX2"] = pixel[0] + 1, pixel[1] + 1
        header["CRVAL1"], header["CRVAL2"] = 229.5, 42.7
        for i in (1, 2):
            for j in (1, 2):
                header[f"CD{i}_{j}"] = cd[i - 1, j - 1]
        return header

    def counts(self, band: str, noise: bool = True) -> NDArray[np.float64]:
        """Whole counts as the camera gives them, before sky subtraction."""
        rng = np.random.default_rng([self.seed, ord(band)])
        ny, nx = self.shape
        y, x = np.mgrid[:ny, :nx].astype(float)
        image = np.full(self.shape, self.sky_counts)
        matrix = self.to_band(band)
        peak = self.flux / self.calibration / (2 * np.pi * self.sigma**2)
        for star in self.stars:
            cx, cy = matrix[:, :2] @ star + matrix[:, 2]
            image += peak * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * self.sigma**2))
        if not noise:
            return image
        run, camcol, _ = self.field
        electrons = gain(band, camcol, run)
        image = rng.poisson(image * electrons) / electrons
        return np.rint(image + rng.normal(0, np.sqrt(dark_variance(band, camcol, run)), self.shape))

    def hdus(self, band: str, counts: NDArray[np.float64] | None = None) -> fits.HDUList:
        ny, nx = self.shape
        raw = self.counts(band) if counts is None else counts
        coarse = np.full((ny // 8 + 2, nx // 8), self.sky_counts, dtype=">f4")
        columns = [
            fits.Column(
                "ALLSKY",
                f"{coarse.size}E",
                dim=f"({coarse.shape[1]},{coarse.shape[0]})",
                array=coarse[None],
            ),
            fits.Column("XINTERP", f"{nx}E", array=((np.arange(nx) - 3.5) / 8)[None]),
            fits.Column("YINTERP", f"{ny}E", array=((np.arange(ny) + 4.5) / 8)[None]),
        ]
        flux = ((raw - self.sky_counts) * self.calibration).astype(">f4")
        table = fits.BinTableHDU.from_columns([fits.Column("RUN", "J", array=[self.field.run])])
        return fits.HDUList(
            [
                fits.PrimaryHDU(flux, self.header(band)),
                fits.ImageHDU(np.full(nx, self.calibration, dtype=">f4")),
                fits.BinTableHDU.from_columns(columns),
                table,
            ]
        )

    def bytes(self, band: str, change: Callable[[fits.HDUList], None] | None = None) -> bytes:
        """FITS bytes of a frame, after `change` has had its way with the HDUs."""
        import io

        hdus = self.hdus(band)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if change is not None:
                change(hdus)
            buffer = io.BytesIO()
            hdus.writeto(buffer, output_verify="ignore")
        return buffer.getvalue()

    def write(
        self, folder: Path, band: str, change: Callable[[fits.HDUList], None] | None = None
    ) -> Path:
        path = folder / f"frame-{band}-{self.field}.fits.bz2"
        path.write_bytes(bz2.compress(self.bytes(band, change), 1))
        return path


@pytest.fixture
def sky() -> Sky:
    """A field of 14 Gaussian stars."""
    return Sky()


@pytest.fixture
def make_sky() -> type[Sky]:
    """The class, where a test wants another field than the usual one."""
    return Sky


@pytest.fixture
def stack(sky: Sky, tmp_path: Path) -> BandStack:
    """The usual field in five bands on the r grid."""
    return align({band: read_frame(sky.write(tmp_path, band)) for band in "ugriz"}, "ugriz")


@pytest.fixture(scope="session")
def real_stack(real_data: Path) -> BandStack:
    """Real field 003918-3-0213, read and aligned once for all tests."""
    frames = (real_data / "frames/003918-3-0213").glob("frame-?-*.fits.bz2")
    by_band = {frame.band: frame for frame in map(read_frame, frames)}
    return align(by_band, "ugriz")
