"""Many fields on one machine: parts on disk, streamed into one file, honest where none is left."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from drawn import frames
from gqs import tables
from gqs.errors import IntegrityError, UsageError
from gqs.executors.processes import LocalExecutor
from gqs.model.classifier import Classifier
from gqs.runs.field_task import group_tasks
from gqs.runs.local import PartsReport, classify_parts, write_parts
from gqs.surveys.sdss import FieldId, FrameName


def test_streamed_rows_are_those_of_the_parts(
    survey: Path, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups of a field each, of which the first has no row at all."""
    monkeypatch.setattr("gqs.runs.local._GROUP", 1)
    paths = [*frames(survey, 0), *frames(survey, 1)]
    report = classify_parts(classifier, paths, parts=tmp_path / "parts", executor=LocalExecutor(1))
    parts = list(report.each())
    nothing = tmp_path / "nothing.parquet"
    tables.write(parts[0][:0], nothing)
    padded = PartsReport({FieldId(1, 1, 1): nothing, **report.parts})
    out = tmp_path / "whole.parquet"
    counts = write_parts(padded, out, lambda rows: rows, {"made": "by a test"})
    whole = tables.read(tmp_path / "whole.parquet")
    assert whole.meta["made"] == "by a test" and whole["ra"].unit == "deg"
    for name in parts[0].colnames:
        together = np.concatenate([np.asarray(part[name]) for part in parts])
        np.testing.assert_array_equal(np.asarray(whole[name]), together)
    assert counts == {name: (whole["class"] == name).sum() for name in set(whole["class"])}


def test_frames_are_sorted_by_their_names_and_held_to_them(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    paths = frames(survey, 0)
    tasks, refused = group_tasks(paths)
    assert refused == [] and [task.files["r"].name for task in tasks] == [paths[2].name]
    other = FieldId(*tasks[0].name[:2], 77)
    for path in paths:
        name = FrameName.of_file(path.name)
        assert name is not None and name.field == tasks[0].name
        shutil.copy(path, tmp_path / str(FrameName(name.band, other)))
        shutil.copy(path, tmp_path / f"{name.band}.fits.bz2")
    named = sorted(tmp_path.glob("frame-*"))
    report = classify_parts(classifier, named, parts=tmp_path / "parts", executor=LocalExecutor(1))
    assert report.parts == {} and report.code == 7 and "its header" in report.set_aside[0]
    with pytest.raises(IntegrityError, match=r"No field could be classified\..*Rename it"):
        report.refuse_none()
    swapped = tmp_path / "swapped" / paths[0].name  # u under the name of g
    swapped.parent.mkdir()
    shutil.copy(paths[3], swapped)
    these = [swapped, *paths[1:]]
    report = classify_parts(classifier, these, parts=tmp_path / "parts", executor=LocalExecutor(1))
    assert report.code == 7 and "in g, but its header says" in report.set_aside[0]
    assert report.set_aside[0].startswith(str(swapped)) and "in u. Rename" in report.set_aside[0]
    # Names that say nothing: headers tell.
    (task,), _ = group_tasks(sorted(tmp_path.glob("?.fits.bz2")))
    assert task.name == tasks[0].name and list(task.files) == list("ugriz")
    with pytest.raises(UsageError, match="no such file"):
        group_tasks([tmp_path / "frame-r-000001-1-0001.fits"])


@pytest.mark.parametrize(
    "name",
    ["frame-r-1-1-1.fits.bz2", "frame-x-003918-3-0213.fits", "frame-r-003918-7-0213.fits",
     "frame-irg-003918-3-0213.jpg", "frame-r-003918-3-0213.fits.bz2.part"],
)  # fmt: skip
def test_names_that_are_none(name: str) -> None:
    assert FrameName.of_file(name) is None


def test_the_worst_reason_gives_the_code_where_no_field_is_left() -> None:
    with pytest.raises(IntegrityError, match="a b c d e 2 more were set aside"):
        PartsReport({}, list("abcdefg"), code=7).refuse_none()
    PartsReport({FieldId(1, 1, 1): Path("x")}, ["a"], code=7).refuse_none()
