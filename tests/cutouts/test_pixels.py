"""The same flux in any object of astropy or torch is the same cutout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from astropy import units
from astropy.nddata import CCDData, Cutout2D, NDData
from astropy.utils.masked import Masked

from gqs.cutouts.pixels import as_pixels
from gqs.errors import UsageError
from gqs.surveys.sdss import WAVELENGTH

FLUX = np.random.default_rng(3).normal(1, 0.3, (3, 2, 50, 50)).astype(np.float32)  # nanomaggies
MASK = np.zeros(FLUX.shape, dtype=bool)
MASK[1, 0, 4:9, 7] = True
MASKED = np.where(MASK, np.nan, FLUX)
TENSOR = torch.from_numpy(FLUX).requires_grad_()


def nearly(found: Any, expected: np.ndarray, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(found.images, expected, rtol=rtol)
    assert (found.bands, found.area) == ("gr", 1.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (FLUX, FLUX),
        (FLUX.tolist()[:1], FLUX[:1]),
        (FLUX * units.nmgy, FLUX),
        (FLUX * 3.6307805 * units.uJy, FLUX),
        (np.ma.array(FLUX, mask=MASK), MASKED),
        (Masked(FLUX * units.nmgy, mask=MASK), MASKED),
        (NDData(FLUX * units.nmgy, mask=MASK), MASKED),
        ([CCDData(f, unit="nmgy", mask=m) for f, m in zip(FLUX, MASK, strict=True)], MASKED),
        ({"g": FLUX[:, 0] * units.nmgy, "r": list(FLUX[:, 1])}, FLUX),
        ([{"g": g, "r": CCDData(r, unit="nmgy")} for g, r in FLUX], FLUX),
        ({b: Cutout2D(FLUX[0, i], (24.5, 24.5), 50) for i, b in enumerate("gr")}, FLUX[:1]),
        ([Cutout2D(plane, (24.5, 24.5), 50) for plane in FLUX[2]], FLUX[2:]),
        (TENSOR, FLUX),
    ],
)
def test_one_flux_in_many_forms(given: Any, expected: np.ndarray) -> None:
    nearly(as_pixels(given, "gr"), expected)


def test_low_precision_tensors() -> None:
    nearly(as_pixels(TENSOR.bfloat16(), "gr"), FLUX, rtol=0.01)


def test_counts_need_a_zero_point_and_fluxes_none() -> None:
    nearly(as_pixels(FLUX * 100, "gr", zero_point=27.5), FLUX)
    nearly(as_pixels(CCDData(FLUX[0] * 100, unit="adu"), "gr", zero_point=27.5), FLUX[:1])
    with pytest.raises(UsageError, match=r"in adu.*zero_point"):
        as_pixels(CCDData(FLUX[0], unit="adu"), "gr")
    own = as_pixels(CCDData(FLUX[0], unit="adu"), "AB")  # a user's own bands have no zero point
    np.testing.assert_array_equal(own.images, FLUX[:1])
    with pytest.raises(UsageError, match="no zero point"):
        as_pixels(FLUX * units.Jy, "gr", zero_point=27.5)
    with pytest.raises(UsageError, match="in K"):
        as_pixels(FLUX * units.K, "gr")


def test_flux_per_wavelength_is_converted_at_each_band() -> None:
    unit = units.erg / units.s / units.cm**2 / units.AA
    # f_lambda = f_nu c / lambda^2, with 3631 Jy at magnitude 0
    factor = [3.6307805e-29 * 2.99792458e18 / WAVELENGTH[band] ** 2 for band in "gr"]
    given = FLUX * np.array(factor)[:, None, None] * unit
    nearly(as_pixels(given, "gr"), FLUX)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="one shape for all bands"):
        as_pixels({"g": FLUX[:, 0], "r": FLUX[0, 0]}, "gr")
    with pytest.raises(UsageError, match="several shapes"):
        as_pixels([FLUX[0], FLUX[0, :, :40]], "gr")
