"""A whole survey on a Dask cluster: the unit a field, each field's rows a part of one data set.

The client hands out fields and waits; all that lasts is on disk (`classify.ledger`), so that
workers, scheduler and client may be killed and the same call does what is missing.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from gqs import __version__, workers
from gqs.classify.classifier import Classifier
from gqs.classify.ledger import DONE, SET_ASIDE, Ledger, Record
from gqs.classify.loading import ModelName
from gqs.classify.many import Task, tasks_of
from gqs.classify.part import (
    AGAIN,
    TRIES,
    Job,
    classify_part,
    frames_seen,
    settle_part,
    unsettled,
)
from gqs.errors import (
    BadInputError,
    IntegrityError,
    NetworkError,
    ResourceError,
    UsageError,
    worst,
)
from gqs.files import hash_of, only_writer, sha256

LOCAL: Final = "local"
# Workers that die may take fields along that had not begun: those are handed out again this often.
HANDED_OUT: Final = 12
# What Dask's profiler keeps of a worker grows for its first thousand seconds.
_SETTINGS: Final = {"distributed.worker.profile.enabled": False}
_PATIENCE_S: Final = 60  # for a scheduler's first answer
# For a result that is there; where its worker has died since, Dask does the field again first.
_FETCH_S: Final = 2 * workers.TIME_LIMIT_S


@dataclass(frozen=True)
class SurveyReport:
    """What a survey's folder holds after a run.

    Attributes
    ----------
    folder : Path
        The survey's.
    fields : int
        Fields done, in this run and before.
    now : int
        Of them, done in this run.
    rows, objects : int
        Rows, and those among them that are primary: one an object.
    by_class : dict
        Objects of each class; "" where nothing could be judged.
    lacking : int
        Fields without a frame in some band that the model takes.
    set_aside : list of str
        A sentence for each file or field left out.
    seconds : float
        That this run took.
    code : int
        Exit code of what was set aside; 0 where nothing was.
    """

    folder: Path
    fields: int
    now: int
    rows: int
    objects: int
    by_class: dict[str, int]
    lacking: int = 0
    set_aside: list[str] = field(default_factory=list)
    seconds: float = 0.0
    code: int = 0

    @property
    def fields_an_hour(self) -> float:
        """Fields done in this run, an hour of it."""
        return 3600 * self.now / self.seconds if self.seconds else 0.0


def classify_survey(
    classifier: Classifier,
    paths: Sequence[Path],
    out: Path,
    *,
    scheduler: str = LOCAL,
    processes: int | None = None,
    prior: str | None = None,
    coverage: float | None = None,
    links: str | None = None,
    made: Mapping[str, str] | None = None,
    progress: workers.Progress = workers.silent,
    opened: Callable[[str], None] = lambda link: None,
) -> SurveyReport:
    """Classify many fields on a Dask cluster into a folder of Parquet; do what is missing of it.

    Parameters
    ----------
    classifier : Classifier
        The judge; workers load it from its folder.
    paths : sequence of Path
        Frames, under names that the workers see too.
    out : Path
        The survey's folder, which the workers see too.
    scheduler : str
        Address of a running cluster's scheduler; "local" starts a cluster on this machine.
    processes : int, optional
        Workers of a local cluster; by default one a core.
    prior : str, optional
        As `priors.find_prior` takes it.
    coverage : float, optional
        As `weighing.weigh` takes it.
    links : str, optional
        Data release to whose pages on each row the column `link` leads; else there is none.
    made : mapping, optional
        What the metadata of parts and manifest keep of how they came about.
    progress : callable
        Told how many fields are done.
    opened : callable
        Told the link to the cluster's dashboard.

    Returns
    -------
    SurveyReport
        Of all that the folder holds now.

    Raises
    ------
    UsageError
        If dask's distributed is not installed, the folder holds rows of another model or options,
        or the workers do not fit.
    NetworkError
        If the scheduler cannot be reached, or is lost.
    ResourceError
        If another client writes here, or the disk refuses.
    """
    begin = time.monotonic()
    tasks, refused = tasks_of([path.absolute() for path in paths])
    ledger = Ledger(out.absolute())
    made_with = _made_with(classifier, prior, coverage, links)
    if prior is not None and Path(prior).is_file():
        prior = str(Path(prior).absolute())  # workers have other working directories
    with only_writer(ledger.folder):
        ledger.claim(made_with)
        ledger.tidy()
        waiting = [task for task in tasks if not _is_done(ledger, task)]
        name, run = ModelName.of(classifier), uuid.uuid4().hex[:12]
        job = Job(ledger, name, run, prior, coverage, links, dict(made or {}))
        if waiting or not (ledger.folder / "manifest.parquet").is_file():
            ledger.unsettle()
            with _Cluster.opened(scheduler, processes) as cluster:
                opened(cluster.link)
                _classify(cluster, job, tasks, waiting, progress)
                _settle(cluster, job, progress)
        ledger.settle(made)
        ledger.tidy()
    return _report(ledger, tasks, refused, waiting, time.monotonic() - begin)


def _made_with(
    classifier: Classifier, prior: str | None, coverage: float | None, links: str | None
) -> Record:
    told = prior
    if prior is not None and Path(prior).is_file():
        told = f"{Path(prior).name} {sha256(Path(prior))}"
    return {
        "gqs": __version__,
        "model": classifier.hash,
        "engine": classifier.computes.name,
        "card": hash_of([dict(classifier.card), classifier.typical is not None]),
        "prior": told,
        "coverage": coverage,
        "links": links,
    }


def _is_done(ledger: Ledger, task: Task) -> bool:
    """Tell whether a field's rows are there, and of the frames that are there now."""
    record = ledger.record(task.name)
    return (
        record is not None
        and record["status"] == DONE
        and record.get("frames") == frames_seen(task)
    )


def _classify(
    cluster: _Cluster,
    job: Job,
    tasks: Sequence[Task],
    waiting: Sequence[Task],
    progress: workers.Progress,
) -> None:
    done, aside = len(tasks) - len(waiting), 0
    progress(done, len(tasks), cluster.note(aside))
    work = partial(classify_part, job)
    for _, record in cluster.each(work, {str(task.name): (task,) for task in waiting}):
        done += 1
        aside += record["status"] == SET_ASIDE
        progress(done, len(tasks), cluster.note(aside))


def _settle(cluster: _Cluster, job: Job, progress: workers.Progress) -> None:
    """Tell which rows are primary, in each field whose neighbours have changed."""
    work = partial(settle_part, job)
    for _ in range(TRIES):
        number, wanted = unsettled(job.ledger)
        if not wanted:
            return
        for i, _done in enumerate(cluster.each(work, wanted), start=1):
            progress(number, number, f"overlaps: {i} of {len(wanted)} fields")
    if unsettled(job.ledger)[1]:
        raise IntegrityError(
            f"{job.ledger.folder}: fields change while it is settled which rows are primary. Stop "
            "the workers of earlier runs, and run the same command again."
        )


def _report(
    ledger: Ledger, tasks: list[Task], refused: list[str], waiting: list[Task], seconds: float
) -> SurveyReport:
    by_class: Counter[str] = Counter()
    fields = rows = objects = now = lacking = 0
    begun, asked, set_aside = {task.name for task in waiting}, {t.name for t in tasks}, [*refused]
    codes = {BadInputError.exit_code} if refused else set()
    for name, record in ledger.records():
        if record["status"] == DONE:
            fields, now = fields + 1, now + (name in begun)
            rows, objects = rows + record["rows"], objects + record["primary"]
            by_class.update(record["classes"])
            lacking += bool(record["lacking"])
        elif name in asked:
            set_aside.append(record["reason"])
            codes.add(record.get("code", BadInputError.exit_code))
    return SurveyReport(
        folder=ledger.folder,
        fields=fields,
        now=now,
        rows=rows,
        objects=objects,
        by_class=dict(by_class),
        lacking=lacking,
        set_aside=set_aside,
        seconds=seconds,
        code=worst(codes),
    )


@dataclass(frozen=True)
class _Cluster:
    """A client of a Dask cluster, and how work is spread over it."""

    client: Any
    address: str

    @classmethod
    @contextlib.contextmanager
    def opened(cls, scheduler: str, processes: int | None) -> Iterator[_Cluster]:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise UsageError(
                "A survey needs dask's distributed: pip install 'gqs[cluster]'. Or name a file "
                "for the catalogue, as catalogue.parquet."
            ) from error
        with contextlib.ExitStack() as stack:
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
            try:
                client = distributed.Client(scheduler, timeout=_PATIENCE_S, set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                raise NetworkError(
                    f"{scheduler}: no Dask scheduler answers there. Look at its address and "
                    "whether it runs."
                ) from error
            stack.callback(client.close, timeout=5)
            found = cls(client, scheduler)
            found.check_threads()
            yield found

    @property
    def link(self) -> str:
        return str(self.client.dashboard_link)

    def check_threads(self) -> None:
        for name, threads in self.client.nthreads().items():
            if threads != 1:
                raise UsageError(
                    f"{self.address}: worker {name} has {threads} threads, of which only one "
                    "would work. Start workers with --nthreads 1, as many as cores."
                )

    def note(self, aside: int) -> str:
        number = 0
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):  # told by `each`
            number = len(self.client.nthreads())
        return f"{number} worker{'s'[: number != 1]}" + (f", {aside} set aside" if aside else "")

    def each(
        self, work: Callable[..., Record], items: dict[str, tuple[Any, ...]]
    ) -> Iterator[tuple[str, Record]]:
        """Do a piece of work for every item, and for those that failed or were lost again.

        Raises
        ------
        NetworkError
            If the scheduler is lost.
        GqsError
            That the work raised.
        """
        from distributed import KilledWorker, as_completed

        label = f"{work.func.__name__}-{uuid.uuid4().hex[:8]}"  # type: ignore[attr-defined]
        handed_out: Counter[str] = Counter()
        names: dict[str, str] = {}

        def hand_out(name: str) -> Any:
            handed_out[name] += 1
            key = f"{label}-{name}-{handed_out[name]}"
            names[key] = name
            try:
                return self.client.submit(work, *items[name], key=key, pure=False)
            except Exception as error:
                raise self._explained(error) from error

        running = as_completed([hand_out(name) for name in items], loop=self.client.loop)
        for future in running:
            name = names.pop(future.key)
            try:
                record = future.result(timeout=_FETCH_S)
            except KilledWorker as error:
                if handed_out[name] >= HANDED_OUT:
                    raise ResourceError(
                        f"{self.address}: {HANDED_OUT} times workers died before field {name} "
                        "began. Look at their logs: too little memory, perhaps."
                    ) from error
                record = {"status": AGAIN}
            except Exception as error:
                raise self._explained(error) from error
            if record.get("status") == AGAIN:
                running.add(hand_out(name))
            else:
                yield name, record

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
