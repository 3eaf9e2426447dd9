"""`gqs classify`: missing bands, summaries of surveys, wrong options, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gqs.cli.app import app
from gqs.cli.classify import ClassifyOptions, field_picture, missing_bands, survey_lines
from gqs.errors import GqsError, UsageError
from gqs.files import only_writer
from gqs.imaging.frames import read_frame
from gqs.model.classifier import Classifier
from gqs.report.pictures import INVALID, LINEAR, SKY_LEVEL, WHITE_LEVEL
from gqs.runs.survey import SurveyReport


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ({"uz": 2}, "u and z are missing:"),
        ({"u": 1}, "u is missing in 1 of the 2 fields:"),
        ({"zu": 1, "g": 1}, "u, g and z are missing:"),
    ],
)
def test_missing_bands_are_named(lacking: dict[str, int], named: str) -> None:
    (line,) = missing_bands(lacking, 2)
    assert named in line


def test_nothing_is_printed_where_no_band_is_missing() -> None:
    assert missing_bands({}, 2) == []


def test_the_summary_of_a_survey() -> None:
    counts = {"QSO": 2, "GALAXY": 1200, "": 1}
    report = SurveyReport(Path("s"), 3, 2, 1300, 1203, counts, {"i": 1}, ["field: cut"], 1800.0, 3)
    lines = survey_lines(report, ["more"])
    assert lines[0] == "1,203 objects in 3 fields: 1,200 GALAXY, 2 QSO, 1 not classified."
    assert lines[1].startswith("97 more rows")
    assert lines[2] == "2 fields in this run, 1 before, 1 set aside, 4 fields per hour."
    assert "Band i is missing in 1 of the 3 fields" in lines[3]
    assert "more" in lines
    nothing = SurveyReport(Path("s"), 0, 0, 0, 0, {}, {}, ["field: cut"], 9.0, 3)
    assert survey_lines(nothing, [])[0] == "No field could be classified."


@pytest.mark.parametrize(
    ("frames", "code", "message"),
    [("frame-r.fits", 5, "is writing here"), ("nowhere", 2, "no such file or folder")],
)
def test_wrong_paths_are_refused_before_the_model_is_loaded(
    tmp_path: Path, frames: str, code: int, message: str
) -> None:
    """The model folder does not exist either, which would be the next error."""
    (tmp_path / "frame-r.fits").touch()
    words = ["classify", str(tmp_path / frames), "--model", str(tmp_path / "none")]
    with only_writer(tmp_path / "survey"):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "survey")])
    assert isinstance(done.exception, GqsError)
    assert done.exception.exit_code == code
    assert message in str(done.exception)


def test_an_empty_scheduler_is_refused() -> None:
    """An unset variable in a batch script must not start a local run."""
    with pytest.raises(UsageError, match="--scheduler is empty"):
        ClassifyOptions(out=Path("survey"), scheduler="").check()


@pytest.mark.parametrize("verb", ["classify --out t.fits", "explain --x 3 --y 4 --out t.html"])
def test_a_release_without_effect_is_refused(tmp_path: Path, verb: str) -> None:
    (tmp_path / "frame-r.fits").touch()
    words = [*verb.split(), str(tmp_path / "frame-r.fits"), "--model", str(tmp_path / "none")]
    done = CliRunner().invoke(app, [*words, "--release", "17"])
    assert isinstance(done.exception, UsageError)
    assert "--release" in str(done.exception)


def test_a_field_without_colours_is_drawn_in_grey_and_nothing_is_set_aside(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    path = min(survey.rglob("frame-r-*.fits.bz2"))
    out, plot = tmp_path / "r.csv", tmp_path / "r.svg"
    words = ["classify", str(path), "--model", str(classifier.folder), "--workers", "1"]
    done = CliRunner().invoke(app, [*words, "--out", str(out), "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    assert f"Picture: {plot}" in done.output and "set aside" not in done.output
    assert ", band r only: " in plot.read_text()  # the title


def test_one_band_gives_a_grey_picture_with_the_sky_at_its_level(survey: Path) -> None:
    r = min(survey.rglob("frame-r-*.fits.bz2"))
    files = {band: r.with_name(r.name.replace("-r-", f"-{band}-")) for band in "gri"}
    assert field_picture(files)[2] == "gri"
    picture, _, bands = field_picture({band: files[band] for band in "ri"})
    assert bands == "r" and picture.shape == (300, 420, 3)
    bad = read_frame(r).bad
    sky = 255 * np.arcsinh(SKY_LEVEL / LINEAR) / np.arcsinh(WHITE_LEVEL / LINEAR)
    assert np.median(picture[~bad]) == pytest.approx(sky, abs=0.51)
    assert (np.ptp(picture, axis=-1) == 0)[~bad].all()
    assert (picture[bad] == INVALID).all()
