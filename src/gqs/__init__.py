"""Classify galaxies, quasars and stars in survey images (Gao, Tu, Li & Li 2023, and beyond)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gqs import labels

if TYPE_CHECKING:
    from gqs.model.classifier import Classifier, load_classifier

__version__ = "0.2.0"
__all__ = ["Classifier", "__version__", "labels", "load_classifier"]


def __dir__() -> list[str]:
    return sorted(__all__)  # so that notebooks offer what is only imported on first use


def __getattr__(name: str) -> object:
    # torch and astropy take seconds to import; `gqs --help` must not wait for them.
    if name in ("Classifier", "load_classifier"):
        from gqs.model import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'gqs' has no attribute {name!r}")
