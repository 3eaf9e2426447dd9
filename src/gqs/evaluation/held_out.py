"""What is known of objects that a network did not learn from, and the calibration that follows.

A model folder keeps the logits of its validation side in one small table. Temperature, conformal
sets and thresholds all come from it, so that none of them rests on objects that were learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import softmax

from gqs import labels, tables
from gqs.evaluation import temperature
from gqs.evaluation.intervals import finite
from gqs.evaluation.shares import Shares
from gqs.evaluation.temperature import FLOOR, Temperature

Array = NDArray[np.float64]

METHOD: Final = "temperature by magnitude"
LOGITS: Final = tuple(f"logit_{name.lower()}" for name in labels.CLASSES)


@dataclass(frozen=True)
class HeldOut:
    """Judged objects whose class is known and from which nothing was learned.

    Attributes
    ----------
    objid : ndarray
        (n,) uint64.
    truth : ndarray
        (n,) positions in `labels.CLASSES`.
    mag_r : ndarray
        (n,) aperture magnitudes measured on the cutouts; NaN where there is none.
    logits : ndarray
        (n, 3) finite.
    """

    objid: NDArray[np.uint64]
    truth: NDArray[np.int64]
    mag_r: Array
    logits: Array

    def __len__(self) -> int:
        return len(self.truth)

    def to_table(self) -> Table:
        """Return them as the model folder keeps them.

        Returns
        -------
        Table
            objid, class, mag_r and a logit for each class.
        """
        names = np.array(labels.CLASSES)[self.truth]
        found = Table({"objid": self.objid, "class": names, "mag_r": self.mag_r})
        for name, column in zip(LOGITS, self.logits.T, strict=True):
            found[name] = column
        return found

    @classmethod
    def from_table(cls, table: Table, where: object) -> HeldOut:
        """Read them from a model folder's table.

        Parameters
        ----------
        table : Table
            As `to_table` gives it.
        where : object
            Named in errors.

        Returns
        -------
        HeldOut
            The same objects.

        Raises
        ------
        UsageError
            If a column is missing.
        ValueError
            If a class is unknown.
        """
        tables.require_columns(table, ("objid", "class", "mag_r", *LOGITS), where)
        truth = np.array([labels.index(str(name)) for name in table["class"]], dtype=np.int64)
        logits = np.stack([tables.as_float(table[name]) for name in LOGITS], axis=1)
        objid = np.asarray(table["objid"], dtype=np.uint64)
        return cls(objid, truth, tables.as_float(table["mag_r"]), logits)


@dataclass(frozen=True)
class Calibration:
    """How a model's logits become probabilities, and for which shares of the classes these hold."""

    temperature: Temperature
    learned: Shares

    @classmethod
    def from_card(cls, values: Mapping[str, Any] | None) -> Calibration | None:
        """Read it from the `calibration` of model.json.

        Parameters
        ----------
        values : mapping or None
            As `calibrate` gives it.

        Returns
        -------
        Calibration or None
            None where the model has none.

        Raises
        ------
        ValueError
            If it is of an unknown method or incomplete.
        """
        if values is None:
            return None
        if values.get("method") != METHOD:
            raise ValueError(f"its method is {values.get('method')!r}, not {METHOD!r}")
        found = values.get("temperature"), values.get("learned_shares")
        if not isinstance(found[0], dict) or not isinstance(found[1], dict):
            raise ValueError("it lacks temperature or learned_shares")
        return cls(Temperature.from_json(found[0]), Shares.from_json(found[1]))


def calibrate(held_out: HeldOut, learned: Shares) -> dict[str, Any]:
    """Fit the calibration of a model.

    Parameters
    ----------
    held_out : HeldOut
        One object or more.
    learned : Shares
        Of the classes on the side that it learned from.

    Returns
    -------
    dict
        For model.json: method, objects, temperature, learned_shares, and log loss (nats) before
        and after, on the objects of the fit.
    """
    found = temperature.fit(held_out.logits, held_out.truth, held_out.mag_r)
    before = softmax(held_out.logits, axis=1)
    after = found.probabilities(held_out.logits, held_out.mag_r)
    return {
        "method": METHOD,
        "objects": len(held_out),
        "temperature": found.to_json(),
        "learned_shares": learned.to_json(),
        "log_loss": {
            "before": finite(_log_loss(before, held_out.truth)),
            "after": finite(_log_loss(after, held_out.truth)),
        },
    }


def _log_loss(probabilities: Array, truth: NDArray[np.int64]) -> float:
    own = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(own, FLOOR)).mean())


def usable(held_out: HeldOut) -> HeldOut:
    """Leave out objects whose logits are not finite.

    Parameters
    ----------
    held_out : HeldOut
        Any.

    Returns
    -------
    HeldOut
        Those that can be used.
    """
    good = np.isfinite(held_out.logits).all(axis=1)
    return replace(
        held_out,
        objid=held_out.objid[good],
        truth=held_out.truth[good],
        mag_r=held_out.mag_r[good],
        logits=held_out.logits[good],
    )
