"""Images a second of our training loop against torchvision's reference loop, on ResNet18.

    python benchmarks/training_speed.py [--objects 2048] [--epochs 3]

Theirs is the usual way: a Dataset that gives one sample, torchvision's transforms on each, a
DataLoader with workers, fp32. Ours is `gqs.training.train` as users call it, validation and
checkpoints included. Both see the same 8-bit pictures, turned and flipped as in the paper (3.5),
in one run on the same threads, one after the other, twice. The losses are reported beside the
speeds: bf16 counts only at the same loss.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table

from gqs import __version__
from gqs.dataset.shards import write_shard
from gqs.dataset.store import CutoutStore
from gqs.dataset.writer import StoreWriter
from gqs.labels import CLASSES
from gqs.networks.torchvision_cure import import_torchvision
from gqs.recipes import load
from gqs.training import train

RESULT = Path(__file__).parent / "results/training_speed.json"
BATCH, SEED = 128, 1


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


def theirs(store: CutoutStore, rows: np.ndarray, epochs: int, workers: int) -> dict[str, float]:
    """torchvision's references/classification/train.py, train_one_epoch, without its printing."""
    torch.manual_seed(SEED)
    classes = np.array([CLASSES.index(name) for name in store.index["class"]])[rows]
    samples = Samples(store.images(rows), classes)
    loader = torch.utils.data.DataLoader(
        samples, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )
    network = import_torchvision().resnet18(num_classes=3).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    seconds, loss_sum = [], 0.0
    for _ in range(epochs):
        begin, loss_sum, steps = time.perf_counter(), 0.0, 0
        for x, y in loader:
            loss = torch.nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum, steps = loss_sum + loss.item(), steps + 1
        seconds.append(time.perf_counter() - begin)
    return {"images_s": len(rows) // BATCH * BATCH / min(seconds), "loss": loss_sum / steps}


def ours(
    store: CutoutStore, split: Table, epochs: int, precision: str, threads: int
) -> dict[str, float]:
    recipe = load("paper", "resnet18", epochs=epochs, batch=BATCH, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        history = train(
            store, split, folder, recipe, seed=SEED, threads=threads, device="cpu"
        ).history
    images = (split["split"] == "train").sum() // BATCH * BATCH
    return {
        "images_s": float(images / history["seconds"].min()),
        "loss": float(history["train_loss"][-1]),
        "waiting": float(np.median(history["waiting"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        store = pictures(Path(folder) / "store", chosen.objects + 64)
        sides = np.where(np.arange(len(store)) < chosen.objects, "train", "validation")
        split = Table({"objid": store.index["objid"], "split": sides})
        rounds = []
        for _ in range(2):
            rows = np.arange(chosen.objects)
            found = {"theirs": theirs(store, rows, chosen.epochs, chosen.threads)}
            for precision in ("fp32", "auto"):
                found[precision] = ours(store, split, chosen.epochs, precision, chosen.threads)
            rounds.append(found)
            print(json.dumps(found), flush=True)
    best = {key: max(r[key]["images_s"] for r in rounds) for key in rounds[0]}
    result = {
        "machine": f"{os.cpu_count()} cores",
        "load_before": os.getloadavg()[2],
        "torch": torch.__version__,
        "gqs": __version__,
        "seed": SEED,
        "network": "resnet18",
        "batch": BATCH,
        "objects": chosen.objects,
        "threads": chosen.threads,
        "rounds": rounds,
        "fp32_over_theirs": best["fp32"] / best["theirs"],
        "auto_over_theirs": best["auto"] / best["theirs"],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
