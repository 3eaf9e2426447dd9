"""Numbers as text for people: percentages, intervals, p-values, durations, sizes, plurals.

An undefined number (NaN or infinite) is a dash; a minus is the typographic sign.
"""

from __future__ import annotations

import math
from typing import Final

DASH: Final = "–"
MINUS: Final = "−"
SMALLEST_P: Final = 1e-4  # smaller p-values are shown as an upper limit


def number(value: float, digits: int) -> str:
    """A number with fixed decimals, such as "0.9704"."""
    return f"{value:.{digits}f}".replace("-", MINUS) if math.isfinite(value) else DASH


def signed(value: float, digits: int) -> str:
    """A difference with its sign, such as "+1.20"; differences of fractions times 100: points."""
    return f"{value:+.{digits}f}".replace("-", MINUS) if math.isfinite(value) else DASH


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction in percent, such as "92.4 %"."""
    return f"{number(100 * fraction, digits)} %" if math.isfinite(fraction) else DASH


def interval(low: float, high: float, digits: int = 1) -> str:
    """The ends of an interval, such as "0.96 to 0.98"; empty if it is undefined."""
    return f"{number(low, digits)} to {number(high, digits)}" if math.isfinite(low) else ""


def percent_interval(low: float, high: float, digits: int = 1) -> str:
    """The ends of an interval of fractions in percent, without the sign: "91.0 to 93.8"."""
    return interval(100 * low, 100 * high, digits)


def p_value(p: float) -> str:
    """A p-value, such as "0.012" or "< 0.0001"."""
    if not math.isfinite(p):
        return DASH
    return f"{p:.2g}" if p >= SMALLEST_P else f"< {SMALLEST_P:.4f}"


def p_equals(p: float) -> str:
    """A p-value in a sentence, such as "p = 0.012" or "p < 0.0001"."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def duration(seconds: float) -> str:
    """A time in the unit that fits it, such as "40 s", "12 min" or "3.5 h"; "?" if unknown."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """A number of bytes in the unit that fits it, such as "6.3 MB" or "1,204.5 GB"."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as "1 field" or "1,200 fields"."""
    return f"{count:,} {noun}{'s'[: count != 1]}"
