"""The predictions table, the one result of a classification that all other code reads."""

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
    """Assemble the predictions table.

    Parameters
    ----------
    objects : Table
        With `objid ra dec x y run camcol field`, and `mag_*`, `magerr_*`, `psf_mag_*`,
        `psf_mag_err_*` and `seeing_*` where measured.
    probabilities : ndarray
        (n, 3) in the order of `labels.CLASSES`; NaN for sources that cannot be classified.
    flags : ndarray
        (n,) sums of `Flag`; a row of NaN is flagged NOT_JUDGED here.
    model : str
        Hash of the model.
    unlike : ndarray, optional
        (n,) distances from the training set, if the model has them.

    Returns
    -------
    Table
        One row per object, in the order of `objects`; `class` is blank where probabilities are
        NaN. The columns are always the same, NaN where not measured, so that tables can be
        stacked.

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
    classified: NDArray[np.bool_] = np.asarray(np.isfinite(probabilities).all(axis=1))
    sums = probabilities[classified].sum(axis=1)
    if (np.abs(sums - 1) > 1e-5).any() or (probabilities[classified] < 0).any():
        raise IntegrityError("Predictions: probabilities of some row do not sum to 1.")
    names = np.array(labels.CLASSES)
    best = names[np.where(classified[:, None], probabilities, 0).argmax(axis=1)]
    table = Table({name: objects[name] for name in needed})
    for i, name in enumerate(labels.PROBABILITY_COLUMNS):
        table[name] = np.where(classified, probabilities[:, i], np.nan)
    table["class"] = np.where(classified, best, "").astype("U6")
    nothing = np.full(len(table), np.nan)
    for name in (*_pairs("mag", "magerr"), *_pairs("psf_mag", "psf_mag_err"), *_pairs("seeing")):
        table[name] = objects[name] if name in objects.colnames else nothing
    table["flags"] = np.where(classified, flags, flags | int(Flag.NOT_JUDGED)).astype(np.int32)
    table["model"] = np.full(len(table), model[:12], dtype="U12")
    if unlike is not None:
        table["unlike"] = unlike
    about = "most probable of " + ", ".join(labels.CLASSES) + "; blank if not classified"
    table.meta |= {"model": model, "creator": f"gqs {__version__}", "class": about, **flag_lines()}
    return described(table)


def _pairs(*kinds: str) -> tuple[str, ...]:
    return tuple(f"{kind}_{band}" for band in bands() for kind in kinds)
