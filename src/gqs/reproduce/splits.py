"""The splits that everything is trained and judged on: saved once, of all objects or of some."""

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
    """Return a split of a store, or make and save it."""
    path = out / FOLDER / f"{scheme}.parquet"
    require_scheme(scheme)
    there = load(path) if path.exists() else None
    if there is not None and there.meta.get("limit") != limit:
        raise UsageError(
            f"{path}: is a split of {_told(there.meta.get('limit'))}, {_told(limit)} asked for. "
            "Name another --out, or ask for the same --limit."
        )
    if limit is None:
        return split_store(store, path, scheme, by, seed)
    if there is None:
        some = store.index[_drawn(store.index, limit, seed)]
        there = make_split(some, scheme, by, seed)
        there.meta["limit"] = limit
        check_split(there, store.index)
        save(there, path)
        return there
    asked = {"scheme": scheme, "by": by if scheme == "grouped" else "object", "seed": seed}
    asked["store"] = store.hash
    changed = [key for key, value in asked.items() if there.meta[key] != value]
    if changed:
        raise UsageError(
            f"{path}: is a split with another {' and '.join(changed)}. Name another --out."
        )
    check_split(there, store.index)
    return there


def require_scheme(scheme: str) -> None:
    """Refuse the name of a split that there is not."""
    if scheme not in SCHEMES:
        raise UsageError(f"Unknown split {scheme!r}. Splits are {' and '.join(SCHEMES)}.")


def _told(limit: int | None) -> str:
    return "all objects" if limit is None else f"{limit} objects"


def _drawn(index: Table, limit: int, seed: int) -> NDArray[np.int64]:
    """Draw a third of the limit from each class, in the order of the index."""
    rng = np.random.default_rng([seed, limit])
    classes = np.asarray(index["class"]).astype(str)
    each = limit // len(labels.CLASSES)
    rows = {name: np.flatnonzero(classes == name) for name in labels.CLASSES}
    rarest = min(rows, key=lambda name: len(rows[name]))
    if not 1 <= each <= (most := len(rows[rarest])):
        raise UsageError(
            f"--limit {limit} takes {each} of each class, and there are {most} {rarest}. "
            f"Ask for {len(labels.CLASSES)} to {len(labels.CLASSES) * most}."
        )
    return np.sort(np.concatenate([rng.choice(some, each, False) for some in rows.values()]))


def saved_splits(store: CutoutStore, out: Path) -> dict[str, Table]:
    """Return the splits that were saved before, those of the store alone."""
    found = {}
    for scheme in SCHEMES:
        path = out / FOLDER / f"{scheme}.parquet"
        if path.exists() and (split := load(path)).meta["store"] == store.hash:
            check_split(split, store.index)
            found[scheme] = split
    return found
