"""What a model folder tells beyond its weights: calibration, and objects held out of training."""

from __future__ import annotations

from collections.abc import Mapping

from gqs import tables
from gqs.errors import ModelError, UsageError
from gqs.files import check_hash
from gqs.model.calibration import Calibration, HeldOut, sets_of
from gqs.model.classifier import Classifier
from gqs.model.folder import HELD_OUT


def calibration_of(classifier: Classifier, what: str) -> Calibration:
    """Return a model's calibration, or refuse what cannot be done without one."""
    if classifier.calibration is None:
        raise UsageError(
            f"{classifier.folder}: the model does not tell what {what} needs (an earlier version "
            "made it). Train again with this version."
        )
    return classifier.calibration


def held_out_of(classifier: Classifier, what: str) -> dict[str, HeldOut]:
    """Read the objects on which a model was validated."""
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
    """Return those of a model's held-out objects that were judged with some bands."""
    if bands not in sets:
        raise UsageError(
            f"{classifier.folder}: keeps held-out objects with the bands {' and '.join(sets)}, "
            f"not with {bands or 'none'}, so {what} cannot be given. Add frames of the missing "
            "bands, or take others away."
        )
    return sets[bands]
