"""A model as an ONNX graph: exported by torch, simplified, and split before the learned layers.

Two things are rewritten with the same results: asinh by its logarithm, since engines compute asinh
one number at a time, and channels that are concatenated only to be split again. Nothing of the
machine that wrote the graph remains in it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from gqs.errors import ModelError, UsageError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET: Final = 18  # torch.onnx's default; every engine since 2023 reads it
OPSETS: Final = (18, 23)
MADE_BY: Final = ("onnx", "onnxscript")
_TINY: Final = 1e20  # numbers smaller than its inverse get the sign 0


def draw(
    module: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], opset: int = OPSET
) -> ModelProto:
    """Export a module as an ONNX graph for any number of cutouts."""
    if missing := [name for name in MADE_BY if find_spec(name) is None]:
        raise UsageError(f"ONNX needs the Python package {missing[0]}: pip install 'gqs[engines]'.")
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise UsageError(f"Opset {opset} is not supported; use {OPSETS[0]} to {OPSETS[1]}.")
    module = module.eval().requires_grad_(False)  # otherwise torch exports a backward pass
    try:
        with _quietly():
            program = torch.export.export(
                module,
                tuple(inputs.values()),
                dynamic_shapes=[{0: torch.export.Dim("n", min=1, max=1 << 20)} for _ in inputs],
                strict=False,
            )
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=outputs,
                verbose=False,
            )
    except Exception as error:  # torch's errors have no common base class
        cause: BaseException = error
        while cause.__cause__ is not None:  # the rest of torch's message is for developers
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:160]
        raise ModelError(
            f"This network cannot be written as ONNX ({type(error).__name__}: {reason}). Use "
            "--engine torch."
        ) from error
    if written is None:
        raise ModelError("torch wrote no ONNX for this network. Use --engine torch.")
    model: ModelProto = written.model_proto
    _rewrite(model, {name for name, _ in module.named_parameters()})
    return model


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress torch's progress messages; errors are still raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _rewrite(model: ModelProto, learned: set[str]) -> None:
    """Rewrite asinh and needless concatenations, name nodes by part, and drop everything else."""
    from onnx import helper

    graph = model.graph
    nodes = _through_joins(list(graph.node), model)
    nodes = [new for node in nodes for new in _without_asinh(node)]
    nodes = _needed(nodes, {value.name for value in graph.output})
    reached = set(learned)
    for i, node in enumerate(nodes):
        part = "exact"
        if reached.intersection(node.input):
            part = "learned"
            reached.update(node.output)
        node.name = f"{part}/{i}-{node.op_type}"
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [value for value in graph.initializer if value.name in used]
    one, steep = (
        helper.make_tensor(name, 1, [], [value])
        for name, value in (("asinh_one", 1.0), ("asinh_steep", _TINY))
    )
    kept += [value for value in (one, steep) if value.name in used]
    bounds = [helper.make_tensor(n, 1, [], [v]) for n, v in (("asinh_low", -1.0),)]
    kept += [value for value in bounds if value.name in used]
    for value in kept:
        del value.metadata_props[:]
        value.doc_string = ""
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    graph.name, graph.doc_string = "gqs", ""


def _without_asinh(node: NodeProto) -> list[NodeProto]:
    """asinh(x) = sign(x) log(|x| + sqrt(x^2 + 1)): to 1e-7, and ten times as fast."""
    from onnx import helper

    if node.op_type != "Asinh":
        return [node]
    x, y = node.input[0], node.output[0]
    steps = [
        ("Abs", [x], "abs"),
        ("Mul", [x, x], "square"),
        ("Add", [f"{y}_square", "asinh_one"], "more"),
        ("Sqrt", [f"{y}_more"], "root"),
        ("Add", [f"{y}_abs", f"{y}_root"], "sum"),
        ("Log", [f"{y}_sum"], "log"),
        ("Mul", [x, "asinh_steep"], "far"),
        ("Clip", [f"{y}_far", "asinh_low", "asinh_one"], "sign"),
    ]
    made = [helper.make_node(kind, given, [f"{y}_{name}"]) for kind, given, name in steps]
    return [*made, helper.make_node("Mul", [f"{y}_log", f"{y}_sign"], [y])]


def _through_joins(nodes: list[NodeProto], model: ModelProto) -> list[NodeProto]:
    """Replace slices of a concatenation by its inputs."""
    from onnx import numpy_helper

    constants = {
        value.name: numpy_helper.to_array(value)
        for value in model.graph.initializer
        if value.data_type == 7 and np.prod(value.dims) <= 8
    }
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in (*model.graph.value_info, *model.graph.input)
        if len(value.type.tensor_type.shape.dim) > 1
    }
    joined = {
        node.output[0]: list(node.input)
        for node in nodes
        if node.op_type == "Concat" and node.attribute[0].i == 1
    }
    instead: dict[str, str] = {}
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = instead.get(name, name)
        if node.op_type != "Slice" or node.input[0] not in joined:
            continue
        bounds = [constants.get(name) for name in node.input[1:]]
        if any(value is None or value.size != 1 for value in bounds):
            continue
        first, last, *rest = (int(value.item()) for value in bounds if value is not None)
        if rest not in ([1], [1, 1]):
            continue
        parts = joined[node.input[0]]
        ends = np.cumsum([channels.get(name, 0) for name in parts])
        for name, begin, end in zip(parts, [0, *ends[:-1]], ends, strict=True):
            if begin == first and end == min(last, ends[-1]) and begin < end:
                instead[node.output[0]] = name
    return nodes


def _needed(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """The nodes that contribute to the outputs."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def split_graph(model: ModelProto) -> tuple[ModelProto, ModelProto]:
    """Split a graph before the learned layers."""
    helper = importlib.import_module("onnx.helper")
    graph = model.graph
    first = [node for node in graph.node if node.name.startswith("exact/")]
    rest = [node for node in graph.node if node.name.startswith("learned/")]
    constants = {value.name for value in graph.initializer}
    made = {name for node in first for name in node.output}
    made |= {value.name for value in graph.input}
    asked = dict.fromkeys(name for node in rest for name in node.input if name in made)
    # Types of tensors between the parts come from shape inference.
    shapes = importlib.import_module("onnx.shape_inference").infer_shapes(model).graph
    known = {value.name: value for value in (*shapes.value_info, *shapes.input)}
    passing = [known[name] for name in asked]
    parts = []
    for nodes, inputs, outputs in ((first, graph.input, passing), (rest, passing, graph.output)):
        used = {name for node in nodes for name in node.input} & constants
        weights = [value for value in graph.initializer if value.name in used]
        part = helper.make_graph(nodes, "gqs", inputs, outputs, weights)
        made_of = helper.make_model(part, opset_imports=model.opset_import)
        made_of.ir_version = model.ir_version
        parts.append(made_of)
    return parts[0], parts[1]
