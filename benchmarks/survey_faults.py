"""Does a survey that was killed, at random and again, end as one that nobody touched?

    python benchmarks/survey_faults.py [--kills 100] [--others 5] [--fields 12] [--at-once 2]
        [--seed 20241123] [--log FILE]

Each trial starts a Dask scheduler and two workers, has `gqs classify` make a survey of overlapping
simulated fields (or of the real ones: --real), and does it harm at a random moment:

- kill -9 of a worker, of the scheduler with its workers' nannies left alone, or of the client;
- a full disk (a limit on file sizes set on the running workers stands in for it);
- a damaged frame, mended afterwards; a second client on the same folder.

Then the same command runs once more, on a new cluster where the old one is gone. It has to end
with 0, and the survey has to hold the rows of a faultless run: the same objects once each, with
equal values in every column. Trials run beside each other, each with a survey of its own, as most
of the time of one is spent on starting programs. With --log each is a line of a file as soon as it
has ended, and those that the file has are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import numpy as np
from astropy.table import Table, vstack

from gqs import tables
from gqs.surveys.sdss import BANDS
from many_fields import real_paths, strip
from measured import save

KILLS = ("worker", "scheduler", "client")
OTHERS = ("disk full", "damaged frame", "two clients")
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Cluster:
    """A scheduler and two workers under a nanny, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        where = folder / "scheduler.json"
        where.unlink(missing_ok=True)
        dask = [sys.executable, "-m", "dask"]
        same = ["--no-dashboard", "--scheduler-file", str(where)]
        self.scheduler = subprocess.Popen(
            [*dask, "scheduler", "--port", "0", *same], env=ENVIRONMENT, **QUIET
        )
        self.nannies = subprocess.Popen(
            [*dask, "worker", "--nworkers", "2", "--nthreads", "1", *same],
            env=ENVIRONMENT, start_new_session=True, **QUIET,
        )  # fmt: skip
        self.address = _address(where)
        with distributed.Client(self.address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(2)

    def workers(self) -> list[int]:
        """Processes that compute: the largest of the nannies' children."""
        own = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
        return [pid for pid in own if _session(pid) == self.nannies.pid and _spawned(pid)]

    def stop(self) -> None:
        self.scheduler.kill()
        self.scheduler.wait()
        os.killpg(self.nannies.pid, signal.SIGKILL)
        self.nannies.wait()


def _address(where: Path) -> str:
    """Wait for the scheduler's file, which is there for a moment before it is whole."""
    while True:
        try:
            return str(json.loads(where.read_text())["address"])
        except (OSError, ValueError):
            time.sleep(0.05)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _spawned(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    running = Cluster(folder)
    try:
        yield running
    finally:
        running.stop()


class Survey:
    """The command that makes the survey, and the rows that it must end with."""

    def __init__(self, home: Path, frames: list[Path], model: list[str]) -> None:
        self.home, self.frames, self.model = home, frames, model
        self.out, self.log = home / "survey", home / "clients.log"
        self.faultless = Table()

    def command(self, address: str) -> list[str]:
        return [
            sys.executable, "-m", "gqs.cli", "classify", *map(str, self.frames),
            "--out", str(self.out), "--scheduler", address, "--json", *self.model,
        ]  # fmt: skip

    def start(self, address: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self.command(address), env=ENVIRONMENT, stdout=log, stderr=log)

    def undisturbed(self, address: str) -> None:
        """Run once where nothing is harmed, or end with what the command said."""
        if code := self.start(address).wait():
            sys.exit(f"An undisturbed run ended with {code}:\n{self.log.read_text()[-4000:]}")

    def rows(self) -> Table:
        parts = [tables.read(path) for path in sorted(self.out.glob("objects/*/*.parquet"))]
        whole = vstack([p for p in parts if len(p)], metadata_conflicts="silent")
        whole.sort("objid")
        return whole

    def differs(self) -> str:
        """Say how the rows differ from a faultless run's; blank where they do not."""
        found, expected = self.rows(), self.faultless
        if len(np.unique(found["objid"])) != len(found) or len(found) != len(expected):
            return f"{len(found)} rows for {len(expected)}"
        for name in expected.colnames:
            a, b = np.asarray(found[name]), np.asarray(expected[name])
            same = (a == b) | ((a != a) & (b != b)) if a.dtype.kind == "f" else a == b
            if not same.all():
                return f"column {name}"
        return ""

    def clear(self) -> None:
        subprocess.run(["rm", "-rf", str(self.out)], check=True)


def trial(survey: Survey, kind: str, chance: random.Random, usual_s: float) -> dict[str, object]:
    """Make a survey, do it harm, run once more; tell how that ended."""
    survey.clear()
    wait = chance.uniform(0.0, usual_s)
    mended = None
    first: list[int] = []
    with cluster(survey.home) as running:
        if kind == "damaged frame":
            broken = chance.choice(survey.frames)
            mended = broken.read_bytes(), broken.stat().st_mtime_ns
            broken.write_bytes(mended[0][: chance.randrange(len(mended[0]))])
        client = survey.start(running.address)
        second = None
        time.sleep(wait)
        alive = client.poll() is None
        if kind == "worker":
            for pid in chance.sample(running.workers(), 1) if running.workers() else []:
                os.kill(pid, signal.SIGKILL)
        elif kind == "scheduler":
            running.scheduler.kill()
        elif kind == "client":
            client.kill()
        elif kind == "two clients":
            second = survey.start(running.address)
        elif kind == "disk full":
            for pid in running.workers():
                hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, hard))
        first = [client.wait()] + ([second.wait()] if second else [])
        gone = kind in ("scheduler", "disk full")
        if mended:
            broken.write_bytes(mended[0])
            os.utime(broken, ns=(mended[1], mended[1]))
        if not gone:
            last = survey.start(running.address).wait()
    if gone:
        with cluster(survey.home) as running:
            last = survey.start(running.address).wait()
    return {
        "kind": kind,
        "at_s": wait,
        "while_at_it": alive,
        "codes": first,
        "last": last,
        "differs": survey.differs() if last == 0 else f"code {last}",
        # Of killed workers: no reader sees them, and a run later than ten minutes sweeps them.
        "temporary": len(list(survey.out.glob("*/*/.*.tmp"))),
    }


def undisturbed(survey: Survey) -> float:
    """Make a faultless survey, remember its rows, and tell how many seconds it took."""
    with cluster(survey.home) as running:
        survey.undisturbed(running.address)
        survey.clear()  # the first run also warmed the disk's cache and the model's
        begin = time.monotonic()
        survey.undisturbed(running.address)
    survey.faultless = survey.rows()
    return time.monotonic() - begin


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """What became of the trials so far."""
    kinds = Counter(str(t["kind"]) for t in trials)
    return {
        "kills": sum(kinds[kind] for kind in KILLS),
        "trials": kinds,
        "harmed_while_at_it": Counter(t["kind"] for t in trials if t["while_at_it"]),
        "codes_of_the_harmed_run": {
            kind: Counter(str(t["codes"]) for t in trials if t["kind"] == kind) for kind in kinds
        },
        "temporary_files_left": sum(int(t["temporary"]) for t in trials),
        "not_mended_by_one_more_run": [t for t in trials if t["differs"]],
    }


def told(log: Path | None, kinds: list[str]) -> list[dict[str, Any]]:
    """Trials that an earlier run has told of, by number; of other kinds they are another run's."""
    if log is None or not log.is_file():
        return []
    trials = [json.loads(line) for line in log.read_text().splitlines()]
    strange = [t for t in trials if kinds[t["number"] : t["number"] + 1] != [t["kind"]]]
    if strange:
        sys.exit(f"{log}: is of a run with other trials. Name another file.")
    return trials


def frames_in(home: Path, asked: argparse.Namespace) -> list[Path]:
    """Frames of a survey's own, since a trial damages them."""
    home.mkdir()
    if not asked.real:
        return strip(home, asked.fields, asked.seed)
    copies = [home / path.name for paths in real_paths() for path in paths]
    for path, copy in zip((path for paths in real_paths() for path in paths), copies, strict=True):
        copy.write_bytes(path.read_bytes())
    return copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--others", type=int, default=5, help="trials of each other fault")
    parser.add_argument("--fields", type=int, default=12)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--seed", type=int, default=20241123)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--name", default="survey_faults", help="of the result file")
    parser.add_argument("--log", type=Path, default=None)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    kinds = [chance.choice(KILLS) for _ in range(asked.kills)] + list(OTHERS) * asked.others
    model = ["--engine", asked.engine] + (["--model", str(asked.model)] if asked.model else [])
    trials = told(asked.log, kinds)
    done_before = {t["number"] for t in trials}
    left = [(number, kind) for number, kind in enumerate(kinds) if number not in done_before]
    lock = threading.Lock()
    with tempfile.TemporaryDirectory() as name:
        homes = [Path(name) / str(i) for i in range(asked.at_once)]
        surveys = [Survey(home, frames_in(home, asked), model) for home in homes]
        usual_s = undisturbed(surveys[0])
        faultless = surveys[0].faultless
        about = {
            "question": "Does one more run mend whatever was killed, full, damaged or doubled?",
            "fields": len(surveys[0].frames) // len(BANDS),
            "pixels": "real" if asked.real else "simulated",
            "rows": len(faultless),
            "objects": int(np.asarray(faultless["primary"]).sum()),
            "seconds_without_faults": usual_s,
        }

        def go_on(survey: Survey) -> None:
            survey.faultless = faultless
            while True:
                with lock:
                    if not left:
                        return
                    number, kind = left.pop(0)
                own = random.Random(f"{asked.seed} {number}")
                begin = time.monotonic()
                done = {"number": number} | trial(survey, kind, own, usual_s * asked.at_once)
                done |= {"took_s": round(time.monotonic() - begin, 1)}
                with lock:
                    trials.append(done)
                    print(json.dumps(done), file=sys.stderr, flush=True)
                    if asked.log is not None:
                        with asked.log.open("a") as log:
                            log.write(json.dumps(done) + "\n")
                    if len(trials) % 10 == 0 or len(trials) == len(kinds):
                        save(asked.name, asked.seed, about | summary(trials))

        with ThreadPoolExecutor(asked.at_once) as lanes:
            list(lanes.map(go_on, surveys))


if __name__ == "__main__":
    main()
