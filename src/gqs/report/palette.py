"""One style for all figures: colours, markers and lines of the classes, light and dark.

Both palettes keep a contrast of 4.5 to 1 with their ground (WCAG 2.2), and the classes stay at
least 15 apart (CIEDE2000) as simulated for deuteranopia and protanopia (Machado et al. 2009).
"""

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
ON_LIGHT: Final = dict(zip(labels.CLASSES, ("#b5460f", "#0a6cc4", "#4a0e4e"), strict=True))
ON_SKY: Final = dict(zip(labels.CLASSES, ("#ff7f2a", "#3fb6ff", "#fff6c2"), strict=True))
ACCENT: Final = ON_LIGHT[labels.QSO]  # of a line that belongs to no class
PAPER: Final = "#ffffff"
# For text on pictures and colour maps, which do not change with the page.
BRIGHT: Final = "#fdfdfd"
DEEP: Final = "#101418"
# Colours of an SVG figure on a dark page; its ground is --card in page.css.
ON_DARK: Final = {
    INK: "#e6e4df",
    FAINT: "#a2a8b2",
    RULE: "#343942",
    PAPER: "#1e2126",
    **{ON_LIGHT[name]: ON_SKY[name] for name in labels.CLASSES},
}

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
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "savefig.facecolor": "auto",
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
    """A figure as the bytes of an image file, equal for equal figures; an SVG has a dark mode."""
    buffer = io.BytesIO()
    options: dict[str, dict[str, Any]] = {
        "svg": {"metadata": {"Date": None}},
        "png": {"metadata": {"Software": None}},
        "jpg": {"pil_kwargs": {"quality": 88, "subsampling": 0}},
    }
    with mpl.rc_context(RC):
        figure.savefig(buffer, format=kind, dpi=dpi, **options[kind])
    return _with_dark_mode(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def _with_dark_mode(svg: bytes) -> bytes:
    """An SVG file whose colours follow the reader's preference for dark pages."""
    rules = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark}!important}}'
        for light, dark in ON_DARK.items()
        for part in ("fill", "stroke")
    )
    style = f"@media (prefers-color-scheme: dark){{{rules}}}</style>"
    return svg.replace(b"</style>", style.encode(), 1)
