"""The training loop, in plain torch; a resumed training continues bit for bit. Paper 4.3."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from astropy.table import Table
from torch import Tensor, nn

from gqs import labels, recipes
from gqs.cutouts.split import check_split
from gqs.errors import ModelError, UsageError
from gqs.executors import Progress, no_progress
from gqs.formatting import percent
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.training import checkpoints, machine
from gqs.training.batches import Cutouts, TrainingData, seed_of, step_count
from gqs.training.optimizer import (
    class_weights,
    learning_rate,
    make_optimizer,
    smooth_targets,
    update_average,
)
from gqs.training.result import (
    TrainingResult,
    WriteScalars,
    finished_result,
    remove_result,
    tensorboard_writer,
    write_result,
)

FITTED_ON: Final = 4096  # training cutouts from which a network's fixed constants are measured
PROGRESS_EVERY_S: Final = 0.5


def train(
    store: Cutouts,
    split: Table,
    out: Path | str,
    recipe: Recipe | str = "demo",
    *,
    network: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    precision: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    seed: int = 0,
    resume: bool | None = None,
    tensorboard: Path | None = None,
    progress: Progress = no_progress,
) -> TrainingResult:
    """Train a network and write its model folder.

    The epoch with the best score on the validation side is kept. A checkpoint is written after
    every epoch and on SIGTERM or Ctrl-C. The same call then continues from it; on the same machine
    and with the same number of threads, the final weights are the same bit for bit. Under torchrun
    every process makes this call and they train together (`gqs.training.machine`).

    Parameters
    ----------
    store : CutoutStore
        Images and classes.
    split : Table
        Columns objid and split; checked against the store.
    out : Path
        Model folder to write.
    recipe : Recipe or str
        Recipe, or the name of one in the package.
    network, epochs, batch, precision
        Override the recipe.
    threads : int, optional
        Threads of one operation. By default those of the checkpoint; in a new training all cores
        or one, whichever is faster. model.json records the number.
    device : str, optional
        Name of a torch device. By default a GPU if there is one.
    seed : int
        Seed of weights, order, augmentation and dropout.
    resume : bool, optional
        True: continue from a checkpoint, which must exist. False: start again. By default,
        continue if the folder holds the same training, and refuse if it holds another.
    tensorboard : Path, optional
        Folder in which the history is also written for TensorBoard.
    progress : callable
        Called with the steps done, all steps, and a text with loss and accuracy.

    Returns
    -------
    TrainingResult
        Also if the folder held the finished model already.

    Raises
    ------
    IntegrityError
        If objects are on two sides of the split, or every checkpoint is damaged.
    UsageError
        If options are invalid, or the folder holds another training.
    ModelError
        If the loss is no longer finite; the last good checkpoint stays.
    ResourceError
        If memory or disk space run out.
    Stopped
        If a signal stopped the training; a checkpoint was written.
    """
    if isinstance(recipe, str):
        recipe = recipes.load(recipe, network)
    elif network is not None and network != recipe.network:
        recipe = recipe.changed(network=network, arguments={})
    recipe = recipe.changed(epochs=epochs, batch=batch, precision=precision)
    check_split(split, store.index)
    data = TrainingData.for_recipe(store, split, recipe)
    group = machine.join_processes(device)
    group.require_share(min(recipe.batch, len(data.train)))
    recipe = recipe.changed(precision=machine.precision_of(recipe.precision, group.device))
    identity = training_identity(data.store.hash, data.split_hash, recipe, seed)
    if group.size > 1:
        identity["processes"] = group.size
    folder = Path(out)
    tensorboard = tensorboard if group.is_first else None
    with (
        group.lock(folder),
        machine.reproducible(threads, group.device),
        machine.enough_memory(recipe.batch),
    ):
        if resume is False and group.is_first:
            remove_result(folder)
        group.wait()
        result = finished_result(folder, identity)
        if result is not None:
            with tensorboard_writer(tensorboard, identity) as write_scalars:
                write_scalars(result.history)
            return result
        run = TrainingRun(data, recipe, folder, group, identity, progress)
        run.resume(required=bool(resume))
        run.choose_threads(threads)
        group.wait()  # all processes have read the checkpoint before one writes
        with (
            tensorboard_writer(tensorboard, identity) as run.write_scalars,
            checkpoints.StopSignals(every_signal=group.size > 1) as signals,
        ):
            run.train(signals)
        if group.is_first:
            run.write_result()
        group.wait()
        result = finished_result(folder, identity)
        assert result is not None  # it has just been written
        return result


def training_identity(store_hash: str, split: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Everything that decides the weights, as checkpoints and model.json record it."""
    return {
        "data": store_hash,
        "split": split,
        "classes": list(labels.CLASSES),
        "seed": seed,
        "recipe": recipe.identity(),
    }


class TrainingRun:
    """State of one training, which a checkpoint saves, and the loop."""

    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        folder: Path,
        group: machine.ProcessGroup,
        identity: dict[str, Any],
        progress: Progress,
    ) -> None:
        self.data, self.recipe, self.folder = data, recipe, folder
        self.group, self.device = group, group.device
        self.identity, self.seed = identity, identity["seed"]
        self.progress = progress if group.is_first else no_progress
        self.write_scalars: WriteScalars = lambda history: None
        self.checkpoints = folder / checkpoints.FOLDER
        self.batch = min(recipe.batch, len(data.train))
        self.steps = step_count(len(data.train), recipe.batch)  # an epoch

        torch.manual_seed(seed_of(self.seed, "weights"))
        network = zoo.build(recipe.network, data.preprocessing.channels, **recipe.arguments)
        if (fit := getattr(network, "fit", None)) is not None:
            order = np.random.default_rng([self.seed, FITTED_ON]).permutation(data.train)
            fit(data.images(order[:FITTED_ON]))
        network = group.synchronise_norms(network)
        self.network = zoo.channels_last(network).to(self.device)
        self.averaged = copy.deepcopy(self.network) if recipe.average else None
        self.parallel = group.average_gradients(self.network)
        self.optimizer = make_optimizer(self.network, recipe)
        weights = class_weights(data, recipe, self.device)
        self.loss = nn.CrossEntropyLoss(weights, reduction="none")

        self.epoch, self.step = 0, 0  # the next ones
        # Of this epoch: sum of the losses, number of correct predictions.
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self.threads = 0  # not chosen yet
        self._reported = 0.0

    def train(self, signals: checkpoints.StopSignals) -> None:
        """Train, validate and keep the best epoch, until the last epoch or an early stop."""
        while self.epoch < self.recipe.epochs and not self._early_stop():
            begin, waited = time.monotonic(), 0.0
            self.network.train()
            batches = self.data.training_batches(
                self.recipe, self.seed, self.epoch, self.step, self.group
            )
            asked = time.monotonic()
            for x, y in batches:
                waited += time.monotonic() - asked
                self._train_step(x, y)
                self.step += 1
                due = time.monotonic() - self._reported >= PROGRESS_EVERY_S
                self._check_signals(signals, report=due)
                asked = time.monotonic()
            validation = self._validate(signals)
            self._end_epoch(validation, time.monotonic() - begin, waited)
            self.epoch, self.step = self.epoch + 1, 0
            self.sums.zero_()
            self._save()
            self._check_signals(signals, saved=True)

    def _train_step(self, x: Tensor, y: Tensor) -> None:
        """One step: forward, loss, backward, and the optimizer's step."""
        rank = (self.group.rank,) if self.group.rank else ()  # dropout differs between processes
        torch.manual_seed(seed_of(self.seed, self.epoch, self.step, "dropout", *rank))
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self.rate
        with machine.autocast(self.device, self.recipe.precision):
            logits = self.parallel(x)
        losses = self.loss(logits.float(), smooth_targets(y, self.recipe.label_smoothing))
        self.optimizer.zero_grad()
        # The factor makes the mean over all processes the mean over the batch; it is 1 for one.
        (losses.mean() * (len(x) * self.group.size / self.batch)).backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        if self.averaged is not None:
            step = self.epoch * self.steps + self.step
            update_average(self.averaged, self.network, self.recipe.average, step)
        correct = (logits.argmax(dim=1) == y).sum()
        sums = torch.stack([losses.detach().sum().double(), correct.double()])
        self.sums += self.group.sum(sums)

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return learning_rate(self.recipe, self.steps, self.epoch * self.steps + self.step)

    @torch.no_grad()
    def _validate(self, signals: checkpoints.StopSignals) -> dict[str, Any]:
        """Scores, on the validation side, of the weights that would be kept."""
        network, n = self.averaged or self.network, len(labels.CLASSES)
        network.eval()
        self.group.broadcast_buffers(network)
        confusion = torch.zeros(n, n, dtype=torch.int64, device=self.device)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for x, y in self.data.validation_batches(self.recipe.batch, self.group):
            if len(x):  # the last batch may have fewer objects than processes
                with machine.autocast(self.device, self.recipe.precision):
                    logits = network(x).float()
                loss += nn.functional.cross_entropy(logits.double(), y, reduction="sum")
                confusion.view(-1).index_add_(0, y * n + logits.argmax(1), torch.ones_like(y))
            self._check_signals(signals)
        confusion, loss = self.group.sum(confusion).cpu(), self.group.sum(loss)
        objects, correct = int(confusion.sum()), confusion.diagonal()
        recall = (correct / confusion.sum(1)).tolist()
        return {
            "epoch": self.epoch + 1,
            "objects": objects,
            "loss": loss.item() / objects,
            "accuracy": int(correct.sum()) / objects,
            "recall": {
                name: value if math.isfinite(value) else None
                for name, value in zip(labels.CLASSES, recall, strict=True)
            },
            "confusion": confusion.tolist(),
        }

    def _end_epoch(self, validation: dict[str, Any], seconds: float, waited: float) -> None:
        """Add the epoch to the history; keep its weights if they are the best so far."""
        loss, accuracy = self._training_means()
        if not math.isfinite(loss) or not math.isfinite(validation["loss"]):
            raise self._not_finite()
        row = {
            "epoch": self.epoch + 1,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "validation_loss": validation["loss"],
            "validation_accuracy": validation["accuracy"],
            "rate": self.rate,
            "seconds": round(seconds, 3),
            "waiting": round(waited / seconds, 4),
        }
        self.history.append(row)
        by_accuracy = self.recipe.choose_by == "accuracy"
        score = validation["accuracy"] if by_accuracy else -validation["loss"]
        if self.best is None or score > self.best["score"]:
            self.best = {"score": score, "metrics": validation}
            if self.group.is_first:
                weights = (self.averaged or self.network).state_dict()
                self.best |= checkpoints.save_best(self.checkpoints, self.epoch + 1, weights)
        self._report()

    def _training_means(self) -> tuple[float, float]:
        """Mean loss and accuracy over the steps of this epoch so far."""
        loss, accuracy = (self.sums / (max(1, self.step) * self.batch)).tolist()
        return loss, accuracy

    def _not_finite(self) -> ModelError:
        kept = f"epoch {self.epoch} is kept" if self.history else "no epoch was finished"
        return ModelError(
            f"{self.folder}: the loss is not finite in epoch {self.epoch + 1}; {kept}. "
            "Train with a lower rate, with clipping, or in fp32."
        )

    def _early_stop(self) -> bool:
        """Whether the last `early_stop` epochs were no better than an earlier one."""
        if not self.recipe.early_stop or self.best is None:
            return False
        return self.epoch - int(self.best["metrics"]["epoch"]) >= self.recipe.early_stop

    def _report(self) -> None:
        self._reported = time.monotonic()
        loss, accuracy = self._training_means()
        if not math.isfinite(loss):
            raise self._not_finite()
        note = f"epoch {self.epoch + 1}/{self.recipe.epochs}: loss {loss:.3f}, {percent(accuracy)}"
        if self.history:
            note += f"; validation {percent(self.history[-1]['validation_accuracy'])}"
        done = self.epoch * self.steps + self.step
        self.progress(done, self.recipe.epochs * self.steps, note)

    def _check_signals(
        self, signals: checkpoints.StopSignals, report: bool = False, saved: bool = False
    ) -> None:
        """Report progress when it is due; on a signal write a checkpoint and stop.

        All processes do so together, whichever of them received the signal.
        """
        due, received = self.group.maximum(report, signals.received or 0)
        if due:
            self._report()
        if not received:
            return
        if not saved:
            if not math.isfinite(self._training_means()[0]):
                raise self._not_finite()
            self._save()
        self.group.wait()
        raise checkpoints.Stopped(
            received,
            f"{self.folder}: stopped in epoch {self.epoch + 1}, step {self.step}, and wrote a "
            "checkpoint. The same command continues from it.",
        )

    def _save(self) -> None:
        if not self.group.is_first:
            return
        progress = {
            "identity": self.identity,
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums.tolist(),
            "history": self.history,
            "best": self.best,
            "threads": self.threads,
        }
        state = {
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
        }
        checkpoint = checkpoints.Checkpoint(progress, self.network.state_dict(), state)
        checkpoints.save_checkpoint(self.checkpoints, checkpoint)
        self.write_scalars(self.history)

    def resume(self, required: bool) -> None:
        """Continue from the newest undamaged checkpoint, if there is one."""
        checkpoint = checkpoints.newest_checkpoint(self.checkpoints, self.identity)
        if checkpoint is None:
            if required:
                raise UsageError(f"{self.folder}: there is no checkpoint to resume from.")
            return
        progress, weights, state = checkpoint
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.sums.copy_(torch.tensor(progress["sums"], dtype=torch.float64))
        self.history, self.best = progress["history"], progress["best"]
        self.threads = progress["threads"]

    def choose_threads(self, requested: int | None) -> None:
        """Use the threads that were asked for, else those of the checkpoint, else the faster."""
        if requested is None and self.threads:
            torch.set_num_threads(self.threads)
        elif requested is None and self.device.type == "cpu":
            channels = self.data.preprocessing.channels
            torch.set_num_threads(machine.fastest_threads(self.network, channels))
        torch.set_num_threads(self.group.maximum(torch.get_num_threads())[0])
        self.threads = torch.get_num_threads()

    def write_result(self) -> None:
        """Write the model folder from the best epoch."""
        assert self.best is not None  # at least one epoch was validated
        facts = {
            "identity": self.identity,
            "device": str(self.device),
            "threads": self.threads,
        }
        if self.group.size > 1:
            facts["processes"] = self.group.size
        write_result(self.folder, self.data, self.recipe, self.history, self.best, facts)
