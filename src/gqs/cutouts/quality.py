"""Which cutouts can be classified: one rule for training and for use."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs.surveys.sdss import CUTOUT_SIZE, REFERENCE_BAND
from gqs.tables import Flag

CENTRE: Final = slice(CUTOUT_SIZE // 2 - 1, CUTOUT_SIZE // 2 + 2)  # 3 px
MOST_MASKED: Final = 0.5


def quality_flags(
    flux: NDArray[np.floating[Any]], bands: str, area: float = 1.0
) -> NDArray[np.int32]:
    """Flags of cutouts that cannot be classified, (n,) sums of `Flag`; 0 for usable ones.

    `area` is the fraction of each cutout that was observed, where smaller images were padded.
    """
    reference = flux[:, max(bands.find(REFERENCE_BAND), 0)]
    valid = np.isfinite(flux)
    flags = np.zeros(len(flux), dtype=np.int32)
    nothing = ~valid.any(axis=(1, 2, 3))
    seen = np.isfinite(reference)
    low = np.where(seen, reference, np.inf).min(axis=(1, 2), initial=np.inf)
    high = np.where(seen, reference, -np.inf).max(axis=(1, 2), initial=-np.inf)
    flat = ~(high > low)
    off_centre = ~seen[:, CENTRE, CENTRE].all(axis=(1, 2))
    masked = valid.mean(axis=(1, 2, 3)) < (1 - MOST_MASKED) * area
    flags[nothing] |= int(Flag.OUTSIDE)
    flags[flat & ~nothing] |= int(Flag.NO_SIGNAL)
    flags[nothing | flat | off_centre | masked] |= int(Flag.NOT_JUDGED)
    return flags


def describe_fault(flags: int) -> str:
    """Say in words why a cutout cannot be classified."""
    if flags & Flag.OUTSIDE:
        return "lies on none of the frames"
    if flags & Flag.NO_SIGNAL:
        return "has no signal in the r band"
    return "has a masked centre, or over half of its cutout masked"
