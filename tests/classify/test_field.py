"""Fields classified: one row for each object, in order, whatever becomes of its neighbours."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from gqs.classify.classifier import Classifier
from gqs.classify.field import classify_fields
from gqs.classify.region import write_region
from gqs.errors import BadInputError, IntegrityError
from gqs.tables import Flag

from .test_classifier import classifier

__all__ = ["classifier"]


def frames(survey: Path, number: int) -> list[Path]:
    return sorted(sorted((survey / "frames").iterdir())[number].iterdir())


def truth(survey: Path, number: int) -> Table:
    from gqs import tables

    catalog = tables.read(survey / "catalog.csv")
    keys = np.char.add(catalog["run"].astype(str), catalog["camcol"].astype(str))
    return catalog[keys == np.unique(keys)[number]]


def test_detection_gives_the_same_objects_on_every_run(
    survey: Path, classifier: Classifier
) -> None:
    first = classifier.classify_field(frames(survey, 0))
    again = classifier.classify_field(list(reversed(frames(survey, 0))))
    assert len(first) > 10
    assert len(np.unique(first["objid"])) == len(first)
    for name in ("objid", "x", "y", "p_galaxy", "class", "flags", "mag_r"):
        np.testing.assert_array_equal(np.asarray(first[name]), np.asarray(again[name]))
    judged = first[first["class"] != ""]
    sums = judged["p_galaxy"] + judged["p_qso"] + judged["p_star"]
    np.testing.assert_allclose(np.asarray(sums), 1, atol=1e-5)


def test_given_positions_have_one_row_each_in_their_order(
    survey: Path, classifier: Classifier
) -> None:
    known = truth(survey, 0)[["objid", "ra", "dec"]][::-1]
    known["ra"][1], known["dec"][2] = np.nan, 95.0
    known["ra"][3] = (known["ra"][3] + 40) % 360
    found = classifier.classify_field(frames(survey, 0), known)
    np.testing.assert_array_equal(np.asarray(found["objid"]), np.asarray(known["objid"]))
    lost = np.asarray(found["flags"]) & int(Flag.OUTSIDE) > 0
    assert lost[[1, 2, 3]].all() and lost.sum() == 3
    assert (np.asarray(found["class"])[lost] == "").all()
    assert np.isnan(np.asarray(found["p_star"])[lost]).all()


def test_positions_twice_the_same_are_refused(survey: Path, classifier: Classifier) -> None:
    known = truth(survey, 0)[["objid", "ra", "dec"]]
    known["objid"][1] = known["objid"][0]
    with pytest.raises(IntegrityError, match="more than once"):
        classifier.classify_field(frames(survey, 0), known)


def test_frames_of_two_fields_are_not_mixed(survey: Path, classifier: Classifier) -> None:
    with pytest.raises(BadInputError, match="2 fields"):
        classifier.classify_field([*frames(survey, 0), *frames(survey, 1)])


def test_a_missing_band_is_flagged_and_a_missing_r_refused(
    survey: Path, classifier: Classifier
) -> None:
    without = [path for path in frames(survey, 0) if "frame-u" not in path.name]
    found = classifier.classify_field(without)
    assert (np.asarray(found["flags"]) & int(Flag.MISSING_BAND) > 0).all()
    assert (np.asarray(found["class"]) != "").any()
    with pytest.raises(BadInputError, match="r frame is missing"):
        classifier.classify_field([p for p in frames(survey, 0) if "frame-r" not in p.name])


def test_a_damaged_field_is_set_aside_and_the_other_classified(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    copies = []
    for path in [*frames(survey, 0), *frames(survey, 1)]:
        copies.append(tmp_path / path.name)  # names do not matter, headers do
        shutil.copy(path, copies[-1])
    damaged = copies[1]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0x10
    damaged.write_bytes(data)
    report = classify_fields(classifier, copies, processes=2, parts=tmp_path / "parts")
    assert report.fields >= 1
    assert any(damaged.name in sentence for sentence in report.set_aside)
    whole = classifier.classify_field(frames(survey, 1))
    mine = report.predictions[np.isin(report.predictions["objid"], whole["objid"])]
    np.testing.assert_array_equal(np.asarray(mine["p_qso"]), np.asarray(whole["p_qso"]))
    # The finished field is kept: a rerun takes it from there and gives the same.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    again = classify_fields(classifier, copies, processes=2, parts=tmp_path / "parts")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()} == kept
    np.testing.assert_array_equal(
        np.asarray(again.predictions["p_qso"]), np.asarray(report.predictions["p_qso"])
    )


def test_positions_over_several_fields_go_where_they_lie(
    survey: Path, classifier: Classifier
) -> None:
    from astropy.table import vstack

    known = vstack([truth(survey, 1), truth(survey, 0)])[["objid", "ra", "dec"]]
    known.add_row((1, 10.0, -80.0))
    paths = [*frames(survey, 0), *frames(survey, 1)]
    found = classify_fields(classifier, paths, known, processes=2).predictions
    np.testing.assert_array_equal(np.asarray(found["objid"]), np.asarray(known["objid"]))
    assert found["flags"][-1] & Flag.OUTSIDE
    placed = np.asarray(found["camcol"])[:-1]
    assert len(np.unique(placed)) == 2 and (placed > 0).all()


def test_a_region_file_names_each_source(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    found = classifier.classify_field(frames(survey, 0))
    text = write_region(found, tmp_path / "sources.reg").read_text()
    circles = [line for line in text.splitlines() if line.startswith("circle(")]
    assert len(circles) == len(found)
    assert text.splitlines()[1] == "icrs"
