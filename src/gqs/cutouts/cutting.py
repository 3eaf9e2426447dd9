"""One field's shard: frames read, bands aligned, objects cut, the unjudgeable left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import __version__, files, tables
from gqs.cutouts.extract import cut_flux, cut_picture, pixel_positions
from gqs.cutouts.quality import CENTRE, faults, why
from gqs.cutouts.shards import Shard, committed, rows_hash, write_shard
from gqs.errors import BadInputError
from gqs.imaging.align import BandStack, align
from gqs.imaging.composite import colour_picture
from gqs.imaging.detect import detect
from gqs.imaging.frames import read_frame
from gqs.imaging.seeing import field_seeing
from gqs.surveys.sdss import REFERENCE_BAND, FieldId

# A catalogue is taken to lie beside the sources where fewer than a quarter of at least ten of its
# objects have light of 3 sigma in the 3 x 3 pixels about them; of random places about one in
# twenty has.
_FEWEST_TO_CHECK: Final = 10
_FEWEST_SEEN: Final = 0.25
_SIGMA: Final = 3.0


@dataclass(frozen=True)
class CutTask:
    """What one child needs to make one field's shard."""

    store: Path  # the store's folder
    field: FieldId  # the field
    frames: Mapping[str, Path]  # its frames by band, r among them
    rows: Table  # the catalogue's rows on it
    bands: str  # as for `build_from_frames`
    form: str
    edge: str
    star_shift: bool = False  # whether what the WCS leaves between the bands' stars is removed

    def __str__(self) -> str:
        return f"Field {self.field}"


def cut_field(task: CutTask) -> Shard:
    """Make one field's shard, or find that it is there already; runs in a child."""
    name = str(task.field)
    source = files.hash_of(
        {
            "frames": {band: files.sha256(path) for band, path in task.frames.items()},
            "rows": rows_hash(task.rows),
            "how": [task.bands, task.form, task.edge, task.star_shift, __version__],
        }
    )
    there = committed(task.store, name, source)
    if there is not None:
        return there
    frames = {band: read_frame(path) for band, path in task.frames.items()}
    stack = align(frames, task.bands, star_shift=task.star_shift)
    rows = task.rows.copy()
    rows["x"], rows["y"] = pixel_positions(
        stack.wcs, np.asarray(rows["ra"]), np.asarray(rows["dec"])
    )
    for column, value in zip(tables.FIELD_COLUMNS, task.field, strict=True):
        rows[column] = np.full(len(rows), value, dtype=np.int32)
    flux, flags = cut_flux(stack, np.asarray(rows["x"]), np.asarray(rows["y"]), task.edge)
    fault = faults(flux, stack.bands) | (flags & int(tables.Flag.OUTSIDE | tables.Flag.NO_SIGNAL))
    keep = fault == 0
    _check_positions(flux[keep], stack)
    images: NDArray[Any] = flux
    if task.form == "paper":
        images, flags = cut_picture(
            colour_picture(stack),
            np.asarray(stack.covered.all(axis=0)),
            np.asarray(rows["x"]),
            np.asarray(rows["y"]),
            task.edge,
        )
    rows["flags"] = flags
    for band, width in zip(stack.bands, field_seeing(stack, detect(stack)), strict=True):
        rows[f"seeing_{band}"] = np.full(len(rows), width)
    left_out = [
        f"Object {rows['objid'][i]} of field {task.field}: {why(int(fault[i]))}; left out."
        for i in np.flatnonzero(~keep)
    ]
    return write_shard(task.store, name, images[keep], rows[keep], source, left_out)


def _check_positions(flux: NDArray[np.float32], stack: BandStack) -> None:
    """Refuse a field where the catalogue's positions hold no sources: a wrong but valid WCS."""
    if len(flux) < _FEWEST_TO_CHECK:
        return
    band = stack.bands.index(REFERENCE_BAND) if REFERENCE_BAND in stack.bands else 0
    plane = flux[:, band]
    box = plane[:, CENTRE, CENTRE]
    level = np.nanmedian(plane, axis=(1, 2))
    signal = (np.nanmean(box, axis=(1, 2)) - level) * np.sqrt(box[0].size)
    seen = float(np.mean(signal > _SIGMA * stack.noise[band]))
    if seen < _FEWEST_SEEN:
        raise BadInputError(
            f"only {seen:.0%} of {len(flux)} catalogued objects have any light at their position, "
            "so the WCS or the catalogue is wrong; set aside. Solve the astrometry again."
        )
