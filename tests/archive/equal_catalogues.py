"""When two catalogues are the same."""

from __future__ import annotations

import numpy as np
from astropy.table import Table


def same(one: Table, other: Table) -> None:
    """Equal rows and meta, but for the time."""
    assert one.colnames == other.colnames
    for name in one.colnames:
        assert one[name].dtype.kind == other[name].dtype.kind and one[name].unit == other[name].unit
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert {**one.meta, "retrieved": ""} == {**other.meta, "retrieved": ""}
