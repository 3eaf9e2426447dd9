"""Reports rendered by jinja2 templates to HTML, Markdown and LaTeX.

Names in headers and catalogues may be any text, so each format escapes every value of a template,
unless the template marks it as safe. HTML is self-contained: figures are inside, there is no
script, and the page's own policy forbids scripts and network access.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gqs.files import write_bytes
from gqs.report.blocks import CaptionedFigure, Report
from gqs.report.palette import rendered

FigureFile = Callable[[CaptionedFigure], str]  # writes a figure and returns its file name

REM_PER_INCH: Final = 6.4  # so that letters in figures are about as large as in tables
MIME: Final = {"svg": "svg+xml", "png": "png", "jpg": "jpeg"}
_MARKDOWN: Final = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_<>|[]&~$"} | {"\n": " "})
_BREAK: Final = "\u200b"  # between hyphens, which LaTeX would join to a dash
_LATEX: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "[": "{[}",  # after a line break a bracket would be its argument
        "]": "{]}",
        "\n": " ",
        _BREAK: "{}",
        "±": r"$\pm$",
        "−": r"$-$",
        "×": r"$\times$",
        "–": "--",
        "\u00a0": "~",
    }
)
_LAST_LATIN: Final = 0x180  # inputenc and T1 fonts have the letters below


def escape_markdown(text: str) -> str:
    """A text in which Markdown has no special signs."""
    return text.translate(_MARKDOWN)


def escape_latex(text: str) -> str:
    """A text in which LaTeX has no special signs; signs it cannot set become a question mark."""
    escaped = text.replace("--", f"-{_BREAK}-").translate(_LATEX)
    return "".join(sign if ord(sign) < _LAST_LATIN else "?" for sign in escaped)


def code_span(text: str) -> Markup:
    """A Markdown code span, fenced by more backticks than the text has in a row."""
    fence = "`"
    while fence in text:
        fence += "`"
    pad = " " if "`" in text else ""
    return Markup(fence + pad + text.replace("\n", " ") + pad + fence)  # noqa: S704


def figure_width(block: CaptionedFigure) -> str:
    """Width of a figure on a page, rem."""
    return f"{block.figure.get_figwidth() * REM_PER_INCH:.1f}"


def data_uri(block: CaptionedFigure) -> str:
    """A figure as the address of an image inside the page."""
    data = base64.b64encode(rendered(block.figure, block.file_format)).decode()
    return f"data:image/{MIME[block.file_format]};base64,{data}"


def _environment(escape: Callable[[str], str] | None = None, **syntax: str) -> Environment:
    """Templates of one format; without `escape` values are escaped as HTML."""

    def escaped(value: Any) -> Any:
        return value if escape is None or isinstance(value, Markup) else escape(str(value))

    return Environment(
        loader=PackageLoader("gqs.report"),
        autoescape=escape is None,  # noqa: S701 (else `finalize` escapes)
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **syntax,  # type: ignore[arg-type]
    )


HTML: Final = _environment()
HTML.filters |= {"data_uri": data_uri, "figure_width": figure_width}
MARKDOWN: Final = _environment(escape_markdown)
MARKDOWN.filters["code_span"] = code_span
LATEX: Final = _environment(
    escape_latex,  # braces belong to LaTeX, so its templates have brackets instead
    block_start_string="((*",
    block_end_string="*))",
    variable_start_string="(((",
    variable_end_string=")))",
    comment_start_string="((=",
    comment_end_string="=))",
)


def to_html(report: Report) -> str:
    """The report as one self-contained page."""
    return HTML.get_template("report.html.j2").render(report=report)


def write_html(report: Report, path: Path) -> Path:
    """Write the report as one self-contained page."""
    return write_bytes(path, to_html(report).encode("utf-8", "replace"))


def to_markdown(report: Report, figure_file: FigureFile) -> str:
    """The report as GitHub's Markdown."""
    template = MARKDOWN.get_template("report.md.j2")
    return template.render(report=report, figure_file=figure_file)


def to_latex(report: Report, figure_file: FigureFile) -> str:
    """The report as a LaTeX article; it needs booktabs, graphicx and adjustbox."""
    template = LATEX.get_template("report.tex.j2")
    return template.render(report=report, figure_file=figure_file)
