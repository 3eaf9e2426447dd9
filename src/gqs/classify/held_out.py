"""What a model folder tells beyond its weights: calibration, and objects held out of training."""

from __future__ import annotations

from collections.abc import Mapping

from gqs import tables
from gqs.classify.classifier import Classifier
from gqs.errors import ModelError, UsageError
from gqs.evaluation.held_out import Calibration, HeldOut, sets_of
from gqs.files import check_hash
from gqs.model_folder import HELD_OUT


def calibration_of(classifier: Classifier, what: str) -> Calibration:
    """Return a model's calibration, or refuse what cannot be done without one.

    Parameters
    ----------
    classifier : Classifier
        The model.
    what : str
        What was asked for, as in "--prior".

    Returns
    -------
    Calibration
        With the shares of the classes that it learned from.

    Raises
    ------
    UsageError
        If the model has none.
    """
    if classifier.calibration is None:
        raise UsageError(
            f"{classifier.folder}: the model does not tell what {what} needs (an earlier version "
            "made it). Train again with this version."
        )
    return classifier.calibration


def held_out_of(classifier: Classifier, what: str) -> dict[str, HeldOut]:
    """Read the objects on which a model was validated.

    Parameters
    ----------
    classifier : Classifier
        The model.
    what : str
        What was asked for, as in "--coverage".

    Returns
    -------
    dict of str to HeldOut
        By the bands with which they were judged, the model's own first.

    Raises
    ------
    UsageError
        If the model has none.
    IntegrityError
        If the file is not the one that the model's card names.
    ModelError
        If it holds anything else.
    """
    calibration_of(classifier, what)
    path = classifier.folder / HELD_OUT
    expected = classifier.card["training"].get("held_out_sha256")
    if expected is None or not path.is_file():
        raise UsageError(
            f"{classifier.folder}: has no {HELD_OUT}, which {what} needs. Copy the whole folder "
            "again, or train again with this version."
        )
    check_hash(path, expected)
    try:
        return sets_of(tables.read(path), classifier.bands, path)
    except ValueError as error:
        raise ModelError(f"{path}: {error} Train again with this version.") from error


def with_bands(
    sets: Mapping[str, HeldOut], bands: str, classifier: Classifier, what: str
) -> HeldOut:
    """Return those of a model's held-out objects that were judged with some bands.

    Parameters
    ----------
    sets : mapping
        As `held_out_of` gives them.
    bands : str
        As `Classifier.given` names them.
    classifier : Classifier
        The model.
    what : str
        What was asked for.

    Returns
    -------
    HeldOut
        Judged with these very bands.

    Raises
    ------
    UsageError
        If the model keeps none: with other bands it is as sure as nobody has measured.
    """
    if bands not in sets:
        raise UsageError(
            f"{classifier.folder}: keeps held-out objects with the bands {' and '.join(sets)}, "
            f"not with {bands or 'none'}, so {what} cannot be given. Add frames of the missing "
            "bands, or take others away."
        )
    return sets[bands]
