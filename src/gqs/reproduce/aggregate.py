"""Measure finished trainings on the test side, and combine the seeds of each network.

Two random choices make a measured accuracy differ from the true one: the objects of the test set,
and the random numbers of the training. A bootstrap over test objects (over fields, if there are
enough) estimates the first, the spread between seeds the second. As two or three seeds determine a
spread poorly, the variances of all networks are pooled, and Student's t accounts for the remaining
few degrees of freedom. The two are added in quadrature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.stats import t

from gqs import labels, tables
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import Objects
from gqs.errors import GqsError, ResourceError, UsageError
from gqs.evaluation.comparison import compare
from gqs.evaluation.intervals import LEVEL, Estimate, bootstrap, wilson
from gqs.evaluation.matched import MatchedPredictions, match
from gqs.evaluation.metrics import measure
from gqs.executors import Progress, no_progress
from gqs.model.folder import CARD, read_card
from gqs.report.appraise import drawable
from gqs.reproduce import hypotheses
from gqs.reproduce.hypotheses import Hypothesis
from gqs.reproduce.kept import KeptResults
from gqs.reproduce.plan import MODELS, model_folder
from gqs.reproduce.predictions import (
    BASELINES,
    TREES,
    predict_test_side,
    predict_with_trees,
    rows_of_test_side,
)
from gqs.reproduce.results import Pair, Parity, PooledVariance, Results, Run, SplitResults
from gqs.training.result import HISTORY

Array = NDArray[np.float64]

# SDSS photometric `type`, by shape alone (paper 3.1): no quasars.
GALAXY_TYPE: Final = 3
STAR_TYPE: Final = 6


def gather(
    store: Objects,
    out: Path,
    splits: Mapping[str, Table],
    missing: Sequence[str] = (),
    seed: int = 1,
    progress: Progress = no_progress,
) -> Results:
    """Measure every finished training of a store on its splits."""
    missing = list(missing)
    results = {}
    for name, split in splits.items():
        folders = _finished_folders(out, name)
        runs = []
        for i, folder in enumerate(folders):
            progress(i, len(folders), f"measuring {folder.parent.name} ({name} split)")
            try:
                runs.append(_run(out, folder, name, store, split, seed))
            except ResourceError:
                raise
            except GqsError as error:  # costs only the row of this model
                missing.append(str(error))
        results[name] = _split_results(store, out, name, split, runs, seed)
    missing += _mixed_recipes(results)
    missing += _not_trained(out, results)
    return Results(store, results, missing, seed)


def _finished_folders(out: Path, split: str) -> list[Path]:
    """Finished model folders, by network and seed."""
    cards = (out / MODELS / split).glob(f"*/seed-*/{CARD}")
    folders = [card.parent for card in cards if card.parent.name[5:].isdigit()]
    return sorted(folders, key=lambda folder: (folder.parent.name, int(folder.name[5:])))


def _run(out: Path, folder: Path, name: str, store: Objects, split: Table, seed: int) -> Run:
    """Measure the model of a folder, if it belongs there."""
    card, number = read_card(folder), int(folder.name.removeprefix("seed-"))
    if card.data_hash not in _hashes(store) or card.split_hash != split_hash(split):
        raise UsageError(f"{folder}: was trained on other data or another split.")
    trained_with = card.training.get("identity", {}).get("seed", number)
    own_folder = model_folder(out, name, card.network, trained_with)
    if own_folder != folder:  # a copy would count as a second run of the same training
        raise UsageError(
            f"{folder}: holds the training that belongs into {own_folder.relative_to(out)}."
        )
    predictions = predict_test_side(folder, store, split)
    predicted = match(predictions, store.index[rows_of_test_side(store, split)])
    metrics = measure(predicted, group=_bootstrap_group(split, predicted), seed=seed)
    history = tables.read(folder / HISTORY)
    return Run(name, card.network, number, folder, card, history, predicted, metrics)


def _hashes(store: Objects) -> tuple[str, ...]:
    """Hashes of the stores that a run may have been trained on."""
    return store.hashes if isinstance(store, KeptResults) else (store.hash,)


def _bootstrap_group(split: Table, predicted: MatchedPredictions) -> str | None:
    """What the bootstrap draws as a whole: fields or runs, as the split does, or objects."""
    return drawable(predicted, split.meta["by"] if split.meta["by"] != "object" else None)


def _split_results(
    store: Objects, out: Path, name: str, split: Table, runs: Sequence[Run], seed: int
) -> SplitResults:
    """Compare the runs of one split."""
    by_network: dict[str, list[Run]] = {}
    for network in [*hypotheses.GROUPS["all"], *sorted({run.network for run in runs})]:
        of_network = [run for run in runs if run.network == network]
        if of_network:
            by_network.setdefault(network, of_network)
    predicted = {network: [run.predicted for run in runs] for network, runs in by_network.items()}
    pooled = pool([run.metrics.accuracy.value for run in runs] for runs in by_network.values())
    group = _bootstrap_group(split, runs[0].predicted) if runs else None
    uncertainty = Uncertainty(pooled, group, seed)
    pairs = _pairs(by_network, uncertainty)
    trees = _trees(store, out, name, split, seed)
    best = hypotheses.GQS if hypotheses.GQS in predicted else next(iter(predicted), None)
    best_run = {hypotheses.title(best): predicted[best][0]} if best is not None else {}
    return SplitResults(
        name,
        split,
        by_network,
        pooled,
        {network: uncertainty.accuracy(seeds) for network, seeds in predicted.items()},
        pairs,
        _verdicts(pairs),
        {
            title: measure(of_trees, group=_bootstrap_group(split, of_trees), seed=seed)
            for title, of_trees in trees.items()
        },
        {
            title: uncertainty.difference(predicted[best], [of_trees], second_fixed=True)
            for title, of_trees in trees.items()
            if best is not None
        },
        _galaxy_or_point(store, split, best_run | trees),
    )


def _pairs(runs: Mapping[str, Sequence[Run]], uncertainty: Uncertainty) -> list[Pair]:
    """Compare every two networks; McNemar's test is at the first seed that both have."""
    tested = []
    for first, second in combinations(runs, 2):
        by_seed = [{run.seed: run.predicted for run in runs[name]} for name in (first, second)]
        common = sorted(by_seed[0].keys() & by_seed[1].keys())
        if not common:
            continue
        a, b = (predicted[common[0]] for predicted in by_seed)
        test = compare(a, b, group=uncertainty.group, seed=uncertainty.seed)
        a_seeds, b_seeds = ([run.predicted for run in runs[name]] for name in (first, second))
        difference = uncertainty.difference(a_seeds, b_seeds)
        tested.append((first, second, difference, common[0], test))
    corrected = holm([test.p_value for *_, test in tested])
    return [Pair(*item, p) for item, p in zip(tested, corrected, strict=True)]


def _verdicts(pairs: Sequence[Pair]) -> list[Parity]:
    """Verdict on every hypothesis; p-values are corrected for the hypotheses, not for all pairs."""
    pair_of = {(pair.first, pair.second): pair for pair in pairs}
    tested = []
    for hypothesis in hypotheses.HYPOTHESES:
        forward = pair_of.get((hypothesis.better, hypothesis.worse))
        backward = pair_of.get((hypothesis.worse, hypothesis.better))
        if forward is not None:
            tested.append((hypothesis, forward.difference, forward.test.p_value))
        elif backward is not None:
            gap = backward.difference
            gap = Estimate(-gap.value, -gap.high, -gap.low)
            tested.append((hypothesis, gap, backward.test.p_value))
    corrected = holm([p for *_, p in tested])
    verdicts = {
        hypothesis: Parity(hypothesis, difference, _verdict(hypothesis, difference), p)
        for (hypothesis, difference, _), p in zip(tested, corrected, strict=True)
    }
    return [
        verdicts.get(hypothesis, Parity(hypothesis, None, "not run", float("nan")))
        for hypothesis in hypotheses.HYPOTHESES
    ]


def _verdict(hypothesis: Hypothesis, difference: Estimate) -> str:
    includes_zero = difference.low <= 0 <= difference.high
    if not hypothesis.published:
        return "level" if includes_zero else "differs"
    if includes_zero:
        return "open"
    return "holds" if difference.value > 0 else "reversed"


def _trees(
    store: Objects, out: Path, name: str, split: Table, seed: int
) -> dict[str, MatchedPredictions]:
    """Predictions of boosted trees on the magnitudes that the catalogue has."""
    rows = rows_of_test_side(store, split)
    predicted = {}
    for bands in TREES:
        path = out / BASELINES / name / f"trees_{bands}.parquet"
        predictions = predict_with_trees(path, store, split, bands, seed)
        if predictions is not None:
            predicted[f"Boosted trees on {bands}"] = match(predictions, store.index[rows])
    return predicted


def _galaxy_or_point(
    store: Objects, split: Table, predicted: Mapping[str, MatchedPredictions]
) -> dict[str, Estimate]:
    """Fraction correct as galaxy or point source: SDSS's type and classifiers, same objects."""
    if "type" not in store.index.colnames:
        return {}
    rows = rows_of_test_side(store, split)
    kind = tables.as_float(store.index["type"][rows])
    known = np.isin(kind, (GALAXY_TYPE, STAR_TYPE))
    objid = np.asarray(store.index["objid"])[rows][known]
    galaxy = np.asarray(store.index["class"]).astype(str)[rows][known] == labels.GALAXY
    correct = (kind[known] == GALAXY_TYPE) == galaxy
    fractions = {"SDSS photometric type": wilson(int(correct.sum()), len(correct))}
    number = labels.index(labels.GALAXY)
    for title, of_title in predicted.items():
        among = np.isin(of_title.objid, objid)
        correct = (of_title.truth[among] == number) == (of_title.decided[among] == number)
        fractions[title] = wilson(int(correct.sum()), len(correct))
    return fractions


def _mixed_recipes(results: Mapping[str, SplitResults]) -> list[str]:
    """Networks whose seeds were trained with different recipes, so that their mean is of both."""
    notes = []
    for name, on_split in results.items():
        for network, runs in on_split.runs.items():
            # The identity's, as the card's own also has keys that were added to recipes later.
            recipes = [run.card.training.get("identity", {}).get("recipe") for run in runs]
            if any(recipe != recipes[0] for recipe in recipes):
                notes.append(f"{network} ({name} split): its seeds were trained with two recipes.")
    return notes


def _not_trained(out: Path, results: Mapping[str, SplitResults]) -> list[str]:
    """Trainings that were started only, and networks not trained on the first split."""
    notes = []
    for name, on_split in results.items():
        started = sorted(
            folder.parent
            for folder in (out / MODELS / name).glob("*/seed-*/checkpoints")
            if not (folder.parent / CARD).is_file()
        )
        notes += [
            f"{path.parent.name}, {path.name}, {name} split: not finished." for path in started
        ]
        if on_split is next(iter(results.values())):
            absent = [n for n in hypotheses.GROUPS["all"] if n not in on_split.runs]
            if absent:
                titles = "; ".join(map(hypotheses.title, absent))
                notes.append(f"Not trained on the {name} split: {titles}.")
    return notes


def pool(groups: Iterable[Sequence[float]]) -> PooledVariance:
    """Pool the variance between seeds over networks with two or more, as in an ANOVA."""
    several = [np.asarray(values) for values in groups if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in several)
    return PooledVariance(squares / freedom if freedom else 0.0, freedom)


@dataclass(frozen=True)
class Uncertainty:
    """Intervals of accuracies on one split, from test objects and from seeds."""

    pooled: PooledVariance  # between seeds
    group: str | None = None  # what the bootstrap over test objects draws as a whole
    seed: int = 0  # of the bootstrap

    def accuracy(self, seeds: Sequence[MatchedPredictions]) -> Estimate:
        """Mean accuracy of a network's seeds."""
        correct, objects = _correct_fraction(seeds, _common_objects(seeds))
        return self._interval(correct, objects, 1 / len(seeds))

    def difference(
        self,
        first: Sequence[MatchedPredictions],
        second: Sequence[MatchedPredictions],
        second_fixed: bool = False,
    ) -> Estimate:
        """Mean accuracy of one network's seeds minus another's, paired object by object.

        With `second_fixed` the second does not vary with the seed.
        """
        common = _common_objects([*first, *second])
        a, objects = _correct_fraction(first, common)
        b, _ = _correct_fraction(second, common)
        share = 1 / len(first) + (0 if second_fixed else 1 / len(second))
        return self._interval(a - b, objects, share)

    def _interval(self, values: Array, objects: MatchedPredictions, share: float) -> Estimate:
        """Mean of values; its variance between seeds is `share` of that of one seed."""

        def mean(weights: Array) -> dict[str, Array]:
            return {"mean": weights @ values / weights.sum(axis=1)}

        groups = objects.groups(self.group)
        of_objects = bootstrap(mean, len(values), groups, seed=self.seed)["mean"]
        half = float(np.hypot((of_objects.high - of_objects.low) / 2, self._half_of_seeds(share)))
        return Estimate(of_objects.value, of_objects.value - half, of_objects.value + half)

    def _half_of_seeds(self, share: float) -> float:
        if not self.pooled.freedom:
            return 0.0
        variance = share * self.pooled.variance
        return float(t.ppf((1 + LEVEL) / 2, self.pooled.freedom) * np.sqrt(variance))


def unpaired_difference(first: Estimate, second: Estimate) -> Estimate:
    """Difference of two accuracies on different test objects."""
    half = float(np.hypot(first.high - first.low, second.high - second.low)) / 2
    value = first.value - second.value
    return Estimate(value, value - half, value + half)


def _common_objects(seeds: Sequence[MatchedPredictions]) -> NDArray[np.uint64]:
    objid = seeds[0].objid
    for predicted in seeds[1:]:
        objid = np.intersect1d(objid, predicted.objid)
    return np.sort(objid)


def _correct_fraction(
    seeds: Sequence[MatchedPredictions], objid: NDArray[np.uint64]
) -> tuple[Array, MatchedPredictions]:
    """Fraction of the seeds that classified each object correctly, and the objects."""
    rows = [np.flatnonzero(np.isin(predicted.objid, objid)) for predicted in seeds]
    rows = [
        chosen[np.argsort(predicted.objid[chosen])]
        for chosen, predicted in zip(rows, seeds, strict=True)
    ]
    correct = np.mean(
        [predicted.correct[chosen] for chosen, predicted in zip(rows, seeds, strict=True)], axis=0
    )
    return correct, seeds[0].select(rows[0])


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests. Holm 1979."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1.0)
    return [float(value) for value in corrected]
