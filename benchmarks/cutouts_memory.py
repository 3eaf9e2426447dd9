"""Does `cutouts` take the same memory for 40 fields as for 5? Benchmark 5.

Simulated fields of full size are cut into a store by a fresh process. What is judged is the sum
of the peaks of that process and of each of its children, as the kernel keeps them: what they would
take if all peaked at once, which no sampling can miss and no coincidence can change. What they did
take together at any one time (shared pages counted once, looked at every 20 ms or as often as the
machine lets it) is told beside it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gqs.simulation.fields import simulate
from gqs.simulation.population import Mix
from measured import save

SEED = 20241122
BANDS = "gri"
FEW, MANY = 5, 40
WORKERS = 2
MIX = Mix(galaxies=0.1, quasars=0.1, stars=0.1, enriched=2000.0, catalogue_sky=False)
TOLERANCE = 0.10
PAUSE_S = 0.02

BUILD = """
import sys
from gqs.cutouts.build import build_from_frames
report = build_from_frames(sys.argv[4:], sys.argv[1], sys.argv[2], sys.argv[3], workers={workers})
print(report.objects, report.shards, len(report.set_aside))
for reason in report.set_aside[:3]:
    print(reason)
"""


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        children.setdefault(int(rest.split()[1]), []).append(int(head.split()[0]))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def kib(pid: int, file: str, key: str) -> int:
    """One number of /proc/PID/FILE; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def peak_memory(folders: list[Path], catalog: Path, out: Path) -> dict[str, Any]:
    """Build a store in a fresh process, and watch what it takes."""
    code = BUILD.format(workers=WORKERS)
    command = [sys.executable, "-c", code, str(catalog), str(out), BANDS, *map(str, folders)]
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    together, samples = 0, 0
    peaks: dict[int, int] = {}
    while process.poll() is None:
        members = family(process.pid)
        together = max(together, sum(kib(pid, "smaps_rollup", "Pss") for pid in members))
        for pid in members:
            peaks[pid] = max(peaks.get(pid, 0), kib(pid, "status", "VmHWM"))
        samples += 1
        time.sleep(PAUSE_S)
    assert process.returncode == 0
    assert process.stdout is not None
    counts, *reasons = process.stdout.read().splitlines()
    objects, shards, set_aside = map(int, counts.split())
    return {
        "fields": len(folders),
        "objects": objects,
        "shards": shards,
        "set_aside": set_aside,
        "first_reasons": [reason for reason in reasons if reason],
        "seconds": round(time.monotonic() - begin, 1),
        "samples": samples,
        "processes": len(peaks),
        "sum_of_peaks_mib": round(sum(peaks.values()) / 1024, 1),
        "peaks_mib": sorted((round(peak / 1024, 1) for peak in peaks.values()), reverse=True),
        "together_mib": round(together / 1024, 1),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = simulate(folder / "sky", MANY, SEED, MIX, bands=BANDS, workers=WORKERS)
        folders = [made.folder / "frames" / str(field) for field in made.fields]
        few = peak_memory(folders[:FEW], made.catalog, folder / "few")
        many = peak_memory(folders, made.catalog, folder / "many")
    ratio = many["sum_of_peaks_mib"] / few["sum_of_peaks_mib"]
    save(
        "cutouts_memory",
        SEED,
        {
            "question": "Is the peak memory of cutouts the same for 5 and for 40 fields?",
            "bands": BANDS,
            "workers": WORKERS,
            "few": few,
            "many": many,
            "ratio": ratio,
            "ratio_together": many["together_mib"] / few["together_mib"],
            "tolerance": TOLERANCE,
            "within_tolerance": abs(ratio - 1) <= TOLERANCE,
        },
    )


if __name__ == "__main__":
    main()
