"""Positions that somebody gives: checked, put onto pixels, and answered with one row each."""

from __future__ import annotations

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gqs import tables
from gqs.cutouts.extract import pixel_positions
from gqs.errors import UsageError
from gqs.imaging.align import BandStack
from gqs.tables import Flag

NO_FIELD = -1  # run, camcol and field of a position that lies on none
_SAME = 3.0  # pixels: 1.2 arcsec


def checked_positions(positions: Table, where: object) -> Table:
    """Refuse positions that could not be told apart afterwards; the others stay as they are."""
    tables.require_columns(positions, ("ra", "dec"), where)
    if not len(positions):
        raise UsageError(f"{where}: holds no rows.")
    if "objid" in positions.colnames:
        objid = tables.exact_objid(positions["objid"], where)
    else:
        objid = np.arange(1, len(positions) + 1, dtype=np.uint64)
    tables.require_unique(objid, where)
    checked = Table({"objid": objid, "ra": positions["ra"], "dec": positions["dec"]})
    usable = tables.positions_usable(checked)
    if not usable.any():
        raise UsageError(
            f"{where}: not one row has a position. Give ra and dec in decimal degrees."
        )
    for name in ("ra", "dec"):
        checked[name][~usable] = np.nan
    return checked


def no_positions(checked: Table, where: object) -> list[str]:
    """Say which rows have no position."""
    rows = np.flatnonzero(~np.isfinite(np.asarray(checked["ra"])))
    return [f"{where}, row {row + 1}: ra or dec is no position on the sky." for row in rows]


def placed(stack: BandStack, positions: Table) -> Table:
    """Put positions onto a field's pixels."""
    objects = Table({name: positions[name] for name in ("objid", "ra", "dec")})
    x, y = pixel_positions(stack.wcs, np.asarray(objects["ra"]), np.asarray(objects["dec"]))
    objects["x"], objects["y"] = x, y
    ny, nx = stack.flux.shape[1:]
    here = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    for name, value in stack.field._asdict().items():
        objects[name] = np.where(here, value, NO_FIELD).astype(np.int32)
    objects["flags"] = np.zeros(len(objects), dtype=np.int32)
    return objects


def flags_there(sources: Table, objects: Table) -> NDArray[np.int32]:
    """Tell what detection says of the sources on which positions lie: (n,) sums of `Flag`; 0 where
    no source lies within 3 px.
    """
    flags = np.zeros(len(objects), dtype=np.int32)
    here = np.flatnonzero(np.asarray(objects["run"]) != NO_FIELD)
    if len(sources) and len(here):
        places = [np.column_stack([table["x"], table["y"]]) for table in (sources, objects[here])]
        away, nearest = KDTree(places[0]).query(places[1])
        at = away < _SAME
        flags[here[at]] = np.asarray(sources["flags"])[nearest[at]]
    return flags


def one_row_each(found: Table, positions: Table, model: str) -> Table:
    """Keep each object's best-judged row, and give a flagged one to those on no field."""
    judged = np.isfinite(np.asarray(found["p_star"]))
    whole = (np.asarray(found["flags"]) & int(Flag.EDGE)) == 0
    best = found[np.lexsort((~whole, ~judged, np.asarray(found["objid"])))]
    best = best[np.unique(np.asarray(best["objid"]), return_index=True)[1]]
    missing = positions[~np.isin(positions["objid"], best["objid"])]
    if len(missing):
        for name in ("x", "y"):
            missing[name] = np.nan
        for name in tables.FIELD_COLUMNS:
            missing[name] = np.full(len(missing), NO_FIELD, dtype=np.int32)
        nothing = np.full((len(missing), 3), np.nan)
        flags = np.full(len(missing), int(Flag.OUTSIDE), dtype=np.int32)
        unlike = np.full(len(missing), np.nan) if "unlike" in best.colnames else None
        nowhere = tables.predictions(missing, nothing, flags, model, unlike)
        best = vstack([best, nowhere], metadata_conflicts="silent")
    order = np.argsort(np.asarray(best["objid"]))
    return best[order[np.searchsorted(np.asarray(best["objid"])[order], positions["objid"])]]
