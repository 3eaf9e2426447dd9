"""A fold shows nothing of what it judges; quasars are drawn evenly; drawn light is true."""

from __future__ import annotations

import numpy as np
import sep
from astropy.table import Table

import make
from gqs.imaging.photometry import aperture_magnitudes
from gqs.imaging.seeing import INNER, OUTER, seeing
from gqs.simulation import population
from painting import paint


def test_a_fold_learns_nothing_of_what_it_judges(members: Table) -> None:
    sides = make.fold_sides(members, 0).tolist()
    # Quasar 2 and the star of field 0 are judged; its rendering, its likeness on other sky and
    # what its own sky shows are gone.
    kept = ["train", "", "test", "", "", "train", "", "test", "", "train"]
    assert sides == [*kept, "", ""]


def test_a_fold_chooses_its_epoch_by_nothing_that_it_learned(members: Table) -> None:
    """Quasar 3 is learned from in fold 0, so its rendering is not validated on; in fold 1 it is."""
    assert make.fold_sides(members, 0)[4] == ""
    sides = make.fold_sides(members, 1)
    assert sides[5] == "test" and sides[4] == ""  # judged: its rendering is left out as well
    assert make.fold_sides(members, 2)[[2, 5]].tolist() == ["train", "train"]


def test_far_quasars_are_drawn_evenly_over_redshift() -> None:
    rng = np.random.default_rng(3)
    redshift = np.concatenate([rng.uniform(2.5, 3.0, 3000), rng.uniform(4.0, 4.5, 300)])
    drawn = make._evenly(redshift, np.arange(3300), 400, rng)
    assert len(set(drawn.tolist())) == 400
    assert 0.4 < (redshift[drawn] > 3.5).mean() < 0.55  # half of the bins; 9 % of the objects


def test_a_painted_star_has_the_light_and_the_width_that_were_asked_for() -> None:
    """On an empty sky, in an aperture of 3 arcsec, less what a star of 1.2 arcsec has beyond."""
    rng = np.random.default_rng(5)
    drawn = population.draw({"STAR": 400}, rng)
    bright = drawn[(np.asarray(drawn["r"]) > 15.5) & (np.asarray(drawn["r"]) < 18)][:32]
    sky = np.zeros((len(bright), 5, 50, 50), np.float32)
    width = np.repeat([1.2, 1.8], 16)[:, None] * np.ones(5)
    images, stated = paint(sky, width, np.zeros((len(bright), 5, 2)), bright, 11)
    np.testing.assert_allclose(stated, width, rtol=2e-3)
    found = aperture_magnitudes(images[:16], "ugriz")[0][:, 2]
    lost = found - np.asarray(bright["r"])[:16]
    assert 0.02 < np.median(lost) < 0.35
    assert np.std(lost) < 0.05
    # Stars show the stated seeing, narrow or wide: else all of them would seem extended.
    inner, outer = (_within(images[:, 2], radius) for radius in (INNER, OUTER))
    shown = seeing(inner, outer) / stated[:, 2]
    assert abs(np.median(shown[:16]) - 1) < 0.04 and abs(np.median(shown[16:]) - 1) < 0.04


def _within(planes: np.ndarray, radius: float) -> np.ndarray:
    """Light within a radius of each star's own middle."""
    light = []
    for plane in planes:
        x, y, _ = sep.winpos(plane := np.ascontiguousarray(plane), [24.5], [24.5], [1.7])
        light.append(float(sep.sum_circle(plane, x, y, radius, subpix=5)[0][0]))
    return np.array(light)
