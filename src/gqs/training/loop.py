"""One loop, read from top to bottom: plain torch, resumed to the bit. Paper 4.3."""

from __future__ import annotations

import copy
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from torch import Tensor, nn

from gqs import labels, recipes
from gqs.cutouts.augmentation import Augmentation
from gqs.cutouts.split import check_split
from gqs.errors import ModelError, UsageError
from gqs.executors import processes as workers
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.training import checkpoints, distributed
from gqs.training import optimizer as optimizing
from gqs.training import result as outcome
from gqs.training.batches import Cutouts, Data, seed_of, steps
from gqs.training.machine import autocast, enough_memory, precision_of, quickest_threads, settings
from gqs.training.result import TrainingResult
from gqs.training.tensorboard import Curves, following
from gqs.training.validation_scores import score

FITTED_ON = 4096  # training cutouts from which a network's fixed constants are measured
TELL_EVERY_S = 0.5


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
    progress: workers.Progress = workers.silent,
) -> TrainingResult:
    """Train a network and write its model folder.

    The epoch that is best on the validation side is kept. A checkpoint is written after every
    epoch and on SIGTERM or Ctrl-C; the same call then goes on from it, and on the same machine
    and number of threads ends with the same weights, bit for bit. Where torchrun started several
    processes, each calls this and they train together (`gqs.training.distributed`).

    Parameters
    ----------
    store : CutoutStore
        The images, with their classes.
    split : Table
        objid and split; checked against the store.
    out : Path
        The model folder to write.
    recipe : Recipe or str
        How; or its name in the package.
    network, epochs, batch, precision
        In place of the recipe's.
    threads : int, optional
        Threads of one operation. Where none are named: those of the checkpoint, or in a new
        training all cores or one, whichever is found faster; model.json says which.
    device : str, optional
        As torch names it; a GPU where there is one.
    seed : int
        Of weights, order, augmentation and dropout.
    resume : bool, optional
        True: there must be a checkpoint to go on from. False: start over, whatever is there. By
        default: go on where the folder holds this very training, refuse where it holds another.
    tensorboard : Path, optional
        Folder for the history as TensorBoard reads it.
    progress : callable
        Told steps done, steps in all, and loss and accuracy.

    Returns
    -------
    TrainingResult
        Also where the folder held the finished model already.

    Raises
    ------
    IntegrityError
        If anything leaks from one side of the split to another; if every checkpoint is damaged.
    UsageError
        If options do not fit, or the folder holds another training.
    ModelError
        If the loss leaves the finite numbers; the last good checkpoint stays.
    ResourceError
        If memory or disk run out.
    Stopped
        If a signal ended it; a checkpoint was written.
    """
    recipe = _recipe(recipe, network, epochs, batch, precision)
    check_split(split, store.index)
    told = bool(recipe.arguments.get("seeing", False))
    data = Data.of(store, split, recipe.bands, zoo.find(recipe.network).stretch, told)
    if recipe.augment.dim and (store.form, data.preprocessing.stretch) != ("flux", "linear"):
        raise UsageError(
            f"Network {recipe.network!r} does not get flux in sky noises, so it cannot be dimmed. "
            "Leave augment.dim out of the recipe."
        )
    group, where = distributed.join(device)
    group.require_share(min(recipe.batch, len(data.train)))
    recipe = recipe.changed(precision=precision_of(recipe.precision, where))
    identity = {
        "data": store.hash,
        "split": data.split_hash,
        "classes": list(labels.CLASSES),
        "seed": seed,
        "recipe": recipe.identity(),
    }
    if group.size > 1:
        identity["processes"] = group.size
    folder = Path(out)
    with group.writing(folder), settings(threads, where), enough_memory(recipe.batch):
        if resume is False and group.first:
            outcome.clear(folder)
        group.wait()
        if (finished := outcome.finished(folder, identity)) is not None:
            with following(tensorboard if group.first else None, identity) as curves:
                curves(finished.history)
            return finished
        run = _Run(data, recipe, folder, where, group, seed, identity, progress)
        run.resume(required=bool(resume))
        run.choose_threads(threads)
        group.wait()  # until all have read, nobody writes
        with (
            following(tensorboard if group.first else None, identity) as run.curves,
            checkpoints.Signals(patient=group.size > 1) as signals,
        ):
            run.train(signals)
        if group.first:
            assert run.best is not None  # at least one epoch was validated
            machine = {"device": str(where), "threads": run.threads}
            if group.size > 1:
                machine["processes"] = group.size
            outcome.write(folder, data, recipe, identity, run.history, run.best, machine)
        group.wait()
        finished = outcome.finished(folder, identity)
        assert finished is not None  # it was written a moment ago
        return finished


class _Run:
    """The state of one training: everything that a checkpoint must hold, and the loop."""

    def __init__(
        self,
        data: Data,
        recipe: Recipe,
        folder: Path,
        device: torch.device,
        group: distributed.Group,
        seed: int,
        identity: dict[str, Any],
        progress: workers.Progress,
    ) -> None:
        self.data, self.recipe, self.folder, self.seed = data, recipe, folder, seed
        self.device, self.group, self.identity = device, group, identity
        self.curves: Curves = lambda history: None
        self.progress = progress if group.first else workers.silent
        self.steps = steps(len(data.train), recipe.batch)
        torch.manual_seed(seed_of(seed, "weights"))
        network = zoo.build(recipe.network, data.preprocessing.channels, **recipe.arguments)
        if (fit := getattr(network, "fit", None)) is not None:
            some = np.random.default_rng([seed, FITTED_ON]).permutation(data.train)[:FITTED_ON]
            fit(data.images(some))
        network = group.normalised(network, device)
        self.network = zoo.channels_last(network).to(device)
        self.averaged = copy.deepcopy(self.network) if recipe.average else None
        self.called = group.averaging(self.network, device)  # in training
        self.optimizer = optimizing.optimizer(self.network, recipe)
        self.loss = nn.CrossEntropyLoss(
            optimizing.class_weights(data, recipe, device), reduction="none"
        )
        self.augment = Augmentation(**recipe.augment.model_dump())
        self.epoch, self.step = 0, 0  # what comes next
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # of this epoch's loss, hits
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self.kept = folder / "checkpoints"
        self.threads = 0  # not chosen yet
        self._told = 0.0

    def train(self, signals: checkpoints.Signals) -> None:
        """Train, validate and keep what is best, until the last epoch or no more progress."""
        while self.epoch < self.recipe.epochs and not self._stalled():
            begin, waited = time.monotonic(), 0.0
            self.network.train()
            batches = self.data.training_batches(
                *(self.augment, self.recipe.batch, self.seed, self.epoch, self.step),
                *(self.device, self.group),
            )
            asked = time.monotonic()
            for x, y in batches:
                waited += time.monotonic() - asked
                self._learn(x, y)
                self.step += 1
                self._heed(signals, telling=time.monotonic() - self._told >= TELL_EVERY_S)
                asked = time.monotonic()
            validation = self._validate(signals)
            self._record(validation, time.monotonic() - begin, waited)
            self.epoch, self.step = self.epoch + 1, 0
            self.sums.zero_()
            self._save()
            self._heed(signals, saved=True)

    def _learn(self, x: Tensor, y: Tensor) -> None:
        """One step: forward, backward, and the optimizer's move at this step's rate."""
        mine = (self.group.rank,) if self.group.rank else ()  # each process drops others
        torch.manual_seed(seed_of(self.seed, self.epoch, self.step, "dropout", *mine))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        with autocast(self.device, self.recipe.precision):
            logits = self.called(x)
        losses = self.loss(logits.float(), optimizing.shares(y, self.recipe.label_smoothing))
        self.optimizer.zero_grad()
        # The mean over all processes of these is the mean over the batch; alone, times 1.
        (losses.mean() * (len(x) * self.group.size / self._batch())).backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        if self.averaged is not None:
            step = self.epoch * self.steps + self.step
            optimizing.follow(self.averaged, self.network, self.recipe.average, step)
        hits = (logits.argmax(dim=1) == y).sum()
        self.sums += self.group.total(torch.stack([losses.detach().sum().double(), hits.double()]))

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return optimizing.rate(self.recipe, self.steps, self.epoch * self.steps + self.step)

    def _validate(self, signals: checkpoints.Signals) -> dict[str, Any]:
        """Score the weights that would be kept on the validation side."""
        network, batch = self.averaged or self.network, self.recipe.batch
        precision, heed = self.recipe.precision, partial(self._heed, signals)
        found = score(network, self.data, batch, precision, self.device, self.group, heed)
        return {"epoch": self.epoch + 1, **found}

    def _record(self, validation: dict[str, Any], seconds: float, waited: float) -> None:
        """Add the epoch to the history; keep its weights where they are the best so far."""
        loss, accuracy = self._so_far()
        height = (
            validation["accuracy"] if self.recipe.choose_by == "accuracy" else -validation["loss"]
        )
        if not math.isfinite(loss) or not math.isfinite(validation["loss"]):
            raise self._lost()
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
        if self.best is None or height > self.best["score"]:
            self.best = {"score": height, "metrics": validation}
            if self.group.first:
                weights = (self.averaged or self.network).state_dict()
                self.best |= checkpoints.save_best(self.kept, self.epoch + 1, weights)
        self._tell()

    def _so_far(self) -> tuple[float, float]:
        loss, hits = (self.sums / (max(1, self.step) * self._batch())).tolist()
        return loss, hits

    def _batch(self) -> int:
        return min(self.recipe.batch, len(self.data.train))

    def _lost(self) -> ModelError:
        kept = f"epoch {self.epoch} is kept" if self.history else "nothing was kept yet"
        return ModelError(
            f"{self.folder}: the loss left the finite numbers in epoch {self.epoch + 1}; {kept}. "
            "Train with a lower rate, with clipping, or in fp32."
        )

    def _stalled(self) -> bool:
        """Early stop: nothing better for as many epochs as the recipe has patience."""
        if not self.recipe.early_stop or self.best is None:
            return False
        return self.epoch - int(self.best["metrics"]["epoch"]) >= self.recipe.early_stop

    def _tell(self) -> None:
        self._told = time.monotonic()
        loss, accuracy = self._so_far()
        if not math.isfinite(loss):
            raise self._lost()
        note = f"epoch {self.epoch + 1}/{self.recipe.epochs}: loss {loss:.3f}, {accuracy:.1%}"
        if self.history:
            note += f"; validation {self.history[-1]['validation_accuracy']:.1%}"
        done = self.epoch * self.steps + self.step
        self.progress(done, self.recipe.epochs * self.steps, note)

    def _heed(
        self, signals: checkpoints.Signals, telling: bool = False, saved: bool = False
    ) -> None:
        """Tell, where it is time; end on a signal, with a checkpoint of where we are.

        All processes do it together, whichever of them saw the signal or the time.
        """
        told, received = self.group.most(telling, signals.received or 0)
        if told:
            self._tell()
        if not received:
            return
        if not saved:
            if not math.isfinite(self._so_far()[0]):
                raise self._lost()
            self._save()
        self.group.wait()
        raise checkpoints.Stopped(
            received,
            f"{self.folder}: stopped in epoch {self.epoch + 1}, step {self.step}; a checkpoint was "
            "written. The same command goes on from it.",
        )

    def _save(self) -> None:
        if not self.group.first:
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
        checkpoints.save_checkpoint(self.kept, progress, self.network.state_dict(), state)
        self.curves(self.history)

    def resume(self, required: bool) -> None:
        """Go on from the newest whole checkpoint, where there is one."""
        found = checkpoints.newest_checkpoint(self.kept, self.identity)
        if found is None:
            if required:
                raise UsageError(f"{self.folder}: there is no checkpoint to resume from.")
            return
        progress, weights, state = found
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.sums.copy_(torch.tensor(progress["sums"], dtype=torch.float64))
        self.history, self.best = progress["history"], progress["best"]
        self.threads = progress["threads"]

    def choose_threads(self, wanted: int | None) -> None:
        """Use the threads that were asked for, or those of the checkpoint, or the faster number."""
        if wanted is None and self.threads:
            torch.set_num_threads(self.threads)
        elif wanted is None and self.device.type == "cpu":
            channels = self.data.preprocessing.channels
            torch.set_num_threads(quickest_threads(self.network, channels))
        torch.set_num_threads(self.group.most(torch.get_num_threads())[0])
        self.threads = torch.get_num_threads()


def _recipe(
    recipe: Recipe | str,
    network: str | None,
    epochs: int | None,
    batch: int | None,
    precision: str | None,
) -> Recipe:
    if isinstance(recipe, str):
        recipe = recipes.load(recipe, network)
    elif network is not None and network != recipe.network:
        recipe = recipe.changed(network=network, arguments={})
    return recipe.changed(epochs=epochs, batch=batch, precision=precision)
