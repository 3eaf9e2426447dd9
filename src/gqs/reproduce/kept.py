"""Results without images and weights: all that the tables need, small enough for a repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table

from gqs import labels, tables
from gqs.cutouts.split import split_hash
from gqs.cutouts.store import CutoutStore, Objects
from gqs.errors import IntegrityError, UsageError
from gqs.files import write_bytes
from gqs.model.folder import CARD
from gqs.reproduce.plan import MODELS
from gqs.reproduce.predictions import BASELINES, COST, PREDICTIONS
from gqs.reproduce.splits import FOLDER as SPLITS
from gqs.reproduce.splits import saved_splits
from gqs.surveys.sdss import BANDS
from gqs.training.result import HISTORY

OBJECTS: Final = "objects.parquet"
FORMAT: Final = 1
_COLUMNS: Final = ("objid", "ra", "dec", *tables.FIELD_COLUMNS, "class", *BANDS, "redshift", "type")
_PREDICTED: Final = ("objid", *tables.FIELD_COLUMNS, *labels.PROBABILITY_COLUMNS, "class", "flags")


@dataclass(frozen=True)
class KeptResults:
    """Objects, splits, predictions and histories of finished trainings.

    It stands in for the store where only the objects are needed. Trainings of several machines can
    be kept together: the objects and splits are the same; the images may differ by rounding, so
    that each machine's store has a hash of its own.
    """

    path: Path
    index: Table  # as a store's
    hashes: tuple[str, ...]  # of the stores that the networks were trained on
    form: str
    bands: str
    manifest: Mapping[str, Any]  # how the store was made

    @property
    def hash(self) -> str:
        """Hash of the first store."""
        return self.hashes[0]

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def open(cls, path: Path) -> KeptResults:
        """Read the objects of a folder that `keep` wrote."""
        index = tables.read(path / OBJECTS)
        facts = index.meta.get("kept")
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise IntegrityError(
                f"{path / OBJECTS}: was not written by gqs reproduce --keep of this version. "
                "Keep the results again."
            )
        return cls(
            path,
            index,
            tuple(facts["stores"]),
            facts["form"],
            facts["bands"],
            {"made": facts["made"]},
        )


def open_objects(path: Path) -> Objects:
    """A store, or the results that were kept of one."""
    return KeptResults.open(path) if (path / OBJECTS).is_file() else CutoutStore.open(path)


def keep(store: CutoutStore, out: Path, folder: Path) -> int:
    """Copy what the tables need of the finished trainings; returns how many trainings were copied.

    Trainings that the folder holds already stay, if they are of the same objects and splits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hashes = _hashes_with(store, out, folder)
    columns = [name for name in _COLUMNS if name in store.index.colnames]
    index = store.index[columns]
    index.meta = {
        "kept": {
            "format": FORMAT,
            "stores": hashes,
            "form": store.form,
            "bands": store.bands,
            "made": dict(store.manifest.get("made", {})),
        }
    }
    if not (folder / OBJECTS).is_file() or hashes != list(KeptResults.open(folder).hashes):
        tables.write(index, folder / OBJECTS)
    for path in sorted(out.glob(f"{SPLITS}/*.parquet")):
        if not (kept := folder / path.relative_to(out)).exists():
            _copy(path, kept)
    for path in sorted(out.glob(f"{BASELINES}/*/*.parquet")):
        if not (kept := folder / path.relative_to(out)).exists():
            _shorten(path, kept)
    finished = [card.parent for card in sorted((out / MODELS).glob(f"*/*/seed-*/{CARD}"))]
    finished = [path for path in finished if (path / PREDICTIONS).is_file()]
    for path in finished:
        kept = folder / path.relative_to(out)
        _shorten(path / PREDICTIONS, kept / PREDICTIONS)
        for name in (HISTORY, COST, CARD):  # the card last: it marks a whole training
            if (path / name).is_file():
                _copy(path / name, kept / name)
    return len(finished)


def _hashes_with(store: CutoutStore, out: Path, folder: Path) -> list[str]:
    """Hashes of the stores that a folder's trainings are of, this one among them."""
    if not (folder / OBJECTS).is_file():
        return [store.hash]
    kept = KeptResults.open(folder)
    same = all(
        len(kept) == len(store) and np.array_equal(kept.index[name], store.index[name])
        for name in ("objid", "class")
    )
    before, now = saved_splits(kept, folder), saved_splits(store, out)
    same &= all(split_hash(before[name]) == split_hash(now[name]) for name in before if name in now)
    if not same:
        raise UsageError(
            f"{folder}: holds results of other objects or another split. Choose another folder, "
            "or use the same catalogue, seed and limits."
        )
    return list(dict.fromkeys([*kept.hashes, store.hash]))


def _shorten(source: Path, target: Path) -> None:
    """Copy predictions, without the columns that the tables do not need."""
    target.parent.mkdir(parents=True, exist_ok=True)
    predictions = tables.read(source)
    names = [name for name in _PREDICTED if name in predictions.colnames]
    tables.write(predictions[names], target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, source.read_bytes())
