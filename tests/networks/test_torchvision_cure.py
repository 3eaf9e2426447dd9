"""The cure for torchvision beside a CPU-only torch; the core never needs torchvision."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pytest

from gqs.errors import UsageError
from gqs.networks.torchvision_cure import import_torchvision


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_torchvision_is_imported_where_it_is_installed() -> None:
    models = import_torchvision()
    assert models.resnet18(num_classes=3).fc.out_features == 3
    assert import_torchvision() is models


def test_the_core_never_imports_torchvision() -> None:
    code = "import sys, gqs.networks.zoo as zoo, gqs.training, gqs.model_folder\n"
    code += "zoo.build('resnet18'); print('torchvision' in sys.modules)"
    assert run(code) == "False"


def test_without_torchvision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    found = builtins.__import__
    import importlib

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "torchvision":
            raise ModuleNotFoundError("No module named 'torchvision'")
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UsageError, match=r"gqs\[zoo\]"):
        import_torchvision()
