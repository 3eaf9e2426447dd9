"""One rule for what can be judged, at its very borders."""

from __future__ import annotations

import numpy as np
import pytest

from gqs.cutouts.quality import describe_fault, quality_flags
from gqs.tables import Flag


def cutouts(n: int = 1, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (n, bands, 50, 50)).astype(np.float32)


def test_a_good_cutout_has_no_fault() -> None:
    assert quality_flags(cutouts(4), "gri").tolist() == [0, 0, 0, 0]


def test_half_masked_is_judged_and_a_pixel_more_is_not() -> None:
    flux = cutouts(2)
    flux[:, :, :20] = np.nan  # 40 %, and off the centre
    flux[:, 0, 20:35] = np.nan  # 10 % more: half of the cutout
    flux[1, 2, 49, 7] = np.nan
    assert quality_flags(flux, "gri").tolist() == [0, int(Flag.NOT_JUDGED)]


@pytest.mark.parametrize(
    ("band", "y", "x", "judged"),
    [
        (1, 24, 24, False),
        (1, 26, 26, False),
        (1, 27, 25, True),
        (1, 23, 24, True),
        (0, 25, 25, True),
    ],
)
def test_the_centre_is_3_px_of_the_r_band(band: int, y: int, x: int, judged: bool) -> None:
    flux = cutouts()
    flux[0, band, y, x] = np.nan
    found = int(quality_flags(flux, "gri")[0])
    assert (found == 0) == judged
    if not judged:
        assert "masked centre" in describe_fault(found)


def test_no_signal_and_nothing_at_all() -> None:
    flux = cutouts(3)
    flux[0, 1] = 0.25
    flux[1, 1] = 0.25
    flux[1, 1, 0, 0] = np.nan
    flux[2] = np.nan
    found = quality_flags(flux, "gri")
    assert found[0] == found[1] == int(Flag.NO_SIGNAL | Flag.NOT_JUDGED)
    assert found[2] == int(Flag.OUTSIDE | Flag.NOT_JUDGED)
    assert "no signal" in describe_fault(int(found[0]))
    assert "on none of the frames" in describe_fault(int(found[2]))


def test_without_r_the_first_band_stands_in() -> None:
    flux = cutouts(1, 2)
    flux[0, 0, 25, 25] = np.nan
    assert quality_flags(flux, "ug")[0] == int(Flag.NOT_JUDGED)
    assert quality_flags(flux[:, ::-1], "ug")[0] == 0


def test_no_cutouts() -> None:
    assert quality_flags(cutouts(0), "gri").shape == (0,)
