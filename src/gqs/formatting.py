"""Numbers as text for people: durations, counts, percentages, p-values."""

from __future__ import annotations

import math

DASH = "–"


def duration(seconds: float) -> str:
    """A time in the unit that fits it, such as "40 s", "12 min" or "3.5 h"; "?" if unknown."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as "1 field" or "1,200 fields"."""
    return f"{count:,} {noun}{'s'[: count != 1]}"
