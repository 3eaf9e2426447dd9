"""Texts and figures of the page about a source with given numbers."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Row, Table
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gqs import labels
from gqs.explain import panels
from gqs.explain.page import _counts, _headline_numbers, _lead, _magnitudes, _summary
from gqs.explain.sources import Explanation


def row(**others: float) -> Row:
    values: dict[str, object] = {"class": "GALAXY", "flags": 0}
    values |= dict(zip(labels.PROBABILITY_COLUMNS, (0.98, 0.005, 0.015), strict=True))
    values |= {"mag_g": 15.2584, "magerr_g": 0.0021, "psf_mag_g": 15.9, "psf_mag_err_g": 0.0036}
    values |= {"mag_r": 14.5012, "magerr_r": 0.01, "psf_mag_r": np.nan, "psf_mag_err_r": np.nan}
    return Table([values | others])[0]


def source(one: Row, without: dict[str, float] | None = None, turn: float = 0.0) -> Explanation:
    north, east = (np.sin(turn), np.cos(turn)), (-np.cos(turn), np.sin(turn))
    left_out = {band: np.array([p, 0.0, 1 - p]) for band, p in (without or {}).items()}
    image, parts = np.zeros((2, 50, 50), np.float32), np.zeros((2, 50, 50), np.float32)
    picture = np.zeros((50, 50, 3), np.uint8)
    return Explanation(one, image, "gr", picture, north, east, left_out, parts, 1.0, [])


@pytest.mark.parametrize(
    ("without", "lead"),
    [
        ({}, "98.0 %."),
        ({"g": np.nan}, "98.0 %."),
        ({"u": 0.95, "g": 0.62}, "98.0 %; without g it would be 62.0 %."),
        ({"u": 0.999, "g": 0.975}, "98.0 %; without u it would be 99.9 %."),
        (
            {"u": 0.989, "g": 0.971},
            "98.0 %. No single band decides it: leaving out any of u, g changes it by less than "
            "1 percentage point.",
        ),
    ],
)
def test_a_band_is_named_where_it_changes_something(without: dict[str, float], lead: str) -> None:
    assert _lead(source(row(), without)) == f"Classified as GALAXY with a probability of {lead}"


def test_an_error_that_two_decimals_cannot_show_has_more() -> None:
    columns, (aperture, point) = _magnitudes(source(row()))
    assert columns == ["", "g", "r", "g−r"]
    assert aperture == ["aperture", "15.258 ± 0.002", "14.50 ± 0.01", "0.76"]
    assert point == ["PSF", "15.900 ± 0.004", "– ± –", "–"]
    (key,) = (key for key in _headline_numbers(source(row(magerr_r=0.0004))) if key.name == "r")
    assert (key.value, key.note) == ("14.5012", "± 0.0004 mag")


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_the_letters_of_the_compass_are_inside_the_picture(degrees: int) -> None:
    figure = panels.band_panels(source(row(), turn=np.radians(degrees)))
    FigureCanvasAgg(figure).draw()
    ax = figure.axes[0]
    frame = ax.get_window_extent()
    letters = [text for text in ax.texts if text.get_text() in ("N", "E")]
    assert len(letters) == 2
    for letter in letters:
        box = letter.get_window_extent()
        assert frame.x0 < box.x0 and box.x1 < frame.x1
        assert frame.y0 < box.y0 and box.y1 < frame.y1


def test_each_of_several_sources_has_its_sentence_and_probabilities() -> None:
    first, second = source(row()), source(row(p_galaxy=0.9, p_qso=0.06, p_star=0.04))
    assert _counts([first, second]) == "2 GALAXY."
    for one, best in ((first, "98.0 %"), (second, "90.0 %")):
        paragraph, table = _summary(one)
        assert paragraph.text == _lead(one) and best in paragraph.text
        assert table.columns[:3] == list(labels.CLASSES)
        assert table.rows[0][0].value == best
