"""Work handed out to a real Dask cluster whose workers are threads of this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gqs.errors import UsageError
from gqs.executors.dask_cluster import Cluster
from gqs.runs.field_task import AGAIN
from gqs.runs.run_store import DONE, Record

distributed = pytest.importorskip("distributed", reason="a survey needs the extra `cluster`")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as running,
        Cluster.opened(running.scheduler_address, None) as reached,
    ):
        yield reached


def test_few_items_at_a_time_are_with_the_scheduler_and_all_get_done(
    cluster: Cluster, tmp_path: Path
) -> None:
    def third_time(folder: Path, number: int) -> Record:
        for time in range(3):
            mark = folder / f"{number}-{time}"
            if not mark.exists():
                mark.touch()
                return {"status": AGAIN}
        return {"status": DONE, "number": number}

    drawn: list[int] = []

    def items() -> Iterator[tuple[str, tuple[int]]]:
        for number in range(17):
            drawn.append(number)
            yield f"item {number}", (number,)

    found = {}
    few = replace(cluster, at_once=3)
    for name, record in few.each(partial(third_time, tmp_path), items()):
        assert len(drawn) <= len(found) + 1 + few.at_once
        assert len(few.client.futures) <= few.at_once + 1  # this one, and those under way
        found[name] = record["number"]
    assert found == {f"item {number}": number for number in range(17)}
    assert len(list(tmp_path.iterdir())) == 3 * 17


def test_what_the_work_raises_reaches_the_caller(cluster: Cluster) -> None:
    with pytest.raises(ZeroDivisionError):
        list(cluster.each(partial(divmod, 7), [("item", (0,))]))


def test_no_items_are_no_work(cluster: Cluster) -> None:
    assert list(cluster.each(partial(divmod, 7), [])) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [("head-node", "missing port number"), ("http://head-node:8787", "unknown address scheme")],
)
def test_what_is_no_address_is_refused_at_once(address: str, said: str) -> None:
    with (
        pytest.raises(UsageError, match=f"{said}.*tcp://head-node:8786"),
        Cluster.opened(address, 1),
    ):
        pass
