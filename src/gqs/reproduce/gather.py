"""What was trained, measured: every run judged on its test side and set beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table

from gqs import labels, tables
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore
from gqs.errors import GqsError, ResourceError, UsageError
from gqs.evaluation.comparison import compare
from gqs.evaluation.intervals import Estimate, wilson
from gqs.evaluation.matched import Judged, judge
from gqs.evaluation.metrics import measure
from gqs.executors import Progress, no_progress
from gqs.model.folder import CARD, read_card
from gqs.report.appraise import drawable
from gqs.reproduce import aggregate as seeds
from gqs.reproduce import hypotheses as claims
from gqs.reproduce import predictions as judging
from gqs.reproduce.plan import MODELS
from gqs.reproduce.planning import model_folder
from gqs.reproduce.results import Pair, Results, Run, SplitResults, Verdict
from gqs.training.result import HISTORY

# SDSS photo `type` (paper 3.1): shape alone, no quasars.
GALAXY_TYPE: Final = 3
STAR_TYPE: Final = 6


def gather(
    store: CutoutStore,
    out: Path,
    splits: Mapping[str, Table],
    missing: Sequence[str] = (),
    seed: int = 1,
    progress: Progress = no_progress,
) -> Results:
    """Measure every finished training of a store and its splits."""
    said = list(missing)
    found = {}
    for name, split in splits.items():
        folders = _finished(out, name)
        runs = []
        for i, folder in enumerate(folders):
            progress(i, len(folders), f"measuring {folder.parent.name} ({name} split)")
            try:
                runs.append(_run(out, folder, name, store, split, seed))
            except ResourceError:
                raise
            except GqsError as error:  # one model costs its own row, not the tables
                said.append(str(error))
        found[name] = measured_split(store, out, name, split, runs, seed)
    said += _unlike(found)
    said += _absent(out, found)
    return Results(store, found, said, seed)


def _finished(out: Path, split: str) -> list[Path]:
    """Finished model folders, by seed as a number."""
    cards = (out / MODELS / split).glob(f"*/seed-*/{CARD}")
    folders = [card.parent for card in cards if card.parent.name[5:].isdigit()]
    return sorted(folders, key=lambda folder: (folder.parent.name, int(folder.name[5:])))


def _run(out: Path, folder: Path, name: str, store: CutoutStore, split: Table, seed: int) -> Run:
    """Measure what one folder holds, if it is what its place says."""
    card, number = read_card(folder), int(folder.name.removeprefix("seed-"))
    if card.data_hash != store.hash or card.split_hash != split_hash(split):
        raise UsageError(f"{folder}: was trained on other data or another split.")
    trained = card.training.get("identity", {}).get("seed", number)
    own = model_folder(out, name, card.network, trained)
    if own != folder:  # it would count as a second run of what it holds
        raise UsageError(f"{folder}: holds the training that belongs into {own.relative_to(out)}.")
    rows = judging.test_rows(store, split)
    predictions = judging.keep_predictions(folder, store, split)
    judged = judge(predictions, store.index[rows])
    metrics = measure(judged, group=_group(split, judged), seed=seed)
    history = tables.read(folder / HISTORY)
    return Run(name, card.network, number, folder, card, history, judged, metrics)


def _group(split: Table, judged: Judged) -> str | None:
    return drawable(judged, split.meta["by"] if split.meta["by"] != "object" else None)


def measured_split(
    store: CutoutStore, out: Path, name: str, split: Table, runs: Sequence[Run], seed: int
) -> SplitResults:
    """Put one split's runs side by side."""
    by_network: dict[str, list[Run]] = {}
    for network in [*claims.GROUPS["all"], *sorted({run.network for run in runs})]:
        some = [run for run in runs if run.network == network]
        if some and network not in by_network:
            by_network[network] = some
    judged = {network: [run.judged for run in some] for network, some in by_network.items()}
    pooled = seeds.pool(
        [run.metrics.accuracy.value for run in some] for some in by_network.values()
    )
    chance = seeds.Chance(pooled, _group(split, runs[0].judged) if runs else None, seed)
    pairs = _pairs(by_network, chance)
    trees = _trees(store, out, name, split, seed)
    best = claims.GQS if claims.GQS in judged else next(iter(judged), None)
    shapes = {claims.title(best): judged[best][0], **trees} if best is not None else trees
    return SplitResults(
        name,
        split,
        by_network,
        pooled,
        {network: chance.accuracy(some) for network, some in judged.items()},
        pairs,
        _verdicts(pairs),
        {title: measure(one, group=_group(split, one), seed=seed) for title, one in trees.items()},
        {
            title: chance.difference(judged[best], [one], fixed=True)
            for title, one in trees.items()
            if best is not None
        },
        _galaxy_or_point(store, split, shapes),
    )


def _pairs(runs: Mapping[str, Sequence[Run]], chance: seeds.Chance) -> list[Pair]:
    """Put every two networks to McNemar's test at the first seed that both have."""
    tested = []
    for first, second in combinations(runs, 2):
        common = sorted({r.seed for r in runs[first]} & {r.seed for r in runs[second]})
        if not common:
            continue
        both = (runs[first], runs[second])
        a, b = (next(run.judged for run in some if run.seed == common[0]) for some in both)
        test = compare(a, b, group=chance.group, seed=chance.seed)
        every = [[run.judged for run in some] for some in both]
        gap = chance.difference(every[0], every[1])
        tested.append((first, second, gap, common[0], test))
    corrected = seeds.holm([test.p_value for *_, test in tested])
    return [Pair(*one, p) for one, p in zip(tested, corrected, strict=True)]


def _verdicts(pairs: Sequence[Pair]) -> list[Verdict]:
    """Judge every claim; its test is corrected for the other claims, not for all pairs."""
    known = {(pair.first, pair.second): pair for pair in pairs}
    met = [
        (claim, pair, claim.better == pair.first)
        for claim in claims.CLAIMS
        for pair in (
            known.get((claim.better, claim.worse)) or known.get((claim.worse, claim.better)),
        )
        if pair is not None
    ]
    corrected = seeds.holm([pair.test.p_value for _, pair, _ in met])
    found = {}
    for (claim, pair, forward), p in zip(met, corrected, strict=True):
        gap = pair.difference
        if not forward:
            gap = Estimate(-gap.value, -gap.high, -gap.low)
        found[claim] = Verdict(claim, gap, _word(claim, gap), p)
    return [found.get(c, Verdict(c, None, "not run", float("nan"))) for c in claims.CLAIMS]


def _word(claim: claims.Claim, found: Estimate) -> str:
    unsure = found.low <= 0 <= found.high
    if not claim.published:
        return "level" if unsure else "differs"
    if unsure:
        return "open"
    return "holds" if found.value > 0 else "reversed"


def _trees(store: CutoutStore, out: Path, name: str, split: Table, seed: int) -> dict[str, Judged]:
    rows = judging.test_rows(store, split)
    found = {}
    for bands in judging.TREES:
        path = out / "baselines" / name / f"trees_{bands}.parquet"
        predictions = judging.keep_trees(path, store, split, bands, seed)
        if predictions is not None:
            found[f"Boosted trees on {bands}"] = judge(predictions, store.index[rows])
    return found


def _galaxy_or_point(
    store: CutoutStore, split: Table, judged: Mapping[str, Judged]
) -> dict[str, Estimate]:
    """Galaxy or point source: SDSS's photometric type beside the classifiers, same objects."""
    if "type" not in store.index.colnames:
        return {}
    rows = judging.test_rows(store, split)
    kind = tables.as_float(store.index["type"][rows])
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
            # Not the card's own, which also has what recipes have had since.
            recipes = [run.card.training.get("identity", {}).get("recipe") for run in runs]
            if any(recipe != recipes[0] for recipe in recipes):
                said.append(f"{network} ({name} split): its seeds were trained with two recipes.")
    return said


def _absent(out: Path, found: Mapping[str, SplitResults]) -> list[str]:
    """Name networks of the paper that no training of the first split stands for, and why."""
    said = []
    for name, results in found.items():
        begun = sorted(
            folder.parent
            for folder in (out / MODELS / name).glob("*/seed-*/checkpoints")
            if not (folder.parent / CARD).is_file()
        )
        said += [f"{path.parent.name}, {path.name}, {name} split: not finished." for path in begun]
        if results is next(iter(found.values())):
            missing = [n for n in claims.GROUPS["all"] if n not in results.runs]
            if missing:
                said.append(
                    f"Not trained on the {name} split: {'; '.join(map(claims.title, missing))}."
                )
    return said
