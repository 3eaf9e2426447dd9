"""Everything that was found, as numbers: runs, means over seeds, tests, verdicts, yardsticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from astropy.table import Table

from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore
from gqs.evaluation.comparison import Comparison
from gqs.evaluation.intervals import Estimate, finite
from gqs.evaluation.matched import Judged
from gqs.evaluation.metrics import Metrics
from gqs.model.folder import Card
from gqs.reproduce import aggregate as seeds
from gqs.reproduce import hypotheses as claims

MEASURES: Final = ("accuracy", "precision", "recall", "f1", "auc")


@dataclass(frozen=True)
class Run:
    """One trained network, judged on the test side of its split."""

    split: str
    network: str
    seed: int
    folder: Path
    card: Card
    history: Table
    judged: Judged
    metrics: Metrics


@dataclass(frozen=True)
class Pair:
    """Two networks on the same test objects: their seeds together, and McNemar's test."""

    first: str
    second: str
    difference: Estimate
    seed: int  # the first that both have
    test: Comparison
    p_corrected: float


@dataclass(frozen=True)
class Verdict:
    """What became of one of the paper's claims."""

    claim: claims.Claim  # which
    # our difference of accuracies, mean over seeds; None where a network was not trained
    found: Estimate | None
    # "holds" or "reversed" where the interval leaves 0 out, else "open"; of two that the paper has
    # level "differs" or "level"; "not run"
    word: str
    # mcNemar's at the first common seed, corrected for the claims; NaN where there is none
    p_corrected: float


@dataclass(frozen=True)
class SplitResults:
    """What was found on one split."""

    name: str  # which
    split: Table
    runs: Mapping[str, Sequence[Run]]  # by network, a `Run` a seed, in their order
    pooled: seeds.Pooled  # variance of accuracies between seeds
    accuracies: Mapping[str, Estimate]  # by network, the mean over seeds with its interval
    pairs: Sequence[Pair]  # every two networks
    verdicts: Sequence[Verdict]  # on the paper's claims
    # by name, metrics of boosted trees on catalogue magnitudes
    yardsticks: Mapping[str, Metrics] = field(default_factory=dict)
    # by name of the trees, ResNet50-GQS (or what is nearest) against them
    against_trees: Mapping[str, Estimate] = field(default_factory=dict)
    # by name, share for which galaxy or point source is right
    galaxy_or_point: Mapping[str, Estimate] = field(default_factory=dict)

    def spread(self, network: str, measure: str) -> seeds.Spread:
        """Return a measure's mean and spread over a network's seeds."""
        return seeds.spread([run.metrics.overall[measure].value for run in self.runs[network]])

    def shown(self) -> Sequence[Run]:
        """Return the runs of the network that stands for the paper's winner, or none."""
        return self.runs.get(claims.GQS, ())


@dataclass(frozen=True)
class Results:
    """Everything that was found on one store; `missing` says what was not, and why."""

    store: CutoutStore
    splits: Mapping[str, SplitResults]
    missing: Sequence[str]
    seed: int

    @property
    def first(self) -> SplitResults | None:
        """The split whose numbers stand in the tables."""
        return next(iter(self.splits.values()), None)

    def to_json(self) -> dict[str, Any]:
        """Return everything that repeats to the bit as JSON holds it."""
        return {
            "store": {"hash": self.store.hash, "form": self.store.form, "bands": self.store.bands},
            "seed": self.seed,
            "splits": {name: _split_json(found) for name, found in self.splits.items()},
            "published": {name: dict(found._asdict()) for name, found in claims.PUBLISHED.items()},
            "missing": list(self.missing),
        }


def _split_json(found: SplitResults) -> dict[str, Any]:
    return {
        "scheme": {key: found.split.meta[key] for key in ("scheme", "by", "seed", "counts")},
        "split_hash": split_hash(found.split),
        "networks": {
            network: {
                "title": claims.title(network),
                "mean": {name: found.spread(network, name).to_json() for name in MEASURES},
                "accuracy": found.accuracies[network].to_json(),
                "runs": [_run_json(run) for run in runs],
            }
            for network, runs in found.runs.items()
        },
        "between_seeds": {
            "deviation": finite(found.pooled.variance**0.5),
            "degrees_of_freedom": found.pooled.freedom,
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
            for pair in found.pairs
        ],
        "claims": [
            {
                **verdict.claim._asdict(),
                "found": verdict.found.to_json() if verdict.found else None,
                "verdict": verdict.word,
                "p_holm": finite(verdict.p_corrected),
            }
            for verdict in found.verdicts
        ],
        "baselines": {name: metrics.to_json() for name, metrics in found.yardsticks.items()},
        "against_baselines": {n: value.to_json() for n, value in found.against_trees.items()},
        "galaxy_or_point_source": {n: v.to_json() for n, v in found.galaxy_or_point.items()},
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
