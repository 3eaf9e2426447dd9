"""What each network costs: weights, operations, images a second in use and in training.

    python benchmarks/network_cost.py [NAME ...] [--threads 1]

Weights and operations are counted on shapes alone. Speeds are of random cutouts, of five bands
with masks (compact) or of the paper's picture, and per second of processor time, so that other
work on the machine disturbs them little. Without names all networks are measured, the result is
written, and with it the table in docs/networks.md; with names they are only shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gqs import __version__
from gqs.files import write_json
from gqs.networks import zoo
from gqs.training.machine import autocast, precision_of

RESULT = Path(__file__).parent / "results/network_cost.json"
TABLE = Path(__file__).parents[1] / "docs/networks.md"
BEGIN, END = "<!-- made by benchmarks/network_cost.py -->\n", "<!-- end -->\n"
SECONDS = 3.0  # of measuring, for each number
BATCH = 64  # cutouts of 50 px; of larger pictures as many as have the same number of pixels
CPU = torch.device("cpu")


def rate(network: torch.nn.Module, x: torch.Tensor, precision: str, train: bool) -> float:
    """Cutouts a processor-second, after one batch of warming up."""
    network.train(train)
    y = torch.arange(len(x)) % 3

    def once() -> None:
        with torch.set_grad_enabled(train), autocast(CPU, precision):
            logits = network(x)
            if train:
                torch.nn.functional.cross_entropy(logits.float(), y).backward()

    once()
    begin, done = time.process_time(), 0
    while done == 0 or time.process_time() - begin < SECONDS:
        once()
        done += len(x)
    return float(f"{done / (time.process_time() - begin):.3g}")


def measure(name: str, precisions: list[str]) -> dict[str, Any]:
    torch.manual_seed(0)
    facts = zoo.describe(name)
    network = zoo.channels_last(zoo.build(name, facts.channels))  # as training and use have it
    batch = max(2, round(BATCH * (zoo.INPUT_SIZE / facts.input_size) ** 2))
    x = torch.randn(batch, facts.channels, zoo.INPUT_SIZE, zoo.INPUT_SIZE)
    if name == "compact":
        x[:, 5:] = 1
    row: dict[str, Any] = asdict(facts) | {"batch": batch}
    for precision in precisions:
        row[f"images_s_{precision}"] = rate(network, x, precision, train=False)
        row[f"training_images_s_{precision}"] = rate(network, x, precision, train=True)
    return row


def table(rows: list[dict[str, Any]], precisions: list[str]) -> str:
    """Markdown: a line for each network, its speeds in the order of the precisions."""
    both = " / ".join(precisions)
    lines = [
        f"| network | channels x pixels | weights | multiply-adds | cutouts a second, {both} "
        "| in training | from |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        used, trained = (
            " / ".join(f"{row[f'{kind}_{precision}']:,g}" for precision in precisions)
            for kind in ("images_s", "training_images_s")
        )
        lines.append(
            f"| `{row['name']}` | {row['channels']} x {row['input_size']} "
            f"| {row['parameters']:,} | {row['multiply_adds'] / 1e6:,.0f} M | {used} | {trained} "
            f"| {row['source']} |"
        )
    return "\n".join(lines) + "\n"


def put_into_docs(text: str) -> None:
    page = TABLE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    TABLE.write_text(before + BEGIN + text + END + after, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    precisions = sorted({"fp32", precision_of("auto", CPU)})
    load = os.getloadavg()[2]
    rows = []
    for name in chosen.names or zoo.NETWORKS:
        rows.append(measure(name, precisions))
        print(json.dumps(rows[-1]), flush=True)
    if chosen.names:
        return
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": chosen.threads,
        "load_before": load,
        "torch": torch.__version__,
        "gqs": __version__,
        "seed": 0,
        "networks": rows,
    }
    write_json(RESULT, result)
    put_into_docs(table(rows, precisions))


if __name__ == "__main__":
    main()
