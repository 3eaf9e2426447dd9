"""A Dask cluster, and how a piece of work is handed out to its workers for many fields.

Fields whose try failed, or that were lost with a worker, are handed out again. No more than some
thousands are with the scheduler at a time, so that its memory does not grow with the survey.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from gqs import __version__
from gqs.errors import NetworkError, ResourceError, UsageError
from gqs.executors import processes as workers
from gqs.runs.field_task import AGAIN
from gqs.runs.run_store import Record

LOCAL: Final = "local"
# Workers that die may take fields along that had not begun: those are handed out again this often.
HANDED_OUT: Final = 12
# What Dask's profiler keeps of a worker grows for its first thousand seconds.
_SETTINGS: Final = {"distributed.worker.profile.enabled": False}
_PATIENCE_S: Final = 60  # for a scheduler's first answer
# For a result that is there; where its worker has died since, Dask does the field again first.
_FETCH_S: Final = 2 * workers.TIME_LIMIT_S


@dataclass(frozen=True)
class Cluster:
    """A client of a Dask cluster."""

    client: Any  # connected
    address: str  # the scheduler's, for sentences
    # items that the scheduler has at most: more than it can keep workers busy with, and few enough
    # that its memory does not grow with the survey
    at_once: int = 4096

    @classmethod
    @contextlib.contextmanager
    def opened(cls, scheduler: str, processes: int | None) -> Iterator[Cluster]:
        """Reach a running cluster, or start one on this machine that ends with the block."""
        try:
            import dask
            import distributed
        except ImportError as error:
            raise UsageError(
                "A survey needs dask's distributed: pip install 'gqs[cluster]'. Or name a file "
                "for the catalogue, as catalogue.parquet."
            ) from error
        with contextlib.ExitStack() as stack:
            log = logging.getLogger("distributed.client")
            stack.callback(log.setLevel, log.level)
            log.setLevel(logging.CRITICAL)  # a lost scheduler is told by a sentence
            if scheduler == LOCAL:
                with _interrupts_held(), dask.config.set(_SETTINGS):
                    cluster = distributed.LocalCluster(
                        n_workers=processes or workers.cores(),
                        threads_per_worker=1,
                        dashboard_address="127.0.0.1:0",  # else whole networks may look in
                        silence_logs=logging.ERROR,
                    )
                stack.callback(cluster.close, timeout=_PATIENCE_S)
                scheduler = cluster.scheduler_address
            else:
                _check_address(scheduler)
            try:
                client = distributed.Client(scheduler, timeout=_PATIENCE_S, set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                raise NetworkError(
                    f"{scheduler}: no Dask scheduler answers there. Look at its address and "
                    "whether it runs."
                ) from error
            stack.callback(client.close, timeout=5)
            found = cls(client, scheduler)
            found._check_threads()
            yield found

    @property
    def link(self) -> str:
        """Address of the cluster's dashboard."""
        return str(self.client.dashboard_link)

    def note(self, aside: int) -> str:
        """Say beside a bar how many workers there are."""
        number = 0
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):  # told by `each`
            number = len(self.client.nthreads())
        return f"{number} worker{'s'[: number != 1]}" + (f", {aside} set aside" if aside else "")

    def each(
        self, work: partial[Record], items: Iterable[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[tuple[str, Record]]:
        """Do a piece of work for every item, and for those that failed or were lost again."""
        from distributed import KilledWorker, as_completed

        label = f"{work.func.__name__}-{uuid.uuid4().hex[:8]}"
        left = iter(items)
        under_way: dict[str, tuple[str, tuple[Any, ...], int]] = {}

        def hand_out(name: str, given: tuple[Any, ...], times: int) -> Any:
            key = f"{label}-{name}-{times}"
            under_way[key] = name, given, times
            try:
                return self.client.submit(work, *given, key=key, pure=False)
            except Exception as error:
                raise self._explained(error) from error

        first = [hand_out(name, given, 1) for name, given in islice(left, self.at_once)]
        running = as_completed(first, loop=self.client.loop)
        del first  # as_completed alone holds on to them, until each is done
        for future in running:
            name, given, times = under_way.pop(future.key)
            try:
                record = future.result(timeout=_FETCH_S)
            except KilledWorker as error:
                if times >= HANDED_OUT:
                    raise ResourceError(
                        f"{self.address}: {HANDED_OUT} times workers died before field {name} "
                        "began. Look at their logs: too little memory, perhaps."
                    ) from error
                record = {"status": AGAIN}
            except Exception as error:
                raise self._explained(error) from error
            if record.get("status") == AGAIN:
                running.add(hand_out(name, given, times + 1))
                continue
            for name_of_next, given_to_it in islice(left, 1):
                running.add(hand_out(name_of_next, given_to_it, 1))
            yield name, record

    def _check_threads(self) -> None:
        for name, threads in self.client.nthreads().items():
            if threads != 1:
                raise UsageError(
                    f"{self.address}: worker {name} has {threads} threads, of which only one "
                    "would work. Start workers with --nthreads 1, as many as cores."
                )

    def _explained(self, error: Exception) -> Exception:
        from concurrent.futures import CancelledError

        if isinstance(error, ImportError):
            return UsageError(
                f"{self.address}: a worker cannot import gqs ({error}). Install gqs "
                f"{__version__} where the workers run."
            )
        closed = self.client.status != "running"
        if closed or isinstance(error, CancelledError | OSError | TimeoutError):
            return NetworkError(
                f"{self.address}: the scheduler was lost. What is done is kept; start the "
                "cluster again and run the same command."
            )
        return error


def _check_address(scheduler: str) -> None:
    """Refuse at once what Dask would refuse after minutes."""
    from distributed.comm import get_address_host

    try:
        get_address_host(scheduler)
    except ValueError as error:
        raise UsageError(
            f"{scheduler!r}: is no address of a Dask scheduler ({error}). Name one as in "
            "tcp://head-node:8786."
        ) from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C, which reaches all processes of a terminal, from those that are started here.

    They and the thread that starts others in their place inherit that it is held back; the client
    alone answers it, by stopping them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
