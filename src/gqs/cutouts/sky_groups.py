"""Which detections are the same object: friends of friends within 1 arcsec."""

from __future__ import annotations

from typing import Final

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from gqs.errors import IntegrityError

SAME_OBJECT_ARCSEC: Final = 1.0
SAME_NUMBER_ARCSEC: Final = 5.0
MOST_KNOWN: Final = 0.05


def sky_groups(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius_arcsec: float = SAME_OBJECT_ARCSEC
) -> NDArray[np.int64]:
    """Number the objects, (n,) from 0 in order of appearance; detections linked within the radius
    are the same object. An object without a position (NaN) is one of its own.
    """
    n = len(ra)
    if not n:
        return np.zeros(0, dtype=np.int64)
    a, d = np.radians(np.asarray(ra, dtype=np.float64)), np.radians(dec)
    # Unit vectors have no seam at 0 h and no poles; a chord is 2 sin(angle / 2).
    points = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    chord = 2 * np.sin(np.radians(radius_arcsec / 3600) / 2)
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    pairs = known[cKDTree(points[known]).query_pairs(chord, output_type="ndarray")]
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(links, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return np.asarray(rank[inverse])


def known_objects(known: Table, rows: Table) -> NDArray[np.bool_]:
    """Whether each row shows a known object, (rows,): within 1 arcsec of it, in a chain, or within
    5 arcsec of the one with the same objid; without positions the same objid is enough.
    """
    ra, dec = (np.append(np.asarray(known[name]), np.asarray(rows[name])) for name in ("ra", "dec"))
    sky = sky_groups(ra, dec)
    found = np.isin(sky[len(known) :], sky[: len(known)])
    number, first = np.unique(np.asarray(known["objid"]), return_index=True)
    at = np.minimum(np.searchsorted(number, rows["objid"]), max(len(number) - 1, 0))
    named = np.flatnonzero(number[at] == rows["objid"]) if len(number) else at[:0]
    twins = first[at[named]]
    step = [
        SkyCoord(table["ra"], table["dec"], unit="deg") for table in (known[twins], rows[named])
    ]
    away = step[0].separation(step[1]).arcsec
    found[named] |= (away < SAME_NUMBER_ARCSEC) | np.isnan(away)
    return np.asarray(found)


def unknown_rows(known: Table, rows: Table, advice: str) -> NDArray[np.bool_]:
    """Rows to keep, (rows,) bool: without the few known objects; more than a few are refused."""
    again = known_objects(known, rows)
    if again.mean() > MOST_KNOWN:
        raise IntegrityError(
            f"The model learned from {int(again.sum())} of the {len(rows)} objects, "
            f"{rows['objid'][again][0]} among them (the same place on the sky). {advice}"
        )
    return ~again
