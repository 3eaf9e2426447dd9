"""Catalogue rows to fields: by the catalogue's own word, or else by position, one field a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from gqs import tables
from gqs.errors import BadInputError
from gqs.imaging import unpack
from gqs.imaging.astrometry import celestial_wcs
from gqs.imaging.cutouts import pixel_positions
from gqs.survey.sdss import REFERENCE_BAND, FieldId

_BAND_DEG: Final = 0.5  # of declination about a field's centre in which its rows are looked for


def rows_by_field(
    catalog: Table, fields: Mapping[FieldId, Mapping[str, Path]]
) -> tuple[dict[FieldId, NDArray[np.int64]], list[str]]:
    """Give every catalogue row to at most one field.

    Parameters
    ----------
    catalog : Table
        With `ra` and `dec`, and `run`, `camcol` and `field` where it has them.
    fields : mapping
        For each field its frames by band, r among them.

    Returns
    -------
    rows : dict
        For each field the rows that belong to it, ascending; fields without rows are left out.
    set_aside : list of str
        A sentence for each field whose header cannot be used.
    """
    if all(name in catalog.colnames for name in tables.FIELD_COLUMNS):
        return _by_name(catalog, fields), []
    return _by_position(catalog, fields)


def _by_name(catalog: Table, fields: Iterable[FieldId]) -> dict[FieldId, NDArray[np.int64]]:
    said = np.stack([tables.as_float(catalog[name]) for name in tables.FIELD_COLUMNS], axis=1)
    found = {}
    for field in fields:
        rows = np.flatnonzero((said == np.array(field)).all(axis=1))
        if len(rows):
            found[field] = rows
    return found


def _by_position(
    catalog: Table, fields: Mapping[FieldId, Mapping[str, Path]]
) -> tuple[dict[FieldId, NDArray[np.int64]], list[str]]:
    """Give a row to the field on which it lies farthest from the edge."""
    order = np.argsort(np.asarray(catalog["dec"]), kind="stable")
    ra, dec = (np.asarray(catalog[name])[order] for name in ("ra", "dec"))
    best = np.full(len(catalog), -np.inf)
    owner = np.full(len(catalog), -1)
    set_aside = []
    for number, (field, frames) in enumerate(fields.items()):
        try:
            wcs, (ny, nx) = _footprint(frames[REFERENCE_BAND])
        except BadInputError as error:
            set_aside.append(f"Field {field}: {error}")
            continue
        centre = float(wcs.all_pix2world([[nx / 2, ny / 2]], 0)[0, 1])
        near = slice(*np.searchsorted(dec, [centre - _BAND_DEG, centre + _BAND_DEG]))
        x, y = pixel_positions(wcs, ra[near], dec[near])
        margin = np.minimum.reduce([x + 0.5, nx - 0.5 - x, y + 0.5, ny - 0.5 - y])
        margin = np.where(np.isfinite(margin) & (margin >= 0), margin, -np.inf)
        better = margin > best[near]
        best[near] = np.where(better, margin, best[near])
        owner[near] = np.where(better, number, owner[near])
    found = {}
    for number, field in enumerate(fields):
        rows = np.sort(order[owner == number])
        if len(rows):
            found[field] = rows
    return found, set_aside


def _footprint(path: Path) -> tuple[WCS, tuple[int, int]]:
    header = fits.Header.fromstring(unpack.head(path).decode("latin-1"))
    try:
        shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
    except (KeyError, ValueError) as error:
        raise BadInputError(f"{path}: its header has no size. Fetch the frame again.") from error
    return celestial_wcs(header, shape, path), shape
