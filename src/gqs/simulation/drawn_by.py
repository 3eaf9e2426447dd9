"""Which simulator drew something: a hash of all that decides what it draws."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from gqs import files

_PACKAGE: Final = Path(files.__file__).parent
_PARTS: Final = (_PACKAGE / "simulation", _PACKAGE / "surveys/detectors.py")


@cache
def renderer_hash() -> str:
    """Hash the simulator's code and tables."""
    folder, detectors = _PARTS
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".ecsv"))
    return files.hash_of([files.sha256(path) for path in (detectors, *paths)])
