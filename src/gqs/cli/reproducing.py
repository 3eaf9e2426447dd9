"""The verb that makes the paper again: reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gqs.cli.shell import AsJson, Seed, Store, app, bar, finish, say
from gqs.errors import UsageError

if TYPE_CHECKING:
    from gqs.reproduce import Reproduction

PANEL = "Learning"


@app.command(rich_help_panel=PANEL)
def reproduce(
    store: Store,
    out: Annotated[Path, typer.Option(help="Folder of everything; a rerun continues there.")],
    networks: Annotated[
        str,
        typer.Option(help="Names and groups, with commas: table6 table7 table8 steps all."),
    ] = "all",
    seeds: Annotated[str, typer.Option(help="Each network is trained with each, as in 1,2.")] = "1",
    splits: Annotated[
        str,
        typer.Option(help="grouped, paper (random), or both; the first stands in the tables."),
    ] = "grouped",
    by: Annotated[
        Literal["field", "run"], typer.Option(help="What the grouped split keeps whole.")
    ] = "field",
    limit: Annotated[
        int | None,
        typer.Option(min=3, help="Use so many objects, a third of each class.  \\[default: all]"),
    ] = None,
    recipe: Annotated[str, typer.Option(help="How networks are trained.")] = "paper",
    epochs: Annotated[int | None, typer.Option(min=1, help="\\[default: the recipe's]")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="\\[default: the recipe's]")] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None, typer.Option(help="\\[default: the recipe's]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps.  \\[default: a GPU where there is one]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each training; same threads, same tables.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trainings side by side, spread over the GPUs.")
    ] = 1,
    seed: Seed = 1,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", "--dry-run", help="Print what would run, and stop.")
    ] = False,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Train nothing; tables of what is finished.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train the paper's networks and make its tables and figures, ours beside the published.

    Examples:

      gqs reproduce pictures --out paper --plan-only

      gqs reproduce pictures --out paper --seeds 1,2 --splits grouped,paper --device cuda --jobs 4

      gqs reproduce pictures --out quick --networks resnet18 --limit 600 --epochs 2

      gqs reproduce pictures --out paper --tables-only
    """
    from gqs.cutouts.store import CutoutStore
    from gqs.reproduce import run

    opened = CutoutStore.open(store)
    if tables_only:
        if plan_only:
            raise UsageError("--plan-only and --tables-only: leave one of them out.")
        made = run.tabulate(opened, out, _words(splits), seed, bar)
        _say_made(made, as_json)
        return
    options = run.Options(
        networks=_words(networks),
        seeds=_numbers(seeds),
        splits=_words(splits),
        by=by,
        limit=limit,
        recipe=recipe,
        epochs=epochs,
        batch=batch,
        precision=precision,
        device=device,
        threads=threads,
        jobs=jobs,
        seed=seed,
    )
    with bar("Planning") as progress:
        divided, plan = run.prepare(opened, out, options, progress)
    if plan_only:
        say(plan.lines(), plan.to_json(), as_json)
        return
    if not as_json:
        say(plan.lines(), {}, as_json)
    made = run.reproduce(opened, out, options, divided, plan, bar)
    _say_made(made, as_json)


def _say_made(made: Reproduction, as_json: bool) -> None:
    from gqs.reproduce.document import headline

    folder = made.page.parent
    lines = [
        headline(made.results),
        f"Page: {made.page}; tables: {folder}/tables.md, {folder}/tables.tex; numbers: "
        f"{folder}/results.json",
    ]
    say(lines, {"page": made.page, **made.results.to_json()}, as_json)
    finish([one.sentence for one in made.set_aside], made.code)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError("An option that lists names or numbers is empty. Write them with commas.")
    return words


def _numbers(text: str) -> list[int]:
    words = _words(text)
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"--seeds {text}: write whole numbers from 0 with commas, as in 1,2.")
    return list(dict.fromkeys(int(word) for word in words))
