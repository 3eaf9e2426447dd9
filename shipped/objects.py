"""Which real objects there are, and on which side each is: before anything is drawn or trained.

The spectroscopic table, the DR5 quasars and the quasars with cutouts hold many objects twice, so
all are matched to each other within 1.5 arcsec first. Whole runs go to one side; an object takes
the strictest side of any of its entries (test before validation before train), and so do the
DR5 quasars, which carry no run of their own. The objects with spectra in the real frames are
never learned from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table, vstack

from gqs import tables
from gqs.cutouts.sky_groups import sky_groups
from gqs.cutouts.split import SIDES, assign_groups
from gqs.labels import CLASSES, QSO
from gqs.surveys.sdss import BANDS

SEED: Final = 2026
FRACTIONS: Final = (0.68, 0.10, 0.22)  # the rarest class, quasars, must leave 2,560 for the test
FOLDS: Final = 5  # of the quasars with cutouts, by run
MATCH_ARCSEC: Final = 1.5
NO_RUN: Final = -1
_NAME = re.compile(r"(\d{2})(\d{2})(\d{2}\.\d+)([+-])(\d{2})(\d{2})(\d{2}\.?\d*)")


def gather(data: Path) -> Table:
    """Read all catalogues and give every entry its side.

    Parameters
    ----------
    data : Path
        Folder of real data.

    Returns
    -------
    Table
        `source` (spectroscopic, dr5, cutout, frame), `row` in it, `ra dec class redshift u g r i
        z run side fold object`: fold is -1 but for quasars with cutouts.
    """
    parts = [_spectroscopic(data), _dr5(data), _cutouts(data), _frames(data)]
    every = vstack(parts, metadata_conflicts="silent")
    every["object"] = sky_groups(every["ra"], every["dec"], MATCH_ARCSEC)
    every["side"] = _sides(every)
    every["fold"] = _folds(every)
    return every


def _sides(every: Table) -> np.ndarray:
    run, source = np.asarray(every["run"]), np.asarray(every["source"])
    kinds = [*CLASSES, "cutout"]
    kind = np.array([kinds.index(name) for name in every["class"]])
    kind[source == "cutout"] = kinds.index("cutout")
    side = np.zeros(len(every), dtype=int)
    known = run != NO_RUN
    _, unit = np.unique(run[known], return_inverse=True)
    rng = np.random.default_rng(SEED)
    side[known] = assign_groups(kind[known], unit, FRACTIONS, rng)
    free = np.flatnonzero(~known)
    side[free] = rng.choice(len(SIDES), len(free), p=FRACTIONS)
    side[source == "frame"] = SIDES.index("test")
    strictest = np.zeros(int(every["object"].max()) + 1, dtype=int)
    np.maximum.at(strictest, every["object"], side)
    return np.array(SIDES)[strictest[every["object"]]]


def _folds(every: Table) -> np.ndarray:
    fold = np.full(len(every), -1)
    chosen = np.flatnonzero(every["source"] == "cutout")
    runs = np.unique(every["run"][chosen])
    size = np.array([(every["run"][chosen] == run).sum() for run in runs])
    held = np.zeros(FOLDS, dtype=int)
    for run in runs[np.argsort(-size)]:  # the largest first, each into the emptiest fold
        rows = chosen[every["run"][chosen] == run]
        fold[rows] = held.argmin()
        held[held.argmin()] += len(rows)
    return fold


def _entries(table: Table, source: str, **columns: np.ndarray) -> Table:
    entries = Table({"source": np.full(len(table), source, dtype="U16")})
    entries["row"] = np.arange(len(table))
    for name in ("ra", "dec", "class", "redshift", *BANDS, "run"):
        value = columns.get(name)
        entries[name] = np.asarray(table[name] if value is None else value)
    entries["class"] = entries["class"].astype("U6")
    entries["run"] = entries["run"].astype(int)
    return entries


def _spectroscopic(data: Path) -> Table:
    return _entries(tables.read(data / "catalogs/sdss_spectro_photometry.csv.gz"), "spectroscopic")


def _dr5(data: Path) -> Table:
    table = tables.read(data / "catalogs/dr5_quasars.csv.gz")
    ra, dec = np.array([_position(str(name)) for name in table["SDSS"]]).T
    magnitudes = {band: table[f"{band}_mag"] for band in BANDS}
    run, names = np.full(len(table), NO_RUN), np.full(len(table), QSO)
    return _entries(
        table, "dr5", ra=ra, dec=dec, redshift=table["z"], run=run, **magnitudes, **{"class": names}
    )


def _position(name: str) -> tuple[float, float]:
    """Degrees from hhmmss.ss+ddmmss.s."""
    found = _NAME.match(name)
    assert found, name
    h, m, s, sign, deg, arcmin, arcsec = found.groups()
    dec = int(deg) + int(arcmin) / 60 + float(arcsec) / 3600
    return 15 * (int(h) + int(m) / 60 + float(s) / 3600), -dec if sign == "-" else dec


def _cutouts(data: Path) -> Table:
    table = tables.read(data / "cutouts/quasars.csv")
    return _entries(table, "cutout", **{"class": np.full(len(table), QSO)})


def _frames(data: Path) -> Table:
    table = tables.read(data / "catalogs/spectroscopic_in_frames.csv")
    unknown = {band: np.full(len(table), np.nan) for band in BANDS}
    return _entries(table, "frame", **unknown)
