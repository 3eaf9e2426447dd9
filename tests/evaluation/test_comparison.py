"""McNemar's test: a table worked by hand, and its rate of false alarms."""

import numpy as np
import pytest
from scipy.stats import binom

from drawn import predictions, sample, truth_of
from gqs.errors import UsageError
from gqs.evaluation.comparison import compare
from gqs.evaluation.matched import match


def galaxies(right: np.ndarray, **columns):
    """Matched galaxies, classified correctly or as stars."""
    table = predictions(np.where(right[:, None], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7]), **columns)
    return match(table, truth_of(table, np.zeros(len(right), dtype=int)))


def test_exact_p_value():
    first = np.repeat([True, True, False, False], [50, 9, 2, 4])
    second = np.repeat([True, False, True, False], [50, 9, 2, 4])
    found = compare(galaxies(first), galaxies(second))
    assert (found.first_right, found.second_right, found.objects) == (9, 2, 65)
    assert found.p_value == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert found.difference.value == pytest.approx(7 / 65)
    assert found.difference.low < 7 / 65 < found.difference.high


def test_a_network_against_itself():
    matched = match(*sample(50))
    found = compare(matched, matched)
    assert (found.p_value, found.difference.value) == (1.0, 0.0)


def test_false_alarms_are_as_rare_as_they_should_be():
    rng = np.random.default_rng(0)
    alarms = sum(
        compare(*(galaxies(rng.uniform(size=300) < 0.85) for _ in "ab"), resamples=2).p_value < 0.05
        for _ in range(120)
    )
    assert alarms / 120 < 0.11


def test_only_objects_that_both_classify_count():
    first = galaxies(np.ones(20, dtype=bool))
    table = predictions(np.tile([0.9, 0.05, 0.05], (20, 1)))[4:]
    second = match(table, truth_of(table, np.zeros(16, dtype=int)))
    found = compare(first, second)
    assert (found.objects, found.only_first, found.only_second) == (16, 4, 0)


def test_other_truth_is_refused():
    table, truth = sample(30)
    other = truth.copy()
    other["class"] = np.roll(np.asarray(truth["class"]), 1)
    with pytest.raises(UsageError, match="same objects"):
        compare(match(table, truth), match(table, other))
