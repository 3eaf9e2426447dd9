"""A catalogue of many fields in one file: a run on local processes whose rows are concatenated.

Each process takes fields from frames to rows on one thread. A finished field is written to disk at
once: memory does not grow with the number of fields, and an interrupted run is continued.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from astropy.table import Table, vstack

from gqs import __version__, labels, tables
from gqs.cutouts.field import NO_FIELD, checked_positions, missing_positions
from gqs.errors import BadInputError, GqsError, UsageError, worst
from gqs.executors import Executor, Progress, no_progress
from gqs.executors.processes import LocalExecutor
from gqs.files import hash_of, only_writer, write_atomically
from gqs.model.cache import ModelName
from gqs.model.classifier import Classifier
from gqs.model.reweight import apply_prior, default_prior
from gqs.probability.priors import Prior, choose_prior
from gqs.runs.field_task import RunOptions, group_tasks
from gqs.runs.run import run_tasks, unfinished
from gqs.runs.run_store import DONE, RunStore
from gqs.surveys.sdss import FieldId

_GROUP: Final = 1 << 16  # rows of a row group
_MOST_REASONS: Final = 5  # reasons in one message


@dataclass(frozen=True)
class PartsReport:
    """Rows of a run, field by field, on disk."""

    parts: dict[FieldId, Path]  # a Parquet file of predictions for each field, sorted by name
    set_aside: list[str] = field(default_factory=list)  # a sentence for each file or field left out
    # bands of the model that a field has no frame of, or none with a signal
    lacking: dict[FieldId, str] = field(default_factory=dict)
    code: int = 0  # exit code of what was set aside; 0 if nothing was

    def each(self) -> Iterator[Table]:
        """Read one field after the other."""
        for path in self.parts.values():
            yield tables.read(path)

    def refuse_none(self) -> None:
        """Raise an error of the class of the worst reason if no field was classified."""
        if self.parts:
            return
        kinds = {kind.exit_code: kind for kind in GqsError.__subclasses__()}
        shown, rest = self.set_aside[:_MOST_REASONS], len(self.set_aside) - _MOST_REASONS
        more = [f"{rest} more were set aside."] if rest > 0 else []
        reasons = " ".join([*shown, *more]) or "No frames were given."
        raise kinds.get(self.code, BadInputError)(f"No field could be classified. {reasons}")


@dataclass(frozen=True)
class FieldsReport:
    """Result of `classify_fields`.

    Attributes
    ----------
    predictions : Table
        One row for each object.
    fields : int
        Number of fields classified.
    set_aside : list of str
        A sentence for each file or field left out.
    lacking : dict of FieldId to str
        Bands of the model that a field has no frame of, or none with a signal.
    """

    predictions: Table
    fields: int
    set_aside: list[str] = field(default_factory=list)
    lacking: dict[FieldId, str] = field(default_factory=dict)


def classify_fields(
    classifier: Classifier,
    paths: Sequence[Path],
    positions: Table | None = None,
    *,
    prior: Prior | str | Path | None = None,
    where: object = "positions",
    parts: Path | None = None,
    processes: int | None = None,
    progress: Progress = no_progress,
) -> FieldsReport:
    """Classify many fields in child processes, and return all their rows.

    Parameters
    ----------
    classifier : Classifier
        The model; children load it from its folder.
    paths : sequence of Path
        Frames of any number of fields, in any order.
    positions : Table, optional
        Objects to classify instead of detections (`ra`, `dec` in degrees, `objid`). Each is
        classified on the field that contains it; one outside all fields gets a row flagged OUTSIDE.
    prior : Prior, str or Path, optional
        As for `Classifier.classify_field`.
    where : object
        Name of the positions in messages.
    parts : Path, optional
        Folder that keeps finished fields, so that an interrupted run is continued.
    processes : int, optional
        Number of children; by default one per core.
    progress : callable
        Called with fields done, fields in total, and a note.

    Returns
    -------
    FieldsReport
        Predictions in the order of the fields' names, or of `positions`.

    Raises
    ------
    GqsError
        If no field could be classified: of the class of the worst reason.
    """
    chosen = choose_prior(prior, default_prior(classifier, positions is not None))
    with tempfile.TemporaryDirectory(prefix="gqs-") as temporary:
        report = classify_parts(
            classifier,
            paths,
            positions,
            where=where,
            parts=parts or Path(temporary),
            executor=LocalExecutor(processes),
            progress=progress,
        )
        report.refuse_none()
        whole = concatenate(report, positions, where, classifier.hash)
    whole = apply_prior(whole, classifier, chosen)
    return FieldsReport(whole, len(report.parts), report.set_aside, report.lacking)


def classify_parts(
    classifier: Classifier,
    paths: Sequence[Path],
    positions: Table | None = None,
    *,
    parts: Path,
    where: object = "positions",
    executor: Executor | None = None,
    progress: Progress = no_progress,
) -> PartsReport:
    """Classify many fields into a run store, one Parquet file each."""
    tasks, set_aside = group_tasks(paths)
    checked = None
    if positions is not None:
        checked = checked_positions(positions, where)
        set_aside += missing_positions(checked, where)
    codes = {BadInputError.exit_code} if set_aside else set()
    store = RunStore(parts.absolute())
    with only_writer(store.folder):
        _claim(store, classifier, checked)
        waiting = unfinished(store, tasks)
        options = RunOptions(store, ModelName.of(classifier), positions=checked)
        run_tasks(executor or LocalExecutor(), options, tasks, waiting, progress)
        store.tidy()
    found, lacking = {}, {}
    for task in tasks:
        record = store.record(task.name)
        assert record is not None  # written by the run
        if record["status"] == DONE:
            found[task.name] = store.part(task.name)
            if record["lacking"]:
                lacking[task.name] = record["lacking"]
        else:
            set_aside.append(record["reason"])
            codes.add(record["code"])
    return PartsReport(found, set_aside, lacking, worst(codes))


def _claim(store: RunStore, classifier: Classifier, positions: Table | None) -> None:
    """Start a run in the store; the parts of another model or other positions are removed."""
    columns = [] if positions is None else [positions[n].tolist() for n in positions.colnames]
    # The card contains the hash of the weights, calibration, edge policy and alignment;
    # typical.safetensors may be missing.
    card = hash_of([dict(classifier.card), classifier.novelty is not None])
    identity = {
        "gqs": __version__,
        "card": card,
        "engine": classifier.computes.name,
        "positions": hash_of(columns),
    }
    try:
        store.check_identity(identity)
    except UsageError:
        for path in store.folder.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    store.tidy()
    store.claim(identity)


def concatenate(report: PartsReport, positions: Table | None, where: object, model: str) -> Table:
    """The rows of all fields in one table, in the order of `positions` if given."""
    # A field without rows has no types of columns.
    some = [part for part in report.each() if len(part)] or [next(report.each())]
    whole = vstack(some, metadata_conflicts="silent")
    if positions is None:
        return whole
    return _one_row_each(whole, checked_positions(positions, where), model)


def _one_row_each(found: Table, positions: Table, model: str) -> Table:
    """The best row of each object, and a row flagged OUTSIDE for positions outside all fields."""
    classified = np.isfinite(np.asarray(found["p_star"]))
    whole = (np.asarray(found["flags"]) & int(tables.Flag.EDGE)) == 0
    best = found[np.lexsort((~whole, ~classified, np.asarray(found["objid"])))]
    best = best[np.unique(np.asarray(best["objid"]), return_index=True)[1]]
    missing = positions[~np.isin(positions["objid"], best["objid"])]
    if len(missing):
        for name in ("x", "y"):
            missing[name] = np.nan
        for name in tables.FIELD_COLUMNS:
            missing[name] = np.full(len(missing), NO_FIELD, dtype=np.int32)
        nothing = np.full((len(missing), 3), np.nan)
        flags = np.full(len(missing), int(tables.Flag.OUTSIDE), dtype=np.int32)
        unlike = np.full(len(missing), np.nan) if "unlike" in best.colnames else None
        nowhere = tables.predictions(missing, nothing, flags, model, unlike)
        best = vstack([best, nowhere], metadata_conflicts="silent")
    order = np.argsort(np.asarray(best["objid"]))
    return best[order[np.searchsorted(np.asarray(best["objid"])[order], positions["objid"])]]


def _typed(rows: Table) -> Table:
    """Rows whose text columns have the width that any field's may need."""
    rows["class"] = rows["class"].astype(f"U{max(map(len, labels.CLASSES))}")
    return rows


def write_parts(
    report: PartsReport, path: Path, finish: Callable[[Table], Table], made: Mapping[str, str]
) -> Counter[str]:
    """Write the rows of all fields to one Parquet file, a few fields at a time; counts by class.

    `finish` is applied to the rows of each field, such as a prior.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    from gqs.tables.parquet import as_arrow

    counts: Counter[str] = Counter()

    def write(file: IO[bytes]) -> None:
        first = _typed(finish(next(report.each())))
        first.meta |= made
        schema = as_arrow(first).schema
        with ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            waiting: list[Any] = []
            for number, rows in enumerate(report.each()):
                part = first if number == 0 else _typed(finish(rows))
                counts.update(np.asarray(part["class"]).astype(str).tolist())
                waiting.append(as_arrow(part).cast(schema))
                if sum(map(len, waiting)) >= _GROUP:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
            writer.write_table(pa.concat_tables([*waiting, schema.empty_table()]))

    write_atomically(path, write)
    return counts
