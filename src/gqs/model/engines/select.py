"""Selection of the engine: the requested one, or the fastest one that agrees with torch.

A graph is exported once for each model, and an engine is checked once for each model, machine and
version; the results are kept in the user's cache under names that depend on all of these. If many
processes start together, one does this and the others wait.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from gqs import files
from gqs.cutouts.preprocessing import Preprocessing
from gqs.errors import GqsError, ModelError, ResourceError
from gqs.model.engines import graph, parity, probe_cutouts, quantize
from gqs.model.engines.backends import AUTO, Choice, Engine, Graph, Torch, installed
from gqs.model.engines.export_module import LogitModel
from gqs.model.engines.parity import Parity
from gqs.model.novelty import Novelty

if TYPE_CHECKING:
    from onnx import ModelProto

Tell = Callable[[str], None]

GRAPH: Final = "graph.onnx"
ROUNDED: Final = "learned-int8.onnx"
INPUTS: Final = ("images", "seeing")
OUTPUTS: Final = ("logits", "embedding")
CALIBRATED_ON: Final = 384  # cutouts, of another seed than those of the checks
_LEAST_GAIN: Final = 1.1  # least gain of speed for which another engine is chosen


def no_message(sentence: str) -> None:
    """Print nothing."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model as the engines need it."""

    network: torch.nn.Module  # in evaluation mode
    preprocessing: Preprocessing  # of its input
    hash: str  # SHA-256 of the weights
    novelty: Novelty | None = None  # novelty distances, if the model has them

    @cached_property
    def key(self) -> str:
        """Hash of everything that the graph depends on."""
        made_by = [version(name) for name in ("torch", *graph.MADE_BY)]
        return files.hash_of([self.hash, repr(self.preprocessing), made_by, _sources()])

    @property
    def folder(self) -> Path:
        """Cache folder of its graphs and checks."""
        from gqs.archive import frames_folder

        return frames_folder() / "engines" / self.key[:16]


def opened(
    wanted: str, model: Model, threads: int | None = None, tell: Tell = no_message
) -> Engine:
    """Open an engine for a model; "auto" selects the fastest one."""
    if wanted == AUTO:
        return _fastest(model, threads, tell)
    choice = Choice.parse(wanted)
    if str(choice) == "torch":
        return Torch(model.network, model.preprocessing, threads=threads)
    engine = started(choice, model, threads, tell)
    verdict = _verdict(choice, model, threads, tell, engine)
    if verdict.refused:
        raise ModelError(
            f"Engine {choice} is refused for this model: {verdict.refused}. Use --engine auto."
        )
    return engine


def _fastest(model: Model, threads: int | None, tell: Tell) -> Engine:
    plain = Torch(model.network, model.preprocessing, threads=threads)
    others = [Choice(name) for name in ("openvino", "onnx") if installed(name)]
    if not others or next(model.network.parameters()).device.type != "cpu":
        return plain
    if not all(_known(choice, model) for choice in (Choice("torch"), *others)):
        try:
            graph_of(model, tell)  # without it there is nothing to check
        except GqsError as error:
            tell(f"Engine torch is used: {error}")
            return plain
    speeds: dict[str, float] = {}
    # On one thread, as fields are classified; torch has one setting for the whole process.
    with _torch_threads_kept():
        for choice in (Choice("torch"), *others):
            try:
                verdict = _verdict(choice, model, 1, tell)
            except GqsError as error:
                tell(f"Engine {choice} is not used: {error}")
                continue
            if verdict.refused:
                tell(f"Engine {choice} is not used: {verdict.refused}.")
            else:
                speeds[str(choice)] = verdict.a_cpu_second
    least = _LEAST_GAIN * speeds.pop("torch", 0.0)
    best = max(speeds, key=lambda name: speeds[name], default="")
    if not best or speeds[best] < least:
        return plain
    return started(Choice(best), model, threads, tell)


@contextlib.contextmanager
def _torch_threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def graph_of(model: Model, tell: Tell = no_message) -> ModelProto:
    """The graph of a model, from the cache if it is there."""

    def draw() -> ModelProto:
        tell("Preparing the model for other engines; this takes a minute, once.")
        whole = LogitModel(_apart(model.network), model.preprocessing)
        return graph.draw(whole, dict(zip(INPUTS, whole.example(), strict=False)), [*OUTPUTS])

    return _kept(model.folder / GRAPH, draw)


def _apart(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a network, since export changes its gradients."""
    return copy.deepcopy(network).cpu()


def started(
    choice: Choice, model: Model, threads: int | None = None, tell: Tell = no_message
) -> Engine:
    """Start an engine without checking it."""
    if choice.engine == "torch":
        return Torch(model.network, model.preprocessing, choice.precision, threads)
    whole = graph_of(model, tell)
    parts = [whole] if choice.precision == "fp32" else list(graph.split_graph(whole))
    if choice.precision == "int8":

        def quantise() -> ModelProto:
            tell("Quantising the model to int8; this takes a minute, once.")
            seen = probe_cutouts.specimens(model.preprocessing, CALIBRATED_ON, seed=1, harmed=False)
            return quantize.quantise(parts[0], parts[1], seen)

        parts[1] = _kept(model.folder / ROUNDED, quantise)
    try:
        return Graph(choice, parts, threads)
    except Exception as error:  # the engines' errors have no common base class
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"Engine {choice} does not support this network ({type(error).__name__}: {reason}). "
            "Use --engine torch."
        ) from error


def _verdict(
    choice: Choice, model: Model, threads: int | None, tell: Tell, engine: Engine | None = None
) -> Parity:
    """The result of an engine's check, from the cache if it is there."""
    if found := _known(choice, model):
        return found
    engine = engine or started(choice, model, threads, tell)
    with _one_at_a_time(model.folder):
        if found := _known(choice, model):
            return found
        tell(f"Checking engine {choice} on simulated cutouts, once for this model.")
        seen, reference = _reference(model)
        found = parity.compared(engine, choice.precision, seen, reference, model.novelty)
        with contextlib.suppress(ResourceError):  # works without a writable cache
            files.write_json(_verdict_path(choice, model), found.as_dict())
    return found


def _known(choice: Choice, model: Model) -> Parity | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Parity(**json.loads(_verdict_path(choice, model).read_text("utf-8")))
    return None


def _verdict_path(choice: Choice, model: Model) -> Path:
    key = files.hash_of([model.key, choice.versions(), processor()])
    return model.folder / f"{choice.engine}-{choice.precision}-{key[:16]}.json"


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let processes with the same work wait for the first; without file locks all do it."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((folder / ".lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends
        yield


@lru_cache(maxsize=2)
def _reference(model: Model) -> tuple[probe_cutouts.ProbeCutouts, tuple[Any, Any]]:
    """Test cutouts and torch's float32 results for them."""
    seen = probe_cutouts.specimens(model.preprocessing)
    logits, embedding, _ = parity.answers(Torch(model.network, model.preprocessing), seen)
    return seen, (logits, embedding)


def _kept(path: Path, make: Callable[[], ModelProto]) -> ModelProto:
    """Read a graph from the cache, or make it and store it; a damaged one is replaced."""
    if (found := _whole(path)) is not None:
        return found
    with _one_at_a_time(path.parent):
        if (found := _whole(path)) is not None:
            return found
        made = make()
        data = made.SerializeToString(deterministic=True)
        with contextlib.suppress(ResourceError):
            files.write_bytes(path, data)
            hashed = hashlib.sha256(data).hexdigest().encode()
            files.write_bytes(path.with_suffix(".sha256"), hashed)
    return made


def _whole(path: Path) -> ModelProto | None:
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        stored = path.with_suffix(".sha256").read_text("ascii").strip()
        if stored == hashlib.sha256(data).hexdigest():
            found: ModelProto = import_module("onnx").load_model_from_string(data)
            return found
    return None


@lru_cache(maxsize=1)
def processor() -> str:
    """Name of the processor, if it can be found."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        found = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
        return " ".join(sorted(set(found)))
    return f"{platform.machine()} {platform.processor()}"


@lru_cache(maxsize=1)
def _sources() -> str:
    """Hash of the code that makes and checks a graph."""
    from gqs import networks
    from gqs.cutouts import channels, preprocessing

    folders = [Path(str(module.__file__)).parent for module in (networks, graph)]
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    paths += [Path(str(module.__file__)) for module in (channels, preprocessing)]
    return files.hash_of([files.sha256(path) for path in paths])
