"""Is `fetch` faster than a plain loop of astroquery's get_images, at no more CPU a file?

The archive is a loopback server in another process that waits 20 ms before each answer. Two kinds
of frames: small ones, whose cost is the round trip, and ones with a real frame's pixels, whose cost
is bzip2's decompression, which both do once a file and which no connection hides. Both ways take
turns; each number is the median. Peak memory is that of a process of its own, for 30 and for 3,000
small frames.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from astroquery.sdss import SDSS, conf

from gqs.archive import fetch
from gqs.imaging.frames import check_frame
from gqs.surveys.sdss import FrameName
from measured import real_folder, save

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from loopback.fetching import archive_process
from loopback.sas import some_frames

LATENCY_S = 0.02
ROUNDS = 3
GOAL = 3.0
FEW, MANY = 30, 3000


def by_astroquery(frames: list[FrameName], url: str) -> None:
    """A plain loop, with the field at hand so that no query is made."""
    conf.sas_baseurl = f"{url}/sas"
    for name in frames:
        run, camcol, field = name.field
        row = Table({"run": [run], "rerun": [301], "camcol": [camcol], "field": [field]})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = SDSS.get_images(
                matches=row, band=name.band, data_release=16, cache=False, show_progress=False
            )
        assert images[0][0].data.size


def by_fetch(frames: list[FrameName], url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = fetch(frames, Path(folder), check=check_frame, mirror=url)
        assert report.fetched == len(frames)


def measured(way: Callable[[], None], files: int) -> dict[str, float]:
    wall, cpu = time.monotonic(), time.process_time()
    way()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return {"files_a_second": files / wall, "cpu_seconds_a_file": cpu / files}


def compared(frames: list[FrameName], url: str) -> dict[str, Any]:
    """Both ways in turns: medians, and ours over theirs."""
    ways = {"fetch": by_fetch, "astroquery": by_astroquery}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for way in ways.values():
        way(frames[: max(2, len(frames) // 10)], url)  # what is imported or made once
    for _ in range(ROUNDS):
        for name, way in ways.items():
            found[name].append(measured(lambda way=way: way(frames, url), len(frames)))  # type: ignore[misc]
    median = {
        name: {key: float(np.median([one[key] for one in rounds])) for key in rounds[0]}
        for name, rounds in found.items()
    }
    ours, theirs = median["fetch"], median["astroquery"]
    return {
        "files": len(frames),
        **median,
        "times_as_fast": ours["files_a_second"] / theirs["files_a_second"],
        "times_the_cpu": ours["cpu_seconds_a_file"] / theirs["cpu_seconds_a_file"],
    }


def peak_mib(files: int, url: str) -> float:
    """Peak memory of a process that fetches, as the kernel keeps it."""
    command = [sys.executable, __file__, "fetch", url, str(files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout) / 1024


def child(url: str, files: int) -> None:
    by_fetch(some_frames(files), url)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    real = real_folder() / "frames/003918-3-0213/frame-r-003918-3-0213.fits.bz2"
    before = os.getloadavg()[0]
    with archive_process("--latency", LATENCY_S) as url:
        small = compared(some_frames(120), url)
        few, many = peak_mib(FEW, url), peak_mib(MANY, url)
    with archive_process("--latency", LATENCY_S, "--frame", real) as url:
        whole = compared(some_frames(12), url)
    save(
        "fetch_speed",
        None,
        {
            "question": "Is fetch three times as fast as a loop of get_images, at no more CPU?",
            "clients": {name: version(name) for name in ("httpx", "astroquery")},
            "latency_s": LATENCY_S,
            "connections": 8,
            "load_of_the_machine_before": before,
            "goal_times_as_fast": GOAL,
            "small_frames": small,
            "real_frames": whole,
            "reached_with_small_frames": small["times_as_fast"] >= GOAL,
            "reached_with_real_frames": whole["times_as_fast"] >= GOAL,
            "peak_memory_mib": {str(FEW): few, str(MANY): many, "ratio": many / few},
        },
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["fetch"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
