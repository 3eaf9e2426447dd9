"""One style for all figures: colours of the classes, markers and lines to tell them without."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any, Final, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, StrMethodFormatter

from gqs import labels

INK: Final = "#1f2328"
FAINT: Final = "#6b7280"
RULE: Final = "#d9dce1"
MARKERS: Final = dict(zip(labels.CLASSES, ("o", "D", "^"), strict=True))
LINES: Final = dict(zip(labels.CLASSES, ("-", "--", "-."), strict=True))
# The classes' colours, darkened for small text on white (contrast of at least 4.5).
TEXT: Final = dict(zip(labels.CLASSES, ("#B34700", "#0067A3", "#8F6200"), strict=True))

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # part of matplotlib: the same on every machine
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # names of objects and fields may hold a dollar sign
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "gqs",  # equal figures, equal bytes
}

P = ParamSpec("P")


def percent_axis(axis: Axis) -> None:
    """Label an axis of fractions in percent, with no more decimals than needed."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 4):g} %"))


def thousands_axis(axis: Axis) -> None:
    """Label an axis of counts with commas and without powers of ten, which need mathtext."""
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw in this style, independently of the user's matplotlibrc."""

    @functools.wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(RC):
            return draw(*args, **kwargs)

    return within


def axes(width: float = 7.0, height: float = 4.2, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side, outside pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def rendered(figure: Figure, kind: str, dpi: int = 160) -> bytes:
    """A figure as the bytes of an image file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    options: dict[str, dict[str, Any]] = {
        "svg": {"metadata": {"Date": None}},
        "png": {"metadata": {"Software": None}},
        "jpg": {"pil_kwargs": {"quality": 88, "subsampling": 0}},
    }
    with mpl.rc_context(RC):
        figure.savefig(buffer, format=kind, dpi=dpi, **options[kind])
    return buffer.getvalue()
