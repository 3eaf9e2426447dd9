"""The Predictions table, the waist of the whole system: every reader speaks only this."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import IntegrityError
from gqs.tables.contracts import FIELD_COLUMNS, UNITS, Flag, require_columns


def predictions(
    objects: Table, probabilities: NDArray[np.float64], flags: NDArray[np.int32], model: str
) -> Table:
    """Put together the Predictions table, the waist of the whole system.

    Parameters
    ----------
    objects : Table
        With `objid ra dec x y run camcol field`, and magnitudes `mag_*` where measured.
    probabilities : ndarray
        (n, 3) in the order of the labels; rows of NaN where nothing could be judged.
    flags : ndarray
        (n,) sums of `Flag`; a row of NaN is flagged NOT_JUDGED here.
    model : str
        Hash of the model that judged.

    Returns
    -------
    Table
        One row an object, in the order of `objects`; `class` is blank in rows of NaN.

    Raises
    ------
    IntegrityError
        If a row's probabilities are neither NaN nor sum to 1 within 1e-5, or rows do not match.
    """
    needed = ("objid", "ra", "dec", "x", "y", *FIELD_COLUMNS)
    require_columns(objects, needed, "predictions")
    if probabilities.shape != (len(objects), len(labels.CLASSES)) or len(flags) != len(objects):
        raise IntegrityError(
            f"Predictions: {len(objects)} objects, but probabilities {probabilities.shape} and "
            f"{len(flags)} flags."
        )
    judged: NDArray[np.bool_] = np.asarray(np.isfinite(probabilities).all(axis=1))
    sums = probabilities[judged].sum(axis=1)
    if (np.abs(sums - 1) > 1e-5).any() or (probabilities[judged] < 0).any():
        raise IntegrityError("Predictions: probabilities of some row do not sum to 1.")
    names = np.array(labels.CLASSES)
    best = names[np.where(judged[:, None], probabilities, 0).argmax(axis=1)]
    table = Table({name: objects[name] for name in needed})
    for i, name in enumerate(labels.PROBABILITY_COLUMNS):
        table[name] = np.where(judged, probabilities[:, i], np.nan)
    table["class"] = np.where(judged, best, "").astype("U6")
    for name in objects.colnames:
        if name.startswith(("mag_", "magerr_")):
            table[name] = objects[name]
    table["flags"] = np.where(judged, flags, flags | int(Flag.NOT_JUDGED)).astype(np.int32)
    table["model"] = np.full(len(table), model[:12], dtype="U12")
    for name, unit in UNITS.items():
        table[name].unit = unit
    for name in table.colnames:
        if name.startswith(("mag_", "magerr_")):
            table[name].unit = "mag"
    table.meta["model"] = model
    return table
