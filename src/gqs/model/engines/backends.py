"""Engines from cutouts to logits and embedding: torch, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gqs.cutouts.channels import to_channels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.errors import UsageError
from gqs.networks.embedding import embed

if TYPE_CHECKING:
    from onnx import ModelProto

Floats = NDArray[np.float32]
Stage = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]

AUTO: Final = "auto"
PRECISIONS: Final = {
    "torch": ("fp32", "bf16"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
PACKAGES: Final = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
# Batch sizes whose layers fit into the caches; see benchmarks/engines.py.
BATCHES: Final = {"torch": 256, "onnx": 32, "openvino": 32}


@dataclass(frozen=True)
class Choice:
    """An engine and its precision, written as `openvino:bf16`."""

    engine: str  # a key of `PRECISIONS`
    precision: str = "fp32"  # one of its values

    def __str__(self) -> str:
        return self.engine if self.precision == "fp32" else f"{self.engine}:{self.precision}"

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Parse a user's text."""
        engine, _, precision = text.partition(":")
        if engine not in PRECISIONS:
            raise UsageError(
                f"Unknown engine {engine!r}. The engines are {AUTO}, {', '.join(PRECISIONS)}."
            )
        precision = precision or "fp32"
        if precision not in PRECISIONS[engine]:
            raise UsageError(
                f"Engine {engine} has no precision {precision!r}. It has "
                f"{', '.join(PRECISIONS[engine])}."
            )
        if not installed(engine):
            raise UsageError(
                f"Engine {engine} needs the Python package {PACKAGES[engine]}: pip install "
                "'gqs[engines]'."
            )
        return cls(engine, precision)

    def versions(self) -> str:
        """Name and version of the package."""
        return f"{PACKAGES[self.engine]} {version(PACKAGES[self.engine])}"


def installed(engine: str) -> bool:
    """Whether the packages of an engine are installed."""
    wanted = [PACKAGES[engine]] if engine == "torch" else [PACKAGES[engine], "onnx", "onnxscript"]
    return all(find_spec(name) is not None for name in wanted)


class Engine(Protocol):
    """Computes logits and embeddings of cutouts."""

    name: str  # as in `openvino:bf16`
    batch: int  # preferred batch size

    def __call__(self, images: NDArray[Any], seeing: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """(n, band, 50, 50) cutouts, (n, band) arcsec -> (n, 3) logits, (n, d) embedding."""


class Torch:
    """The network in torch."""

    batch = BATCHES["torch"]

    def __init__(
        self,
        network: torch.nn.Module,
        preprocessing: Preprocessing,
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        self.network, self.preprocessing = network, preprocessing
        self.name, self.precision = str(Choice("torch", precision)), precision
        if threads is not None:
            torch.set_num_threads(threads)

    def __call__(self, images: NDArray[Any], seeing: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Logits (n, 3) and embeddings (n, d) of cutouts."""
        device = next(self.network.parameters()).device
        half = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), half:
            logits, embedding = embed(
                self.network, to_channels(self.preprocessing, images, seeing).to(device)
            )
        return logits.float().cpu().numpy(), embedding.cpu().numpy()


class Graph:
    """A graph, or its two parts in sequence, in ONNX Runtime or OpenVINO."""

    def __init__(self, choice: Choice, parts: list[ModelProto], threads: int | None = None) -> None:
        self.name, self.batch = str(choice), BATCHES[choice.engine]
        threads = threads or torch.get_num_threads()
        start = _onnx_stage if choice.engine == "onnx" else _openvino_stage
        precisions = [*["fp32"] * (len(parts) - 1), choice.precision]
        self.stages: list[Stage] = [
            start(part.SerializeToString(), precision, threads)
            for part, precision in zip(parts, precisions, strict=True)
        ]
        self.inputs = [value.name for value in parts[0].graph.input]

    def __call__(self, images: NDArray[Any], seeing: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Logits (n, 3) and embeddings (n, d) of cutouts."""
        values = self.values(images, seeing)
        return values["logits"], values["embedding"]

    def values(self, images: NDArray[Any], seeing: NDArray[np.floating]) -> dict[str, NDArray[Any]]:
        """All outputs of the last part, by name."""
        kind = np.uint8 if images.dtype == np.uint8 else np.float32
        given = {"images": np.ascontiguousarray(images, kind), "seeing": seeing.astype(np.float32)}
        values = {name: given[name] for name in self.inputs}
        for stage in self.stages:
            values = stage(values)
        return values


def _onnx_stage(data: bytes, precision: str, threads: int) -> Stage:
    """Load a graph in ONNX Runtime; the precision is part of the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]

    def run(values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, dict(values)), strict=True))

    return run


def _openvino_stage(data: bytes, precision: str, threads: int) -> Stage:
    """Load a graph in OpenVINO on the CPU; int8 is part of the graph, the rest is then fp32."""
    core = _openvino().Core()
    hint = "bf16" if precision == "bf16" else "f32"
    compiled = core.compile_model(
        core.read_model(data),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        },
    )
    request = compiled.create_infer_request()
    names = [value.any_name for value in compiled.outputs]

    def run(values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        request.infer(dict(values), share_inputs=True)
        # A copy, since the next call reuses the memory.
        found = [request.get_output_tensor(i).data for i in range(len(names))]
        return {name: value.copy() for name, value in zip(names, found, strict=True)}

    return run


def _openvino() -> Any:
    """Import OpenVINO without openvino_telemetry, which would report the import over the network.

    Without that package openvino/tools/ovc/telemetry_utils.py uses its own stub.
    """
    reporter = "openvino_telemetry"
    if "openvino" in sys.modules or reporter in sys.modules:
        return import_module("openvino")
    sys.modules[reporter] = None  # type: ignore[assignment]  # Python's way to refuse an import
    try:
        return import_module("openvino")
    finally:
        del sys.modules[reporter]
