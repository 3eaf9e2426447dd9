"""What `gqs classify` says of fields whose frames do not suffice, and of surveys."""

from __future__ import annotations

from pathlib import Path

import pytest

from gqs.classify.survey import SurveyReport
from gqs.cli.surveying import _lines
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


def test_a_survey_says_what_it_holds_and_what_not() -> None:
    counts = {"QSO": 2, "GALAXY": 1200, "": 1}
    report = SurveyReport(Path("s"), 3, 2, 1300, 1203, counts, 0, ["field: cut"], 1800.0, 3)
    assert _lines(report, ["more"])[:3] == [
        "1,203 objects in 3 fields: 1,200 GALAXY, 2 QSO, 1 not judged.",
        "97 more rows show objects again where fields overlap (primary is false).",
        "2 fields now, 1 set aside, 4 fields an hour.",
    ]
    nothing = SurveyReport(Path("s"), 0, 0, 0, 0, {}, 0, ["field: cut"], 9.0, 3)
    assert _lines(nothing, [])[0] == "No field could be classified."
