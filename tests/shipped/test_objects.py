"""No real object is on two sides, whichever catalogues know it."""

from __future__ import annotations

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table


def test_an_object_of_several_catalogues_is_on_one_side(gathered: Table) -> None:
    """Matched here by astropy, and not as it was made: every pair within 1.5 arcsec."""
    place = SkyCoord(gathered["ra"], gathered["dec"], unit="deg")
    source, side = np.asarray(gathered["source"]), np.asarray(gathered["side"])
    quasars = {name: np.flatnonzero(source == name) for name in ("spectroscopic", "dr5", "cutout")}
    pairs = 0
    for one, other in (("spectroscopic", "dr5"), ("cutout", "dr5"), ("cutout", "spectroscopic")):
        mine, theirs = quasars[one], quasars[other]
        nearest, apart, _ = place[mine].match_to_catalog_sky(place[theirs])
        near = apart.arcsec < 1.5
        assert (side[mine[near]] == side[theirs[nearest[near]]]).all()
        pairs += int(near.sum())
    assert pairs > 8000  # the overlaps that the catalogues are known to have


def test_nobody_learns_from_the_objects_with_spectra_in_the_frames(gathered: Table) -> None:
    assert set(gathered["side"][gathered["source"] == "frame"]) == {"test"}


def test_folds_of_real_quasars_share_no_run(gathered: Table) -> None:
    mine = gathered[gathered["source"] == "cutout"]
    assert len(mine) == 1861 and set(mine["fold"]) == {0, 1, 2, 3, 4}
    folds = {run: set(mine["fold"][mine["run"] == run]) for run in set(mine["run"])}
    assert all(len(found) == 1 for found in folds.values())
    assert min(np.bincount(mine["fold"])) > 300


def test_runs_of_the_photometry_lie_on_one_side_unless_a_stricter_catalogue_has_them(
    gathered: Table,
) -> None:
    mine = gathered[gathered["source"] == "spectroscopic"]
    alone = np.bincount(gathered["object"])[mine["object"]] == 1  # known to this catalogue only
    for run in np.unique(mine["run"]):
        assert len(set(mine["side"][alone & (mine["run"] == run)])) <= 1
