"""Items run on a real Dask cluster whose workers are threads of this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gqs.errors import UsageError
from gqs.executors import Retry
from gqs.executors.dask_cluster import DaskExecutor

distributed = pytest.importorskip("distributed", reason="a survey needs the extra `cluster`")


@pytest.fixture(scope="module")
def executor() -> Iterator[DaskExecutor]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as running,
        DaskExecutor.connected(running.scheduler_address, None) as connected,
    ):
        yield connected


def test_the_scheduler_holds_few_items_at_a_time_and_all_are_done(
    executor: DaskExecutor, tmp_path: Path
) -> None:
    def third_time(folder: Path, number: int) -> int | Retry:
        for time in range(3):
            mark = folder / f"{number}-{time}"
            if not mark.exists():
                mark.touch()
                return Retry("not yet the third time")
        return number

    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(17):
            drawn.append(number)
            yield number

    results = {}
    few = replace(executor, at_once=3)
    for outcome in few.run(partial(third_time, tmp_path), items()):
        assert len(drawn) <= len(results) + 1 + few.at_once
        assert len(few.client.futures) <= few.at_once + 1  # this one, and those running
        results[outcome.item] = outcome.result
    assert results == {number: number for number in range(17)}
    assert len(list(tmp_path.iterdir())) == 3 * 17


def test_an_error_of_the_function_ends_the_run(executor: DaskExecutor) -> None:
    with pytest.raises(ZeroDivisionError):
        list(executor.run(partial(divmod, 7), [0]))


def test_no_items_give_no_outcomes(executor: DaskExecutor) -> None:
    assert list(executor.run(partial(divmod, 7), [])) == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [("head-node", "missing port number"), ("http://head-node:8787", "unknown address scheme")],
)
def test_an_invalid_address_is_refused_at_once(address: str, reason: str) -> None:
    with (
        pytest.raises(UsageError, match=f"{reason}.*tcp://head-node:8786"),
        DaskExecutor.connected(address, 1),
    ):
        pass
