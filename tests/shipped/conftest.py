"""The scripts that make the package's model lie beside the package, not in it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

sys.path.insert(0, str(Path(__file__).parents[2] / "shipped"))


@pytest.fixture(scope="session")
def gathered(real_data: Path) -> Table:
    """Every real object with its side and fold."""
    import objects

    return objects.gather(real_data)


@pytest.fixture
def members() -> Table:
    """A small store's members: renderings, real quasars of two folds, and what shows them."""
    rows = [
        # object, fold, origin, side
        (1, -1, "simulated", "train"),
        (2, -1, "simulated", "train"),  # quasar 2, rendered
        (2, 0, "real", "train"),  # and its real pixels, in fold 0
        (2, 0, "painted", "train"),  # something drawn on its sky
        (3, -1, "simulated", "validation"),  # quasar 3, rendered
        (3, 1, "real", ""),  # its real pixels, in fold 1
        (4, -1, "simulated", "test"),
        (-1, 0, "real", "train"),  # a star of field 0
        (-1, 0, "painted", "train"),
        (-1, 1, "real", "train"),  # a star of field 1
        (-1, 1, "painted", "train"),  # quasar 2, drawn onto the sky of field 1
        (5, -1, "simulated", "calibration"),
    ]
    columns = list(zip(*rows, strict=True))
    table = Table({"object": np.array(columns[0]), "fold": np.array(columns[1])})
    table["painted"] = np.where(np.arange(len(rows)) == 10, 2, -1)
    table["origin"], table["side"] = np.array(columns[2]), np.array(columns[3])
    return table
