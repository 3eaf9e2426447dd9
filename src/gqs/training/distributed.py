"""One training in several processes, on several GPUs or machines: torchrun starts them.

    torchrun --standalone --nproc-per-node 4 -m gqs.cli train STORE --out MODEL

Each process takes its share of every batch, so that batches, their order and their augmentation are
those of one process; gradients are averaged by torch's DistributedDataParallel. The first process
alone writes; all read the same folders. Two things are not as in one process: dropout draws other
masks, and sums round otherwise; so the number of processes is part of what a training is.

Batch normalisation: on GPUs over the whole batch (SyncBatchNorm). torch has none for the CPU: there
each process normalises by its own share, and the first one's running statistics are kept.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gqs.errors import ResourceError, UsageError
from gqs.files import only_writer
from gqs.training.machine import device_of


@dataclass(frozen=True)
class Group:
    """The processes of a training, seen from one of them; alone where nothing else is said."""

    rank: int = 0  # place of this process, from 0
    size: int = 1  # how many there are

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return which of n objects are this process's; the shares differ by one at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def require_share(self, batch: int) -> None:
        """Refuse batches of which a process would get nothing."""
        if batch < self.size:
            raise UsageError(
                f"Batches of {batch} do not go round among {self.size} processes. Start fewer."
            )

    def normalised(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Let batch normalisation see the whole batch, where torch can: on GPUs."""
        if self.size == 1 or device.type != "cuda":
            return network
        # torch's own annotations lack these.
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call,no-any-return]

    def averaging(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network to call in training: its gradients are means over all processes."""
        if self.size == 1:
            return network
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices)

    def total(self, numbers: Tensor) -> Tensor:
        """Return the sum of the processes' numbers, which are overwritten."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def most(self, *numbers: int) -> list[int]:
        """Return the largest of the processes' numbers, place by place."""
        if self.size == 1:
            return list(numbers)
        largest = torch.tensor(numbers)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return [int(number) for number in largest]

    def agree(self, network: nn.Module) -> None:
        """Take the first process's running statistics."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Return when every process has come here."""
        self.most(0)

    @contextlib.contextmanager
    def writing(self, folder: Path) -> Iterator[None]:
        """Hold the folder's writer lock for all processes and report a lost process as an error."""
        try:
            with only_writer(folder) if self.first else contextlib.nullcontext():
                self.wait()
                yield
        except RuntimeError as error:
            if self.size == 1 or not ("gloo" in str(error) or isinstance(error, dist.DistError)):
                raise
            raise ResourceError(
                f"{folder}: another process of this training ended; it said why. "
                "The same command goes on from the last checkpoint."
            ) from error


def processes() -> int:
    """Return how many processes torchrun started; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Return this process's place among those that torchrun started; 0 where it is alone."""
    return int(os.environ.get("RANK", 0)) if processes() > 1 else 0


def join(device: str | None) -> tuple[Group, torch.device]:
    """Join the other processes, where torchrun started some, and take a device.

    The connection stays until the process ends, so that several trainings can follow each other.
    """
    where = device_of(device)
    if processes() == 1:
        return Group(), where
    if where.type == "cuda":
        if where.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1:
            raise UsageError(f"Device {device!r} is one GPU, and each process takes its own: cuda.")
        if where.index is None:
            where = device_of(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(where)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo")
    return Group(dist.get_rank(), dist.get_world_size()), where
