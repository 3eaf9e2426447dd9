"""Verbs that train and measure models: networks, train, calibrate, evaluate."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gqs.cli.app import TRAINING, print_result, verb
from gqs.cli.options import OUTPUT, AsJson, Device, Seed, SplitFile, Store, option
from gqs.cli.progress import progress_bar
from gqs.errors import UsageError
from gqs.formatting import percent

MODEL_FOLDER = "Model folder that `gqs train` wrote, or `package` for the model in the package."
OF_RECIPE = "  \\[default: the recipe's]"


@dataclass(frozen=True, kw_only=True)
class NetworksOptions:
    """Options of `gqs networks`."""

    names: Annotated[
        list[str] | None,
        typer.Argument(help="Networks, including timm:NAME.  \\[default: all but timm's]"),
    ] = None
    channels: Annotated[
        int | None,
        option("Input channels.  \\[default: 3, the paper's picture; compact: 10]", min=1),
    ] = None
    as_json: AsJson = False


@verb(panel=TRAINING)
def networks(options: NetworksOptions) -> None:
    """List networks: input size in pixels, weights, multiply-adds per cutout, source.

    Examples:

      gqs networks

      gqs networks resnet50_gqs vit_b_16 --channels 10

      gqs networks timm:convnextv2_atto --json
    """
    from gqs.networks import zoo

    lines = [f"{'network':<28}{'input':>7}{'weights':>13}{'multiply-adds':>16}  source"]
    described = []
    for name in options.names or zoo.NETWORKS:
        try:
            facts = zoo.describe(name, options.channels)
        except UsageError as error:
            if options.names:
                raise
            lines.append(f"{name:<28}{error}")  # not installed: the list goes on
            continue
        described.append(asdict(facts))
        lines.append(
            f"{name:<28}{facts.channels:>3}x{facts.input_size:<3}{facts.parameters:>13,}"
            f"{facts.multiply_adds / 1e6:>14,.1f} M  {facts.source}"
        )
    print_result(lines, {"networks": described}, options.as_json)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `gqs train`."""

    store: Store
    out: Annotated[
        Path, option("Model folder; run again to continue an interrupted run.", panel=OUTPUT)
    ]
    split: SplitFile = None
    network: Annotated[str | None, option(f"Name of the network.{OF_RECIPE}")] = None
    recipe: Annotated[
        str,
        option(
            "Optimizer, learning rate, schedule and augmentation: demo, paper (Table 5), shipped, "
            "or a .toml file."
        ),
    ] = "demo"
    epochs: Annotated[int | None, option(f"Number of epochs.{OF_RECIPE}", min=1)] = None
    batch: Annotated[int | None, option(f"Batch size.{OF_RECIPE}", min=1)] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        option(
            "bf16 is nearly twice as fast for most networks at the same loss; auto: bf16 where the "
            f"processor has it.{OF_RECIPE}"
        ),
    ] = None
    clip: Annotated[
        float | None,
        option(
            "Largest norm of the gradient, so that one unusual batch cannot undo many; 0: no "
            f"clipping.{OF_RECIPE}",
            min=0,
        ),
    ] = None
    early_stop: Annotated[
        int | None,
        option(
            f"To save time, stop after this many epochs without improvement; 0: never.{OF_RECIPE}",
            min=0,
        ),
    ] = None
    threads: Annotated[
        int | None, option("Threads of torch; weights are reproducible for equal threads.", min=1)
    ] = None
    device: Device = None
    change: Annotated[
        list[str] | None,
        option("KEY=VALUE: change one value of the recipe; repeatable.", "--set"),
    ] = None
    tensorboard: Annotated[
        Path | None, option("Folder for TensorBoard's event files.", panel=OUTPUT)
    ] = None
    seed: Seed = 1
    resume: Annotated[
        bool | None,
        option(
            "Require a checkpoint to continue from, or start again.  \\[default: continue if there "
            "is one]",
            "--resume/--fresh",
        ),
    ] = None
    as_json: AsJson = False


@verb(panel=TRAINING)
def train(options: TrainOptions) -> None:
    """Train a network on the training side of a store; the best validation epoch is kept.

    Examples:

      gqs train cutouts --out model

      gqs train cutouts --out gqs50 --network resnet50_gqs --recipe paper --device cuda

      gqs train cutouts --out gri --set bands=gri --set augment.shift=2

      torchrun --standalone --nproc-per-node 4 -m gqs.cli train cutouts --out model
    """
    from gqs import recipes
    from gqs.cutouts.split import load
    from gqs.cutouts.store import CutoutStore
    from gqs.executors import no_progress
    from gqs.training import train as train_network
    from gqs.training.machine import process_rank

    store = CutoutStore.open(options.store)
    split = load(options.split or options.store / "split.parquet")
    changes = dict(_key_and_value(text) for text in options.change or [])
    recipe = recipes.load(options.recipe, options.network, **changes).changed(
        epochs=options.epochs,
        batch=options.batch,
        precision=options.precision,
        clip=options.clip,
        early_stop=options.early_stop,
    )
    prints = process_rank() == 0  # only one of several processes
    with progress_bar("Training") if prints else contextlib.nullcontext(no_progress) as progress:
        result = train_network(
            store,
            split,
            options.out,
            recipe,
            threads=options.threads,
            device=options.device,
            seed=options.seed,
            resume=options.resume,
            tensorboard=options.tensorboard,
            progress=progress,
        )
    if not prints:
        return
    best = result.metrics
    lines = [
        f"{recipe.network}, {len(result.history)} epochs; best on validation: epoch "
        f"{best['epoch']}, accuracy {percent(best['accuracy'])} of {best['objects']} objects.",
        f"Model: {options.out} (history.csv and history.svg list every epoch)",
        f"Next: gqs evaluate {options.out} {options.store} --out report",
    ]
    values = {"model": options.out, "sha256": result.model, "validation": best}
    print_result(lines, values, options.as_json)


def model_folder(name: Path) -> Path:
    """Return the folder of a model; `package` names the model in the package."""
    from gqs.model.classifier import SHIPPED

    return SHIPPED if str(name) == "package" and not name.exists() else name


def _key_and_value(text: str) -> tuple[str, Any]:
    """Parse KEY=VALUE; a value that is not TOML is a string, so that quotes can be left out."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: write KEY=VALUE, such as --set rate=1e-3.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Options of `gqs calibrate`."""

    model: Annotated[Path, typer.Argument(help=MODEL_FOLDER)]
    store: Store
    out: Annotated[Path, option("Model folder to write, with the same weights.", panel=OUTPUT)]
    split: SplitFile = None
    side: Annotated[Literal["validation", "test"], option("Side of the split to calibrate on.")] = (
        "validation"
    )
    device: Device = None
    as_json: AsJson = False


@verb(panel=TRAINING)
def calibrate(options: CalibrateOptions) -> None:
    """Recalibrate a model's probabilities on objects that it was not trained on.

    Use it when the objects to classify differ from the training set in depth, seeing or magnitude.

    Examples:

      gqs calibrate package deeper-cutouts --out calibrated

      gqs calibrate model cutouts --split calibration.parquet --out calibrated --json
    """
    import numpy as np

    from gqs.cutouts.split import load
    from gqs.cutouts.store import CutoutStore
    from gqs.training.recalibrate import calibrate_model

    store = CutoutStore.open(options.store)
    split = load(options.split or options.store / "split.parquet")
    chosen = split["objid"][np.asarray(split["split"]).astype(str) == options.side]
    rows = np.flatnonzero(np.isin(store.index["objid"], chosen))
    folder = model_folder(options.model)
    card = calibrate_model(folder, store, rows, options.out, options.device)
    calibration = card.calibration or {}
    loss = calibration["log_loss"]
    lines = [
        f"Calibrated on {calibration['objects']:,} objects of the {options.side} side of "
        f"{options.store.name}: log loss {loss['before']:.4f} before, {loss['after']:.4f} after.",
        f"Model: {options.out}",
        f"Next: gqs classify --model {options.out}, or gqs evaluate {options.out} on other objects",
    ]
    if left_out := len(rows) - card.training["calibrated_on"]["objects"]:
        lines.insert(1, f"Left out: {left_out} objects that the model was trained on.")
    values = {"model": options.out, "objects": calibration["objects"], "log_loss": loss}
    print_result(lines, values, options.as_json)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `gqs evaluate`."""

    model: Annotated[Path, typer.Argument(help=MODEL_FOLDER)]
    store: Store
    out: Annotated[Path, option("Folder of the report.", panel=OUTPUT)]
    split: SplitFile = None
    side: Annotated[
        Literal["test", "validation", "train"], option("Side of the split to evaluate.")
    ] = "test"
    trees: Annotated[
        bool, option("Compare with gradient-boosted trees trained on the same split.")
    ] = True
    seed: Seed = 1
    as_json: AsJson = False


@verb(panel=TRAINING)
def evaluate(options: EvaluateOptions) -> None:
    """Evaluate a model on unseen objects; writes a report with figures, and numbers as JSON.

    Examples:

      gqs evaluate model cutouts --out report

      gqs evaluate model cutouts --out report --no-trees --json

      gqs evaluate package cutouts --out report
    """
    from gqs import tables
    from gqs.cutouts.split import load
    from gqs.cutouts.store import CutoutStore
    from gqs.model.classifier import load_classifier
    from gqs.report.appraise import AppraiseOptions, appraise

    folder, store = model_folder(options.model), CutoutStore.open(options.store)
    history = folder / "history.csv"
    with progress_bar("Evaluating") as progress:
        evaluation = appraise(
            load_classifier(folder),
            store,
            load(options.split or options.store / "split.parquet"),
            options.out,
            AppraiseOptions(
                side=options.side,
                trees=options.trees,
                seed=options.seed,
                history=tables.read(history) if history.is_file() else None,
                title=f"Model {folder.name} on {options.store.name}: {options.side} set",
                reproduce={"command": shlex.join(["gqs", *sys.argv[1:]])},
            ),
            progress,
        )
    values = {"report": evaluation.report, "metrics": evaluation.metrics.to_json()}
    values["baseline"] = evaluation.baseline.to_json() if evaluation.baseline else None
    print_result(evaluation.lines(), values, options.as_json)
