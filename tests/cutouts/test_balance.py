"""Classes are made equal by whole runs, as the paper did, whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from gqs.cutouts.split import balance_by_run
from gqs.errors import UsageError

RUNS = tuple(range(3430, 3446))  # 16, as many as the paper has


def catalogue(**of_class: list[int]) -> Table:
    names = np.concatenate([[name] * sum(counts) for name, counts in of_class.items()])
    runs = np.concatenate([np.repeat(RUNS[: len(c)], c) for c in of_class.values()])
    order = np.random.default_rng(2).permutation(len(names))
    return Table({"objid": order.astype(np.uint64), "class": names[order], "run": runs[order]})


def test_the_papers_counts_come_from_whole_first_runs() -> None:
    """Counts a run are not printed: such as agree with its totals and its 8 and 11 runs."""
    galaxies = (
        [1400] * 7 + [1712] + [2427] * 7 + [2433]
    )  # 11,512 in the first 8 runs, 30,934 in all
    stars = [927] * 10 + [936] + [861] * 4 + [864]  # 10,206 in the first 11, 14,514 in all
    quasars = [627] * 15 + [633]
    all_rows = catalogue(GALAXY=galaxies, QSO=quasars, STAR=stars)
    assert len(all_rows) == 55486
    found = balance_by_run(all_rows, RUNS)
    names, counts = np.unique(found.catalog["class"], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "GALAXY": 11512,
        "QSO": 10038,
        "STAR": 10206,
    }
    assert [len(found.runs[name]) for name in ("GALAXY", "QSO", "STAR")] == [8, 16, 11]
    kept = np.isin(all_rows["objid"], found.catalog["objid"])
    np.testing.assert_array_equal(all_rows["objid"][kept], found.catalog["objid"])  # in order


def test_the_order_of_the_runs_decides_and_others_are_left_out() -> None:
    rows = catalogue(GALAXY=[5, 9, 4], QSO=[2, 1, 1], STAR=[1, 1, 7])
    found = balance_by_run(rows, [RUNS[1], RUNS[0]])
    assert found.runs == {
        "GALAXY": (RUNS[1],),
        "QSO": (RUNS[1], RUNS[0]),
        "STAR": (RUNS[1], RUNS[0]),  # all that there are, though fewer than the quasars
    }
    assert len(found.catalog) == 9 + 3 + 2


def test_what_cannot_be_balanced_is_refused() -> None:
    rows = catalogue(GALAXY=[5, 9], QSO=[0, 3], STAR=[1, 1])
    with pytest.raises(UsageError, match="hold no QSO"):
        balance_by_run(rows, [RUNS[0]])
    with pytest.raises(UsageError, match="each run once"):
        balance_by_run(rows, [RUNS[0], RUNS[0]])
