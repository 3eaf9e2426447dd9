"""What the sky holds before anything is looked at: class densities by magnitude and place.

A prior is one of the names `balanced` and `sky`, or a table of one's own. It acts on a finished
Predictions table, so that one classification can be weighed in several ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from gqs import labels, tables
from gqs.errors import UsageError
from gqs.evaluation.matched import numbers
from gqs.probability.label_shift import Shares, reweighed
from gqs.probability.star_counts import LOWEST, star_density
from gqs.simulation.carried import carried
from gqs.tables import Flag

Array = NDArray[np.float64]

NAMES: Final = ("balanced", "sky")
COLUMNS: Final = ("r", *(name.lower() for name in labels.CLASSES))
PLACES: Final = 64  # positions over which the sky is averaged
FAINTEST: Final = 40.0  # |r| beyond which a number is no magnitude
_TELLING: Final = 3  # bad rows named in a refusal
_ROUNDED: Final = 1e-3  # by which a row of shares may miss 1
_NEAR: Final = 0.05  # of 1 or 100, where shares or percentages must have been meant
_EMPTY: Final = 2.0  # sources a square degree and magnitude
_LEAST: Final = 1e-9  # share that stands for none, so that its logarithm is finite


@dataclass(frozen=True)
class Prior:
    """Densities of galaxies, quasars and stars by r magnitude and place.

    Attributes
    ----------
    name : str
        `balanced`, `sky`, or the file's name.
    about : str
        Where its numbers come from, for the catalogue's meta.
    absolute : bool
        Whether they are sources a square degree and magnitude, or only shares at a magnitude.
    by_magnitude : bool
        Whether they depend on the magnitude at all.
    density : callable
        (r, ra, dec), each (n,), to (n, 3) in the order of the labels; NaN where r is.
    """

    name: str
    about: str
    absolute: bool
    by_magnitude: bool
    density: Callable[[Array, Array, Array], Array]

    def around(self, ra: Array, dec: Array) -> Callable[[Array], Array]:
        """Average the prior over some places."""
        good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        some = good[np.linspace(0, len(good) - 1, min(len(good), PLACES)).astype(int)]

        def mean(r: Array) -> Array:
            found = [self.density(r, np.full(len(r), ra[i]), np.full(len(r), dec[i])) for i in some]
            return np.mean(found, axis=0) if found else np.full((len(r), len(labels.CLASSES)), 1.0)

        return mean


def find_prior(name: str | Path) -> Prior:
    """Return a prior by its name, or read it from a file.

    Parameters
    ----------
    name : str or Path
        `balanced` (as many of each class at every magnitude), `sky` (published counts), or a
        table (.csv, .ecsv, .parquet, .fits, .vot) with columns r, galaxy, qso, star, in capitals
        or not: sources a square degree and magnitude or, where every row sums to 1, shares.

    Returns
    -------
    Prior
        Ready to weigh.

    Raises
    ------
    UsageError
        If there is no such file, rows of it are no densities, or it may be one thing or another,
        as percentages may; the sentence names the rows.
    BadInputError
        If the file is no table.
    """
    if str(name) == "balanced":
        even = "as many galaxies, quasars and stars at every magnitude"
        return Prior("balanced", even, False, False, _balanced)
    if str(name) == "sky":
        return Prior("sky", _sky_sources(), True, True, _sky)
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"Prior {str(name)!r}: neither {' nor '.join(NAMES)}, and there is no such file. "
            f"A file has the columns {', '.join(COLUMNS)}."
        )
    return _from_file(path)


def with_prior(predictions: Table, prior: Prior, learned: Shares, model: object) -> Table:
    """Give probabilities for a prior in place of the mix of classes that the model learned from.

    The class follows the probabilities. An object whose r magnitude is not known keeps the
    probabilities of the learned mix, since no prior by magnitude can be right for it, and gets the
    flag NO_PRIOR.
    """
    if "prior" in predictions.meta:
        raise UsageError(
            f"The predictions hold for the prior {predictions.meta['prior']!r} already. Classify "
            "again without a prior, and weigh those."
        )
    require_magnitudes(prior, learned, model)
    found = predictions.copy()
    mag_r = numbers(found, "mag_r")
    before = np.stack([numbers(found, name) for name in labels.PROBABILITY_COLUMNS], axis=1)
    judged = np.asarray(np.isfinite(before).all(axis=1))
    wanted = prior.density(mag_r, numbers(found, "ra"), numbers(found, "dec"))
    ratio = learned.at(mag_r)
    after = reweighed(before, wanted, ratio)
    for i, name in enumerate(labels.PROBABILITY_COLUMNS):
        found[name] = after[:, i]
    top = np.where(judged[:, None], after, 0).argmax(axis=1)
    best = np.array(labels.CLASSES)[top]
    found["class"] = np.where(judged, best, "").astype("U6")
    missed = np.asarray(judged & ~np.isfinite(wanted * ratio).all(axis=1))
    flags = np.asarray(found["flags"], dtype=np.int32)
    found["flags"] = np.where(missed, flags | int(Flag.NO_PRIOR), flags).astype(np.int32)
    found.meta["prior"], found.meta["prior_source"] = prior.name, prior.about
    return found


def holds_for(prior: Prior | None) -> str:
    """Say for which mix of classes probabilities hold."""
    if prior is None:
        return (
            "Probabilities hold for the mix of classes that the model learned from: on an "
            "ordinary sky few faint QSO are (--prior sky)."
        )
    about = prior.about
    if prior.name == "sky":
        about = "published counts by r magnitude, of stars by galactic latitude too"
    return f"Probabilities hold for the prior {prior.name}: {about}."


def require_magnitudes(prior: Prior, learned: Shares, model: object) -> None:
    """Refuse a prior by magnitude for a model that measures none."""
    if prior.by_magnitude and not learned.by_magnitude:
        raise UsageError(
            f"{model}: learned from pictures without magnitudes, so no prior by magnitude, as "
            f"{prior.name!r} is, can be applied. Use balanced, or a model of the form flux."
        )


def require_counts(prior: Prior | None, what: str) -> Prior:
    """Refuse a prior that does not tell how many of each class the sky holds."""
    if prior is not None and prior.absolute:
        return prior
    table = "a table of sources a square degree and magnitude"
    needs = f"{what} needs to know how many of each class the sky holds"
    if prior is None:
        raise UsageError(f"{needs}. Add --prior sky, or {table}.")
    raise UsageError(
        f"{needs}, and the prior {prior.name} holds shares alone. Give --prior sky, or {table}, "
        "with the columns r, galaxy, qso and star, as docs/probabilities.md shows one."
    )


def near_plane(ra: Array, dec: Array) -> int:
    """Count places too near the galactic plane for the star counts of the prior `sky`."""
    known = np.isfinite(ra) & np.isfinite(dec)
    place = SkyCoord(ra[known] * units.deg, dec[known] * units.deg).galactic
    return int((np.abs(place.b.deg) < LOWEST).sum())


def _balanced(r: Array, ra: Array, dec: Array) -> Array:
    return np.ones((len(r), len(labels.CLASSES)))


def _sky(r: Array, ra: Array, dec: Array) -> Array:
    """Galaxies and quasars are alike everywhere; stars go by galactic longitude and latitude."""
    counts = carried("counts")
    found = np.stack([10 ** _straight(r, counts["r"], counts[name]) for name in COLUMNS[1:]], 1)
    place = SkyCoord(np.nan_to_num(ra) * units.deg, np.nan_to_num(dec) * units.deg).galactic
    found[:, labels.index(labels.STAR)] = star_density(r, place.l.deg, place.b.deg)
    found[~(np.isfinite(ra) & np.isfinite(dec))] = np.nan
    return found


def _straight(r: Array, at: object, values: object) -> Array:
    """Interpolate, and go on at the ends as straight as inside."""
    x, y = np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64)
    low = y[0] + (r - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
    high = y[-1] + (r - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.where(r < x[0], low, np.where(r > x[-1], high, np.interp(r, x, y)))


def _sky_sources() -> str:
    meta = carried("counts").meta
    return (
        f"galaxies: {meta['galaxy']}; quasars: {meta['qso']}; stars: Bahcall & Soneira 1980 "
        f"(ApJS 44, 73), eq. B1, V - r = 0.3, below {LOWEST:.0f} degrees of galactic latitude as "
        f"at {LOWEST:.0f}"
    )


def _from_file(path: Path) -> Prior:
    table = _named(tables.read(path), path)
    r, *densities = (tables.as_float(table[name]) for name in COLUMNS)
    density = np.stack(densities, axis=1)
    bad = [f"row {i + 1}: {reason}" for i, reason in enumerate(_reasons(r, density)) if reason]
    if bad or not len(r):
        told = "; ".join(bad[:_TELLING]) or "it has no rows"
        more = f"; and {len(bad) - _TELLING} more rows" if len(bad) > _TELLING else ""
        raise UsageError(f"{path}: is no prior: {told}{more}. Mend the file.")
    shares = _are_shares(density.sum(axis=1), path)
    order = np.argsort(r)
    r, density = r[order], density[order]
    logs = np.log(np.maximum(density, _LEAST * density.sum(axis=1, keepdims=True)))

    def at(mag_r: Array, ra: Array, dec: Array) -> Array:
        columns = [np.interp(mag_r, r, column) for column in logs.T]
        return np.asarray(np.exp(np.stack(columns, axis=1)))

    kind = "shares" if shares else "sources a square degree and magnitude"
    return Prior(path.name, f"{kind} from {path.name}", not shares, True, at)


def _named(table: Table, path: Path) -> Table:
    """Take the columns by their names, whether in capitals or not."""
    for name in COLUMNS:
        alike = [one for one in table.colnames if one.strip().lower() == name]
        if len(alike) > 1:
            raise UsageError(f"{path}: has the columns {' and '.join(alike)}. Keep one of them.")
        if alike:
            table.rename_column(alike[0], name)
    if len(table.colnames) == 1 and set(COLUMNS) <= set(
        re.split(r"\W+", table.colnames[0].lower())
    ):
        raise UsageError(f"{path}: its columns are not parted by commas. Write r,galaxy,qso,star.")
    tables.require_columns(table, COLUMNS, path)
    return table


def _are_shares(total: Array, path: Path) -> bool:
    """Tell shares from densities by what each row sums to; refuse what may be either.

    No sky is as empty as 2 sources a square degree and magnitude at all magnitudes, and counts do
    not stay within 5 % of 1 or of 100 over most of a file.
    """
    if (np.abs(total - 1) < _ROUNDED).all():
        return True
    for whole, what in ((1.0, "shares"), (100.0, "percentages")):
        near = np.abs(total / whole - 1) < _NEAR
        if near.mean() > 0.5 or (whole == 1 and (total < _EMPTY).all()):
            odd = int(np.abs(total - 1).argmax())
            raise UsageError(
                f"{path}: looks like {what}: row {odd + 1} sums to {total[odd]:g}. Give shares "
                "of which each row sums to 1, or sources a square degree and magnitude."
            )
    return False


def _reasons(r: Array, density: Array) -> list[str]:
    """Say for each row why it is no density, or nothing."""
    found = []
    seen: set[float] = set()
    for magnitude, row in zip(r.tolist(), density, strict=True):
        wrong = [
            name
            for name, value in zip(COLUMNS[1:], row.tolist(), strict=True)
            if not (np.isfinite(value) and value >= 0)
        ]
        if not abs(magnitude) <= FAINTEST:
            found.append(f"r = {magnitude} is no magnitude")
        elif magnitude in seen:
            found.append(f"r = {magnitude:g} comes twice")
        elif wrong:
            found.append(f"{wrong[0]} is not a number of 0 or more")
        elif not row.sum() > 0:
            found.append("all three classes are 0")
        else:
            found.append("")
        seen.add(magnitude)
    return found
