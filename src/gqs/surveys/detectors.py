"""SDSS's thirty CCDs: order, gain, dark variance and saturation, by band and camera column.

Source: the frame data model (data.sdss.org/datamodel, BOSS_PHOTOOBJ/frames, file `frame`), section
on noise. Where it lists two values, the second applies after a change of the electronics, from the
given run on.
"""

from __future__ import annotations

from typing import Final

# The sky crosses the rows of CCDs in the order r i u z g, so FRAME in a header is the field number
# plus this offset.
FRAME_OFFSET: Final = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}

# Electrons per count (DN), camera columns 1 to 6.
GAIN: Final = {
    "u": (1.62, 1.595, 1.59, 1.6, 1.47, 2.17),
    "g": (3.32, 3.855, 3.845, 3.995, 4.05, 4.035),
    "r": (4.71, 4.6, 4.72, 4.76, 4.725, 4.895),
    "i": (5.165, 6.565, 4.86, 4.885, 4.64, 4.76),
    "z": (4.745, 5.155, 4.885, 4.775, 3.48, 4.69),
}
# Read noise and dark current together, counts squared per pixel.
DARK_VARIANCE: Final = {
    "u": (9.61, 12.6025, 8.7025, 12.6025, 9.3025, 7.0225),
    "g": (15.6025, 1.44, 1.3225, 1.96, 1.1025, 1.8225),
    "r": (1.8225, 1.0, 1.3225, 1.3225, 0.81, 0.9025),
    "i": (7.84, 5.76, 4.6225, 6.25, 7.84, 5.0625),
    "z": (0.81, 1.0, 1.0, 9.61, 1.8225, 1.21),
}
# (band, camera column): (run, value in later runs).
_LATER_GAIN: Final = {("u", 2): (1100, 1.825)}
_LATER_DARK: Final = {
    ("i", 2): (1500, 6.25),
    ("i", 4): (1500, 7.5625),
    ("z", 4): (1500, 12.6025),
    ("z", 5): (1500, 2.1025),
}

# Counts above which a pixel is saturated. The data model gives no value; in real frames the cores
# and bleed columns of saturated stars have 52,300 to 54,100 (r, column 6), 56,700 to 57,500 (g,
# column 6) and 53,800 (z, column 5) counts, and no pixel exceeds 60,100.
SATURATION: Final = 50_000.0


def gain(band: str, camcol: int, run: int) -> float:
    """Gain of a CCD, electrons per count."""
    after, later = _LATER_GAIN.get((band, camcol), (run, 0.0))
    return later if run > after else GAIN[band][camcol - 1]


def dark_variance(band: str, camcol: int, run: int) -> float:
    """Variance of read noise and dark current of a CCD, counts squared per pixel."""
    after, later = _LATER_DARK.get((band, camcol), (run, 0.0))
    return later if run > after else DARK_VARIANCE[band][camcol - 1]
