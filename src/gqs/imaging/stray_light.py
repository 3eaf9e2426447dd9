"""Light on a field that is no source's own: halos of bright stars, trails of satellites.

Nothing is lost for it: what lies in it is flagged. How far a halo reaches is told by the star's
own isophote, which grows with its brightness: stars' wings fall as r^-2 (see `simulated.psf`), so
that at twice its radius a quarter of its surface brightness is left, a third of the sky's noise.
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

REACH: Final = 2.0  # radii of a star's isophote to which its halo is flagged
_ROUND: Final = 0.4  # minor over major axis: what is thinner has no round halo


@dataclass(frozen=True)
class StrayLight:
    """Where a field's light is not clean."""

    trails: tuple[Trail, ...] = ()  # satellites'
    # (n, 3): x, y and radius of bright stars' halos, pixels
    halos: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))

    def flags(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int32]:
        """Tell what shines on sources: (n,) sums of `Flag.HALO` and `Flag.TRAIL`; a bright star is
        not in its own halo.
        """
        flags = np.zeros(len(x), dtype=np.int32)
        for star_x, star_y, radius in self.halos:
            away = np.hypot(x - star_x, y - star_y)
            with np.errstate(invalid="ignore"):
                flags[(away > 3) & (away < radius)] |= int(Flag.HALO)
        for trail in self.trails:
            flags[trail.crosses(x, y)] |= int(Flag.TRAIL)
        return flags


def halos(found: NDArray[Any], saturated: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Find the halos of a field's bright stars: (n, 3) x, y and radius, pixels."""
    star = (found["flux"] > BRIGHT) | (saturated & (found["flux"] > BRIGHT / 3))
    star &= found["b"] > _ROUND * found["a"]
    stars = found[star]
    radius = REACH * np.sqrt(stars["npix"] / math.pi)
    return np.column_stack([stars["x"], stars["y"], radius]).astype(np.float64)
