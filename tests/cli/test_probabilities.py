"""`gqs classify` with priors, sets and candidates as a user types it: files, words, exit codes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table, vstack

from cli.commands import gqs
from gqs import labels, tables
from gqs.cli.classify import ClassifyOptions
from gqs.cli.probability_summary import ProbabilityOptions
from gqs.errors import IntegrityError, UsageError
from gqs.files import sha256
from gqs.imaging.frames import group_fields
from gqs.model.calibration import ValidationLogits, calibrate, table_of
from gqs.model.classifier import Classifier, load_classifier
from gqs.model.folder import Card, save_model
from gqs.model.reweight import apply_prior, bands_given, list_candidates
from gqs.networks import zoo
from gqs.probability.label_shift import training_fractions
from gqs.probability.priors import BRIGHTEST_QSO, find_prior
from gqs.tables import Flag

POLE = (192.86, 27.13)  # the northern galactic pole, degrees


def checked(
    classifier: Classifier,
    out: Path,
    prior: str | None = None,
    coverage: float | None = None,
    candidates: str | None = None,
    purity: float | None = None,
    candidates_out: Path | None = None,
) -> ProbabilityOptions:
    """Options as `gqs classify` checks them."""
    asked = ClassifyOptions(
        out=out,
        prior=prior,
        coverage=coverage,
        candidates=candidates,
        purity=purity,
        candidates_out=candidates_out,
    )
    return ProbabilityOptions.check(classifier, asked)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of three bands. What is tested holds for any weights and held-out objects."""
    torch.manual_seed(3)
    arguments = {"width": 4, "hidden": 16}
    network = zoo.build("compact", channels=6, **arguments).eval()
    with torch.no_grad():
        network.head[-1].weight.mul_(20)  # probabilities that differ, as a trained network's do
    rng = np.random.default_rng(1)
    n = 1500
    truth, mag_r = rng.integers(0, 3, n), rng.uniform(13, 24, n)
    logits = rng.normal(size=(n, 3)) + 5 * np.eye(3)[truth]
    objid = np.arange(n, dtype=np.uint64)
    own, less = (ValidationLogits(objid, truth, mag_r, logits / doubt) for doubt in (1.0, 2.0))
    folder = tmp_path_factory.mktemp("model")
    path = tables.write(table_of({"gri": own, "r": less}), folder / "held_out.parquet")
    card = Card(
        network="compact",
        arguments=arguments,
        bands="gri",
        form="flux",
        stretch="linear",
        data_hash="0" * 64,
        split_hash="0" * 64,
        training={"held_out_sha256": sha256(path)},
        calibration=calibrate(own, training_fractions(truth, mag_r), {"r": less}),
    )
    save_model(folder, network.state_dict(), card)
    return folder


@pytest.fixture(scope="module")
def catalogue(model: Path, survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of two fields, for the training set's class fractions."""
    classifier = load_classifier(model)
    fields, _ = group_fields(sorted(survey.rglob("frame-*.fits.bz2")))
    found = [
        classifier.classify_field(list(fields[name].values()), prior="training")
        for name in sorted(fields)
    ]
    out = tmp_path_factory.mktemp("plain") / "plain.parquet"
    return tables.write(vstack(found, metadata_conflicts="silent"), out)


def probabilities(table: Table) -> np.ndarray:
    return np.stack([np.asarray(table[name]) for name in labels.PROBABILITY_COLUMNS], axis=1)


def test_prior_sets_and_candidates_in_one_go(
    model: Path, catalogue: Path, survey: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sky.fits"
    done = gqs("classify", survey, "--model", model, "--out", out, "--prior", "sky",
               "--coverage", 0.9, "--candidates", "galaxy", "--purity", 0.3,
               "--workers", 1)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Probabilities hold for the prior sky: published counts" in done.stdout
    assert "contain the true class of 90 % of the objects of each class" in done.stdout
    assert "valid for objects like the model's validation objects" in done.stdout
    found, before = tables.read(out), tables.read(catalogue)
    assert found.meta["prior"] == "sky"
    assert found.meta["coverage"] == 0.9
    assert "Bahcall" in found.meta["prior_source"]
    np.testing.assert_array_equal(found["objid"], before["objid"])
    p, judged = probabilities(found), np.asarray(before["class"]).astype(str) != ""
    np.testing.assert_allclose(p[judged].sum(axis=1), 1)
    names = np.array(labels.CLASSES)[p[judged].argmax(axis=1)]
    np.testing.assert_array_equal(np.asarray(found["class"]).astype(str)[judged], names)
    sets = [str(text).split() for text in found["set"]]
    for name, some, seen in zip(found["class"], sets, judged, strict=True):
        assert (str(name) in some) if seen else not some
        assert some == [one for one in labels.CLASSES if one in some]
    listed = tables.read(tmp_path / "sky-galaxy-candidates.fits")
    values = listed.meta["candidates"]
    assert values["class"] == "GALAXY" and values["bands"] == "gri"
    assert values["purity"]["low"] <= values["purity"]["value"] <= values["purity"]["high"]
    assert values["reached"] and values["held_out_above"] >= 30
    score = np.asarray(listed["p_galaxy"])
    assert (np.diff(score) <= 0).all()
    assert len(listed) and score.min() >= values["threshold"]
    assert f"{len(listed)} GALAXY candidates with p_galaxy >= " in done.stdout
    assert not np.asarray(listed["flags"]).any()
    flagged = np.asarray(found["flags"]) & ~int(Flag.NO_PRIOR) > 0
    left = int((flagged & (np.asarray(found["p_galaxy"]) >= values["threshold"])).sum())
    assert left and f"{left} object{'s'[: left != 1]} not listed because of flags" in done.stdout


def test_python_gives_what_the_command_gives(model: Path, catalogue: Path) -> None:
    classifier, before = load_classifier(model), tables.read(catalogue)
    sky = find_prior("sky")
    weighted = apply_prior(before, classifier, sky, coverage=0.9)
    again = apply_prior(before, classifier, "sky", coverage=0.9)
    assert (weighted["set"] == again["set"]).all()
    listed = list_candidates(weighted, classifier, "QSO", 0.05, sky)
    assert listed.threshold.reached and listed.threshold.objects == 1500
    assert listed.own == pytest.approx(np.mean(listed.table["p_qso"]))
    for prior in (None, find_prior("balanced")):
        with pytest.raises(UsageError, match=r"^A list of candidates needs to know how many"):
            list_candidates(weighted, classifier, "QSO", 0.05, prior)


def test_sets_and_lists_rest_on_held_out_objects_with_the_same_bands(
    model: Path, catalogue: Path
) -> None:
    classifier, table = load_classifier(model), tables.read(catalogue)
    names = np.stack([np.asarray(table[name]) for name in tables.FIELD_COLUMNS], axis=1)
    first = np.asarray((names == names[0]).all(axis=1))
    for bands, lacking in (("r", "gi"), ("gr", "i")):
        for name in [f"{kind}_{band}" for kind in ("mag", "seeing") for band in lacking]:
            table[name][first] = np.nan
        table["flags"][first] |= int(Flag.MISSING_BAND)
        for band in set("gri") - set(lacking):
            table[f"seeing_{band}"][first] = 1.3
        assert set(bands_given(table, classifier)[first]) == {bands}
        assert set(bands_given(table, classifier)[~first]) == {"gri"}
        here = apply_prior(table, classifier, "sky", coverage=0.9)
        judged = np.asarray(here["class"]).astype(str) != ""
        blank = np.asarray(here["set"]).astype(str) == ""
        np.testing.assert_array_equal(blank, ~judged | (first & (bands == "gr")))
        listed = list_candidates(here, classifier, "STAR", 0.5, find_prior("sky"))
        less = bands == "r" and judged[first].sum() > judged[~first].sum()
        assert listed.bands == ("r" if less else "gri")
        assert listed.other_bands == judged[~first if less else first].sum()
    with pytest.raises(UsageError, match="gri and r, not with gr, so a list"):
        list_candidates(here[first], classifier, "STAR", 0.5, find_prior("sky"))


def test_a_purity_that_nothing_reaches_gives_an_empty_list_and_the_best_there_is(
    model: Path, catalogue: Path, tmp_path: Path
) -> None:
    classifier, listed = load_classifier(model), tmp_path / "list.ecsv"
    asked = ("sky", None, "QSO", 0.9999, listed)
    wanted = checked(classifier, tmp_path / "all.ecsv", *asked)
    _, lines, values = wanted.apply(tables.read(catalogue), classifier)
    assert values["prior"] == "sky" and "Bahcall" in values["prior_source"]
    found = values["candidates"]
    assert found["reached"] is False and found["objects"] == 0
    assert 0 < found["purity"]["value"] < 0.9999
    assert found["prior"] == "sky" and found["purity_by_own_probabilities"] is None
    assert any("99.99 %" in line and found["why_not"] in line for line in lines)
    assert not len(tables.read(listed))


@pytest.mark.parametrize("ending", [".parquet", ".ecsv"])
def test_the_figures_of_a_list_are_in_its_meta_as_astropy_reads_it(
    model: Path, catalogue: Path, tmp_path: Path, ending: str
) -> None:
    classifier, listed = load_classifier(model), tmp_path / f"list{ending}"
    wanted = checked(classifier, tmp_path / "all.csv", "sky", None, "GALAXY", 0.3, listed)
    _, _, values = wanted.apply(tables.read(catalogue), classifier)
    found = Table.read(listed).meta["candidates"]
    assert found == tables.read(listed).meta["candidates"]
    assert found == {k: v for k, v in values["candidates"].items() if k not in ("prior", "out")}
    assert found["objects"] == len(Table.read(listed)) and found["left_out"]["flagged"] > 0
    assert found["purity"]["value"] >= 0.3


def test_one_is_written_in_the_singular(model: Path, catalogue: Path, tmp_path: Path) -> None:
    classifier, before = load_classifier(model), tables.read(catalogue)
    asked = ("sky", None, "GALAXY", 0.3, tmp_path / "list.csv")
    wanted = checked(classifier, tmp_path / "all.csv", *asked)
    found = apply_prior(before, classifier, "sky")
    listed = list_candidates(found, classifier, "GALAXY", 0.3, find_prior("sky"))
    score, flags = np.asarray(before["p_galaxy"]), np.asarray(before["flags"])
    first = before["objid"] == listed.table["objid"][0]
    faulty = (found["p_galaxy"] >= listed.threshold.value) & (flags > 0) & np.isfinite(score)
    one = before[first | (np.arange(len(before)) == np.flatnonzero(faulty)[0])]
    _, lines, _ = wanted.apply(one, classifier)
    assert any(line.startswith("1 GALAXY candidate with p_galaxy >=") for line in lines)
    assert any(line.startswith("1 object not listed because of flags") for line in lines)


def test_a_prior_of_shares_alone_is_named_and_one_of_counts_is_not_refused(
    model: Path, tmp_path: Path
) -> None:
    classifier, out = load_classifier(model), tmp_path / "out.csv"
    shares = tmp_path / "shares.csv"
    shares.write_text("r,galaxy,qso,star\n16,0.2,0.1,0.7\n22,0.7,0.1,0.2\n")
    with pytest.raises(UsageError) as refusal:
        checked(classifier, out, str(shares), None, "QSO", 0.5, None)
    message = str(refusal.value)
    assert "the prior shares.csv has fractions only" in message
    assert "sources a square degree and magnitude" in message and "docs/probabilities.md" in message
    assert "Add" not in message  # a table was given
    page = (Path(__file__).parents[2] / "docs" / "probabilities.md").read_text()
    (shown,) = re.findall(r"```\n(r,galaxy,qso,star\n.*?)```", page, re.DOTALL)
    counts = tmp_path / "counts.csv"
    counts.write_text(shown)
    assert checked(classifier, out, str(counts), None, "QSO", 0.5, None).candidates == "QSO"
    rows = tables.read(counts)
    r, (ra, dec) = tables.as_float(rows["r"]), POLE
    sky = find_prior("sky").density(r, np.full(len(r), ra), np.full(len(r), dec))
    written = np.stack([tables.as_float(rows[name.lower()]) for name in labels.CLASSES], axis=1)
    sky[r < BRIGHTEST_QSO, labels.index(labels.QSO)] = written[r < BRIGHTEST_QSO, 1]  # none there
    np.testing.assert_allclose(written, sky, rtol=0.06)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"prior": "heaven"}, "none of sky, balanced, training"),
        ({"coverage": 95}, "above 0 and below 1"),
        ({"prior": "sky", "candidates": "QUASAR"}, "the classes are GALAXY, QSO, STAR"),
        ({"prior": "sky", "candidates": "QSO", "purity": 90}, "above 0 and below 1"),
        ({"purity": 0.9}, "need --candidates"),
        ({"candidates": "QSO", "prior": "training"}, "Use --prior sky"),
        (
            {"candidates": "QSO", "prior": "balanced"},
            "balanced has fractions only. Use --prior sky",
        ),
        ({"candidates": "QSO", "prior": "sky", "candidates_out": Path("list.txt")}, "list.txt"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(
    model: Path, words: dict[str, object], message: str
) -> None:
    asked = dict.fromkeys(("prior", "coverage", "candidates", "purity", "candidates_out")) | words
    with pytest.raises(UsageError, match=message):
        checked(load_classifier(model), Path("out.csv"), **asked)


def test_a_list_without_a_sky_is_refused_as_a_user_sees_it(
    model: Path, survey: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    done = gqs("classify", survey, "--model", model, "--out", out, "--candidates", "qso",
               "--prior", "training")  # fmt: skip
    assert done.returncode == 2
    assert "how many of each class the sky holds. Use --prior sky" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_an_old_model_and_a_changed_one_are_refused(model: Path, tmp_path: Path) -> None:
    old = shutil.copytree(model, tmp_path / "old")
    card = json.loads((old / "model.json").read_text())
    (old / "model.json").write_text(json.dumps({**card, "calibration": None}))
    for words in (("sky", None), (None, 0.9), ("sky", None, "QSO", 0.9)):
        asked = [*words, None, None, None, None][:5]
        with pytest.raises(UsageError, match="Train again with this version"):
            checked(load_classifier(old), tmp_path / "o.csv", *asked)
    changed = shutil.copytree(model, tmp_path / "changed")
    held_out = tables.read(changed / "held_out.parquet")
    tables.write(held_out[1:], changed / "held_out.parquet")
    with pytest.raises(IntegrityError, match=r"held_out\.parquet: its SHA-256"):
        checked(load_classifier(changed), tmp_path / "o.csv", None, 0.9, None, None, None)


def test_bands_of_which_nothing_was_held_out_give_no_sets(
    model: Path, survey: Path, tmp_path: Path
) -> None:
    classifier = load_classifier(model)
    frames = sorted(survey.rglob("frame-[gr]-*.fits.bz2"))
    field = frames[0].name.removeprefix("frame-g-")
    paths = [path for path in frames if path.name.endswith(field)]
    found = classifier.classify_field(paths, prior="training")
    wanted = checked(classifier, tmp_path / "o.csv", None, 0.9, None, None, None)
    with pytest.raises(UsageError, match="gri and r, not with gr, so --coverage is not possible"):
        wanted.apply(found, classifier)
