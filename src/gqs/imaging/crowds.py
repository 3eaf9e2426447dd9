"""Sources that a crowd hides: peaks that stand out of the light around them.

In a globular cluster or in the Galactic plane isophotes run into one another, and what is a
thousandth of a blend's light is still a star of its own. There the field is searched once more with
a kernel of zero sum, the seeing less its surroundings, under which a blend falls apart into its
peaks; elsewhere that kernel would find knots in galaxies and rings around bright stars.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gqs.imaging.cores import BRIGHT

CROWD: Final = 15  # sources within RADIUS, itself among them; a usual field has 2
RADIUS: Final = 64.0  # pixels
FEWEST: Final = 50  # sources in a crowd, below which nothing is searched again
APART: Final = 2.0  # pixels: nearer peaks are one source
SURROUNDINGS: Final = 5.0  # pixels, FWHM of the Gaussian that is taken off the filter's
_SIGMAS: Final = 5.0


def crowded(found: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which detections lie in a crowd: (n,) bool; none where they are too few to be one."""
    if len(found) < FEWEST:
        return np.zeros(len(found), dtype=bool)
    return _neighbours(_places(found), _places(found)) >= CROWD


def hidden(found: NDArray[Any], peaks: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which peaks are sources that the first search passed over: (peaks,) bool: in a crowd, 2
    px from all that is known, not on a bright star.
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
