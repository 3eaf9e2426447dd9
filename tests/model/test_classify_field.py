"""Fields classified: one row for each object, in order, whatever becomes of its neighbours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from drawn import frames, stars
from gqs.cutouts.channels import to_channels
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.files import sha256
from gqs.labels import PROBABILITY_COLUMNS
from gqs.model import novelty
from gqs.model.calibration import METHOD
from gqs.model.classifier import Classifier, load_classifier
from gqs.model.folder import CARD, TYPICAL, Card, save_model
from gqs.model.temperature import Temperature
from gqs.networks import zoo
from gqs.networks.embedding import embed
from gqs.probability.label_shift import ClassFractions
from gqs.report.palette import ON_SKY
from gqs.runs.local import classify_fields
from gqs.tables import Flag
from gqs.tables.region import write_region


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


def test_a_pattern_and_a_folder_name_the_frames_of_a_field(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    files = frames(survey, 0)
    for path in files:
        (tmp_path / path.name).symlink_to(path)
    expected = classifier.classify_field(files)
    for given in (tmp_path, str(tmp_path / "frame-?-*.fits*")):
        found = classifier.classify_field(given)
        np.testing.assert_array_equal(np.asarray(found["p_star"]), np.asarray(expected["p_star"]))
    with pytest.raises(UsageError, match="matches no file"):
        classifier.classify_field(str(tmp_path / "nothing-*.fits"))


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


def test_a_position_has_the_flags_of_the_detection_there(
    survey: Path, classifier: Classifier
) -> None:
    found = classifier.classify_field(frames(survey, 0))
    again = classifier.classify_field(frames(survey, 0), found["objid", "ra", "dec"])
    both = int(Flag.SATURATED | Flag.BLENDED | Flag.COSMIC_RAY | Flag.HALO)
    assert (np.asarray(found["flags"]) & both).any()
    assert ((np.asarray(again["flags"]) & both) == (np.asarray(found["flags"]) & both)).all()


def test_a_saturated_star_has_no_error_of_its_psf_magnitude(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    """A flat top as photo leaves it, 8 pixels wide: the profile's fit says nothing of its light."""
    changed = []
    for path in frames(survey, 0):
        with fits.open(path) as opened:
            ny, nx = opened[0].data.shape
            y, x = np.indices((ny, nx))
            opened[0].data += 60 * np.exp(-((np.hypot(x - nx / 2, y - ny / 3) / 4) ** 8))
            changed.append(tmp_path / path.name.removesuffix(".bz2"))
            opened.writeto(changed[-1])
    found = classifier.classify_field(changed)
    top = np.hypot(found["x"] - nx / 2, found["y"] - ny / 3) < 4
    assert top.sum() == 1
    assert found["flags"][top][0] & int(Flag.SATURATED)
    assert np.isfinite(found["psf_mag_r"][top][0]) and np.isnan(found["psf_mag_err_r"][top][0])
    fine = np.asarray(found["flags"]) & int(Flag.SATURATED) == 0
    assert np.isfinite(found["psf_mag_err_r"][fine]).mean() > 0.9


def test_positions_twice_the_same_are_refused(survey: Path, classifier: Classifier) -> None:
    known = truth(survey, 0)[["objid", "ra", "dec"]]
    known["objid"][1] = known["objid"][0]
    with pytest.raises(IntegrityError, match="repeated"):
        classifier.classify_field(frames(survey, 0), known)


def test_frames_of_two_fields_are_not_mixed(survey: Path, classifier: Classifier) -> None:
    with pytest.raises(BadInputError, match="2 fields"):
        classifier.classify_field([*frames(survey, 0), *frames(survey, 1)])


def test_a_missing_band_is_flagged_and_a_missing_r_refused(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    without = [path for path in frames(survey, 0) if "frame-u" not in path.name]
    report = classify_fields(classifier, without, processes=1)
    found = report.predictions
    assert list(report.lacking.values()) == ["u"]
    assert (np.asarray(found["flags"]) & int(Flag.MISSING_BAND) > 0).all()
    assert (np.asarray(found["class"]) != "").any()
    with pytest.raises(BadInputError, match="r frame is missing"):
        classifier.classify_field([p for p in frames(survey, 0) if "frame-r" not in p.name])
    # A band of zeros counts as missing, with a warning.
    blank = tmp_path / "frame-u.fits"
    with fits.open(next(p for p in frames(survey, 0) if "frame-u" in p.name)) as opened:
        opened[0].data[:] = 0
        opened.writeto(blank)
    with pytest.warns(UserWarning, match=r"frame-u\.fits: has no signal"):
        again = classifier.classify_field([*without, blank])
    for name in ("objid", "flags"):
        np.testing.assert_array_equal(np.asarray(again[name]), np.asarray(found[name]))
    # Another process with another number of threads: sums are rounded differently.
    for name in ("p_galaxy", "psf_mag_r", "psf_mag_u"):
        np.testing.assert_allclose(again[name], found[name], rtol=0, atol=1e-6)
    report = classify_fields(classifier, [*without, blank], processes=1)
    assert list(report.lacking.values()) == ["u"] and not report.set_aside
    assert np.isfinite(found["psf_mag_r"]).mean() > 0.9
    assert np.isnan(np.asarray(found["psf_mag_u"])).all()


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
    # Another number of threads: sums are rounded differently.
    np.testing.assert_allclose(mine["p_qso"], whole["p_qso"], rtol=0, atol=1e-6)
    # The finished field is kept: a rerun takes it from there and gives the same.
    parts = tmp_path / "parts"
    kept = {path: path.stat().st_mtime_ns for path in parts.rglob("*.parquet")}
    assert kept
    again = classify_fields(classifier, copies, processes=2, parts=tmp_path / "parts")
    assert {path: path.stat().st_mtime_ns for path in parts.rglob("*.parquet")} == kept
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
    text = write_region(found, tmp_path / "sources.reg", ON_SKY).read_text()
    circles = [line for line in text.splitlines() if line.startswith("circle(")]
    assert len(circles) == len(found)
    assert text.splitlines()[1] == "icrs"


def test_positions_on_one_field_cost_the_other_nothing(
    survey: Path, classifier: Classifier
) -> None:
    known = truth(survey, 0)[["objid", "ra", "dec"]]
    paths = [*frames(survey, 0), *frames(survey, 1)]
    report = classify_fields(classifier, paths, known, processes=2)
    assert report.set_aside == []
    np.testing.assert_array_equal(
        np.asarray(report.predictions["objid"]), np.asarray(known["objid"])
    )


def test_positions_off_every_frame_have_flagged_rows(survey: Path, classifier: Classifier) -> None:
    known = Table({"objid": [5, 4], "ra": [10.0, np.nan], "dec": [-80.0, 3.0]})
    report = classify_fields(classifier, frames(survey, 0), known, processes=1)
    assert report.predictions["objid"].tolist() == [5, 4]
    assert ((np.asarray(report.predictions["flags"]) & int(Flag.OUTSIDE)) > 0).all()
    assert report.predictions["run"].tolist() == [-1, -1]
    assert len(report.set_aside) == 1 and "row 2" in report.set_aside[0]
    with pytest.raises(UsageError, match="not one row"):
        classify_fields(classifier, frames(survey, 0), known[1:], processes=1)


def test_hours_are_not_taken_for_degrees(survey: Path, classifier: Classifier) -> None:
    known = truth(survey, 0)[["objid", "ra", "dec"]]
    hours = known.copy()
    hours["ra"] = known["ra"] / 15
    hours["ra"].unit = "hourangle"
    one = classifier.classify_field(frames(survey, 0), known)
    other = classifier.classify_field(frames(survey, 0), hours)
    np.testing.assert_array_equal(np.asarray(one["class"]), np.asarray(other["class"]))
    hours["ra"].unit = "mag"
    with pytest.raises(UsageError, match="not an angle"):
        classifier.classify_field(frames(survey, 0), hours)


def test_a_replaced_frame_is_classified_anew(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    import bz2

    plain = []
    for path in frames(survey, 0):
        plain.append(tmp_path / path.name.removesuffix(".bz2"))
        plain[-1].write_bytes(bz2.decompress(path.read_bytes()))
    first = classify_fields(classifier, plain, parts=tmp_path / "parts").predictions
    with fits.open(plain[2], mode="update") as opened:  # g i r u z
        opened[0].data *= 0.5
        opened[0].header["ORIGIN"] = "a reduction of one's own"
    again = classify_fields(classifier, plain, parts=tmp_path / "parts").predictions
    assert (again["flags"] & Flag.NOISE_ESTIMATED).all()
    assert np.nanmedian(again["mag_r"]) > np.nanmedian(first["mag_r"]) + 0.3 or len(first) != len(
        again
    )


def test_parts_of_a_model_before_it_was_completed_are_not_mixed_in(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    """The same weights, but other probabilities, or a column more."""
    folder, paths = tmp_path / "model", frames(survey, 0)
    shutil.copytree(classifier.folder, folder)

    def judged() -> Table:
        found = classify_fields(load_classifier(folder), paths, parts=tmp_path / "parts")
        return found.predictions[found.predictions["class"] != ""]

    def change(**values: object) -> None:
        card = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps({**card, **values}))

    plain = judged()
    learned = ClassFractions(np.array([18.0]), np.full((1, 3), 1 / 3)).to_json()
    twice = Temperature(2.0, (), ()).to_json()
    change(calibration={"method": METHOD, "temperature": twice, "learned_shares": learned})
    milder = judged()  # softmax(logits / 2): roots of what the logits give, scaled
    roots = np.sqrt(np.stack([plain[name] for name in PROBABILITY_COLUMNS], axis=1))
    np.testing.assert_allclose(
        np.stack([milder[name] for name in PROBABILITY_COLUMNS], axis=1),
        roots / roots.sum(axis=1, keepdims=True),
        atol=1e-5,
    )
    flux = stars(60)
    embedding = (
        embed(classifier.network, to_channels(classifier.preprocessing, flux))[1].detach().numpy()
    )
    path = novelty.fit(embedding, np.arange(60) % 3, embedding).save(folder / TYPICAL)
    change(training={"typical_sha256": sha256(path)})
    assert "unlike" in judged().colnames
    path.unlink()
    assert "unlike" not in judged().colnames


def test_a_colour_picture_hides_no_masked_centre(
    survey: Path, tmp_path: Path, classifier: Classifier
) -> None:
    network = zoo.build("resnet18", channels=3)
    card = Card(network="resnet18", bands="gri", form="paper", stretch="linear",
                data_hash="0", split_hash="0")  # fmt: skip
    save_model(tmp_path, network.state_dict(), card)
    paper = load_classifier(tmp_path)
    on_edge = truth(survey, 0)[["objid", "ra", "dec"]]
    judged = paper.classify_field(frames(survey, 0), on_edge)
    flux = classifier.classify_field([p for p in frames(survey, 0) if p.name[6] in "gri"], on_edge)
    blank = np.asarray(flux["flags"]) & int(Flag.NOT_JUDGED) > 0
    np.testing.assert_array_equal(np.asarray(judged["class"]) == "", blank)
    assert paper.predict_cutouts(np.zeros((0, 3, 50, 50), np.uint8)).shape == (0, 3)


def test_the_default_prior_is_the_sky_for_detections_and_balanced_for_positions(
    survey: Path,
) -> None:
    classifier = load_classifier()
    detected = classifier.classify_field(frames(survey, 0))
    assert detected.meta["prior"] == "sky"
    placed = classifier.classify_field(frames(survey, 0), detected["objid", "ra", "dec"])
    assert placed.meta["prior"] == "balanced"
    for name in PROBABILITY_COLUMNS:
        np.testing.assert_allclose(placed[name], detected[f"{name}_balanced"], atol=1e-6)
    assert "prior" not in classifier.classify_field(frames(survey, 0), prior="training").meta
