"""How far an object lies from all that a model learned: Mahalanobis distance to its classes.

A network gives three probabilities to anything, a satellite's trail included. What it knows of a
cutout before it decides lies close to one of the classes for what it was trained on, and often far
from all of them for what it was not. Lee et al. 2018 (arXiv:1807.03888), eq. 2, but with a
covariance for each class, shrunk after Ledoit & Wolf 2004; benchmarks/unlike.py compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gqs.errors import ModelError
from gqs.files import write_bytes
from gqs.labels import CLASSES

Array = NDArray[np.float64]

QUANTILE: Final = 0.995  # share of validation objects that count as typical
WIDEST: Final = 384  # coordinates that are kept whole; what is wider is seen along so many axes
FEW: Final = 50  # objects under which a class takes the covariance of all
_FLOOR: Final = 1e-6  # keeps the logarithm of what the axes leave over finite


@dataclass(frozen=True)
class Typical:
    """Where the classes lie among embeddings, and how far from them is too far."""

    centre: Array  # (d,) mean embedding
    # (d, k) principal axes where d is more than `WIDEST`; else (d, 0), and embeddings are taken
    # whole
    basis: Array
    means: Array  # (class, m) of the coordinates
    whitening: Array  # (class, m, m) factors W of the inverse covariances W W^T
    limit: float  # distance under which `QUANTILE` of the validation objects lie

    def coordinates(self, embedding: NDArray[np.floating]) -> Array:
        """Return embeddings as distances are measured in them: (n, m): from the centre; along the
        axes, with the logarithm of what they leave over, where an embedding is wide.
        """
        away = np.asarray(embedding, dtype=np.float64) - self.centre
        if not self.basis.shape[1]:
            return away
        along = away @ self.basis
        left = np.sqrt(np.maximum((away**2).sum(1) - (along**2).sum(1), 0))
        return np.column_stack([along, np.log(left + _FLOOR)])

    def distances(self, embedding: NDArray[np.floating]) -> Array:
        """Measure the distance to each class: (n, class), in units of `limit`."""
        z = self.coordinates(embedding)
        squares = [
            (((z - mean) @ whitening) ** 2).sum(axis=1)
            for mean, whitening in zip(self.means, self.whitening, strict=True)
        ]
        return np.asarray(np.sqrt(np.stack(squares, axis=1)) / self.limit)

    def unlike(self, embedding: NDArray[np.floating]) -> Array:
        """Measure the distance to the nearest class: (n,), above 1 for what is unlike all that was
        learned.
        """
        return np.asarray(self.distances(embedding).min(axis=1))

    def save(self, path: Path) -> Path:
        """Write it as safetensors, whole or not at all."""
        arrays = {
            name: np.ascontiguousarray(value, dtype=np.float32)
            for name, value in vars(self).items()
        }
        return write_bytes(path, save(arrays))

    @classmethod
    def load(cls, path: Path) -> Typical:
        """Read what `save` wrote."""
        try:
            arrays = {name: value.astype(np.float64) for name, value in load_arrays(path).items()}
            limit = float(arrays.pop("limit").item())
            found = cls(
                arrays["centre"], arrays["basis"], arrays["means"], arrays["whitening"], limit
            )
            (d,), (_, k), (n, m) = found.centre.shape, found.basis.shape, found.means.shape
            fits = n == len(CLASSES) and m == (k + 1 if k else d) and found.limit > 0
            fits &= found.basis.shape == (d, k) and found.whitening.shape == (n, m, m)
            fits &= all(np.isfinite(value).all() for value in arrays.values())
        except (KeyError, TypeError, ValueError) as error:
            raise unfit(path) from error
        if not fits:
            raise unfit(path)
        return found


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read a safetensors file of a model folder: numbers alone."""
    try:
        return load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise unfit(path) from error


def unfit(path: Path) -> ModelError:
    """Say that a file of a model folder is not what its name says."""
    return ModelError(
        f"{path}: is damaged, or of another version of gqs. Copy the model folder again, or delete "
        "this file to go without it."
    )


def fit(
    embedding: NDArray[np.floating],
    classes: NDArray[np.int64],
    held_out: NDArray[np.floating],
    quantile: float = QUANTILE,
) -> Typical:
    """Learn where the classes lie, and from other objects how far away is too far."""
    from sklearn.covariance import ledoit_wolf

    values = np.asarray(embedding, dtype=np.float64)
    count, d = len(CLASSES), values.shape[1]
    centre = values.mean(axis=0)
    basis = np.zeros((d, 0))
    if d > WIDEST:
        _, _, axes = np.linalg.svd(values - centre, full_matrices=False)
        basis = axes[: max(1, min(WIDEST - 1, len(values) // 4))].T
    found = Typical(centre, basis, np.zeros((count, 0)), np.zeros((count, 0, 0)), 1.0)
    z = found.coordinates(values)
    means = np.stack([z[classes == i].mean(axis=0) for i in range(count)])
    away = z - means[classes]
    whitening = []
    for i in range(count):
        mine = away[classes == i] if (classes == i).sum() >= FEW else away
        covariance = ledoit_wolf(mine, assume_centered=True)[0]
        spread = np.trace(covariance) / len(covariance)
        covariance += _FLOOR * max(spread, _FLOOR) * np.eye(len(covariance))
        whitening.append(np.linalg.cholesky(np.linalg.inv(covariance)))
    found = Typical(centre, basis, means, np.stack(whitening), 1.0)
    limit = float(np.quantile(found.unlike(held_out), quantile))
    return Typical(centre, basis, means, np.stack(whitening), max(limit, _FLOOR))
