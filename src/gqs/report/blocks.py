"""HTML that stands alone: figures inside, no script, no network, readable by day, night and ear.

Every text passes through `html.escape`, since names in headers and catalogues may be anything; the
page's own policy forbids scripts on top of that.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from matplotlib.figure import Figure

from gqs.report.palette import rendered

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

REM_PER_INCH: Final = 6.4  # letters of figures about as large as those of tables

CSS: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #5b6370; --paper: #fcfbf8;
  --rule: #dfe1e5; --card: #ffffff; --mark: #0067a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e4df; --faint: #a2a8b2; --paper: #16181c;
  --rule: #343942; --card: #1e2126; --mark: #7cc0ee; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.6 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, serif; }
main, header, footer { max-width: 54rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3.5rem; }
h1, h2, h3, th, caption, figcaption, nav, dt, .key, .note, table, footer, code {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.015em; margin: 0 0 0.6rem; }
h2 { font-size: 1.3rem; letter-spacing: -0.01em; margin: 3.2rem 0 0.8rem; padding-top: 1.1rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1.02rem; margin: 2rem 0 0.5rem; }
p { margin: 0 0 1rem; max-width: 42rem; overflow-wrap: anywhere; }
.lead { font-size: 1.22rem; line-height: 1.5; }
.note { color: var(--faint); font-size: 0.86rem; }
nav { font-size: 0.86rem; margin: 1.6rem 0 0; }
nav a { margin-right: 1.1rem; display: inline-block; }
a { color: var(--mark); text-decoration-thickness: 1px; text-underline-offset: 3px; }
.keys { display: flex; flex-wrap: wrap; margin: 1.8rem 0 0; padding: 1px 0 0 1px; }
.keys > div { flex: 1 1 9.2rem; background: var(--card); padding: 0.95rem 1.1rem;
  border: 1px solid var(--rule); margin: -1px 0 0 -1px; }
.keys dt { font-size: 0.78rem; color: var(--faint); }
.keys dd { margin: 0; font-family: system-ui, sans-serif; font-size: 1.55rem; font-weight: 600;
  letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.keys dd.note { font-size: 0.8rem; font-weight: 400; letter-spacing: 0; }
.wide { overflow-x: auto; margin: 1.2rem 0 1.6rem; }
table { border-collapse: collapse; font-size: 0.88rem; line-height: 1.4; width: 100%;
  font-variant-numeric: tabular-nums lining-nums; }
caption { text-align: left; color: var(--faint); font-size: 0.86rem; padding-bottom: 0.5rem; }
th, td { padding: 0.42rem 0.9rem 0.42rem 0; text-align: right; vertical-align: baseline;
  border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 500; } tbody th { white-space: nowrap; }
thead th { color: var(--faint); border-bottom-color: var(--faint); }
td small { color: var(--faint); font-size: 0.86em; white-space: nowrap; margin-left: 0.35em; }
figure { margin: 1.6rem 0 2.2rem; }
figure img { display: block; width: 100%; height: auto; background: #fff; padding: 0.6rem;
  border: 1px solid var(--rule); border-radius: 3px; }
figcaption { color: var(--faint); font-size: 0.86rem; padding-top: 0.6rem; max-width: 42rem; }
ul { padding-left: 1.1rem; } li { margin-bottom: 0.3rem; overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1.4rem; }
dl.facts dt { color: var(--faint); font-size: 0.88rem; }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
code { font: 0.84rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
footer { margin-top: 4rem; padding-bottom: 3rem; color: var(--faint); font-size: 0.82rem; }
@media (max-width: 34rem) { body { font-size: 16px; } header { padding-top: 2rem; }
  dl.facts { grid-template-columns: 1fr; gap: 0; } dl.facts dd { margin-bottom: 0.6rem; } }
@media print { body { background: #fff; font-size: 10.5pt; } nav { display: none; }
  h2, h3, caption { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Paragraph:
    """A text; `note` sets it small."""

    text: str
    note: bool = False

    def html(self) -> str:
        """Return it as HTML."""
        kind = ' class="note"' if self.note else ""
        return f"<p{kind}>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Cell:
    """A value and, small beside it, its interval."""

    value: str
    interval: str = ""

    def html(self) -> str:
        """Return it as HTML."""
        small = f" <small>{escape(self.interval)}</small>" if self.interval else ""
        return escape(self.value) + small


@dataclass(frozen=True)
class Grid:
    """A table with a caption; the first cell of each row is its heading."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]

    def html(self) -> str:
        """Return it as HTML, in a frame that scrolls where the page is narrow."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
        body = "".join(
            f'<tr><th scope="row">{_cell(first)}</th>'
            + "".join(f"<td>{_cell(cell)}</td>" for cell in rest)
            + "</tr>\n"
            for first, *rest in self.rows
        )
        caption = escape(self.caption)
        return (
            f'<div class="wide" role="region" tabindex="0" aria-label="{caption}">'
            f"<table><caption>{caption}</caption>\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
        )


def _cell(cell: str | Cell) -> str:
    return cell.html() if isinstance(cell, Cell) else escape(cell)


@dataclass(frozen=True)
class Shown:
    """A figure with its caption and, for those who do not see it, what it shows."""

    figure: Figure  # as the functions of `figures` and `pictures` return it
    caption: str  # below the figure
    alt: str  # the finding in words
    # SVG for lines, PNG for cutouts, JPEG for whole fields, whose noise no PNG makes small
    kind: str = "svg"

    def html(self) -> str:
        """Return it as HTML with the figure inside."""
        data = base64.b64encode(rendered(self.figure, self.kind)).decode()
        mime = {"svg": "svg+xml", "png": "png", "jpg": "jpeg"}[self.kind]
        width = self.figure.get_figwidth() * REM_PER_INCH
        return (
            f'<figure style="max-width: {width:.1f}rem">'
            f'<img src="data:image/{mime};base64,{data}" alt="{escape(self.alt)}">'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Listing:
    """Sentences in a list; the first `most` are shown and the rest counted."""

    items: Sequence[str]
    most: int = 50

    def html(self) -> str:
        """Return it as HTML."""
        shown = "".join(f"<li>{escape(item)}</li>\n" for item in self.items[: self.most])
        rest = len(self.items) - self.most
        more = f'<p class="note">And {rest:,} more, in metrics.json.</p>' if rest > 0 else ""
        return f"<ul>\n{shown}</ul>{more}"


@dataclass(frozen=True)
class Facts:
    """Names and values, as of the run that made the page."""

    items: Sequence[tuple[str, str]]

    def html(self) -> str:
        """Return it as HTML."""
        rows = (
            f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>\n"
            for name, value in self.items
        )
        return f'<dl class="facts">\n{"".join(rows)}</dl>'


@dataclass(frozen=True)
class Link:
    """A place elsewhere to look at."""

    text: str
    url: str

    def html(self) -> str:
        """Return it as HTML."""
        return f'<p><a href="{escape(self.url)}">{escape(self.text)}</a></p>'


@dataclass(frozen=True)
class Key:
    """One number of the summary: what it is, the number, a few words under it."""

    name: str
    value: str
    note: str


Block = Paragraph | Grid | Shown | Listing | Facts | Link


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: Sequence[Block]


def page(
    title: str,
    lead: str,
    keys: Sequence[Key],
    notes: Sequence[str],
    sections: Sequence[Section],
    numbers: str = "metrics.json",
) -> str:
    """Put a page together."""
    filled = [section for section in sections if section.blocks]
    links = "".join(
        f'<a href="#s{i}">{escape(section.heading)}</a>' for i, section in enumerate(filled)
    )
    body = "\n".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{escape(section.heading)}</h2>\n'
        + "\n".join(block.html() for block in section.blocks)
        + "</section>"
        for i, section in enumerate(filled)
    )
    cells = "".join(
        f"<div><dt>{escape(key.name)}</dt><dd>{escape(key.value)}</dd>"
        f'<dd class="note">{escape(key.note)}</dd></div>'
        for key in keys
    )
    caveats = "\n".join(Paragraph(note, note=True).html() for note in notes)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{caveats}
<dl class="keys">{cells}</dl>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}
</main>
<footer>Made by gqs, after Gao, Tu, Li &amp; Li 2023, IJICIC 19(2), 579. This page needs no network
and runs no script; the numbers are in {escape(numbers)} beside it.</footer>
</body>
</html>
"""
