"""The palettes measured: contrast by WCAG 2.2, and what remains under colour blindness."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from gqs import labels
from gqs.report import palette

# Machado, Oliveira & Fernandes 2009, severity 1, for linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
DARK_PAGE = palette.ON_DARK[palette.PAPER]


def linear(colour: str) -> NDArray[np.float64]:
    rgb = np.asarray(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (first, second))
    return float((high + 0.05) / (low + 0.05))


def seen(colour: str, sight: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB of a colour as seen with a colour blindness."""
    rgb = np.clip(sight @ linear(colour), 0, 1)
    return rgb2lab(np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055))


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # WCAG's own example


@pytest.mark.parametrize("name", labels.CLASSES)
def test_classes_can_be_read_on_their_ground_and_carry_its_letters(name: str) -> None:
    assert contrast(palette.ON_LIGHT[name], palette.PAPER) >= 4.5
    for ground in ("#000000", DARK_PAGE, palette.DEEP):
        assert contrast(palette.ON_SKY[name], ground) >= 4.5


def test_letters_can_be_read_light_and_dark() -> None:
    for colour in (palette.INK, palette.FAINT):
        assert contrast(colour, palette.PAPER) >= 4.5
        assert contrast(palette.ON_DARK[colour], DARK_PAGE) >= 4.5


@pytest.mark.parametrize("colours", [palette.ON_LIGHT, palette.ON_SKY], ids=["light", "sky"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_classes_are_told_apart_by_colour_alone(colours: dict[str, str], sight: str) -> None:
    labs = [seen(colours[name], SIGHTS[sight]) for name in labels.CLASSES]
    assert min(deltaE_ciede2000(a, b) for a, b in itertools.combinations(labs, 2)) >= 15


def test_classes_differ_in_shape_and_line_too() -> None:
    assert len(set(palette.MARKERS.values())) == len(set(palette.LINES.values())) == 3


def test_every_colour_of_a_figure_has_its_dark_form() -> None:
    figure, (ax,) = palette.axes()
    with palette.mpl.rc_context(palette.RC):
        for name in labels.CLASSES:
            ax.plot([0, 1], [0, 1], color=palette.ON_LIGHT[name], label=name)
        ax.set(xlabel="x", ylabel="y", title="A title")
    svg = palette.rendered(figure, "svg").decode()
    body = svg.split("</style>", 1)[1]
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body))
    assert used >= set(palette.ON_LIGHT.values())
    for colour in used & set(palette.ON_DARK):
        assert f'"fill: {colour}"]{{fill:{palette.ON_DARK[colour]}!important}}' in svg
