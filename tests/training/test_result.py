"""What TensorBoard reads is the history: each epoch once, whatever was killed in between."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gqs.errors import UsageError
from gqs.training.result import SCALARS, tensorboard_writer

IDENTITY = {"seed": 1}


def history(epochs: int, lag: float = 0.0) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, **{name: 1 / (epoch + i) + lag for i, name in enumerate(SCALARS)}}
        for epoch in range(1, epochs + 1)
    ]


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), purge_orphaned_data=False)
    events.Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_every_epoch_comes_once_also_when_resumed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tensorboard_writer(tmp_path, IDENTITY) as curves:
        for epochs in (1, 2, 3):  # the third is written and then lost with its checkpoint
            curves(history(epochs))
    with tensorboard_writer(tmp_path, IDENTITY) as curves:
        curves(history(3, lag=0.5))
        curves(history(5, lag=0.5))
    found = read(tmp_path)
    assert sorted(found) == sorted(SCALARS.values())
    for name, tag in SCALARS.items():
        expected = [(row["epoch"], pytest.approx(row[name])) for row in history(5, lag=0.5)]
        assert found[tag] == expected


def test_another_training_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for seed in (1, 2):
        with tensorboard_writer(tmp_path, {"seed": seed}) as curves:
            curves(history(1))
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2


def test_without_tensorboard_it_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    absent: Any = None
    monkeypatch.setitem(sys.modules, "tensorboard", absent)
    with (
        pytest.raises(UsageError, match=r"pip install 'gqs\[tensorboard\]'.*history.csv"),
        tensorboard_writer(tmp_path / "curves", IDENTITY),
    ):
        pass
    assert not (tmp_path / "curves").exists()
    with tensorboard_writer(None, IDENTITY) as curves:  # not asked for
        curves(history(1))
