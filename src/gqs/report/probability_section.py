"""The report's section on probabilities: calibration, conformal sets and lists of candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.evaluation.binning import merged_edges
from gqs.evaluation.intervals import Estimate
from gqs.evaluation.matched import MatchedPredictions
from gqs.evaluation.reliability import calibration_measures
from gqs.model.calibration import Calibration, ValidationLogits
from gqs.probability import conformal
from gqs.probability.candidates import threshold, worth
from gqs.probability.conformal import Covered
from gqs.probability.label_shift import matching_fractions, reweight
from gqs.probability.poststratify import Mix, mixed
from gqs.report.blocks import (
    Block,
    CaptionedFigure,
    Cell,
    Grid,
    Paragraph,
    Section,
    percent_cell,
)
from gqs.report.evaluation_report import NAMES, measure_cell
from gqs.report.figures import Skies, candidate_figures

Array = NDArray[np.float64]
Rows = list[list[str | Cell]]
Blocks = tuple[list[Block], dict[str, Any]]  # and their numbers, for metrics.json

COVERAGES: Final = (0.90, 0.95)
PURITY: Final = 0.9
FEWEST: Final = 50  # objects of each class in a range of magnitude
R_EDGES: Final = tuple(float(edge) for edge in range(14, 25))


@dataclass(frozen=True)
class Sky:
    """A prior averaged over the objects' positions."""

    density: Callable[[Array], Array]  # (k, 3) of r magnitudes (k,)
    absolute: bool  # whether it is of sources a square degree and magnitude, not fractions alone


@dataclass(frozen=True)
class EvaluatedObjects:
    """Objects that the report is about: predictions, r magnitudes (n,), and bootstrap groups."""

    matched: MatchedPredictions
    mag_r: Array
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ProbabilityResults:
    """The section, its figures, and its numbers for metrics.json."""

    section: Section
    figures: list[CaptionedFigure] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


def probability_results(
    objects: EvaluatedObjects,
    calibration: Calibration,
    validation: ValidationLogits,
    skies: Mapping[str, Sky],
) -> ProbabilityResults:
    """Measure calibration, coverage of sets, and candidate lists for the skies of priors."""
    edges = _edges(objects)
    calibrated, calibration_numbers = _calibration(objects, calibration, edges)
    sets, set_numbers = _sets(objects, calibration, validation, edges)
    numbers: dict[str, Any] = {"calibration": calibration_numbers, "sets": set_numbers}
    blocks = [*calibrated, *sets]
    figures: list[CaptionedFigure] = []
    matched = objects.matched
    if all((matched.truth == i).any() for i in range(len(labels.CLASSES))):
        weighted = {
            name: _weighted(matched.probability, matched.truth, objects.mag_r, calibration, sky)
            for name, sky in skies.items()
        }
        lists, numbers["candidates"] = _lists(weighted, calibration, validation, skies)
        blocks += lists
        figures = candidate_figures(weighted) if weighted else []
    return ProbabilityResults(Section("Probabilities", blocks), figures, numbers)


def _edges(objects: EvaluatedObjects) -> Array:
    """Ranges of magnitude with enough objects of each class."""
    mag_r = objects.mag_r
    inner = merged_edges(mag_r, objects.matched.truth, R_EDGES, FEWEST)
    known = mag_r[np.isfinite(mag_r)]
    if not len(known):
        return inner
    return np.array([known.min(), *inner, np.nextafter(known.max(), np.inf)])


def _calibration(objects: EvaluatedObjects, calibration: Calibration, edges: Array) -> Blocks:
    """Calibration before and after the temperature, for the class fractions of the objects."""
    matched, mag_r = objects.matched, objects.mag_r
    fractions = matching_fractions(matched.truth, mag_r, calibration.learned).at(mag_r)
    learned = calibration.learned.at(mag_r)
    softmax = calibration.temperature.undone(matched.probability, mag_r)
    versions = {
        when: matched.with_probabilities(reweight(p, fractions, learned))
        for when, p in (("before", softmax), ("after", matched.probability))
    }
    measured = {
        when: calibration_measures(version, objects.groups) for when, version in versions.items()
    }
    rows: Rows = [
        [NAMES[name], *(measure_cell(name, of_version[name]) for of_version in measured.values())]
        for name in measured["after"]
    ]
    caption = (
        "Before and after calibration, by a temperature that depends on magnitude and was fitted "
        "on other objects. Probabilities are reweighted to the class fractions of these objects at "
        "each magnitude; without a prior they are for those of the training set. Small: 95 % "
        "bootstrap intervals."
    )
    blocks: list[Block] = [Grid(caption, ["Measure", "Plain softmax", "Calibrated"], rows)]
    numbers: dict[str, Any] = {
        when: {name: value.to_json() for name, value in of_version.items()}
        for when, of_version in measured.items()
    }
    ranges = _errors_by_magnitude(versions["after"], objects, edges)
    if ranges:
        lines: Rows = [
            [f"{low:.1f} to {high:.1f}", f"{count:,}", measure_cell("ece", error)]
            for low, high, count, error in ranges
        ]
        heads = ["r (mag)", "Objects", NAMES["ece"]]
        blocks.append(Grid("Calibration error by r magnitude.", heads, lines))
        numbers["ece_by_magnitude"] = [
            {"r": [low, high], "objects": count, "ece": error.to_json()}
            for low, high, count, error in ranges
        ]
    return blocks, numbers


def _errors_by_magnitude(
    matched: MatchedPredictions, objects: EvaluatedObjects, edges: Array
) -> list[tuple[float, float, int, Estimate]]:
    """Range of r magnitude, number of objects and calibration error."""
    errors = []
    for low, high in pairwise(edges.tolist()):
        inside = (objects.mag_r >= low) & (objects.mag_r < high)
        groups = objects.groups
        if groups is not None:
            groups = np.unique(groups[inside], return_inverse=True)[1]
        error = calibration_measures(matched.select(inside), groups)["ece"]
        errors.append((low, high, int(inside.sum()), error))
    return errors


def _sets(
    objects: EvaluatedObjects, calibration: Calibration, validation: ValidationLogits, edges: Array
) -> Blocks:
    """Coverage and size of conformal sets by class and magnitude."""
    matched, mag_r = objects.matched, objects.mag_r
    reference = calibration.temperature.probabilities(validation.logits, validation.mag_r)
    measured = {}
    for coverage in COVERAGES:
        fitted = conformal.fit(reference, validation.truth, validation.mag_r, coverage)
        sets = fitted.sets(matched.probability, mag_r, matched.decided)
        measured[coverage] = conformal.covered(sets, matched.truth, mag_r, edges)
    columns = ["Class", "r (mag)", "Objects"]
    for coverage in COVERAGES:
        columns += [f"Coverage, {100 * coverage:g} % nominal", "Mean size"]
    rows: Rows = []
    for parts in zip(*measured.values(), strict=True):
        row: list[str | Cell] = [parts[0].name, _range(parts[0]), f"{parts[0].count:,}"]
        for part in parts:
            row += [percent_cell(part.coverage), f"{part.size:.2f}"]
        rows.append(row)
    caption = (
        "Conformal sets of classes, with thresholds from validation objects: how often they "
        "contain the true class, and how many classes they have. The validation objects also chose "
        "the epoch and the temperature, so the coverage measured here is the one to rely on. "
        "Small: Wilson's 95 % intervals."
    )
    numbers = {
        f"{coverage:g}": [
            {
                "class": part.name,
                "r": [part.low, part.high] if np.isfinite(part.low) else None,
                "objects": part.count,
                "coverage": part.coverage.to_json(),
                "mean_size": part.size,
            }
            for part in parts
        ]
        for coverage, parts in measured.items()
    }
    return [Grid(caption, columns, rows)], numbers


def _range(part: Covered) -> str:
    return f"{part.low:.1f} to {part.high:.1f}" if np.isfinite(part.low) else "all"


def _weighted(
    probability: Array, truth: NDArray[np.int64], mag_r: Array, calibration: Calibration, sky: Sky
) -> tuple[Mix, Array]:
    """Objects weighted to represent a sky, and their probabilities for it."""
    mix, used = mixed(truth, mag_r, sky.density, sky.absolute)
    density = sky.density(np.nan_to_num(mag_r[used]))
    learned = calibration.learned.at(mag_r[used])
    return mix, reweight(probability[used], density, learned)


def _lists(
    weighted: Skies,
    calibration: Calibration,
    validation: ValidationLogits,
    skies: Mapping[str, Sky],
) -> Blocks:
    """Thresholds from validation objects, and their purity and completeness on these objects."""
    reference = calibration.temperature.probabilities(validation.logits, validation.mag_r)
    rows: Rows = []
    numbers: dict[str, Any] = {}
    for prior, sky in skies.items():
        if not sky.absolute:
            continue  # purity depends on the numbers of the classes
        mix, p = _weighted(reference, validation.truth, validation.mag_r, calibration, sky)
        test_mix, test_p = weighted[prior]
        for i, name in enumerate(labels.CLASSES):
            limit = threshold(mix, p[:, i], name, PURITY)
            purity, completeness = worth(test_mix, test_p[:, i] >= limit.value, i)
            expected = _cell(limit.purity) if limit.reached else Cell("not reached", limit.why)
            cells = [expected, _cell(limit.completeness), _cell(purity), _cell(completeness)]
            rows.append([name, prior, f"{limit.value:.4g}", *cells])
            numbers.setdefault(prior, {})[name] = {
                **limit.to_json(),
                "judged_purity": purity.to_json(),
                "judged_completeness": completeness.to_json(),
            }
    columns = ["Class", "Prior", "Threshold", "Purity", "Completeness", "Purity here"]
    columns.append("Completeness here")
    caption = (
        f"Lists of candidates for a purity of {100 * PURITY:g} %: thresholds from validation "
        "objects, and purity and completeness on the objects of this report. Small: 95 % intervals."
    )
    note = (
        "Where no threshold reaches the purity, the purest list is shown. Objects are weighted to "
        "represent the sky of the prior. Purity counts half an object of each other class that was "
        "not observed, and a threshold needs 30 objects of the class above it, so that few objects "
        "never promise a pure list. Blended objects, and objects unlike all validation objects, "
        "are not in these numbers."
    )
    blocks: list[Block] = [Grid(caption, columns, rows), Paragraph(note, note=True)]
    return blocks if rows else [], numbers


def _cell(estimate: Estimate) -> Cell:
    return percent_cell(estimate, interval_digits=1)
