"""Classification of one field: frames to cutouts, probabilities to a predictions table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import tables
from gqs.cutouts.field import CutoutSpec, FieldCutouts, checked_positions, cut_field
from gqs.errors import BadInputError
from gqs.imaging.frames import group_fields
from gqs.tables import Flag


def cut_one_field(
    paths: Sequence[Path], spec: CutoutSpec, positions: Table | None = None
) -> FieldCutouts:
    """Cutouts of one field; refuse frames of several fields, warn about a band without signal."""
    fields, refused = group_fields(paths)
    if refused:
        raise BadInputError(refused[0])
    if not fields:
        raise BadInputError("No frames were given. Name the frames of a field.")
    if len(fields) != 1:
        raise BadInputError(
            f"The frames are of {len(fields)} fields ({', '.join(map(str, fields))}). "
            "Use the frames of one field, or `gqs classify` for many."
        )
    (files,) = fields.values()
    checked = None if positions is None else checked_positions(positions, "positions")
    cutouts = cut_field(files, spec, checked)
    for band in cutouts.blank:
        warnings.warn(f"{files[band]}: has no signal; the band counts as missing.", stacklevel=3)
    return cutouts


def field_predictions(
    cutouts: FieldCutouts,
    probabilities: NDArray[np.float64],
    unlike: NDArray[np.float64] | None,
    model: str,
) -> Table:
    """Predictions table of a field's objects with their probabilities (n, 3).

    `unlike` is each object's distance from the training set, (n,), or None.
    """
    # A colour picture has no masks, so the flags of the flux apply to it too.
    probabilities = np.where(cutouts.usable[:, None], probabilities, np.nan)
    flags = cutouts.flags
    if unlike is not None:
        unlike = np.where(cutouts.usable, unlike, np.nan)
        flags = flag_unlike(flags, unlike)
    return tables.predictions(cutouts.objects, probabilities, flags, model, unlike)


def flag_unlike(flags: NDArray[np.int32], unlike: NDArray[np.float64]) -> NDArray[np.int32]:
    """Flags (n,) with UNLIKE added for objects beyond the limit."""
    with np.errstate(invalid="ignore"):
        return np.where(unlike > 1, flags | int(Flag.UNLIKE), flags).astype(np.int32)
