"""Intervals contain the true value as often as their level says."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from drawn import predictions, sample, truth_of
from gqs.evaluation.intervals import bootstrap, resamplings, wilson
from gqs.evaluation.matched import match
from gqs.evaluation.metrics import RankedScores, evaluate, roc_curves


def share(hits):
    return lambda weights: {"share": weights @ hits / weights.sum(axis=1)}


@pytest.mark.parametrize(("hits", "count"), [(0, 9), (3, 11), (9, 9), (905, 1021)])
def test_wilson_as_scipy_has_it(hits, count):
    low, high = binomtest(hits, count).proportion_ci(method="wilson")
    found = wilson(hits, count)
    assert (found.value, found.low, found.high) == pytest.approx((hits / count, low, high))


def test_wilson_of_nothing():
    assert np.isnan(wilson(0, 0).value)


def test_bootstrap_covers_a_known_binomial():
    rng, held = np.random.default_rng(1), 0
    for trial in range(300):
        hits = (rng.uniform(size=400) < 0.9).astype(float)
        found = bootstrap(share(hits), 400, resamples=300, seed=trial)["share"]
        held += found.low <= 0.9 <= found.high
    assert 0.90 <= held / 300 <= 0.98  # 95 % +- 3 sigma of 300 trials, a little under as it is


def test_grouped_bootstrap_widens_for_correlated_objects_of_a_field():
    """Fields of wholly right and wholly wrong objects: the sample is 40 fields, not 1,600."""
    groups = np.repeat(np.arange(40), 40)
    hits = (np.random.default_rng(2).uniform(size=40) < 0.7).astype(float)[groups]
    alone = bootstrap(share(hits), 1600, None, 500, 0)["share"]
    grouped = bootstrap(share(hits), 1600, groups, 500, 0)["share"]
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(40), rel=0.15)


def test_grouped_bootstrap_of_single_objects_is_the_plain_one():
    plain = bootstrap(share(np.arange(30.0)), 30, None, 100, 3)
    assert plain == bootstrap(share(np.arange(30.0)), 30, np.arange(30), 100, 3)


def test_resamplings_draw_n_with_replacement():
    weights = np.concatenate(list(resamplings(23, None, 400, 0)))
    assert weights.shape == (400, 23)
    assert (weights.sum(axis=1) == 23).all()
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1 - 1 / 23, rel=0.1)


def test_same_seed_same_interval():
    table, truth = sample(150)
    first, second, other = (
        evaluate(table, truth, resamples=100, seed=seed).to_json() for seed in (5, 5, 6)
    )
    assert first == second
    assert first["overall"]["auc"] != other["overall"]["auc"]


def test_one_field_has_no_spread_between_fields():
    table, truth = sample(100)
    table["field"] = 1
    found = evaluate(table, truth, group="field", resamples=50)
    assert found.bootstrap["units"] == 1
    assert np.isnan(found.accuracy.low)
    assert np.isfinite(found.accuracy.value)


def test_weighted_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    positive, score = rng.uniform(size=211) < 0.3, rng.integers(0, 9, 211) / 8  # many ties
    weights = np.concatenate(list(resamplings(211, None, 17, 0)))
    found = RankedScores(positive, score).area(weights)
    expected = [roc_auc_score(positive, score, sample_weight=row) for row in weights]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_area_of_separable_reversed_equal_and_random_scores():
    positive = np.repeat([True, False], [40, 25])
    once = np.ones((1, 65))
    assert RankedScores(positive, positive * 1.0).area(once)[0] == 1
    assert RankedScores(positive, ~positive * 1.0).area(once)[0] == 0
    assert RankedScores(positive, np.full(65, 0.5)).area(once)[0] == 0.5
    rng = np.random.default_rng(3)
    big = rng.uniform(size=20001) < 0.5
    area = RankedScores(big, rng.uniform(size=20001)).area(np.ones((1, 20001)))[0]
    assert area == pytest.approx(0.5, abs=0.013)  # 3 sigma of 1 / sqrt(12 n / 4)
    assert np.isnan(RankedScores(np.ones(9, dtype=bool), np.arange(9.0)).area(np.ones((1, 9)))[0])


def test_curves_rise_from_corner_to_corner():
    table, truth = sample(300)
    found = roc_curves(match(table, truth))
    assert list(found) == ["GALAXY", "QSO", "STAR", "macro", "micro"]
    for curve in found.values():
        assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
        assert (np.diff(curve.fpr) >= 0).all()
        assert (np.diff(curve.tpr) >= 0).all()
    areas = [found[name].auc for name in ("GALAXY", "QSO", "STAR")]
    assert found["macro"].auc == pytest.approx(np.mean(areas))


def test_no_curve_without_both_sides():
    table = predictions(np.tile([0.8, 0.1, 0.1], (6, 1)))
    assert roc_curves(match(table, truth_of(table, np.zeros(6, dtype=int)))) == {}
