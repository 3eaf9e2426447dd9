"""What each network costs: weights, operations, images a second in use and in training.

    python benchmarks/network_cost.py [NAME ...] [--threads 2]

Weights and operations are counted on shapes alone; speeds are of this machine and of random
cutouts of five bands with masks (compact), or of the paper's picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from gqs import __version__
from gqs.networks import zoo
from gqs.training.machine import autocast, precision_of

RESULT = Path(__file__).parent / "results/network_cost.json"
SECONDS = 4.0  # of measuring, for each number
BATCH = 64
CPU = torch.device("cpu")


def channels_of(name: str) -> int:
    return 10 if name == "compact" else 3


def operations(name: str) -> int:
    """Multiply-adds of one cutout, forward."""
    with torch.device("meta"):
        network = zoo.build(name, channels_of(name)).eval()
        x = torch.empty(1, channels_of(name), 50, 50)
    counter = FlopCounterMode(display=False)
    with counter:
        network(x)
    return counter.get_total_flops() // 2


def rate(network: torch.nn.Module, x: torch.Tensor, precision: str, train: bool) -> float:
    """Cutouts a second, after one batch of warming up."""
    network.train(train)
    y = torch.arange(len(x)) % 3

    def once() -> None:
        with torch.set_grad_enabled(train), autocast(CPU, precision):
            logits = network(x)
            if train:
                torch.nn.functional.cross_entropy(logits.float(), y).backward()

    once()
    begin, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - begin < SECONDS:
        once()
        done += len(x)
    return round(done / (time.perf_counter() - begin), 1)


def measure(name: str, precisions: list[str]) -> dict[str, object]:
    torch.manual_seed(0)
    network, channels = zoo.build(name, channels_of(name)), channels_of(name)
    x = torch.randn(BATCH, channels, 50, 50)
    if name == "compact":
        x[:, 5:] = 1
    row: dict[str, object] = {
        "weights": zoo.parameters(name, channels),
        "multiply_adds": operations(name),
        "channels": channels,
        "source": zoo.NETWORKS[name].source,
    }
    for precision in precisions:
        row[f"images_s_{precision}"] = rate(network, x, precision, train=False)
        row[f"training_images_s_{precision}"] = rate(network, x, precision, train=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    precisions = sorted({"fp32", precision_of("auto", CPU)})
    networks = {}
    for name in chosen.names or zoo.NETWORKS:
        networks[name] = measure(name, precisions)
        print(name, json.dumps(networks[name]), flush=True)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": chosen.threads,
        "load_before": os.getloadavg()[2],
        "torch": torch.__version__,
        "gqs": __version__,
        "seed": 0,
        "batch": BATCH,
        "networks": networks,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
