"""Verbs that learn and measure: train, evaluate."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from gqs.cli.shell import AsJson, Seed, SplitFile, Store, app, bar, finish, say

PANEL = "Learning"
ModelOut = Annotated[Path, typer.Option(help="Model folder to write; a rerun continues there.")]


@app.command(rich_help_panel=PANEL)
def train(
    store: Store,
    out: ModelOut,
    split: SplitFile = None,
    network: Annotated[
        str | None, typer.Option(help="Network of the zoo.  [default: the recipe's]")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Recipe: optimizer, rate, schedule, augmentation.")
    ] = "demo",
    epochs: Annotated[int | None, typer.Option(min=1, help="[default: the recipe's]")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="[default: the recipe's]")] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        typer.Option(help="bf16 is faster where the processor has it.  [default: the recipe's]"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch; same threads, same weights.")
    ] = None,
    device: Annotated[str, typer.Option(help="As torch names it: cpu, cuda, mps.")] = "cpu",
    seed: Seed = 1,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Continue from the last checkpoint, or begin.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Train a network on a store's training side; the best epoch is chosen on validation.

    Examples:

      gqs train cutouts --out model

      gqs train cutouts --out gqs50 --network resnet50_gqs --recipe paper --device cuda
    """
    raise NotImplementedError


@app.command(rich_help_panel=PANEL)
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder, as `gqs train` writes it.")],
    store: Store,
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    split: SplitFile = None,
    side: Annotated[
        Literal["test", "validation", "train"], typer.Option(help="Side of the split to judge.")
    ] = "test",
    trees: Annotated[
        bool, typer.Option(help="Train boosted trees on the same split as a yardstick.")
    ] = True,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Measure a model on objects it never saw; a report with figures, and the numbers as JSON.

    Examples:

      gqs evaluate model cutouts --out report

      gqs evaluate model cutouts --out report --no-trees --json
    """
    from gqs.appraisal import appraise
    from gqs.classify.classifier import load_classifier
    from gqs.dataset.split import load
    from gqs.dataset.store import CutoutStore

    opened = CutoutStore.open(store)
    with bar("Evaluating") as progress:
        found = appraise(
            load_classifier(model),
            opened,
            load(split or store / "split.parquet"),
            out,
            side=side,
            trees=trees,
            seed=seed,
            title=f"{model.name} on the {side} side of {store.name}",
            reproduce={"command": shlex.join(["gqs", *sys.argv[1:]])},
            progress=progress,
        )
    result = {"report": found.report, "metrics": found.metrics.to_json()}
    result["baseline"] = found.baseline.to_json() if found.baseline else None
    say(found.lines(), result, as_json)
    finish([])
