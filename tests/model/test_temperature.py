"""Temperatures recovered from logits that were made too sure, or not sure enough, on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from gqs.model import temperature
from gqs.model.temperature import Temperature


def drawn(
    n: int, factor: np.ndarray | float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Calibrated logits times a factor by which they are then wrong; magnitudes; truth."""
    rng = np.random.default_rng(seed)
    mag_r = rng.uniform(14, 23, n)
    logits = rng.normal(size=(n, 3)) * 3
    p = softmax(logits, axis=1)
    truth = (rng.uniform(size=(n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    factor = factor(mag_r) if callable(factor) else np.full(n, factor)
    return logits * factor[:, None], mag_r, truth


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_one_known_temperature_is_recovered(factor: float) -> None:
    logits, mag_r, truth = drawn(9000, factor)
    found = temperature.fit(logits, truth, np.full_like(mag_r, np.nan))
    assert found.knots == ()
    assert found.overall == pytest.approx(factor, rel=0.05)
    np.testing.assert_allclose(temperature.fit(logits, truth, mag_r).at(mag_r), factor, rtol=0.15)


def test_a_temperature_that_follows_the_magnitude_is_recovered() -> None:
    def factor(r: np.ndarray) -> np.ndarray:
        return np.exp(0.15 * (r - 18.5))

    logits, mag_r, truth = drawn(30000, factor)
    found = temperature.fit(logits, truth, mag_r)
    at = np.array([15.5, 17.0, 18.5, 20.0, 21.5, 22.5])
    np.testing.assert_allclose(found.at(at), factor(at), rtol=0.08)


def test_objects_of_another_mix_give_the_temperature_of_the_learned_one() -> None:
    """Learned with a rare class, fitted where that one is three times as common."""
    rng = np.random.default_rng(5)
    logits = 2 * rng.normal(size=(60000, 3)) - np.array([0.0, 2.0, 0.0])
    chance = softmax(logits, axis=1).cumsum(axis=1)
    truth = (rng.uniform(size=(60000, 1)) > chance).sum(axis=1).clip(0, 2)
    kept = (truth == 1) | (rng.uniform(size=60000) < 0.3)
    logits, truth, unknown = 1.8 * logits[kept], truth[kept], np.full(kept.sum(), np.nan)
    right = temperature.fit(logits, truth, unknown, np.log([0.3, 1.0, 0.3]))
    assert right.overall == pytest.approx(1.8, rel=0.03)
    assert temperature.fit(logits, truth, unknown).overall > 2.0  # the other mix passes for doubt


def test_few_objects_move_no_knot_far() -> None:
    """Seven faint objects, all wrong and sure of it, beside many that are calibrated."""
    logits, mag_r, truth = drawn(3000, 1.0)
    mag_r = np.minimum(mag_r, 20.0)
    bad = np.tile([6.0, 0.0, 0.0], (7, 1))
    found = temperature.fit(
        np.concatenate([logits, bad]),
        np.concatenate([truth, np.full(7, 2)]),
        np.concatenate([mag_r, np.full(7, 23.0)]),
    )
    assert 1.0 < found.at(np.array([23.0])).item() < 3.0
    assert found.at(np.array([18.0])).item() == pytest.approx(1.0, abs=0.1)


def test_all_right_or_no_objects_at_all_give_a_finite_temperature() -> None:
    logits = np.tile([9.0, 0.0, 0.0], (40, 1))
    sure = temperature.fit(logits, np.zeros(40, dtype=int), np.full(40, 18.0))
    assert 0 < sure.overall <= 1
    none = temperature.fit(np.zeros((0, 3)), np.zeros(0, dtype=int), np.zeros(0))
    assert none == Temperature()


def test_order_stays_and_what_was_done_is_undone() -> None:
    logits, mag_r, _ = drawn(500, 1.3)
    mag_r[::7] = np.nan
    made = Temperature(1.7, (15.0, 20.0), (0.6, 2.2))
    p = made.probabilities(logits, mag_r)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(np.argsort(p, axis=1), np.argsort(logits, axis=1))
    np.testing.assert_allclose(made.undone(p, mag_r), softmax(logits, axis=1), atol=1e-9)
    np.testing.assert_allclose(made.at(np.array([10.0, 30.0, np.nan])), [0.6, 2.2, 1.7])


def test_json_gives_the_same_back_and_nonsense_is_refused() -> None:
    made = Temperature(1.7, (15.0, 20.0), (0.6, 2.2))
    assert Temperature.from_json(made.to_json()) == made
    for wrong in ({}, {**made.to_json(), "overall": -1}, {**made.to_json(), "knots": [20, 15]},
                  {**made.to_json(), "at_knots": [1.0]}):  # fmt: skip
        with pytest.raises(ValueError, match=r"lacks|positive|increase"):
            Temperature.from_json(wrong)
