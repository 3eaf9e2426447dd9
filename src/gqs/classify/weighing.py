"""A catalogue asked for more: probabilities at a prior, sets of a coverage, lists of a purity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels, tables
from gqs.classify.classifier import Classifier
from gqs.classify.held_out import calibration_of, held_out_of
from gqs.classify.priors import Prior, find_prior, with_prior
from gqs.evaluation import candidates, conformal
from gqs.evaluation.judged import numbers
from gqs.evaluation.mix import mixed
from gqs.evaluation.shares import reweighed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """A list of candidates of one class.

    Attributes
    ----------
    table : Table
        Rows of the catalogue, the most probable first; its meta has `candidates`.
    threshold : Threshold
        Where the list begins, and what it is then worth.
    own : float
        Mean probability in the list: the purity by the model's own word; NaN where it is empty.
    outside : int
        Objects probable enough that are not listed, since their magnitude is unknown or outside
        the range in which the threshold was measured.
    """

    table: Table
    threshold: candidates.Threshold
    own: float
    outside: int


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
        Share of each class whose set must hold it: adds the column `set`, such as "QSO STAR".

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
        sets = _conformal(classifier, coverage).sets(
            _probabilities(predictions), numbers(predictions, "mag_r"), _decided(found)
        )
        found["set"] = conformal.written(sets)
        found.meta["coverage"] = coverage
    return tables.described(found)


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
        What the sky holds; by default the mix that the model was validated on.

    Returns
    -------
    Candidates
        An empty list where no threshold reaches the purity.

    Raises
    ------
    UsageError
        If the model does not tell what this needs, or class or purity is none.
    IntegrityError
        If the model's held-out objects are not those that its card names.
    """
    found = threshold_of(
        classifier, name, purity, prior, numbers(weighed, "ra"), numbers(weighed, "dec")
    )
    score = numbers(weighed, labels.PROBABILITY_COLUMNS[labels.index(name)])
    mag_r = numbers(weighed, "mag_r")
    probable = score >= found.value  # NaN is not
    if np.isfinite(found.low):
        inside = (mag_r >= found.low) & (mag_r <= found.high)
    else:
        inside = np.ones(len(score), dtype=bool)
    rows = np.flatnonzero(probable & inside) if found.reached else np.empty(0, dtype=np.int64)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    table = weighed[rows]
    table.meta["candidates"] = found.to_json()
    own = float(score[rows].mean()) if len(rows) else float("nan")
    outside = int((probable & ~inside).sum()) if found.reached else 0
    return Candidates(table, found, own, outside)


def threshold_of(
    classifier: Classifier,
    name: str,
    purity: float,
    prior: Prior | None,
    ra: Array,
    dec: Array,
) -> candidates.Threshold:
    """Find a threshold on the objects that were held out of a model's training.

    Parameters
    ----------
    classifier : Classifier
        The judge.
    name : str
        The class.
    purity : float
        Wanted.
    prior : Prior, optional
        What the sky holds; by default the mix that the model was validated on.
    ra, dec : ndarray
        (m,) degrees: places over which the prior is averaged.

    Returns
    -------
    Threshold
        With purity and completeness.

    Raises
    ------
    UsageError
        If the model does not tell what this needs, or class or purity is none.
    IntegrityError
        If the model's held-out objects are not those that its card names.
    """
    target = candidates.checked(name, purity)
    calibration = calibration_of(classifier, "a list of candidates")
    known = held_out_of(classifier, "a list of candidates")[classifier.bands]
    score = calibration.temperature.probabilities(known.logits, known.mag_r)
    density, absolute = None, True
    if prior is not None:
        density, absolute = prior.around(ra, dec), prior.absolute
        score = reweighed(score, density(known.mag_r), calibration.learned.at(known.mag_r))
    mix, used = mixed(known.truth, known.mag_r, density, absolute)
    return candidates.threshold(mix, score[used][:, target], name, purity)


def _conformal(classifier: Classifier, coverage: float) -> conformal.Conformal:
    known = held_out_of(classifier, "a coverage")[classifier.bands]
    calibration = calibration_of(classifier, "a coverage")
    probability = calibration.temperature.probabilities(known.logits, known.mag_r)
    return conformal.fit(probability, known.truth, known.mag_r, coverage)


def _probabilities(table: Table) -> Array:
    return np.stack([numbers(table, name) for name in labels.PROBABILITY_COLUMNS], axis=1)


def _decided(table: Table) -> NDArray[np.int64]:
    """Position of each object's class, -1 where it has none."""
    tables.require_columns(table, ("class",), "predictions")
    names = np.asarray(table["class"]).astype(str)
    found = np.full(len(names), -1)
    for i, name in enumerate(labels.CLASSES):
        found[names == name] = i
    return found
