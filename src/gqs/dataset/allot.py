"""Who goes to which side: units that must stay whole, and shares that are to be met."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_EXHAUSTIVE: Final = 8  # units up to which every allotment is looked at: 3^8 = 6,561
_STARTS: Final = 4
_EMPTY: Final = 100.0  # price of a side that lacks a class; a misfit of 100 % costs 10 to 20


def allot_at_random(
    kind: Counts, unit: Counts, fractions: Sequence[float], rng: np.random.Generator
) -> Counts:
    """Allot units at random so that every class has its share on every side. Paper, Table 3.

    Every side but the first gets its fraction of each class rounded up, which is what Table 3
    shows (11512 galaxies: 9208, 1152, 1152); exact as long as nearly all units are single objects.

    Parameters
    ----------
    kind : ndarray
        (n,) class numbers.
    unit : ndarray
        (n,) numbers of units that stay together.
    fractions : sequence of float
        Share of each side; the first gets what is left.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    ndarray
        (n,) side numbers.
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


def allot_groups(
    kind: Counts, unit: Counts, fractions: Sequence[float], rng: np.random.Generator
) -> Counts:
    """Allot whole groups so that every class comes as near to its shares as groups allow.

    The price of an allotment is the sum over sides and classes of (count - share)^2 / share,
    each class counting alike, and much more where a side lacks a class. Few groups are tried in
    every way; many are laid down from the largest, each where it lowers the price most, and then
    moved and exchanged until nothing improves.

    Parameters
    ----------
    kind : ndarray
        (n,) class numbers.
    unit : ndarray
        (n,) group numbers.
    fractions : sequence of float
        Share of each side.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    ndarray
        (n,) side numbers.
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
        best = every[int(_price(held, wanted).argmin())]
    else:
        tries = [_laid_down(shares[units], wanted, rng) for _ in range(_STARTS)]
        best = min(tries, key=lambda found: found[0])[1]
    side_of = np.empty(len(units), dtype=np.int64)
    side_of[units] = best
    return np.asarray(side_of[unit])


def _content(kind: Counts, unit: Counts, classes: int) -> Counts:
    """Count each unit's objects by class, (unit, class)."""
    content = np.zeros((int(unit.max()) + 1, classes), dtype=np.int64)
    np.add.at(content, (unit, kind), 1)
    return content


def _price(held: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Price allotments whose sides hold the shares (..., side, class)."""
    misfit = ((held - wanted) ** 2 / wanted).sum(axis=(-2, -1))
    return np.asarray(misfit + _EMPTY * (held < 1e-12).sum(axis=(-2, -1)))


def _laid_down(
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
    price = float(_price(held, wanted))
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
        after = float(_price(changed, wanted))
        if after < price - 1e-12:
            if not move:
                side[b] = side[a]
            side[a], held, price, stale = target, changed, after, 0
        else:
            stale += 1
    return price, side


def _gap(held: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Price unfinished allotments: what is over a side's share, and what it still lacks."""
    return np.asarray(((held - wanted) ** 2 / wanted).sum(axis=(-2, -1)))
