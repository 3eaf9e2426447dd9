"""The command line: verbs in the order of the work, and the exit code that each error carries."""

from __future__ import annotations

# Importing registers the verbs; this order is the order of `gqs --help`.
import gqs.cli.archive
import gqs.cli.data
import gqs.cli.learning
import gqs.cli.reproducing
import gqs.cli.using

import gqs.cli.explaining  # isort: skip
import gqs.cli.exporting  # isort: skip
import gqs.cli.sending  # noqa: F401  # isort: skip
from gqs.cli.shell import run

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    run()
