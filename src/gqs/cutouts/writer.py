"""Who may write a store, and how it is closed: one writer, one request, whole shards."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack

from gqs import __version__, files, tables
from gqs.cutouts.shards import COLUMNS, DTYPES, OPTIONAL, ORIGIN, SIMULATED, read_mark
from gqs.cutouts.store import (
    FORMAT,
    CutoutStore,
    content_hash,
    manifest_hash,
    read_json,
    unknown_format,
)
from gqs.errors import BadInputError, UsageError


class StoreWriter(contextlib.AbstractContextManager["StoreWriter"]):
    """The one process that may write a store; its children write shards for it."""

    def __init__(self, path: Path, bands: str, form: str, edge: str, made: dict[str, Any]) -> None:
        if form not in DTYPES:
            raise UsageError(f"Unknown form {form!r}. Stores are {' or '.join(DTYPES)}.")
        self.path = Path(path)
        self._request = {
            "format": FORMAT,
            "bands": bands,
            "form": form,
            "edge": edge,
            "made": json.loads(json.dumps(made, default=str)),
        }
        self._lock = files.only_writer(self.path)

    def __enter__(self) -> StoreWriter:
        if self.path.is_dir() and not (self.path / "request.json").exists():
            strangers = [p.name for p in self.path.iterdir() if not p.name.startswith(".")]
            if strangers:
                raise UsageError(
                    f"{self.path}: holds other files ({sorted(strangers)[0]}). "
                    "Name a new or empty folder for the store."
                )
        self._lock.__enter__()
        try:
            files.sweep(self.path / "shards", older_than_s=0.0)
            self._check_request()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        self._lock.__exit__(*exception)

    def _check_request(self) -> None:
        path = self.path / "request.json"
        if not path.exists():
            files.write_json(path, self._request)
            return
        earlier = read_json(path)
        if earlier.get("format") != FORMAT:
            raise unknown_format(self.path, earlier.get("format"))
        flat, earlier_flat = _flat(self._request), _flat(earlier)
        changed = [key for key in flat | earlier_flat if flat.get(key) != earlier_flat.get(key)]
        if changed:
            what = ", ".join(
                f"{key} ({_short(earlier_flat.get(key))} then, {_short(flat.get(key))} now)"
                for key in changed
            )
            raise UsageError(
                f"{self.path}: was begun with another {what}. "
                "Name another folder, or delete this one to begin again."
            )

    def names(self) -> set[str]:
        """Return the names of the shards that are there, whole or not."""
        return {mark.stem for mark in (self.path / "shards").glob("*.parquet")}

    def finish(self, names: Iterable[str], set_aside: Sequence[str] = ()) -> CutoutStore:
        """Close the store: write index and manifest over the shards that belong to it."""
        names = list(names)
        for stale in self.names() - set(names):
            (self.path / "manifest.json").unlink(missing_ok=True)
            for ending in ("parquet", "npy"):
                (self.path / "shards" / f"{stale}.{ending}").unlink(missing_ok=True)
        marks = [read_mark(self.path, name) for name in names]
        index = _join([rows for _, rows in marks])
        if not len(index):
            reasons = [*set_aside, *(line for shard, _ in marks for line in shard.set_aside)]
            raise BadInputError(
                f"{self.path}: not one cutout could be made. The first reason: "
                f"{reasons[0] if reasons else 'there was nothing to cut.'}"
            )
        tables.require_unique(index["objid"], self.path)
        tables.write(index, self.path / "index.parquet")
        shards = [
            {
                "name": shard.name,
                "rows": shard.rows,
                "images_sha256": shard.images_sha256,
                "rows_sha256": shard.rows_sha256,
                "mark_sha256": files.sha256(self.path / "shards" / f"{shard.name}.parquet"),
                "source": shard.source,
            }
            for shard, _ in marks
        ]
        manifest = {
            **self._request,
            "gqs": __version__,
            "objects": len(index),
            "classes": _counts(index["class"]),
            "index_sha256": files.sha256(self.path / "index.parquet"),
            "shards": shards,
            "set_aside": [*set_aside, *(line for shard, _ in marks for line in shard.set_aside)],
        }
        manifest["hash"] = content_hash(manifest)
        manifest["manifest_sha256"] = manifest_hash(manifest)
        files.write_json(self.path / "manifest.json", manifest)
        return CutoutStore.open(self.path)


def _join(parts: list[Table]) -> Table:
    parts = [part.copy() for part in parts]
    for number, part in enumerate(parts):
        part["shard"] = np.full(len(part), number, dtype=np.int32)
        part["row"] = np.arange(len(part), dtype=np.int32)
    columns = {name for part in parts for name in part.colnames}
    for part in parts:
        for name in columns.difference(part.colnames):  # only optional ones can be absent
            part[name] = np.full(len(part), SIMULATED if name == ORIGIN else np.nan)
    filled = [part for part in parts if len(part)]
    index = vstack(filled, metadata_conflicts="silent") if filled else Table()
    order = (*COLUMNS, *OPTIONAL, ORIGIN, "shard", "row")
    return index[[name for name in order if name in index.colnames]]


def _counts(names: Any) -> dict[str, int]:
    found, counts = np.unique(np.asarray(names).astype(str), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _flat(request: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = request.get("made", {})
    return {key: value for key, value in request.items() if key != "made"} | made


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
