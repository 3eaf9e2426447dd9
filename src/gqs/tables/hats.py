"""HATS: a catalogue in partitions of the sky, as LSDB opens it. Extra `hats`.

IVOA Note "HATS" (https://www.ivoa.net/documents/Notes/HATS/): Parquet files, one for each HEALPix
pixel (nested) that holds no more rows than a limit, rows in the order of `_healpix_29`, their pixel
at order 29; beside them `hats.properties`, `partition_info.csv`, and the columns of all files in
`dataset/_common_metadata`, with what each is told.
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet
from astropy.table import Table
from numpy.typing import NDArray

from gqs import __version__
from gqs.errors import UsageError
from gqs.files import disk_errors, write_bytes
from gqs.tables.columns import described
from gqs.tables.contracts import require_columns
from gqs.tables.parquet import as_arrow

HATS: Final = ".hats"  # ending of such a folder
MOST_ROWS: Final = 1_000_000  # in one partition: hats-import's own limit
_DEEPEST: Final = 10  # order of the smallest partitions, 3.4 arcmin: hats-import's own limit too
_INDEX: Final = "_healpix_29"
_INDEX_ORDER: Final = 29
_PROPERTIES: Final = "hats.properties"


def check_hats(path: Path) -> None:
    """Refuse, before any work is done, a folder that cannot become a HATS catalogue."""
    if importlib.util.find_spec("hats") is None:
        raise UsageError(f"{path}: HATS needs gqs's extra: pip install 'gqs[hats]'.")
    if path.exists() and not (path / _PROPERTIES).is_file():
        raise UsageError(f"{path}: is there, and is no HATS catalogue. Name another.")


def write_hats(table: Table, path: Path, most_rows: int = MOST_ROWS) -> Path:
    """Write a HATS catalogue, whole or not at all; a former one is replaced."""
    path = Path(path)
    check_hats(path)
    require_columns(table, ("ra", "dec"), path)
    placed = np.isfinite(np.asarray(table["ra"])) & np.isfinite(np.asarray(table["dec"]))
    if not placed.any():
        raise UsageError(f"{path}: no row has a position, and HATS has no empty catalogues.")
    building = path.parent / f".{path.name}.{os.getpid()}.{os.urandom(3).hex()}.tmp"
    former = building.with_suffix(".old")
    try:
        with disk_errors(path, "writing"):
            building.mkdir(parents=True)
            _build(table[placed], building, path.stem, most_rows)
            if path.exists():
                path.rename(former)
            building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if former.exists() and not path.exists():  # the second of two renames failed
            former.rename(path)
        shutil.rmtree(former, ignore_errors=True)
    return path


def _build(table: Table, folder: Path, name: str, most_rows: int) -> None:
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io import paths
    from hats.pixel_math import HealpixPixel
    from hats.pixel_math.spatial_index import compute_spatial_index

    index = compute_spatial_index(np.asarray(table["ra"]), np.asarray(table["dec"]))
    order = np.argsort(index, kind="stable")
    index, rows = np.asarray(index)[order], table[order]
    rows.add_column(index.astype(np.int64), name=_INDEX, index=0)
    arrow = as_arrow(described(rows))
    pixels, most = [], 0
    for pixel, part in _partitions(index, most_rows):
        pixels.append(HealpixPixel(*pixel))
        file = Path(str(paths.pixel_catalog_file(folder, pixels[-1])))
        write_bytes(file, _as_parquet(arrow.slice(part.start, part.stop - part.start)))
        most = max(most, part.stop - part.start)
    write_bytes(folder / "dataset" / "_common_metadata", _as_parquet(arrow.schema.empty_table()))
    found = PartitionInfo(pixels)
    found.write_to_file(folder / "partition_info.csv")
    told = TableProperties(
        catalog_name=name,
        catalog_type="object",
        total_rows=len(rows),
        ra_column="ra",
        dec_column="dec",
        healpix_column=_INDEX,
        healpix_order=_INDEX_ORDER,
        hats_order=found.get_highest_order(),
        hats_max_rows=most,
        moc_sky_fraction=float(f"{found.calculate_fractional_coverage():.3g}"),
        **TableProperties.new_provenance_dict(folder, builder=f"gqs v{__version__}"),
    )
    told.to_properties_file(folder)


def _as_parquet(arrow: Any) -> memoryview:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(arrow, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getbuffer()


def _partitions(
    index: NDArray[np.int64], most_rows: int
) -> Iterator[tuple[tuple[int, int], range]]:
    """Part sorted pixel numbers of order 29: each pixel with too many rows into its four."""
    waiting = [(0, pixel) for pixel in range(11, -1, -1)]
    while waiting:
        order, pixel = waiting.pop()
        width = 2 * (_INDEX_ORDER - order)
        start, stop = np.searchsorted(index, [pixel << width, (pixel + 1) << width]).tolist()
        if start == stop:
            continue
        if stop - start > most_rows and order < _DEEPEST:
            waiting += [(order + 1, 4 * pixel + i) for i in (3, 2, 1, 0)]
        else:
            yield (order, pixel), range(start, stop)
