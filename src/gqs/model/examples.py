"""Some objects that a model learned from, kept small enough to go with it: what a source is like.

Pictures of 8 bits, and where each lies in the network's eyes, by which the nearest are found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gqs.files import write_bytes
from gqs.labels import CLASSES
from gqs.model.novelty import Typical, load_arrays, unfit

KEPT: Final = 100  # of each class: 300 pictures and their places are 2.7 MB


@dataclass(frozen=True)
class Examples:
    """Training objects with their pictures."""

    objid: NDArray[np.uint64]  # (n,) uint64
    classes: NDArray[np.int64]  # (n,) positions in `labels.CLASSES`
    pictures: NDArray[np.uint8]  # (n, 50, 50, 3) uint8 colours
    coordinates: NDArray[np.float32]  # (n, m) float32, those of `Typical.coordinates`

    def nearest(
        self, source: NDArray[np.floating], typical: Typical, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the examples nearest to a source, in the eyes of the network."""
        metric = typical.whitening[int(typical.distances(source[None]).argmin())]
        away = (self.coordinates - typical.coordinates(source[None])) @ metric
        far = np.sqrt((away**2).sum(axis=1)) / typical.limit
        rows = np.argsort(far, kind="stable")[:count]
        return rows, far[rows]

    def save(self, path: Path) -> Path:
        """Write them as safetensors, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {
            "objid": self.objid.astype(np.uint64),
            "classes": self.classes.astype(np.uint8),
            "pictures": np.ascontiguousarray(self.pictures, dtype=np.uint8),
            "coordinates": np.ascontiguousarray(self.coordinates, dtype=np.float32),
        }
        return write_bytes(path, save(arrays))

    @classmethod
    def load(cls, path: Path) -> Examples:
        """Read what `save` wrote."""
        arrays = load_arrays(path)
        try:
            found = cls(
                arrays["objid"].astype(np.uint64),
                arrays["classes"].astype(np.int64),
                arrays["pictures"].astype(np.uint8),
                arrays["coordinates"].astype(np.float32),
            )
        except KeyError as error:
            raise unfit(path) from error
        n = len(found.objid)
        fits = all(len(value) == n for value in vars(found).values())
        fits &= found.pictures.ndim == 4 and found.coordinates.ndim == 2
        fits &= not n or int(found.classes.max()) < len(CLASSES)
        if not fits or not np.isfinite(found.coordinates).all():
            raise unfit(path)
        return found
