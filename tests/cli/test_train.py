"""`gqs train` as a user types it: its help, what goes into the recipe, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.commands import gqs
from gqs import recipes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "cutouts"
    made = gqs("simulate", "--out", folder, "--into-store", "--objects", 90, "--workers", 1)
    assert made.returncode == 0, made.stderr
    split = gqs("split", folder, "--scheme", "paper")
    assert split.returncode == 0, split.stderr
    return folder


def test_help_names_every_recipe_and_gives_reasons() -> None:
    text = " ".join(gqs("train", "--help").stdout.split())
    for name in recipes.names():
        assert f"{name}" in text
    for reason in ("one unusual batch", "save time", "at the same loss"):
        assert reason in text


def test_options_go_into_the_recipe_and_the_history_to_tensorboard(
    store: Path, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = ["train", store, "--out", tmp_path / "model", "--epochs", 2, "--batch", 16,
             "--threads", 1, "--device", "cpu", "--clip", 0.5, "--early-stop", 7,
             "--set", "augment.shift=2", "--tensorboard", tmp_path / "curves"]  # fmt: skip
    for _ in range(2):  # the second finds the model finished
        done = gqs(*words)
        assert done.returncode == 0, done.stderr
        events = accumulator.EventAccumulator(str(tmp_path / "curves"))
        events.Reload()
        assert [point.step for point in events.Scalars("loss/validation")] == [1, 2]
    recipe = json.loads((tmp_path / "model/model.json").read_text())["recipe"]
    assert (recipe["clip"], recipe["early_stop"], recipe["epochs"]) == (0.5, 7, 2)
    assert recipe["augment"]["shift"] == 2
    assert b"<svg" in (tmp_path / "model/history.svg").read_bytes()[:400]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("clipp=1", "unknown key 'clipp'. The keys are about, network, arguments"),
        ("augment.shfit=1", "unknown key 'augment.shfit'. The keys are augment.dihedral"),
        ("batch=-4", "batch = -4 is not allowed"),
        ("rate", "write KEY=VALUE"),
    ],
)
def test_unknown_keys_are_refused_and_the_valid_ones_listed(
    store: Path, tmp_path: Path, change: str, message: str
) -> None:
    done = gqs("train", store, "--out", tmp_path / "model", "--set", change)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()
