"""Several seeds together: means, pooled spreads, paired intervals, Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest

from gqs.evaluation.intervals import Estimate
from gqs.evaluation.matched import MatchedPredictions
from gqs.reproduce.aggregate import Uncertainty, holm, pool, unpaired_difference
from gqs.reproduce.results import PooledVariance, Spread


def judged(right: np.ndarray, objid: np.ndarray | None = None) -> MatchedPredictions:
    n = len(right)
    truth = np.arange(n) % 3
    decided = np.where(right, truth, (truth + 1) % 3)
    nothing = np.full(n, np.nan)
    return MatchedPredictions(
        np.arange(n, dtype=np.uint64) if objid is None else objid,
        truth,
        decided,
        np.eye(3)[decided],
        nothing,
        nothing,
        np.stack([np.ones(n, int), np.ones(n, int), np.arange(n) // 10], axis=1),
    )


def test_mean_and_spread_are_those_of_the_sample() -> None:
    found = Spread.of([0.91, 0.93, 0.92])
    assert found.mean == pytest.approx(0.92)
    assert found.deviation == pytest.approx(0.01)
    assert np.isnan(Spread.of([0.9]).deviation)


def test_variances_are_pooled_as_in_an_analysis_of_variance() -> None:
    """Two seeds a network: each variance is half the squared gap."""
    found = pool([[0.90, 0.92], [0.80, 0.84], [0.7]])
    assert found.freedom == 2
    assert found.variance == pytest.approx((0.02**2 / 2 + 0.04**2 / 2) / 2)
    assert pool([[0.9], [0.8]]) == PooledVariance(0.0, 0)


def test_an_accuracys_interval_is_the_binomials_where_seeds_do_not_vary() -> None:
    right = np.random.default_rng(3).random(2000) < 0.9
    found = Uncertainty(PooledVariance(0.0, 0), seed=4).accuracy([judged(right)])
    p = right.mean()
    assert found.value == pytest.approx(p)
    assert (found.high - found.low) / 2 == pytest.approx(
        1.96 * np.sqrt(p * (1 - p) / 2000), rel=0.1
    )


def test_seeds_widen_the_interval_in_quadrature() -> None:
    """By Student's t for their few degrees of freedom: 4.303 for two, in any table of it."""
    right = np.random.default_rng(3).random(2000) < 0.9
    runs = [judged(right), judged(right)]
    narrow = Uncertainty(PooledVariance(0.0, 0)).accuracy(runs)
    wide = Uncertainty(PooledVariance(0.02**2, 2)).accuracy(runs)
    extra = 4.30265 * 0.02 / np.sqrt(2)
    expected = np.hypot((narrow.high - narrow.low) / 2, extra)
    assert (wide.high - wide.low) / 2 == pytest.approx(expected, rel=1e-5)


def test_the_spread_of_a_difference_is_that_of_both() -> None:
    """Nothing but seeds: the interval of 2 seeds minus 1 is t sqrt(variance (1/2 + 1/1))."""
    right = np.ones(90, dtype=bool)
    uncertainty = Uncertainty(PooledVariance(0.01**2, 4))
    found = uncertainty.difference([judged(right), judged(right)], [judged(right)])
    assert (found.value, found.high) == pytest.approx((0.0, 2.7764 * 0.01 * np.sqrt(1.5)), rel=1e-4)
    assert found.low == pytest.approx(-found.high)
    trees = uncertainty.difference(
        [judged(right), judged(right)], [judged(right)], second_fixed=True
    )
    assert trees.high == pytest.approx(2.7764 * 0.01 / np.sqrt(2), rel=1e-4)


def test_a_difference_is_paired_object_by_object_whatever_their_order() -> None:
    """The second is wrong on the same objects and five more, so the gap is 5 / 1000, narrowly."""
    first = np.random.default_rng(5).random(1000) < 0.7
    second = first.copy()
    second[np.flatnonzero(first)[:5]] = False
    other = judged(second)
    order = np.random.default_rng(6).permutation(1000)
    names = ("objid", "truth", "decided", "probability", "r", "redshift", "field_id")
    shuffled = MatchedPredictions(**{name: getattr(other, name)[order] for name in names})
    found = Uncertainty(PooledVariance(0.0, 0)).difference([judged(first)], [shuffled])
    assert found.value == pytest.approx(0.005)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.sqrt(0.005 / 1000), rel=0.15)


def test_unpaired_gaps_add_in_quadrature() -> None:
    found = unpaired_difference(Estimate(0.93, 0.90, 0.96), Estimate(0.90, 0.86, 0.94))
    assert found.value == pytest.approx(0.03)
    assert found.high - found.value == pytest.approx(0.05)


def test_holm_is_the_textbooks() -> None:
    """Holm 1979: sorted p times (m, m - 1, ...), never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
