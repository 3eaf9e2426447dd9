"""A model by the name of its folder: what processes pass on; each loads it once, on one thread."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import threadpoolctl
import torch

from gqs.errors import ModelError
from gqs.executors.processes import keep_memory
from gqs.model.classifier import SHIPPED, Classifier, load_classifier


@dataclass(frozen=True)
class ModelName:
    """Which model judges, in a few bytes that any process understands."""

    # the model folder; None for the model in the package, wherever that is installed
    folder: Path | None
    hash: str  # SHA-256 of its weights
    engine: str = "torch"  # what computes, as `load_classifier` takes it
    device: str = "cpu"  # where to compute, as torch names it

    @classmethod
    def of(cls, classifier: Classifier) -> ModelName:
        """Name a model that is loaded here."""
        folder = None if classifier.folder == SHIPPED else classifier.folder.absolute()
        device = str(next(classifier.network.parameters()).device)
        return cls(folder, classifier.hash, classifier.computes.name, device)

    def load(self) -> Classifier:
        """Load the model on the first call in a process, and limit the process to one thread."""
        return _loaded(self)


@functools.lru_cache(maxsize=1)
def _loaded(name: ModelName) -> Classifier:
    # As many processes as cores: more threads, of torch or of numpy's, would only wait.
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    keep_memory()  # from field to field
    classifier = load_classifier(name.folder, name.device, name.engine, threads=1)
    if classifier.hash != name.hash:
        raise ModelError(
            f"{classifier.folder}: holds the model {classifier.hash[:12]}, not {name.hash[:12]}, "
            "with which this began. Give every machine the same model folder."
        )
    return classifier
