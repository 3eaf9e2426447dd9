"""A fetch in a process of its own, to be killed at any moment: python -m loopback.fetching."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gqs.archive import fetch
from gqs.imaging.frames import check_frame
from loopback.sas import some_frames

TESTS = Path(__file__).parents[1]


@contextlib.contextmanager
def archive_process(*options: object) -> Iterator[str]:
    """Serve the loopback archive from another process; give its address."""
    command = [sys.executable, "-m", "loopback", *map(str, options)]
    with subprocess.Popen(
        command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def killed(url: str, folder: Path, frames: int, after_s: float) -> bool:
    """Fetch, and kill -9 some time after it began; tell whether it was still at it."""
    command = [sys.executable, "-m", "loopback.fetching", url, str(folder), str(frames)]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "begun"
        time.sleep(after_s)
        alive = process.poll() is None
        process.kill()
    return alive


def main() -> None:
    url, folder, frames = sys.argv[1:]
    print("begun", flush=True)
    fetch(some_frames(int(frames)), Path(folder), check=check_frame, mirror=url)


if __name__ == "__main__":
    main()
