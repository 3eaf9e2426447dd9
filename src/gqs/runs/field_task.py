"""One field of a run: from its frames to its rows and its record in the run store.

A task may be killed at any moment, run twice, or run by two workers at once: files appear complete
under their names, and equal work writes equal rows.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table

from gqs import __version__, tables
from gqs.archive.explore import add_links
from gqs.cutouts.field import cut_field
from gqs.errors import (
    BadInputError,
    GqsError,
    IntegrityError,
    ModelError,
    NetworkError,
    ResourceError,
    UsageError,
)
from gqs.executors import Retry, report_step
from gqs.files import sha256
from gqs.imaging.frames import group_fields, identify
from gqs.model.cache import ModelName
from gqs.model.reweight import apply_prior
from gqs.runs.run_store import DONE, SET_ASIDE, Record, RunStore
from gqs.surveys.sdss import FieldId, FrameName

# Errors that every other field would have too; any other error costs only its field.
FATAL: Final = (ResourceError, ModelError, NetworkError)
TRIES: Final = 3  # of a field on a cluster, before it is set aside


@dataclass(frozen=True)
class FieldTask:
    """One field to classify: its name and its frames by band."""

    name: FieldId
    files: dict[str, Path]

    def __str__(self) -> str:
        return f"field {self.name}"


@dataclass(frozen=True)
class RunOptions:
    """What is the same for all fields of a run."""

    store: RunStore
    model: ModelName
    run: str = ""  # name of the client's run, to which tries are counted
    tries: int = 1  # of a field, before it is set aside
    positions: Table | None = None  # objects to classify instead of detections
    survey: bool = False  # whether rows get their prior, sets, links and the column `primary`
    prior: str | None = None  # as `apply_prior` takes it
    coverage: float | None = None  # as `apply_prior` takes it
    links: str | None = None  # data release of the column `link`; None for no such column
    provenance: Mapping[str, str] = field(default_factory=dict)  # metadata of each part
    version: str = __version__  # of gqs on the client


def group_tasks(paths: Sequence[Path]) -> tuple[list[FieldTask], list[str]]:
    """Group frames into fields, sorted by name; also a sentence for each file left out.

    Files named as in the archive are grouped by name, which is compared with the header when the
    frame is read; others by their header, for which a tenth of the file is decompressed.
    """
    fields, set_aside = group_fields(paths, lambda path: _name_of(path) or identify(path))
    return [FieldTask(name, files) for name, files in sorted(fields.items())], set_aside


def _name_of(path: Path) -> FrameName | None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    return FrameName.of_file(path.name)


def classify_task(options: RunOptions, task: FieldTask) -> Record | Retry:
    """Classify one field and write its rows and its record; `Retry` while tries are left."""
    if options.version != __version__:
        raise UsageError(
            f"A worker has gqs {__version__}, the client {options.version}. Install the same "
            "version everywhere."
        )
    number = options.store.begin_try(task.name, options.run, options.tries)
    if number > options.tries:
        reason = f"{task}: its worker died in each of {options.tries} tries; set aside."
        return set_aside(options, task, BadInputError(reason), options.tries)
    try:
        return _classify(options, task, number)
    except FATAL:
        raise
    except Exception as error:  # whatever a frame does to a library costs only its field
        if not isinstance(error, GqsError):
            reason = " ".join(str(error).split())[:400]
            error = BadInputError(f"{task}: {type(error).__name__} ({reason}); set aside.")
        if number < options.tries:
            return Retry(str(error))
        return set_aside(options, task, error, number)


def set_aside(options: RunOptions, task: FieldTask, error: GqsError, tries: int = 1) -> Record:
    """Write the record of a field that is set aside; rows of an earlier run are removed."""
    kind = IntegrityError if isinstance(error, IntegrityError) else BadInputError
    record: Record = {
        "status": SET_ASIDE,
        "reason": " ".join(str(error).split())[:400],
        "tries": tries,
        "code": kind.exit_code,
    }
    with suppress(OSError):  # the reason names a frame that has vanished
        record["frames"] = frame_states(task)
    options.store.part(task.name).unlink(missing_ok=True)
    return options.store.keep(task.name, record)


def frame_states(task: FieldTask) -> list[list[Any]]:
    """Band, name, size in bytes and modification time in ns of each frame."""
    states = [(band, path.name, path.stat()) for band, path in sorted(task.files.items())]
    return [[band, name, state.st_size, state.st_mtime_ns] for band, name, state in states]


def counts(rows: Table, part: Path) -> Record:
    """The entries of a record that describe a field's rows."""
    primary = np.ones(len(rows), dtype=bool)
    if "primary" in rows.colnames:
        primary = np.asarray(rows["primary"])
    classes = np.asarray(rows["class"])[primary].astype(str)
    names, numbers = np.unique(classes, return_counts=True)
    return {
        "rows": len(rows),
        "primary": int(primary.sum()),
        "classes": {str(name): int(count) for name, count in zip(names, numbers, strict=True)},
        "bytes": part.stat().st_size,
        "sha256": sha256(part),
    }


def _classify(options: RunOptions, task: FieldTask, number: int) -> Record:
    begin, frames = time.process_time(), frame_states(task)
    classifier = options.model.load()
    cutouts = cut_field(
        task.files,
        classifier.cutout_spec,
        options.positions,
        keep_outside=options.positions is None,
        name=task.name,
        on_step=report_step,
    )
    report_step("classify")
    rows = classifier.classify_cutouts(cutouts)
    if options.survey:
        rows = _for_survey(rows, classifier, options)
    report_step("write")
    part = tables.write(rows, options.store.part(task.name))
    lacking = [band for band in classifier.bands if band not in cutouts.bands]
    record = {
        "status": DONE,
        "tries": number,
        "frames": frames,
        "lacking": "".join(lacking),
        "blank": cutouts.blank,
        "shape": list(cutouts.shape),
        "corners": cutouts.corners.round(7).tolist(),
        "made": sha256(part),
        "cpu_s": round(time.process_time() - begin, 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "part": str(part.relative_to(options.store.folder)),
    }
    return options.store.keep(task.name, record | counts(rows, part))


def _for_survey(rows: Table, classifier: Any, options: RunOptions) -> Table:
    """Add links, prior, sets and the column `primary`, which is settled later."""
    if options.links is not None:
        add_links(rows, options.links)
    rows = apply_prior(rows, classifier, options.prior, options.coverage)
    rows["primary"] = np.ones(len(rows), dtype=bool)
    rows.meta |= options.provenance
    return tables.described(rows)
