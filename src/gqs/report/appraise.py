"""A model evaluated on one side of a split: predictions, measures, boosted trees, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import __version__, labels, tables
from gqs.cutouts.sky_groups import unknown_rows
from gqs.cutouts.split import check_split
from gqs.cutouts.store import CutoutStore
from gqs.errors import UsageError
from gqs.evaluation.baseline import boosted_trees
from gqs.evaluation.comparison import Comparison, compare
from gqs.evaluation.matched import MatchedPredictions, match
from gqs.evaluation.metrics import Metrics, measure
from gqs.executors import Progress, no_progress
from gqs.files import check_hash
from gqs.formatting import percent, plural
from gqs.imaging import seeing
from gqs.model.classifier import Classifier
from gqs.model.classify_field import flag_unlike
from gqs.model.folder import LEARNED
from gqs.model.held_out import calibration_of, validation_logits_of, with_bands
from gqs.probability.priors import BALANCED, SKY, find_prior
from gqs.recipes import published
from gqs.report import pictures
from gqs.report.blocks import CaptionedFigure, Link, Section
from gqs.report.evaluation_report import EvaluationReport
from gqs.report.figures import data_figures, history_figure, result_figures
from gqs.report.mistakes import ClassifiedCutouts, write_mistakes
from gqs.report.probability_section import (
    EvaluatedObjects,
    ProbabilityResults,
    Sky,
    probability_results,
)
from gqs.tables import float_column

CHUNK: Final = 2048  # cutouts in memory at a time
COLUMNS: Final = 6  # cutouts of each class in the figure
ENOUGH_GROUPS: Final = 5  # below, the spread between fields is too uncertain


@dataclass(frozen=True, kw_only=True)
class AppraiseOptions:
    """Options of an evaluation and texts of its report.

    Attributes
    ----------
    side : str
        Side of the split to evaluate on.
    trees : bool
        Whether boosted trees are fitted on the same split, for comparison (flux only).
    seed : int
        Of trees and bootstrap.
    title : str
        Title of the report.
    notes : sequence of str
        What a reader must know first.
    figures : sequence of CaptionedFigure
        Figures to show before the others.
    history : Table, optional
        History of the training, a row for each epoch.
    reproduce : mapping
        Further entries of the section on how to repeat the evaluation.
    """

    side: str = "test"
    trees: bool = True
    seed: int = 0
    title: str = "A model on unseen objects"
    notes: Sequence[str] = ()
    figures: Sequence[CaptionedFigure] = ()
    history: Table | None = None
    reproduce: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a model on one side of a split, and their measures."""

    predictions: Table
    matched: MatchedPredictions
    metrics: Metrics
    baseline: Metrics | None  # of boosted trees on the same objects
    comparison: Comparison | None  # of the model with the trees
    objects: str  # how the objects relate to the training of the model, in words


@dataclass(frozen=True)
class Appraisal:
    """Result of `appraise`."""

    evaluation: Evaluation
    report: Path  # the page

    @property
    def metrics(self) -> Metrics:
        """Measures of the model."""
        return self.evaluation.metrics

    @property
    def baseline(self) -> Metrics | None:
        """Measures of the boosted trees."""
        return self.evaluation.baseline

    def lines(self) -> list[str]:
        """The result in a few lines."""
        metrics, comparison = self.metrics, self.evaluation.comparison
        accuracy = metrics.accuracy
        ends = f"{percent(accuracy.low)} to {percent(accuracy.high)}, 95 %"
        lines = [
            f"Accuracy {percent(accuracy.value)} ({ends}) on {metrics.objects} objects "
            f"{self.evaluation.objects}."
        ]
        if self.baseline is not None and comparison is not None:
            lines.append(
                "Boosted trees on magnitudes from the same pixels: "
                f"{percent(self.baseline.accuracy.value)} (McNemar p = {comparison.p_value:.2g})."
            )
        return [*lines, f"Report: {self.report}"]


def appraise(
    classifier: Classifier,
    store: CutoutStore,
    split: Table,
    out: Path,
    options: AppraiseOptions | None = None,
    progress: Progress = no_progress,
) -> Appraisal:
    """Evaluate a model on one side of a split, compare it with boosted trees, and write a report.

    Parameters
    ----------
    classifier : Classifier
        The model.
    store : CutoutStore
        Cutouts with classes.
    split : Table
        Split of that store; it is checked for leaks first.
    out : Path
        Folder for report.html, mistakes.html, metrics.json and predictions.parquet.
    options : AppraiseOptions, optional
        Side of the split, seed, and texts of the report.
    progress : callable
        Called with steps done, steps in total and a note.

    Returns
    -------
    Appraisal
        Predictions, measures and the path of the report.

    Raises
    ------
    IntegrityError
        If the split leaks, or the model was trained on objects of this side.
    UsageError
        If the side is empty, or the model takes another form of cutouts.
    """
    options = options or AppraiseOptions()
    evaluation = evaluate_side(classifier, store, split, options, progress)
    tables.write(evaluation.predictions, out / "predictions.parquet")
    return Appraisal(evaluation, _write_report(classifier, store, split, out, evaluation, options))


def evaluate_side(
    classifier: Classifier,
    store: CutoutStore,
    split: Table,
    options: AppraiseOptions,
    progress: Progress = no_progress,
) -> Evaluation:
    """Predict one side of a split, and measure the predictions and those of boosted trees."""
    check_split(split, store.index)
    side, seed = options.side, options.seed
    sides = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    rows = np.flatnonzero([sides.get(objid) == side for objid in store.index["objid"].tolist()])
    if not len(rows):
        raise UsageError(f"The split has no {side} objects in {store.path}.")
    rows, objects = _unseen(classifier, store, rows, side)
    predictions = predict_rows(classifier, store, rows, progress)
    truth = store.index[rows]
    matched = match(predictions, truth)
    group = split.meta["by"] if split.meta["by"] != "object" else None
    metrics = measure(matched, group=drawable(matched, group), seed=seed)
    baseline, comparison = None, None
    if options.trees and store.form == "flux":
        of_trees = boosted_trees(store, split, side=side, seed=seed, progress=progress)
        trees = match(of_trees, truth)
        baseline = measure(trees, group=drawable(trees, group), seed=seed)
        comparison = compare(matched, trees, group=drawable(matched, group), seed=seed)
    return Evaluation(predictions, matched, metrics, baseline, comparison, objects)


def predict_rows(
    classifier: Classifier,
    store: CutoutStore,
    rows: NDArray[np.int64],
    progress: Progress = no_progress,
) -> Table:
    """Predictions of rows (n,) of a store, in chunks, so that memory stays constant."""
    if store.form != classifier.form:
        raise UsageError(
            f"{store.path}: has cutouts of the form {store.form!r}, but the model takes "
            f"{classifier.form!r}. Build it with --form {classifier.form}."
        )
    probabilities, magnitudes = [np.empty((0, len(labels.CLASSES)))], [np.empty(0)]
    distances = [np.empty(0)]
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        images = store.images(chunk)
        magnitudes.append(classifier.preprocessing.magnitudes(images, store.bands))
        widths = seeing.seeing_columns(store.index[chunk], store.bands)
        of_chunk, far = classifier.examine_cutouts(images, store.bands, magnitudes[-1], widths)
        probabilities.append(of_chunk)
        distances.append(far)
        progress(start + len(chunk), len(rows), "cutouts")
    objects = store.index[rows]
    flags = np.asarray(objects["flags"], dtype=np.int32)
    if store.form == "flux":
        objects["mag_r"] = np.concatenate(magnitudes)
        if set(classifier.bands) - set(store.bands):
            flags = flags | np.int32(tables.Flag.MISSING_BAND)
    unlike = np.concatenate(distances)
    return tables.predictions(
        objects,
        np.concatenate(probabilities),
        flag_unlike(flags, unlike),
        classifier.hash,
        None if classifier.novelty is None else unlike,
    )


def _unseen(
    classifier: Classifier, store: CutoutStore, rows: NDArray[np.int64], side: str
) -> tuple[NDArray[np.int64], str]:
    """Rows that the model was not trained on, in this store or another, and that in words."""
    if side != "test":
        chose = side == "validation"
        return rows, "that chose its epoch" if chose else "that it was trained on"
    path = classifier.folder / LEARNED
    if not path.is_file():
        return rows, "of the test side (the model has no list of its training objects)"
    check_hash(path, classifier.card["training"]["learned_sha256"])
    keep = unknown_rows(
        tables.read(path),
        store.index[rows],
        "Use the split that trained it (--split), or other fields.",
    )
    words = "not seen before"
    if not keep.all():
        left_out = plural(int((~keep).sum()), "training object")
        words += f" ({left_out} of the model left out)"
    return rows[keep], words


def drawable(matched: MatchedPredictions, group: str | None) -> str | None:
    """The group that a bootstrap draws, if there are enough groups for a spread between them."""
    groups = matched.groups(group)
    return group if groups is not None and groups.max() + 1 >= ENOUGH_GROUPS else None


def _write_report(
    classifier: Classifier,
    store: CutoutStore,
    split: Table,
    out: Path,
    evaluation: Evaluation,
    options: AppraiseOptions,
) -> Path:
    matched, metrics = evaluation.matched, evaluation.metrics
    figures = [*options.figures, *_figures(store, split, evaluation, options.history)]
    sections: list[Section] = []
    further = {}
    probabilities = _probabilities(classifier, store.bands, evaluation)
    if probabilities is not None:
        figures += probabilities.figures
        sections.append(probabilities.section)
        further = {"probabilities": probabilities.numbers}
    page = write_mistakes(out, matched, _classified_cutouts(store, evaluation))
    link = Link("All of the worst mistakes, with their pixels", page.name)
    report = EvaluationReport(
        title=options.title,
        metrics=metrics,
        baseline=evaluation.baseline,
        comparison=evaluation.comparison,
        figures=figures,
        published=published.RESNET50_GQS._asdict() if store.form == "paper" else None,
        sections=[*sections, Section("The worst mistakes", [link])],
        notes=options.notes,
        set_aside=store.manifest["set_aside"],
        reproduce={
            "gqs": __version__,
            "model": classifier.hash,
            "store": store.hash,
            "split": ", ".join(f"{k} {split.meta[k]}" for k in ("scheme", "by", "seed")),
            **options.reproduce,
        },
        further_numbers=further,
    )
    return report.write(out)


def _row_of(objid: NDArray[np.uint64], table: Table) -> NDArray[np.int64]:
    """Row of each object in a table that lists all of them, (n,)."""
    rows = {number: row for row, number in enumerate(table["objid"].tolist())}
    return np.array([rows[number] for number in objid.tolist()], dtype=np.int64)


def _figures(
    store: CutoutStore, split: Table, evaluation: Evaluation, history: Table | None
) -> list[CaptionedFigure]:
    """Figures 11-15 of the paper, and others."""
    matched = evaluation.matched
    rows = _row_of(np.asarray(evaluation.predictions["objid"]), store.index)
    classes = np.asarray(store.index["class"]).astype(str)
    examples = np.concatenate([rows[classes[rows] == name][:COLUMNS] for name in labels.CLASSES])
    cutouts = pictures.cutouts_by_class(
        store.images(examples), store.bands, classes[examples].tolist(), columns=COLUMNS
    )
    worst = pictures.worst_errors(matched)
    images = store.images(_row_of(matched.objid[worst], store.index))
    counts = {name: int((classes == name).sum()) for name in labels.CLASSES}
    return [
        *result_figures(matched, evaluation.metrics),
        CaptionedFigure(
            cutouts,
            "Cutouts of each class (paper, Figure 11).",
            f"Three rows of {COLUMNS} cutouts: {', '.join(labels.CLASSES)}.",
        ),
        *data_figures(counts, split.meta["counts"]),
        CaptionedFigure(
            pictures.errors_by_class(images, store.bands, matched, worst),
            "The wrong classifications with the highest probability.",
            f"{len(worst)} cutouts under their true class.",
        ),
        *([] if history is None else [history_figure(history)]),
    ]


def _probabilities(
    classifier: Classifier, bands: str, evaluation: Evaluation
) -> ProbabilityResults | None:
    """Calibration, sets and candidates; None if the model has no calibration for these bands."""
    try:
        calibration = calibration_of(classifier, "the report")
        validation = validation_logits_of(classifier, "the report")
        bands = classifier.preprocessing.shared_bands(bands)
        logits = with_bands(validation, bands, classifier, "the report")
    except UsageError:
        return None
    matched = evaluation.matched
    predicted = evaluation.predictions[_row_of(matched.objid, evaluation.predictions)]
    ra, dec, mag_r = (float_column(predicted, name) for name in ("ra", "dec", "mag_r"))
    priors = [find_prior(name) for name in (BALANCED, SKY)]
    skies = {
        prior.name: Sky(prior.around(ra, dec), prior.absolute)
        for prior in priors
        if calibration.learned.by_magnitude or not prior.by_magnitude
    }
    groups = matched.groups(evaluation.metrics.bootstrap["group"])
    calibration = replace(calibration, temperature=calibration.at(bands))
    objects = EvaluatedObjects(matched, mag_r, groups)
    return probability_results(objects, calibration, logits, skies)


def _classified_cutouts(store: CutoutStore, evaluation: Evaluation) -> ClassifiedCutouts:
    objid = evaluation.matched.objid
    predicted = evaluation.predictions[_row_of(objid, evaluation.predictions)]
    rows = _row_of(objid, store.index)
    return ClassifiedCutouts(
        images=lambda chosen: store.images(rows[chosen]),
        bands=store.bands,
        flags=np.asarray(predicted["flags"], dtype=np.int32),
        positions=np.stack(
            [np.asarray(predicted[name], dtype=float) for name in ("ra", "dec")], axis=1
        ),
    )
