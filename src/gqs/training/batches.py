"""Data of a training: the sides of a split, in shuffled batches that a thread prepares in advance.

The random numbers of a step follow from seed, epoch and step alone. A training that was stopped
anywhere therefore continues exactly as if it had not been.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gqs import labels
from gqs.cutouts.augmentation import Augmentation, Draws
from gqs.cutouts.channels import to_channels, to_device
from gqs.cutouts.preprocessing import Preprocessing
from gqs.cutouts.split import split_hash
from gqs.errors import UsageError
from gqs.imaging import seeing
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.surveys.sdss import PICTURE_BANDS, REFERENCE_BAND
from gqs.training.machine import CPU, ProcessGroup

T = TypeVar("T")
ALONE: Final = ProcessGroup()
PREPARED: Final = 3  # batches that are prepared in advance


class Cutouts(Protocol):
    """The part of a `CutoutStore` that training uses."""

    index: Table
    bands: str
    form: str
    edge: str
    hash: str
    manifest: dict[str, Any]

    def images(self, rows: ArrayLike) -> NDArray[Any]:
        """Images of rows of the index, (n, band, 50, 50)."""


def seed_of(*parts: object) -> int:
    """Seed that follows from all of its parts."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True)
class TrainingData:
    """A store with its training and validation sides, and how images become channels."""

    store: Cutouts
    train: NDArray[np.int64]  # rows of the store's index
    validation: NDArray[np.int64]  # rows of the store's index
    classes: NDArray[np.int64]  # (rows of the store,) index in `labels.CLASSES`; -1 on neither side
    preprocessing: Preprocessing  # of the network
    split_hash: str  # of objid and side of every object of the split

    @classmethod
    def for_recipe(cls, store: Cutouts, split: Table, recipe: Recipe) -> TrainingData:
        """Join a store and its split for a recipe's network."""
        bands = recipe.bands or store.bands
        missing = [band for band in bands if band not in store.bands]
        if missing or (store.form == "paper" and bands != store.bands):
            raise UsageError(f"The store has bands {store.bands!r}, the recipe asks for {bands!r}.")
        objid = np.asarray(split["objid"]).tolist()
        side_of = dict(zip(objid, np.asarray(split["split"]).astype(str).tolist(), strict=True))
        sides = np.array([side_of.get(i, "") for i in np.asarray(store.index["objid"]).tolist()])
        names = np.asarray(store.index["class"]).astype(str).tolist()
        classes = np.array(
            [labels.index(name) if side else -1 for name, side in zip(names, sides, strict=True)]
        )
        train, validation = (np.flatnonzero(sides == side) for side in ("train", "validation"))
        # A store may lack a class; the training side may lack none that the store has.
        for name in sorted(set(names)):
            if not (classes[train] == labels.index(name)).any():
                raise UsageError(
                    f"The training side has no {name}. Make a larger store, or split it again."
                )
        if len(set(names)) < 2:
            raise UsageError(
                f"The store has objects of one class only ({', '.join(set(names))}). Add objects "
                "of another class."
            )
        if not len(validation):
            raise UsageError("The split has no validation objects. Split the store again.")
        stretch = zoo.find(recipe.network).stretch
        with_seeing = bool(recipe.arguments.get("seeing", False))
        preprocessing = Preprocessing(store.form, bands, stretch, with_seeing)
        if recipe.augment.dim and (store.form, stretch) != ("flux", "linear"):
            raise UsageError(
                f"Network {recipe.network!r} takes no flux in units of the sky noise, so its "
                "cutouts cannot be dimmed. Use --set augment.dim=0, or remove it from the recipe."
            )
        return cls(store, train, validation, classes, preprocessing, split_hash(split))

    def images(self, rows: NDArray[np.int64], device: torch.device = CPU) -> Tensor:
        """Channels of cutouts as the network takes them, (n, channel, 50, 50)."""
        images = self.store.images(rows)
        if self.preprocessing.form == "flux" and self.preprocessing.bands != self.store.bands:
            images = images[:, [self.store.bands.index(band) for band in self.preprocessing.bands]]
        if not self.preprocessing.seeing:
            return to_channels(self.preprocessing, images, device=device)
        seeing_arcsec = seeing.seeing_columns(self.store.index[rows], self.preprocessing.bands)
        return to_channels(self.preprocessing, images, seeing_arcsec, device)

    def targets(self, rows: NDArray[np.int64], device: torch.device = CPU) -> Tensor:
        """Classes of rows, (n,) int64."""
        return to_device(torch.from_numpy(self.classes[rows]), device)

    def training_batches(
        self,
        recipe: Recipe,
        seed: int,
        epoch: int,
        first_step: int = 0,
        group: ProcessGroup = ALONE,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images and classes of an epoch's batches from a step on, full batches only.

        Objects left over at the end are in other batches of other epochs, as every epoch shuffles
        anew.
        """
        augment = Augmentation(**recipe.augment.model_dump())
        order = np.random.default_rng([seed, epoch]).permutation(self.train)
        bands, masks = self.preprocessing.bands, self.preprocessing.masks
        reference = bands.find(REFERENCE_BAND) if masks and REFERENCE_BAND in bands else None
        picture = [bands.index(band) for band in PICTURE_BANDS if band in bands]

        def prepare(step: int) -> tuple[Tensor, Tensor]:
            whole = order[step * recipe.batch : (step + 1) * recipe.batch]
            share = group.share(len(whole))
            generator = torch.Generator().manual_seed(seed_of(seed, epoch, step, "augment"))
            draws = Draws(generator, share.start, len(whole))
            x = self.images(whole[share], group.device)
            y = self.targets(whole[share], group.device)
            return augment(x, draws, masks, reference, picture), y

        yield from in_advance(prepare, range(first_step, step_count(len(order), recipe.batch)))

    def validation_batches(
        self, batch: int, group: ProcessGroup
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and classes of the validation side in order, this process's share of each."""

        def prepare(start: int) -> tuple[Tensor, Tensor]:
            rows = self.validation[start : start + batch]
            rows = rows[group.share(len(rows))]
            return self.images(rows, group.device), self.targets(rows, group.device)

        yield from in_advance(prepare, range(0, len(self.validation), batch))


def step_count(objects: int, batch: int) -> int:
    """Full batches in an epoch; one, of all objects, if there are fewer than a batch."""
    return max(1, objects // batch)


def in_advance(prepare: Callable[[int], T], items: range) -> Iterator[T]:
    """Call a function on every item in a thread, a few items before the results are used."""
    results: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=PREPARED)
    stopped = threading.Event()

    def work() -> None:
        for item in items:
            try:
                entry: tuple[T | None, BaseException | None] = (prepare(item), None)
            except BaseException as error:
                entry = (None, error)
            while not stopped.is_set():
                try:
                    results.put(entry, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or entry[1] is not None:
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in items:
            value, error = results.get()
            if error is not None:
                raise error
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
