"""Blocks that reports consist of; `render` turns them into HTML, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from gqs.evaluation.intervals import Estimate
from gqs.formatting import DASH, interval, number, percent, percent_interval, signed


@dataclass(frozen=True)
class Paragraph:
    """A text; a note is set in small letters."""

    kind: ClassVar[str] = "paragraph"
    text: str
    note: bool = False


@dataclass(frozen=True)
class Cell:
    """A value of a table and, in small letters, its interval or the published value."""

    value: str
    interval: str = ""

    @property
    def text(self) -> str:
        """Both as one text, the interval in brackets."""
        return f"{self.value} ({self.interval})" if self.interval else self.value


def percent_cell(estimate: Estimate, digits: int = 2, interval_digits: int | None = None) -> Cell:
    """A fraction in percent with its interval, such as "92.41 %" and "91.40 to 93.30"."""
    ends = percent_interval(
        estimate.low, estimate.high, digits if interval_digits is None else interval_digits
    )
    return Cell(percent(estimate.value, digits), ends)


def number_cell(estimate: Estimate, digits: int = 4) -> Cell:
    """A number with its interval, such as "0.9704" and "0.9650 to 0.9750"."""
    return Cell(number(estimate.value, digits), interval(estimate.low, estimate.high, digits))


def points_cell(difference: Estimate, digits: int = 2) -> Cell:
    """A difference of fractions in percentage points, such as "+1.20" and "−0.30 to +2.70"."""
    if not np.isfinite(difference.value):
        return Cell(DASH)
    low, high = (signed(100 * end, digits) for end in (difference.low, difference.high))
    return Cell(signed(100 * difference.value, digits), f"{low} to {high}")


@dataclass(frozen=True)
class Grid:
    """A table with a caption; the first cell of each row is its heading."""

    kind: ClassVar[str] = "grid"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows with every text as a Cell."""
        return [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in self.rows]


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure with its caption and, for readers who do not see it, its content in words."""

    kind: ClassVar[str] = "figure"
    figure: Figure
    caption: str
    alt: str
    # svg follows a page's dark mode; jpg for whole fields, whose noise makes other formats large
    file_format: str = "svg"


@dataclass(frozen=True)
class BulletList:
    """Sentences in a list; HTML shows the first `limit` and counts the others."""

    kind: ClassVar[str] = "list"
    items: Sequence[str]
    limit: int = 50


@dataclass(frozen=True)
class KeyValues:
    """Names with values to copy, such as hashes and commands."""

    kind: ClassVar[str] = "key_values"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Link:
    """A link to another page."""

    kind: ClassVar[str] = "link"
    text: str
    url: str


Block = Paragraph | Grid | CaptionedFigure | BulletList | KeyValues | Link


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; without blocks the section is left out."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class HeadlineNumber:
    """A number at the top of a page: its name, the number, and a few words below it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Report:
    """A whole report: title, first sentence, headline numbers, notes and sections."""

    title: str
    lead: str
    sections: Sequence[Section]
    headline_numbers: Sequence[HeadlineNumber] = ()
    notes: Sequence[str] = ()  # that a reader must know first
    numbers_file: str = "metrics.json"  # file beside it that holds all numbers
