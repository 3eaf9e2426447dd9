"""Cutouts on disk: whole shards with hashes, one index, one manifest. Paper 3.3-3.4.

A store is a folder::

    request.json          what was asked for: another request for the same folder is refused
    shards/NAME.npy       images (n, band, 50, 50), little-endian float32 with NaN, or uint8
    shards/NAME.parquet   their index rows; its presence commits the shard, it holds its hashes
    index.parquet         the rows of all shards: row i is object i
    manifest.json         format, bands, form, shards with hashes, what was set aside and why

Shards are written first, by any number of processes; index and manifest close the store.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import ArrayLike, NDArray

from gqs import __version__, files, tables
from gqs.cutouts.shards import (
    COLUMNS,
    DTYPES,
    OPTIONAL,
    ORIGIN,
    SIMULATED,
    TEXTS,
    damaged,
    image_shape,
    read_mark,
    read_shard,
)
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.executors import Progress, no_progress

FORMAT: Final = 1
_MAGIC_BYTES: Final = 10  # of an .npy file, version 1.0: its last two tell the header's length


def content_hash(manifest: dict[str, Any]) -> str:
    """Hash what a store holds, not how it came about: equal content, equal hash."""
    shards = [
        [shard[key] for key in ("name", "rows", "images_sha256", "rows_sha256")]
        for shard in manifest["shards"]
    ]
    kept = {key: manifest[key] for key in ("format", "bands", "form", "edge")}
    return files.hash_of({**kept, "shards": shards})


def manifest_hash(manifest: dict[str, Any]) -> str:
    """Hash a manifest without its own hash, so that damage to any of it is seen."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return files.hash_of(rest)


def read_json(path: Path) -> dict[str, Any]:
    """Read a store's request or manifest."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path}: cannot be read as JSON, so it is damaged. Delete it and run the command "
            "that made the store again."
        ) from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: is no JSON object. Delete it and make the store again.")
    return value


def unknown_format(path: Path, found: object) -> UsageError:
    """Say that a store is of another format than ours."""
    return UsageError(
        f"{path}: is a store of format {found}, this version of gqs knows {FORMAT}. "
        "Use the version that made it, or make it again."
    )


class Objects(Protocol):
    """The objects of a store, without their images."""

    @property
    def index(self) -> Table: ...
    @property
    def hash(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def bands(self) -> str: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...
    @property
    def path(self) -> Path: ...
    def __len__(self) -> int: ...


class CutoutStore:
    """A closed store to read from; safe between threads and processes, cheap to pickle.

    Attributes
    ----------
    path : Path
        Its folder.
    index : Table
        Row i describes object i: objid, ra, dec, x, y, run, camcol, field, class, flags,
        redshift and u g r i z where the catalogue had them, shard, row.
    bands, form, edge : str
        As they were asked for.
    hash : str
        Identifies the content.
    manifest : dict
        The whole manifest.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], index: Table) -> None:
        self.path, self.manifest, self.index = Path(path), manifest, index
        self.bands, self.form = str(manifest["bands"]), str(manifest["form"])
        self.edge, self.hash = str(manifest["edge"]), str(manifest["hash"])
        index.meta["store"] = self.hash
        self._shape = image_shape(self.bands, self.form)
        self._dtype: np.dtype[Any] = DTYPES[self.form]
        self._shards = manifest["shards"]
        self._starts = np.cumsum([0, *(shard["rows"] for shard in self._shards)])
        # Identity, size and time of the files whose images agreed with their hashes.
        self._checked: dict[int, tuple[int, int, int]] = {}

    @classmethod
    def open(cls, path: Path) -> CutoutStore:
        """Open a store that is closed; the images stay on disk."""
        path = Path(path)
        if not (path / "manifest.json").is_file():
            begun = (path / "request.json").is_file()
            raise UsageError(
                f"{path}: the store is not finished. Run the command that made it again."
                if begun
                else f"{path}: is no store of cutouts. Make one with gqs cutouts."
            )
        manifest = read_json(path / "manifest.json")
        if manifest.get("format") != FORMAT:
            raise unknown_format(path, manifest.get("format"))
        try:
            sound = manifest["manifest_sha256"] == manifest_hash(manifest)
            sound &= manifest["hash"] == content_hash(manifest)
            files.check_hash(path / "index.parquet", manifest["index_sha256"])
            store = cls(path, manifest, tables.read(path / "index.parquet"))
        except (KeyError, TypeError, OSError, UsageError) as error:
            raise IntegrityError(f"{path}: manifest or index is damaged; make it again.") from error
        if not sound or len(store.index) != store._starts[-1]:
            raise IntegrityError(f"{path}: the manifest contradicts itself; make the store again.")
        return store

    @classmethod
    def from_arrays(
        cls,
        path: Path | str,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        bands: str | None = None,
        groups: ArrayLike | None = None,
        zero_point: float | None = None,
        positions: ArrayLike | None = None,
    ) -> CutoutStore:
        """Make a store of labelled images in memory.

        Parameters
        ----------
        path : path
            The store's folder; new or empty.
        images : array_like
            (n, ny, nx) or (n, band, ny, nx), or 8-bit colours (n, ny, nx, 3), 16 to 512 pixels a
            side with the object at the centre, NaN where masked; cropped or padded to 50 x 50.
            uint8 makes a store of the form `paper`, other types one of the form `flux`.
        labels : array_like
            (n,) classes: GALAXY, QSO or STAR.
        bands : str, optional
            A letter for each plane, by default A, B, C and so on. Pixels of capital letters are
            scaled to the sky noise of SDSS's r band, and have no magnitudes. u g r i z are SDSS's
            bands and need a zero point.
        groups : array_like, optional
            (n,) names of groups, such as the field or the night, that `make_split` keeps on one
            side.
        zero_point : float, optional
            AB magnitude of one count; 22.5 for nanomaggies.
        positions : array_like, optional
            (n, 2) right ascension and declination in degrees. Without them, copies of an object
            are recognised by equal pixels only.

        Returns
        -------
        CutoutStore
            The store; `manifest["set_aside"]` names the images that were left out, and why.

        Raises
        ------
        UsageError
            If shapes, bands and labels do not fit, or the folder holds another store.
        BadInputError
            If no image can be used.

        Examples
        --------
        >>> import numpy as np, tempfile, gqs
        >>> sky = np.random.default_rng(1).normal(100, 5, (6, 64, 64))
        >>> folder = tempfile.mkdtemp()
        >>> gqs.CutoutStore.from_arrays(folder, sky, ["STAR", "GALAXY"] * 3).bands
        'A'
        """
        from gqs.cutouts.import_images import ImportOptions, store_from_arrays

        sky = None if positions is None else np.asarray(positions, dtype=np.float64)
        columns = {
            "group": groups,
            "ra": None if sky is None else sky[:, 0],
            "dec": None if sky is None else sky[:, 1],
        }
        group = None if groups is None else "group"
        options = ImportOptions(bands=bands, zero_point=zero_point, group=group)
        return store_from_arrays(Path(path), images, labels, columns, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.hash)

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"CutoutStore({str(self.path)!r}, {len(self)} of {self.form} {self.bands})"

    def images(self, rows: ArrayLike) -> NDArray[Any]:
        """Read images; memory is that of the answer, whatever the size of the store: (n, band, 50,
        50), in the order of `rows`: float32 nanomaggies with NaN where masked, or uint8 colours.

        A shard is checked against its hash when it is first read; IntegrityError if it is damaged.
        """
        wanted = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"{self.path}: rows run from 0 to {len(self) - 1}.")
        out: NDArray[Any] = np.empty((len(wanted), *self._shape), dtype=self._dtype)
        number: NDArray[np.int64] = np.searchsorted(self._starts, wanted, side="right") - 1
        for shard in np.unique(number):
            places = np.flatnonzero(number == shard)
            self._gather(int(shard), wanted[places] - self._starts[shard], out, places)
        return out

    def _gather(
        self, shard: int, local: NDArray[np.int64], out: NDArray[Any], places: NDArray[np.int64]
    ) -> None:
        # Plain positioned reads keep no state and no mapped pages: threads may share the store,
        # and the resident memory of a long training does not grow with what it has seen.
        name, rows = self._shards[shard]["name"], self._shards[shard]["rows"]
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        path = self.path / "shards" / f"{name}.npy"
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise IntegrityError(f"Shard {name} of {self.path}: {error.strerror}.") from error
        try:
            magic = os.pread(handle, _MAGIC_BYTES, 0)
            start = _MAGIC_BYTES + int.from_bytes(magic[8:], "little")
            state = os.fstat(handle)
            if state.st_size != start + rows * size:
                raise damaged(self.path, name, "images")
            now = (state.st_ino, state.st_size, state.st_mtime_ns)
            if self._checked.get(shard) != now:
                if files.sha256(path) != self._shards[shard]["images_sha256"]:
                    raise damaged(self.path, name, "images")
                self._checked[shard] = now
            for place, row in zip(places.tolist(), local.tolist(), strict=True):
                view = out[place].reshape(-1).view(np.uint8).data
                if os.preadv(handle, [view], start + row * size) != size:
                    raise damaged(self.path, name, "images")
        finally:
            os.close(handle)

    def verify(self, progress: Progress = no_progress) -> None:
        """Check every shard against its hashes."""
        damaged = []
        for done, listed in enumerate(self._shards):
            name = listed["name"]
            try:
                found, _ = read_shard(self.path, name)
                mark = files.sha256(self.path / "shards" / f"{name}.parquet")
                keys = ("images_sha256", "rows_sha256", "source")
                if mark != listed["mark_sha256"] or any(
                    getattr(found, key) != listed[key] for key in keys
                ):
                    damaged.append(name)
            except IntegrityError:
                damaged.append(name)
            progress(done + 1, len(self._shards), f"checking {name}")
        if damaged:
            raise IntegrityError(
                f"{self.path}: {len(damaged)} of {len(self._shards)} shards are damaged: "
                f"{', '.join(damaged[:10])}. Run the command that made the store again: "
                "it rebuilds them."
            )


def _reopen(path: Path, expected: str) -> CutoutStore:
    store = CutoutStore.open(path)
    if store.hash != expected:
        raise IntegrityError(f"{path}: the store has changed since this work began. Begin again.")
    return store


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
    order = (*COLUMNS, *OPTIONAL, *TEXTS, "shard", "row")
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
