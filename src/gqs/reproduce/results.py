"""All numbers of a reproduction: runs, means over seeds, tests, verdicts, boosted trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table

from gqs.cutouts.split import split_hash
from gqs.cutouts.store import Objects
from gqs.evaluation.comparison import Comparison
from gqs.evaluation.intervals import Estimate, finite
from gqs.evaluation.matched import MatchedPredictions
from gqs.evaluation.metrics import Metrics
from gqs.model.folder import Card
from gqs.reproduce import hypotheses
from gqs.reproduce.hypotheses import Hypothesis

MEASURES: Final = ("accuracy", "precision", "recall", "f1", "auc")


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, their sample standard deviation (NaN for one seed), and their number."""

    mean: float
    deviation: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Mean and spread of one measure over seeds."""
        if not values:
            return cls(float("nan"), float("nan"), 0)
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return cls(float(np.mean(values)), deviation, len(values))

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "mean": finite(self.mean),
            "deviation": finite(self.deviation),
            "seeds": self.seeds,
        }


@dataclass(frozen=True)
class PooledVariance:
    """Variance between seeds, pooled over networks, and its degrees of freedom."""

    variance: float
    freedom: int  # seeds minus networks


@dataclass(frozen=True)
class Run:
    """One trained network with its predictions of the test side."""

    split: str
    network: str
    seed: int
    folder: Path
    card: Card
    history: Table
    predicted: MatchedPredictions
    metrics: Metrics


@dataclass(frozen=True)
class Pair:
    """Two networks on the same test objects: their difference over seeds, and McNemar's test."""

    first: str
    second: str
    difference: Estimate
    seed: int  # of the test: the first that both networks have
    test: Comparison
    p_corrected: float


@dataclass(frozen=True)
class Parity:
    """Result for one of the paper's hypotheses."""

    hypothesis: Hypothesis
    difference: Estimate | None  # of accuracies, mean over seeds; None if a network is not trained
    # "holds" or "reversed" if the interval excludes 0, else "open"; for two networks that are equal
    # in the paper "differs" or "level"; "not run"
    word: str
    p_corrected: float  # of McNemar's test at the first common seed; NaN without one


@dataclass(frozen=True)
class SplitResults:
    """Results on one split."""

    name: str
    split: Table
    runs: Mapping[str, Sequence[Run]]  # by network, one for each seed in their order
    pooled: PooledVariance  # of accuracies between seeds
    accuracies: Mapping[str, Estimate]  # by network, mean over seeds
    pairs: Sequence[Pair]  # of all networks
    verdicts: Sequence[Parity]
    # By name: boosted trees on catalogue magnitudes.
    trees: Mapping[str, Metrics] = field(default_factory=dict)
    # By name of the trees: accuracy of ResNet50-GQS (else the first network) minus theirs.
    against_trees: Mapping[str, Estimate] = field(default_factory=dict)
    # By name: fraction for which galaxy or point source is correct.
    galaxy_or_point: Mapping[str, Estimate] = field(default_factory=dict)

    def spread(self, network: str, measure: str) -> Spread:
        """Mean and spread of a measure over a network's seeds."""
        return Spread.of([run.metrics.overall[measure].value for run in self.runs[network]])

    def gqs_runs(self) -> Sequence[Run]:
        """Runs of ResNet50-GQS, if any."""
        return self.runs.get(hypotheses.GQS, ())


@dataclass(frozen=True)
class Results:
    """Everything measured on one store; `missing` lists what is not there, with reasons."""

    store: Objects
    splits: Mapping[str, SplitResults]
    missing: Sequence[str]
    seed: int

    @property
    def first(self) -> SplitResults | None:
        """The split that the tables show."""
        return next(iter(self.splits.values()), None)

    def to_json(self) -> dict[str, Any]:
        """JSON form of all numbers but times, so that it is reproducible to the byte."""
        return {
            "store": {"hash": self.store.hash, "form": self.store.form, "bands": self.store.bands},
            "seed": self.seed,
            "splits": {name: _split_json(results) for name, results in self.splits.items()},
            "published": {
                name: dict(scores._asdict()) for name, scores in hypotheses.PUBLISHED.items()
            },
            "missing": list(self.missing),
        }


def _split_json(results: SplitResults) -> dict[str, Any]:
    return {
        "scheme": {key: results.split.meta[key] for key in ("scheme", "by", "seed", "counts")},
        "split_hash": split_hash(results.split),
        "networks": {
            network: {
                "title": hypotheses.title(network),
                "mean": {name: results.spread(network, name).to_json() for name in MEASURES},
                "accuracy": results.accuracies[network].to_json(),
                "runs": [_run_json(run) for run in runs],
            }
            for network, runs in results.runs.items()
        },
        "between_seeds": {
            "deviation": finite(results.pooled.variance**0.5),
            "degrees_of_freedom": results.pooled.freedom,
        },
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": pair.difference.to_json(),
                "seed": pair.seed,
                "mcnemar": pair.test.to_json(),
                "p_holm": pair.p_corrected,
            }
            for pair in results.pairs
        ],
        "claims": [
            {
                **verdict.hypothesis._asdict(),
                "found": verdict.difference.to_json() if verdict.difference else None,
                "verdict": verdict.word,
                "p_holm": finite(verdict.p_corrected),
            }
            for verdict in results.verdicts
        ],
        "baselines": {name: metrics.to_json() for name, metrics in results.trees.items()},
        "against_baselines": {
            name: difference.to_json() for name, difference in results.against_trees.items()
        },
        "galaxy_or_point_source": {
            name: fraction.to_json() for name, fraction in results.galaxy_or_point.items()
        },
    }


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "model": run.card.weights_sha256,
        "recipe": run.card.recipe,
        "epochs": len(run.history),
        "validation": run.card.metrics["validation"],
        "test": run.metrics.to_json(),
    }
