"""From a store to the paper's tables: plan, train what is not trained, judge, write. Paper 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from astropy.table import Table

from gqs import recipes
from gqs.cutouts.store import CutoutStore
from gqs.errors import UsageError, worst
from gqs.executors import Progress, cpu_count, no_progress
from gqs.files import only_writer
from gqs.recipes import Recipe
from gqs.reproduce import hypotheses as claims
from gqs.reproduce.crew import Crew, SetAside
from gqs.reproduce.document import write_documents
from gqs.reproduce.gather import gather
from gqs.reproduce.plan import Plan
from gqs.reproduce.planning import make_plan
from gqs.reproduce.results import Results
from gqs.reproduce.splits import FOLDER, open_split, require_scheme, saved_splits
from gqs.training import machine

Bar = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Options:
    """What is to be made again, and how.

    Attributes
    ----------
    networks : sequence of str
        Names of the zoo and groups (`claims.GROUPS`).
    seeds : sequence of int
        Each network is trained with each.
    splits : sequence of str
        "grouped", "paper"; the first one's numbers stand in the tables.
    by : str
        What the grouped split keeps whole: "field" or "run".
    limit : int, optional
        Objects, a third of each class, drawn before the split.
    recipe : str
        How networks are trained.
    epochs, batch, precision
        In place of the recipe's.
    device, threads
        As for `gqs.training.train`.
    jobs : int
        Trainings side by side.
    seed : int
        Of splits, bootstraps and trees.
    """

    networks: Sequence[str] = ("all",)
    seeds: Sequence[int] = (1,)
    splits: Sequence[str] = ("grouped",)
    by: str = "field"
    limit: int | None = None
    recipe: str = "paper"
    epochs: int | None = None
    batch: int | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    jobs: int = 1
    seed: int = 1

    def recipes(self) -> dict[str, Recipe]:
        """Return the recipe of each network, as `gqs train` would have it."""
        return {
            name: recipes.load(self.recipe, name).changed(
                epochs=self.epochs, batch=self.batch, precision=self.precision
            )
            for name in claims.networks(self.networks)
        }


@dataclass(frozen=True)
class Reproduction:
    """What a run left.

    Attributes
    ----------
    results : Results
        The numbers.
    page : Path
        Where they are shown.
    set_aside : sequence of str
        Trainings that failed, and why.
    """

    results: Results
    page: Path
    set_aside: Sequence[SetAside]

    @property
    def code(self) -> int:
        """What a command returns: 0, 3 where trainings failed, 7 where data contradict."""
        return worst({one.code for one in self.set_aside})


def prepare(
    store: CutoutStore,
    out: Path,
    options: Options,
    progress: Progress = no_progress,
) -> tuple[dict[str, Table], Plan]:
    """Make the splits, and plan what is to be trained."""
    _require_alone()
    wanted = options.recipes()
    machine.device_of(options.device)
    splits = {
        name: open_split(store, out, name, options.by, options.seed, options.limit)
        for name in dict.fromkeys(options.splits)
    }
    plan = make_plan(
        store,
        out,
        splits,
        wanted,
        options.seeds,
        options.jobs,
        options.device,
        _threads(options),
        progress,
    )
    return splits, plan


def reproduce(
    store: CutoutStore,
    out: Path,
    options: Options,
    splits: Mapping[str, Table],
    plan: Plan,
    bar: Bar,
) -> Reproduction:
    """Train what is not trained, judge everything, and write tables and figures.

    Parameters
    ----------
    store : CutoutStore
        The data.
    out : Path
        Folder of everything; the same call goes on where an earlier one was stopped.
    options : Options
        What is wanted.
    splits, plan
        As `prepare` gave them.
    bar : callable
        Gives a context with a progress callable for a step.

    Returns
    -------
    Reproduction
        Numbers, and where they are shown.

    Raises
    ------
    ResourceError
        If another process works in this folder, or the disk is too small.
    """
    plan.require_room()
    with only_writer(out):
        crew = Crew(store.path, out / FOLDER, options.jobs, _devices(options), _threads(options))
        with bar("Training") as progress:
            failed = crew.run(plan.jobs, progress)
        return render(store, out, splits, failed, options.seed, bar)


def tabulate(
    store: CutoutStore, out: Path, order: Sequence[str], seed: int, bar: Bar
) -> Reproduction:
    """Write tables and figures from what is finished; nothing is trained."""
    _require_alone()
    for name in order:
        require_scheme(name)
    saved = saved_splits(store, out)
    if not saved:
        raise UsageError(f"{out}: holds no splits of {store.path}; train first, or name another.")
    for name, split in saved.items():
        if split.meta["seed"] != seed:
            begun = split.meta["seed"]
            raise UsageError(f"{out}: its {name} split has seed {begun}; ask for --seed {begun}.")
    return render(store, out, {name: saved[name] for name in order if name in saved}, [], seed, bar)


def _require_alone() -> None:
    if machine.process_count() > 1:
        raise UsageError(
            "`gqs reproduce` starts its trainings itself: run it without torchrun, and with --jobs "
            "where several may run. torchrun is for one network by `gqs train`."
        )


def render(
    store: CutoutStore,
    out: Path,
    splits: Mapping[str, Table],
    missing: Sequence[SetAside],
    seed: int,
    bar: Bar,
) -> Reproduction:
    """Write tables and figures from the trainings that are finished."""
    every = dict(splits) | {
        name: split for name, split in saved_splits(store, out).items() if name not in splits
    }
    with bar("Measuring") as progress:
        said = [one.sentence for one in missing]
        results = gather(store, out, every, said, seed, progress)
        page = write_documents(results, out)
    return Reproduction(results, page, missing)


def _threads(options: Options) -> int | None:
    """Share the cores among trainings side by side; a single one finds its own number."""
    if options.threads or options.jobs == 1:
        return options.threads
    return max(1, cpu_count() // options.jobs)


def _devices(options: Options) -> list[str | None]:
    """One device for all, or the GPUs in turn where several trainings run side by side."""
    count = torch.cuda.device_count() if options.device in (None, "cuda") else 0
    if count > 1 and options.jobs > 1:
        return [f"cuda:{i}" for i in range(count)]
    return [options.device]
