"""What a training asks of the machine: device, precision, threads, and refusals that help."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import nn

from gqs.cutouts.preprocessing import CPU
from gqs.errors import ResourceError, UsageError
from gqs.networks import zoo

SMALL: Final = 5_000_000  # weights; larger networks are tried on fewer images


def device_of(name: str | None) -> torch.device:
    """Return the device to compute on."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"Device {name!r} is not there. Name cpu, or cuda where torch has it."
        ) from error
    return device


def precision_of(name: str, device: torch.device) -> str:
    """Return the precision that matrix products and convolutions run in."""
    has = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    if name == "bf16" and not has:
        raise UsageError(f"Device {device} does not compute in bf16. Use --precision fp32.")
    return "bf16" if has and name in ("bf16", "auto") else "fp32"


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network runs in its precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def quickest_threads(network: nn.Module, channels: int, side: int = zoo.INPUT_SIZE) -> int:
    """Return whether a network trains faster on all cores or on one, as the machine is now.

    The threads of one operation wait for each other: beside another busy program two can be ten
    times slower than one (seen: 70 against 700 images a second), so it is tried.
    """
    everything = torch.get_num_threads()
    trial = copy.deepcopy(network).train()
    small = sum(weight.numel() for weight in trial.parameters()) < SMALL
    x = torch.ones(64 if small else 4, channels, side, side)
    seconds = {}
    try:
        for threads in {everything, 1}:
            torch.set_num_threads(threads)
            trial(x).sum().backward()  # the first call prepares kernels
            begin = time.perf_counter()
            for _ in range(3):
                trial(x).sum().backward()
            seconds[threads] = time.perf_counter() - begin
    finally:
        torch.set_num_threads(everything)
    return min(seconds, key=lambda threads: seconds[threads])


@contextlib.contextmanager
def settings(threads: int | None, device: torch.device = CPU) -> Iterator[None]:
    """Set what makes a run repeat itself, and put back what the caller had.

    On a GPU, products of fp32 numbers are taken in TF32, as torch does in convolutions anyway.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads: there must be at least one.")
    before = torch.get_num_threads()
    deterministic = torch.backends.cudnn.deterministic
    products = torch.get_float32_matmul_precision()
    with torch.random.fork_rng():
        try:
            torch.set_num_threads(threads or before)
            torch.backends.cudnn.deterministic = True
            if device.type == "cuda":
                torch.set_float32_matmul_precision("high")
            yield
        finally:
            torch.set_num_threads(before)
            torch.backends.cudnn.deterministic = deterministic
            if device.type == "cuda":
                torch.set_float32_matmul_precision(products)


@contextlib.contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Turn running out of memory into a sentence with the option that helps."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        words = str(error)
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and "can't allocate memory" not in words and "not enough memory" not in words:
            raise
        raise ResourceError(
            f"Training does not fit into memory with batches of {batch}. "
            f"Try --batch {max(2, batch // 2)}."
        ) from error
