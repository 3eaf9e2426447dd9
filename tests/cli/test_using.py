"""What `gqs classify` says of fields whose frames do not suffice."""

from __future__ import annotations

import pytest

from gqs.cli.using import _lacking
from gqs.survey.sdss import FieldId

ONE, OTHER = FieldId(3918, 3, 11), FieldId(3918, 3, 12)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ({}, []),
        ({ONE: "uz", OTHER: "uz"}, ["Bands u and z are missing, which"]),
        ({OTHER: "u"}, ["Band u is missing in 1 of the 2 fields, which"]),
        ({ONE: "zu", OTHER: "g"}, ["Bands u, g and z are missing, which"]),
    ],
)
def test_missing_bands_are_named(lacking: dict[FieldId, str], said: list[str]) -> None:
    lines = _lacking(lacking, 2)
    assert lines == [f"{line} the model knows: results are worse for it." for line in said]
