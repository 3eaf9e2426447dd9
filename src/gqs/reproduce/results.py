"""Everything that was found, as numbers: runs, means over seeds, tests, verdicts, yardsticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table

from gqs import labels, tables, workers
from gqs.appraisal import drawable
from gqs.dataset.split import split_hash
from gqs.dataset.store import CutoutStore
from gqs.evaluation.comparison import Comparison, compare
from gqs.evaluation.intervals import Estimate, finite, wilson
from gqs.evaluation.judged import Judged, judge
from gqs.evaluation.metrics import Metrics, measure
from gqs.model_folder import CARD, Card, read_card
from gqs.reproduce import claims, judging, seeds
from gqs.reproduce.plan import MODELS
from gqs.training.outcome import HISTORY

MEASURES: Final = ("accuracy", "precision", "recall", "f1", "auc")
# SDSS photo `type`: 3 is a galaxy, 6 a star (paper 3.1): shape alone, no quasars.
GALAXY_TYPE, STAR_TYPE = 3, 6


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
    """What became of one of the paper's claims: holds, reversed, open, or not run."""

    claim: claims.Claim
    found: Estimate | None
    word: str


@dataclass(frozen=True)
class SplitResults:
    """What was found on one split.

    Attributes
    ----------
    name, split : str, Table
        Which.
    runs : mapping
        By network, a `Run` a seed, in their order.
    pooled : Pooled
        Variance of accuracies between seeds.
    accuracies : mapping
        By network, the mean over seeds with its interval.
    pairs : sequence of Pair
        Every two networks.
    verdicts : sequence of Verdict
        On the paper's claims.
    yardsticks : mapping
        By name, metrics of boosted trees on catalogue magnitudes.
    against_trees : mapping
        By name of the trees, ResNet50-GQS (or what is nearest) against them.
    galaxy_or_point : mapping
        By name, share for which galaxy or point source is right.
    """

    name: str
    split: Table
    runs: Mapping[str, Sequence[Run]]
    pooled: seeds.Pooled
    accuracies: Mapping[str, Estimate]
    pairs: Sequence[Pair]
    verdicts: Sequence[Verdict]
    yardsticks: Mapping[str, Metrics] = field(default_factory=dict)
    against_trees: Mapping[str, Estimate] = field(default_factory=dict)
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
        """Return everything that repeats to the bit as JSON holds it.

        Returns
        -------
        dict
            What json.dumps takes.
        """
        return {
            "store": {"hash": self.store.hash, "form": self.store.form, "bands": self.store.bands},
            "seed": self.seed,
            "splits": {name: _split_json(found) for name, found in self.splits.items()},
            "published": {name: dict(found._asdict()) for name, found in claims.PUBLISHED.items()},
            "missing": list(self.missing),
        }


def gather(
    store: CutoutStore,
    out: Path,
    splits: Mapping[str, Table],
    missing: Sequence[str] = (),
    seed: int = 1,
    progress: workers.Progress = workers.silent,
) -> Results:
    """Measure every finished training of a store and its splits.

    Parameters
    ----------
    store : CutoutStore
        The data.
    out : Path
        Folder of everything.
    splits : mapping
        By name; the first one's numbers stand in the tables.
    missing : sequence of str
        Sentences about what was not trained.
    seed : int
        Of bootstraps and trees.
    progress : callable
        Told after every model.

    Returns
    -------
    Results
        Models of other data or splits are named in `missing`.
    """
    said = list(missing)
    found = {}
    for name, split in splits.items():
        folders = _finished(out, name)
        runs = []
        for i, folder in enumerate(folders):
            progress(i, len(folders), f"measuring {folder.parent.name} ({name} split)")
            card = read_card(folder)
            if card.data_hash != store.hash or card.split_hash != split_hash(split):
                said.append(f"{folder}: was trained on other data or another split.")
                continue
            runs.append(_run(folder, name, card, store, split, seed))
        found[name] = measured_split(store, out, name, split, runs, seed)
    said += _unlike(found)
    return Results(store, found, said, seed)


def _finished(out: Path, split: str) -> list[Path]:
    """Finished model folders, by seed as a number."""
    cards = (out / MODELS / split).glob(f"*/seed-*/{CARD}")
    folders = [card.parent for card in cards if card.parent.name[5:].isdigit()]
    return sorted(folders, key=lambda folder: (folder.parent.name, int(folder.name[5:])))


def _run(folder: Path, name: str, card: Card, store: CutoutStore, split: Table, seed: int) -> Run:
    rows = judging.test_rows(store, split)
    predictions = judging.keep_predictions(folder, store, split)
    judged = judge(predictions, store.index[rows])
    metrics = measure(judged, group=_group(split, judged), seed=seed)
    number = int(folder.name.removeprefix("seed-"))
    history = tables.read(folder / HISTORY)
    return Run(name, card.network, number, folder, card, history, judged, metrics)


def _group(split: Table, judged: Judged) -> str | None:
    return drawable(judged, split.meta["by"] if split.meta["by"] != "object" else None)


def measured_split(
    store: CutoutStore, out: Path, name: str, split: Table, runs: Sequence[Run], seed: int
) -> SplitResults:
    """Put one split's runs side by side.

    Parameters
    ----------
    store : CutoutStore
        The data.
    out : Path
        Folder of everything; the trees' predictions are kept in it.
    name, split : str, Table
        The split.
    runs : sequence of Run
        Of it.
    seed : int
        Of bootstraps and trees.

    Returns
    -------
    SplitResults
        Its numbers.
    """
    by_network: dict[str, list[Run]] = {}
    for network in [*claims.GROUPS["all"], *sorted({run.network for run in runs})]:
        some = [run for run in runs if run.network == network]
        if some and network not in by_network:
            by_network[network] = some
    judged = {network: [run.judged for run in some] for network, some in by_network.items()}
    pooled = seeds.pool(
        [run.metrics.accuracy.value for run in some] for some in by_network.values()
    )
    group = _group(split, runs[0].judged) if runs else None
    accuracies = {
        network: seeds.accuracy(some, pooled, group, seed) for network, some in judged.items()
    }

    def gap(first: str, second: str) -> Estimate:
        return seeds.difference(judged[first], judged[second], pooled, group, seed)

    pairs = _pairs(by_network, gap, group, seed)
    verdicts = [_verdict(claim, judged.keys(), gap) for claim in claims.CLAIMS]
    trees = _trees(store, out, name, split, seed)
    best = claims.GQS if claims.GQS in judged else next(iter(judged), None)
    shapes = {title: judge_ for title, judge_ in trees.items()}
    if best is not None:
        shapes = {claims.title(best): judged[best][0], **shapes}
    return SplitResults(
        name,
        split,
        by_network,
        pooled,
        accuracies,
        pairs,
        verdicts,
        {title: measure(one, group=_group(split, one), seed=seed) for title, one in trees.items()},
        {
            title: seeds.difference(judged[best], [one], pooled, group, seed)
            for title, one in trees.items()
            if best is not None
        },
        _galaxy_or_point(store, split, shapes),
    )


def _pairs(runs: Mapping[str, Sequence[Run]], gap: Any, group: str | None, seed: int) -> list[Pair]:
    """Put every two networks to McNemar's test at the first seed that both have."""
    tested = []
    for first, second in combinations(runs, 2):
        common = sorted({r.seed for r in runs[first]} & {r.seed for r in runs[second]})
        if not common:
            continue
        a, b = (
            next(run.judged for run in runs[name] if run.seed == common[0])
            for name in (first, second)
        )
        test = compare(a, b, group=group, seed=seed)
        tested.append((first, second, gap(first, second), common[0], test))
    corrected = seeds.holm([test.p_value for *_, test in tested])
    return [Pair(*one, p) for one, p in zip(tested, corrected, strict=True)]


def _verdict(claim: claims.Claim, known: Any, gap: Any) -> Verdict:
    if claim.better not in known or claim.worse not in known:
        return Verdict(claim, None, "not run")
    found: Estimate = gap(claim.better, claim.worse)
    if found.low <= 0 <= found.high:
        word = "holds" if claim.published == 0 else "open"
    elif claim.published == 0:
        word = "differs"
    else:
        word = "holds" if found.value > 0 else "reversed"
    return Verdict(claim, found, word)


def _trees(store: CutoutStore, out: Path, name: str, split: Table, seed: int) -> dict[str, Judged]:
    rows = judging.test_rows(store, split)
    found = {}
    for bands in judging.TREES:
        path = out / "baselines" / name / f"trees_{bands}.parquet"
        predictions = judging.keep_trees(path, store, split, bands, seed)
        if predictions is not None:
            found[f"Boosted trees on {' '.join(bands)}"] = judge(predictions, store.index[rows])
    return found


def _galaxy_or_point(
    store: CutoutStore, split: Table, judged: Mapping[str, Judged]
) -> dict[str, Estimate]:
    """Galaxy or point source: SDSS's photometric type beside the classifiers, same objects."""
    if "type" not in store.index.colnames:
        return {}
    rows = judging.test_rows(store, split)
    kind = np.ma.filled(np.ma.asarray(store.index["type"][rows]), 0).astype(int)
    known = np.isin(kind, (GALAXY_TYPE, STAR_TYPE))
    objid = np.asarray(store.index["objid"])[rows][known]
    galaxy = np.asarray(store.index["class"]).astype(str)[rows][known] == labels.GALAXY
    right = (kind[known] == GALAXY_TYPE) == galaxy
    found = {"SDSS photometric type": wilson(int(right.sum()), len(right))}
    number = labels.index(labels.GALAXY)
    for title, one in judged.items():
        among = np.isin(one.objid, objid)
        same = (one.truth[among] == number) == (one.decided[among] == number)
        found[title] = wilson(int(same.sum()), len(same))
    return found


def _unlike(found: Mapping[str, SplitResults]) -> list[str]:
    """Name networks whose seeds were not trained alike: their mean would mix two recipes."""
    said = []
    for name, results in found.items():
        for network, runs in results.runs.items():
            recipes = [{**run.card.recipe, "about": ""} for run in runs]
            if any(recipe != recipes[0] for recipe in recipes):
                said.append(f"{network} ({name} split): its seeds were trained with two recipes.")
    return said


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
