"""The middle model goes into the package, and the old one stays until it can."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import choose


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three folders that say no more than their validation loss."""
    folders = []
    for name, loss in (("a", 0.3), ("b", 0.1), ("c", 0.2)):
        folder = tmp_path / name
        folder.mkdir()
        for part in choose.PARTS:
            (folder / part).write_text(name)
        card = {"metrics": {"validation": {"loss": loss}}}
        (folder / "model.json").write_text(json.dumps(card))
        folders.append(folder)
    monkeypatch.setattr(
        choose, "load_model", lambda p: (None, json.loads((p / "model.json").read_text()))
    )
    return folders


def test_the_middle_one_is_chosen_and_replaces_all_of_the_old(
    models: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "package" / "shipped"
    place.mkdir(parents=True)
    (place / "left.over").write_text("old")
    chosen = choose.middle(models)
    assert chosen.name == "c"
    choose.replace(chosen, place)
    assert sorted(path.name for path in place.iterdir()) == sorted(choose.PARTS)
    assert (place / "history.csv").read_text() == "c"
    assert [path.name for path in place.parent.iterdir()] == ["shipped"]


def test_a_model_that_lacks_a_part_leaves_the_old_one_alone(
    models: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "shipped"
    place.mkdir()
    (place / "model.json").write_text("old")
    (models[2] / "examples.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"lacks examples\.safetensors"):
        choose.replace(models[2], place)
    assert (place / "model.json").read_text() == "old"
