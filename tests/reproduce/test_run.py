"""The verb as a referee runs it: planned, killed, continued, and never stopped by one network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gqs.cutouts.split import load
from gqs.cutouts.store import CutoutStore
from gqs.model.folder import read_card
from gqs.recipes import load as load_recipe
from gqs.reproduce.plan import Job, identity_of, model_folder

pytestmark = pytest.mark.timeout(900)  # half a minute each, where the machine is not busy
REPEATED = ("tables.md", "tables.tex", "results.json", "figures/figure-01.png")
TINY = ("--networks", "resnet18", "--limit", "90", "--epochs", "4", "--batch", "16")
CPU = ("--device", "cpu", "--precision", "fp32", "--threads", "1")


def begin(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gqs.cli", "reproduce", *map(str, words), *CPU],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(*words: object, code: int = 0) -> str:
    process = begin(*words)
    out, err = process.communicate(timeout=800)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out + err


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    for _ in range(4000):
        if any(folder.glob(pattern)):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{pattern} did not come")


@pytest.fixture(scope="module")
def whole(store: CutoutStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Result of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    assert "Page:" in finish(store.path, "--out", out, *TINY)
    return out


def test_a_plan_tells_what_would_run_and_trains_nothing(store: CutoutStore, tmp_path: Path) -> None:
    output = finish(store.path, "--out", tmp_path, *TINY, "--seeds", "1,2", "--plan-only", "--json")
    plan = json.loads(output[: output.index("\n")])
    assert [job["seed"] for job in plan["jobs"]] == [1, 2]
    assert all(job["seconds_left"] > 0 for job in plan["jobs"])
    assert plan["objects"]["grouped"]["train"] + plan["objects"]["grouped"]["test"] < 90
    # ResNet18 has 11.2 million weights of 4 bytes: two models, and one in training.
    assert plan["disk"] == pytest.approx((2 + 8) * 4 * 11.17e6, rel=0.01)
    assert not (tmp_path / "models").exists()


def test_a_training_is_what_gqs_train_would_have_made(whole: Path, store: CutoutStore) -> None:
    """So that folders of `gqs train` are adopted, and the reverse."""
    folder = model_folder(whole, "grouped", "resnet18", 1)
    recipe = load_recipe("paper", "resnet18").changed(epochs=4, batch=16, precision="fp32")
    job = Job("grouped", "resnet18", 1, recipe, folder)
    split = load(whole / "splits/grouped.parquet")
    expected = identity_of(store, split, job, torch.device("cpu"))
    assert read_card(folder).training["identity"] == expected
    assert {side: sum(n.values()) for side, n in split.meta["counts"].items()}["test"] > 0
    assert sum(sum(n.values()) for n in split.meta["counts"].values()) == 90


def test_killed_and_told_to_stop_it_goes_on_and_gives_the_same_tables(
    whole: Path, store: CutoutStore, tmp_path: Path
) -> None:
    words = (store.path, "--out", tmp_path, *TINY)
    kept = model_folder(tmp_path, "grouped", "resnet18", 1) / "checkpoints"
    first = begin(*words)
    wait_for(kept, "00001-*.json", first)
    first.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    _, err = first.communicate(timeout=120)
    assert first.returncode == 143, err
    assert time.monotonic() - begun < 60  # seconds; a machine may be busy
    assert "Stopped" in err
    assert any(kept.glob("*.json"))
    second = begin(*words)
    wait_for(kept, "0000[23]-*.json", second)
    second.kill()  # its child must end by itself, and leave its folder free
    second.communicate(timeout=120)
    time.sleep(1)
    assert not (kept.parent / "model.json").is_file()
    assert "Page:" in finish(*words)
    for name in REPEATED:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_finished_run_is_not_trained_again(whole: Path, store: CutoutStore) -> None:
    card = model_folder(whole, "grouped", "resnet18", 1) / "model.json"
    before = card.stat().st_mtime_ns
    tables = [(whole / name).read_bytes() for name in REPEATED]
    assert "done" in finish(store.path, "--out", whole, *TINY)
    assert card.stat().st_mtime_ns == before
    assert [(whole / name).read_bytes() for name in REPEATED] == tables


def test_what_torchrun_trained_in_several_processes_is_adopted(
    whole: Path, store: CutoutStore, tmp_path: Path
) -> None:
    """Their number stands in what a training is, and in nothing else of the folder."""
    shutil.copytree(whole, tmp_path / "out")
    path = model_folder(tmp_path / "out", "grouped", "resnet18", 1) / "model.json"
    card = json.loads(path.read_text("utf-8"))
    card["training"]["identity"]["processes"] = 2
    path.write_text(json.dumps(card), "utf-8")
    assert "0 of 1 to train" in finish(store.path, "--out", tmp_path / "out", *TINY)
    assert json.loads(path.read_text("utf-8")) == card


def test_damaged_weights_cost_one_row_and_the_exit_code(
    whole: Path, store: CutoutStore, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "out")
    path = model_folder(tmp_path / "out", "grouped", "resnet18", 1) / "weights.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    output = finish(store.path, "--out", tmp_path / "out", *TINY, code=7)
    assert "set aside: resnet18, seed 1, grouped split" in output
    assert "SHA-256" in (tmp_path / "out/tables.md").read_text("utf-8")


def test_a_network_that_fails_is_set_aside_and_the_rest_goes_on(
    whole: Path, store: CutoutStore
) -> None:
    stone = whole / "models/grouped/resnet18_se"
    stone.write_text("a file where a folder should be")
    try:
        words = [*TINY[:1], "resnet18_se,resnet18", *TINY[2:], "--jobs", "2"]
        output = finish(store.path, "--out", whole, *words, code=3)
    finally:
        stone.unlink()
    assert "set aside: resnet18_se, seed 1, grouped split:" in output
    assert "resnet18_se, seed 1, grouped split" in (whole / "reproduce.html").read_text("utf-8")
    numbers = json.loads((whole / "results.json").read_text("utf-8"))
    assert list(numbers["splits"]["grouped"]["networks"]) == ["resnet18"]


def test_another_request_for_the_same_folder_is_refused(whole: Path, store: CutoutStore) -> None:
    changed = [*TINY[:4], "--epochs", "5", *TINY[6:]]
    assert "epochs (4 then, 5 now)" in finish(store.path, "--out", whole, *changed, code=2)
    fewer = [*TINY[:2], "--limit", "60", *TINY[4:]]
    assert "is a split with --limit 90" in finish(store.path, "--out", whole, *fewer, code=2)
