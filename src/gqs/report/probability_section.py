"""What a report says of probabilities: calibration, sets, lists; all on the objects judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs import labels
from gqs.evaluation import reliability as measured
from gqs.evaluation.binning import merged_edges
from gqs.evaluation.intervals import Estimate
from gqs.evaluation.matched import MatchedPredictions
from gqs.model.calibration import Calibration, ValidationLogits
from gqs.probability import conformal
from gqs.probability.candidates import threshold, worth
from gqs.probability.conformal import Covered
from gqs.probability.label_shift import matching_fractions, reweight
from gqs.probability.poststratify import Mix, mixed
from gqs.report import candidate_figures
from gqs.report.blocks import Block, Cell, Grid, Paragraph, Section, Shown
from gqs.report.evaluation_report import NAMES, percent, shown

Array = NDArray[np.float64]

COVERAGES: Final = (0.90, 0.95)
PURITY: Final = 0.9
FEWEST: Final = 50  # judged objects of each class in a range of magnitude
R_EDGES: Final = tuple(float(edge) for edge in range(14, 25))


@dataclass(frozen=True)
class Sky:
    """A prior averaged over the objects' places: densities (k, 3) of r magnitudes (k,)."""

    density: Callable[[Array], Array]
    absolute: bool


@dataclass(frozen=True)
class Findings:
    """What a report shows of probabilities: a section, figures, and numbers for metrics.json."""

    section: Section
    figures: list[Shown] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


def examine(
    judged: MatchedPredictions,
    mag_r: Array,
    calibration: Calibration,
    held_out: ValidationLogits,
    skies: Mapping[str, Sky],
    groups: NDArray[np.int64] | None = None,
) -> Findings:
    """Measure calibration, coverage and candidates on judged objects."""
    calibrated, calibrated_numbers = _calibration(judged, mag_r, calibration, groups)
    sets, sets_numbers = _sets(judged, mag_r, calibration, held_out)
    numbers: dict[str, Any] = {"calibration": calibrated_numbers, "sets": sets_numbers}
    blocks = [*calibrated, *sets]
    figures = []
    if all((judged.truth == i).any() for i in range(len(labels.CLASSES))):
        here = {
            name: _weighed(judged.probability, judged.truth, mag_r, calibration, sky)
            for name, sky in skies.items()
        }
        listed, numbers["candidates"] = _lists(here, calibration, held_out, skies)
        blocks += listed
        figures = _figures(here) if here else []
    return Findings(Section("Probabilities", blocks), figures, numbers)


def _calibration(
    judged: MatchedPredictions,
    mag_r: Array,
    calibration: Calibration,
    groups: NDArray[np.int64] | None,
) -> tuple[list[Block], dict[str, Any]]:
    """Hold probabilities against the truth, both at the mix of the objects that are judged."""
    wanted = matching_fractions(judged.truth, mag_r, calibration.learned).at(mag_r)
    learned = calibration.learned.at(mag_r)
    plain = calibration.temperature.undone(judged.probability, mag_r)
    before, after = (
        judged.with_probabilities(reweight(p, wanted, learned)) for p in (plain, judged.probability)
    )
    found = {
        when: measured.calibration_measures(one, groups)
        for when, one in (("before", before), ("after", after))
    }
    rows: list[list[str | Cell]] = [
        [NAMES[name], *(shown(name, one[name]) for one in found.values())]
        for name in found["after"]
    ]
    caption = (
        "Before and after calibration, by a temperature that follows the magnitude and was fitted "
        "on other objects. Probabilities are weighed for the mix of classes of the objects judged "
        "here, magnitude by magnitude, for without a prior they are as of the mix that was "
        "learned. Small: 95 % bootstrap intervals."
    )
    blocks: list[Block] = [Grid(caption, ["Measure", "Plain softmax", "Calibrated"], rows)]
    numbers: dict[str, Any] = {
        when: {name: value.to_json() for name, value in one.items()} for when, one in found.items()
    }
    parts = _by_magnitude(after, mag_r, groups)
    if parts:
        lines: list[list[str | Cell]] = [
            [f"{low:.1f} to {high:.1f}", f"{count:,}", shown("ece", error)]
            for low, high, count, error in parts
        ]
        blocks.append(
            Grid("Calibration error by r magnitude.", ["r (mag)", "Objects", NAMES["ece"]], lines)
        )
        numbers["ece_by_magnitude"] = [
            {"r": [low, high], "objects": count, "ece": error.to_json()}
            for low, high, count, error in parts
        ]
    return blocks, numbers


def _by_magnitude(
    judged: MatchedPredictions, mag_r: Array, groups: NDArray[np.int64] | None
) -> list[tuple[float, float, int, Estimate]]:
    found = []
    for low, high in pairwise(_edges(judged.truth, mag_r).tolist()):
        inside = (mag_r >= low) & (mag_r < high)
        own = None if groups is None else np.unique(groups[inside], return_inverse=True)[1]
        error = measured.calibration_measures(judged.select(inside), own)["ece"]
        found.append((low, high, int(inside.sum()), error))
    return found


def _edges(truth: NDArray[np.int64], mag_r: Array) -> Array:
    """Ranges of magnitude that hold enough of each class."""
    inner = merged_edges(mag_r, truth, R_EDGES, FEWEST)
    seen = mag_r[np.isfinite(mag_r)]
    return np.array([seen.min(), *inner, np.nextafter(seen.max(), np.inf)]) if len(seen) else inner


def _sets(
    judged: MatchedPredictions, mag_r: Array, calibration: Calibration, held_out: ValidationLogits
) -> tuple[list[Block], dict[str, Any]]:
    known = calibration.temperature.probabilities(held_out.logits, held_out.mag_r)
    edges = _edges(judged.truth, mag_r)
    found = {}
    for coverage in COVERAGES:
        made = conformal.fit(known, held_out.truth, held_out.mag_r, coverage)
        sets = made.sets(judged.probability, mag_r, judged.decided)
        found[coverage] = conformal.covered(sets, judged.truth, mag_r, edges)
    columns = ["Class", "r (mag)", "Objects"]
    for coverage in COVERAGES:
        columns += [f"Holds, {100 * coverage:g} % asked", "Mean size"]
    rows: list[list[str | Cell]] = []
    for parts in zip(*found.values(), strict=True):
        first = parts[0]
        row: list[str | Cell] = [first.name, _range(first), f"{first.count:,}"]
        for part in parts:
            row += [shown("recall", part.coverage), f"{part.size:.2f}"]
        rows.append(row)
    caption = (
        "Sets of classes (conformal, thresholds from held-out objects): how often they hold the "
        "true class, and how many classes they name. The held-out objects chose the epoch and the "
        "temperature too, so what is found here is what counts. Small: Wilson's 95 % intervals."
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
        for coverage, parts in found.items()
    }
    return [Grid(caption, columns, rows)], numbers


def _range(part: Covered) -> str:
    return f"{part.low:.1f} to {part.high:.1f}" if np.isfinite(part.low) else "all"


def _weighed(
    probability: Array,
    truth: NDArray[np.int64],
    mag_r: Array,
    calibration: Calibration,
    sky: Sky,
) -> tuple[Mix, Array]:
    """Let objects stand for a sky, with their probabilities for it."""
    mix, used = mixed(truth, mag_r, sky.density, sky.absolute)
    wanted = sky.density(np.nan_to_num(mag_r[used]))
    learned = calibration.learned.at(mag_r[used])
    return mix, reweight(probability[used], wanted, learned)


def _lists(
    here: candidate_figures.Skies,
    calibration: Calibration,
    held_out: ValidationLogits,
    skies: Mapping[str, Sky],
) -> tuple[list[Block], dict[str, Any]]:
    """Set thresholds on held-out objects, and see on the judged ones what they are worth."""
    known = calibration.temperature.probabilities(held_out.logits, held_out.mag_r)
    rows: list[list[str | Cell]] = []
    numbers: dict[str, Any] = {}
    for prior, sky in skies.items():
        if not sky.absolute:
            continue  # how pure a list is depends on how many of each class there are
        mix, p = _weighed(known, held_out.truth, held_out.mag_r, calibration, sky)
        judged_mix, judged_p = here[prior]
        for i, name in enumerate(labels.CLASSES):
            limit = threshold(mix, p[:, i], name, PURITY)
            pure, complete = worth(judged_mix, judged_p[:, i] >= limit.value, i)
            promised = _cell(limit.purity) if limit.reached else Cell("not reached", limit.why)
            cells = [promised, _cell(limit.completeness), _cell(pure), _cell(complete)]
            rows.append([name, prior, f"{limit.value:.4g}", *cells])
            numbers.setdefault(prior, {})[name] = {
                **limit.to_json(),
                "judged_purity": pure.to_json(),
                "judged_completeness": complete.to_json(),
            }
    columns = ["Class", "Prior", "Threshold", "Purity", "Completeness", "Purity here"]
    columns.append("Completeness here")
    caption = (
        f"Lists of candidates that shall be {100 * PURITY:g} % pure: thresholds from held-out "
        "objects, and what they are worth on the objects judged here. Small: 95 % intervals."
    )
    note = (
        "Where no threshold reaches it, that of the purest list is shown. Objects are weighed "
        "until they stand for the prior's sky; purity counts half an object of each other class "
        "that was not seen, and 30 of the class lie above a threshold, so that few objects never "
        "promise a pure list. Objects of the sky that are blended, or unlike all that was held "
        "out, are not in these numbers."
    )
    blocks: list[Block] = [Grid(caption, columns, rows), Paragraph(note, note=True)]
    return blocks if rows else [], numbers


def _cell(found: Estimate) -> Cell:
    return Cell(percent(found.value), f"{100 * found.low:.1f} to {100 * found.high:.1f}")


def _figures(here: candidate_figures.Skies) -> list[Shown]:
    names = " and ".join(here)
    figures = [
        Shown(
            candidate_figures.by_threshold(here),
            "Purity and completeness of a list that begins at a threshold, for the mix of classes "
            f"of each prior ({names}); purity counts what was not seen as half an object.",
            "Purity rises and completeness falls with the threshold.",
        )
    ]
    if all(len(mix.ends) > 2 for mix, _ in here.values()):
        figures.append(
            Shown(
                candidate_figures.by_brightness(here),
                "Purity and completeness of each class, decided by the largest probability, by r "
                f"magnitude, for the mix of classes of each prior ({names}).",
                "By r magnitude, a line a class.",
            )
        )
    return figures
