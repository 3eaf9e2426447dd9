"""The three classes: names in SDSS's spelling, and their order."""

from __future__ import annotations

from typing import Final

GALAXY: Final = "GALAXY"
QSO: Final = "QSO"
STAR: Final = "STAR"

# The order of logits, probabilities, confusion matrices and legends (paper, Table 9).
CLASSES: Final = (GALAXY, QSO, STAR)

PROBABILITY_COLUMNS: Final = tuple(f"p_{name.lower()}" for name in CLASSES)


def index(name: str) -> int:
    """Position of a class in the order of the logits.

    Parameters
    ----------
    name : str
        Class in SDSS's spelling.

    Returns
    -------
    int
        0, 1 or 2.

    Raises
    ------
    ValueError
        If the name is not a class.
    """
    if name not in CLASSES:
        raise ValueError(f"Unknown class {name!r}. The classes are {', '.join(CLASSES)}.")
    return CLASSES.index(name)
