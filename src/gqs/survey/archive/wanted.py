"""Which frames are wanted: those of a catalogue's fields, in some bands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs.errors import BadInputError, UsageError
from gqs.survey.sdss import FieldId, FrameName, check_bands
from gqs.tables import read, require_columns


def fields_in(table: Table, where: object) -> list[FieldId]:
    """List the fields on which a catalogue's objects lie.

    Parameters
    ----------
    table : Table
        With the columns run, camcol and field.
    where : object
        Named in errors.

    Returns
    -------
    list of FieldId
        Each once, in the order of runs.

    Raises
    ------
    UsageError
        If a column is missing.
    BadInputError
        If a row's run, camcol or field is no field.
    """
    require_columns(table, FieldId._fields, where)
    columns = [np.ma.filled(np.ma.asarray(table[name]), -1) for name in FieldId._fields]
    try:
        whole = np.unique(np.stack([column.astype(np.int64) for column in columns], 1), axis=0)
        return [FieldId.parse("-".join(map(str, row))) for row in whole.tolist()]
    except (ValueError, TypeError, UsageError) as error:
        raise BadInputError(
            f"{where}: a row's run, camcol and field name no field ({str(error)[:80]}). Mend it."
        ) from error


def fields_of(path: Path) -> list[FieldId]:
    """List the fields on which the objects of a catalogue file lie.

    Parameters
    ----------
    path : Path
        A table in any format that `gqs.tables.read` knows.

    Returns
    -------
    list of FieldId
        Each once, in the order of runs.

    Raises
    ------
    UsageError
        If there is no such file, or a column is missing.
    BadInputError
        If the file cannot be read, or a row's run, camcol or field is no field.
    """
    return fields_in(read(path), path)


def frames_of(fields: Iterable[FieldId], bands: str) -> list[FrameName]:
    """Name the frames of fields, field by field.

    Parameters
    ----------
    fields : iterable of FieldId
        Repeated ones count once.
    bands : str
        A letter a band.

    Returns
    -------
    list of FrameName
        In the order u g r i z within a field.

    Raises
    ------
    UsageError
        If a letter is no band.
    """
    return [FrameName(band, one) for one in dict.fromkeys(fields) for band in check_bands(bands)]
