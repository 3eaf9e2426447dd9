"""Device, precision and threads of a training, and the processes that share it.

Several processes train together when torchrun starts them::

    torchrun --standalone --nproc-per-node 4 -m gqs.cli train STORE --out MODEL

Each process computes its part of every batch, so batches, their order and their augmentation are
those of a single process; torch's DistributedDataParallel averages the gradients. Only the first
process writes; all read the same folders. Two things differ from a single process: dropout draws
other masks, and sums are rounded differently. The number of processes is therefore part of a
training's identity.

Batch normalisation uses the whole batch on GPUs (SyncBatchNorm). torch has no such layer for the
CPU: there each process normalises its own part, and the running statistics of the first are kept.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gqs.errors import ResourceError, UsageError
from gqs.files import only_writer
from gqs.networks import zoo

CPU: Final = torch.device("cpu")
SMALL_NETWORK: Final = 5_000_000  # weights; larger networks are timed on fewer images


def device_of(name: str | None) -> torch.device:
    """Device with this name; by default a GPU if there is one, else the CPU."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"Device {name!r} is not there. Use cpu, or cuda if torch supports it."
        ) from error
    return device


def precision_of(name: str, device: torch.device) -> str:
    """Precision of convolutions and matrix products, "fp32" or "bf16"."""
    has_bf16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    if name == "bf16" and not has_bf16:
        raise UsageError(f"Device {device} does not compute in bf16. Use --precision fp32.")
    return "bf16" if has_bf16 and name in ("bf16", "auto") else "fp32"


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which a network computes in a precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def fastest_threads(network: nn.Module, channels: int) -> int:
    """Number of threads, all or one, with which a network trains faster on this machine now.

    The threads of one operation wait for each other: on a busy machine two threads can be ten
    times slower than one (70 against 700 images a second were measured), so both are timed.
    """
    all_threads = torch.get_num_threads()
    trial = copy.deepcopy(network).train()
    small = sum(weight.numel() for weight in trial.parameters()) < SMALL_NETWORK
    x = torch.ones(64 if small else 4, channels, zoo.INPUT_SIZE, zoo.INPUT_SIZE)
    seconds = {}
    try:
        for threads in {all_threads, 1}:
            torch.set_num_threads(threads)
            trial(x).sum().backward()  # the first call prepares kernels
            begin = time.perf_counter()
            for _ in range(3):
                trial(x).sum().backward()
            seconds[threads] = time.perf_counter() - begin
    finally:
        torch.set_num_threads(all_threads)
    return min(seconds, key=lambda threads: seconds[threads])


@contextlib.contextmanager
def reproducible(threads: int | None, device: torch.device = CPU) -> Iterator[None]:
    """Set threads and deterministic kernels, and restore the caller's settings afterwards.

    On a GPU, products of fp32 numbers are computed in TF32, as torch does for convolutions anyway.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads: there must be at least one.")
    threads_before = torch.get_num_threads()
    deterministic_before = torch.backends.cudnn.deterministic
    matmul_before = torch.get_float32_matmul_precision()
    with torch.random.fork_rng():
        try:
            torch.set_num_threads(threads or threads_before)
            torch.backends.cudnn.deterministic = True
            if device.type == "cuda":
                torch.set_float32_matmul_precision("high")
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.backends.cudnn.deterministic = deterministic_before
            if device.type == "cuda":
                torch.set_float32_matmul_precision(matmul_before)


@contextlib.contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Turn torch's out-of-memory errors into one that suggests a smaller batch."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and "can't allocate memory" not in text and "not enough memory" not in text:
            raise
        raise ResourceError(
            f"Training does not fit into memory with batches of {batch}. "
            f"Try --batch {max(2, batch // 2)}."
        ) from error


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training, as seen from one of them; by default it is alone."""

    rank: int = 0  # number of this process, from 0
    size: int = 1  # number of processes
    device: torch.device = CPU  # of this process

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Part of n objects that this process computes; the parts differ by one at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def require_share(self, batch: int) -> None:
        """Refuse batches with fewer objects than processes."""
        if batch < self.size:
            raise UsageError(
                f"Batches of {batch} cannot be divided among {self.size} processes. Start fewer."
            )

    def synchronise_norms(self, network: nn.Module) -> nn.Module:
        """Replace batch normalisation by one over all processes, which torch has on GPUs only."""
        if self.size == 1 or self.device.type != "cuda":
            return network
        # torch's own annotations lack these.
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call,no-any-return]

    def average_gradients(self, network: nn.Module) -> nn.Module:
        """Network to call in training: its gradients are means over all processes."""
        if self.size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, *numbers: int) -> list[int]:
        """Largest of each number over the processes."""
        if self.size == 1:
            return list(numbers)
        largest = torch.tensor(numbers)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return [int(number) for number in largest]

    def broadcast_buffers(self, network: nn.Module) -> None:
        """Copy the running statistics of the first process to all others."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until every process has called this."""
        self.maximum(0)

    @contextlib.contextmanager
    def lock(self, folder: Path) -> Iterator[None]:
        """Hold a folder's writer lock for all processes; report the end of another as an error."""
        try:
            with only_writer(folder) if self.is_first else contextlib.nullcontext():
                self.wait()
                yield
        except RuntimeError as error:
            if self.size == 1 or not ("gloo" in str(error) or isinstance(error, dist.DistError)):
                raise
            raise ResourceError(
                f"{folder}: another process of this training ended; see its message. "
                "The same command goes on from the last checkpoint."
            ) from error


def process_count() -> int:
    """Number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def process_rank() -> int:
    """Number of this process among those that torchrun started; 0 without it."""
    return int(os.environ.get("RANK", 0)) if process_count() > 1 else 0


def join_processes(device: str | None) -> ProcessGroup:
    """Join the other processes, if torchrun started several, each with a device of its own.

    The connection stays open until the process ends, so that several trainings can follow.
    """
    where = device_of(device)
    if process_count() == 1:
        return ProcessGroup(device=where)
    if where.type == "cuda":
        if where.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1:
            raise UsageError(
                f"Device {device!r} is a single GPU, but every process needs its own. Use cuda."
            )
        if where.index is None:
            where = device_of(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(where)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo")
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), where)
