"""What weights score on the validation side: the numbers by which an epoch is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gqs import labels
from gqs.training.batches import Data
from gqs.training.distributed import Group
from gqs.training.machine import autocast


@torch.no_grad()
def score(
    network: nn.Module,
    data: Data,
    batch: int,
    precision: str,
    device: torch.device,
    group: Group,
    between: Callable[[], None],
) -> dict[str, Any]:
    """Score a network on the validation side."""
    network.eval()
    group.agree(network)
    n = len(labels.CLASSES)
    confusion = torch.zeros(n, n, dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for x, y in data.validation_batches(batch, device, group):
        if len(x):  # the last batch may be too small to go round
            with autocast(device, precision):
                logits = network(x).float()
            loss += nn.functional.cross_entropy(logits.double(), y, reduction="sum")
            confusion.view(-1).index_add_(0, y * n + logits.argmax(1), torch.ones_like(y))
        between()
    confusion, loss = group.total(confusion).cpu(), group.total(loss)
    objects, right = int(confusion.sum()), confusion.diagonal()
    recall = (right / confusion.sum(1)).tolist()
    return {
        "objects": objects,
        "loss": loss.item() / objects,
        "accuracy": int(right.sum()) / objects,
        "recall": {
            name: value if math.isfinite(value) else None
            for name, value in zip(labels.CLASSES, recall, strict=True)
        },
        "confusion": confusion.tolist(),
    }
