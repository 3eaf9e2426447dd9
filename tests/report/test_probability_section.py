"""The report's section on probabilities: a known miscalibration, sets, and candidate lists."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from drawn import predictions, truth_of
from gqs import labels
from gqs.evaluation.matched import match
from gqs.evaluation.reliability import calibration_measures
from gqs.model.calibration import Calibration, ValidationLogits, calibrate
from gqs.probability.label_shift import training_fractions
from gqs.report.blocks import Grid, Report
from gqs.report.probability_section import EvaluatedObjects, Sky, probability_results
from gqs.report.render import to_html

SCALE = 2.5  # by which the logits are too large


def drawn(n: int, seed: int) -> ValidationLogits:
    """Objects with overconfident logits, alike at all magnitudes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    # Gaussians of unit variance whose own feature is shifted by 1.5: the log odds are 1.5 x.
    x = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[truth]
    return ValidationLogits(
        np.arange(n, dtype=np.uint64), truth, rng.uniform(16, 22, n), SCALE * 1.5 * x
    )


@pytest.fixture(scope="module")
def findings() -> object:
    held_out, test = drawn(4000, 1), drawn(3000, 2)
    card = calibrate(held_out, training_fractions(held_out.truth, held_out.mag_r))
    calibration = Calibration.from_card(card)
    assert calibration is not None
    p = calibration.temperature.probabilities(test.logits, test.mag_r)
    table = predictions(p)
    matched = match(table, truth_of(table, test.truth))
    rare = np.array([1.0, 0.02, 1.0])
    skies = {
        "balanced": Sky(lambda r: np.ones((len(r), 3)), absolute=False),
        "even": Sky(lambda r: np.ones((len(r), 3)), absolute=True),
        "rare": Sky(lambda r: np.tile(rare, (len(r), 1)), absolute=True),
    }
    return probability_results(EvaluatedObjects(matched, test.mag_r), calibration, held_out, skies)


def test_calibration_removes_overconfidence(findings) -> None:
    found = findings.numbers["calibration"]
    assert found["before"]["ece"]["low"] > 0.05
    assert found["after"]["ece"]["value"] < 0.02
    assert found["after"]["log_loss"]["value"] < found["before"]["log_loss"]["value"] - 0.05


def test_probabilities_are_measured_at_the_class_fractions_of_the_objects() -> None:
    """A tenth of the faint quasars is used, fewer than in the training set."""
    held_out, test = drawn(4000, 1), drawn(6000, 5)
    learned = training_fractions(held_out.truth, held_out.mag_r)
    calibration = Calibration.from_card(calibrate(held_out, learned))
    assert calibration is not None
    rng = np.random.default_rng(4)
    kept = (test.truth != 1) | (test.mag_r < 19) | (rng.uniform(size=6000) < 0.1)
    p = calibration.temperature.probabilities(test.logits, test.mag_r)[kept]
    table = predictions(p)
    matched, mag_r = match(table, truth_of(table, test.truth[kept])), test.mag_r[kept]
    objects = EvaluatedObjects(matched, mag_r)
    found = probability_results(objects, calibration, held_out, {}).numbers["calibration"]
    as_learned = calibration_measures(matched, resamples=2)["log_loss"].value
    assert found["after"]["log_loss"]["value"] < as_learned - 0.03
    assert found["after"]["ece"]["low"] < 0.02
    for part in found["ece_by_magnitude"]:
        assert part["ece"]["low"] < 0.03 and part["objects"] >= 150


def test_sets_have_their_coverage_and_grow_with_it(findings) -> None:
    sets = findings.numbers["sets"]
    for coverage, parts in sets.items():
        whole = [part for part in parts if part["r"] is None]
        assert [part["class"] for part in whole] == list(labels.CLASSES)
        for part in whole:
            assert part["coverage"]["value"] == pytest.approx(float(coverage), abs=0.03)
    for less, more in zip(sets["0.9"], sets["0.95"], strict=True):
        assert less["mean_size"] <= more["mean_size"]


def test_lists_keep_their_purity_on_other_objects_and_rare_classes_miss_it(findings) -> None:
    lists = findings.numbers["candidates"]
    assert list(lists) == ["even", "rare"]  # balanced has no counts
    for name in labels.CLASSES:
        found = lists["even"][name]
        assert found["reached"]
        low, high = found["judged_purity"]["low"], found["judged_purity"]["high"]
        assert low - 0.02 < 0.9 < high + 0.02
    assert not lists["rare"]["QSO"]["reached"]
    assert lists["rare"]["QSO"]["purity"]["value"] < 0.9


def test_the_section_has_its_tables_and_figures(findings) -> None:
    assert len(findings.figures) == 2
    grids = [block for block in findings.section.blocks if isinstance(block, Grid)]
    assert len(grids) == 4
    assert all(len(row) == len(grid.columns) for grid in grids for row in grid.rows)
    page = to_html(Report("T", "lead", [findings.section]))
    assert "not reached" in page
    for shown in findings.figures:
        assert [ax.get_title(loc="left") for ax in shown.figure.axes] == [
            "Prior: balanced",
            "Prior: even",
            "Prior: rare",
        ]


def test_the_drawn_logits_are_calibrated_by_construction() -> None:
    """The logits over SCALE are those of the exact posterior."""
    made = drawn(40000, 3)
    p = softmax(made.logits / SCALE, axis=1)
    sure = p.max(axis=1)
    right = p.argmax(axis=1) == made.truth
    for low in (0.4, 0.6, 0.8):
        inside = (sure > low) & (sure <= low + 0.1)
        assert right[inside].mean() == pytest.approx(sure[inside].mean(), abs=0.02)
