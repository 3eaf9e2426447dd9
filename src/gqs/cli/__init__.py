"""The command line: one module for each group of verbs."""

from __future__ import annotations

# Importing a module registers its verbs, in the order of `gqs --help`.
import gqs.cli.archive
import gqs.cli.data

import gqs.cli.training  # isort: skip
import gqs.cli.reproduce  # isort: skip
import gqs.cli.classify  # isort: skip
import gqs.cli.explain  # isort: skip
import gqs.cli.share  # isort: skip
import gqs.cli.demo  # noqa: F401  # isort: skip
from gqs.cli.app import run

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    run()
