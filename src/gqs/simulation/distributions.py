"""Distributions of the simulated sky: tables with their sources, and Gaussian mixtures."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import tables
from gqs.errors import IntegrityError

Floats = NDArray[np.float64]

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Mixture:
    """A density over named quantities as a sum of Gaussians. Bovy, Hogg & Roweis 2011."""

    names: tuple[str, ...]  # the d quantities, in the order of the axes
    weights: Floats  # (k,), summing to 1
    means: Floats  # (k, d)
    # (k, d, d), of the quantities themselves: measurement errors are not in them
    covariances: Floats

    @classmethod
    def from_table(cls, table: Table) -> Mixture:
        """Read a mixture from a table with a row for each component."""
        names = tuple(name[5:] for name in table.colnames if name.startswith("mean_"))
        means = np.stack([np.asarray(table[f"mean_{name}"], np.float64) for name in names], axis=1)
        covariances = np.empty((len(table), len(names), len(names)))
        for a, first in enumerate(names):
            for b, second in enumerate(names[a:], start=a):
                covariances[:, a, b] = covariances[:, b, a] = table[f"cov_{first}_{second}"]
        if np.linalg.eigvalsh(covariances).min() <= 0:
            raise IntegrityError("A covariance of the mixture is not positive definite: fit again.")
        weights = np.asarray(table["weight"], np.float64)
        return cls(names, weights / weights.sum(), means, covariances)

    def to_table(self) -> Table:
        """Write the mixture as a table with a row for each component."""
        order = np.argsort(-self.weights)
        table = Table({"weight": self.weights[order]})
        for a, name in enumerate(self.names):
            table[f"mean_{name}"] = self.means[order, a]
        for a, first in enumerate(self.names):
            for b, second in enumerate(self.names[a:], start=a):
                table[f"cov_{first}_{second}"] = self.covariances[order, a, b]
        return table

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw from the density: (n, d) in the order of `names`."""
        return self.draw_given({}, rng, n)

    def draw_given(
        self, known: Mapping[str, Floats], rng: np.random.Generator, n: int | None = None
    ) -> Floats:
        """Draw the other quantities where some are known, row by row: (n, d) in the order of
        `names`; the known ones are returned as they came.
        """
        held = [self.names.index(name) for name in known]
        free = [axis for axis in range(len(self.names)) if axis not in held]
        given = np.stack([np.asarray(v, np.float64) for v in known.values()], 1) if known else None
        rows = len(given) if given is not None else int(n or 0)
        component = self._choose(given, held, rows, rng)
        values = np.empty((rows, len(self.names)))
        if given is not None:
            values[:, held] = given
        for k in np.unique(component):
            here = component == k
            mean, covariance = self.means[k], self.covariances[k]
            centre = np.broadcast_to(mean[free], (int(here.sum()), len(free)))
            spread = covariance[np.ix_(free, free)]
            if given is not None:
                cross = covariance[np.ix_(free, held)]
                gain = cross @ np.linalg.inv(covariance[np.ix_(held, held)])
                centre = centre + (given[here] - mean[held]) @ gain.T
                spread = spread - gain @ cross.T
            noise = rng.standard_normal(centre.shape)
            values[np.ix_(here, free)] = centre + noise @ np.linalg.cholesky(spread).T
        return values

    def _choose(
        self, given: Floats | None, held: list[int], n: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Choose a component a row, by its weight and its likelihood of what is known."""
        log = np.log(self.weights) + np.zeros((n, 1))
        if given is not None:
            for k in range(len(self.weights)):
                factor = np.linalg.cholesky(self.covariances[k][np.ix_(held, held)])
                away = np.linalg.solve(factor, (given - self.means[k, held]).T)
                log[:, k] -= 0.5 * (away**2).sum(axis=0) + np.log(np.diag(factor)).sum()
        chance = np.exp(log - log.max(axis=1, keepdims=True)).cumsum(axis=1)
        chosen = chance < rng.random((n, 1)) * chance[:, -1:]
        return np.asarray(chosen.sum(axis=1), np.int64)


@functools.cache
def read_table(name: str) -> Table:
    """Read one of the package's tables, once."""
    return tables.read(_FOLDER / f"{name}.ecsv")


@functools.cache
def read_mixture(name: str) -> Mixture:
    """Read one of the package's mixtures, once."""
    return Mixture.from_table(read_table(name))
