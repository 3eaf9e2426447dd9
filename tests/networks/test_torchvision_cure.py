"""The cure for torchvision beside a CPU-only torch; the core never needs torchvision."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

from gqs.errors import UsageError
from gqs.networks import zoo
from gqs.networks.torchvision_cure import import_timm, import_torchvision


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_torchvision_is_imported_where_it_is_installed() -> None:
    models = import_torchvision()
    assert models.resnet18(num_classes=3).fc.out_features == 3
    assert import_torchvision() is models


def test_the_core_never_imports_torchvision() -> None:
    code = "import sys, gqs.networks.zoo as zoo, gqs.training, gqs.model.folder\n"
    code += "zoo.build('resnet18'); print('torchvision' in sys.modules)"
    assert run(code) == "False"


def hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Let a library be as if it were not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    found = importlib.import_module

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}")
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)


def test_without_torchvision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torchvision")
    with pytest.raises(UsageError, match=r"gqs\[zoo\]"):
        import_torchvision()
    with pytest.raises(UsageError, match=r"gqs\[zoo\]"):
        zoo.build("vgg16")
    assert zoo.describe("resnet18").parameters == 11_178_051  # ours need no other library


def test_timm_is_imported_beside_torchvision() -> None:
    assert import_timm().is_model("resnet18")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "timm")
    with pytest.raises(UsageError, match=r"timm.*gqs\[zoo\]"):
        zoo.build("timm:resnet18")
