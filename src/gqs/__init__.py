"""Classify galaxies, quasars and stars in survey images (Gao, Tu, Li & Li 2023, and beyond)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from gqs import labels

if TYPE_CHECKING:
    from gqs.archive.fetch import fetch
    from gqs.cutouts.build import build_from_frames, build_from_simulation
    from gqs.cutouts.preprocessing import Preprocessing
    from gqs.cutouts.split import make_split
    from gqs.cutouts.store import CutoutStore
    from gqs.imaging.align import BandStack, align
    from gqs.imaging.detect import detect
    from gqs.imaging.frames import Frame, read_frame
    from gqs.model.classifier import Classifier, load_classifier
    from gqs.samp import send
    from gqs.training.estimator import SkyClassifier

__version__ = "0.2.0"

# Public names and the modules they are in, imported on first use: torch and astropy take seconds,
# and `gqs --help` must not wait for them.
_PUBLIC: Final = {
    "BandStack": "gqs.imaging.align",
    "Classifier": "gqs.model.classifier",
    "CutoutStore": "gqs.cutouts.store",
    "Frame": "gqs.imaging.frames",
    "Preprocessing": "gqs.cutouts.preprocessing",
    "SkyClassifier": "gqs.training.estimator",
    "align": "gqs.imaging.align",
    "build_from_frames": "gqs.cutouts.build",
    "build_from_simulation": "gqs.cutouts.build",
    "detect": "gqs.imaging.detect",
    "fetch": "gqs.archive.fetch",
    "load_classifier": "gqs.model.classifier",
    "make_split": "gqs.cutouts.split",
    "read_frame": "gqs.imaging.frames",
    "send": "gqs.samp",
}
__all__ = [
    "BandStack",
    "Classifier",
    "CutoutStore",
    "Frame",
    "Preprocessing",
    "SkyClassifier",
    "__version__",
    "align",
    "build_from_frames",
    "build_from_simulation",
    "detect",
    "fetch",
    "labels",
    "load_classifier",
    "make_split",
    "read_frame",
    "send",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'gqs' has no attribute {name!r}")
