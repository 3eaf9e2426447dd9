"""Images a second of our training loop against torchvision's reference loop, on ResNet18.

    python benchmarks/training_speed.py [--rounds 5] [--steps 16]

The reference is that of torchvision's references/classification/train.py: a Dataset that gives one
sample, torchvision's transforms on each, a DataLoader with one worker, fp32. Ours is
`gqs.training.train` as users call it. Both use the same 8-bit pictures, rotated and flipped as in
the paper (3.5), in batches of 64, with Adam.

The three alternate in short rounds, each with one thread, and the median over rounds is given, so
that other load on the machine affects all of them. Speeds are from the first to the last step of an
epoch, without validation and checkpoints, in images a second of CPU time (of the process and its
workers) and of wall time. bf16 is only of use at the same loss, so the losses of the same steps are
given as well; fp32 and bf16 start from the same weights and use the same batches.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table

from gqs.cutouts.shards import write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.labels import CLASSES
from gqs.networks.libraries import import_torchvision
from gqs.recipes import load
from gqs.training import train
from measured import save

BATCH, SEED, WORKERS = 64, 1, 1
VALIDATION = 64


def pictures(folder: Path, n: int) -> CutoutStore:
    """A store of n 8-bit pictures whose classes differ in size and colour."""
    rng = np.random.default_rng(SEED)
    kind = rng.integers(3, size=n)
    y, x = np.mgrid[:50, :50]
    width = np.where(kind == 0, 3.5, 2.0)[:, None, None, None]
    colour = np.where(kind[:, None] == 1, [0.6, 0.8, 1.0], [1.0, 0.8, 0.6])[:, :, None, None]
    spot = np.exp(-((y - 24.5) ** 2 + (x - 24.5) ** 2) / (2 * width**2))
    light = 200 * rng.uniform(0.1, 1, (n, 1, 1, 1)) * colour * spot
    images = np.clip(light + rng.normal(20, 12, (n, 3, 50, 50)), 0, 255).astype(np.uint8)
    rows = Table(
        {
            "objid": np.arange(n, dtype=np.uint64),
            "ra": 0.01 * np.arange(n) + 1,
            "dec": np.zeros(n),
            "x": np.zeros(n),
            "y": np.zeros(n),
            "run": np.ones(n, int),
            "camcol": np.ones(n, int),
            "field": np.arange(n) // 64,
            "class": np.array(CLASSES)[kind],
            "flags": np.zeros(n, np.int32),
        }
    )
    with StoreWriter(folder, "gri", "paper", "pad", {"seed": SEED}) as writer:
        write_shard(folder, "all", images, rows, "benchmark")
        return writer.finish(["all"])


class Samples(torch.utils.data.Dataset):
    """One sample at a time, through torchvision's transforms."""

    def __init__(self, images: np.ndarray, classes: np.ndarray) -> None:
        import_torchvision()
        from torchvision.transforms import v2

        self.images, self.classes = images, classes
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomRotation(90, interpolation=v2.InterpolationMode.BILINEAR),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[i].transpose(1, 2, 0)), int(self.classes[i])


class Clock:
    """CPU time of this process and its workers, and wall time, at each step of an epoch."""

    def __init__(self) -> None:
        self.read: dict[int, tuple[float, float]] = {}

    def __call__(self, step: int, total: int = 0, note: str = "") -> None:
        cpu = time.process_time() + sum(
            map(cpu_seconds_of, (child.pid for child in multiprocessing.active_children()))
        )
        self.read.setdefault(step, (cpu, time.perf_counter()))

    def speeds(self) -> dict[str, float]:
        first, last = min(self.read), max(self.read)
        cpu, wall = np.subtract(self.read[last], self.read[first])
        images = BATCH * (last - first)
        return {"images_cpu_s": images / cpu, "images_wall_s": images / wall}


def cpu_seconds_of(process: int) -> float:
    """User and system time of a process, from /proc (proc(5): fields 14 and 15, in ticks)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def theirs(store: CutoutStore, objects: int, seed: int) -> dict[str, float]:
    """One epoch as train_one_epoch has it, without its printing."""
    torch.manual_seed(seed)
    classes = np.array([CLASSES.index(name) for name in store.index["class"]])
    rows = np.arange(objects)
    loader = torch.utils.data.DataLoader(
        Samples(store.images(rows), classes[rows]), BATCH, shuffle=True, num_workers=WORKERS
    )
    network = import_torchvision().resnet18(num_classes=3).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    clock, losses, waited = Clock(), [], 0.0
    asked = time.perf_counter()
    for step, (x, y) in enumerate(loader):
        waited += (time.perf_counter() - asked) if step else 0.0
        loss = torch.nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        clock(step + 1)
        asked = time.perf_counter()
    spent = clock.read[max(clock.read)][1] - clock.read[1][1]
    return {**clock.speeds(), "loss": float(np.mean(losses)), "waiting": waited / spent}


def ours(store: CutoutStore, split: Table, precision: str, seed: int) -> dict[str, float]:
    """One epoch by the package; the share of time spent waiting is its history's."""
    recipe = load("paper", "resnet18", epochs=1, batch=BATCH, precision=precision)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        history = train(
            store, split, folder, recipe, seed=seed, threads=1, device="cpu", progress=clock
        ).history
    loss, waiting = float(history["train_loss"][0]), float(history["waiting"][0])
    return {**clock.speeds(), "loss": loss, "waiting": waiting}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16, help="of 64 images, in each round")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    objects = BATCH * chosen.steps
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = pictures(Path(folder) / "store", objects + VALIDATION)
        sides = np.where(np.arange(len(store)) < objects, "train", "validation")
        split = Table({"objid": store.index["objid"], "split": sides})
        for number in range(chosen.rounds):
            turns = {
                "theirs": lambda seed: theirs(store, objects, seed),
                "fp32": lambda seed: ours(store, split, "fp32", seed),
                "bf16": lambda seed: ours(store, split, "bf16", seed),
            }
            # Each round begins with another, so that none has always the same neighbour.
            order = np.roll(list(turns), number).tolist()
            rounds.append({name: turns[name](SEED + number) for name in order})
            print(number + 1, "of", chosen.rounds, rounds[-1], flush=True)

    def median(values: list[float]) -> float:
        return float(np.median(values))

    result = {
        name: {key: median([r[name][key] for r in rounds]) for key in rounds[0][name]}
        for name in ("theirs", "fp32", "bf16")
    }
    ratios = {
        f"{name}_over_theirs_{kind}": median(
            [r[name][f"images_{kind}_s"] / r["theirs"][f"images_{kind}_s"] for r in rounds]
        )
        for name in ("fp32", "bf16")
        for kind in ("cpu", "wall")
    }
    apart = [r["bf16"]["loss"] - r["fp32"]["loss"] for r in rounds]
    losses = {"bf16_minus_fp32_mean": float(np.mean(apart)), "spread": float(np.std(apart, ddof=1))}
    save(
        "training_speed",
        SEED,
        {
            "network": "resnet18",
            "threads": 1,
            "workers_of_theirs": WORKERS,
            "batch": BATCH,
            "steps": chosen.steps,
            "torch": torch.__version__,
            "load_average_15_min": os.getloadavg()[2],
            "medians": result,
            "ratios": ratios,
            "loss_of_the_same_steps": losses,
            "rounds": rounds,
        },
    )


if __name__ == "__main__":
    main()
