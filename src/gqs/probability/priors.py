"""Class priors: densities of galaxies, quasars and stars by magnitude and position.

A prior is `sky`, `balanced`, or a user's table; `training` stands for none, the class fractions of
the training set. It is applied to a finished predictions table, so that one classification can be
reweighted with several priors.
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
from gqs.probability.label_shift import ClassFractions, reweight
from gqs.probability.star_counts import LOWEST, star_density
from gqs.simulation.distributions import read_table
from gqs.tables import Flag, float_column

Array = NDArray[np.float64]

SKY: Final = "sky"
BALANCED: Final = "balanced"
TRAINING: Final = "training"  # no prior: the class fractions of the training set
NAMES: Final = (SKY, BALANCED, TRAINING)
# SDSS targeted no quasar brighter than i = 15 (Richards et al. 2002, AJ 123, 2945, section 3), so
# the published counts, and the objects that models learn from, hold none.
BRIGHTEST_QSO: Final = 15.0  # r magnitude
COLUMNS: Final = ("r", *(name.lower() for name in labels.CLASSES))
PLACES: Final = 64  # positions over which the sky is averaged
FAINTEST: Final = 40.0  # largest |r| of a magnitude
_MOST_NAMED: Final = 3  # bad rows named in a message
_ROUNDED: Final = 1e-3  # largest deviation of a row of fractions from 1
_NEAR: Final = 0.05  # of 1 or 100, within which fractions or percentages are assumed
_EMPTY: Final = 2.0  # sources per square degree and magnitude
_LEAST: Final = 1e-9  # fraction used for none, so that its logarithm is finite


@dataclass(frozen=True)
class Prior:
    """Densities of galaxies, quasars and stars by r magnitude and place.

    Attributes
    ----------
    name : str
        `sky`, `balanced`, or the file's name.
    about : str
        Source of its numbers, for the catalogue's metadata.
    absolute : bool
        Whether densities are sources per square degree and magnitude, or only class fractions.
    by_magnitude : bool
        Whether densities depend on magnitude.
    density : callable
        (r, ra, dec), each (n,), to (n, 3) in the order of `labels.CLASSES`; NaN where r is NaN.
    """

    name: str
    about: str
    absolute: bool
    by_magnitude: bool
    density: Callable[[Array, Array, Array], Array]

    def around(self, ra: Array, dec: Array) -> Callable[[Array], Array]:
        """The prior averaged over positions."""
        good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        some = good[np.linspace(0, len(good) - 1, min(len(good), PLACES)).astype(int)]

        def mean(r: Array) -> Array:
            found = [self.density(r, np.full(len(r), ra[i]), np.full(len(r), dec[i])) for i in some]
            return np.mean(found, axis=0) if found else np.full((len(r), len(labels.CLASSES)), 1.0)

        return mean


def find_prior(name: str | Path) -> Prior:
    """Find a prior by name, or read it from a file.

    Parameters
    ----------
    name : str or Path
        `balanced` (equal numbers at every magnitude), `sky` (published counts), or a
        table (.csv, .ecsv, .parquet, .fits, .vot) with columns r, galaxy, qso, star in any
        case: sources per square degree and magnitude or, if every row sums to 1, fractions.

    Returns
    -------
    Prior
        The prior.

    Raises
    ------
    UsageError
        If there is no such file, its rows are not densities, or it is ambiguous,
        such as percentages; the message names the rows.
    BadInputError
        If the file is not a table.
    """
    if str(name) == BALANCED:
        even = "as many galaxies, quasars and stars at every magnitude"
        return Prior(BALANCED, even, False, False, _balanced)
    if str(name) == SKY:
        return Prior(SKY, _sky_sources(), True, True, _sky)
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"Prior {str(name)!r}: is none of {', '.join(NAMES)}, and there is no such file. "
            f"A file needs the columns {', '.join(COLUMNS)}."
        )
    return _from_file(path)


def choose_prior(name: Prior | str | Path | None, default: str) -> Prior | None:
    """A prior by name or file, or the default if none is named; None for `training`."""
    chosen = default if name is None else name
    if isinstance(chosen, Prior):
        return chosen
    return None if str(chosen) == TRAINING else find_prior(chosen)


def with_prior(predictions: Table, prior: Prior, learned: ClassFractions, model: object) -> Table:
    """Predictions with the probabilities for a prior instead of the training set's class fractions.

    The class follows the probabilities. Columns `p_*_balanced` have those for equal numbers of all
    classes, so that the evidence of the pixels alone is kept. An object without r magnitude keeps
    its probabilities and gets the flag NO_PRIOR. With the prior `sky` no saturated object is a QSO:
    its colours are not measured, and quasars that bright are the rarest of sources.
    """
    if "prior" in predictions.meta:
        raise UsageError(
            f"The predictions are for the prior {predictions.meta['prior']!r} already. Classify "
            "again without a prior first."
        )
    require_magnitudes(prior, learned, model)
    found = predictions.copy()
    mag_r = float_column(found, "mag_r")
    before = np.stack([float_column(found, name) for name in labels.PROBABILITY_COLUMNS], axis=1)
    judged = np.asarray(np.isfinite(before).all(axis=1))
    wanted, flags = densities(prior, found), np.asarray(found["flags"], dtype=np.int32)
    ratio = learned.at(mag_r)
    after = reweight(before, wanted, ratio)
    balanced = reweight(before, np.ones_like(before), ratio)
    for i, name in enumerate(labels.PROBABILITY_COLUMNS):
        found[name] = after[:, i]
    at = found.colnames.index(labels.PROBABILITY_COLUMNS[-1]) + 1
    names = [f"{name}_balanced" for name in labels.PROBABILITY_COLUMNS]
    found.add_columns(list(balanced.T), indexes=[at] * len(names), names=names)
    top = np.where(judged[:, None], after, 0).argmax(axis=1)
    best = np.array(labels.CLASSES)[top]
    found["class"] = np.where(judged, best, "").astype("U6")
    missed = np.asarray(judged & ~np.isfinite(wanted * ratio).all(axis=1))
    found["flags"] = np.where(missed, flags | int(Flag.NO_PRIOR), flags).astype(np.int32)
    found.meta["prior"], found.meta["prior_source"] = prior.name, prior.about
    return found


def densities(prior: Prior, predictions: Table) -> Array:
    """The prior's densities for each row, (n, 3); at the prior `sky` 0 for a saturated QSO."""
    r, ra, dec = (float_column(predictions, name) for name in ("mag_r", "ra", "dec"))
    found = prior.density(r, ra, dec)
    if prior.name == SKY:
        saturated = (np.asarray(predictions["flags"]) & int(Flag.SATURATED)) > 0
        found[saturated, labels.index(labels.QSO)] = 0.0
    return found


def holds_for(prior: Prior | None) -> str:
    """A sentence on the class fractions that probabilities are valid for."""
    if prior is None:
        return (
            "Probabilities hold for the mix of classes that the model learned from: on an "
            "ordinary sky few faint QSO are (--prior sky)."
        )
    about = prior.about
    if prior.name == SKY:
        about = "published counts by r magnitude, of stars by galactic latitude too"
    return f"Probabilities hold for the prior {prior.name}: {about}."


def require_magnitudes(prior: Prior, learned: ClassFractions, model: object) -> None:
    """Refuse a prior by magnitude for a model that measures no magnitudes."""
    if prior.by_magnitude and not learned.by_magnitude:
        raise UsageError(
            f"{model}: was trained on pictures without magnitudes, so a prior by magnitude such as "
            f"{prior.name!r} cannot be applied. Use balanced, or a model of the form flux."
        )


def require_counts(prior: Prior | None, what: str) -> Prior:
    """Refuse a prior without number densities."""
    if prior is not None and prior.absolute:
        return prior
    table = "a table of sources a square degree and magnitude"
    needs = f"{what} needs to know how many of each class the sky holds"
    if prior is None:
        raise UsageError(f"{needs}. Use --prior sky, or {table}.")
    raise UsageError(
        f"{needs}, and the prior {prior.name} has fractions only. Use --prior sky, or {table}, "
        "with the columns r, galaxy, qso and star, as docs/probabilities.md shows one."
    )


def near_plane(ra: Array, dec: Array) -> int:
    """Number of positions too close to the galactic plane for the prior `sky`."""
    known = np.isfinite(ra) & np.isfinite(dec)
    place = SkyCoord(ra[known] * units.deg, dec[known] * units.deg).galactic
    return int((np.abs(place.b.deg) < LOWEST).sum())


def _balanced(r: Array, ra: Array, dec: Array) -> Array:
    return np.ones((len(r), len(labels.CLASSES)))


def _sky(r: Array, ra: Array, dec: Array) -> Array:
    """Galaxies and quasars are uniform; stars depend on galactic coordinates."""
    counts = read_table("counts")
    found = np.stack([10 ** _straight(r, counts["r"], counts[name]) for name in COLUMNS[1:]], 1)
    place = SkyCoord(np.nan_to_num(ra) * units.deg, np.nan_to_num(dec) * units.deg).galactic
    found[:, labels.index(labels.STAR)] = star_density(r, place.l.deg, place.b.deg)
    with np.errstate(invalid="ignore"):
        found[r < BRIGHTEST_QSO, labels.index(labels.QSO)] = 0.0
    found[~(np.isfinite(ra) & np.isfinite(dec))] = np.nan
    return found


def _straight(r: Array, at: object, values: object) -> Array:
    """Interpolate linearly, and extrapolate with the slope at the ends."""
    x, y = np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64)
    low = y[0] + (r - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
    high = y[-1] + (r - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.where(r < x[0], low, np.where(r > x[-1], high, np.interp(r, x, y)))


def _sky_sources() -> str:
    meta = read_table("counts").meta
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
        reasons = "; ".join(bad[:_MOST_NAMED]) or "it has no rows"
        more = f"; and {len(bad) - _MOST_NAMED} more rows" if len(bad) > _MOST_NAMED else ""
        raise UsageError(f"{path}: is not a prior: {reasons}{more}. Correct the file.")
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
    """The columns by name, in any case."""
    for name in COLUMNS:
        alike = [one for one in table.colnames if one.strip().lower() == name]
        if len(alike) > 1:
            raise UsageError(f"{path}: has the columns {' and '.join(alike)}. Keep one of them.")
        if alike:
            table.rename_column(alike[0], name)
    if len(table.colnames) == 1 and set(COLUMNS) <= set(
        re.split(r"\W+", table.colnames[0].lower())
    ):
        raise UsageError(
            f"{path}: its columns are not separated by commas. Write r,galaxy,qso,star."
        )
    tables.require_columns(table, COLUMNS, path)
    return table


def _are_shares(total: Array, path: Path) -> bool:
    """Whether rows are fractions instead of densities, from their sums; refuse ambiguous ones.

    No sky is as empty as 2 sources per square degree and magnitude at all magnitudes, and counts
    do not stay within 5 % of 1 or of 100 over most of a file.
    """
    if (np.abs(total - 1) < _ROUNDED).all():
        return True
    for whole, what in ((1.0, "shares"), (100.0, "percentages")):
        near = np.abs(total / whole - 1) < _NEAR
        if near.mean() > 0.5 or (whole == 1 and (total < _EMPTY).all()):
            odd = int(np.abs(total - 1).argmax())
            raise UsageError(
                f"{path}: looks like {what}: row {odd + 1} sums to {total[odd]:g}. Use fractions "
                "of which each row sums to 1, or sources per square degree and magnitude."
            )
    return False


def _reasons(r: Array, density: Array) -> list[str]:
    """Reason why each row is not a density, or an empty text."""
    found = []
    seen: set[float] = set()
    for magnitude, row in zip(r.tolist(), density, strict=True):
        wrong = [
            name
            for name, value in zip(COLUMNS[1:], row.tolist(), strict=True)
            if not (np.isfinite(value) and value >= 0)
        ]
        if not abs(magnitude) <= FAINTEST:
            found.append(f"r = {magnitude} is not a magnitude")
        elif magnitude in seen:
            found.append(f"r = {magnitude:g} is repeated")
        elif wrong:
            found.append(f"{wrong[0]} is not a number of 0 or more")
        elif not row.sum() > 0:
            found.append("all three classes are 0")
        else:
            found.append("")
        seen.add(magnitude)
    return found
