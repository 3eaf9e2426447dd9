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
from gqs.classify.field import How, judge, prepare
from gqs.classify.ledger import DONE, SET_ASIDE, Ledger, Record
from gqs.classify.loading import ModelName
from gqs.classify.many import FATAL, Task
from gqs.classify.overlaps import (
    CHAIN,
    SAME,
    edge_distance,
    near_any,
    overlapping,
    primary,
    unit_vectors,
)
from gqs.classify.priors import find_prior
from gqs.classify.weighing import weigh
from gqs.errors import BadInputError, GqsError, IntegrityError, UsageError
from gqs.files import hash_of, sha256
from gqs.survey.explore import add_links
from gqs.survey.sdss import FieldId
from gqs.workers import TIME_LIMIT_S

TRIES: Final = 3  # of a field, before it is set aside
AGAIN: Final = "again"  # status of a try that failed while others are left
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What is the same for all fields of a survey.

    Attributes
    ----------
    ledger : Ledger
        The survey's folder.
    model : ModelName
        The judge.
    run : str
        Name of the client's run, whose tries count.
    prior : str or None
        As `priors.find_prior` takes it.
    coverage : float or None
        As `weighing.weigh` takes it.
    links : str or None
        Data release whose pages the column `link` leads to; None for no such column.
    made : mapping
        What each part's metadata keep of how it came about.
    version : str
        Of gqs, on the client's machine.
    """

    ledger: Ledger
    model: ModelName
    run: str
    prior: str | None = None
    coverage: float | None = None
    links: str | None = None
    made: Mapping[str, str] = field(default_factory=dict)
    version: str = __version__


def classify_part(job: Job, task: Task) -> Record:
    """Classify one field and write its part and its record.

    Parameters
    ----------
    job : Job
        How.
    task : Task
        The field's name and frames.

    Returns
    -------
    dict
        The record: `status` is `done`, `set aside` after the third try, or `again` with the
        `reason` of this one.

    Raises
    ------
    UsageError
        If this worker has another gqs than the client, or does not see the survey's folder.
    ResourceError
        If the disk refuses.
    ModelError
        If the model folder is not the client's.
    """
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
    """Tell which of a field's rows are primary beside those of the fields that overlap it.

    Parameters
    ----------
    job : Job
        The survey.
    name : FieldId
        The field.
    records : dict of FieldId to dict
        Its own and those of the fields that overlap it, all done: as the client read them before
        any of these was settled. A neighbour that is being settled meanwhile has for a moment a
        part and a record that do not fit each other; its rows are the same all the while.

    Returns
    -------
    dict
        The field's record as it is now.
    """
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
    """List the fields of which it has to be told, or told again, which rows are primary.

    Parameters
    ----------
    ledger : Ledger
        The survey's folder.

    Returns
    -------
    known : dict of FieldId to dict
        Of every field that is done, what `settle_part` needs of its record and no more: a survey
        has many.
    wanted : dict of FieldId to list of FieldId
        For each field whose own rows or neighbours have changed, itself and those neighbours.
    """
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
    """Hash what decides which rows of a field are primary: its own rows and its neighbours'.

    Parameters
    ----------
    name : FieldId
        The field.
    records : dict
        Of the field and of those that overlap it.

    Returns
    -------
    str
        Equal where nothing has to be told again.
    """
    rows = sorted((str(one), record["made"]) for one, record in records.items())
    return hash_of([str(name), rows])


def frames_seen(task: Task) -> list[list[Any]]:
    """Name a field's frames with size and time, so that replaced ones are seen.

    Parameters
    ----------
    task : Task
        The field.

    Returns
    -------
    list of list
        Band, name, size in bytes and time of change (ns) of each.
    """
    states = [(band, path.name, path.stat()) for band, path in sorted(task.files.items())]
    return [[band, name, state.st_size, state.st_mtime_ns] for band, name, state in states]


def _done(job: Job, task: Task, number: int) -> Record:
    begin, seen = time.process_time(), frames_seen(task)
    classifier = job.model.load()
    prepared = prepare(task.files, How.of(classifier), name=task.name)
    found = judge(classifier, prepared)
    if job.links is not None:
        add_links(found, job.links)
    prior = None if job.prior is None else find_prior(job.prior)
    found = weigh(found, classifier, prior, job.coverage)
    found["primary"] = np.ones(len(found), dtype=bool)
    found.meta |= job.made
    part = tables.write(tables.described(found), job.ledger.part(task.name))
    lacking = [band for band in classifier.bands if band not in prepared.bands]
    record = {
        "status": DONE,
        "tries": number,
        "frames": seen,
        "lacking": "".join(lacking),
        "blank": "".join(band for band in lacking if band in task.files),
        "shape": list(prepared.shape),
        "corners": prepared.corners.round(7).tolist(),
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
