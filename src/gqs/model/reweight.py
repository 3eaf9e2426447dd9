"""A catalogue asked for more: probabilities at a prior, sets of a coverage, lists of a purity."""

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
from gqs.evaluation.matched import numbers
from gqs.model.classifier import Classifier
from gqs.model.held_out import calibration_of, held_out_of, with_bands
from gqs.probability import candidates, conformal
from gqs.probability.label_shift import reweighed
from gqs.probability.poststratify import mixed
from gqs.probability.priors import Prior, find_prior, require_counts, require_magnitudes, with_prior
from gqs.surveys.sdss import BANDS
from gqs.tables import Flag

Array = NDArray[np.float64]

A_LIST: Final = "a list of candidates"
# Held-out objects are isolated and whole, so they say nothing of rows with any other flag.
_HARMLESS: Final = int(Flag.MISSING_BAND)


@dataclass(frozen=True)
class Candidates:
    """A list of candidates of one class.

    Attributes
    ----------
    table : Table
        Rows of the catalogue, the most probable first; its meta has `candidates`.
    threshold : Threshold
        Where the list begins, and what it is then worth.
    bands : str
        With which its rows were judged.
    own : float
        Mean probability in the list: the purity by the model's own word; NaN where it is empty.
    flagged : mapping of str to int
        Objects probable enough that are not listed since held-out objects are unlike them: how
        many have each flag; an object may have several.
    left_out : int
        How many these are.
    outside : int
        Others that are not listed, since their magnitude is unknown or outside the range in which
        the threshold was measured.
    other_bands : int
        Others, of any probability, that were judged with other bands than most.
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
        """Return all but the rows as JSON holds it."""
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


def weigh(
    predictions: Table,
    classifier: Classifier,
    prior: Prior | str | Path | None = None,
    coverage: float | None = None,
) -> Table:
    """Weigh a catalogue by a prior, and add the sets of a coverage.

    Sets rest on the probabilities as they are before the prior, since coverage within each class
    does not depend on how common it is; the class after the prior is always among them.

    Parameters
    ----------
    predictions : Table
        As this classifier gave them.
    classifier : Classifier
        The judge.
    prior : Prior, str or Path, optional
        As `priors.find_prior` takes it; by default the mix that the model learned from.
    coverage : float, optional
        Share of each class whose set must hold it: adds the column `set`, such as "QSO STAR";
        blank where the model keeps no held-out objects with the bands that were there.

    Returns
    -------
    Table
        A copy; its meta has `prior` and, with a coverage, `coverage`.

    Raises
    ------
    UsageError
        If the model does not tell what this needs, or the prior or the coverage is none.
    IntegrityError
        If the model's held-out objects are not those that its card names.
    """
    found = predictions.copy()
    if prior is not None:
        learned = calibration_of(classifier, "a prior").learned
        chosen = prior if isinstance(prior, Prior) else find_prior(prior)
        found = with_prior(predictions, chosen, learned, classifier.folder)
    if coverage is not None:
        found["set"] = _sets(predictions, _decided(found), classifier, coverage)
        found.meta["coverage"] = coverage
    return tables.described(found)


def _sets(
    predictions: Table, decided: NDArray[np.int64], classifier: Classifier, coverage: float
) -> NDArray[np.str_]:
    """Sets of classes, from thresholds of held-out objects with the same bands."""
    what = "a coverage"
    calibration, kept = calibration_of(classifier, what), held_out_of(classifier, what)
    probability = np.stack([numbers(predictions, p) for p in labels.PROBABILITY_COLUMNS], axis=1)
    mag_r, bands = numbers(predictions, "mag_r"), bands_given(predictions, classifier)
    sets = np.zeros(probability.shape, dtype=bool)
    for some, known in kept.items():
        p = calibration.at(some).probabilities(known.logits, known.mag_r)
        limits = conformal.fit(p, known.truth, known.mag_r, coverage)
        here = bands == some
        sets[here] = limits.sets(probability[here], mag_r[here], decided[here])
    return conformal.written(sets)


def bands_given(predictions: Table, classifier: Classifier) -> NDArray[np.str_]:
    """Tell with which of the model's bands each object was judged: (n,) such as "gri"."""
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
        seen = np.any([np.isfinite(numbers(some, name)) for name in kinds], axis=0)
        there[band] = np.bincount(field, np.broadcast_to(seen, len(some))) > 0
    written = [
        "".join(band for band in classifier.bands if there[band][i]) for i in range(field.max() + 1)
    ]
    found[lacking] = np.array(written)[field]
    return found


def list_candidates(
    weighed: Table,
    classifier: Classifier,
    name: str,
    purity: float = 0.9,
    prior: Prior | None = None,
) -> Candidates:
    """List the candidates of a class, as many as a purity allows.

    Parameters
    ----------
    weighed : Table
        The catalogue, weighed by this very prior.
    classifier : Classifier
        The judge.
    name : str
        The class.
    purity : float
        Share of the list that shall be of this class, above 0 and below 1.
    prior : Prior, optional
        What the sky holds, in sources a square degree and magnitude.

    Returns
    -------
    Candidates
        An empty list where no threshold reaches the purity.

    Raises
    ------
    UsageError
        If the model does not tell what this needs, the prior does not tell how many of each class
        there are, or class or purity is none.
    IntegrityError
        If the model's held-out objects are not those that its card names.
    """
    score = numbers(weighed, labels.PROBABILITY_COLUMNS[candidates.checked(name, purity)])
    bands = bands_given(weighed, classifier)
    kept = held_out_of(classifier, A_LIST)
    there = [some for some, _ in Counter(bands[np.isfinite(score)].tolist()).most_common()]
    given = next((some for some in there if some in kept), (there or [classifier.bands])[0])
    ra, dec = numbers(weighed, "ra"), numbers(weighed, "dec")
    found = threshold_of(classifier, name, purity, prior, ra, dec, given)
    mag_r, flags = numbers(weighed, "mag_r"), np.asarray(weighed["flags"], dtype=np.int64)
    probable = (score >= found.value) & (bands == given) & found.reached  # NaN is not
    clean = (flags & ~_HARMLESS & ~int(Flag.NO_PRIOR)) == 0
    inside = (mag_r >= found.low) & (mag_r <= found.high)
    rows = np.flatnonzero(probable & clean & inside)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    faulty = flags[probable & ~clean]
    counts = {str(flag.name): int((faulty & int(flag) > 0).sum()) for flag in Flag}
    listed = Candidates(
        weighed[rows],
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
    """Find a threshold on the objects that were held out of a model's training."""
    target = candidates.checked(name, purity)
    prior = require_counts(prior, A_LIST.capitalize())
    calibration, kept = calibration_of(classifier, A_LIST), held_out_of(classifier, A_LIST)
    require_magnitudes(prior, calibration.learned, classifier.folder)
    bands = bands or classifier.bands
    known = with_bands(kept, bands, classifier, A_LIST)
    density = prior.around(ra, dec)
    score = calibration.at(bands).probabilities(known.logits, known.mag_r)
    score = reweighed(score, density(known.mag_r), calibration.learned.at(known.mag_r))
    mix, used = mixed(known.truth, known.mag_r, density)
    return candidates.threshold(mix, score[used][:, target], name, purity)


def _decided(table: Table) -> NDArray[np.int64]:
    """Position of each object's class, -1 where it has none."""
    tables.require_columns(table, ("class",), "predictions")
    names = np.asarray(table["class"]).astype(str)
    found = np.full(len(names), -1)
    for i, name in enumerate(labels.CLASSES):
        found[names == name] = i
    return found
