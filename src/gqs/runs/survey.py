"""A whole survey on a Dask cluster: the unit a field, each field's rows a part of one data set.

The client hands out fields and waits; all that lasts is on disk (`classify.ledger`), so that
workers, scheduler and client may be killed and the same call does what is missing.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gqs import __version__
from gqs.errors import BadInputError, IntegrityError, worst
from gqs.executors import processes as workers
from gqs.executors.dask_cluster import LOCAL, Cluster
from gqs.files import hash_of, only_writer, sha256
from gqs.model.cache import ModelName
from gqs.model.classifier import Classifier
from gqs.runs.field_task import TRIES, Job, classify_part, frames_seen, settle_part, unsettled
from gqs.runs.local import Task, tasks_of
from gqs.runs.run_store import DONE, SET_ASIDE, Ledger, Record


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
    lacking : dict of str to int
        How many fields lack which bands that the model takes, as in {"uz": 2}.
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
    lacking: dict[str, int] = field(default_factory=dict)
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
        ledger.refuse_another(made_with)
        ledger.tidy()
        waiting = [task for task in tasks if not _is_done(ledger, task)]
        name, run = ModelName.of(classifier), uuid.uuid4().hex[:12]
        job = Job(ledger, name, run, prior, coverage, links, dict(made or {}))
        if waiting or not (ledger.folder / "manifest.parquet").is_file():
            ledger.unsettle()
            with Cluster.opened(scheduler, processes) as cluster:
                ledger.claim(made_with)
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
    cluster: Cluster,
    job: Job,
    tasks: Sequence[Task],
    waiting: Sequence[Task],
    progress: workers.Progress,
) -> None:
    done, aside = len(tasks) - len(waiting), 0
    progress(done, len(tasks), cluster.note(aside))
    work = partial(classify_part, job)
    for _, record in cluster.each(work, ((str(task.name), (task,)) for task in waiting)):
        done += 1
        aside += record["status"] == SET_ASIDE
        progress(done, len(tasks), cluster.note(aside))


def _settle(cluster: Cluster, job: Job, progress: workers.Progress) -> None:
    """Tell which rows are primary, in each field whose neighbours have changed."""
    work = partial(settle_part, job)
    for _ in range(TRIES):
        known, wanted = unsettled(job.ledger)
        if not wanted:
            return
        items = (
            (str(name), (name, {one: known[one] for one in near})) for name, near in wanted.items()
        )
        for i, _done in enumerate(cluster.each(work, items), start=1):
            progress(len(known), len(known), f"overlaps: {i} of {len(wanted)} fields")
    if unsettled(job.ledger)[1]:
        raise IntegrityError(
            f"{job.ledger.folder}: fields change while it is settled which rows are primary. Stop "
            "the workers of earlier runs, and run the same command again."
        )


def _report(
    ledger: Ledger, tasks: list[Task], refused: list[str], waiting: list[Task], seconds: float
) -> SurveyReport:
    by_class: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    fields = rows = objects = now = 0
    begun, asked, set_aside = {task.name for task in waiting}, {t.name for t in tasks}, [*refused]
    codes = {BadInputError.exit_code} if refused else set()
    for name, record in ledger.records():
        if record["status"] == DONE:
            fields, now = fields + 1, now + (name in begun)
            rows, objects = rows + record["rows"], objects + record["primary"]
            by_class.update(record["classes"])
            lacking.update([record["lacking"]] if record["lacking"] else [])
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
        lacking=dict(lacking),
        set_aside=set_aside,
        seconds=seconds,
        code=worst(codes),
    )
