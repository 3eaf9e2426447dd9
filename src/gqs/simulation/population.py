"""Source populations of the simulated sky: classes, magnitudes, colours, redshifts and shapes.

Tables contain true magnitudes (AB, Pogson, with the Galaxy's extinction); noise is added when the
sources are rendered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import UsageError
from gqs.labels import GALAXY, QSO, STAR
from gqs.simulation.distributions import read_mixture, read_table
from gqs.simulation.galaxies import galaxy_shapes, quasar_hosts
from gqs.surveys import sdss

Floats = NDArray[np.float64]

BRIGHT: Final = 13.1  # r magnitudes between which sources belong to the catalogue (paper 3.1)
FAINT: Final = 23.2
_SKY_LIMITS: Final = (10.5, 24.0)  # brighter stars are rarer than one in 50 fields
_DIMMEST: Final = 28.0  # magnitude of a band without measurable flux
_REDDEST_UG: Final = 2.8  # no old population is redder (Eisenstein et al. 2001, AJ 122, 2267)
_SHAPE_COLUMNS: Final = ("bulge_fraction", "bulge_radius", "disc_radius", "axis_ratio", "angle")
_FIELD_DEG2: Final = 2048 * 1489 * (sdss.PIXEL_SCALE / 3600) ** 2  # 0.0369, a whole frame


@dataclass(frozen=True)
class Mix:
    """Densities of the simulated sources."""

    galaxies: float = 1.0  # factors on the observed number counts
    quasars: float = 1.0
    stars: float = 1.0
    # sources per square degree added in each class, with the magnitudes of `draw`
    enriched: float = 0.0
    # fraction of the added stars and galaxies with colours of the sky; the others have those of
    # spectroscopic targets
    like_sky: float = 0.5
    # whether the sky's sources are in the catalogue, or only the added ones
    catalogue_sky: bool = True

    def __post_init__(self) -> None:
        densities = (self.galaxies, self.quasars, self.stars, self.enriched)
        if not all(np.isfinite(value) and value >= 0 for value in densities):
            raise UsageError(f"Densities {densities}: give numbers that are not negative.")
        if not 0 <= self.like_sky <= 1:
            raise UsageError(f"like_sky is {self.like_sky}: give a fraction between 0 and 1.")

    @classmethod
    def as_is(cls) -> Mix:
        """The sky at a middle galactic latitude: 1 quasar per field to r = 20.5."""
        return cls()

    @classmethod
    def enriched_with(cls, per_field: int = 300) -> Mix:
        """A mix with quasars, stars and galaxies in about equal numbers, for training."""
        half = 0.5
        return cls(half, half, half, enriched=per_field / _FIELD_DEG2, catalogue_sky=False)


def sky(area_deg2: float, rng: np.random.Generator, mix: Mix | None = None) -> Table:
    """Draw all sources of an area to r = 24. Number counts: table `counts.ecsv`."""
    if not (np.isfinite(area_deg2) and area_deg2 >= 0):
        raise UsageError(f"An area of {area_deg2} square degrees: give one that is not negative.")
    mix = mix or Mix.as_is()
    factor = {GALAXY: mix.galaxies, QSO: mix.quasars, STAR: mix.stars}
    parts = []
    for name in labels.CLASSES:
        expected, r = _counted(name, rng)
        n = rng.poisson(expected * area_deg2 * factor[name])
        parts.append(_sky_sources(name, r(n), rng))
        parts[-1]["in_catalog"] &= mix.catalogue_sky
    if mix.enriched:
        parts += _added(mix, rng.poisson(mix.enriched * area_deg2, 3), rng)
    return _shuffled(parts, rng)


def _added(mix: Mix, counts: NDArray[np.int64], rng: np.random.Generator) -> list[Table]:
    """Draw the additional galaxies, quasars and stars of an enriched sky."""
    targets = dict(zip(labels.CLASSES, counts.tolist(), strict=True))
    parts = []
    for name in (GALAXY, STAR):
        like_sky = int(rng.binomial(targets[name], mix.like_sky))
        parts.append(_sky_sources(name, _drawn_magnitudes(name, like_sky, rng), rng))
        targets[name] -= like_sky
    return [*parts, draw(targets, rng)]


def draw(
    counts: dict[str, int],
    rng: np.random.Generator,
    *,
    faint_alike: bool = True,
    like_sky: bool = False,
) -> Table:
    """Draw a number of sources of each class, distributed as in a spectroscopic survey."""
    parts = []
    for name, n in counts.items():
        if name not in labels.CLASSES:
            classes = ", ".join(labels.CLASSES)
            raise UsageError(f"Unknown class {name!r}. The classes are {classes}.")
        if n < 0:
            raise UsageError(f"{n} sources of class {name}: give a number that is not negative.")
        r = _drawn_magnitudes(name, n, rng, faint_alike)
        if like_sky:
            parts.append(_sky_sources(name, r, rng))
            continue
        known = {"r": _asinh(r)}
        values = read_mixture(f"spectroscopic_{name.lower()}").draw_given(known, rng)
        parts.append(_sources(name, *_unfolded(name, values), rng))
    return _shuffled(parts, rng)


def from_catalog(table: Table, rng: np.random.Generator) -> tuple[Table, list[str]]:
    """Sources with the classes and magnitudes of a catalogue; only their shapes are drawn."""
    missing = [name for name in ("class", *sdss.BANDS) if name not in table.colnames]
    if missing:
        raise UsageError(
            f"The photometry has no column {', '.join(missing)}. It needs class, u, g, r, i, z."
        )
    names = np.asarray(table["class"]).astype(str).tolist()
    asinh = np.stack([_plain(table[band]) for band in sdss.BANDS], axis=1)
    redshift = _plain(table["redshift"]) if "redshift" in table.colnames else np.zeros(len(table))
    reasons = [_reason(*row) for row in zip(names, asinh, strict=True)]
    good = np.array([reason is None for reason in reasons], dtype=bool)
    set_aside = [f"Row {k + 1}: {reason}" for k, reason in enumerate(reasons) if reason]
    parts = []
    for name in labels.CLASSES:
        rows = np.flatnonzero(good & (np.array(names) == name))
        z = np.nan_to_num(redshift[rows])
        parts.append(_sources(name, _pogson(asinh[rows]), z, rng))
        parts[-1]["redshift"] = redshift[rows]
        parts[-1]["row"] = rows
    sources = vstack(parts)
    sources.sort("row")
    return sources, set_aside


def _reason(name: str, asinh: Floats) -> str | None:
    """Why a catalogue row cannot be simulated, or None."""
    if name not in labels.CLASSES:
        return f"class {name!r} is none of {', '.join(labels.CLASSES)}; set aside."
    for band, value in zip(sdss.BANDS, asinh, strict=True):
        if not np.isfinite(value) or not 5 < value < 32:
            return f"{band} = {value} is no magnitude; set aside."
    if not BRIGHT < asinh[2] < FAINT:
        return f"r = {asinh[2]:.3f} is outside {BRIGHT} < r < {FAINT}; set aside."
    return None


def _plain(column: object) -> Floats:
    """Return a column as floats, NaN where it is masked."""
    filled = np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)
    return np.asarray(filled, np.float64)


def _counted(name: str, rng: np.random.Generator) -> tuple[float, Callable[[int], Floats]]:
    """Return the sky's density of a class a square degree, and a function that draws its r."""
    table = read_table("counts")
    grid = np.linspace(*_SKY_LIMITS, 541)
    density = 10 ** np.interp(grid, table["r"], table[name.lower()])
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(grid)
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])

    def magnitudes(n: int) -> Floats:
        return np.asarray(np.interp(rng.random(n) * cumulative[-1], cumulative, grid))

    return float(cumulative[-1]), magnitudes


def _drawn_magnitudes(
    name: str, n: int, rng: np.random.Generator, faint_alike: bool = True
) -> Floats:
    """Draw r as in spectroscopic surveys; faint stars and galaxies as often as quasars."""
    table = read_table("magnitudes")
    edges = np.arange(BRIGHT, FAINT + 0.05, 0.1)
    share = np.diff(np.interp(edges, table[name.lower()], table["share"]))
    if faint_alike:
        quasars = np.diff(np.interp(edges, table["qso"], table["share"]))
        faint = edges[:-1] > 19.0
        alike = np.where(faint, np.maximum(share, quasars), 0.0)
        share = np.where(faint, alike, share * (1 - alike.sum()) / share[~faint].sum())
    chosen = rng.choice(len(share), n, p=share / share.sum())
    return np.clip(edges[chosen] + 0.1 * rng.random(n), BRIGHT + 1e-3, FAINT - 1e-3)


def _sky_sources(name: str, r: Floats, rng: np.random.Generator) -> Table:
    """Draw colours and shapes of sources of the sky with given r."""
    known: dict[str, Floats]
    if name == QSO:
        known = {"r": np.clip(r, 15.5, 22.0), "lnz": np.log1p(_quasar_redshifts(len(r), rng))}
        values = read_mixture("spectroscopic_qso").draw_given(known, rng)
    else:
        own = read_mixture(f"sky_{name.lower()}")
        limits = read_table(f"sky_{name.lower()}").meta["r_limits"]
        values = own.draw_given({"r": np.clip(r, *limits)}, rng)
        if name == GALAXY:  # the redshift that a galaxy of this magnitude and colour has
            known = {key: values[:, k] for k, key in enumerate(own.names)}
            known["r"] = np.clip(r, 13.5, 22.0)
            values = read_mixture("spectroscopic_galaxy").draw_given(known, rng)
    values[:, 0] = _asinh(r)
    return _sources(name, *_unfolded(name, values), rng)


def _quasar_redshifts(n: int, rng: np.random.Generator) -> Floats:
    """Draw redshifts of a magnitude-limited sample of quasars."""
    table = read_table("quasar_redshifts")
    share = np.concatenate([[0.0], np.cumsum(np.asarray(table["per_deg2"], np.float64))])
    edges = np.concatenate([table["z_low"], table["z_high"][-1:]])
    return np.asarray(np.interp(rng.random(n) * share[-1], share, edges))


def _unfolded(name: str, values: Floats) -> tuple[Floats, Floats]:
    """From r and colours (asinh) to Pogson magnitudes (n, 5), and redshifts."""
    r, ug, gr, ri, iz = values[:, :5].T
    asinh = np.stack([r + gr + ug, r + gr, r, r - ri, r - ri - iz], axis=1)
    if name == GALAXY:  # at u magnitudes that no frame shows, the fits know no limit but this
        asinh[:, 0] = np.minimum(asinh[:, 0], asinh[:, 1] + _REDDEST_UG)
    redshift = np.zeros(len(values)) if name == STAR else np.expm1(values[:, 5])
    return _pogson(asinh), np.clip(redshift, 0.0 if name == STAR else 0.003, 7.0)


def _asinh(r: Floats) -> Floats:
    """Asinh from Pogson magnitudes in r; the mixtures were fitted to asinh magnitudes."""
    return sdss.asinh_magnitude(10 ** (-0.4 * (r - sdss.ZERO_POINT)), "r")


def _pogson(asinh: Floats) -> Floats:
    """Pogson from asinh magnitudes, (n, 5), 28 at the faintest."""
    dimmest = 10 ** (-0.4 * (_DIMMEST - sdss.ZERO_POINT))
    columns = [sdss.flux_of_asinh_magnitude(asinh[:, k], band) for k, band in enumerate(sdss.BANDS)]
    flux = np.maximum(np.stack(columns, axis=1), dimmest)
    return np.asarray(sdss.ZERO_POINT - 2.5 * np.log10(flux))


def _sources(name: str, mag: Floats, redshift: Floats, rng: np.random.Generator) -> Table:
    """Table of a class's magnitudes and redshifts, with drawn shapes."""
    n = len(mag)
    table = Table({"class": np.full(n, name, dtype="U6"), "redshift": redshift})
    for k, band in enumerate(sdss.BANDS):
        table[band] = mag[:, k]
    host = np.zeros(n)
    shapes: tuple[Floats, ...] = (np.zeros(n),) * 3 + (np.ones(n), np.zeros(n))
    if name == GALAXY:
        shapes = galaxy_shapes(mag[:, 2], mag[:, 0] - mag[:, 2], rng)
    elif name == QSO:
        host, hosts = quasar_hosts(mag[:, 2], redshift, rng)
        shapes = tuple(np.where(host > 0, column, column * 0) for column in hosts)
    for column, values in zip(_SHAPE_COLUMNS, shapes, strict=True):
        table[column] = values
    table["host_fraction"] = host
    table["in_catalog"] = (mag[:, 2] > BRIGHT) & (mag[:, 2] < FAINT)
    table["bulge_radius"].unit = table["disc_radius"].unit = "arcsec"
    table["angle"].unit = "deg"
    return table


def _shuffled(parts: list[Table], rng: np.random.Generator) -> Table:
    table = vstack(parts) if parts else _sources(STAR, np.zeros((0, 5)), np.zeros(0), rng)
    return table[rng.permutation(len(table))]
