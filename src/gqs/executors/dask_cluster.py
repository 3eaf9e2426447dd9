"""Dask executor: the workers of a Dask cluster, local or already running.

Items that failed, or were lost with a worker, are submitted again. The scheduler holds at most a
few thousand items at a time, so that its memory does not grow with the survey.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from gqs import __version__
from gqs.errors import NetworkError, ResourceError, UsageError
from gqs.executors import TIME_LIMIT_S, Outcome, Retry, cpu_count
from gqs.formatting import plural

LOCAL: Final = "local"
# A worker that dies may take along items that had not started: they are submitted this often.
SUBMISSIONS: Final = 12
# The memory of Dask's profiler grows for the first thousand seconds of a worker.
_SETTINGS: Final = {"distributed.worker.profile.enabled": False}
_ONE_ITEM = threading.Lock()
_PATIENCE_S: Final = 60  # for a scheduler's first response
# For a finished result; if its worker has died since, Dask computes it again first.
_FETCH_S: Final = 2 * TIME_LIMIT_S


@dataclass(frozen=True)
class DaskExecutor:
    """A client of a Dask cluster whose workers have one thread each."""

    client: Any  # connected
    address: str  # of the scheduler, for messages
    # Items at the scheduler at a time: enough to keep all workers busy, and few enough that its
    # memory does not grow with the survey.
    at_once: int = 4096

    @classmethod
    @contextlib.contextmanager
    def connected(cls, scheduler: str, workers: int | None) -> Iterator[DaskExecutor]:
        """Connect to a running cluster, or start a local one that ends with the block."""
        try:
            import dask
            import distributed
        except ImportError as error:
            raise UsageError(
                "A survey needs dask's distributed: pip install 'gqs[cluster]'. Or name a file "
                "for the catalogue, such as catalogue.parquet."
            ) from error
        with contextlib.ExitStack() as stack:
            log = logging.getLogger("distributed.client")
            stack.callback(log.setLevel, log.level)
            log.setLevel(logging.CRITICAL)  # a lost scheduler is reported as an error
            if scheduler == LOCAL:
                with _interrupts_blocked(), dask.config.set(_SETTINGS):
                    cluster = distributed.LocalCluster(
                        n_workers=workers or cpu_count(),
                        threads_per_worker=1,
                        dashboard_address="127.0.0.1:0",  # not visible from the network
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
                    f"{scheduler}: no Dask scheduler responds. Check its address and whether it "
                    "is running."
                ) from error
            stack.callback(client.close, timeout=5)
            executor = cls(client, scheduler)
            executor._check_threads()
            yield executor

    @property
    def link(self) -> str:
        """Address of the cluster's dashboard."""
        return str(self.client.dashboard_link)

    def describe(self) -> str:
        """The workers as text."""
        number = 0
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):  # `run` reports it
            number = len(self.client.nthreads())
        return plural(number, "worker")

    def run(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Yield an outcome for every item, in the order in which they finish.

        An error of the function ends the run; a lost scheduler raises NetworkError, and an item
        whose workers die again and again before it starts ResourceError.
        """
        from distributed import KilledWorker, as_completed

        label = uuid.uuid4().hex[:12]
        waiting = iter(items)
        submitted: dict[str, tuple[Any, int]] = {}

        def submit(item: Any, times: int) -> Any:
            key = f"{label}-{item}-{times}"
            submitted[key] = item, times
            try:
                return self.client.submit(_call, function, item, key=key, pure=False)
            except Exception as error:
                raise self._explained(error) from error

        first = [submit(item, 1) for item in islice(waiting, self.at_once)]
        running = as_completed(first, loop=self.client.loop)
        del first  # as_completed alone holds the futures, until each is done
        for future in running:
            item, times = submitted.pop(future.key)
            try:
                result = future.result(timeout=_FETCH_S)
            except KilledWorker as error:
                if times >= SUBMISSIONS:
                    raise ResourceError(
                        f"{self.address}: workers died {SUBMISSIONS} times before {item} "
                        "started. Check their logs; perhaps they have too little memory."
                    ) from error
                result = Retry("its worker died")
            except Exception as error:
                raise self._explained(error) from error
            if isinstance(result, Retry):
                running.add(submit(item, times + 1))
                continue
            for following in islice(waiting, 1):
                running.add(submit(following, 1))
            yield Outcome(item, result)

    def _check_threads(self) -> None:
        for name, threads in self.client.nthreads().items():
            if threads != 1:
                raise UsageError(
                    f"{self.address}: worker {name} has {threads} threads, of which only one "
                    "would be used. Start one worker per core with --nthreads 1."
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
                f"{self.address}: the connection to the scheduler was lost. Finished fields are "
                "kept; start the cluster again and run the same command."
            )
        return error


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    """On a worker: run an item, and end the process if a library hangs; the cluster replaces it."""
    with _ONE_ITEM:
        faulthandler.dump_traceback_later(TIME_LIMIT_S, exit=True)
        try:
            return function(item)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _check_address(scheduler: str) -> None:
    """Refuse an invalid address at once; Dask would take minutes."""
    from distributed.comm import get_address_host

    try:
        get_address_host(scheduler)
    except ValueError as error:
        raise UsageError(
            f"{scheduler!r}: is not the address of a Dask scheduler ({error}). Use an address such "
            "as tcp://head-node:8786."
        ) from error


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C, which reaches all processes of a terminal, in processes started meanwhile.

    They, and the thread that replaces them, inherit the signal mask; the client alone handles the
    signal, by stopping them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
