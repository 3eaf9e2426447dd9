"""Calibration calibration_measures on predictions that are calibrated, or not, by construction."""

import numpy as np
import pytest

from drawn import predictions, sample, truth_of
from gqs.evaluation.intervals import Estimate
from gqs.evaluation.matched import match
from gqs.evaluation.reliability import (
    basic_interval,
    brier_scores,
    calibration_measures,
    expected_calibration_error,
    log_losses,
    reliability,
)


def test_calibrated_predictions_have_a_small_error():
    matched = match(*sample(20000))
    assert expected_calibration_error(matched) < 0.015
    for part in reliability(matched.probability[:, 1], matched.truth == 1):
        assert part.correct.value == pytest.approx(part.confidence, abs=0.06)


def test_certain_and_half_wrong():
    """Confidence 0.98 and every second one right: the gap is 0.48."""
    table = predictions(np.tile([0.98, 0.01, 0.01], (200, 1)))
    matched = match(table, truth_of(table, np.arange(200) % 2))
    assert expected_calibration_error(matched) == pytest.approx(0.48)
    losses = -np.log([0.98, 0.01])
    assert log_losses(matched).mean() == pytest.approx(losses.mean())
    squares = [0.02**2 + 2 * 0.01**2, 0.98**2 + 0.99**2 + 0.01**2]
    assert brier_scores(matched).mean() == pytest.approx(np.mean(squares))


def test_certain_and_wrong_has_a_finite_loss():
    table = predictions(np.array([[1.0, 0, 0]]))
    assert log_losses(match(table, truth_of(table, np.array([2])))).item() == pytest.approx(
        36.04, abs=0.01
    )


def test_bins_hold_every_object_and_probability_1_too():
    score = np.array([0.0, 0.2, 0.999, 1.0, 1.0])
    found = reliability(score, score > 0.5, bins=10)
    assert [part.count for part in found] == [1, 1, 3]


def test_the_error_by_weights_is_the_error_by_bins_and_its_interval_contains_the_true_one():
    """Calibrated by construction, so the true error is 0; the measured one never is."""
    matched = match(*sample(3000))
    found = calibration_measures(matched, resamples=400)
    assert found["ece"].value == pytest.approx(expected_calibration_error(matched))
    assert found["ece"].value > 0.003
    assert found["ece"].low < 0.005
    assert found["ece"].low <= found["ece"].value <= found["ece"].high
    assert found["log_loss"].value == pytest.approx(log_losses(matched).mean())
    table = predictions(np.tile([0.98, 0.01, 0.01], (400, 1)))
    half = calibration_measures(match(table, truth_of(table, np.arange(400) % 2)), resamples=400)[
        "ece"
    ]
    assert 0.42 < half.low < 0.48 < half.high < 0.54


def test_no_interval_stays_none():
    assert np.isnan(basic_interval(Estimate(0.02)).low)
