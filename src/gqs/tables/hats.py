"""HATS: a catalogue partitioned by position, for LSDB. Needs the extra `hats`.

IVOA Note "HATS" (https://www.ivoa.net/documents/Notes/HATS/): one Parquet file for each nested
HEALPix pixel with at most a given number of rows, sorted by `_healpix_29`, the pixel at order 29;
beside them `hats.properties`, `partition_info.csv`, and the schema of all files in
`dataset/_common_metadata`.
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

HATS: Final = ".hats"  # ending of the folder
MOST_ROWS: Final = 1_000_000  # rows of a partition, the limit of hats-import
_DEEPEST: Final = 10  # order of the smallest partitions, 3.4 arcmin, the limit of hats-import
_INDEX: Final = "_healpix_29"
_INDEX_ORDER: Final = 29
_PROPERTIES: Final = "hats.properties"


def check_hats(path: Path) -> None:
    """Refuse a folder that cannot become a HATS catalogue before any work is done."""
    if importlib.util.find_spec("hats") is None:
        raise UsageError(f"{path}: HATS needs an extra package: pip install 'gqs[hats]'.")
    if path.exists() and not (path / _PROPERTIES).is_file():
        raise UsageError(f"{path}: exists and is not a HATS catalogue. Choose another name.")


def write_hats(table: Table, path: Path, most_rows: int = MOST_ROWS) -> Path:
    """Write a HATS catalogue atomically, replacing an earlier one."""
    path = Path(path)
    check_hats(path)
    require_columns(table, ("ra", "dec"), path)
    placed = np.isfinite(np.asarray(table["ra"])) & np.isfinite(np.asarray(table["dec"]))
    if not placed.any():
        raise UsageError(
            f"{path}: no row has a position, and HATS cannot store an empty catalogue."
        )
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
    partitions = PartitionInfo(pixels)
    partitions.write_to_file(folder / "partition_info.csv")
    properties = TableProperties(
        catalog_name=name,
        catalog_type="object",
        total_rows=len(rows),
        ra_column="ra",
        dec_column="dec",
        healpix_column=_INDEX,
        healpix_order=_INDEX_ORDER,
        hats_order=partitions.get_highest_order(),
        hats_max_rows=most,
        moc_sky_fraction=float(f"{partitions.calculate_fractional_coverage():.3g}"),
        **TableProperties.new_provenance_dict(folder, builder=f"gqs v{__version__}"),
    )
    properties.to_properties_file(folder)


def _as_parquet(arrow: Any) -> memoryview:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(arrow, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getbuffer()


def _partitions(
    index: NDArray[np.int64], most_rows: int
) -> Iterator[tuple[tuple[int, int], range]]:
    """Partition sorted pixels of order 29: a pixel with too many rows is split into its four."""
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
