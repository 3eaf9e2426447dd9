"""The same sections as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gqs.evaluation.page import Cell, Facts, Grid, Listing, Paragraph, Section, Shown

Named = Callable[[Shown], str]  # the file that a figure was written to

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
        "±": r"$\pm$",
        "−": r"$-$",
        "×": r"$\times$",
        "–": "--",
        "\u00a0": "~",
    }
)
PREAMBLE: Final = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\usepackage[export]{adjustbox}
"""


def text(cell: str | Cell) -> str:
    """Write a cell as one text, its interval in brackets.

    Parameters
    ----------
    cell : str or Cell
        Of a grid.

    Returns
    -------
    str
        Not escaped.
    """
    if isinstance(cell, str):
        return cell
    return f"{cell.value} ({cell.interval})" if cell.interval else cell.value


def markdown(title: str, lead: str, sections: Sequence[Section], named: Named) -> str:
    """Write sections as GitHub's Markdown.

    Parameters
    ----------
    title, lead : str
        Its heading and the sentence under it.
    sections : sequence of Section
        Those without blocks are left out.
    named : callable
        Gets a figure, returns its file.

    Returns
    -------
    str
        With a line break at the end.
    """
    parts = [f"# {_md(title)}", _md(lead)]
    for section in sections:
        if section.blocks:
            parts.append(f"## {_md(section.heading)}")
            parts += [_md_block(block, named) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _md(words: str) -> str:
    for sign in ("\\", "`", "*", "_", "<", ">", "|", "[", "]"):
        words = words.replace(sign, f"\\{sign}")
    return words.replace("\n", " ")


def _md_block(block: object, named: Named) -> str:
    match block:
        case Paragraph(text=words):
            return _md(words)
        case Grid(caption=caption, columns=columns, rows=rows):
            lines = [[_md(text(cell)) for cell in row] for row in (columns, *rows)]
            rule = [":--", *["--:"] * (len(columns) - 1)]
            table = [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]
            return f"{_md(caption)}\n\n" + "\n".join(table)
        case Shown(caption=caption):
            return f"![{_md(block.alt)}]({named(block)})\n\n*{_md(caption)}*"
        case Listing(items=items):
            return "\n".join(f"- {_md(item)}" for item in items)
        case Facts(items=pairs):
            return "\n".join(f"- {_md(name)}: `{value}`" for name, value in pairs)
    raise TypeError(f"no Markdown for {block!r}")


def tex(words: str) -> str:
    """Escape a text for LaTeX.

    Parameters
    ----------
    words : str
        Any.

    Returns
    -------
    str
        Signs that LaTeX cannot take become a question mark.
    """
    escaped = words.translate(_LATEX)
    return "".join(sign if ord(sign) < 0x180 else "?" for sign in escaped)


def latex(title: str, lead: str, sections: Sequence[Section], named: Named) -> str:
    """Write sections as a LaTeX article; booktabs, graphicx and adjustbox are all it needs.

    Parameters
    ----------
    title, lead : str
        Its heading and the sentence under it.
    sections : sequence of Section
        Those without blocks are left out.
    named : callable
        Gets a figure, returns its file.

    Returns
    -------
    str
        With a line break at the end.
    """
    parts = [
        PREAMBLE,
        rf"\title{{{tex(title)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
        tex(lead),
    ]
    for section in sections:
        if section.blocks:
            parts.append(rf"\section{{{tex(section.heading)}}}")
            parts += [_tex_block(block, named) for block in section.blocks]
    return "\n\n".join([*parts, r"\end{document}"]) + "\n"


def _tex_block(block: object, named: Named) -> str:
    match block:
        case Paragraph(text=words):
            return tex(words)
        case Grid(caption=caption, columns=columns, rows=rows):
            lines = [" & ".join(tex(text(cell)) for cell in row) + r" \\" for row in rows]
            return "\n".join(
                [
                    r"\begin{table}[htbp]",
                    rf"\caption{{{tex(caption)}}}",
                    r"\centering",
                    r"\begin{adjustbox}{max width=\textwidth}",
                    rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
                    r"\toprule",
                    " & ".join(tex(name) for name in columns) + r" \\",
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{adjustbox}",
                    r"\end{table}",
                ]
            )
        case Shown(caption=caption):
            return "\n".join(
                [
                    r"\begin{figure}[htbp]",
                    r"\centering",
                    rf"\includegraphics[max width=\textwidth]{{{named(block)}}}",
                    rf"\caption{{{tex(caption)}}}",
                    r"\end{figure}",
                ]
            )
        case Listing(items=items):
            return _tex_list(tex(item) for item in items)
        case Facts(items=pairs):
            return _tex_list(rf"{tex(name)}: \texttt{{{tex(value)}}}" for name, value in pairs)
    raise TypeError(f"no LaTeX for {block!r}")


def _tex_list(items: object) -> str:
    lines = [rf"\item {item}" for item in items]  # type: ignore[attr-defined]
    return "\n".join([r"\begin{itemize}", *lines, r"\end{itemize}"]) if lines else ""
