"""Splits of a reproduction, of all objects of a store or a part of them; saved once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels
from gqs.cutouts.split import SCHEMES, check_split, load, make_split, save, split_store
from gqs.cutouts.store import CutoutStore, Objects
from gqs.errors import UsageError
from gqs.reproduce.plan import Options

FOLDER: Final = "splits"


def open_split(store: CutoutStore, out: Path, scheme: str, options: Options) -> Table:
    """Saved split of a store, which is made and saved if there is none yet."""
    path = out / FOLDER / f"{scheme}.parquet"
    require_scheme(scheme)
    by, seed = options.by, options.seed
    sizes = {"limit": options.limit, "train_limit": options.train_limit}
    saved = load(path) if path.exists() else None
    for name, size in sizes.items():
        if saved is not None and saved.meta.get(name) != size:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{path}: is a split with {flag} {saved.meta.get(name) or '(all objects)'}. "
                f"Choose another --out, or the same {flag}."
            )
    if sizes == {"limit": None, "train_limit": None}:
        return split_store(store, path, scheme, by, seed)
    if saved is None:
        index = store.index
        if options.limit is not None:
            index = index[_draw(index, options.limit, seed, "--limit")]
        split = make_split(index, scheme, by, seed)
        if options.train_limit is not None:
            split = _thin_training_side(split, index, options.train_limit, seed)
        split.meta |= {name: size for name, size in sizes.items() if size is not None}
        check_split(split, store.index)
        save(split, path)
        return split
    asked = {"scheme": scheme, "by": by if scheme == "grouped" else "object", "seed": seed}
    asked["store"] = store.hash
    changed = [key for key, value in asked.items() if saved.meta[key] != value]
    if changed:
        raise UsageError(
            f"{path}: is a split with another {' and '.join(changed)}. Choose another --out."
        )
    check_split(saved, store.index)
    return saved


def _thin_training_side(split: Table, index: Table, limit: int, seed: int) -> Table:
    """Keep so many training objects, a third of each class; the other sides stay whole."""
    sides = np.asarray(split["split"]).astype(str)
    training = np.flatnonzero(sides == "train")
    order = np.argsort(np.asarray(index["objid"]))
    place = np.searchsorted(np.asarray(index["objid"])[order], split["objid"][training])
    chosen = training[_draw(index[order[place]], limit, seed, "--train-limit")]
    thinned = split[np.sort(np.concatenate([np.flatnonzero(sides != "train"), chosen]))]
    each = limit // len(labels.CLASSES)
    thinned.meta["counts"] = {**split.meta["counts"], "train": dict.fromkeys(labels.CLASSES, each)}
    return thinned


def require_scheme(scheme: str) -> None:
    """Refuse the name of an unknown split."""
    if scheme not in SCHEMES:
        raise UsageError(f"Unknown split {scheme!r}. Splits are {' and '.join(SCHEMES)}.")


def _draw(index: Table, limit: int, seed: int, flag: str) -> NDArray[np.int64]:
    """Rows of a third of the limit from each class, in the order of the index."""
    rng = np.random.default_rng([seed, limit])
    classes = np.asarray(index["class"]).astype(str)
    each = limit // len(labels.CLASSES)
    rows = {name: np.flatnonzero(classes == name) for name in labels.CLASSES}
    rarest = min(rows, key=lambda name: len(rows[name]))
    if not 1 <= each <= (most := len(rows[rarest])):
        raise UsageError(
            f"{flag} {limit} takes {each} of each class, and there are {most} {rarest}. "
            f"Use {len(labels.CLASSES)} to {len(labels.CLASSES) * most}."
        )
    return np.sort(
        np.concatenate([rng.choice(of_class, each, False) for of_class in rows.values()])
    )


def saved_splits(store: Objects, out: Path) -> dict[str, Table]:
    """Saved splits of this store, by scheme."""
    splits = {}
    for scheme in SCHEMES:
        path = out / FOLDER / f"{scheme}.parquet"
        if path.exists() and (split := load(path)).meta["store"] == store.hash:
            check_split(split, store.index)
            splits[scheme] = split
    return splits
