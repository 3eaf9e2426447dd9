"""Blocks rendered to HTML, Markdown and LaTeX: structure and escaping in each format."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from gqs.report import figures
from gqs.report.blocks import (
    BulletList,
    CaptionedFigure,
    Cell,
    Grid,
    HeadlineNumber,
    KeyValues,
    Link,
    Paragraph,
    Report,
    Section,
)
from gqs.report.palette import rendered
from gqs.report.render import to_html, to_latex, to_markdown

NASTY = (
    "50 % of A&B_c #1 {x} \\y ~ ^ $5 < > ± − – [0] --run `a` *b* | "
    '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
)


def no_figure(block: CaptionedFigure) -> str:
    raise AssertionError("the report has no figure")


@pytest.fixture
def report() -> Report:
    """A report with every block, and special signs in every text."""
    grid = Grid(NASTY, [NASTY, "%", "&"], [[NASTY, Cell("1", "0 to 2 %"), "x & y"], ["r", "–", ""]])
    figure = CaptionedFigure(figures.confusion_matrix(np.diag([4, 0, 7])), NASTY, NASTY)
    blocks = [
        Paragraph(NASTY),
        Paragraph(NASTY, note=True),
        grid,
        figure,
        BulletList([NASTY] * 3, limit=2),
        KeyValues([(NASTY, NASTY)]),
        Link(NASTY, "https://example.org/?a=1&b=2"),
    ]
    sections = [Section(NASTY, blocks), Section("Without blocks", [])]
    return Report(NASTY, NASTY, sections, [HeadlineNumber(NASTY, NASTY, NASTY)], [NASTY])


def test_html_escapes_every_text_and_shows_all_blocks(report: Report) -> None:
    page = to_html(report)
    assert "<script" not in page and "<img src=x" not in page
    assert page.count("&lt;script&gt;") >= 15
    assert page.count("<img ") == 1 and page.count("<table ") == 1
    assert "And 1 more, in metrics.json" in page
    assert "<td>1 <small>0 to 2 %</small></td>" in page
    assert 'href="https://example.org/?a=1&amp;b=2"' in page
    assert "Without blocks" not in page


def test_markdown_shows_every_text_as_it_is(report: Report) -> None:
    text = to_markdown(report, lambda block: "figures/figure-01.png")
    html = MarkdownIt("commonmark").enable("table").render(text)
    plain = re.sub(r"<[^>]+>", "", html)
    assert "<script" not in html and "<img src=x" not in html
    assert html.count("&lt;script&gt;") >= 12
    assert html.count("<table>") == 1 and html.count('src="figures/figure-01.png"') == 1
    assert html.count("<td") == 6 and html.count("<code>") == 1
    assert plain.count("*b*") >= 12
    assert "Without blocks" not in text


def test_markdown_tables_have_as_many_cells_as_columns() -> None:
    grid = Grid("A | B", ["x|y", "n"], [["a|b", Cell("1", "0 to 2")], ["*c*", "–"]])
    text = to_markdown(Report("T", "lead", [Section("S", [grid])]), no_figure)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3, 3]
    assert "| a\\|b | 1 (0 to 2) |" in text


def test_latex_is_balanced_and_escaped(report: Report) -> None:
    text = to_latex(report, lambda block: "figure.png")
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    ended = re.findall(r"\\end\{(\w+)\}", text)
    assert sorted(begun) == sorted(ended)
    bare = re.sub(r"\\[\\%&_#${}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert "%" not in bare
    assert "#" not in bare
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 2  # three cells
    assert all(ord(sign) < 128 for sign in body)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(report: Report, tmp_path: Path) -> None:
    def figure_file(block: CaptionedFigure) -> str:
        (tmp_path / "figure.png").write_bytes(rendered(block.figure, "png"))
        return "figure.png"

    (tmp_path / "report.tex").write_text(to_latex(report, figure_file), "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
