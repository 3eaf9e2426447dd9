"""Validation logits of a model, and the calibration that is fitted to them.

A model folder contains the logits of its validation side in a small table, from which temperature,
conformal sets and thresholds follow, so that none of them depends on training objects. A network
for any bands is more confident with five bands than with one, so such a model has logits and a
temperature for each of the usual sets of bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import softmax

from gqs import labels, tables
from gqs.evaluation.intervals import finite
from gqs.model import temperature
from gqs.model.temperature import FLOOR, Temperature
from gqs.probability.label_shift import ClassFractions, matching_fractions, shift

Array = NDArray[np.float64]

METHOD: Final = "temperature by magnitude"
USUAL: Final = ("ugriz", "griz", "gri", "r")  # usual sets of bands
_LOGITS: Final = tuple(f"logit_{name.lower()}" for name in labels.CLASSES)


@dataclass(frozen=True)
class ValidationLogits:
    """Validation objects with their class and logits."""

    objid: NDArray[np.uint64]  # (n,) uint64
    truth: NDArray[np.int64]  # (n,) positions in `labels.CLASSES`
    mag_r: Array  # (n,) aperture magnitudes measured on the cutouts; NaN where there is none
    logits: Array  # (n, 3) with one set of bands; NaN if not classified

    def __len__(self) -> int:
        return len(self.truth)

    def usable(self) -> ValidationLogits:
        """The objects with finite logits."""
        good = np.isfinite(self.logits).all(axis=1)
        return replace(
            self,
            objid=self.objid[good],
            truth=self.truth[good],
            mag_r=self.mag_r[good],
            logits=self.logits[good],
        )


def table_of(sets: Mapping[str, ValidationLogits]) -> Table:
    """Validation objects as the table in the model folder."""
    own, *fewer = sets
    first = sets[own]
    names = np.array(labels.CLASSES)[first.truth]
    mag_r = first.mag_r.astype(np.float32)
    found = Table({"objid": first.objid, "class": names, "mag_r": mag_r})
    for bands in (own, *fewer):
        columns = _columns("" if bands == own else bands)
        for name, column in zip(columns, sets[bands].logits.T, strict=True):
            found[name] = column.astype(np.float32)
    judged = [np.isfinite(one.logits).all(axis=1) for one in sets.values()]
    return found[np.any(judged, axis=0)]


def sets_of(table: Table, own: str, where: object) -> dict[str, ValidationLogits]:
    """Validation objects by bands, from the table in a model folder."""
    tables.require_columns(table, ("objid", "class", "mag_r", *_columns("")), where)
    truth = np.array([labels.index(str(name)) for name in table["class"]], dtype=np.int64)
    objid, mag_r = np.asarray(table["objid"], dtype=np.uint64), tables.as_float(table["mag_r"])
    found = {}
    for bands in (own, *(one for one in USUAL if one != own)):
        columns = _columns("" if bands == own else bands)
        if set(columns) <= set(table.colnames):
            logits = np.stack([tables.as_float(table[name]) for name in columns], axis=1)
            found[bands] = ValidationLogits(objid, truth, mag_r, logits).usable()
    return found


def _columns(bands: str) -> tuple[str, ...]:
    """Columns of the logits with some of the bands; no suffix for all of the model's bands."""
    return tuple(f"{name}_{bands}" if bands else name for name in _LOGITS)


@dataclass(frozen=True)
class Calibration:
    """Temperatures of a model's logits, and the class fractions that its probabilities are for."""

    temperature: Temperature  # with all of the model's bands
    learned: ClassFractions  # class fractions of the training set
    # for the usual sets of fewer bands; empty for models that need all their bands
    fewer: Mapping[str, Temperature] = field(default_factory=dict)

    def at(self, bands: str) -> Temperature:
        """Temperature for a classification with some of the model's bands."""
        # The model's own bands contain all; so may smaller sets.
        holding = [kept for kept in self.fewer if set(bands) <= set(kept)]
        return self.fewer[min(holding, key=len)] if holding else self.temperature

    @classmethod
    def from_card(cls, values: Mapping[str, Any] | None) -> Calibration | None:
        """Parse `calibration` of model.json."""
        if values is None:
            return None
        if values.get("method") != METHOD:
            raise ValueError(f"its method is {values.get('method')!r}, not {METHOD!r}")
        found = values.get("temperature"), values.get("learned_shares")
        fewer = values.get("fewer_bands", {})
        if not isinstance(found[0], dict) or not isinstance(found[1], dict):
            raise ValueError("it lacks temperature or learned_shares")
        try:
            read = {
                bands: Temperature.from_json(one["temperature"]) for bands, one in fewer.items()
            }
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("its fewer_bands are not temperatures") from error
        return cls(Temperature.from_json(found[0]), ClassFractions.from_json(found[1]), read)


def calibrate(
    held_out: ValidationLogits,
    learned: ClassFractions,
    fewer: Mapping[str, ValidationLogits] | None = None,
) -> dict[str, Any]:
    """Fit the calibration of a model.

    Logits are for the class fractions of the training set, and validation objects have others. The
    temperature is therefore fitted under label shift: logits are divided by it, then shifted by the
    log of validation over training fractions at each magnitude (Saerens et al. 2002).
    """
    found: dict[str, Any] = {"method": METHOD, "learned_shares": learned.to_json()}
    found |= _fitted(held_out, learned)
    others = {bands: one.usable() for bands, one in (fewer or {}).items()}
    found["fewer_bands"] = {
        bands: _fitted(one, learned) for bands, one in others.items() if len(one)
    }
    return found


def _fitted(held_out: ValidationLogits, learned: ClassFractions) -> dict[str, Any]:
    here = matching_fractions(held_out.truth, held_out.mag_r, learned)
    moved = shift(here, learned, held_out.mag_r)
    found = temperature.fit(held_out.logits, held_out.truth, held_out.mag_r, moved)
    before = softmax(held_out.logits + moved, axis=1)
    after = softmax(held_out.logits / found.at(held_out.mag_r)[:, None] + moved, axis=1)
    return {
        "objects": len(held_out),
        "temperature": found.to_json(),
        "log_loss": {
            "before": finite(_log_loss(before, held_out.truth)),
            "after": finite(_log_loss(after, held_out.truth)),
        },
    }


def _log_loss(probabilities: Array, truth: NDArray[np.int64]) -> float:
    own = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(own, FLOOR)).mean())
