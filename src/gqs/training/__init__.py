"""Training: cross-entropy on a store's training side, chosen on its validation side. Paper 4.3."""

from gqs.training.checkpoints import Stopped
from gqs.training.loop import train
from gqs.training.result import TrainingResult

__all__ = ["Stopped", "TrainingResult", "train"]
