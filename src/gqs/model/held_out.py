"""Calibration and validation objects of a loaded model."""

from __future__ import annotations

from collections.abc import Mapping

from gqs import tables
from gqs.errors import ModelError, UsageError
from gqs.files import check_hash
from gqs.model.calibration import Calibration, ValidationLogits, sets_of
from gqs.model.classifier import Classifier
from gqs.model.folder import HELD_OUT


def calibration_of(classifier: Classifier, what: str) -> Calibration:
    """The model's calibration; an error that names `what` needs it if there is none."""
    if classifier.calibration is None:
        raise UsageError(
            f"{classifier.folder}: the model has no calibration, which {what} needs (it is of an "
            "earlier version). Train again with this version."
        )
    return classifier.calibration


def validation_logits_of(classifier: Classifier, what: str) -> dict[str, ValidationLogits]:
    """The model's validation objects, by bands."""
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
    sets: Mapping[str, ValidationLogits], bands: str, classifier: Classifier, what: str
) -> ValidationLogits:
    """The validation objects with these bands; an error if the model has none."""
    if bands not in sets:
        raise UsageError(
            f"{classifier.folder}: has validation objects with the bands {' and '.join(sets)}, "
            f"not with {bands or 'none'}, so {what} is not possible. Add frames of the missing "
            "bands, or remove others."
        )
    return sets[bands]
