"""`gqs classify` with priors, sets and candidates as a user types it: files, words, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from gqs import labels, tables
from gqs.classify.classifier import load_classifier
from gqs.classify.priors import find_prior
from gqs.classify.weighing import list_candidates, weigh
from gqs.dataset import split as splits
from gqs.dataset.store import CutoutStore
from gqs.evaluation.held_out import sets_of


def gqs(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gqs.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, trained for a moment on simulated objects in three bands."""
    folder = tmp_path_factory.mktemp("probabilities")
    store = folder / "cutouts"
    made = gqs("simulate", "--out", store, "--into-store", "--objects", 150, "--workers", 1)
    assert made.returncode == 0, made.stderr
    opened = CutoutStore.open(store)
    splits.save(splits.make_split(opened.index, "paper", seed=2), store / "split.parquet")
    words = ["--set", "arguments.width=4", "--set", "arguments.hidden=16", "--set", "bands=gri"]
    done = gqs("train", store, "--out", folder / "model", "--epochs", 2, "--batch", 32,
               "--threads", 1, "--device", "cpu", *words)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "model"


@pytest.fixture(scope="module")
def catalogue(model: Path, survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model says of two fields, weighed by nothing."""
    out = tmp_path_factory.mktemp("plain") / "plain.parquet"
    done = gqs("classify", survey, "--model", model, "--out", out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "the mix of classes that the model learned from" in done.stdout
    return out


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
    told = listed.meta["candidates"]
    assert told["class"] == "GALAXY"
    assert told["purity"]["low"] <= told["purity"]["value"] <= told["purity"]["high"]
    score = np.asarray(listed["p_galaxy"])
    assert (np.diff(score) <= 0).all()
    if told["reached"]:
        assert len(listed) and score.min() >= told["threshold"]
        assert f"{len(listed)} GALAXY candidates with p_galaxy of" in done.stdout
    else:
        assert not len(listed)
        assert "the purest: p_galaxy of" in done.stdout


def test_python_gives_what_the_command_gives(model: Path, catalogue: Path) -> None:
    classifier, before = load_classifier(model), tables.read(catalogue)
    sky = find_prior("sky")
    weighed = weigh(before, classifier, sky, coverage=0.9)
    again = weigh(before, classifier, "sky", coverage=0.9)
    assert (weighed["set"] == again["set"]).all()
    listed = list_candidates(weighed, classifier, "QSO", 0.05, sky)
    if listed.threshold.reached and len(listed.table):
        assert listed.own == pytest.approx(np.mean(listed.table["p_qso"]))
    held_out = sets_of(tables.read(model / "held_out.parquet"), "gri", model)["gri"]
    assert listed.threshold.objects == len(held_out)


def test_a_purity_that_nothing_reaches_gives_an_empty_list_and_the_best_there_is(
    model: Path, survey: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "list.ecsv"
    done = gqs("classify", survey, "--model", model, "--out", tmp_path / "all.ecsv",
               "--prior", "sky", "--candidates", "QSO", "--purity", 0.999,
               "--candidates-out", listed, "--workers", 1, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["candidates"]
    assert told["reached"] is False
    assert told["objects"] == 0
    assert 0 < told["purity"]["value"] < 0.999
    assert not len(tables.read(listed))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prior", "heaven"], "neither balanced nor sky"),
        (["--coverage", "95"], "above 0 and below 1"),
        (["--candidates", "QUASAR"], "the classes are GALAXY, QSO, STAR"),
        (["--candidates", "QSO", "--purity", "90"], "above 0 and below 1"),
        (["--purity", "0.9"], "go with --candidates"),
        (["--candidates", "QSO", "--candidates-out", "list.txt"], "list.txt"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(
    model: Path, survey: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    out = tmp_path / "out.csv"
    done = gqs("classify", survey, "--model", model, "--out", out, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_bad_prior_file_and_an_old_model_and_a_changed_one_are_refused(
    model: Path, survey: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("r,galaxy,qso,star\n18,1,-1,1\n")
    done = gqs("classify", survey, "--model", model, "--out", tmp_path / "o.csv", "--prior", bad)
    assert done.returncode == 2
    assert "row 1: qso is not a number of 0 or more" in done.stderr
    old = shutil.copytree(model, tmp_path / "old")
    card = json.loads((old / "model.json").read_text())
    (old / "model.json").write_text(json.dumps({**card, "calibration": None}))
    for words in (["--prior", "sky"], ["--coverage", "0.9"], ["--candidates", "QSO"]):
        done = gqs("classify", survey, "--model", old, "--out", tmp_path / "o.csv", *words)
        assert done.returncode == 2
        assert "Train again with this version" in done.stderr
    changed = shutil.copytree(model, tmp_path / "changed")
    held_out = tables.read(changed / "held_out.parquet")
    tables.write(held_out[1:], changed / "held_out.parquet")
    done = gqs("classify", survey, "--model", changed, "--out", tmp_path / "o.csv",
               "--coverage", "0.9")  # fmt: skip
    assert done.returncode == 7
    assert "held_out.parquet: its SHA-256" in done.stderr
