"""Verbs that learn and measure: networks, train, calibrate, evaluate."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gqs.cli.shell import AsJson, Seed, SplitFile, Store, app, bar, say
from gqs.errors import UsageError

PANEL = "Learning"
A_MODEL = "Model folder, as `gqs train` writes it, or `package`: the one that comes with gqs."
ModelOut = Annotated[Path, typer.Option(help="Model folder to write; a rerun continues there.")]


@app.command(rich_help_panel=PANEL)
def networks(
    names: Annotated[
        list[str] | None, typer.Argument(help="Networks, timm:NAME too.  \\[default: all of ours]")
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="Of the input.  \\[default: 3, the paper's picture; compact 10]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the networks: input size in pixels, weights, multiply-adds a cutout, source.

    Examples:

      gqs networks

      gqs networks resnet50_gqs vit_b_16 --channels 10

      gqs networks timm:convnextv2_atto --json
    """
    from dataclasses import asdict

    from gqs.networks import zoo

    lines = [f"{'network':<28}{'input':>7}{'weights':>13}{'multiply-adds':>16}  source"]
    found = []
    for name in names or zoo.NETWORKS:
        try:
            facts = zoo.describe(name, channels)
        except UsageError as error:
            if names:
                raise
            lines.append(f"{name:<28}{error}")  # the list goes on without what is not installed
            continue
        found.append(asdict(facts))
        lines.append(
            f"{name:<28}{facts.channels:>3}x{facts.input_size:<3}{facts.parameters:>13,}"
            f"{facts.multiply_adds / 1e6:>14,.1f} M  {facts.source}"
        )
    say(lines, {"networks": found}, as_json)


@app.command(rich_help_panel=PANEL)
def train(
    store: Store,
    out: ModelOut,
    split: SplitFile = None,
    network: Annotated[
        str | None, typer.Option(help="Network of the zoo.  \\[default: the recipe's]")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Optimizer, rate, schedule, augmentation: demo, paper (Table 5), shipped, or a "
            ".toml file."
        ),
    ] = "demo",
    epochs: Annotated[int | None, typer.Option(min=1, help="\\[default: the recipe's]")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="\\[default: the recipe's]")] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        typer.Option(
            help="bf16: near twice as fast on most networks, for the same loss; auto: if it is had."
            "  \\[default: the recipe's]"
        ),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Largest norm of a gradient, so that one odd batch cannot undo many; 0 for none."
            "  \\[default: the recipe's]",
        ),
    ] = None,
    early_stop: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs without a better validation after which to end, to save time; 0 for never."
            "  \\[default: the recipe's]",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch; same threads, same weights.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps.  \\[default: a GPU where there is one]")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE: change one value of the recipe; may come often."),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(help="Folder for losses and accuracies by epoch, as TensorBoard reads them."),
    ] = None,
    seed: Seed = 1,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--fresh",
            help="Insist on a checkpoint to go on from, or start over.  \\[default: go on if there "
            "is one]",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network on a store's training side; the best epoch is chosen on validation.

    Examples:

      gqs train cutouts --out model

      gqs train cutouts --out gqs50 --network resnet50_gqs --recipe paper --device cuda

      gqs train cutouts --out gri --set bands=gri --set augment.shift=2

      torchrun --standalone --nproc-per-node 4 -m gqs.cli train cutouts --out model
    """
    from gqs import recipes
    from gqs.cutouts.split import load
    from gqs.cutouts.store import CutoutStore
    from gqs.executors import processes as workers
    from gqs.training import train as train_network
    from gqs.training.distributed import rank

    opened, divided = CutoutStore.open(store), load(split or store / "split.parquet")
    changes = dict(_assignment(text) for text in change or [])
    chosen = recipes.load(recipe, network, **changes)
    chosen = chosen.changed(
        epochs=epochs, batch=batch, precision=precision, clip=clip, early_stop=early_stop
    )
    first = rank() == 0  # of several processes one tells
    with bar("Training") if first else contextlib.nullcontext(workers.silent) as progress:
        result = train_network(
            opened,
            divided,
            out,
            chosen,
            threads=threads,
            device=device,
            seed=seed,
            resume=resume,
            tensorboard=tensorboard,
            progress=progress,
        )
    if not first:
        return
    found = result.metrics
    lines = [
        f"{chosen.network}, {len(result.history)} epochs; best on validation: epoch "
        f"{found['epoch']}, {100 * found['accuracy']:.1f} % of {found['objects']} right.",
        f"Model: {out} (history.csv and history.svg have every epoch)",
        f"Next: gqs evaluate {out} {store} --out report",
    ]
    say(lines, {"model": out, "sha256": result.model, "validation": found}, as_json)


def _folder(model: Path) -> Path:
    """Return a model's folder, that of the package's own for the word `package`."""
    from gqs.model.classifier import SHIPPED

    return SHIPPED if str(model) == "package" and not model.exists() else model


def _assignment(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE; a value that is no TOML is taken as text, so quotes need not be typed."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: write KEY=VALUE, as in --set rate=1e-3.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


@app.command(rich_help_panel=PANEL)
def calibrate(
    model: Annotated[Path, typer.Argument(help=A_MODEL)],
    store: Store,
    out: Annotated[Path, typer.Option(help="Model folder to write; the weights are the same.")],
    split: SplitFile = None,
    side: Annotated[
        Literal["validation", "test"], typer.Option(help="Side of the split to calibrate on.")
    ] = "validation",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps.  \\[default: a GPU where there is one]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a model's probabilities, sets and lists anew, on objects that it did not learn from.

    For objects as they will be in use: of another depth or seeing, or more of the faint ones.

    Examples:

      gqs calibrate package deeper-cutouts --out calibrated

      gqs calibrate model cutouts --split calibration.parquet --out calibrated --json
    """
    import numpy as np

    from gqs.cutouts.split import load
    from gqs.cutouts.store import CutoutStore
    from gqs.training.recalibrate import calibrate_model

    opened, divided = CutoutStore.open(store), load(split or store / "split.parquet")
    chosen = divided["objid"][np.asarray(divided["split"]).astype(str) == side]
    rows = np.flatnonzero(np.isin(opened.index["objid"], chosen))
    card = calibrate_model(_folder(model), opened, rows, out, device)
    found = card.calibration or {}
    loss = found["log_loss"]
    lines = [
        f"Calibrated on {found['objects']:,} objects of the {side} side of {store.name}: log loss "
        f"{loss['before']:.4f} before, {loss['after']:.4f} after.",
        f"Model: {out}",
        f"Next: gqs classify --model {out}, or gqs evaluate {out} on objects that it never saw",
    ]
    if left_out := len(rows) - card.training["calibrated_on"]["objects"]:
        lines.insert(1, f"Left out: {left_out} objects that the model learned from.")
    say(lines, {"model": out, "objects": found["objects"], "log_loss": loss}, as_json)


@app.command(rich_help_panel=PANEL)
def evaluate(
    model: Annotated[Path, typer.Argument(help=A_MODEL)],
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

      gqs evaluate package cutouts --out report
    """
    from gqs import tables
    from gqs.cutouts.split import load
    from gqs.cutouts.store import CutoutStore
    from gqs.model.classifier import load_classifier
    from gqs.report.appraise import appraise

    model, opened = _folder(model), CutoutStore.open(store)
    history = model / "history.csv"
    with bar("Evaluating") as progress:
        found = appraise(
            load_classifier(model),
            opened,
            load(split or store / "split.parquet"),
            out,
            side=side,
            trees=trees,
            seed=seed,
            history=tables.read(history) if history.is_file() else None,
            title=f"{model.name} on the {side} side of {store.name}",
            reproduce={"command": shlex.join(["gqs", *sys.argv[1:]])},
            progress=progress,
        )
    result = {"report": found.report, "metrics": found.metrics.to_json()}
    result["baseline"] = found.baseline.to_json() if found.baseline else None
    say(found.lines(), result, as_json)
