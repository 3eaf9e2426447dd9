"""Which frames are wanted: those of a catalogue's fields, in some bands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs.errors import BadInputError, UsageError
from gqs.surveys.sdss import FieldId, FrameName, check_bands
from gqs.tables import read, require_columns


def fields_in(table: Table, where: object) -> list[FieldId]:
    """List the fields on which a catalogue's objects lie."""
    require_columns(table, FieldId._fields, where)
    columns = [np.ma.filled(np.ma.asarray(table[name]), -1) for name in FieldId._fields]
    try:
        whole = np.unique(np.stack([column.astype(np.int64) for column in columns], 1), axis=0)
        return [FieldId.parse("-".join(map(str, row))) for row in whole.tolist()]
    except (ValueError, TypeError, UsageError) as error:
        raise BadInputError(
            f"{where}: a row's run, camcol and field name no field ({str(error)[:80]}). Correct it."
        ) from error


def fields_of(path: Path) -> list[FieldId]:
    """List the fields on which the objects of a catalogue file lie."""
    return fields_in(read(path), path)


def frames_of(fields: Iterable[FieldId], bands: str) -> list[FrameName]:
    """Name the frames of fields, field by field."""
    return [FrameName(band, one) for one in dict.fromkeys(fields) for band in check_bands(bands)]
