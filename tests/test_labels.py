"""The order of the classes is that of every matrix in the paper (Table 9)."""

from __future__ import annotations

import pytest

from gqs import labels


def test_order_and_names() -> None:
    assert labels.CLASSES == ("GALAXY", "QSO", "STAR")
    assert labels.PROBABILITY_COLUMNS == ("p_galaxy", "p_qso", "p_star")
    assert [labels.index(name) for name in labels.CLASSES] == [0, 1, 2]


@pytest.mark.parametrize("name", ["", "QSO ", "qso", "quasar", "Galaxy", "0"])
def test_unknown_class_is_never_index_0(name: str) -> None:
    with pytest.raises(ValueError, match="GALAXY, QSO, STAR"):
        labels.index(name)
