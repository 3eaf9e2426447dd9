"""Sources in crowded fields that the first detection misses.

In a globular cluster or in the Galactic plane isophotes merge, and a star may contribute only a
thousandth of a blend's flux. There the field is searched again with a kernel of zero sum (a narrow
minus a wide Gaussian), which separates a blend into its peaks. Elsewhere that kernel would find
knots in galaxies and rings around bright stars.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gqs.imaging.cores import BRIGHT

CROWD: Final = 15  # sources within RADIUS, including itself; typically 2 in an ordinary field
RADIUS: Final = 64.0  # pixels
FEWEST: Final = 50  # crowded sources, below which the field is not searched again
APART: Final = 2.0  # pixels: closer peaks are one source
SURROUNDINGS: Final = 5.0  # pixels, FWHM of the Gaussian that is subtracted from the kernel
_SIGMAS: Final = 5.0


def crowded(found: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each detection is in a crowd, (n,) bool."""
    if len(found) < FEWEST:
        return np.zeros(len(found), dtype=bool)
    return _neighbours(_places(found), _places(found)) >= CROWD


def hidden(found: NDArray[Any], peaks: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each peak is a new source, (peaks,) bool: in a crowd, more than 2 px from every
    detection, and not on a bright star.
    """
    if not len(peaks) or not len(found):
        return np.zeros(len(peaks), dtype=bool)
    at = _places(peaks)
    new = _neighbours(_places(found), at) >= CROWD
    new &= KDTree(_places(found)).query(at)[0] > APART
    for star in found[found["flux"] > BRIGHT]:
        reach = np.sqrt(star["npix"] / np.pi)
        new &= np.hypot(peaks["x"] - star["x"], peaks["y"] - star["y"]) > reach
    return np.asarray(new)


def _places(found: NDArray[Any]) -> NDArray[np.float64]:
    return np.column_stack([found["x"], found["y"]]).astype(np.float64)


def _neighbours(of: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.intp]:
    counts = KDTree(of).query_ball_point(at, RADIUS, return_length=True)
    return np.asarray(counts, dtype=np.intp)
