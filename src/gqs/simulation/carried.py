"""The small tables that the simulated sky is drawn from; each names its source in its meta."""

from __future__ import annotations

import functools
from pathlib import Path

from astropy.table import Table

from gqs import tables
from gqs.simulation.mixture import Mixture

_HERE = Path(__file__).parent


@functools.cache
def carried(name: str) -> Table:
    """Read one of the package's tables, once."""
    return tables.read(_HERE / f"{name}.ecsv")


@functools.cache
def mixture(name: str) -> Mixture:
    """Read one of the package's mixtures, once."""
    return Mixture.from_table(carried(name))
