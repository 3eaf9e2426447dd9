"""What does it cost a field that memory is given back to the system and asked for again?

    python benchmarks/memory_kept.py [--rounds 2]

The real fields are read, aligned, detected and measured, in a process of its own with malloc as it
is, one as Dask's nannies start their workers (all free memory is given back at once), and the same
with `workers.keep_memory`. CPU seconds of the program and of the system, and pages that the system
cleared, are medians of a field after the first; also the most memory that each process had.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from gqs.cutouts.field import cut_field
from gqs.executors.processes import keep_memory
from gqs.model.classifier import load_classifier
from many_fields import real_paths
from measured import save

NANNY = {"MALLOC_TRIM_THRESHOLD_": "65536"}  # distributed.nanny.pre-spawn-environ
WAYS = {"as it is": {}, "Dask's": NANNY, "Dask's, kept": NANNY}


def measured(kept: bool, rounds: int) -> dict[str, float]:
    """Medians of a field, and the peak in MiB, in this process."""
    if kept:
        keep_memory()
    spec = load_classifier().cutout_spec
    states = []
    for paths in real_paths()[:1] + real_paths() * rounds:
        cut_field({path.name[6]: path for path in paths}, spec)
        states.append(resource.getrusage(resource.RUSAGE_SELF))
    spent = {
        name: statistics.median(
            getattr(b, f"ru_{name}") - getattr(a, f"ru_{name}") for a, b in pairwise(states)
        )
        for name in ("utime", "stime", "minflt")
    }
    return {
        "program_cpu_s": spent["utime"],
        "system_cpu_s": spent["stime"],
        "pages_cleared": spent["minflt"],
        "peak_mib": states[-1].ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="measure one, in this process")
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measured(asked.way.endswith("kept"), asked.rounds)))
        return
    found = {}
    for way, settings in WAYS.items():
        command = [sys.executable, __file__, "--rounds", str(asked.rounds), "--way", way]
        environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1"}
        told = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parent
        )
        found[way] = json.loads(told.stdout)
    in_all = {way: one["program_cpu_s"] + one["system_cpu_s"] for way, one in found.items()}
    save(
        "memory_kept",
        None,
        {
            "question": "What does it cost a field that memory is given back and asked for again?",
            "ways": found,
            "dasks_over_kept": in_all["Dask's"] / in_all["Dask's, kept"],
        },
    )


if __name__ == "__main__":
    main()
