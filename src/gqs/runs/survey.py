"""Classification of a whole survey on a Dask cluster into a folder of Parquet files.

The client submits fields and waits; everything that lasts is on disk (`runs.run_store`), so that
workers, scheduler and client may be killed and running again does what is missing.
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
from gqs.executors import Executor, Progress, no_progress
from gqs.executors.dask_cluster import LOCAL, DaskExecutor
from gqs.files import hash_of, only_writer, sha256
from gqs.formatting import plural
from gqs.model.cache import ModelName
from gqs.model.classifier import Classifier
from gqs.model.reweight import default_prior
from gqs.probability.priors import choose_prior
from gqs.runs.field_task import TRIES, FieldTask, RunOptions, group_tasks
from gqs.runs.primary import settle_field, unsettled
from gqs.runs.run import run_tasks, unfinished
from gqs.runs.run_store import DONE, Record, RunStore


@dataclass(frozen=True)
class SurveyReport:
    """Content of a survey's folder after a run.

    Attributes
    ----------
    folder : Path
        The survey's folder.
    fields : int
        Number of fields done, in this run and before.
    now : int
        Number of them done in this run.
    rows, objects : int
        Number of rows, and of primary rows: one per object.
    by_class : dict
        Number of objects of each class; "" for those not classified.
    lacking : dict of str to int
        Number of fields that lack bands of the model, by bands, such as {"uz": 2}.
    set_aside : list of str
        A sentence for each file or field left out.
    seconds : float
        Wall time of this run.
    code : int
        Exit code of what was set aside; 0 if nothing was.
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
        """Fields done in this run per hour."""
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
    provenance: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    opened: Callable[[str], None] = lambda link: None,
) -> SurveyReport:
    """Classify many fields on a Dask cluster into a folder; an interrupted survey is continued.

    Parameters
    ----------
    classifier : Classifier
        The model; workers load it from its folder.
    paths : sequence of Path
        Frames, under paths that are valid for the workers too.
    out : Path
        The survey's folder, which the workers must see too.
    scheduler : str
        Address of a running cluster's scheduler; "local" starts a cluster on this machine.
    processes : int, optional
        Workers of a local cluster; by default one per core.
    prior : str, optional
        A prior, as `find_prior` reads it, or `training`; by default `sky`.
    coverage : float, optional
        Coverage of the column `set`, such as 0.95.
    links : str, optional
        Data release of the column `link`; by default there is none.
    provenance : mapping, optional
        Metadata of parts and manifest, such as date and command.
    progress : callable
        Called with fields done, fields in total, and a note.
    opened : callable
        Called with the link to the cluster's dashboard.

    Returns
    -------
    SurveyReport
        Content of the folder.

    Raises
    ------
    UsageError
        If dask's distributed is not installed, the folder contains rows of another model or other
        options, or the workers have more than one thread.
    NetworkError
        If the scheduler cannot be reached, or is lost.
    ResourceError
        If another client writes here, or writing fails.
    """
    begin = time.monotonic()
    tasks, refused = group_tasks([path.absolute() for path in paths])
    store = RunStore(out.absolute())
    prior = default_prior(classifier, positions=False) if prior is None else prior
    choose_prior(prior, prior)  # refused before a cluster is started
    identity = _identity(classifier, prior, coverage, links)
    if Path(prior).is_file():
        prior = str(Path(prior).absolute())  # workers have other working directories
    with only_writer(store.folder):
        store.check_identity(identity)
        store.tidy()
        waiting = unfinished(store, tasks)
        options = RunOptions(
            store,
            ModelName.of(classifier),
            uuid.uuid4().hex[:12],
            TRIES,
            survey=True,
            prior=prior,
            coverage=coverage,
            links=links,
            provenance=dict(provenance or {}),
        )
        if waiting or not (store.folder / "manifest.parquet").is_file():
            store.unsettle()
            with DaskExecutor.connected(scheduler, processes) as executor:
                store.claim(identity)
                opened(executor.link)
                run_tasks(executor, options, tasks, waiting, progress)
                _settle(executor, store, progress)
        store.settle(provenance)
        store.tidy()
    return _report(store, tasks, refused, waiting, time.monotonic() - begin)


def _identity(
    classifier: Classifier, prior: str, coverage: float | None, links: str | None
) -> Record:
    """What all rows of a survey have in common; another value is refused."""
    name = prior
    if Path(prior).is_file():
        name = f"{Path(prior).name} {sha256(Path(prior))}"
    return {
        "gqs": __version__,
        "model": classifier.hash,
        "engine": classifier.computes.name,
        "card": hash_of([dict(classifier.card), classifier.novelty is not None]),
        "prior": name,
        "coverage": coverage,
        "links": links,
    }


def _settle(executor: Executor, store: RunStore, progress: Progress) -> None:
    """Mark the primary rows of every field whose rows or neighbours have changed."""
    for _ in range(TRIES):
        fields, tasks = unsettled(store)
        if not tasks:
            return
        for i, _outcome in enumerate(executor.run(partial(settle_field, store), tasks), start=1):
            progress(fields, fields, f"overlaps: {i} of {plural(len(tasks), 'field')}")
    if unsettled(store)[1]:
        raise IntegrityError(
            f"{store.folder}: fields change while primary rows are settled. Stop the workers of "
            "earlier runs, and run the same command again."
        )


def _report(
    store: RunStore,
    tasks: list[FieldTask],
    refused: list[str],
    waiting: list[FieldTask],
    seconds: float,
) -> SurveyReport:
    by_class: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    fields = rows = objects = now = 0
    begun, asked, set_aside = {task.name for task in waiting}, {t.name for t in tasks}, [*refused]
    codes = {BadInputError.exit_code} if refused else set()
    for name, record in store.records():
        if record["status"] == DONE:
            fields, now = fields + 1, now + (name in begun)
            rows, objects = rows + record["rows"], objects + record["primary"]
            by_class.update(record["classes"])
            lacking.update([record["lacking"]] if record["lacking"] else [])
        elif name in asked:
            set_aside.append(record["reason"])
            codes.add(record.get("code", BadInputError.exit_code))
    return SurveyReport(
        folder=store.folder,
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
