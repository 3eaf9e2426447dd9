"""Stray light: halos of bright stars and satellite trails, in which sources are flagged.

The extent of a halo follows from the star's isophote, which grows with its flux: the wings of
stars fall as r^-2 (see `gqs.simulation.psf`), so that at twice the isophote's radius a quarter of
its surface brightness remains, a third of the sky noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs.imaging.cores import BRIGHT
from gqs.imaging.trails import Trail
from gqs.tables import Flag

REACH: Final = 2.0  # extent of a flagged halo in radii of the star's isophote
_ROUND: Final = 0.4  # least axis ratio of a source with a round halo


@dataclass(frozen=True)
class StrayLight:
    """Satellite trails and halos of a field."""

    trails: tuple[Trail, ...] = ()
    # (n, 3): x, y and radius of the halos of bright stars, pixels
    halos: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))

    def flags(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int32]:
        """Flags HALO and TRAIL of positions, (n,) int32; a bright star is not in its own halo."""
        flags = np.zeros(len(x), dtype=np.int32)
        for star_x, star_y, radius in self.halos:
            away = np.hypot(x - star_x, y - star_y)
            with np.errstate(invalid="ignore"):
                flags[(away > 3) & (away < radius)] |= int(Flag.HALO)
        for trail in self.trails:
            flags[trail.crosses(x, y)] |= int(Flag.TRAIL)
        return flags


def halos(found: NDArray[Any], saturated: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Halos of a field's bright stars: (n, 3) x, y and radius, pixels."""
    star = (found["flux"] > BRIGHT) | (saturated & (found["flux"] > BRIGHT / 3))
    star &= found["b"] > _ROUND * found["a"]
    stars = found[star]
    radius = REACH * np.sqrt(stars["npix"] / math.pi)
    return np.column_stack([stars["x"], stars["y"], radius]).astype(np.float64)
