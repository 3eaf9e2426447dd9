"""A survey on one and on two Dask workers, a worker's memory, and what a whole survey would cost.

    python benchmarks/survey_scaling.py [--fields 24] [--memory 20 400] [--repeats 3]

Fields are the real ones renumbered (many_fields.py), 20 MB each on disk. The clusters run and have
loaded the model before the clock starts. The projection is computed from what was measured here
and nothing else; it says which figure comes from where. What two cores of this machine are worth is
measured beside it: how many times as fast two bare processes decompress the same archives as one.
"""

from __future__ import annotations

import argparse
import bz2
import json
import multiprocessing
import statistics
import tempfile
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask
import distributed

from gqs.model.classifier import Classifier, load_classifier
from gqs.runs.field_task import unsettled
from gqs.runs.run_store import RunStore
from gqs.runs.survey import classify_survey
from many_fields import renumbered
from measured import matrix_rate, save

WHOLE_SURVEY = 21_276  # fields, as the survey at hand has
SOURCES = 1e9
DAY_H = 24.0


def cluster(number: int) -> distributed.LocalCluster:
    """A running cluster, with its profiler off, as docs/survey.md says."""
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        return distributed.LocalCluster(
            n_workers=number, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )


def timed(classifier: Classifier, paths: list[Path], out: Path, number: int) -> tuple[float, int]:
    """Seconds for fields beyond each worker's first, and the most MiB that a worker had."""
    with cluster(number) as running:
        address = running.scheduler_address
        warm = [p for p in paths if p.parent in sorted({p.parent for p in paths})[: 2 * number]]
        classify_survey(classifier, warm, out / "warm", scheduler=address)
        begin = time.monotonic()
        report = classify_survey(classifier, paths, out / "survey", scheduler=address)
        took = time.monotonic() - begin
    assert report.code == 0, report.set_aside
    records = [record for _, record in RunStore(out / "survey").records()]
    return took, max(record["peak_mib"] for record in records)


def own_passes(classifier: Classifier, paths: list[Path], out: Path) -> float:
    """Seconds a field that the client itself takes: a run that finds everything done."""
    begin = time.monotonic()
    report = classify_survey(classifier, paths, out, scheduler="tcp://127.0.0.1:1")
    assert report.now == 0
    return (time.monotonic() - begin) / report.fields


def own_memory(classifier: Classifier, paths: list[Path], out: Path) -> float:
    """Bytes a field that the client has at most, when it looks what is done and what to settle."""
    tracemalloc.start()
    again = [Path(str(path)) for path in paths]
    classify_survey(classifier, again, out, scheduler="tcp://127.0.0.1:1")
    known, _ = unsettled(RunStore(out))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / len(known)


def a_task() -> float:
    """Seconds that the scheduler takes for a task that does nothing."""
    with cluster(2) as running, distributed.Client(running, set_as_default=False) as client:
        client.gather(client.map(abs, range(100)))
        begin = time.monotonic()
        client.gather(client.map(abs, range(-2000, 0)))
        return (time.monotonic() - begin) / 2000


def decompressed(path: Path) -> int:
    """Bytes in an archive; nothing else of a field's work is as long."""
    return len(bz2.decompress(path.read_bytes()))


def bare(paths: list[Path], number: int) -> float:
    """Seconds that so many processes take to decompress these archives."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(number, mp_context=spawn) as pool:
        list(pool.map(decompressed, paths[:number]))
        begin = time.monotonic()
        list(pool.map(decompressed, paths))
        return time.monotonic() - begin


def projection(field: dict[str, float], efficiency: float) -> dict[str, Any]:
    """A whole survey and a billion sources, from one field's measured figures."""
    found = {}
    for name, fields in (
        ("the_whole_survey", WHOLE_SURVEY),
        ("a_billion_sources", SOURCES / field["objects"]),
    ):
        core_hours = fields * field["cpu_s"] / 3600
        cores = core_hours / DAY_H / efficiency
        found[name] = {
            "fields": fields,
            "objects": fields * field["objects"],
            "core_hours": core_hours,
            "hours_on_2_cores": core_hours / 2 / efficiency,
            "cores_for_a_day": cores,
            "read_gb": fields * field["read_bytes"] / 1e9,
            "read_mb_a_second_for_a_day": fields * field["read_bytes"] / 1e6 / (DAY_H * 3600),
            "written_gb": fields * field["written_bytes"] / 1e9,
            "files_written": 2 * fields,
            "scheduler_share": 2 * fields * field["task_s"] / (DAY_H * 3600),
            "client_gb": fields * field["client_bytes"] / 1e9,
            "client_own_passes_h": fields * field["client_s"] / 3600,
            "cores_at_which_the_scheduler_is_full": field["cpu_s"] / (2 * field["task_s"]),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=24)
    parser.add_argument("--memory", type=int, nargs=2, default=(20, 400))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--folder", type=Path, default=None, help="for the fields; 8 GB at 400")
    parser.add_argument("--name", default="survey_scaling", help="of the result file")
    asked = parser.parse_args()
    gflops = matrix_rate()
    classifier = load_classifier(asked.model, engine=asked.engine)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        home = Path(name)
        every = renumbered(home / "fields", max(asked.fields, *asked.memory))
        some = every[: 5 * asked.fields]
        walls: dict[int, list[float]] = {1: [], 2: []}
        bares: dict[int, list[float]] = {1: [], 2: []}
        for i in range(asked.repeats):
            for number, took in walls.items():
                took.append(timed(classifier, some, home / f"{number}-{i}", number)[0])
                bares[number].append(bare(every[:20], number))
        peaks = {}
        for number in asked.memory:
            out = home / f"memory-{number}"
            peaks[number] = timed(classifier, every[: 5 * number], out, 2)[1]
        out = home / f"memory-{max(asked.memory)}" / "survey"
        client_s = own_passes(classifier, every[: 5 * max(asked.memory)], out)
        client_bytes = own_memory(classifier, every[: 5 * max(asked.memory)], out)
        records = [record for _, record in RunStore(out).records()]
        written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    seconds = {number: statistics.median(took) for number, took in walls.items()}
    bare_s = {number: statistics.median(took) for number, took in bares.items()}
    field = {
        "cpu_s": statistics.mean(record["cpu_s"] for record in records),
        "objects": statistics.mean(record["primary"] for record in records),
        "read_bytes": statistics.mean(sum(f[2] for f in record["frames"]) for record in records),
        "written_bytes": written / len(records),
        "task_s": a_task(),
        "client_s": client_s,
        "client_bytes": client_bytes,
    }
    faster = seconds[1] / seconds[2]
    least, most = (peaks[number] for number in asked.memory)
    save(
        asked.name,
        None,
        {
            "question": "Do two workers do twice as much, does memory stay, what does it all cost?",
            "matrix_gflops": gflops,
            "model": classifier.hash[:12],
            "engine": classifier.computes.name,
            "fields": asked.fields,
            "seconds_by_workers": seconds,
            "seconds_of_each_run": walls,
            "fields_an_hour_by_workers": {n: 3600 * asked.fields / s for n, s in seconds.items()},
            "two_over_one": faster,
            "two_bare_processes_over_one": bare_s[1] / bare_s[2],
            "peak_mib_of_a_worker_by_fields": peaks,
            "memory_grows_by": most / least - 1,
            "a_field": field,
            "projection": json.loads(json.dumps(projection(field, faster / 2))),
        },
    )


if __name__ == "__main__":
    main()
