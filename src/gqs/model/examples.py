"""Some training objects of a model as 8-bit pictures, to show the nearest ones to a source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gqs.files import write_bytes
from gqs.labels import CLASSES
from gqs.model.novelty import Novelty, damaged_file, load_arrays

KEPT: Final = 100  # of each class: 300 pictures with coordinates are 2.7 MB


@dataclass(frozen=True)
class Examples:
    """Training objects with their pictures."""

    objid: NDArray[np.uint64]  # (n,) uint64
    classes: NDArray[np.int64]  # (n,) positions in `labels.CLASSES`
    pictures: NDArray[np.uint8]  # (n, 50, 50, 3) uint8 colours
    coordinates: NDArray[np.float32]  # (n, m) float32, those of `Typical.coordinates`

    def nearest(
        self, source: NDArray[np.floating], typical: Novelty, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The examples whose embeddings are nearest to a source's."""
        metric = typical.whitening[int(typical.distances(source[None]).argmin())]
        away = (self.coordinates - typical.coordinates(source[None])) @ metric
        far = np.sqrt((away**2).sum(axis=1)) / typical.limit
        rows = np.argsort(far, kind="stable")[:count]
        return rows, far[rows]

    def save(self, path: Path) -> Path:
        """Write a safetensors file, atomically."""
        arrays: dict[str, NDArray[Any]] = {
            "objid": self.objid.astype(np.uint64),
            "classes": self.classes.astype(np.uint8),
            "pictures": np.ascontiguousarray(self.pictures, dtype=np.uint8),
            "coordinates": np.ascontiguousarray(self.coordinates, dtype=np.float32),
        }
        return write_bytes(path, save(arrays))

    @classmethod
    def load(cls, path: Path) -> Examples:
        """Read a file that `save` wrote."""
        arrays = load_arrays(path)
        try:
            found = cls(
                arrays["objid"].astype(np.uint64),
                arrays["classes"].astype(np.int64),
                arrays["pictures"].astype(np.uint8),
                arrays["coordinates"].astype(np.float32),
            )
        except KeyError as error:
            raise damaged_file(path) from error
        n = len(found.objid)
        fits = all(len(value) == n for value in vars(found).values())
        fits &= found.pictures.ndim == 4 and found.coordinates.ndim == 2
        fits &= not n or int(found.classes.max()) < len(CLASSES)
        if not fits or not np.isfinite(found.coordinates).all():
            raise damaged_file(path)
        return found
