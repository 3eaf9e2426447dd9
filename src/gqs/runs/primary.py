"""Primary rows: which row of an object counts where the fields of a survey overlap."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import tables
from gqs.files import hash_of
from gqs.runs.field_task import counts
from gqs.runs.overlaps import (
    CHAIN,
    SAME,
    edge_distance,
    near_any,
    overlapping,
    primary,
    unit_vectors,
)
from gqs.runs.run_store import DONE, Record, RunStore
from gqs.surveys.sdss import FieldId


@dataclass(frozen=True)
class SettleTask:
    """A field whose primary rows are to be settled, with the records of its neighbours and itself.

    The records are as the client read them before any of these fields was settled. While a
    neighbour is being settled its part and record may disagree for a moment, but its rows are the
    same.
    """

    name: FieldId
    records: dict[FieldId, Record]

    def __str__(self) -> str:
        return f"overlaps of field {self.name}"


def settle_field(store: RunStore, task: SettleTask) -> Record:
    """Mark the primary rows of a field; returns its new record."""
    name = task.name
    record = store.record(name)
    if record is None or record["status"] != DONE:
        return {}
    rows = tables.read(store.part(name))
    chosen = _primary(store, name, rows, task.records)
    if (chosen != np.asarray(rows["primary"])).any():
        rows["primary"][:] = chosen
        tables.write(rows, store.part(name))
    settled = {"settled": _settled_with(name, task.records)}
    return store.keep(name, record | settled | counts(rows, store.part(name)))


def unsettled(store: RunStore) -> tuple[int, list[SettleTask]]:
    """Number of finished fields, and those whose own rows or neighbours have changed."""
    known: dict[FieldId, Record] = {}
    corners, settled = array("d"), []
    for name, record in store.records():
        if record["status"] == DONE:
            # Only what `settle_field` needs: a survey has many records.
            known[name] = {key: record[key] for key in ("made", "shape")}
            corners.extend(chain.from_iterable(record["corners"]))
            settled.append(record.get("settled"))
    names = list(known)
    neighbours = overlapping(np.array(corners).reshape(-1, 4, 2))
    tasks = []
    for name, near, before in zip(names, neighbours, settled, strict=True):
        records = {other: known[other] for other in (name, *(names[i] for i in near))}
        if before != _settled_with(name, records):
            tasks.append(SettleTask(name, records))
    return len(known), tasks


def _settled_with(name: FieldId, records: dict[FieldId, Record]) -> str:
    """Hash of what decides which rows of a field are primary: its own and neighbouring rows."""
    rows = sorted((str(other), record["made"]) for other, record in records.items())
    return hash_of([str(name), rows])


def _primary(
    store: RunStore, name: FieldId, rows: Table, records: dict[FieldId, Record]
) -> NDArray[np.bool_]:
    """Whether each row of a field is primary, (n,); only rows near it are in memory."""
    own = unit_vectors(np.asarray(rows["ra"], float), np.asarray(rows["dec"], float))
    columns: dict[str, list[NDArray[Any]]] = {key: [] for key in ("ra", "dec", "d", "f", "id")}
    for number, (other, record) in enumerate(sorted(records.items())):
        table = rows if other == name else tables.read(store.part(other))
        ra, dec, x, y = (np.asarray(table[key], dtype=float) for key in ("ra", "dec", "x", "y"))
        keep = np.ones(len(table), dtype=bool)
        if other != name:
            keep = near_any(unit_vectors(ra, dec), own, CHAIN * SAME)
        height, width = record["shape"]
        distance = edge_distance(x, y, (height, width))
        field = np.full(len(table), number)
        values = (ra, dec, distance, field, np.asarray(table["objid"]))
        for key, value in zip(columns, values, strict=True):
            columns[key].append(value[keep])
    ra, dec, distance, field, objid = (np.concatenate(values) for values in columns.values())
    chosen = primary(ra, dec, distance, field, objid)
    return np.asarray(chosen[field == sorted(records).index(name)])
