"""Run `gqs` in a process of its own, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys

GQS = [sys.executable, "-m", "gqs.cli"]


def gqs(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Result of a command line, with its output as text."""
    return subprocess.run(
        [*GQS, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
    )


def refused(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    """Assert that a command ended with this exit code and one sentence that holds `message`."""
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("gqs: ")]) == 1
