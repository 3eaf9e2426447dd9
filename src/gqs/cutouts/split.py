"""Splits into training, validation and test sets without leaks, and balanced classes. Paper 3.4."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import files, labels, tables
from gqs.cutouts.sky_groups import SAME_OBJECT_ARCSEC, sky_groups
from gqs.cutouts.store import CutoutStore
from gqs.errors import IntegrityError, UsageError
from gqs.labels import QSO

Counts = NDArray[np.int64]

_EXHAUSTIVE: Final = 8  # units up to which every assignment is tried: 3^8 = 6,561
_STARTS: Final = 4
_EMPTY: Final = 100.0  # cost of a side that lacks a class; a misfit of 100 % costs 10 to 20


def assign_at_random(
    kind: Counts, unit: Counts, fractions: Sequence[float], rng: np.random.Generator
) -> Counts:
    """Assign units at random so that every class has its fraction on every side, (n,) side numbers.
    Paper, Table 3.

    Every side but the first gets its fraction of each class rounded up, which is what Table 3 shows
    (11512 galaxies: 9208, 1152, 1152); exact as long as nearly all units are single objects.
    """
    classes = int(kind.max()) + 1
    left = _content(kind, unit, classes).sum(axis=0)  # (class,)
    room = np.zeros((len(fractions), classes), dtype=np.int64)
    for side in range(1, len(fractions)):
        share = np.ceil(np.round(fractions[side] * np.bincount(kind, minlength=classes), 9))
        room[side] = np.minimum(share.astype(np.int64), left)
        left = left - room[side]
    room[0] = left
    side_of = np.zeros(int(unit.max()) + 1, dtype=np.int64)
    several = np.flatnonzero(np.bincount(unit) > 1)
    content = _content(kind, unit, classes)
    for number in rng.permutation(several):
        fits = [s for s in range(len(fractions)) if (room[s] >= content[number]).all()]
        weight = np.array([fractions[s] for s in fits])
        side = int(rng.choice(fits, p=weight / weight.sum())) if fits else 0
        side_of[number] = side
        room[side] -= content[number]
    single = np.bincount(unit)[unit] == 1
    for k in range(classes):
        members = rng.permutation(unit[single & (kind == k)])
        start = 0
        for side in range(1, len(fractions)):
            stop = start + max(int(room[side, k]), 0)
            side_of[members[start:stop]] = side
            start = stop
    return np.asarray(side_of[unit])


def assign_groups(
    kind: Counts, unit: Counts, fractions: Sequence[float], rng: np.random.Generator
) -> Counts:
    """Assign whole groups so that every class comes as near to its fractions as groups allow, (n,)
    side numbers.

    The cost of an assignment is the sum over sides and classes of (count - share)^2 / share, each
    class counting alike, and much more where a side lacks a class. Few groups are tried in every
    way; many are placed from the largest, each where it lowers the cost most, and then moved and
    exchanged until nothing improves.
    """
    content = _content(kind, unit, int(kind.max()) + 1)
    shares = content / np.maximum(content.sum(axis=0), 1)  # each class sums to 1
    wanted = np.asarray(fractions)[:, None]
    units = rng.permutation(len(shares))
    if len(units) <= _EXHAUSTIVE:
        every = np.array(list(itertools.product(range(len(fractions)), repeat=len(units))))
        held = np.stack(
            [(every == s).astype(float) @ shares[units] for s in range(len(fractions))], axis=1
        )
        best = every[int(_cost(held, wanted).argmin())]
    else:
        tries = [_place_largest_first(shares[units], wanted, rng) for _ in range(_STARTS)]
        best = min(tries, key=lambda found: found[0])[1]
    side_of = np.empty(len(units), dtype=np.int64)
    side_of[units] = best
    return np.asarray(side_of[unit])


def _content(kind: Counts, unit: Counts, classes: int) -> Counts:
    """Count each unit's objects by class, (unit, class)."""
    content = np.zeros((int(unit.max()) + 1, classes), dtype=np.int64)
    np.add.at(content, (unit, kind), 1)
    return content


def _cost(held: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cost of assignments whose sides hold the fractions (..., side, class)."""
    misfit = ((held - wanted) ** 2 / wanted).sum(axis=(-2, -1))
    return np.asarray(misfit + _EMPTY * (held < 1e-12).sum(axis=(-2, -1)))


def _place_largest_first(
    shares: NDArray[np.float64], wanted: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, Counts]:
    sides = len(wanted)
    side = np.zeros(len(shares), dtype=np.int64)
    held = np.zeros((sides, shares.shape[1]))
    size = shares.sum(axis=1) * rng.uniform(0.5, 1.5, len(shares))  # another order each time
    here = np.eye(sides)[:, :, None]
    for number in np.argsort(-size):
        side[number] = int(_gap(held + here * shares[number], wanted).argmin())
        held[side[number]] += shares[number]
    cost = float(_cost(held, wanted))
    stale = 0
    while stale < min(4 * len(shares) + 50, 4000):
        a, b = rng.integers(len(shares), size=2)
        move = rng.random() < 0.5
        target = int(rng.integers(sides)) if move else int(side[b])
        changed = held.copy()
        changed[side[a]] -= shares[a]
        changed[target] += shares[a]
        if not move:
            changed[target] -= shares[b]
            changed[side[a]] += shares[b]
        after = float(_cost(changed, wanted))
        if after < cost - 1e-12:
            if not move:
                side[b] = side[a]
            side[a], held, cost, stale = target, changed, after, 0
        else:
            stale += 1
    return cost, side


def _gap(held: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Misfit of an unfinished assignment, summed over sides and classes."""
    return np.asarray(((held - wanted) ** 2 / wanted).sum(axis=(-2, -1)))


SIDES: Final = ("train", "validation", "test")
SCHEMES: Final = ("grouped", "paper")
BY: Final = {"field": tables.FIELD_COLUMNS, "run": ("run",)}
FRACTIONS: Final = (0.8, 0.1, 0.1)  # paper 3.4
_REQUEST: Final = ("scheme", "by", "seed", "balance", "fractions", "store")


def make_split(
    index: Table,
    scheme: str = "grouped",
    by: str = "field",
    seed: int = 0,
    balance: bool = False,
) -> Table:
    """Divide objects into training, validation and test.

    Parameters
    ----------
    index : Table
        A store's index: objid, ra, dec, run, camcol, field, class.
    scheme : str
        "paper": objects at random, each class 8:1:1 (validation and test get a tenth, rounded up,
        as Table 3 has it). "grouped": whole fields or runs on one side, classes and sizes as near
        to 8:1:1 as the groups allow; of an object seen in fields on two sides only the sightings
        on one are kept.
    by : str
        What stays together in a grouped split: "field" or "run".
    seed : int
        Of everything random.
    balance : bool
        First drop objects at random until every class has as many as the smallest.

    Returns
    -------
    Table
        `objid`, `split` (train, validation or test), `group` (the field, the run, or the first
        objid of the object of the sky), in the order of the index; objects that were dropped
        have no row. `meta` has the request, counts and what was dropped.

    Raises
    ------
    UsageError
        If an option is unknown, or some side cannot have every class.
    IntegrityError
        If an objid comes twice.
    """
    if scheme not in SCHEMES or by not in BY:
        raise UsageError(
            f"Unknown split {scheme!r} by {by!r}. Schemes are {' and '.join(SCHEMES)}, "
            f"groups are {' and '.join(BY)}."
        )
    tables.require_columns(index, ("objid", "ra", "dec", "class", *tables.FIELD_COLUMNS), "index")
    tables.require_unique(index["objid"], "index")
    if not len(index):
        raise UsageError("There is no object to split. Fill the store first.")
    rng = np.random.default_rng(seed)
    classes, kind = np.unique(np.asarray(index["class"]).astype(str), return_inverse=True)
    kept = _balanced(kind, rng) if balance else np.arange(len(index))
    unbalanced = len(index) - len(kept)
    # Of all rows: one that balancing leaves out may be the link between two that it keeps.
    sky = sky_groups(np.asarray(index["ra"]), np.asarray(index["dec"]))[kept]
    _, sky = np.unique(sky, return_inverse=True)
    if scheme == "paper":
        side = assign_at_random(kind[kept], sky, FRACTIONS, rng)
        group = _first_objid(index["objid"][kept], sky)
        repeated = 0
    else:
        group = _group_names(index[kept], by)
        _, unit = np.unique(group, return_inverse=True)
        side = assign_groups(kind[kept], unit, FRACTIONS, rng)
        on_one = _on_one_side(side, sky)
        repeated = int((~on_one).sum())
        kept, side, group = kept[on_one], side[on_one], group[on_one]
    counts = _counts(kind[kept], side, classes)
    _require_every_class(counts, scheme, by)
    split = Table({"objid": np.asarray(index["objid"])[kept]})
    split["split"] = np.array(SIDES)[side]
    split["group"] = group
    split.meta = {
        "scheme": scheme,
        "by": by if scheme == "grouped" else "object",
        "seed": int(seed),
        "balance": bool(balance),
        "fractions": list(FRACTIONS),
        "store": index.meta.get("store", ""),
        "counts": counts,
        "dropped": {"balance": unbalanced, "same object on another side": repeated},
    }
    return split


def _balanced(kind: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    smallest = np.bincount(kind).min()
    parts = [
        rng.choice(np.flatnonzero(kind == k), smallest, replace=False)
        for k in range(int(kind.max()) + 1)
    ]
    return np.sort(np.concatenate(parts))


def _group_names(index: Table, by: str) -> NDArray[np.str_]:
    """Name each row's field or run, as `run-camcol-field` in the archive's digits."""
    columns = [np.asarray(index[name]).astype(int).astype(str) for name in BY[by]]
    padded = [np.char.zfill(c, n) for c, n in zip(columns, (6, 1, 4), strict=False)]
    names = padded[0]
    for column in padded[1:]:
        names = np.char.add(np.char.add(names, "-"), column)
    return np.asarray(names)


def _first_objid(objid: Any, sky: NDArray[np.int64]) -> NDArray[np.str_]:
    _, first = np.unique(sky, return_index=True)
    return np.asarray(objid)[first][sky].astype(str)


def _on_one_side(side: NDArray[np.int64], sky: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of an object's sightings on several sides keep those on the side that has most of them."""
    votes = np.zeros((int(sky.max()) + 1, len(SIDES)), dtype=int)
    np.add.at(votes, (sky, side), 1)
    return np.asarray(votes.argmax(axis=1)[sky] == side)


def _counts(
    kind: NDArray[np.int64], side: NDArray[np.int64], classes: NDArray[np.str_]
) -> dict[str, dict[str, int]]:
    return {
        name: {
            str(label): int(((side == s) & (kind == k)).sum()) for k, label in enumerate(classes)
        }
        for s, name in enumerate(SIDES)
    }


def _require_every_class(counts: Mapping[str, Mapping[str, int]], scheme: str, by: str) -> None:
    for side, found in counts.items():
        missing = [name for name, count in found.items() if not count]
        if missing:
            what = f"{by}s" if scheme == "grouped" else "objects"
            raise UsageError(
                f"The {side} side would hold no {' and no '.join(missing)}: there are too few "
                f"{what} to divide. Add {what}, or choose another scheme."
            )


def split_hash(split: Table) -> str:
    """Identify a split by what it says: objid and side of every object."""
    sides = np.asarray(split["split"]).astype(str).tolist()
    return files.hash_of(sorted(zip(np.asarray(split["objid"]).tolist(), sides, strict=True)))


def save(split: Table, path: Path | str) -> Path:
    """Write a split, whole or not at all."""
    path = Path(path)
    if path.suffix != ".parquet":
        raise UsageError(f"{path}: a split is saved as .parquet, which keeps what was asked for.")
    return tables.write(split, path)


def load(path: Path | str) -> Table:
    """Read a split."""
    split = tables.read(Path(path))
    tables.require_columns(split, ("objid", "split", "group"), path)
    lacking = [key for key in _REQUEST if key not in split.meta]
    strange = set(np.asarray(split["split"]).astype(str)) - set(SIDES)
    if lacking or strange:
        what = f"does not say its {lacking[0]}" if lacking else f"has a side {strange.pop()!r}"
        raise IntegrityError(f"{path}: {what}, so it is no split of gqs. Make it again.")
    return split


def split_store(
    store: CutoutStore,
    path: Path | str,
    scheme: str = "grouped",
    by: str = "field",
    seed: int = 0,
    balance: bool = False,
) -> Table:
    """Split a store once: an existing split is returned unchanged."""
    path = Path(path)
    if not path.exists():
        split = make_split(store.index, scheme, by, seed, balance)
        check_split(split, store.index)
        save(split, path)
        return split
    split = load(path)
    request = {
        "scheme": scheme,
        "by": by if scheme == "grouped" else "object",
        "seed": seed,
        "balance": balance,
        "fractions": list(FRACTIONS),
        "store": store.hash,
    }
    changed = [key for key in _REQUEST if split.meta[key] != request[key]]
    if changed:
        raise UsageError(
            f"{path}: is a split with another {' and '.join(changed)} "
            f"({str(split.meta[changed[0]])[:12]} there, {str(request[changed[0]])[:12]} asked). "
            "Name another file, or delete this one."
        )
    check_split(split, store.index)
    return split


def check_split(split: Table, index: Table) -> None:
    """Refuse a split that lets anything leak from one side to another."""
    tables.require_unique(split["objid"], "split")
    objid, order = np.unique(np.asarray(index["objid"]), return_index=True)
    wanted = np.asarray(split["objid"])
    place = np.minimum(np.searchsorted(objid, wanted), len(objid) - 1)
    lost = np.flatnonzero(objid[place] != wanted)
    if len(lost):
        raise IntegrityError(
            f"Split: {len(lost)} objects are not in the store, {wanted[lost[0]]} among them. "
            "Split the store again."
        )
    rows = index[order[place]]
    sides = np.asarray(split["split"]).astype(str)
    sky = sky_groups(np.asarray(rows["ra"]), np.asarray(rows["dec"]))
    torn = _torn(sky, sides)
    if len(torn):
        raise IntegrityError(
            f"Split: {len(torn)} objects of the sky are on two sides (within "
            f"{SAME_OBJECT_ARCSEC:g} arcsec), {wanted[np.isin(sky, torn)][0]} among them. "
            "Split the store again."
        )
    if split.meta.get("scheme") == "grouped":
        by = str(split.meta.get("by"))
        if by not in BY:
            raise IntegrityError(f"Split: grouped by {by!r}, which is neither field nor run.")
        names, group = np.unique(_group_names(rows, by), return_inverse=True)
        torn = _torn(group, sides)
        if len(torn):
            raise IntegrityError(
                f"Split: {len(torn)} {by}s are on two sides, {names[torn[0]]} among them. "
                "Split the store again."
            )


def _torn(group: NDArray[np.int64], sides: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the groups that are on more than one side."""
    pairs = np.unique(np.stack([group, np.unique(sides, return_inverse=True)[1]], axis=1), axis=0)
    found, count = np.unique(pairs[:, 0], return_counts=True)
    return np.asarray(found[count > 1])


@dataclass(frozen=True)
class Balanced:
    """A catalogue whose classes are about equal, and the runs that each class was taken from."""

    catalog: Table  # the rows that were kept, in their order
    runs: dict[str, tuple[int, ...]]  # by class, in the order in which runs were asked for


def balance_by_run(catalog: Table, runs: Sequence[int]) -> Balanced:
    """Keep all quasars, and galaxies and stars of the first runs until there are as many.

    The paper took galaxies from its first 8 runs (11,512) and stars from its first 11 (10,206)
    beside 10,038 quasars of all 16: each time the fewest runs that reach the quasars' number. It
    does not print its rule; this one agrees with its counts.
    """
    tables.require_columns(catalog, ("class", "run"), "catalogue")
    if len(set(runs)) != len(runs):
        raise UsageError(f"Runs {', '.join(map(str, runs))}: name each run once.")
    classes = np.asarray(catalog["class"]).astype(str)
    of_run = np.asarray(catalog["run"])
    counts = {
        name: np.array([int(((of_run == run) & (classes == name)).sum()) for run in runs])
        for name in labels.CLASSES
    }
    for name, count in counts.items():
        if not count.sum():
            raise UsageError(f"These {len(runs)} runs hold no {name}. Name more runs.")
    wanted = counts[QSO].sum()
    kept, taken = np.zeros(len(catalog), dtype=bool), {}
    for name, count in counts.items():
        enough = np.flatnonzero(np.cumsum(count) >= wanted)
        first = len(runs) if name == QSO or not len(enough) else int(enough[0]) + 1
        taken[name] = tuple(runs[:first])
        kept |= (classes == name) & np.isin(of_run, taken[name])
    return Balanced(catalog[kept], taken)
