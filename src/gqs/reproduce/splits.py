"""Splits of a reproduction, of all objects of a store or a part of them; saved once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels
from gqs.cutouts.split import SCHEMES, check_split, load, make_split, save, split_store
from gqs.cutouts.store import CutoutStore
from gqs.errors import UsageError

FOLDER: Final = "splits"


def open_split(
    store: CutoutStore, out: Path, scheme: str, by: str, seed: int, limit: int | None
) -> Table:
    """Saved split of a store, which is made and saved if there is none yet."""
    path = out / FOLDER / f"{scheme}.parquet"
    require_scheme(scheme)
    saved = load(path) if path.exists() else None
    if saved is not None and saved.meta.get("limit") != limit:
        raise UsageError(
            f"{path}: is a split of {_objects(saved.meta.get('limit'))}, not of {_objects(limit)}. "
            "Choose another --out, or the same --limit."
        )
    if limit is None:
        return split_store(store, path, scheme, by, seed)
    if saved is None:
        split = make_split(store.index[_draw(store.index, limit, seed)], scheme, by, seed)
        split.meta["limit"] = limit
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


def require_scheme(scheme: str) -> None:
    """Refuse the name of an unknown split."""
    if scheme not in SCHEMES:
        raise UsageError(f"Unknown split {scheme!r}. Splits are {' and '.join(SCHEMES)}.")


def _objects(limit: int | None) -> str:
    return "all objects" if limit is None else f"{limit} objects"


def _draw(index: Table, limit: int, seed: int) -> NDArray[np.int64]:
    """Rows of a third of the limit from each class, in the order of the index."""
    rng = np.random.default_rng([seed, limit])
    classes = np.asarray(index["class"]).astype(str)
    each = limit // len(labels.CLASSES)
    rows = {name: np.flatnonzero(classes == name) for name in labels.CLASSES}
    rarest = min(rows, key=lambda name: len(rows[name]))
    if not 1 <= each <= (most := len(rows[rarest])):
        raise UsageError(
            f"--limit {limit} takes {each} of each class, and there are {most} {rarest}. "
            f"Use {len(labels.CLASSES)} to {len(labels.CLASSES) * most}."
        )
    return np.sort(
        np.concatenate([rng.choice(of_class, each, False) for of_class in rows.values()])
    )


def saved_splits(store: CutoutStore, out: Path) -> dict[str, Table]:
    """Saved splits of this store, by scheme."""
    splits = {}
    for scheme in SCHEMES:
        path = out / FOLDER / f"{scheme}.parquet"
        if path.exists() and (split := load(path)).meta["store"] == store.hash:
            check_split(split, store.index)
            splits[scheme] = split
    return splits
