"""The command line: verbs in the order of the work, and the exit code that each error carries."""

from __future__ import annotations

from gqs.cli.shell import app, run

# Importing registers the verbs; this order is the order of `gqs --help`.
from gqs.cli import data, learning, using  # isort: skip

__all__ = ["app", "data", "learning", "main", "using"]


def main() -> None:
    """Run the command line."""
    run()
