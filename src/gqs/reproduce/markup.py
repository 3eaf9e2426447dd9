"""The same sections as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gqs.report.blocks import Block, Cell, Facts, Grid, Link, Listing, Paragraph, Section, Shown

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
    """Write a cell as one text, its interval in brackets."""
    if isinstance(cell, str):
        return cell
    return f"{cell.value} ({cell.interval})" if cell.interval else cell.value


class Markdown:
    """GitHub's Markdown."""

    @staticmethod
    def text(words: str) -> str:
        """Escape a text."""
        for sign in ("\\", "`", "*", "_", "<", ">", "|", "[", "]"):
            words = words.replace(sign, f"\\{sign}")
        return words.replace("\n", " ")

    def page(self, title: str, lead: str, parts: Sequence[str]) -> Sequence[str]:
        """Put the title and the sentence under it before all else."""
        return [f"# {self.text(title)}", self.text(lead), *parts]

    def heading(self, words: str) -> str:
        """Write the heading of a section."""
        return f"## {self.text(words)}"

    def table(self, grid: Grid) -> str:
        """Write a table under its caption."""
        lines = [[self.text(text(cell)) for cell in row] for row in (grid.columns, *grid.rows)]
        rule = [":--", *["--:"] * (len(grid.columns) - 1)]
        table = [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]
        return f"{self.text(grid.caption)}\n\n" + "\n".join(table)

    def figure(self, shown: Shown, file: str) -> str:
        """Write a figure with what it shows, over its caption."""
        return f"![{self.text(shown.alt)}]({file})\n\n*{self.text(shown.caption)}*"

    def items(self, words: Sequence[str]) -> str:
        """Write a list of escaped texts."""
        return "\n".join(f"- {one}" for one in words)

    def fact(self, name: str, value: str) -> str:
        """Write a name and a value that is to be copied."""
        return f"{self.text(name)}: `{value}`"


class Latex:
    """A LaTeX article; booktabs, graphicx and adjustbox are all it needs."""

    @staticmethod
    def text(words: str) -> str:
        """Escape a text; signs that LaTeX cannot take become a question mark."""
        escaped = words.translate(_LATEX)
        return "".join(sign if ord(sign) < 0x180 else "?" for sign in escaped)

    def page(self, title: str, lead: str, parts: Sequence[str]) -> Sequence[str]:
        """Put the preamble and the title before all else."""
        begin = [PREAMBLE, rf"\title{{{self.text(title)}}}", r"\date{}", r"\begin{document}"]
        return [*begin, r"\maketitle", self.text(lead), *parts, r"\end{document}"]

    def heading(self, words: str) -> str:
        """Write the heading of a section."""
        return rf"\section{{{self.text(words)}}}"

    def table(self, grid: Grid) -> str:
        """Write a table under its caption, made narrower where the page is."""
        rows = [" & ".join(self.text(text(cell)) for cell in row) + r" \\" for row in grid.rows]
        return "\n".join(
            [
                r"\begin{table}[htbp]",
                rf"\caption{{{self.text(grid.caption)}}}",
                r"\centering",
                r"\begin{adjustbox}{max width=\textwidth}",
                rf"\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}",
                r"\toprule",
                " & ".join(self.text(name) for name in grid.columns) + r" \\",
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{adjustbox}",
                r"\end{table}",
            ]
        )

    def figure(self, shown: Shown, file: str) -> str:
        """Write a figure over its caption."""
        return "\n".join(
            [
                r"\begin{figure}[htbp]",
                r"\centering",
                rf"\includegraphics[max width=\textwidth]{{{file}}}",
                rf"\caption{{{self.text(shown.caption)}}}",
                r"\end{figure}",
            ]
        )

    def items(self, words: Sequence[str]) -> str:
        """Write a list of escaped texts."""
        lines = [rf"\item {one}" for one in words]
        return "\n".join([r"\begin{itemize}", *lines, r"\end{itemize}"]) if lines else ""

    def fact(self, name: str, value: str) -> str:
        """Write a name and a value that is to be copied."""
        return rf"{self.text(name)}: \texttt{{{self.text(value)}}}"


def write(
    form: Markdown | Latex, title: str, lead: str, sections: Sequence[Section], named: Named
) -> str:
    """Write sections in one of the forms."""
    parts = []
    for section in sections:
        if section.blocks:
            parts.append(form.heading(section.heading))
            parts += [_block(form, block, named) for block in section.blocks]
    return "\n\n".join(form.page(title, lead, parts)) + "\n"


def _block(form: Markdown | Latex, block: Block, named: Named) -> str:
    match block:
        case Paragraph():
            return form.text(block.text)
        case Grid():
            return form.table(block)
        case Shown():
            return form.figure(block, named(block))
        case Listing():
            return form.items([form.text(item) for item in block.items])
        case Link():
            return form.text(f"{block.text}: {block.url}")
        case Facts():
            return form.items([form.fact(name, value) for name, value in block.items])
