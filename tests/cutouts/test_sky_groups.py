"""The same object is the same place on the sky, not the same number."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from gqs.cutouts.sky_groups import known_objects, unknown_rows
from gqs.errors import IntegrityError

ARCSEC = 1 / 3600


def objects(*rows: tuple[int, float, float]) -> Table:
    return Table(rows=list(rows) or None, names=("objid", "ra", "dec"), dtype=("u8", "f8", "f8"))


def test_an_object_is_known_by_its_place_and_by_its_number_near_it():
    known = objects((5, 10.0, 60.0), (7, 359.9999, 0.0), (5, 10.0, 60.0))
    rows = objects(
        (9, 10.0 + 0.8 * ARCSEC / 0.5, 60.0),  # 0.8 arcsec away: cos(60 degrees) is a half
        (9, 10.0 + 1.2 * ARCSEC / 0.5, 60.0 + 3 * ARCSEC),
        (5, 10.0, 60.0 + 3 * ARCSEC),  # moved by 3 arcsec, under its own number
        (5, 200.0, -5.0),  # another catalogue's number 5
        (7, 0.0, 0.0),  # over the seam at 0 h, 0.36 arcsec
    )
    assert known_objects(known, rows).tolist() == [True, False, True, False, True]
    assert not known_objects(objects(), rows).any()
    assert known_objects(known, objects()).shape == (0,)


def test_a_few_known_ones_are_left_out_and_many_refused():
    rng = np.random.default_rng(3)
    sky = rng.uniform([0, -30], [90, 30], (100, 2))
    rows = objects(*[(i, *place) for i, place in enumerate(sky)])
    assert unknown_rows(rows[:5], rows, "Go on.").tolist() == [False] * 5 + [True] * 95
    with pytest.raises(IntegrityError, match=r"learned from 6 of the 100 objects.*Go on"):
        unknown_rows(rows[:6], rows, "Go on.")
