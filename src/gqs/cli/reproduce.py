"""The verb that reproduces the paper's tables: reproduce."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gqs.cli.app import TRAINING, finish, print_result, verb
from gqs.cli.options import OUTPUT, AsJson, Device, Seed, option
from gqs.cli.progress import progress_bar
from gqs.cli.training import OF_RECIPE
from gqs.errors import UsageError

if TYPE_CHECKING:
    from gqs.reproduce import Reproduction


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Options of `gqs reproduce`."""

    store: Annotated[
        Path,
        typer.Argument(help="Cutout store; with --tables-only also a folder that --keep wrote."),
    ]
    out: Annotated[
        Path, option("Folder to write; run again to continue an interrupted run.", panel=OUTPUT)
    ]
    networks: Annotated[
        str, option("Networks and groups (table6, table7, table8, steps, all), comma-separated.")
    ] = "all"
    seeds: Annotated[str, option("Seeds to train each network with, such as 1,2.")] = "1"
    splits: Annotated[
        str, option("grouped, paper (random) or both; the tables show the first.")
    ] = "grouped"
    by: Annotated[
        Literal["field", "run"], option("Groups that stay together in the grouped split.")
    ] = "field"
    limit: Annotated[
        int | None,
        option("Use this many objects, a third of each class.  \\[default: all]", min=3),
    ] = None
    train_limit: Annotated[
        int | None,
        option(
            "Train with this many objects, a third of each class; validation and test stay whole."
            "  \\[default: all]",
            min=3,
        ),
    ] = None
    recipe: Annotated[str, option("Training recipe.")] = "paper"
    epochs: Annotated[int | None, option(f"Number of epochs.{OF_RECIPE}", min=1)] = None
    batch: Annotated[int | None, option(f"Batch size.{OF_RECIPE}", min=2)] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None, option(f"Precision of training.{OF_RECIPE}")
    ] = None
    device: Device = None
    threads: Annotated[
        int | None,
        option("Threads of each training; tables are reproducible for equal threads.", min=1),
    ] = None
    jobs: Annotated[int, option("Trainings at a time, spread over the GPUs.", min=1)] = 1
    seed: Seed = 1
    plan_only: Annotated[
        bool, option("Print what would run, and exit.", "--plan-only", "--dry-run")
    ] = False
    tables_only: Annotated[
        bool, option("Train nothing; write the tables of finished trainings.", "--tables-only")
    ] = False
    keep: Annotated[
        Path | None,
        option(
            "Copy what the tables need, without weights, into this folder; results of other "
            "machines that it holds stay.",
            panel=OUTPUT,
        ),
    ] = None
    as_json: AsJson = False


@verb(panel=TRAINING)
def reproduce(options: ReproduceOptions) -> None:
    """Train the paper's networks and write its tables and figures beside the published ones.

    Examples:

      gqs reproduce pictures --out paper --plan-only

      gqs reproduce pictures --out paper --seeds 1,2 --splits grouped,paper --device cuda --jobs 4

      gqs reproduce pictures --out quick --networks resnet18 --limit 600 --epochs 2

      gqs reproduce pictures --out paper --tables-only --keep results

      gqs reproduce results --out tables --tables-only
    """
    from gqs.cutouts.store import CutoutStore
    from gqs.reproduce import Options, kept, run

    splits = _words("--splits", options.splits)
    if options.plan_only and (options.tables_only or options.keep):
        raise UsageError("--plan-only excludes --tables-only and --keep.")
    if options.tables_only:
        objects = kept.open_objects(options.store)
        made = run.tabulate(objects, options.out, splits, options.seed, progress_bar)
        if options.keep is not None:
            if not isinstance(objects, CutoutStore):
                raise UsageError(f"{options.store}: is kept already. Name a store with --keep.")
            kept.keep(objects, options.out, options.keep)
        _print_tables(made, options.as_json)
        return
    store = CutoutStore.open(options.store)
    settings = Options(
        networks=_words("--networks", options.networks),
        seeds=_whole_numbers("--seeds", options.seeds),
        splits=splits,
        by=options.by,
        limit=options.limit,
        train_limit=options.train_limit,
        recipe=options.recipe,
        epochs=options.epochs,
        batch=options.batch,
        precision=options.precision,
        device=options.device,
        threads=options.threads,
        jobs=options.jobs,
        seed=options.seed,
    )
    with progress_bar("Planning") as progress:
        split, plan = run.prepare(store, options.out, settings, progress)
    if options.plan_only:
        print_result(plan.lines(), plan.to_json(), options.as_json)
        return
    if not options.as_json:
        print_result(plan.lines(), {}, as_json=False)
    made = run.reproduce(store, options.out, settings, split, plan, progress_bar)
    if options.keep is not None:
        kept.keep(store, options.out, options.keep)
    _print_tables(made, options.as_json)


def _print_tables(made: Reproduction, as_json: bool) -> None:
    from gqs.reproduce.document import headline

    folder = made.page.parent
    lines = [
        headline(made.results),
        f"Page: {made.page}; tables: {folder}/tables.md, {folder}/tables.tex; numbers: "
        f"{folder}/results.json",
    ]
    print_result(lines, {"page": made.page, **made.results.to_json()}, as_json)
    finish([item.sentence for item in made.set_aside], made.code)


def _words(name: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"{name} is empty. Separate values by commas.")
    return words


def _whole_numbers(name: str, text: str) -> list[int]:
    words = _words(name, text)
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"{name} {text}: write whole numbers from 0, separated by commas.")
    return list(dict.fromkeys(int(word) for word in words))
