"""Held-out objects as a model folder keeps them, by bands, and the calibration that follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from gqs.model.calibration import Calibration, ValidationLogits, calibrate, sets_of, table_of
from gqs.model.temperature import Temperature
from gqs.probability.label_shift import reweight, training_fractions

N = 500


def drawn(n: int, seed: int, sure: float = 1.0) -> ValidationLogits:
    """Posterior log odds of Gaussians at equal shares, times a factor by which they are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[truth]
    return ValidationLogits(
        np.arange(n, dtype=np.uint64), truth, rng.uniform(16, 22, n), sure * 1.5 * x
    )


def test_each_set_of_bands_comes_back_with_the_objects_that_it_can_judge() -> None:
    whole, less = drawn(N, 1), drawn(N, 2)
    less = ValidationLogits(whole.objid, whole.truth, whole.mag_r, less.logits)
    whole.logits[[3, 7]] = np.nan
    less.logits[[7, 11]] = np.nan
    table = table_of({"ugriz": whole, "gri": less})
    assert len(table) == N - 1  # nothing judges row 7
    assert table["logit_qso_gri"].dtype == np.float32
    found = sets_of(table, "ugriz", "held_out.parquet")
    assert list(found) == ["ugriz", "gri"]
    for bands, one, lost in (("ugriz", whole, [3, 7]), ("gri", less, [7, 11])):
        np.testing.assert_array_equal(found[bands].objid, np.delete(one.objid, lost))
        np.testing.assert_array_equal(found[bands].truth, np.delete(one.truth, lost))
        expected = np.delete(one.logits, lost, axis=0)
        np.testing.assert_allclose(found[bands].logits, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("ugriz", 1), ("ugri", 1), ("griz", 2), ("riz", 2), ("gri", 3), ("rg", 3), ("r", 4)],
)
def test_the_temperature_is_that_of_the_nearest_set(given: str, taken: float) -> None:
    fewer = {bands: Temperature(t) for bands, t in (("griz", 2.0), ("gri", 3.0), ("r", 4.0))}
    shares = training_fractions(np.arange(3), np.full(3, np.nan))
    assert Calibration(Temperature(1.0), shares, fewer).at(given).overall == taken


def test_the_card_tells_a_temperature_for_each_set_and_older_cards_one() -> None:
    sure, less = drawn(4000, 3, sure=2.0), drawn(4000, 4, sure=0.7)
    learned = training_fractions(sure.truth, sure.mag_r)
    card = calibrate(sure, learned, {"gri": less})
    found = Calibration.from_card(card)
    assert found is not None
    assert found.at("ugriz").overall == pytest.approx(2.0, rel=0.06)
    assert found.at("gri").overall == pytest.approx(0.7, rel=0.06)
    assert card["fewer_bands"]["gri"]["objects"] == 4000
    older = {key: value for key, value in card.items() if key != "fewer_bands"}
    one = Calibration.from_card(older)
    assert one is not None
    assert one.at("gri") == one.temperature == found.temperature
    with pytest.raises(ValueError, match="fewer_bands"):
        Calibration.from_card({**card, "fewer_bands": {"gri": 1.3}})


def test_probabilities_hold_for_the_learned_mix_whatever_was_held_out() -> None:
    """The held-out side has few faint quasars, the learned mix as many as of the rest."""
    every = drawn(60000, 5, sure=1.8)
    learned = training_fractions(every.truth, every.mag_r)
    rng = np.random.default_rng(6)
    rare = (every.truth == 1) & (every.mag_r > 19) & (rng.uniform(size=len(every)) < 0.9)
    kept = every.logits.copy()
    kept[rare] = np.nan
    held_out = ValidationLogits(every.objid, every.truth, every.mag_r, kept).usable()
    found = Calibration.from_card(calibrate(held_out, learned))
    assert found is not None
    np.testing.assert_allclose(found.temperature.at(np.array([17.0, 20.5])), 1.8, rtol=0.05)
    p = found.temperature.probabilities(held_out.logits, held_out.mag_r)
    own = training_fractions(held_out.truth, held_out.mag_r).at(held_out.mag_r)
    there = reweight(p, own, learned.at(held_out.mag_r))
    faint = held_out.mag_r > 19.5
    assert there[faint, 1].mean() == pytest.approx((held_out.truth[faint] == 1).mean(), abs=0.004)
    plain = softmax(held_out.logits / 1.8, axis=1)
    assert plain[faint, 1].mean() > there[faint, 1].mean() + 0.03
