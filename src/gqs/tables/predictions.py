"""The Predictions table, the waist of the whole system: every reader speaks only this."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import __version__, labels
from gqs.errors import IntegrityError
from gqs.tables.columns import bands, described, flag_lines
from gqs.tables.contracts import FIELD_COLUMNS, Flag, require_columns


def predictions(
    objects: Table,
    probabilities: NDArray[np.float64],
    flags: NDArray[np.int32],
    model: str,
    unlike: NDArray[np.float64] | None = None,
) -> Table:
    """Put together the Predictions table, the waist of the whole system.

    Parameters
    ----------
    objects : Table
        With `objid ra dec x y run camcol field`, and `mag_*`, `magerr_*`, `psf_mag_*`,
        `psf_mag_err_*` and `seeing_*` where measured.
    probabilities : ndarray
        (n, 3) in the order of the labels; rows of NaN where nothing could be judged.
    flags : ndarray
        (n,) sums of `Flag`; a row of NaN is flagged NOT_JUDGED here.
    model : str
        Hash of the model that judged.
    unlike : ndarray, optional
        (n,) distances from what the model learned, where it tells them.

    Returns
    -------
    Table
        One row an object, in the order of `objects`; `class` is blank in rows of NaN. The columns
        are the same whatever was measured, NaN where it was not, so that tables stack.

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
    nothing = np.full(len(table), np.nan)
    for name in (*_pairs("mag", "magerr"), *_pairs("psf_mag", "psf_mag_err"), *_pairs("seeing")):
        table[name] = objects[name] if name in objects.colnames else nothing
    table["flags"] = np.where(judged, flags, flags | int(Flag.NOT_JUDGED)).astype(np.int32)
    table["model"] = np.full(len(table), model[:12], dtype="U12")
    if unlike is not None:
        table["unlike"] = unlike
    about = "most probable of " + ", ".join(labels.CLASSES) + "; blank where not judged"
    table.meta |= {"model": model, "creator": f"gqs {__version__}", "class": about, **flag_lines()}
    return described(table)


def _pairs(*kinds: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{band}" for band in bands() for kind in kinds)
