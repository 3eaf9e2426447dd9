"""What a worker of a cluster does: one field from its frames to its part, and which rows count.

Both jobs may be killed at any moment, done twice or done by two workers at once: files appear
whole under their names, and equal work writes equal rows.
"""

from __future__ import annotations

import faulthandler
import resource
import threading
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import __version__, tables
from gqs.archive.explore import add_links
from gqs.cutouts.field import cut_field
from gqs.errors import BadInputError, GqsError, IntegrityError, UsageError
from gqs.executors.processes import TIME_LIMIT_S
from gqs.files import hash_of, sha256
from gqs.model.cache import ModelName
from gqs.model.reweight import weigh
from gqs.probability.priors import find_prior
from gqs.runs.local import FATAL, Task
from gqs.runs.overlaps import (
    CHAIN,
    SAME,
    edge_distance,
    near_any,
    overlapping,
    primary,
    unit_vectors,
)
from gqs.runs.run_store import DONE, SET_ASIDE, Ledger, Record
from gqs.surveys.sdss import FieldId

TRIES: Final = 3  # of a field, before it is set aside
AGAIN: Final = "again"  # status of a try that failed while others are left
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What is the same for all fields of a survey."""

    ledger: Ledger  # the survey's folder
    model: ModelName  # the judge
    run: str  # name of the client's run, whose tries count
    prior: str | None = None  # as `priors.find_prior` takes it
    coverage: float | None = None  # as `weighing.weigh` takes it
    # data release whose pages the column `link` leads to; None for no such column
    links: str | None = None
    # what each part's metadata keep of how it came about
    made: Mapping[str, str] = field(default_factory=dict)
    version: str = __version__  # of gqs, on the client's machine


def classify_part(job: Job, task: Task) -> Record:
    """Classify one field and write its part and its record."""
    if job.version != __version__:
        raise UsageError(
            f"A worker has gqs {__version__}, the client {job.version}. Install one version on all."
        )
    with _ALONE, _time_limit():
        number = job.ledger.begin_try(task.name, job.run, TRIES)
        if number > TRIES:
            reason = f"{task}: its worker died or was stopped in each of {TRIES} tries; set aside."
            return _set_aside(job, task, reason, TRIES)
        try:
            return _done(job, task, number)
        except FATAL:
            raise
        except Exception as error:  # whatever a frame does to a library costs its field only
            reason = " ".join(str(error).split())[:400]
            if not isinstance(error, GqsError):
                reason = f"{task}: {type(error).__name__} ({reason}); set aside."
            if number == TRIES:
                contradicts = isinstance(error, IntegrityError)
                kind = IntegrityError if contradicts else BadInputError
                return _set_aside(job, task, reason, number, kind.exit_code)
            return {"status": AGAIN, "reason": reason, "tries": number}


def settle_part(job: Job, name: FieldId, records: dict[FieldId, Record]) -> Record:
    """Tell which of a field's rows are primary beside those of the fields that overlap it."""
    ledger = job.ledger
    own = ledger.record(name)
    if own is None or own["status"] != DONE:
        return {}
    found = tables.read(ledger.part(name))
    chosen = _primary(ledger, name, found, records)
    if (chosen != np.asarray(found["primary"])).any():
        found["primary"][:] = chosen
        tables.write(found, ledger.part(name))
    return ledger.keep(
        name,
        own | {"settled": settled_with(name, records)} | _counts(found, ledger.part(name)),
    )


def unsettled(ledger: Ledger) -> tuple[dict[FieldId, Record], dict[FieldId, list[FieldId]]]:
    """List the fields of which it has to be told, or told again, which rows are primary."""
    known: dict[FieldId, Record] = {}
    corners, settled = array("d"), []
    for name, record in ledger.records():
        if record["status"] == DONE:
            known[name] = {key: record[key] for key in ("made", "shape")}
            corners.extend(chain.from_iterable(record["corners"]))
            settled.append(record.get("settled"))
    names = list(known)
    near = overlapping(np.array(corners).reshape(-1, 4, 2))
    wanted = {}
    for name, some, before in zip(names, near, settled, strict=True):
        fields = [name, *(names[i] for i in some)]
        if before != settled_with(name, {one: known[one] for one in fields}):
            wanted[name] = fields
    return known, wanted


def settled_with(name: FieldId, records: dict[FieldId, Record]) -> str:
    """Hash what decides which rows of a field are primary: its own rows and its neighbours'."""
    rows = sorted((str(one), record["made"]) for one, record in records.items())
    return hash_of([str(name), rows])


def frames_seen(task: Task) -> list[list[Any]]:
    """Name a field's frames with size and time, so that replaced ones are seen."""
    states = [(band, path.name, path.stat()) for band, path in sorted(task.files.items())]
    return [[band, name, state.st_size, state.st_mtime_ns] for band, name, state in states]


def _done(job: Job, task: Task, number: int) -> Record:
    begin, seen = time.process_time(), frames_seen(task)
    classifier = job.model.load()
    cutouts = cut_field(task.files, classifier.cutout_spec, name=task.name)
    found = classifier.classify_cutouts(cutouts)
    if job.links is not None:
        add_links(found, job.links)
    prior = None if job.prior is None else find_prior(job.prior)
    found = weigh(found, classifier, prior, job.coverage)
    found["primary"] = np.ones(len(found), dtype=bool)
    found.meta |= job.made
    part = tables.write(tables.described(found), job.ledger.part(task.name))
    lacking = [band for band in classifier.bands if band not in cutouts.bands]
    record = {
        "status": DONE,
        "tries": number,
        "frames": seen,
        "lacking": "".join(lacking),
        "blank": cutouts.blank,
        "shape": list(cutouts.shape),
        "corners": cutouts.corners.round(7).tolist(),
        "made": sha256(part),
        "cpu_s": round(time.process_time() - begin, 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "part": str(part.relative_to(job.ledger.folder)),
    }
    return job.ledger.keep(task.name, record | _counts(found, part))


def _set_aside(
    job: Job, task: Task, reason: str, tries: int, code: int = BadInputError.exit_code
) -> Record:
    record: Record = {"status": SET_ASIDE, "reason": reason, "tries": tries, "code": code}
    with suppress(OSError):  # a vanished frame is told by the reason
        record["frames"] = frames_seen(task)
    # Rows of an earlier run, of frames that were replaced since, would contradict the record.
    job.ledger.part(task.name).unlink(missing_ok=True)
    return job.ledger.keep(task.name, record)


def _counts(found: Table, part: Path) -> Record:
    first = np.asarray(found["primary"])
    names, counts = np.unique(np.asarray(found["class"])[first].astype(str), return_counts=True)
    return {
        "rows": len(found),
        "primary": int(first.sum()),
        "classes": {str(name): int(count) for name, count in zip(names, counts, strict=True)},
        "bytes": part.stat().st_size,
        "sha256": sha256(part),
    }


def _primary(
    ledger: Ledger, name: FieldId, found: Table, records: dict[FieldId, Record]
) -> NDArray[np.bool_]:
    """Rank a field's rows among all rows near them; no more than those are held."""
    own = unit_vectors(np.asarray(found["ra"], float), np.asarray(found["dec"], float))
    columns: dict[str, list[NDArray[Any]]] = {key: [] for key in ("ra", "dec", "d", "f", "id")}
    for number, (one, record) in enumerate(sorted(records.items())):
        rows = found if one == name else tables.read(ledger.part(one))
        ra, dec, x, y = (np.asarray(rows[key], dtype=float) for key in ("ra", "dec", "x", "y"))
        keep = np.ones(len(rows), dtype=bool)
        if one != name:
            keep = near_any(unit_vectors(ra, dec), own, CHAIN * SAME)
        height, width = record["shape"]
        distance = edge_distance(x, y, (height, width))
        field = np.full(len(rows), number)
        values = (ra, dec, distance, field, np.asarray(rows["objid"]))
        for key, value in zip(columns, values, strict=True):
            columns[key].append(value[keep])
    ra, dec, distance, field, objid = (np.concatenate(values) for values in columns.values())
    chosen = primary(ra, dec, distance, field, objid)
    return np.asarray(chosen[field == sorted(records).index(name)])


@contextmanager
def _time_limit() -> Iterator[None]:
    """End this process where a library hangs: the cluster replaces it, and the try counts."""
    faulthandler.dump_traceback_later(TIME_LIMIT_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
