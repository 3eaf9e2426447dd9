"""Novelty: the Mahalanobis distance of an object's embedding to the nearest class.

A network gives three probabilities to anything, including a satellite trail. The embedding of an
object like the training set is close to one of the classes, others are often far from all of them.
Lee et al. 2018 (arXiv:1807.03888), eq. 2, but with a covariance for each class, shrunk after Ledoit
& Wolf 2004; see benchmarks/unlike.py for a comparison.
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

QUANTILE: Final = 0.995  # fraction of validation objects within the limit
WIDEST: Final = (
    384  # widest embedding that is used whole; wider ones are projected on this many axes
)
FEW: Final = 50  # objects below which a class gets the covariance of all
_FLOOR: Final = 1e-6  # keeps the logarithm of the residual finite


@dataclass(frozen=True)
class Novelty:
    """Distribution of the classes among embeddings, and the limit of the distance."""

    centre: Array  # (d,) mean embedding
    # (d, k) principal axes if d is larger than `WIDEST`, else (d, 0) and embeddings are used
    # whole
    basis: Array
    means: Array  # (class, m) of the coordinates
    whitening: Array  # (class, m, m) factors W of the inverse covariances W W^T
    limit: float  # distance below which `QUANTILE` of the validation objects are

    def coordinates(self, embedding: NDArray[np.floating]) -> Array:
        """Coordinates of embeddings in which distances are measured, (n, m): relative to the
        centre; for wide embeddings, along the axes and the logarithm of the residual.
        """
        away = np.asarray(embedding, dtype=np.float64) - self.centre
        if not self.basis.shape[1]:
            return away
        along = away @ self.basis
        left = np.sqrt(np.maximum((away**2).sum(1) - (along**2).sum(1), 0))
        return np.column_stack([along, np.log(left + _FLOOR)])

    def distances(self, embedding: NDArray[np.floating]) -> Array:
        """Distance to each class, (n, class), in units of `limit`."""
        z = self.coordinates(embedding)
        squares = [
            (((z - mean) @ whitening) ** 2).sum(axis=1)
            for mean, whitening in zip(self.means, self.whitening, strict=True)
        ]
        return np.asarray(np.sqrt(np.stack(squares, axis=1)) / self.limit)

    def unlike(self, embedding: NDArray[np.floating]) -> Array:
        """Distance to the nearest class, (n,), in units of `limit`."""
        return np.asarray(self.distances(embedding).min(axis=1))

    def save(self, path: Path) -> Path:
        """Write a safetensors file, atomically."""
        arrays = {
            name: np.ascontiguousarray(value, dtype=np.float32)
            for name, value in vars(self).items()
        }
        return write_bytes(path, save(arrays))

    @classmethod
    def load(cls, path: Path) -> Novelty:
        """Read a file that `save` wrote."""
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
            raise damaged_file(path) from error
        if not fits:
            raise damaged_file(path)
        return found


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read a safetensors file of a model folder."""
    try:
        return load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise damaged_file(path) from error


def damaged_file(path: Path) -> ModelError:
    """The error for a damaged file of a model folder."""
    return ModelError(
        f"{path}: is damaged, or of another version of gqs. Copy the model folder again, or delete "
        "this file to go without it."
    )


def fit(
    embedding: NDArray[np.floating],
    classes: NDArray[np.int64],
    held_out: NDArray[np.floating],
    quantile: float = QUANTILE,
) -> Novelty:
    """Fit class distributions to training objects, and the limit to validation objects."""
    from sklearn.covariance import ledoit_wolf

    values = np.asarray(embedding, dtype=np.float64)
    count, d = len(CLASSES), values.shape[1]
    centre = values.mean(axis=0)
    basis = np.zeros((d, 0))
    if d > WIDEST:
        _, _, axes = np.linalg.svd(values - centre, full_matrices=False)
        basis = axes[: max(1, min(WIDEST - 1, len(values) // 4))].T
    found = Novelty(centre, basis, np.zeros((count, 0)), np.zeros((count, 0, 0)), 1.0)
    z = found.coordinates(values)
    counts = np.maximum(np.bincount(classes, minlength=count), 1)
    means = np.stack([z[classes == i].sum(axis=0) / counts[i] for i in range(count)])
    away = z - means[classes]
    whitening = []
    for i in range(count):
        mine = away[classes == i] if (classes == i).sum() >= FEW else away
        covariance = ledoit_wolf(mine, assume_centered=True)[0]
        spread = np.trace(covariance) / len(covariance)
        covariance += _FLOOR * max(spread, _FLOOR) * np.eye(len(covariance))
        whitening.append(np.linalg.cholesky(np.linalg.inv(covariance)))
    # A class without objects gets the distribution of one that has some: the distance to the
    # nearest class, which is all that counts, stays as it is.
    present = np.bincount(classes, minlength=count) > 0
    stand_in = np.where(present, np.arange(count), int(present.argmax()))
    means, whitening = means[stand_in], [whitening[i] for i in stand_in]
    found = Novelty(centre, basis, means, np.stack(whitening), 1.0)
    limit = float(np.quantile(found.unlike(held_out), quantile))
    return Novelty(centre, basis, means, np.stack(whitening), max(limit, _FLOOR))
