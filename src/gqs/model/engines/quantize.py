"""Static quantisation of the learned part of a graph to int8, calibrated on cutouts.

The range of every activation is fixed beforehand from cutouts. Only convolutions and matrix
products with learned weights are quantised, and not the last one, which computes the logits.
Aperture sums are in the exact part of the graph.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gqs.errors import UsageError
from gqs.model.engines.backends import Choice, Graph
from gqs.model.engines.probe_cutouts import ProbeCutouts

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH: Final = 32
KINDS: Final = ("Conv", "Gemm", "MatMul")


def quantise(exact: ModelProto, learned: ModelProto, seen: ProbeCutouts) -> ModelProto:
    """Quantise the learned part of a graph to int8."""
    if find_spec("onnxruntime") is None:
        raise UsageError("int8 needs the Python package onnxruntime: pip install 'gqs[engines]'.")
    onnx, quantization = import_module("onnx"), import_module("onnxruntime.quantization")
    learned = onnx.shape_inference.infer_shapes(learned)
    products = [node.name for node in learned.graph.node if node.op_type in KINDS]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "learned.onnx", Path(folder) / "rounded.onnx"
        onnx.save(learned, str(given))
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it recommends a step that torch has done
        try:
            quantization.quantize_static(
                str(given),
                str(made),
                _reader(exact, seen),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(KINDS),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=products[-1:],
                calibration_providers=["CPUExecutionProvider"],
            )
        finally:
            logging.disable(before)
        rounded: ModelProto = onnx.load(str(made))
    return rounded


def _reader(exact: ModelProto, seen: ProbeCutouts) -> Any:
    """A reader that passes the outputs of the exact part to the quantiser, batch by batch."""
    reader = import_module("onnxruntime.quantization").CalibrationDataReader
    first = Graph(Choice("onnx"), [exact], threads=1)

    def batches() -> Iterator[dict[str, Any]]:
        for start in range(0, len(seen), BATCH):
            rows = slice(start, start + BATCH)
            yield first.values(seen.images[rows], seen.seeing[rows])

    class Reader(reader):  # type: ignore[misc,valid-type]
        """onnxruntime's interface: a batch, or None at the end."""

        def __init__(self) -> None:
            self.rest = batches()

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            return next(self.rest, None)

    return Reader()
