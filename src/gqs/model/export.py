"""Export of a model as one self-contained ONNX file, from nanomaggies to probabilities.

Masks, scaling and calibration are part of the graph, and the metadata describe inputs and outputs.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gqs import __version__, labels
from gqs.errors import UsageError
from gqs.files import write_bytes
from gqs.model.engines import graph
from gqs.model.engines.export_module import ExportedModel, LogitModel
from gqs.model.temperature import Temperature
from gqs.surveys.sdss import CUTOUT_SIZE, OWN_BANDS, PIXEL_SCALE

if TYPE_CHECKING:
    from onnx import ModelProto

    from gqs.model.classifier import Classifier

ENDING: Final = ".onnx"
OUTPUTS: Final = ("probabilities", "logits", "embedding")
_MOST_BYTES: Final = (1 << 31) - 1  # largest protobuf message


def export(classifier: Classifier, path: Path, opset: int = graph.OPSET) -> dict[str, str]:
    """Write a model as ONNX, with preprocessing, calibration, labels and bands inside.

    Parameters
    ----------
    classifier : Classifier
        The model.
    path : Path
        Must end in .onnx. Equal models and versions give equal files.
    opset : int
        Version of the ONNX operator set.

    Returns
    -------
    dict
        The metadata of the file.

    Raises
    ------
    UsageError
        If the path does not end in .onnx, the needed packages are not installed, torch cannot
        write this opset, or the weights do not fit into one file.
    ModelError
        If ONNX has no operator for a part of the network.
    ResourceError
        If the file cannot be written.
    """
    if path.suffix.lower() != ENDING:
        raise UsageError(f"{path}: the file of an exported model must end in {ENDING}.")
    network = copy.deepcopy(classifier.network).cpu()
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if size > _MOST_BYTES - (64 << 20):
        raise UsageError(f"{classifier.folder}: its weights do not fit into one ONNX file (2 GiB).")
    whole = LogitModel(network, classifier.preprocessing)
    calibration = classifier.calibration
    judging = ExportedModel(
        whole, Temperature() if calibration is None else calibration.temperature
    )
    inputs = dict(zip(("images", "seeing"), whole.example(), strict=False))
    model = graph.draw(judging, inputs, [*OUTPUTS], opset)
    metadata_values = metadata(classifier)
    _label(model, metadata_values)
    data = model.SerializeToString(deterministic=True)
    write_bytes(path, data)
    return metadata_values


def metadata(classifier: Classifier) -> dict[str, str]:
    """Description of inputs, outputs and calibration, for the metadata."""
    size, preprocessing = CUTOUT_SIZE, classifier.preprocessing
    if preprocessing.form == "paper":
        bands = list("irg")
        images = (
            f"uint8 (n, 3, {size}, {size}): red, green and blue of the colour picture of i, r and g"
        )
        calibration = "one temperature for all: a picture has no magnitude"
    else:
        bands = list(preprocessing.bands)
        images = (
            f"float32 (n, {len(bands)}, {size}, {size}): nanomaggies a pixel above the sky, in "
            "the order of bands; NaN where a pixel is bad, a band missing or nothing covered"
        )
        if set(bands) & set(OWN_BANDS):
            images = images.replace(
                "nanomaggies", "pixels times the factor in scale, or nanomaggies"
            )
        calibration = "temperature by the r magnitude within 3 arcsec, fitted with all bands"
    if classifier.calibration is None:
        calibration = "none: a plain softmax of the logits"
    metadata_values = {
        "labels": json.dumps(list(labels.CLASSES)),
        "bands": json.dumps(bands),
        "images": images + f". The source lies at 24 < x, y <= 25 (0-based), {PIXEL_SCALE} arcsec "
        "a pixel, rows along the frame's",
        "probabilities": "float32 (n, 3) in the order of labels, each row summing to 1; NaN where "
        "the cutout cannot be judged: centre masked in r, over half masked, r constant",
        "logits": "float32 (n, 3), not calibrated, of every cutout",
        "embedding": "float32 (n, d), what entered the layers that decide",
        "calibration": calibration,
        "network": str(classifier.card["network"]),
        "model_sha256": classifier.hash,
        "gqs_version": __version__,
    }
    if scale := classifier.card.get("scale"):
        metadata_values["scale"] = json.dumps(scale)
    if preprocessing.seeing:
        metadata_values["seeing"] = (
            f"float32 (n, {len(bands)}): seeing in arcsec, the full width at half maximum of the "
            "Gaussian with a star's ratio of light within 2 and within 5 pixels; NaN where not "
            "known"
        )
    return metadata_values


def _label(model: ModelProto, metadata_values: dict[str, Any]) -> None:
    """Add the metadata to the file, and remove those of the machine that wrote it."""
    model.producer_name, model.producer_version = "gqs", __version__
    model.domain, model.doc_string = "", "Classifies galaxies, quasars and stars."
    for key, value in metadata_values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
