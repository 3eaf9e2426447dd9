"""The model of a process: named in a few bytes, loaded once, computed on one thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import threadpoolctl
import torch

from gqs.errors import ModelError
from gqs.executors.processes import keep_memory
from gqs.model.classifier import SHIPPED, Classifier, load_classifier


@dataclass(frozen=True)
class ModelName:
    """Identifies a model to other processes, which load it themselves."""

    folder: Path | None  # the model folder; None for the model in the package
    hash: str  # SHA-256 of its weights
    engine: str = "torch"  # as in `load_classifier`
    device: str = "cpu"  # as in torch

    @classmethod
    def of(cls, classifier: Classifier) -> ModelName:
        """The name of a loaded model."""
        folder = None if classifier.folder == SHIPPED else classifier.folder.absolute()
        device = str(next(classifier.network.parameters()).device)
        return cls(folder, classifier.hash, classifier.computes.name, device)

    def load(self) -> Classifier:
        """The model, loaded on the first call in a process, which is then limited to one thread."""
        if self not in _loaded:
            _limit_threads()
            classifier = load_classifier(self.folder, self.device, self.engine, threads=1)
            if classifier.hash != self.hash:
                raise ModelError(
                    f"{classifier.folder}: contains the model {classifier.hash[:12]} instead of "
                    f"{self.hash[:12]}. Use the same model folder on all machines."
                )
            _keep(self, classifier)
        return _loaded[self]


_loaded: dict[ModelName, Classifier] = {}  # at most one


def use_in_this_process(classifier: Classifier) -> None:
    """Let `ModelName.load` return a classifier that is loaded already, with one thread."""
    _limit_threads()
    _keep(ModelName.of(classifier), classifier)


def _keep(name: ModelName, classifier: Classifier) -> None:
    _loaded.clear()
    _loaded[name] = classifier


def _limit_threads() -> None:
    # There are as many processes as cores: more threads of torch or numpy would only wait.
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    keep_memory()
