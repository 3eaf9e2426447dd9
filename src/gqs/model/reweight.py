"""Priors, conformal sets and candidate lists of a catalogue."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels, tables
from gqs.evaluation.intervals import finite
from gqs.model.classifier import Classifier
from gqs.model.held_out import calibration_of, validation_logits_of, with_bands
from gqs.probability import candidates, conformal
from gqs.probability.label_shift import reweight
from gqs.probability.poststratify import mixed
from gqs.probability.priors import (
    BALANCED,
    SKY,
    TRAINING,
    Prior,
    choose_prior,
    require_counts,
    require_magnitudes,
    with_prior,
)
from gqs.surveys.sdss import BANDS
from gqs.tables import Flag, float_column

Array = NDArray[np.float64]

A_LIST: Final = "a list of candidates"
# Validation objects are isolated and complete, so rows with other flags are not represented.
_HARMLESS: Final = int(Flag.MISSING_BAND | Flag.NOISE_ESTIMATED)


@dataclass(frozen=True)
class Candidates:
    """A list of candidates of one class.

    Attributes
    ----------
    table : Table
        Rows of the catalogue, the most probable first; its meta has `candidates`.
    threshold : Threshold
        Threshold of the list, with its purity and completeness.
    bands : str
        Bands with which its rows were classified.
    own : float
        Mean probability of the list, the purity that the model expects; NaN if it is empty.
    flagged : mapping of str to int
        Number of probable objects that are not listed because of each flag, since validation
        objects have none; an object may have several.
    left_out : int
        Number of these objects.
    outside : int
        Number of others that are not listed because their magnitude is unknown or outside the
        range of the threshold.
    other_bands : int
        Number of others, of any probability, that were classified with other bands than most.
    """

    table: Table
    threshold: candidates.Threshold
    bands: str
    own: float
    flagged: dict[str, int]
    left_out: int
    outside: int
    other_bands: int

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows as a JSON mapping."""
        return {
            **self.threshold.to_json(),
            "objects": len(self.table),
            "bands": self.bands,
            "purity_by_own_probabilities": finite(self.own),
            "left_out": {
                "flagged": self.left_out,
                "by_flag": self.flagged,
                "outside": self.outside,
                "other_bands": self.other_bands,
            },
        }


def default_prior(classifier: Classifier, positions: bool) -> str:
    """Name of the prior that is used unless another is named.

    `sky` for the sources that are detected on frames; `balanced` for given positions, whose mix of
    classes is not known; `training` if the model has no calibration, which a prior needs.
    """
    if classifier.calibration is None:
        return TRAINING
    by_magnitude = classifier.calibration.learned.by_magnitude
    return SKY if by_magnitude and not positions else BALANCED


def apply_prior(
    predictions: Table,
    classifier: Classifier,
    prior: Prior | str | Path | None = None,
    coverage: float | None = None,
) -> Table:
    """Apply a prior to a catalogue, and add conformal sets.

    Sets are made from the probabilities before the prior, since the coverage within a class
    does not depend on how common it is; they always contain the class after the prior.

    Parameters
    ----------
    predictions : Table
        Predictions of this classifier.
    classifier : Classifier
        The model.
    prior : Prior, str or Path, optional
        A prior, as in `find_prior`, or `training`; by default that, the class fractions of the
        training set.
    coverage : float, optional
        Fraction of each class whose set must contain it: adds a column `set`, such as "QSO STAR";
        blank if the model has no validation objects with the available bands.

    Returns
    -------
    Table
        A copy; its meta has `prior` and, with a coverage, `coverage`.

    Raises
    ------
    UsageError
        If the model lacks what this needs, or prior or coverage is invalid.
    IntegrityError
        If the model's validation objects do not match its card.
    """
    found = predictions.copy()
    chosen = choose_prior(prior, TRAINING)
    if chosen is not None:
        learned = calibration_of(classifier, "a prior").learned
        found = with_prior(predictions, chosen, learned, classifier.folder)
    if coverage is not None:
        found["set"] = _sets(predictions, _decided(found), classifier, coverage)
        found.meta["coverage"] = coverage
    return tables.described(found)


def _sets(
    predictions: Table, decided: NDArray[np.int64], classifier: Classifier, coverage: float
) -> NDArray[np.str_]:
    """Conformal sets, from thresholds of validation objects with the same bands."""
    what = "a coverage"
    calibration, kept = calibration_of(classifier, what), validation_logits_of(classifier, what)
    probability = np.stack(
        [float_column(predictions, p) for p in labels.PROBABILITY_COLUMNS], axis=1
    )
    mag_r, bands = float_column(predictions, "mag_r"), bands_given(predictions, classifier)
    sets = np.zeros(probability.shape, dtype=bool)
    for some, known in kept.items():
        p = calibration.at(some).probabilities(known.logits, known.mag_r)
        limits = conformal.fit(p, known.truth, known.mag_r, coverage)
        here = bands == some
        sets[here] = limits.sets(probability[here], mag_r[here], decided[here])
    return conformal.written(sets)


def bands_given(predictions: Table, classifier: Classifier) -> NDArray[np.str_]:
    """The model's bands with which each object was classified, (n,) such as "gri"."""
    found = np.full(len(predictions), classifier.bands, dtype=f"U{len(BANDS)}")
    lacking = np.flatnonzero(np.asarray(predictions["flags"]) & int(Flag.MISSING_BAND))
    if not len(lacking):
        return found
    some = predictions[lacking]
    names = [name for name in tables.FIELD_COLUMNS if name in some.colnames]
    keys = np.stack([np.asarray(some[name], dtype=np.int64) for name in names], axis=1)
    _, field = np.unique(keys, axis=0, return_inverse=True)
    there = {}
    for band in classifier.bands:
        kinds = [name for name in (f"mag_{band}", f"seeing_{band}") if name in some.colnames]
        seen = np.any([np.isfinite(float_column(some, name)) for name in kinds], axis=0)
        there[band] = np.bincount(field, np.broadcast_to(seen, len(some))) > 0
    written = [
        "".join(band for band in classifier.bands if there[band][i]) for i in range(field.max() + 1)
    ]
    found[lacking] = np.array(written)[field]
    return found


def list_candidates(
    weighted: Table,
    classifier: Classifier,
    name: str,
    purity: float = 0.9,
    prior: Prior | None = None,
) -> Candidates:
    """Select the candidates of a class, as many as a purity allows.

    Parameters
    ----------
    weighted : Table
        The catalogue, with this prior applied.
    classifier : Classifier
        The model.
    name : str
        The class.
    purity : float
        Fraction of the list that should be of this class, above 0 and below 1.
    prior : Prior, optional
        Prior with number densities (sources per square degree and magnitude).

    Returns
    -------
    Candidates
        The list; empty if no threshold reaches the purity.

    Raises
    ------
    UsageError
        If the model lacks what this needs, the prior has no number densities,
        or class or purity is invalid.
    IntegrityError
        If the model's validation objects do not match its card.
    """
    score = float_column(weighted, labels.PROBABILITY_COLUMNS[candidates.checked(name, purity)])
    bands = bands_given(weighted, classifier)
    kept = validation_logits_of(classifier, A_LIST)
    there = [some for some, _ in Counter(bands[np.isfinite(score)].tolist()).most_common()]
    given = next((some for some in there if some in kept), (there or [classifier.bands])[0])
    ra, dec = float_column(weighted, "ra"), float_column(weighted, "dec")
    found = threshold_of(classifier, name, purity, prior, ra, dec, given)
    mag_r, flags = float_column(weighted, "mag_r"), np.asarray(weighted["flags"], dtype=np.int64)
    probable = (score >= found.value) & (bands == given) & found.reached  # NaN is not probable
    clean = (flags & ~_HARMLESS & ~int(Flag.NO_PRIOR)) == 0
    inside = (mag_r >= found.low) & (mag_r <= found.high)
    rows = np.flatnonzero(probable & clean & inside)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    faulty = flags[probable & ~clean]
    counts = {str(flag.name): int((faulty & int(flag) > 0).sum()) for flag in Flag}
    listed = Candidates(
        weighted[rows],
        found,
        given,
        float(score[rows].mean()) if len(rows) else float("nan"),
        {flag: count for flag, count in counts.items() if count and flag != "MISSING_BAND"},
        len(faulty),
        int((probable & clean & ~inside).sum()),
        int((np.isfinite(score) & (bands != given)).sum()),
    )
    listed.table.meta["candidates"] = listed.to_json()
    return listed


def threshold_of(
    classifier: Classifier,
    name: str,
    purity: float,
    prior: Prior | None,
    ra: Array,
    dec: Array,
    bands: str | None = None,
) -> candidates.Threshold:
    """Find the threshold of a list from the model's validation objects."""
    target = candidates.checked(name, purity)
    prior = require_counts(prior, A_LIST.capitalize())
    calibration, kept = calibration_of(classifier, A_LIST), validation_logits_of(classifier, A_LIST)
    require_magnitudes(prior, calibration.learned, classifier.folder)
    bands = bands or classifier.bands
    known = with_bands(kept, bands, classifier, A_LIST)
    density = prior.around(ra, dec)
    score = calibration.at(bands).probabilities(known.logits, known.mag_r)
    score = reweight(score, density(known.mag_r), calibration.learned.at(known.mag_r))
    mix, used = mixed(known.truth, known.mag_r, density)
    return candidates.threshold(mix, score[used][:, target], name, purity)


def _decided(table: Table) -> NDArray[np.int64]:
    """Index of each object's class, -1 if it has none."""
    tables.require_columns(table, ("class",), "predictions")
    names = np.asarray(table["class"]).astype(str)
    found = np.full(len(names), -1)
    for i, name in enumerate(labels.CLASSES):
        found[names == name] = i
    return found
