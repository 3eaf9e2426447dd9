"""A model appraised on objects that it never saw: judged, beside boosted trees, in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from gqs.imaging import seeing
from gqs.model.classifier import Classifier
from gqs.model.classify_field import flag_unlike
from gqs.model.folder import LEARNED
from gqs.model.held_out import calibration_of, validation_logits_of, with_bands
from gqs.probability.priors import NAMES as PRIORS
from gqs.probability.priors import find_prior
from gqs.recipes import published
from gqs.report import pictures
from gqs.report.blocks import Link, Section, Shown
from gqs.report.captions import data_plates, history_plate, result_plates
from gqs.report.evaluation_report import write_report
from gqs.report.mistakes import write_mistakes
from gqs.report.probability_section import Findings, Sky, examine
from gqs.tables import float_column

CHUNK = 2048  # cutouts in memory at a time
SHOWN = 6  # cutouts of each class in the figure
ENOUGH_GROUPS = 5  # fewer fields than this say too little about the spread between fields


@dataclass(frozen=True)
class Appraisal:
    """What `appraise` found and wrote."""

    metrics: Metrics  # of the model
    baseline: Metrics | None  # of the trees, on the same objects
    comparison: Comparison | None  # model against trees: McNemar's test
    predictions: Table  # of the side that was judged
    report: Path  # the page
    seen: str  # what the model had to do with these objects, in words

    def lines(self) -> list[str]:
        """Say the result in a few lines."""
        found = self.metrics.accuracy
        lines = [
            f"Accuracy {_percent(found.value)} ({_percent(found.low)} to {_percent(found.high)}, "
            f"95 %) on {self.metrics.objects} objects {self.seen}."
        ]
        if self.baseline is not None and self.comparison is not None:
            trees = self.baseline.accuracy.value
            lines.append(
                f"Boosted trees on magnitudes from the same pixels: {_percent(trees)} "
                f"(McNemar p = {self.comparison.p_value:.2g})."
            )
        return [*lines, f"Report: {self.report}"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def predict_rows(
    classifier: Classifier,
    store: CutoutStore,
    rows: NDArray[np.int64],
    progress: Progress = no_progress,
) -> Table:
    """Judge rows of a store, some at a time, so that memory stays flat."""
    if store.form != classifier.form:
        raise UsageError(
            f"{store.path} holds cutouts of the form {store.form!r}; the model takes "
            f"{classifier.form!r}. Cut them with --form {classifier.form}."
        )
    parts, magnitudes = [np.empty((0, len(labels.CLASSES)))], [np.empty(0)]
    distances = [np.empty(0)]
    for start in range(0, len(rows), CHUNK):
        images = store.images(rows[start : start + CHUNK])
        magnitudes.append(classifier.preprocessing.magnitudes(images, store.bands))
        told = seeing.seeing_columns(store.index[rows[start : start + CHUNK]], store.bands)
        some, far = classifier.examine_cutouts(images, store.bands, magnitudes[-1], told)
        parts.append(some)
        distances.append(far)
        progress(min(start + CHUNK, len(rows)), len(rows), "cutouts")
    objects, probabilities = store.index[rows], np.concatenate(parts)
    if store.form == "flux":
        objects["mag_r"] = np.concatenate(magnitudes)
    flags = np.asarray(objects["flags"], dtype=np.int32)
    if store.form == "flux" and set(classifier.bands) - set(store.bands):
        flags = flags | np.int32(tables.Flag.MISSING_BAND)
    unlike = np.concatenate(distances)
    judged_flags = flag_unlike(flags, unlike)
    known = None if classifier.novelty is None else unlike
    return tables.predictions(objects, probabilities, judged_flags, classifier.hash, known)


def appraise(
    classifier: Classifier,
    store: CutoutStore,
    split: Table,
    out: Path,
    *,
    side: str = "test",
    trees: bool = True,
    seed: int = 0,
    title: str = "A model on objects it never saw",
    notes: Sequence[str] = (),
    more: Sequence[Shown] = (),
    history: Table | None = None,
    reproduce: Mapping[str, object] | None = None,
    progress: Progress = no_progress,
) -> Appraisal:
    """Judge one side of a split, measure it, train the yardstick, and write the report.

    Parameters
    ----------
    classifier : Classifier
        The model.
    store : CutoutStore
        Cutouts with classes.
    split : Table
        Of that store; checked for leaks first.
    out : Path
        Folder of report.html, metrics.json and predictions.parquet.
    side : str
        Which side to judge.
    trees : bool
        Whether boosted trees are trained on the same split (flux only).
    seed : int
        Of trees and bootstrap.
    title : str
        Of the report.
    notes : sequence of str
        What a reader must know first.
    more : sequence of Shown
        Figures to put before the others.
    history : Table, optional
        Of the training, a row an epoch: drawn where it is given.
    reproduce : mapping, optional
        How to make this again.
    progress : callable
        Told as the work goes on.

    Returns
    -------
    Appraisal
        Numbers, predictions and where the report lies.

    Raises
    ------
    IntegrityError
        If the split leaks, or the model was trained on objects of this side.
    UsageError
        If the side is empty, or forms differ.
    """
    check_split(split, store.index)
    sides = dict(zip(split["objid"].tolist(), split["split"].tolist(), strict=True))
    rows = np.flatnonzero([sides.get(objid) == side for objid in store.index["objid"].tolist()])
    if not len(rows):
        raise UsageError(f"The split has no {side} objects in {store.path}.")
    rows, seen = _unseen(classifier, store, rows, side)
    found = predict_rows(classifier, store, rows, progress)
    tables.write(found, out / "predictions.parquet")
    truth = store.index[rows]
    judged = match(found, truth)
    group = split.meta["by"] if split.meta["by"] != "object" else None
    metrics = measure(judged, group=drawable(judged, group), seed=seed)
    baseline, comparison = None, None
    if trees and store.form == "flux":
        other = match(boosted_trees(store, split, side=side, seed=seed, progress=progress), truth)
        baseline = measure(other, group=drawable(other, group), seed=seed)
        comparison = compare(judged, other, group=drawable(judged, group), seed=seed)
    shown = [*more, *_figures(store, split, rows, judged, metrics, history)]
    sections, further = [], None
    if (odds := _probabilities(classifier, store.bands, found, judged, metrics)) is not None:
        shown += odds.figures
        sections, further = [odds.section], {"probabilities": odds.numbers}
    page = write_report(
        out,
        title,
        metrics=metrics,
        figures=shown,
        baseline=baseline,
        comparison=comparison,
        published=published.RESNET50_GQS._asdict() if store.form == "paper" else None,
        notes=notes,
        sections=[*sections, Section("The worst mistakes", [_mistakes(out, store, found, judged)])],
        further=further,
        set_aside=store.manifest["set_aside"],
        reproduce={
            "gqs": __version__,
            "model": classifier.hash,
            "store": store.hash,
            "split": ", ".join(f"{k} {split.meta[k]}" for k in ("scheme", "by", "seed")),
            **(reproduce or {}),
        },
    )
    return Appraisal(metrics, baseline, comparison, found, page, seen)


def _mistakes(out: Path, store: CutoutStore, found: Table, judged: MatchedPredictions) -> Link:
    """Write the page of the worst mistakes, and return the link to it."""
    of = {objid: row for row, objid in enumerate(found["objid"].tolist())}
    mine = found[[of[objid] for objid in judged.objid.tolist()]]
    place = {objid: row for row, objid in enumerate(store.index["objid"].tolist())}
    rows = np.array([place[objid] for objid in judged.objid.tolist()], dtype=np.int64)
    page = write_mistakes(
        out,
        judged,
        lambda some: store.images(rows[some]),
        store.bands,
        flags=np.asarray(mine["flags"], dtype=np.int32),
        positions=np.stack([np.asarray(mine[n], dtype=float) for n in ("ra", "dec")], axis=1),
    )
    return Link("All of the worst mistakes, with their pixels", page.name)


def _unseen(
    classifier: Classifier, store: CutoutStore, rows: NDArray[np.int64], side: str
) -> tuple[NDArray[np.int64], str]:
    """Leave out what a model learned from, in this store or another, and say it in words."""
    if side != "test":
        return rows, "that chose its epoch" if side == "validation" else "that it was trained on"
    path = classifier.folder / LEARNED
    if not path.is_file():
        return rows, "of the test side (the model does not tell what it learned from)"
    check_hash(path, classifier.card["training"]["learned_sha256"])
    keep = unknown_rows(
        tables.read(path),
        store.index[rows],
        "Name the split that trained it (--split), or fields that it never saw.",
    )
    words = "never seen before"
    if not keep.all():
        words += f" ({int((~keep).sum())} more are left out: the model learned from them)"
    return rows[keep], words


def _probabilities(
    classifier: Classifier, bands: str, found: Table, judged: MatchedPredictions, metrics: Metrics
) -> Findings | None:
    """Measure calibration, sets and candidates; None where the model tells too little for it."""
    try:
        calibration = calibration_of(classifier, "the report")
        kept = validation_logits_of(classifier, "the report")
        bands = classifier.preprocessing.shared_bands(bands)
        held_out = with_bands(kept, bands, classifier, "the report")
    except UsageError:
        return None
    place = {objid: row for row, objid in enumerate(found["objid"].tolist())}
    mine = found[[place[objid] for objid in judged.objid.tolist()]]
    ra, dec = float_column(mine, "ra"), float_column(mine, "dec")
    priors = [find_prior(name) for name in PRIORS]
    skies = {
        prior.name: Sky(prior.around(ra, dec), prior.absolute)
        for prior in priors
        if calibration.learned.by_magnitude or not prior.by_magnitude
    }
    groups = judged.groups(metrics.bootstrap["group"])
    calibration = replace(calibration, temperature=calibration.at(bands))
    return examine(judged, float_column(mine, "mag_r"), calibration, held_out, skies, groups)


def drawable(judged: MatchedPredictions, group: str | None) -> str | None:
    """Draw whole groups in the bootstrap where there are enough of them for a spread."""
    groups = judged.groups(group)
    return group if groups is not None and groups.max() + 1 >= ENOUGH_GROUPS else None


def _figures(
    store: CutoutStore,
    split: Table,
    rows: NDArray[np.int64],
    judged: MatchedPredictions,
    metrics: Metrics,
    history: Table | None,
) -> list[Shown]:
    """Figures 11-15 of the paper in our own form, and what the paper leaves out."""
    classes = np.asarray(store.index["class"]).astype(str)
    pick = np.concatenate([rows[classes[rows] == name][:SHOWN] for name in labels.CLASSES])
    of_each = pictures.cutouts_by_class(
        store.images(pick), store.bands, classes[pick].tolist(), columns=SHOWN
    )
    worst = pictures.worst(judged)
    objid = store.index["objid"][rows].tolist()
    place = dict(zip(objid, rows.tolist(), strict=True))
    wrong = store.images([place[int(number)] for number in judged.objid[worst]])
    counts = {name: int((classes == name).sum()) for name in labels.CLASSES}
    return [
        Shown(
            of_each,
            "Cutouts of each class (paper, Figure 11).",
            f"Three rows of {SHOWN} cutouts: {', '.join(labels.CLASSES)}.",
            "png",
        ),
        *data_plates(counts, split.meta["counts"]),
        *result_plates(judged, metrics),
        Shown(
            pictures.mistakes(wrong, store.bands, judged, worst),
            "The mistakes made with the highest confidence.",
            f"{len(worst)} cutouts under their true class.",
            "png",
        ),
        *([] if history is None else [history_plate(history)]),
    ]
