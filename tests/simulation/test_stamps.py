"""Cutouts rendered without frames: deterministic, placed as cut, with the noise of frames."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from gqs.simulation import population
from gqs.simulation.stamps import OBJECTS_A_FIELD, render_cutouts
from gqs.surveys.sdss import BANDS, SKY_NOISE, flux_of_asinh_magnitude

NO_NEIGHBOURS = population.Mix(galaxies=0, quasars=0, stars=0)


def stars(magnitude: float, n: int) -> Table:
    table = population.draw({"STAR": n}, np.random.default_rng(1))
    for band in BANDS:
        table[band] = magnitude
    return table


@pytest.fixture(scope="module")
def drawn() -> Table:
    return population.draw({"GALAXY": 50, "QSO": 50, "STAR": 50}, np.random.default_rng(2))


def test_a_seed_gives_the_same_cutouts_in_the_rows_order(drawn: Table) -> None:
    once, again = list(render_cutouts(drawn, 3)), list(render_cutouts(drawn, 3))
    assert [len(rows) for _, rows in once] == [OBJECTS_A_FIELD, 150 - OBJECTS_A_FIELD]
    for (images, rows), (same, same_rows) in zip(once, again, strict=True):
        assert images.shape[1:] == (5, 50, 50)
        assert images.dtype == np.float32
        assert np.isfinite(images).all()
        assert (images == same).all()
        assert (rows["objid"] == same_rows["objid"]).all()
    classes = np.concatenate([np.asarray(rows["class"]) for _, rows in once])
    assert (classes == np.asarray(drawn["class"])).all()
    other, _ = next(render_cutouts(drawn, 4))
    assert not (other == once[0][0]).all()


def test_calls_with_numbered_fields_make_one_survey(drawn: Table) -> None:
    whole = [rows for _, rows in render_cutouts(drawn, 3, "r", first_field=0)]
    second, rows = next(render_cutouts(drawn[OBJECTS_A_FIELD:], 3, "r", first_field=1))
    assert (rows["objid"] == whole[1]["objid"]).all()
    assert len(second) == 150 - OBJECTS_A_FIELD
    objid = np.concatenate([np.asarray(part["objid"]) for part in whole])
    assert len(np.unique(objid)) == 150
    assert set(whole[0]["camcol"]) == {1}
    assert set(whole[1]["camcol"]) == {2}


def test_sources_lie_where_a_cutout_has_its_centre_and_have_their_flux() -> None:
    images, rows = next(render_cutouts(stars(17.0, 60), 5, neighbours=NO_NEIGHBOURS))
    x = np.asarray(rows["x"]) - np.ceil(np.asarray(rows["x"]) - 25)
    y = np.asarray(rows["y"]) - np.ceil(np.asarray(rows["y"]) - 25)
    assert ((x > 24) & (x <= 25)).all()
    yy, xx = np.mgrid[:50, :50]
    off = np.zeros((len(images), 5, 2))
    for k, image in enumerate(images):
        for i, band in enumerate(BANDS):
            distance = np.hypot(xx - x[k], yy - y[k])
            flux = flux_of_asinh_magnitude(17.0, band)
            sky = 0.25 * SKY_NOISE[band] * 1100  # left in the aperture's 1,100 pixels
            inside = image[i][distance < 7.43 / 0.396].sum()
            assert inside == pytest.approx(flux, rel=0.015, abs=sky)
            core = np.where(distance < 6, image[i], 0) / image[i][distance < 6].sum()
            off[k, i] = (core * xx).sum() - x[k], (core * yy).sum() - y[k]
    assert (np.abs(np.median(off, axis=0)) < 0.02).all()
    assert (np.abs(off) < 0.25).all()


def test_resampled_bands_have_smoother_noise_and_r_has_not() -> None:
    images, _ = next(render_cutouts(stars(23.0, 100), 6, neighbours=NO_NEIGHBOURS))
    edge = images[:, :, :12, :]
    neighbour = np.array(
        [np.corrcoef(edge[:, i, :, 1:].ravel(), edge[:, i, :, :-1].ravel())[0, 1] for i in range(5)]
    )
    assert abs(neighbour[2]) < 0.03
    assert (np.delete(neighbour, 2) > -0.12).all()
    sigma = edge.std(axis=(0, 2, 3))
    for i, band in enumerate(BANDS):
        assert sigma[i] == pytest.approx(SKY_NOISE[band], rel=0.3)
    assert (neighbour[[0, 1, 3, 4]] != 0).all()


def test_a_saturated_star_is_flagged_and_a_faint_one_is_not() -> None:
    _, bright = next(render_cutouts(stars(13.2, 64), 7, "r", neighbours=NO_NEIGHBOURS))
    _, faint = next(render_cutouts(stars(18.0, 64), 7, "r", neighbours=NO_NEIGHBOURS))
    assert (np.asarray(bright["flags"]) > 0).mean() > 0.1
    assert not np.asarray(faint["flags"]).any()
