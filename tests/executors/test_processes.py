"""A child that dies, hangs, or swallows memory costs only its item."""

from __future__ import annotations

import os
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gqs.errors import BadInputError, IntegrityError, ResourceError
from gqs.executors import Outcome, cpu_count, no_progress
from gqs.executors.processes import LocalExecutor


class Unreadable(Exception):  # noqa: N818
    """Cannot be unpickled: its constructor asks for more than it keeps."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)


class UnreadableBadInputError(BadInputError):
    """A refusal that the parent cannot unpickle."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}")


def work(item: Any) -> Any:
    """Do to itself what the item says."""
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "abort":
        os.abort()
    if item == "exit":
        os._exit(3)
    if item == "hang":
        time.sleep(300)
    if item == "memory":
        return np.ones(3 << 27).sum()  # 3 GiB
    if item == "bad":
        raise BadInputError("frame.fits: cut. Fetch it again.")
    if item == "disk":
        raise ResourceError("out: the disk is full.")
    if item == "leak":
        raise IntegrityError("split: leaks.")
    if item == "bug":
        raise ZeroDivisionError("a bug\nof two lines")
    if item == "lambda":
        return lambda: None
    if item == "unreadable":
        raise UnreadableBadInputError(1, 2)
    if item == "unreadable result":
        return Unreadable(1, 2)
    return item * 2


def together(items: list[Any], **options: Any) -> dict[str, Outcome]:
    return {str(o.item): o for o in LocalExecutor(**options).run(work, items)}


def test_every_item_comes_once() -> None:
    items = list(range(23))
    outcomes = list(LocalExecutor(3).run(work, items))
    assert sorted(o.item for o in outcomes) == items
    assert all(o.result == 2 * o.item and o.error is None for o in outcomes)


def test_one_worker_keeps_the_order() -> None:
    outcomes = LocalExecutor(1).run(work, [5, 3, 9, 1])
    assert [o.item for o in outcomes] == [5, 3, 9, 1]


def test_no_items() -> None:
    assert list(LocalExecutor().run(work, [])) == []


def test_errors_cost_only_their_item() -> None:
    items = ["kill", 1, "abort", 2, "exit", "bad", 3, "disk", "leak", "bug", "lambda", 4]
    items += ["unreadable", "unreadable result", 5]
    found = together(items, workers=2)
    assert {name for name, o in found.items() if o.error is None} == set("12345")
    messages = {name: str(o.error) for name, o in found.items() if o.error is not None}
    assert "SIGKILL" in messages["kill"]
    assert "SIGABRT" in messages["abort"]
    assert "code 3" in messages["exit"]
    assert messages["bad"] == "frame.fits: cut. Fetch it again."
    assert type(found["disk"].error) is ResourceError
    assert type(found["leak"].error) is IntegrityError
    assert "ZeroDivisionError (a bug of two lines) at test_processes.py" in messages["bug"]
    for name in ("kill", "abort", "exit", "bug", "lambda", "unreadable", "unreadable result"):
        assert type(found[name].error) is BadInputError
        assert messages[name].startswith(f"{name}: ")
        assert messages[name].endswith("set aside.")
        assert "\n" not in messages[name]


def test_a_hanging_child_is_given_up() -> None:
    begin = time.monotonic()
    found = together(["hang", 7, 8], workers=1, time_limit_s=3)
    assert time.monotonic() - begin < 20
    assert "longer than 3 s" in str(found["hang"].error)
    assert found["7"].result == 14
    assert found["8"].result == 16


def test_memory_is_limited() -> None:
    found = together(["memory", 1], workers=1, memory_limit=2 << 30)
    assert "needs more memory than 2048 MiB" in str(found["memory"].error)
    assert found["1"].result == 2


def test_a_slow_caller_does_not_make_children_late() -> None:
    outcomes = []
    for outcome in LocalExecutor(2, time_limit_s=3).run(work, [1, 2]):
        outcomes.append(outcome)
        if len(outcomes) == 1:
            time.sleep(3.5)
    assert [o.error for o in outcomes] == [None, None]


def test_long_items_make_short_sentences() -> None:
    long = ["x" * 5000 + "\n", 1]
    (outcome,) = LocalExecutor(1).run(partial(_fail, reason="y"), [long])
    assert len(str(outcome.error)) < 300
    assert "\n" not in str(outcome.error)


def _fail(item: Any, reason: str) -> None:
    raise ValueError(reason)


def _children(pid: int) -> list[int]:
    """All living descendants of a process."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if state != "Z":
            parents.setdefault(int(parent), []).append(int(head.split()[0]))
    found, queue = [], [pid]
    while queue:
        inner = parents.get(queue.pop(), [])
        found += inner
        queue += inner
    return found


class OnlyHere:
    """Cannot be unpickled in a child."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_an_item_that_a_child_cannot_read() -> None:
    outcomes = list(LocalExecutor(1).run(work, [OnlyHere(), 3]))
    assert "cannot be read by a worker" in str(outcomes[0].error)
    assert outcomes[1].result == 6


def test_closing_early_stops_the_children() -> None:
    outcomes = LocalExecutor(2).run(work, [1, "hang", "hang"])
    assert next(outcomes).result == 2
    outcomes.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    names = [
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for pid in _children(os.getpid())
        if Path(f"/proc/{pid}").exists()
    ]
    # Only multiprocessing's own server and tracker may live on, and the server has no children.
    assert len([name for name in names if b"forkserver" in name]) <= 1


SCRIPT = """
import sys, time
from gqs.executors.processes import LocalExecutor
import {module}
print("begins", flush=True)
for outcome in LocalExecutor(2).run({module}.work, {items}):
    print(outcome.item, outcome.result, outcome.error, flush=True)
"""


def _script(tmp_path: Path, items: list[Any]) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(module=Path(__file__).stem, items=items))
    return [sys.executable, str(path)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    done = subprocess.run(
        _script(tmp_path, [4, 5]), env=_environment(), capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == ["4 8 None", "5 10 None", "begins"]
    assert done.stderr == ""


def test_ctrl_c_ends_all_and_leaves_no_noise_from_children(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        _script(tmp_path, [1, "hang", "hang", "hang"]),
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begins\n"
    assert parent.stdout.readline() == "1 2 None\n"
    children = _children(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    _, noise = parent.communicate(timeout=60)
    assert parent.returncode in (-signal.SIGINT, 130, 1)
    assert noise.count("Traceback") == 1  # the script's own, which does not catch it
    time.sleep(0.3)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists() and pid in _alive()]


def test_children_of_a_killed_parent_go_away(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        _script(tmp_path, [1, 2, 3]), env=_environment(), stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.stdout.readline()
    children = _children(parent.pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while set(children) & _alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not set(children) & _alive()


def _alive() -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if rest.split()[0] != "Z":
            found.add(int(head.split()[0]))
    return found


def _main() -> tuple[object, object]:
    """Return what children would import as their main module."""
    main = vars(sys.modules["__main__"])
    return main.get("__file__"), main.get("__spec__")


def test_threads_may_run_at_once() -> None:
    results: list[int] = []
    before = _main()

    def count(start: int) -> None:
        items = range(start, start + 4)
        results.extend(o.result for o in LocalExecutor(1).run(work, items))

    threads = [threading.Thread(target=count, args=(10 * i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [2 * (10 * i + j) for i in range(2) for j in range(4)]
    assert _main() == before


def test_cores() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)


def test_silent() -> None:
    no_progress(1, 2, "three")


@pytest.mark.parametrize("count", [0, None])
def test_no_number_of_workers_means_one_a_core(count: int | None) -> None:
    assert [o.result for o in LocalExecutor(count).run(work, [3])] == [6]


def new_pages(item: int) -> int:
    """Pages that the system had to clear for so many bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes([1]) * item
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks malloc of glibc")
def test_a_child_keeps_its_memory_from_item_to_item() -> None:
    """A band's 12 MB come from what the band before left, not page by page."""
    first, *others = (
        outcome.result for outcome in LocalExecutor(1).run(new_pages, [12_199_000] * 3)
    )
    assert first > 2500
    assert max(others) < 100
