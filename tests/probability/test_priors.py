"""Priors: the sky's counts against their sources, Bayes on a table, bad files refused by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from gqs import labels, tables
from gqs.errors import UsageError
from gqs.probability.label_shift import ClassFractions, reweight
from gqs.probability.priors import choose_prior, find_prior, near_plane, with_prior
from gqs.probability.star_counts import star_density
from gqs.simulation.distributions import read_table
from gqs.tables import Flag

LEARNED = ClassFractions(np.array([15.0, 22.0]), np.array([[0.4, 0.2, 0.4], [0.2, 0.6, 0.2]]))
POLE = (192.85948, 27.12825)  # north galactic pole, J2000, degrees
AT_50 = (229.0, 56.0)  # galactic longitude 90, latitude 51


def catalogue() -> Table:
    """Five objects: two bright, one faint, one without a magnitude, one not judged."""
    p = np.array([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [np.nan] * 3])
    table = Table(dict(zip(labels.PROBABILITY_COLUMNS, p.T, strict=True)))
    table["class"] = ["QSO", "QSO", "QSO", "QSO", ""]
    table["mag_r"] = [16.0, 18.0, 21.5, np.nan, 18.0]
    table["ra"], table["dec"] = np.full(5, AT_50[0]), np.full(5, AT_50[1])
    table["flags"] = np.array([0, 1, 0, 2, 128], dtype=np.int32)
    return table


def test_star_counts_are_those_that_the_simulated_sky_was_given() -> None:
    """counts.ecsv was written from the same formula at l = 90, b = 50, by another hand."""
    counts = read_table("counts")
    found = np.log10(star_density(np.asarray(counts["r"]), np.array(90.0), np.array(50.0)))
    np.testing.assert_allclose(found, counts["star"], atol=0.002)


def test_star_counts_add_up_to_the_integral_counts_of_the_same_paper() -> None:
    """Its appendix fits integral counts apart, with constants of their own; each to 15 %."""
    for latitude in (30.0, 90.0):
        for v in (14.0, 17.0, 20.0):
            near = v - 12.0
            disc = 925 * 10 ** (0.035 * (v - 15.75)) / (1 + 10 ** (-0.132 * (v - 15.75))) ** 3.0
            disc /= np.sin(np.radians(latitude)) ** (3 - 5 * (0.36 - 0.04 * near))
            halo = 1050 * 10 ** (0.087 * (v - 17.5)) / (1 + 10 ** (-0.180 * (v - 17.5))) ** 2.5
            grid = np.linspace(3, v, 2000)
            density = star_density(grid - 0.3, np.array(90.0), np.array(latitude))
            assert np.trapezoid(density, grid) == pytest.approx(disc + halo, rel=0.2)


def test_stars_are_more_towards_the_plane_and_end_at_20_degrees() -> None:
    r = np.linspace(14, 22, 9)
    pole = star_density(r, np.array(0.0), np.array(90.0))
    assert (star_density(r, np.array(180.0), np.array(30.0)) > pole).all()
    np.testing.assert_allclose(
        star_density(r, np.array(90.0), np.array(-3.0)),
        star_density(r, np.array(90.0), np.array(20.0)),
    )


def test_the_sky_has_published_densities() -> None:
    sky = find_prior("sky")
    r = np.array([17.0, 20.0, np.nan])
    found = sky.density(r, np.full(3, AT_50[0]), np.full(3, AT_50[1]))
    np.testing.assert_allclose(np.log10(found[:2, 0]), [1.63, 3.09])
    np.testing.assert_allclose(np.log10(found[:2, 1]), [-0.48, 1.43])
    np.testing.assert_allclose(np.log10(found[:2, 2]), [2.528, 2.941], atol=0.03)
    assert np.isnan(found[2]).all()
    mean = sky.around(np.array([AT_50[0], POLE[0], np.nan]), np.array([AT_50[1], POLE[1], 3.0]))
    stars = mean(np.array([18.0]))[0, 2]
    pole = sky.density(np.array([18.0]), np.array([POLE[0]]), np.array([POLE[1]]))[0, 2]
    assert pole < stars < 10**2.75
    assert "Bahcall" in sky.about and "Yasuda" in sky.about


def test_a_catalogue_is_weighed_by_bayes_rule_and_its_class_follows() -> None:
    before, sky = catalogue(), find_prior("sky")
    after = with_prior(before, sky, LEARNED, "model")
    p = np.stack([before[name] for name in labels.PROBABILITY_COLUMNS], axis=1)
    mag_r = np.asarray(before["mag_r"])
    wanted = sky.density(mag_r, np.asarray(before["ra"]), np.asarray(before["dec"]))
    expected = reweight(p, wanted, LEARNED.at(mag_r))
    found = np.stack([after[name] for name in labels.PROBABILITY_COLUMNS], axis=1)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found[3], p[3])  # no magnitude, no prior
    assert after["class"].tolist() == ["STAR", "STAR", "GALAXY", "QSO", ""]
    assert after["flags"].tolist() == [0, 1, 0, 2 | int(Flag.NO_PRIOR), 128]
    assert after.meta["prior"] == "sky"
    assert before["class"].tolist() == ["QSO"] * 4 + [""]
    with pytest.raises(UsageError, match="are for the prior 'sky' already"):
        with_prior(after, sky, LEARNED, "model")


def test_balanced_probabilities_stay_beside_those_at_the_prior() -> None:
    before = catalogue()
    at_sky, even = (
        with_prior(before, find_prior(n), LEARNED, "model") for n in ("sky", "balanced")
    )
    for name in labels.PROBABILITY_COLUMNS:
        np.testing.assert_allclose(at_sky[f"{name}_balanced"], even[name])
        np.testing.assert_array_equal(even[f"{name}_balanced"], even[name])


def test_on_the_sky_no_saturated_and_no_brightest_source_is_a_qso() -> None:
    before = catalogue()[[0, 0, 0]]
    before["mag_r"], before["flags"] = [14.9, 15.1, 18.0], [0, 0, int(Flag.SATURATED)]
    after = with_prior(before, find_prior("sky"), LEARNED, "model")
    assert (after["p_qso"] == 0).tolist() == [True, False, True]
    np.testing.assert_allclose(after["p_galaxy"] + after["p_qso"] + after["p_star"], 1)
    before.remove_column("class")
    before["class"] = ["QSO"] * 3
    own = with_prior(before, find_prior("balanced"), LEARNED, "model")
    assert (own["p_qso"] > 0).all()  # only the sky's counts say so


def test_the_default_prior_follows_what_is_classified() -> None:
    assert choose_prior(None, "sky").name == "sky"  # type: ignore[union-attr]
    assert choose_prior("balanced", "sky").name == "balanced"  # type: ignore[union-attr]
    assert choose_prior("training", "sky") is None


def test_balanced_takes_out_what_was_learned_and_needs_no_magnitudes() -> None:
    flat = ClassFractions(np.array([0.0]), np.array([[0.2, 0.6, 0.2]]))
    found = with_prior(catalogue(), find_prior("balanced"), flat, "model")
    odds = np.array([0.1, 0.8 / 3, 0.1])
    np.testing.assert_allclose(
        [found[name][3] for name in labels.PROBABILITY_COLUMNS], odds / odds.sum()
    )
    assert not (found["flags"] & int(Flag.NO_PRIOR)).any()
    with pytest.raises(UsageError, match="model: was trained on pictures without magnitudes"):
        with_prior(catalogue(), find_prior("sky"), flat, "model")


@pytest.mark.parametrize("ending", [".csv", ".ecsv", ".parquet"])
def test_a_prior_of_ones_own(tmp_path: Path, ending: str) -> None:
    rows = Table({"r": [22.0, 15.0], "galaxy": [8.0, 1.0], "qso": [2.0, 0.0], "star": [10.0, 3.0]})
    path = tables.write(rows, tmp_path / f"mine{ending}")
    prior = find_prior(path)
    assert prior.name == f"mine{ending}" and prior.absolute
    r = np.array([15.0, 22.0, 30.0])
    found = prior.density(r, r, r)
    np.testing.assert_allclose(found, [[1, 4e-9, 3], [8, 2, 10], [8, 2, 10]])
    even = Table({"r": [18.0], "galaxy": [0.2], "qso": [0.3], "star": [0.5]})
    assert not find_prior(tables.write(even, tmp_path / f"even{ending}")).absolute


def test_a_prior_that_is_none_is_refused_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(
        "r,galaxy,qso,star\n15,1,1,1\n16,1,-2,1\nx,1,1,1\n15,1,1,1\n17,0,0,0\n18,1,nan,1\n"
    )
    with pytest.raises(UsageError) as refusal:
        find_prior(path)
    message = str(refusal.value)
    assert "row 2: qso is not a number of 0 or more" in message
    assert "row 3: r = nan is not a" in message
    assert "row 4: r = 15 is repeated; and 2 more rows" in message
    (tmp_path / "short.csv").write_text("r,galaxy,star\n15,1,1\n")
    with pytest.raises(UsageError, match="has no column qso"):
        find_prior(tmp_path / "short.csv")
    with pytest.raises(UsageError, match="none of sky, balanced, training"):
        find_prior("heaven")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r,galaxy,qso,star\n15,30,10,60\n16,40,10,50\n", "percentages: row 1 sums to 100"),
        ("r,galaxy,qso,star\n15,.3,.1,.6\n16,.4,.2,.6\n17,.4,.1,.5\n", "row 2 sums to 1.2"),
        ("r,galaxy,qso,star\n15,.2,.1,.4\n", "shares: row 1 sums to 0.7"),
        ("r galaxy qso star\n15 1 1 1\n", "not separated by commas"),
        ("r,R,galaxy,qso,star\n15,15,3,1,3\n", "has the columns r and R"),
    ],
)
def test_a_file_that_may_be_one_thing_or_another_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        find_prior(tmp_path / "mine.csv")


def test_names_of_columns_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("R,GALAXY,Qso,STAR\n15,2,1,30\n18,20,9,70\n")
    prior = find_prior(tmp_path / "mine.csv")
    np.testing.assert_allclose(prior.density(*np.full((3, 1), 18.0)), [[20, 9, 70]])


def test_places_near_the_plane_are_counted() -> None:
    assert near_plane(np.array([POLE[0], 266.4, np.nan]), np.array([POLE[1], -29.0, 0.0])) == 1
