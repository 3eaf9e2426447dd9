"""Objects on several fields: one primary row each, by the distance to the field's edge."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord, search_around_sky

from gqs.runs.overlaps import edge_distance, overlapping, primary

ARCSEC = 1 / 3600


def ranks(ra, dec, distance, field) -> list[bool]:
    n = len(ra)
    return primary(
        np.array(ra, float),
        np.array(dec, float),
        np.array(distance, float),
        np.array(field),
        np.arange(n, dtype=np.uint64),
    ).tolist()


def test_the_row_farther_from_its_edge_is_primary() -> None:
    ra = [10, 10 + 0.5 * ARCSEC, 10 + 3 * ARCSEC]
    assert ranks(ra, [0, 0, 0], [40, 50, 5], [1, 2, 1]) == [False, True, True]


def test_equal_distances_go_to_the_lower_field() -> None:
    assert ranks([10, 10], [0, 0], [40, 40], [2, 1]) == [False, True]


def test_two_sources_that_one_field_parts_stay_two_or_are_its_neighbours_one() -> None:
    ra = [10 - 0.3 * ARCSEC, 10 + 0.3 * ARCSEC, 10]
    assert ranks(ra, [0, 0, 0], [50, 50, 40], [1, 1, 2]) == [True, True, False]
    assert ranks(ra, [0, 0, 0], [50, 50, 60], [1, 1, 2]) == [False, False, True]


def test_a_chain_keeps_a_row_near_each_of_its_rows() -> None:
    ra = [10, 10 + 0.8 * ARCSEC, 10 + 1.6 * ARCSEC]
    assert ranks(ra, [0, 0, 0], [50, 40, 30], [1, 2, 1]) == [True, False, True]


@pytest.mark.parametrize(("ra0", "dec0"), [(0.0, 0.0), (150.0, 89.9995), (210.0, -35.0)])
def test_no_two_primary_rows_are_one_object_and_none_is_lost(ra0: float, dec0: float) -> None:
    """Three fields with many objects: checked by astropy's own matching on the sky."""
    rng = np.random.default_rng(4)
    n = 600
    true = SkyCoord(ra0, dec0, unit="deg").directional_offset_by(
        rng.uniform(0, 360, n) * units.deg, rng.uniform(0, 60, n) * units.arcsec
    )
    ra, dec, field = [], [], []
    for number in range(3):
        seen = rng.random(n) < 0.8
        moved = true[seen].directional_offset_by(
            rng.uniform(0, 360, seen.sum()) * units.deg, 0.1 * units.arcsec
        )
        ra.append(moved.ra.deg)
        dec.append(moved.dec.deg)
        field.append(np.full(seen.sum(), number))
    ra, dec, field = map(np.concatenate, (ra, dec, field))
    distance, objid = rng.uniform(0, 700, len(ra)), np.arange(len(ra), dtype=np.uint64)
    chosen = primary(ra, dec, distance, field, objid)
    rows = SkyCoord(ra, dec, unit="deg")
    i, j, _, _ = search_around_sky(rows, rows, 1 * units.arcsec)
    rivals = field[i] != field[j]
    assert rivals.sum() > 1000
    assert not (chosen[i] & chosen[j] & rivals).any()
    others = set(i[rivals & chosen[j]])
    assert all(chosen[row] or row in others for row in range(len(ra)))
    # The order of rows does not matter, and a row's rank follows from rows near it alone.
    shuffled = rng.permutation(len(ra))
    again = primary(*(a[shuffled] for a in (ra, dec, distance, field, objid)))
    np.testing.assert_array_equal(again, chosen[shuffled])


def test_distances_to_the_edge() -> None:
    x, y = np.array([-0.5, 0.0, 100.0, 299.0]), np.array([10.0, 50.0, 198.0, 20.0])
    np.testing.assert_allclose(edge_distance(x, y, (200, 300)), [0, 0.5, 1.5, 0.5])


def test_fields_that_may_share_objects_are_found_across_the_zero_of_right_ascension() -> None:
    def field(ra: float, dec: float) -> list[list[float]]:
        return [[(ra + a) % 360, dec + d] for a, d in ((0, 0), (0.2, 0), (0.2, 0.15), (0, 0.15))]

    corners = np.array([field(359.9, 0), field(0.05, 0.1), field(2.0, 0), field(359.9, 0.14)])
    assert overlapping(corners) == [[1, 3], [0, 3], [], [0, 1]]
    assert overlapping(np.empty((0, 4, 2))) == []
