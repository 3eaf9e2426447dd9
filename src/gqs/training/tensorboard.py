"""A training's history for TensorBoard, one point an epoch, also when it is resumed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gqs.errors import UsageError
from gqs.files import disk_errors, hash_of

SCALARS: Final = {
    "train_loss": "loss/train",
    "validation_loss": "loss/validation",
    "train_accuracy": "accuracy/train",
    "validation_accuracy": "accuracy/validation",
    "rate": "rate",
    "seconds": "seconds",
    "waiting": "waiting",
}
Curves = Callable[[Any], None]


@contextlib.contextmanager
def following(folder: Path | None, identity: dict[str, Any]) -> Iterator[Curves]:
    """Write a history for TensorBoard as it grows.

    What the same training wrote before is written anew, so that no epoch comes twice, whatever was
    killed in between.
    """
    if folder is None:
        yield lambda history: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "TensorBoard is not installed: pip install 'gqs[tensorboard]'. Without it, leave "
            "--tensorboard out: history.csv and history.svg in the model folder tell the same."
        ) from error
    ending = f".gqs-{hash_of(identity)[:12]}"
    with disk_errors(Path(folder), "writing for TensorBoard"):
        for path in Path(folder).glob(f"events.out.tfevents.*{ending}"):
            path.unlink()
        writer: Any = SummaryWriter(str(folder), filename_suffix=ending)
    written = 0

    def write(history: Any) -> None:
        nonlocal written
        for row in history[written:]:
            for name, tag in SCALARS.items():
                writer.add_scalar(tag, float(row[name]), int(row["epoch"]))
        written = len(history)
        with disk_errors(Path(folder), "writing for TensorBoard"):
            writer.flush()

    try:
        yield write
    finally:
        writer.close()
