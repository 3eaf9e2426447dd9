"""The order of the classes is that of every matrix in the paper (Table 9)."""

from __future__ import annotations

import itertools

import pytest

from gqs import labels


def test_order_and_names() -> None:
    assert labels.CLASSES == ("GALAXY", "QSO", "STAR")
    assert labels.PROBABILITY_COLUMNS == ("p_galaxy", "p_qso", "p_star")
    assert [labels.index(name) for name in labels.CLASSES] == [0, 1, 2]
    assert set(labels.COLOURS) == set(labels.CLASSES)


@pytest.mark.parametrize("name", ["", "QSO ", "qso", "quasar", "Galaxy", "0"])
def test_unknown_class_is_never_index_0(name: str) -> None:
    with pytest.raises(ValueError, match="GALAXY, QSO, STAR"):
        labels.index(name)


def _lightness(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_differ_in_grey_too() -> None:
    grey = sorted(_lightness(colour) for colour in labels.COLOURS.values())
    assert min(b - a for a, b in itertools.pairwise(grey)) > 0.05
