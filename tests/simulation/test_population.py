"""The simulated sky's sources: published densities, colours and sizes, and real rows unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from gqs import labels, tables
from gqs.errors import IntegrityError, UsageError
from gqs.labels import GALAXY, QSO, STAR
from gqs.simulation import galaxies, population
from gqs.simulation.distributions import Mixture, read_mixture, read_table
from gqs.simulation.population import Mix
from gqs.surveys import sdss

COLUMNS = [
    *("class", "redshift", "u", "g", "r", "i", "z", "bulge_fraction", "bulge_radius"),
    *("disc_radius", "axis_ratio", "angle", "host_fraction", "in_catalog"),
]


def of(table: Table, name: str) -> Table:
    return table[np.asarray(table["class"]) == name]


@pytest.fixture(scope="module")
def square_degrees() -> Table:
    """Ten square degrees of sky."""
    return population.sky(10.0, np.random.default_rng(11))


@pytest.fixture(scope="module")
def drawn() -> Table:
    counts = {GALAXY: 5000, QSO: 12000, STAR: 7000}
    return population.draw(counts, np.random.default_rng(12))


@pytest.mark.parametrize(
    ("name", "band", "faintest", "density", "tolerance"),
    [
        (GALAXY, "r", 17.77, 92, 0.25),  # Strauss et al. 2002
        (GALAXY, "r", 21.8, 6000, 0.15),  # Sheldon et al. 2012
        (QSO, "g", 22.5, 176, 0.15),  # Palanque-Delabrouille et al. 2013
        (QSO, "r", 20.5, 36, 0.25),  # about one a field; 2SLAQ, Croom et al. 2009
        (STAR, "r", 19.7, 2140, 0.15),  # V < 20 at b = 50, Bahcall & Soneira 1980, cumulative form
    ],
)
def test_densities_are_the_published_ones(square_degrees, name, band, faintest, density, tolerance):
    sources = of(square_degrees, name)
    found = (sources[band] < faintest).sum() / 10
    assert found == pytest.approx(density, rel=tolerance)


def test_the_sky_reaches_beyond_the_catalogue(square_degrees):
    assert square_degrees.colnames == COLUMNS
    r = np.asarray(square_degrees["r"])
    assert 23.9 < r.max() <= 24.0
    inside = (r > 13.1) & (r < 23.2)
    assert np.array_equal(np.asarray(square_degrees["in_catalog"]), inside)
    for name in square_degrees.colnames[1:]:
        assert np.isfinite(np.asarray(square_degrees[name], float)).all(), name


def test_stars_lie_on_the_locus(square_degrees):
    stars = of(square_degrees, STAR)
    stars = stars[(stars["r"] > 15) & (stars["r"] < 20)]
    gr, ri, ug = stars["g"] - stars["r"], stars["r"] - stars["i"], stars["u"] - stars["g"]
    # Covey et al. 2007, Table 3 at g - i = 0.6 and 1.5; Fukugita et al. 2011 for M dwarfs.
    turnoff = np.abs(gr + ri - 0.6) < 0.05
    assert np.median(gr[turnoff]) == pytest.approx(0.44, abs=0.03)
    assert np.median(ri[turnoff]) == pytest.approx(0.16, abs=0.03)
    assert np.median(ug[turnoff]) == pytest.approx(1.15, abs=0.12)
    dwarfs = ri > 0.8
    assert np.median(gr[dwarfs]) == pytest.approx(1.44, abs=0.06)
    # The locus is thin: its width in r - i at one g - r is about 0.03 mag (Ivezic et al. 2004).
    narrow = (gr > 0.4) & (gr < 0.7)
    residual = ri[narrow] - np.polyval(np.polyfit(gr[narrow], ri[narrow], 1), gr[narrow])
    assert 1.4826 * np.median(np.abs(residual)) < 0.05


def test_rare_stars_are_there(square_degrees):
    stars = of(square_degrees, STAR)
    stars = stars[(stars["r"] > 14) & (stars["r"] < 20.5)]
    ug, gr = stars["u"] - stars["g"], stars["g"] - stars["r"]
    white_dwarfs = (gr < 0.1) & (ug < 0.6)
    blue_horizontal_branch = (gr < 0.1) & (ug > 0.8) & (ug < 1.6)
    assert 0.0005 < white_dwarfs.mean() < 0.03
    assert 0.0005 < blue_horizontal_branch.mean() < 0.03


@pytest.mark.parametrize(
    ("redshift", "ug", "gr", "ri", "iz"),
    [  # Richards et al. 2001, AJ 121, 2308, Table 3, read to 0.05 mag; observed, not dereddened
        (1.0, 0.15, 0.20, 0.05, 0.05),
        (1.5, 0.22, 0.12, 0.20, 0.02),
        (2.0, 0.20, 0.12, 0.08, 0.22),
        (3.2, 2.20, 0.32, 0.15, 0.10),
    ],
)
def test_quasars_have_the_colours_of_their_redshift(redshift, ug, gr, ri, iz):
    rng = np.random.default_rng(3)
    n = 3000
    known = {"r": np.full(n, 19.2), "lnz": np.full(n, np.log1p(redshift))}
    values = read_mixture("spectroscopic_qso").draw_given(known, rng)
    found = np.median(values[:, 1:5], axis=0)
    assert found[0] == pytest.approx(ug, abs=0.15 if redshift < 2.5 else 0.6)
    assert found[1:] == pytest.approx([gr, ri, iz], abs=0.12)


def test_the_lyman_forest_takes_the_u_light(drawn):
    quasars = of(drawn, QSO)
    ug = np.asarray(quasars["u"] - quasars["g"])
    z = np.asarray(quasars["redshift"])
    assert np.median(ug[(z > 0.8) & (z < 1.8)]) < 0.4
    assert np.median(ug[(z > 3.1) & (z < 3.6)]) > 1.5
    assert (z > 2.5).sum() > 500


def test_hosts_are_at_low_redshift_and_weak_in_bright_quasars(drawn):
    quasars = of(drawn, QSO)
    z, share = np.asarray(quasars["redshift"]), np.asarray(quasars["host_fraction"])
    assert (share[z > 1] == 0).all()
    assert share.max() <= 0.9
    near = z < 0.4
    assert np.median(share[near]) > 0.1
    alike = (z > 0.3) & (z < 0.6)
    bright = quasars["r"] < np.median(quasars["r"][alike])
    assert np.median(share[alike & bright]) < 0.7 * np.median(share[alike & ~bright])
    assert (np.asarray(quasars["disc_radius"])[share > 0] > 0.1).all()
    assert (np.asarray(quasars["disc_radius"])[share == 0] == 0).all()


def test_galaxies_shrink_as_they_fade(square_degrees):
    table = of(square_degrees, GALAXY)
    inside = galaxies.enclosed_light(
        1.0, table["bulge_fraction"], table["bulge_radius"], table["disc_radius"]
    )
    assert np.isfinite(inside).all()
    r = np.asarray(table["r"])
    disc = np.asarray(table["disc_radius"])
    medians = [np.median(disc[np.abs(r - m) < 0.25]) for m in (17, 19, 21, 23)]
    assert (np.diff(medians) < 0).all()
    ratio = np.asarray(table["axis_ratio"])
    assert ratio.min() >= 0.2
    assert ratio.max() <= 1
    assert 0.5 < np.median(ratio) < 0.75  # discs from all sides


def test_red_galaxies_have_bulges(square_degrees):
    table = of(square_degrees, GALAXY)
    table = table[table["r"] < 20]
    red = table["u"] - table["r"] > 2.4
    blue = table["u"] - table["r"] < 1.9
    assert table["bulge_fraction"][red].mean() > 0.5
    assert table["bulge_fraction"][blue].mean() < 0.3


def test_half_of_the_light_is_within_the_half_light_radius():
    rng = np.random.default_rng(5)
    n = 501
    radius = rng.uniform(0.3, 8, n)
    fraction = np.concatenate([[0.0, 1.0], rng.random(n - 2)])
    ratio = rng.uniform(0.15, 1.2, n)
    bulge, disc = galaxies.split_radius(radius, fraction, ratio)
    half = galaxies.enclosed_light(radius, fraction, bulge, disc)
    assert half == pytest.approx(np.full(n, 0.5), abs=2e-5)
    assert disc[0] == pytest.approx(radius[0], rel=1e-4)  # an exponential alone
    assert bulge[1] == pytest.approx(radius[1], rel=1e-4)  # a de Vaucouleurs alone


def test_faint_stars_and_galaxies_are_as_common_as_faint_quasars(drawn):
    faint = {name: (of(drawn, name)["r"] > 20).mean() for name in labels.CLASSES}
    assert faint[STAR] > 0.95 * faint[QSO]
    assert faint[GALAXY] > 0.95 * faint[QSO]
    r = np.asarray(drawn["r"])
    assert r.min() > 13.1
    assert r.max() < 23.2
    rng = np.random.default_rng(1)
    own = population.draw({STAR: 4000}, rng, faint_alike=False)
    table = read_table("magnitudes")
    expected = np.interp(0.5, table["share"], table["star"])
    assert np.median(own["r"]) == pytest.approx(expected, abs=0.1)


def test_an_enriched_sky_has_as_many_of_each_class():
    mix = Mix.enriched_with(300)
    table = population.sky(5 * 0.0369, np.random.default_rng(2), mix)
    listed = table[np.asarray(table["in_catalog"])]
    for name in labels.CLASSES:
        assert (listed["class"] == name).sum() / 5 == pytest.approx(300, rel=0.12)
    assert (~np.asarray(table["in_catalog"])).sum() / 5 > 300  # neighbours


def test_one_seed_one_sky():
    one, two, other = (
        population.sky(0.05, np.random.default_rng(seed), Mix.enriched_with(40))
        for seed in (7, 7, 8)
    )
    for name in one.colnames:
        assert np.array_equal(np.asarray(one[name]), np.asarray(two[name]))
    assert len(other) != len(one) or not np.array_equal(other["r"], one["r"])


def test_nothing_gives_an_empty_table_of_the_same_columns():
    rng = np.random.default_rng(1)
    assert population.draw({}, rng).colnames == COLUMNS
    assert population.draw({GALAXY: 0, QSO: 0, STAR: 0}, rng).colnames == COLUMNS
    assert len(population.sky(0.0, rng)) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda rng: population.draw({"QUASAR": 3}, rng),
        lambda rng: population.draw({STAR: -1}, rng),
        lambda rng: population.sky(-1.0, rng),
        lambda rng: population.sky(float("nan"), rng),
        lambda rng: Mix(stars=-1.0),
        lambda rng: Mix(like_sky=2.0),
        lambda rng: population.from_catalog(Table({"u": [1.0]}), rng),
    ],
)
def test_wrong_wishes_are_refused(wrong):
    with pytest.raises(UsageError):
        wrong(np.random.default_rng(0))


def test_a_catalogue_is_taken_row_by_row():
    table = Table({"class": [STAR, "QSO ", QSO, GALAXY, STAR, GALAXY]})
    for k, band in enumerate(sdss.BANDS):
        table[band] = [18.0 + k, 18.0, 19.0, 24.0 - k, 18.0, 20.0]
    table["redshift"] = [0.0, 1.0, 2.1, 0.2, 0.0, 0.1]
    table["g"][4] = np.nan
    table["r"][5] = 12.0
    sources, set_aside = population.from_catalog(table, np.random.default_rng(0))
    assert list(sources["row"]) == [0, 2, 3]
    assert list(sources["class"]) == [STAR, QSO, GALAXY]
    assert list(sources["redshift"]) == [0.0, 2.1, 0.2]
    assert len(set_aside) == 3
    assert set_aside[0].startswith("Row 2: class 'QSO '")
    assert set_aside[1].startswith("Row 5: g = nan")
    assert set_aside[2].startswith("Row 6: r = 12.000")


def test_a_catalogues_magnitudes_come_back():
    rng = np.random.default_rng(4)
    mag = rng.uniform([16, 16, 14, 15, 15], [25.5, 25, 23, 24, 23], (37, 5))
    table = Table({"class": rng.choice(labels.CLASSES, 37)})
    for k, band in enumerate(sdss.BANDS):
        table[band] = mag[:, k]
    sources, set_aside = population.from_catalog(table, rng)
    assert set_aside == []
    for k, band in enumerate(sdss.BANDS):
        flux = 10 ** (-0.4 * (np.asarray(sources[band]) - sdss.ZERO_POINT))
        lit = sdss.flux_of_asinh_magnitude(mag[:, k], band) > 0.01
        assert sdss.asinh_magnitude(flux, band)[lit] == pytest.approx(mag[lit, k], abs=1e-6)


def test_real_rows_are_taken_as_they_are(real_data):
    table = tables.read(real_data / "catalogs/sdss_spectro_photometry.csv.gz")[:3000]
    sources, set_aside = population.from_catalog(table, np.random.default_rng(4))
    assert len(sources) + len(set_aside) == len(table)
    assert len(set_aside) < 0.02 * len(table) + (np.asarray(table["r"]) <= 13.1).sum()
    row = np.asarray(sources["row"])
    assert np.array_equal(np.asarray(sources["class"]), np.asarray(table["class"])[row])
    bright = np.asarray(table["r"])[row] < 19
    assert np.asarray(sources["r"])[bright] == pytest.approx(
        np.asarray(table["r"])[row][bright], abs=1e-3
    )


def test_a_mixture_is_drawn_as_it_is_written():
    rng = np.random.default_rng(6)
    means = np.array([[0.0, 1.0, 5.0], [10.0, -1.0, 2.0]])
    covariances = np.array([np.diag([1.0, 0.5, 0.1]), np.diag([0.2, 0.3, 1.0])])
    covariances[0, 0, 1] = covariances[0, 1, 0] = 0.6
    made = Mixture(("a", "b", "c"), np.array([0.3, 0.7]), means, covariances)
    back = Mixture.from_table(made.to_table())
    values = back.draw(40_000, rng)
    first = values[:, 0] < 5
    assert first.mean() == pytest.approx(0.3, abs=0.01)
    assert np.cov(values[first].T) == pytest.approx(covariances[0], abs=0.04)
    # Given a = 1, the first component has b ~ N(1 + 0.6, 0.5 - 0.36): the normal's conditional.
    given = back.draw_given({"a": np.ones(20_000)}, rng)
    assert given[:, 0] == pytest.approx(np.ones(20_000))
    assert given[:, 1].mean() == pytest.approx(1.6, abs=0.02)
    assert given[:, 1].var() == pytest.approx(0.14, abs=0.01)
    covariances[1, 2, 2] = -1.0
    broken = Mixture(("a", "b", "c"), np.array([0.3, 0.7]), means, covariances)
    with pytest.raises(IntegrityError):
        Mixture.from_table(broken.to_table())


def test_every_carried_table_names_its_source():
    paths = sorted(Path(population.__file__).parent.glob("*.ecsv"))
    assert len(paths) >= 9
    for path in paths:
        meta = read_table(path.stem).meta
        assert "source" in meta or {"galaxy", "qso", "star"} <= set(meta), path.name
