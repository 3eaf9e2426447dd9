"""Predictions of one field: its frames cut out, and its probabilities put into the table."""

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
    """Cut out one field, and refuse frames of several; warn of a band without signal."""
    fields, refused = group_fields(paths)
    if refused:
        raise BadInputError(refused[0])
    if not fields:
        raise BadInputError("No frames were given. Name the frames of a field.")
    if len(fields) != 1:
        raise BadInputError(
            f"The frames are of {len(fields)} fields ({', '.join(map(str, fields))}). "
            "Name the frames of one, or use `gqs classify` for many."
        )
    (files,) = fields.values()
    checked = None if positions is None else checked_positions(positions, "positions")
    cutouts = cut_field(files, spec, checked)
    for band in cutouts.blank:
        warnings.warn(
            f"{files[band]}: shows no signal, so that its band counts as missing.", stacklevel=3
        )
    return cutouts


def field_predictions(
    cutouts: FieldCutouts,
    probabilities: NDArray[np.float64],
    unlike: NDArray[np.float64] | None,
    model: str,
) -> Table:
    """Make Predictions of a field's objects and their (n, 3) probabilities.

    `unlike` is each object's distance from the training set, (n,), or None for a model without.
    """
    # A colour picture shows no masks, so what is known of the flux decides for it too.
    probabilities = np.where(cutouts.usable[:, None], probabilities, np.nan)
    flags = cutouts.flags
    if unlike is not None:
        unlike = np.where(cutouts.usable, unlike, np.nan)
        flags = flag_unlike(flags, unlike)
    return tables.predictions(cutouts.objects, probabilities, flags, model, unlike)


def flag_unlike(flags: NDArray[np.int32], unlike: NDArray[np.float64]) -> NDArray[np.int32]:
    """Add UNLIKE to the flags of objects that lie beyond the limit: (n,) sums of `Flag`."""
    with np.errstate(invalid="ignore"):
        return np.where(unlike > 1, flags | int(Flag.UNLIKE), flags).astype(np.int32)
