"""What a training reads: sides of a split, shuffled batches, prepared while the last one trains.

The random numbers of a step follow from seed, epoch and step alone, so that a training which is
cut off anywhere goes on exactly as if it had not been.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gqs import labels
from gqs.cutouts.augmentation import Augmentation, Draws
from gqs.cutouts.preprocessing import CPU, Preprocessing, onto
from gqs.cutouts.split import split_hash
from gqs.errors import UsageError
from gqs.imaging import seeing
from gqs.surveys.sdss import PICTURE_BANDS, REFERENCE_BAND
from gqs.training.distributed import Group

T = TypeVar("T")
ALONE = Group()
AHEAD = 3  # batches that are prepared before they are asked for


class Cutouts(Protocol):
    """What training needs of a `CutoutStore`."""

    index: Table
    bands: str
    form: str
    edge: str
    hash: str
    manifest: dict[str, Any]

    def images(self, rows: ArrayLike) -> NDArray[Any]:
        """Return (n, band, 50, 50) images of rows of the index."""


def seed_of(*parts: object) -> int:
    """Return a seed that follows from all of its parts."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True)
class Data:
    """Rows and classes of a training, and how its images become channels."""

    store: Cutouts  # where images come from
    train: NDArray[np.int64]  # rows of the store's index
    validation: NDArray[np.int64]
    # (rows of the store,) positions in `labels.CLASSES`; -1 where an object is on no side
    classes: NDArray[np.int64]
    preprocessing: Preprocessing  # of the network
    split_hash: str  # of objid and side of every object in the split

    @classmethod
    def of(
        cls,
        store: Cutouts,
        split: Table,
        bands: str | None,
        stretch: str,
        told: bool = False,
    ) -> Data:
        """Join a store and its split."""
        bands = bands or store.bands
        missing = [band for band in bands if band not in store.bands]
        if missing or (store.form == "paper" and bands != store.bands):
            raise UsageError(f"The store has bands {store.bands!r}, the recipe asks for {bands!r}.")
        objid = np.asarray(split["objid"]).tolist()
        side = np.asarray(split["split"]).astype(str).tolist()
        of = dict(zip(objid, side, strict=True))
        sides = np.array([of.get(i, "") for i in np.asarray(store.index["objid"]).tolist()])
        names = np.asarray(store.index["class"]).astype(str).tolist()
        classes = np.array(
            [labels.index(n) if s else -1 for n, s in zip(names, sides, strict=True)]
        )
        train, validation = (np.flatnonzero(sides == name) for name in ("train", "validation"))
        for i, name in enumerate(labels.CLASSES):
            if not (classes[train] == i).any():
                raise UsageError(
                    f"The training side has no {name}. Make a larger store, or split it again."
                )
        if not len(validation):
            raise UsageError("The split has no validation objects to choose by. Split it again.")
        preprocessing = Preprocessing(store.form, bands, stretch, told)
        return cls(store, train, validation, classes, preprocessing, split_hash(split))

    def images(self, rows: NDArray[np.int64], device: torch.device = CPU) -> Tensor:
        """Read and preprocess images: (n, channel, 50, 50)."""
        images = self.store.images(rows)
        if self.preprocessing.form == "flux" and self.preprocessing.bands != self.store.bands:
            images = images[:, [self.store.bands.index(band) for band in self.preprocessing.bands]]
        if not self.preprocessing.seeing:
            return self.preprocessing(images, device)
        told = seeing.told(self.store.index[rows], self.preprocessing.bands)
        return self.preprocessing(images, device, told)

    def targets(self, rows: NDArray[np.int64], device: torch.device = CPU) -> Tensor:
        """Return (n,) classes of rows."""
        return onto(torch.from_numpy(self.classes[rows]), device)

    def training_batches(
        self,
        augment: Augmentation,
        batch: int,
        seed: int,
        epoch: int,
        first: int,
        device: torch.device = CPU,
        group: Group = ALONE,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's augmented batches from a step on, whole ones only.

        What is left over is part of another epoch's batches, since every epoch shuffles anew.
        """
        order = np.random.default_rng([seed, epoch]).permutation(self.train)
        bands, masks = self.preprocessing.bands, self.preprocessing.masks
        reference = bands.find(REFERENCE_BAND) if masks and REFERENCE_BAND in bands else None
        picture = [bands.index(band) for band in PICTURE_BANDS if band in bands]

        def prepared(step: int) -> tuple[Tensor, Tensor]:
            whole = order[step * batch : (step + 1) * batch]
            share = group.share(len(whole))
            generator = torch.Generator().manual_seed(seed_of(seed, epoch, step, "augment"))
            draws = Draws(generator, share.start, len(whole))
            x, y = self.images(whole[share], device), self.targets(whole[share], device)
            return augment(x, draws, masks, reference, picture), y

        yield from ahead(prepared, range(first, steps(len(order), batch)))

    def validation_batches(
        self, batch: int, device: torch.device = CPU, group: Group = ALONE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the validation side in its order, as it is; of each batch a process's share."""
        starts = range(0, len(self.validation), batch)

        def prepared(start: int) -> tuple[Tensor, Tensor]:
            rows = self.validation[start : start + batch]
            rows = rows[group.share(len(rows))]
            return self.images(rows, device), self.targets(rows, device)

        yield from ahead(prepared, starts)


def steps(objects: int, batch: int) -> int:
    """Return the number of whole batches in an epoch; one, of all objects, where they are few."""
    return max(1, objects // batch)


def ahead(make: Callable[[int], T], items: range) -> Iterator[T]:
    """Make things in a thread, a few before they are asked for."""
    done: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=AHEAD)
    stopped = threading.Event()

    def work() -> None:
        for item in items:
            try:
                entry: tuple[T | None, BaseException | None] = (make(item), None)
            except BaseException as error:
                entry = (None, error)
            while not stopped.is_set():
                try:
                    done.put(entry, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or entry[1] is not None:
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in items:
            value, error = done.get()
            if error is not None:
                raise error
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
