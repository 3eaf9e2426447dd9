"""Training: cross-entropy on the training side of a split, the epoch chosen on its validation side.

Paper, section 4.3.
"""

from gqs.training.checkpoints import Stopped
from gqs.training.loop import train
from gqs.training.result import TrainingResult

__all__ = ["Stopped", "TrainingResult", "train"]
