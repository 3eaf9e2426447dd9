"""Numbers as people read them, with dashes for what is undefined."""

from __future__ import annotations

import math

import pytest

from gqs import formatting

NAN = math.nan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formatting.number(0.97041, 4), "0.9704"),
        (formatting.number(-1.5, 1), "−1.5"),
        (formatting.number(NAN, 2), "–"),
        (formatting.signed(1.2, 2), "+1.20"),
        (formatting.signed(-0.128, 2), "−0.13"),
        (formatting.signed(NAN, 2), "–"),
        (formatting.percent(0.9241, 2), "92.41 %"),
        (formatting.percent(NAN), "–"),
        (formatting.percent_interval(0.914, 0.938), "91.4 to 93.8"),
        (formatting.interval(-0.02, 0.5, 2), "−0.02 to 0.50"),
        (formatting.interval(NAN, NAN), ""),
        (formatting.p_value(0.01234), "0.012"),
        (formatting.p_value(1e-9), "< 0.0001"),
        (formatting.p_value(NAN), "–"),
        (formatting.p_equals(1e-9), "p < 0.0001"),
        (formatting.p_equals(0.5), "p = 0.5"),
        (formatting.duration(40), "40 s"),
        (formatting.duration(720), "12 min"),
        (formatting.duration(12600), "3.5 h"),
        (formatting.duration(NAN), "?"),
        (formatting.size(6.34e6), "6.3 MB"),
        (formatting.size(1.2045e12), "1,204.5 GB"),
        (formatting.plural(1, "field"), "1 field"),
        (formatting.plural(1200, "field"), "1,200 fields"),
        (formatting.plural(0, "row"), "0 rows"),
    ],
)
def test_numbers_as_text(text: str, expected: str) -> None:
    assert text == expected
