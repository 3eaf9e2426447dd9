"""The committed results: their predictions give the committed tables, without images or weights."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gqs.executors import no_progress
from gqs.reproduce.kept import open_objects
from gqs.reproduce.run import tabulate

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "reproduce"


def lines(page: Path) -> list[str]:
    """Lines of a page without the version that wrote it."""
    return [line for line in page.read_text("utf-8").splitlines() if not line.startswith("- gqs:")]


def test_kept_predictions_give_the_committed_tables(tmp_path: Path) -> None:
    made = tabulate(
        open_objects(RESULTS),
        tmp_path,
        ["grouped"],
        1,
        lambda step: contextlib.nullcontext(no_progress),
    )
    assert not any("predictions" in reason for reason in made.results.missing)
    assert lines(tmp_path / "tables.md") == lines(RESULTS / "tables.md")
