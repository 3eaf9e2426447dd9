"""One shard of a store: images in an .npy file, their rows and hashes in the mark beside it.

The images are written first and the mark last, so that a shard with a mark is whole; a mark whose
hashes do not match is no commit, and the shard is rebuilt.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import files, tables
from gqs.errors import GqsError, IntegrityError
from gqs.imaging import seeing
from gqs.surveys.sdss import CUTOUT_SIZE

DTYPES: Final[dict[str, np.dtype[Any]]] = {"flux": np.dtype("<f4"), "paper": np.dtype("u1")}
COLUMNS: Final = {
    "objid": np.uint64,
    "ra": np.float64,
    "dec": np.float64,
    "x": np.float64,
    "y": np.float64,
    "run": np.int32,
    "camcol": np.int32,
    "field": np.int32,
    "class": np.str_,
    "flags": np.int32,
}
# Where the catalogue has them; photo's type. The seeing, if the frames have stars for it.
OPTIONAL: Final = ("redshift", "type", *"ugriz", *seeing.COLUMNS)
# Where a store mixes several: "simulated", "painted" or "real" pixels. The renderer's shards do not
# say, and are simulated beside others that do.
ORIGIN: Final = "origin"
SIMULATED: Final = "simulated"
# Of imported images: name of the file or row, and the group that a split keeps together.
TEXTS: Final = ("name", "group", ORIGIN)


@dataclass(frozen=True)
class Shard:
    """One committed shard: its name and what its mark says about it."""

    name: str
    rows: int
    images_sha256: str
    rows_sha256: str
    source: str  # hash of everything that it was made from
    set_aside: tuple[str, ...] = ()


def image_shape(bands: str, form: str) -> tuple[int, int, int]:
    """Return the shape of one image in a store: (band, 50, 50)."""
    return (3 if form == "paper" else len(bands), CUTOUT_SIZE, CUTOUT_SIZE)


def write_shard(
    folder: Path,
    name: str,
    images: NDArray[Any],
    rows: Table,
    source: str,
    set_aside: Sequence[str] = (),
) -> Shard:
    """Write a shard whole: images first, then the rows, which commit it.

    A manifest that is there is removed first: it speaks for the shards as they were.
    """
    if len(images) != len(rows):
        raise IntegrityError(f"Shard {name}: {len(images)} images for {len(rows)} rows.")
    folder, rows = Path(folder), _canonical(rows, name)
    _reopen(folder)
    shard = Shard(
        name=name,
        rows=len(rows),
        images_sha256=_write_images(folder / "shards" / f"{name}.npy", images),
        rows_sha256=rows_hash(rows),
        source=source,
        set_aside=tuple(set_aside),
    )
    files.write_bytes(_mark_path(folder, name), _mark(shard, rows))
    return shard


def _mark_path(folder: Path, name: str) -> Path:
    return folder / "shards" / f"{name}.parquet"


def _mark(shard: Shard, rows: Table) -> memoryview:
    rows = rows.copy()
    rows.meta = {"shard": {**shard.__dict__, "set_aside": list(shard.set_aside)}}
    return tables.as_bytes(rows, ".parquet")


def committed(folder: Path, name: str, source: str) -> Shard | None:
    """Return a shard that is whole and made from the same source, or None.

    A mark whose content is right and whose bytes are not (a bit flipped in what Parquet keeps
    beside the data) is written again.
    """
    try:
        shard, rows = read_shard(folder, name)
    except IntegrityError:  # not there, cut or damaged
        return None
    if shard.source != source:
        return None
    mark = _mark(shard, rows)
    if _mark_path(folder, name).read_bytes() != mark:
        _reopen(folder)
        files.write_bytes(_mark_path(folder, name), mark)
    return shard


def _reopen(folder: Path) -> None:
    """Remove the manifest: it speaks for the shards as they were."""
    with files.disk_errors(folder, "opening the store for writing"):
        (folder / "manifest.json").unlink(missing_ok=True)


def read_shard(folder: Path, name: str) -> tuple[Shard, Table]:
    """Read a shard's mark and rows, and check its rows and images against their hashes."""
    shard, rows = read_mark(Path(folder), name)
    path = Path(folder) / "shards" / f"{name}.npy"
    if not path.is_file():
        raise IntegrityError(f"Shard {name} of {folder}: its images are missing.")
    if files.sha256(path) != shard.images_sha256:
        raise damaged(folder, name, "images")
    return shard, rows


def read_mark(folder: Path, name: str) -> tuple[Shard, Table]:
    """Read a shard's mark and its rows, without looking at the images."""
    try:
        rows = tables.read(_mark_path(folder, name))
        mark = rows.meta.pop("shard")
        shard = Shard(**{**mark, "set_aside": tuple(mark["set_aside"])})
    except (GqsError, KeyError, TypeError) as error:
        raise damaged(folder, name, "rows") from error
    if shard.name != name or shard.rows != len(rows) or rows_hash(rows) != shard.rows_sha256:
        raise damaged(folder, name, "rows")
    return shard, rows


def damaged(folder: Path, name: str, part: str) -> IntegrityError:
    """Explain which part of a shard is damaged, and how to rebuild it."""
    return IntegrityError(
        f"Shard {name} of {folder}: its {part} are not what their hash says, so the file is "
        "damaged. Run the command that made the store again: it rebuilds this shard."
    )


def rows_hash(rows: Table) -> str:
    """Return the SHA-256 of a table's content, whatever file it lies in."""
    digest = hashlib.sha256()
    for name in rows.colnames:
        values = np.asarray(rows[name])
        text = values.dtype.kind in "OSU"
        digest.update(f"{name} {'text' if text else values.dtype.str} {len(values)}\n".encode())
        # Text by JSON: numpy's own bytes depend on the longest word in the column.
        digest.update(json.dumps(values.tolist()).encode() if text else values.tobytes())
    return digest.hexdigest()


def _canonical(rows: Table, name: str) -> Table:
    tables.require_columns(rows, tuple(COLUMNS), f"Shard {name}")
    table = Table()
    for column, kind in COLUMNS.items():
        table[column] = np.asarray(rows[column]).astype(kind)
    for column in OPTIONAL:
        if column in rows.colnames:
            table[column] = tables.as_float(rows[column])
    for column in TEXTS:
        if column in rows.colnames:
            table[column] = np.asarray(rows[column]).astype(np.str_)
    return table


def _write_images(path: Path, images: NDArray[Any]) -> str:
    """Write an .npy file and return its SHA-256.

    Not by np.save, which hides why the disk refused.
    """
    images = np.ascontiguousarray(images)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(images))
    parts: list[Any] = [header.getvalue(), images.reshape(-1).view(np.uint8).data]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    files.write_atomically(path, lambda file: file.writelines(parts))
    return digest.hexdigest()
