"""Import torchvision beside a CPU-only torch, whose build lacks two of its operators.

PyPI's torchvision registers fake kernels for `torchvision::nms` and `::qnms` at import; beside a
torch without its compiled library the operators are not there and the import fails. Declared
first, they are. Nothing here classifies with them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from torch import library as operators

from gqs.errors import UsageError

_DECLARED: list[operators.Library] = []  # an operator lives as long as its library object
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_torchvision() -> ModuleType:
    """Return torchvision.models, curing the import where it needs it."""
    try:
        return importlib.import_module("torchvision.models")
    except ModuleNotFoundError as error:
        raise UsageError(
            "This network comes from torchvision, which is not installed. "
            "Install gqs with its extra: pip install 'gqs[zoo]'."
        ) from error
    except RuntimeError:
        if _DECLARED:
            raise
    library = operators.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        library.define(operator)  # type: ignore[no-untyped-call]
    _DECLARED.append(library)
    return importlib.import_module("torchvision.models")


def import_timm() -> ModuleType:
    """Return timm, which itself imports torchvision."""
    import_torchvision()
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise UsageError(
            "Networks named timm:... come from timm, which is not installed. "
            "Install gqs with its extra: pip install 'gqs[zoo]'."
        ) from error
