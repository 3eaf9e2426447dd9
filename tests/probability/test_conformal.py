"""Coverage that is promised is kept, class by class, for networks good, bad and too sure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom

from gqs.errors import UsageError
from gqs.evaluation.binning import bin_number, merged_edges
from gqs.probability import conformal


def drawn(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A network that is too sure, and worse at faint objects: probabilities, truth, magnitudes."""
    truth = rng.choice(3, n, p=[0.5, 0.2, 0.3])
    mag_r = rng.uniform(14, 23, n)
    logits = rng.normal(size=(n, 3)) + 3 * np.eye(3)[truth] * (23.5 - mag_r[:, None]) / 9
    return softmax(4 * logits, axis=1), truth, mag_r


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_coverage_lies_within_its_binomial_bounds_in_every_class_and_half(coverage: float) -> None:
    """Over 60 calibration samples, the mean coverage of a cell is the promised one or little more.

    With n held-out objects it is beta distributed around ceil((n + 1) coverage) / (n + 1).
    """
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(60):
        found = conformal.fit(*drawn(2000, rng), coverage)
        p, truth, mag_r = drawn(3000, rng)
        sets = found.sets(p, mag_r, np.full(3000, -1))
        holds = sets[np.arange(3000), truth]
        cells = [(truth == i) & (mag_r < 18.5) for i in range(3)]
        cells += [(truth == i) & (mag_r >= 18.5) for i in range(3)]
        shares.append([holds[cell].mean() for cell in cells])
    mean = np.mean(shares, axis=0)
    error = np.std(shares, axis=0) / np.sqrt(len(shares))
    assert (mean > coverage - 4 * error).all()
    assert (mean < coverage + 0.01 + 4 * error).all()


def test_one_sample_is_within_binomial_bounds() -> None:
    rng = np.random.default_rng(8)
    found = conformal.fit(*drawn(30000, rng), 0.9)
    p, truth, mag_r = drawn(8000, rng)
    sets = found.sets(p, mag_r, p.argmax(axis=1))
    for part in conformal.covered(sets, truth, mag_r, np.array([14.0, 17.0, 20.0, 23.0])):
        few = binom.ppf(1e-4, part.count, 0.885)  # 0.9 less the spread of 30,000
        assert part.coverage.value * part.count >= few, part


def test_sets_are_never_empty_and_hold_the_class_that_was_given() -> None:
    rng = np.random.default_rng(1)
    found = conformal.fit(*drawn(3000, rng), 0.5)  # so low that sets would be empty
    p, _, mag_r = drawn(400, rng)
    p[5] = np.nan
    mag_r[7] = np.nan
    decided = rng.integers(0, 3, 400)
    decided[5] = -1
    sets = found.sets(p, mag_r, decided)
    assert not sets[5].any()
    others = np.delete(np.arange(400), 5)
    assert sets[others, decided[others]].all()
    text = conformal.written(sets)
    assert text[5] == ""
    assert set(text) <= {"", "GALAXY", "QSO", "STAR", "GALAXY QSO", "GALAXY STAR", "QSO STAR",
                         "GALAXY QSO STAR"}  # fmt: skip


def test_too_few_objects_leave_nothing_out() -> None:
    """Of 8 objects none can be the 95 % one: ceil(9 x 0.95) = 9."""
    p = np.tile([0.98, 0.01, 0.01], (24, 1))
    found = conformal.fit(p, np.repeat([0, 1, 2], 8), np.full(24, 18.0), 0.95)
    assert found.sets(p[:1], np.array([18.0]), np.array([0])).all()


@pytest.mark.parametrize("coverage", [0.0, 1.0, 95.0, float("nan")])
def test_what_is_no_coverage_is_refused(coverage: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        conformal.fit(np.zeros((0, 3)), np.zeros(0, int), np.zeros(0), coverage)


def test_bins_are_merged_until_each_holds_enough_of_every_group() -> None:
    values = np.array([1.0, 1.5, 2.5, 3.5, 4.5, 5.5, np.nan])
    member = np.array([0, 1, 0, 1, 0, 1, 1])
    inner = merged_edges(values, member, (1.0, 2.0, 3.0, 4.0, 5.0), 1)
    np.testing.assert_array_equal(inner, [2.0, 4.0])
    np.testing.assert_array_equal(bin_number(values, inner), [0, 0, 1, 1, 2, 2, -1])
    assert not len(merged_edges(values, member, (1.0, 2.0), 4))
