"""Purity and completeness that are promised on a sky, checked on a large sky drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

from gqs.errors import UsageError
from gqs.labels import QSO
from gqs.probability import candidates
from gqs.probability.poststratify import mixed

COUNTS = np.array([300.0, 12.0, 90.0])  # a magnitude, the same at all: quasars are rare


def density(r: np.ndarray) -> np.ndarray:
    return COUNTS * np.stack([10 ** (0.3 * (r - 20)), 10 ** (0.2 * (r - 20)), r * 0 + 1], axis=1)


def scored(truth: np.ndarray, mag_r: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A score that quasars have more of, the less so the fainter they are."""
    centre = np.array([-1.5, 2.0, 0.0])[truth] * (1 + (22 - mag_r) / 6)
    return 1 / (1 + np.exp(-2 * (centre + rng.normal(size=len(truth)))))


def held_out(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As many of each class at all magnitudes: nothing like the sky."""
    truth, mag_r = rng.integers(0, 3, n), rng.uniform(16, 22, n)
    return truth, mag_r, scored(truth, mag_r, rng)


def sky(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """400,000 objects of the sky that `density` describes."""
    grid = np.linspace(16, 22, 601)
    table = density(grid)
    share = table.sum(axis=0) / table.sum()
    truth = rng.choice(3, 400_000, p=share)
    mag_r = np.empty(len(truth))
    for i in range(3):
        own = truth == i
        rising = np.cumsum(table[:, i])
        mag_r[own] = np.interp(rng.uniform(0, rising[-1], own.sum()), rising, grid)
    return truth, mag_r, scored(truth, mag_r, rng)


def true_worth(value: float, low: float, high: float, whole: tuple) -> tuple[float, float]:
    truth, mag_r, score = whole
    inside = (mag_r >= low) & (mag_r <= high)
    passed = inside & (score >= value)
    right = (truth == 1) & passed
    return right.sum() / passed.sum(), right.sum() / ((truth == 1) & inside).sum()


def test_weights_stand_for_the_sky() -> None:
    rng = np.random.default_rng(0)
    truth, mag_r, _ = held_out(6000, rng)
    mix, used = mixed(truth, mag_r, density)
    assert used.all()
    for i in range(3):
        grid = np.linspace(mix.ends[0], mix.ends[-1], 4001)
        expected = np.trapezoid(density(grid)[:, i], grid)
        assert mix.weight[truth == i].sum() == pytest.approx(expected, rel=1e-3)
        bright = (truth == i) & (mag_r < 19)
        part = grid[grid < 19]
        below = np.trapezoid(density(part)[:, i], part)
        assert mix.weight[bright].sum() == pytest.approx(below, rel=0.02)


def test_the_threshold_reaches_its_purity_on_a_new_sky_and_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(4)
    whole = sky(rng)
    pure, complete, misses = [], [], np.zeros(2)
    repeats = 40
    for seed in range(repeats):
        truth, mag_r, score = held_out(6000, rng)
        mix, used = mixed(truth, mag_r, density)
        found = candidates.threshold(mix, score[used], QSO, 0.8, seed=seed)
        assert found.reached
        purity, completeness = true_worth(found.value, found.low, found.high, whole)
        pure.append(purity)
        complete.append(completeness - found.completeness.value)
        misses += [
            not found.purity.low <= purity <= found.purity.high,
            not found.completeness.low <= completeness <= found.completeness.high,
        ]
    assert np.mean(pure) == pytest.approx(0.8, abs=0.03)
    assert abs(np.mean(complete)) < 0.02
    assert (misses <= 6).all()  # of 40 two are expected; a choice on the same objects costs some


def test_the_objects_own_mix_needs_no_prior() -> None:
    rng = np.random.default_rng(2)
    truth, mag_r, score = held_out(3000, rng)
    mix, _ = mixed(truth, mag_r)
    found = candidates.threshold(mix, score, QSO, 0.9)
    passed = score >= found.value
    assert (truth[passed] == 1).mean() == pytest.approx(found.purity.value, abs=0.002)
    assert passed[truth == 1].mean() == pytest.approx(found.completeness.value)
    line = candidates.curve(mix, score, 1)
    assert (np.diff(line.completeness) >= 0).all()
    assert line.completeness[-1] == pytest.approx(1)
    assert line.purity[-1] == pytest.approx((truth == 1).mean(), abs=0.002)


def test_purity_by_magnitude_is_that_of_the_weights() -> None:
    rng = np.random.default_rng(11)
    truth, mag_r, _ = held_out(2000, rng)
    mix, _ = mixed(truth, mag_r, density)
    decided = np.where(rng.uniform(size=2000) < 0.2, 1, truth)  # a fifth of all is called quasar
    purity, completeness = candidates.by_magnitude(mix, decided, 1)
    middle = (mix.ends[:-1] + mix.ends[1:]) / 2
    table = density(middle)
    expected = table[:, 1] / (table[:, 1] + 0.2 * (table[:, 0] + table[:, 2]))
    np.testing.assert_allclose(completeness, 1)
    np.testing.assert_allclose(purity, expected, rtol=0.35)  # some 30 called so in each bin
    assert np.median(purity / expected) == pytest.approx(1, abs=0.12)


def test_shares_keep_the_magnitudes_of_the_objects() -> None:
    rng = np.random.default_rng(6)
    truth, mag_r, _ = held_out(3000, rng)
    even = np.array([0.25, 0.25, 0.5])
    mix, _ = mixed(truth, mag_r, lambda r: np.tile(even, (len(r), 1)), absolute=False)
    np.testing.assert_allclose(mix.expected.sum(axis=1), mix.count.sum(axis=1))
    np.testing.assert_allclose(mix.expected.sum(axis=0) / 3000, even)


def test_what_cannot_be_reached_is_said_with_the_best_that_can() -> None:
    rng = np.random.default_rng(9)
    truth, mag_r = rng.integers(0, 3, 900), rng.uniform(16, 22, 900)
    mix, _ = mixed(truth, mag_r, density)
    found = candidates.threshold(mix, rng.uniform(size=900), QSO, 0.9)
    assert not found.reached
    assert found.purity.value < 0.5
    assert found.purity.low < found.purity.value < found.purity.high


@pytest.mark.parametrize(
    ("pure", "held_out", "why"),
    [
        (40, 300, ""),
        (29, 300, "only 29 held-out QSO lie above one that does, and 30 are needed"),
        (20, 20, "only 20 QSO were held out, and 30 are needed"),
    ],
)
def test_no_list_rests_on_a_handful(pure: int, held_out: int, why: str) -> None:
    """Of the quasars some lie above all else, and the rest below the stars."""
    rng = np.random.default_rng(3)
    truth = np.repeat([0, 1, 2], [300, held_out, 300])
    score = np.where(truth == 2, 0.5, 0.1) + 0.01 * rng.uniform(size=len(truth))
    score[np.flatnonzero(truth == 1)[:pure]] = 0.99
    mix, _ = mixed(truth, np.full(len(truth), np.nan))
    found = candidates.threshold(mix, score, QSO, 0.96)  # 29 of 30, but not 40 of 42
    assert (found.reached, found.why) == (not why, why)
    assert found.to_json()["why_not"] == (why or None)
    if not why:
        assert found.above == pure
        assert found.value == 0.99


def test_never_seen_is_not_never(  # half an object a class: no purity of 1 from few objects
) -> None:
    truth = np.repeat([0, 1, 2], 40)
    mix, _ = mixed(truth, np.full(120, np.nan))
    found = candidates.threshold(mix, np.where(truth == 1, 0.99, 0.01), QSO, 0.9)
    assert found.purity.value == pytest.approx(40 / 41)
    assert found.reached
    assert found.purity.low < 0.96
    assert found.low == -np.inf


@pytest.mark.parametrize(
    ("name", "purity", "message"),
    [("QSO", 90.0, "above 0 and below 1"), ("QUASAR", 0.9, "classes are")],
)
def test_nonsense_is_refused(name: str, purity: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        candidates.checked(name, purity)


def test_a_class_that_was_not_held_out_is_refused() -> None:
    with pytest.raises(UsageError, match="There is no QSO among the validation objects"):
        mixed(np.array([0, 2, 2]), np.array([18.0, 19.0, 20.0]))
