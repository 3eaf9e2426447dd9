"""The plan: which device and command line each training gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gqs.cutouts.store import CutoutStore
from gqs.recipes import load
from gqs.reproduce.plan import Job, Options, epochs_done, model_folder
from gqs.reproduce.run import Trainings


def test_trainings_at_a_time_use_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Options(jobs=3).devices() == ["cuda:0", "cuda:1"]
    assert Options(jobs=1).devices() == [None]
    assert Options(jobs=3, device="cpu").devices() == ["cpu"]


def test_a_training_is_gqs_train_with_the_options_that_were_given(
    store: CutoutStore, tmp_path: Path
) -> None:
    options = Options(epochs=3, jobs=1, device="cpu")
    folder = model_folder(tmp_path, "paper", "timm:resnet18", 2)
    job = Job("paper", "timm:resnet18", 2, load("paper", "resnet18"), folder)
    words = Trainings(store, tmp_path, {}, options).command(job, "cpu")
    given = dict(zip(words[6::2], words[7::2], strict=True))
    assert words[3:6] == ["gqs.cli", "train", str(store.path)]
    assert given == {
        "--out": str(tmp_path / "models/paper/timm-resnet18/seed-2"),
        "--split": str(tmp_path / "splits/paper.parquet"),
        "--network": "timm:resnet18",
        "--recipe": "paper",
        "--seed": "2",
        "--epochs": "3",
        "--device": "cpu",
    }


def test_progress_is_that_of_the_newest_readable_checkpoint(tmp_path: Path) -> None:
    assert epochs_done(tmp_path) == (0, {})
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "00002-000000.json").write_text('{"epoch": 2}')
    (folder / "00003-000000.json").write_text('{"epo')
    assert epochs_done(tmp_path) == (2, {"epoch": 2})
