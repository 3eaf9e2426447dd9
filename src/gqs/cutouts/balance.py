"""As many galaxies and stars as quasars, by whole runs. Paper 3.4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from gqs import labels, tables
from gqs.errors import UsageError
from gqs.labels import QSO


@dataclass(frozen=True)
class Balanced:
    """A catalogue whose classes are about equal, and the runs that each class was taken from."""

    catalog: Table  # the rows that were kept, in their order
    runs: dict[str, tuple[int, ...]]  # by class, in the order in which runs were asked for


def balance_by_run(catalog: Table, runs: Sequence[int]) -> Balanced:
    """Keep all quasars, and galaxies and stars of the first runs until there are as many.

    The paper took galaxies from its first 8 runs (11,512) and stars from its first 11 (10,206)
    beside 10,038 quasars of all 16: each time the fewest runs that reach the quasars' number. It
    does not print its rule; this one agrees with its counts.
    """
    tables.require_columns(catalog, ("class", "run"), "catalogue")
    if len(set(runs)) != len(runs):
        raise UsageError(f"Runs {', '.join(map(str, runs))}: name each run once.")
    classes = np.asarray(catalog["class"]).astype(str)
    of_run = np.asarray(catalog["run"])
    counts = {
        name: np.array([int(((of_run == run) & (classes == name)).sum()) for run in runs])
        for name in labels.CLASSES
    }
    for name, count in counts.items():
        if not count.sum():
            raise UsageError(f"These {len(runs)} runs hold no {name}. Name more runs.")
    wanted = counts[QSO].sum()
    kept, taken = np.zeros(len(catalog), dtype=bool), {}
    for name, count in counts.items():
        enough = np.flatnonzero(np.cumsum(count) >= wanted)
        first = len(runs) if name == QSO or not len(enough) else int(enough[0]) + 1
        taken[name] = tuple(runs[:first])
        kept |= (classes == name) & np.isin(of_run, taken[name])
    return Balanced(catalog[kept], taken)
