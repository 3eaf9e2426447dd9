"""Shares of the classes counted back, and Bayes' rule against Gaussians whose odds are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from gqs.probability.label_shift import ClassFractions, reweight, training_fractions

R = np.array([15.0, 20.0, 22.0])
SHARE = np.array([[0.7, 0.1, 0.2], [0.3, 0.3, 0.4], [0.8, 0.05, 0.15]])


def test_counted_shares_are_those_that_were_drawn() -> None:
    rng = np.random.default_rng(2)
    truth_of = ClassFractions(R, SHARE)
    mag_r = rng.uniform(14.5, 22.5, 60000)
    p = truth_of.at(mag_r)
    truth = (rng.uniform(size=(len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    found = training_fractions(truth, mag_r)
    at = np.array([15.5, 17.0, 18.5, 21.0])
    np.testing.assert_allclose(found.at(at), truth_of.at(at), atol=0.03)
    again = ClassFractions.from_json(found.to_json())
    np.testing.assert_allclose(again.at(at), found.at(at), atol=1e-5)


def test_where_objects_are_few_the_overall_mix_takes_over() -> None:
    truth = np.r_[np.zeros(500, int), np.ones(500, int), np.full(500, 2), [1]]
    mag_r = np.r_[np.tile(np.linspace(15, 17, 500), 3), [22.0]]
    lonely = training_fractions(truth, mag_r).at(np.array([21.9, 22.0])).max(axis=1)
    assert (lonely < 0.55).all()
    assert (training_fractions(truth, mag_r).share > 0).all()


def test_classes_that_count_double_are_learned_double_and_pictures_have_one_row() -> None:
    truth, unknown = np.array([0, 0, 1, 2] * 50), np.full(200, np.nan)
    found = training_fractions(truth, unknown)
    assert not found.by_magnitude
    np.testing.assert_allclose(found.at(np.array([np.nan])), [[0.5, 0.25, 0.25]], atol=2e-3)
    even = training_fractions(truth, unknown, np.array([0.5, 1, 1]))
    np.testing.assert_allclose(even.at(np.array([18.0])), 1 / 3, atol=2e-3)


def test_another_prior_gives_the_posterior_that_bayes_gives() -> None:
    """Three Gaussians in a feature, priors that follow the magnitude: exact odds on both skies."""
    rng = np.random.default_rng(5)
    mag_r, x = rng.uniform(15, 22, 400), rng.uniform(-4, 6, 400)
    likelihood = norm.pdf(x[:, None], [-1.0, 0.5, 2.0], [1.0, 0.7, 1.5])
    learned, sky = ClassFractions(R, SHARE), ClassFractions(R, SHARE[::-1].copy())

    def posterior(shares: ClassFractions) -> np.ndarray:
        odds = likelihood * shares.at(mag_r)
        return odds / odds.sum(axis=1, keepdims=True)

    found = reweight(posterior(learned), 37.0 * sky.at(mag_r), learned.at(mag_r))
    np.testing.assert_allclose(found, posterior(sky), rtol=1e-9)


def test_without_a_magnitude_or_a_judgement_nothing_is_weighed() -> None:
    p = np.array([[0.2, 0.3, 0.5], [np.nan] * 3, [0.2, 0.3, 0.5]])
    found = reweight(p, np.array([[np.nan] * 3, [1, 1, 1], [0.0, 0, 1]]), np.full((3, 3), 1 / 3))
    np.testing.assert_allclose(found[0], p[0])
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[2], [0, 0, 1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"r": [1.0, 2.0]},
        {"r": [2.0, 1.0], "GALAXY": [1, 1], "QSO": [1, 1], "STAR": [1, 1]},
        {"r": [1.0, 2.0], "GALAXY": [1, 1], "QSO": [1, 1], "STAR": [1, 0]},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match=r"lacks|increase|positive"):
        ClassFractions.from_json(wrong)
