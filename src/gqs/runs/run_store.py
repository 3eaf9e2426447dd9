"""A survey's folder: a part and a record a field, and what both were made with.

::

    survey.json               what all rows were made with; another model or option is refused
    objects/RUN/FIELD.parquet rows of a field: together one Parquet data set
    records/RUN/FIELD.json    what became of a field, written after its part
    tries/RUN/FIELD.n         begun tries of the run that is under way
    manifest.parquet          the records as one table; only where nothing is under way

Many processes on many machines write here, and any of them may be killed at any moment. So there
is no database and no file that two write: parts and records appear whole under their names, and a
field without both, or whose part has another size than its record says, has not been done.
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
from gqs.executors.processes import TIME_LIMIT_S
from gqs.files import disk_errors, sweep, write_json
from gqs.surveys.sdss import FieldId

ABOUT: Final = "survey.json"
MANIFEST: Final = "manifest.parquet"
FORMAT: Final = 1
DONE: Final = "done"
SET_ASIDE: Final = "set aside"

Record = dict[str, Any]


@dataclass(frozen=True)
class Ledger:
    """The folder of a survey."""

    folder: Path  # seen under this name by the client and by every worker

    def engine(self) -> str | None:
        """Name the engine that rows were made with so far."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((self.folder / ABOUT).read_text("utf-8"))["engine"])
        return None

    def refuse_another(self, made_with: Mapping[str, Any]) -> None:
        """Refuse a folder that is no survey's, or one of other rows."""
        path, wanted = self.folder / ABOUT, {"format": FORMAT, **made_with}
        if not path.is_file():
            strange = [p.name for p in self.folder.iterdir() if not p.name.startswith(".")]
            if strange:
                raise UsageError(
                    f"{self.folder}: holds {sorted(strange)[0]}, but no {ABOUT}, so it is no "
                    "survey. Name an empty or a new folder."
                )
            return
        try:
            found = json.loads(path.read_text("utf-8"))
            differ = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        except (ValueError, AttributeError) as error:
            raise UsageError(
                f"{path}: is damaged. Name another folder, or delete this one to begin anew."
            ) from error
        if differ:
            key = differ[0]
            raise UsageError(
                f"{self.folder}: was begun {_with(key, found)}, not {_with(key, wanted)}, and rows "
                "are not mixed. Name another folder, or delete this one to begin anew."
            )

    def claim(self, made_with: Mapping[str, Any]) -> None:
        """Begin a survey in a folder that `refuse_another` lets pass, or go on with it."""
        if not (self.folder / ABOUT).is_file():
            write_json(self.folder / ABOUT, {"format": FORMAT, **made_with})

    def part(self, name: FieldId) -> Path:
        """Name a field's rows."""
        return self.folder / "objects" / f"{name.run:06d}" / f"{name}.parquet"

    def _record(self, name: FieldId) -> Path:
        return self.folder / "records" / f"{name.run:06d}" / f"{name}.json"

    def keep(self, name: FieldId, record: Record) -> Record:
        """Write what became of a field; an earlier record of it is replaced."""
        write_json(self._record(name), record)
        return record

    def record(self, name: FieldId) -> Record | None:
        """Read what became of a field."""
        return self._checked(self._record(name))

    def records(self) -> Iterator[tuple[FieldId, Record]]:
        """Read what became of all fields."""
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
        """Leave a mark that a try begins: what a killed worker leaves behind."""
        if not (self.folder / ABOUT).is_file():
            raise UsageError(
                f"{self.folder}: worker {os.uname().nodename} sees no {ABOUT} there. Name a folder "
                "on a file system that all workers share."
            )
        folder = self.folder / "tries" / run
        with disk_errors(folder, "beginning a field"):
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, most + 1):
                with (
                    contextlib.suppress(FileExistsError),
                    (folder / f"{name}.{number}").open("x") as mark,
                ):
                    mark.write(f"{os.uname().nodename} {os.getpid()}")  # for whoever looks for it
                    return number
        return most + 1

    def tidy(self) -> None:
        """Remove marks and temporary files that nobody can be using any more."""
        shutil.rmtree(self.folder / "tries", ignore_errors=True)
        for kind in ("objects", "records"):
            for folder in (self.folder / kind).glob("*/"):
                sweep(folder, older_than_s=TIME_LIMIT_S)  # no field is worked on for longer

    def unsettle(self) -> None:
        """Take the manifest away: while work is under way, primary rows are not settled."""
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def settle(self, made: Mapping[str, str] | None = None) -> Path:
        """Gather all records into the manifest."""
        unused = ("frames", "corners", "made", "settled")  # most of a record, and a survey has many
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
    """Say what rows were made with, of one key."""
    if (value := made.get(key)) is None:
        return f"without {key}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"with {key} {text if len(text) < 40 else f'{text[:20]}...'}"
