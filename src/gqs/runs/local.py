"""Many fields on one machine: a child process a core takes a field from its frames to its rows.

Each child reads, aligns, detects and judges on one thread of its own, so all stages overlap and
nothing is oversubscribed. A finished field goes to disk as a part at once: memory does not grow
with the number of fields, and the same call after a stop goes on from the parts.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from astropy.table import Table, vstack

from gqs import __version__, labels, tables
from gqs.cutouts.field import NO_FIELD, checked_positions, cut_field, missing_positions
from gqs.errors import (
    BadInputError,
    GqsError,
    IntegrityError,
    ModelError,
    NetworkError,
    ResourceError,
    UsageError,
    worst,
)
from gqs.executors import processes as workers
from gqs.files import hash_of, write_atomically
from gqs.imaging.frames import group_fields, identify
from gqs.model.cache import ModelName
from gqs.model.classifier import Classifier
from gqs.surveys.sdss import FieldId, FrameName

# What makes every further field as useless as this one; anything else costs its field only.
FATAL: Final = (ResourceError, ModelError, NetworkError)
_GROUP: Final = 1 << 16  # rows of a row group
_TOLD: Final = 5  # reasons that one sentence can hold


@dataclass(frozen=True)
class Task:
    """One field to classify: its frames by band, and the file that its rows go to."""

    name: FieldId
    files: dict[str, Path]
    part: Path | None = None

    def __str__(self) -> str:
        return f"field {self.name}"


@dataclass(frozen=True)
class PartsReport:
    """What a run over fields left on disk."""

    # A Parquet file of Predictions for each field classified, in the order of their names
    parts: dict[FieldId, Path]
    set_aside: list[str] = field(default_factory=list)  # A sentence for each file or field left out
    # bands that the model takes and that a field has no frame of, or none with a signal, where
    # there are such
    lacking: dict[FieldId, str] = field(default_factory=dict)
    code: int = 0  # exit code of what was set aside; 0 where nothing was

    def each(self) -> Iterator[Table]:
        """Read one field after the other."""
        for path in self.parts.values():
            yield tables.read(path)

    def refuse_none(self) -> None:
        """Refuse a run in which no field at all was classified."""
        if self.parts:
            return
        kinds = {kind.exit_code: kind for kind in GqsError.__subclasses__()}
        told, rest = self.set_aside[:_TOLD], len(self.set_aside) - _TOLD
        more = [f"{rest} more were set aside."] if rest > 0 else []
        reasons = " ".join([*told, *more]) or "No frames were given."
        raise kinds.get(self.code, BadInputError)(f"No field could be classified. {reasons}")


@dataclass(frozen=True)
class FieldsReport:
    """What a run over fields gave.

    Attributes
    ----------
    predictions : Table
        One row for each object.
    fields : int
        Fields classified.
    set_aside : list of str
        A sentence for each file or field left out.
    lacking : dict of FieldId to str
        Bands that the model takes and that a field has no frame of, or none with a signal, where
        there are such.
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
    where: object = "positions",
    parts: Path | None = None,
    processes: int | None = None,
    progress: workers.Progress = workers.silent,
) -> FieldsReport:
    """Classify many fields in child processes, and return all their rows.

    Parameters
    ----------
    classifier : Classifier
        The judge; children load it from its folder.
    paths : sequence of Path
        Frames of any number of fields, as `tasks_of` sorts them.
    positions : Table, optional
        Objects to judge instead of detected ones; each goes to the field that holds it, and one
        that none holds is kept as a row flagged OUTSIDE.
    where : object
        What errors about the positions name.
    parts : Path, optional
        Folder that keeps each finished field, so that the same call after a stop goes on.
    processes : int, optional
        Number of children; by default one a core.
    progress : callable
        Told how many fields are done.

    Returns
    -------
    FieldsReport
        Predictions in the order of the fields' names, or of `positions`.

    Raises
    ------
    GqsError
        If no field at all could be classified: of the class that the worst reason has.
    """
    with tempfile.TemporaryDirectory(prefix="gqs-") as passing:
        report = classify_parts(
            classifier,
            paths,
            positions,
            where=where,
            parts=parts or Path(passing),
            processes=processes,
            progress=progress,
        )
        report.refuse_none()
        whole = gathered(report, positions, where, classifier.hash)
    return FieldsReport(whole, len(report.parts), report.set_aside, report.lacking)


def classify_parts(
    classifier: Classifier,
    paths: Sequence[Path],
    positions: Table | None = None,
    *,
    parts: Path,
    where: object = "positions",
    processes: int | None = None,
    progress: workers.Progress = workers.silent,
) -> PartsReport:
    """Classify many fields in child processes; each leaves a file of its rows."""
    tasks, set_aside = tasks_of(paths)
    codes = {BadInputError.exit_code} if set_aside else set()
    checked = None
    if positions is not None:
        checked = checked_positions(positions, where)
        nowhere = missing_positions(checked, where)
        set_aside += nowhere
        codes |= {BadInputError.exit_code} if nowhere else set()
    named = _parts(parts, classifier, tasks, checked)
    done = {name for name, path in named.items() if path.is_file()}
    waiting = [replace(task, part=named[task.name]) for task in tasks if task.name not in done]
    work = partial(_classify, model=ModelName.of(classifier), positions=checked)
    blank: dict[FieldId, str] = {}
    before, aside = len(done), 0
    progress(before, len(tasks), "")
    for number, outcome in enumerate(workers.run(work, waiting, workers=processes), start=1):
        if isinstance(outcome.error, FATAL):
            raise outcome.error
        if outcome.error is None:
            done.add(outcome.item.name)
            blank[outcome.item.name] = outcome.result or ""
        else:
            aside += 1
            set_aside.append(str(outcome.error))
            contradicts = isinstance(outcome.error, IntegrityError)
            codes.add((IntegrityError if contradicts else BadInputError).exit_code)
        progress(before + number, len(tasks), f"{aside} set aside" if aside else "")
    files = {task.name: task.files for task in tasks}
    lacking = {}
    for name in sorted(done):
        seen = set(files[name]) - set(blank.get(name, ""))
        if missing := "".join(band for band in classifier.bands if band not in seen):
            lacking[name] = missing
    return PartsReport(
        {name: named[name] for name in sorted(done)}, set_aside, lacking, worst(codes)
    )


def gathered(report: PartsReport, positions: Table | None, where: object, model: str) -> Table:
    """Put the rows of all fields into one table."""
    # A field without rows does not tell the types of its columns.
    some = [part for part in report.each() if len(part)] or [next(report.each())]
    whole = vstack(some, metadata_conflicts="silent")
    if positions is None:
        return whole
    return _one_row_each(whole, checked_positions(positions, where), model)


def _one_row_each(found: Table, positions: Table, model: str) -> Table:
    """Keep each object's best row, and add a flagged one for positions on no field."""
    judged = np.isfinite(np.asarray(found["p_star"]))
    whole = (np.asarray(found["flags"]) & int(tables.Flag.EDGE)) == 0
    best = found[np.lexsort((~whole, ~judged, np.asarray(found["objid"])))]
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


def write_parts(
    report: PartsReport, path: Path, made: Mapping[str, str] | None = None
) -> Counter[str]:
    """Put the rows of all fields into one Parquet file; a few fields at a time are held."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    from gqs.tables.parquet import as_arrow

    counts: Counter[str] = Counter()

    def write(file: IO[bytes]) -> None:
        first = next(report.each())
        first["class"] = first["class"].astype(f"U{max(map(len, labels.CLASSES))}")
        first.meta |= made or {}
        schema = as_arrow(first).schema
        with ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            waiting: list[Any] = []
            for part in report.each():
                counts.update(np.asarray(part["class"]).astype(str).tolist())
                waiting.append(as_arrow(part).cast(schema))
                if sum(map(len, waiting)) >= _GROUP:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
            writer.write_table(pa.concat_tables([*waiting, schema.empty_table()]))

    write_atomically(path, write)
    return counts


def tasks_of(paths: Sequence[Path]) -> tuple[list[Task], list[str]]:
    """Sort frames into fields: by their names where the archive named them, else by their headers.

    A header costs the decompression of an archive's first block, a tenth of the whole. Whoever
    reads the frame compares its header with what was believed of its name.
    """
    fields, set_aside = group_fields(paths, lambda path: _named(path) or identify(path))
    return [Task(name, files) for name, files in sorted(fields.items())], set_aside


def _named(path: Path) -> FrameName | None:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    return FrameName.of_file(path.name)


def _classify(task: Task, model: ModelName, positions: Table | None) -> str:
    """In a child: one field from its frames to its part on disk; returns its blank bands."""
    classifier = model.load()
    cutouts = cut_field(
        task.files, classifier.cutout_spec, positions, keep_outside=False, name=task.name
    )
    found = classifier.classify_cutouts(cutouts)
    assert task.part is not None
    tables.write(found, task.part)
    return cutouts.blank


def _parts(
    folder: Path, classifier: Classifier, tasks: Sequence[Task], positions: Table | None
) -> dict[FieldId, Path]:
    """Name each field's finished part after all that its content depends on."""
    asked = [] if positions is None else [positions[n].tolist() for n in positions.colnames]
    # The card names weights, calibration, edge and shift; typical.safetensors may be deleted.
    model = [dict(classifier.card), classifier.typical is not None, classifier.computes.name]
    common = hash_of([__version__, model, asked])
    found = {}
    for task in tasks:
        states = {band: (str(path), path.stat()) for band, path in task.files.items()}
        frames = {b: (path, s.st_size, s.st_mtime_ns) for b, (path, s) in states.items()}
        key = hash_of([common, frames])
        found[task.name] = folder / f"{task.name}-{key[:16]}.parquet"
    return found
