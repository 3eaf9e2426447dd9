"""The folder of a run: a part and a record for each field, and the identity of the run.

::

    survey.json               identity of the run; another model or other options are refused
    objects/RUN/FIELD.parquet rows of a field: together one Parquet data set
    records/RUN/FIELD.json    state of a field, written after its part
    tries/RUN/FIELD.n         started tries of the current run
    manifest.parquet          the records as one table; only while nothing is running

Many processes on many machines write here, and any of them may be killed at any moment. So there
is no database and no file with two writers: parts and records appear complete under their names,
and a field without both, or whose part differs in size from its record, is not done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table

from gqs import labels, tables
from gqs.errors import UsageError
from gqs.executors import TIME_LIMIT_S
from gqs.files import disk_errors, sweep, write_json
from gqs.surveys.sdss import FieldId

ABOUT: Final = "survey.json"
MANIFEST: Final = "manifest.parquet"
FORMAT: Final = 1
DONE: Final = "done"
SET_ASIDE: Final = "set aside"

Record = dict[str, Any]


@dataclass(frozen=True)
class RunStore:
    """The folder of a run."""

    folder: Path  # visible under this name to the client and to every worker

    def engine(self) -> str | None:
        """Engine that the run was started with; None for a new folder."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((self.folder / ABOUT).read_text("utf-8"))["engine"])
        return None

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Refuse a folder that is not a run's, or a run with another identity."""
        path, wanted = self.folder / ABOUT, {"format": FORMAT, **identity}
        if not path.is_file():
            strange = [p.name for p in self.folder.iterdir() if not p.name.startswith(".")]
            if strange:
                raise UsageError(
                    f"{self.folder}: contains {sorted(strange)[0]} but no {ABOUT}, so it is not a "
                    "survey. Name an empty or a new folder."
                )
            return
        try:
            found = json.loads(path.read_text("utf-8"))
            differ = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        except (ValueError, AttributeError) as error:
            raise UsageError(
                f"{path}: is damaged. Name another folder, or delete this one to start again."
            ) from error
        if differ:
            key = differ[0]
            raise UsageError(
                f"{self.folder}: was started {_with(key, found)}, not {_with(key, wanted)}; rows "
                "are not mixed. Name another folder, or delete this one to start again."
            )

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Write the identity of a new run."""
        if not (self.folder / ABOUT).is_file():
            write_json(self.folder / ABOUT, {"format": FORMAT, **identity})

    def part(self, name: FieldId) -> Path:
        """File of a field's rows."""
        return self.folder / "objects" / f"{name.run:06d}" / f"{name}.parquet"

    def _record(self, name: FieldId) -> Path:
        return self.folder / "records" / f"{name.run:06d}" / f"{name}.json"

    def keep(self, name: FieldId, record: Record) -> Record:
        """Write the record of a field, replacing an earlier one; returns it."""
        write_json(self._record(name), record)
        return record

    def record(self, name: FieldId) -> Record | None:
        """Record of a field; None if it is not done."""
        return self._checked(self._record(name))

    def records(self) -> Iterator[tuple[FieldId, Record]]:
        """Records of all fields, sorted by name."""
        for path in sorted((self.folder / "records").glob("*/*.json")):
            record = self._checked(path)
            if record is not None:
                yield FieldId.parse(path.stem), record

    def _checked(self, path: Path) -> Record | None:
        try:
            record = json.loads(path.read_text("utf-8"))
            name, status = FieldId.parse(path.stem), record["status"]
            if status == DONE and self.part(name).stat().st_size != record["bytes"]:
                return None
        except (OSError, ValueError, KeyError, TypeError, UsageError):
            return None
        return record if status in (DONE, SET_ASIDE) else None

    def begin_try(self, name: FieldId, run: str, most: int) -> int:
        """Mark the start of a try; returns its number, or `most + 1` if no try is left."""
        if not (self.folder / ABOUT).is_file():
            raise UsageError(
                f"{self.folder}: worker {os.uname().nodename} finds no {ABOUT} there. Name a "
                "folder on a file system that all workers share."
            )
        folder = self.folder / "tries" / run
        with disk_errors(folder, "starting a field"):
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, most + 1):
                with (
                    contextlib.suppress(FileExistsError),
                    (folder / f"{name}.{number}").open("x") as mark,
                ):
                    mark.write(f"{os.uname().nodename} {os.getpid()}")  # for debugging
                    return number
        return most + 1

    def tidy(self) -> None:
        """Remove marks of tries, and temporary files that no process can be using."""
        shutil.rmtree(self.folder / "tries", ignore_errors=True)
        for kind in ("objects", "records"):
            for folder in (self.folder / kind).glob("*/"):
                sweep(folder, older_than_s=TIME_LIMIT_S)  # no field takes longer

    def unsettle(self) -> None:
        """Remove the manifest: while fields are being classified, primary rows are not settled."""
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def settle(self, made: Mapping[str, str] | None = None) -> Path:
        """Write all records as the manifest."""
        unused = ("frames", "corners", "made", "settled")  # most of a record's size
        rows = [
            (name, {key: value for key, value in record.items() if key not in unused})
            for name, record in self.records()
        ]
        table = Table()
        for i, column in enumerate(("run", "camcol", "field")):
            table[column] = np.array([name[i] for name, _ in rows], dtype=np.int32)
        for key in ("status", "reason", "part", "lacking", "blank", "sha256"):
            table[key] = np.array([str(record.get(key, "")) for _, record in rows], dtype=str)
        for key in ("code", "rows", "primary", "tries", "bytes"):
            table[key] = np.array([record.get(key, 0) for _, record in rows], dtype=np.int64)
        for name in (*labels.CLASSES, ""):
            counts = [record.get("classes", {}).get(name, 0) for _, record in rows]
            table[name.lower() or "not_judged"] = np.array(counts, dtype=np.int64)
        table["cpu_s"] = np.array([record.get("cpu_s", np.nan) for _, record in rows], dtype=float)
        table["cpu_s"].unit = "s"
        table.meta |= {"about": "a row a field; counts of classes are of primary rows"}
        table.meta |= made or {}
        return tables.write(table, self.folder / MANIFEST)


def _with(key: str, made: Mapping[str, Any]) -> str:
    """One entry of the identity as text."""
    if (value := made.get(key)) is None:
        return f"without {key}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"with {key} {text if len(text) < 40 else f'{text[:20]}...'}"
