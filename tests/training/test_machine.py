"""Several processes that train together: the same as one, stopped and resumed, one model folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from gqs import tables
from gqs.cutouts import split as splits
from gqs.cutouts.shards import write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.errors import UsageError
from gqs.labels import CLASSES
from gqs.model.folder import load_weights, read_card
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.training import train
from gqs.training.machine import ProcessGroup

N = 203  # so that neither batches nor the validation side go round evenly

# A network without batch normalisation and dropout, where shares of a batch must add up exactly.
PLAIN = """
from torch import nn
from gqs.networks import zoo
def plain(channels):
    return nn.Sequential(nn.Conv2d(channels, 4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3),
                         nn.Flatten(), nn.Linear(36, 3))
zoo.NETWORKS["plain"] = zoo.Network(plain, "a test")
"""
WORKER = f"""
import sys
from pathlib import Path
from gqs.cutouts import split
from gqs.cutouts.store import CutoutStore
from gqs.errors import GqsError
from gqs.recipes import Recipe
from gqs.training import train
{PLAIN}
store, sides, out, recipe = sys.argv[1:]
try:
    found = train(CutoutStore.open(Path(store)), split.load(Path(sides)), Path(out),
                  Recipe.model_validate_json(recipe), threads=1, device="cpu", seed=3)
    # One write: both processes share the pipe, and print writes its words one by one.
    sys.stdout.write(" ".join(("model", found.model, str(len(found.history)))) + "\\n")
    sys.stdout.flush()
except GqsError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[CutoutStore, Table, Path]:
    """A store of cutouts whose classes differ in brightness, and its saved split."""
    folder = tmp_path_factory.mktemp("together")
    rng = np.random.default_rng(1)
    kind = rng.integers(3, size=N)
    images = rng.normal(0.02 * kind[:, None, None, None], 0.05, (N, 3, 50, 50))
    images[5, 1] = np.nan
    rows = Table({name: np.zeros(N) for name in ("x", "y", "dec")})
    rows["objid"], rows["ra"] = np.arange(N, dtype=np.uint64) + 1, 10 + 0.01 * np.arange(N)
    for name, value in {"run": 94, "camcol": 1, "flags": 0}.items():
        rows[name] = np.full(N, value)
    rows["field"], rows["class"] = np.arange(N) // 20, np.array(CLASSES)[kind]
    with StoreWriter(folder / "store", "gri", "flux", "pad", {"seed": 1}) as writer:
        write_shard(folder / "store", "all", images.astype(np.float32), rows, "toy")
        store = writer.finish(["all"])
    split = splits.make_split(store.index, "paper", seed=2)
    return store, split, splits.save(split, folder / "split.parquet")


def together(
    made: tuple[CutoutStore, Table, Path], out: Path, recipe: Recipe
) -> subprocess.Popen[str]:
    """Train with torchrun in two processes."""
    script = out.parent / "worker.py"
    script.write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    words = [script, made[0].path, made[2], out, recipe.model_dump_json()]
    return subprocess.Popen(
        [*torchrun, "2", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finished(process: subprocess.Popen[str]) -> str:
    output, complaint = process.communicate(timeout=200)
    assert process.returncode == 0, complaint
    return output


def test_two_processes_take_the_steps_of_one(
    made: tuple[CutoutStore, Table, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "NETWORKS", dict(zoo.NETWORKS))
    exec(PLAIN, {})
    augment = {"rotation": 90.0, "flip": 0.5}
    recipe = Recipe(network="plain", optimizer="sgd", rate=0.1, epochs=2, batch=33, clip=1.0,
                    augment=augment, class_weights="balanced")  # type: ignore[arg-type]  # fmt: skip
    process = together(made, tmp_path / "two", recipe)
    one = train(made[0], made[1], tmp_path / "one", recipe, threads=1, device="cpu", seed=3)
    output = finished(process)
    assert output.count(f"model {read_card(tmp_path / 'two').weights_sha256} 2") == 2
    first, second = (load_weights(tmp_path / n / "weights.safetensors") for n in ("one", "two"))
    steps = 2 * (len(made[1][made[1]["split"] == "train"]) // 33)
    for name, value in first.items():
        # What the weights moved by is rate times the sum of the gradients.
        assert torch.allclose(value, second[name], rtol=0, atol=0.1 * steps * 1e-5), name
    history = tables.read(tmp_path / "two" / "history.csv")
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(history[name], one.history[name], rtol=1e-5)
    cards = [read_card(tmp_path / name) for name in ("one", "two")]
    assert cards[0].metrics["validation"]["objects"] == cards[1].metrics["validation"]["objects"]
    assert "processes" not in cards[0].training["identity"]
    assert cards[1].training["identity"]["processes"] == cards[1].training["processes"] == 2
    files = [sorted(p.name for p in (tmp_path / n).iterdir()) for n in ("one", "two")]
    assert files[0] == files[1]
    with pytest.raises(UsageError, match=r"another processes \(2 then, None now\)"):
        train(made[0], made[1], tmp_path / "two", recipe, threads=1, device="cpu", seed=3)


def test_stopped_by_sigterm_two_processes_resume_to_the_same_bits(
    made: tuple[CutoutStore, Table, Path], tmp_path: Path
) -> None:
    recipe = Recipe(network="compact", arguments={"width": 4, "hidden": 16, "dropout": 0.1},
                    optimizer="adamw", rate=5e-3, epochs=8, batch=32, average=0.9)  # fmt: skip
    whole = together(made, tmp_path / "whole", recipe)
    finished(whole)
    cut = tmp_path / "cut"
    process = together(made, cut, recipe)
    end = time.monotonic() + 120
    while not list((cut / "checkpoints").glob("00003-*.json")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode != 0
    assert complaint.count("The same command continues from it") == 2
    manifests = sorted(path.stem for path in (cut / "checkpoints").glob("?????-??????.json"))
    assert len(manifests) == 2  # the one written on the signal, and the epoch's before it
    assert not (cut / "model.json").exists()
    assert f"{read_card(tmp_path / 'whole').weights_sha256} 8" in finished(
        together(made, cut, recipe)
    )


@pytest.mark.parametrize("n", [2, 7, 64])
def test_shares_are_all_of_a_batch_and_differ_by_one_at_most(n: int) -> None:
    shares = [range(n)[ProcessGroup(rank, 5).share(n)] for rank in range(5)]
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_objects_in_a_batch_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Batches of 4 .* 5 processes"):
        ProcessGroup(0, 5).require_share(4)
