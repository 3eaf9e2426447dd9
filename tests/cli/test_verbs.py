"""The verbs as a user types them: answers, exit codes, and one sentence for each refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli.commands import gqs, refused
from gqs import __version__, tables
from gqs.cli import progress


@pytest.fixture(scope="module")
def work(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, its split and a model trained for two epochs, made by the verbs themselves."""
    folder = tmp_path_factory.mktemp("work")
    cut = gqs("cutouts", survey / "frames", "--catalog", survey / "catalog.csv",
              "--out", folder / "cutouts", "--json")  # fmt: skip
    assert cut.returncode in (0, 3), cut.stderr
    assert json.loads(cut.stdout)["objects"] > 50
    split = gqs("split", folder / "cutouts", "--scheme", "paper")
    assert split.returncode == 0, split.stderr
    train = gqs("train", folder / "cutouts", "--out", folder / "model", "--epochs", 2,
                "--batch", 16, "--threads", 1, "--json")  # fmt: skip
    assert train.returncode == 0, train.stderr
    return folder


def test_help_lists_the_verbs_in_the_order_of_the_work() -> None:
    shown = gqs("--help").stdout
    verbs = ["query", "fetch", "dataset", "simulate", "cutouts", "split", "demo", "networks"]
    verbs += ["train", "calibrate", "evaluate", "reproduce", "classify", "explain", "export"]
    places = [shown.index(f"│ {verb} ") for verb in verbs]
    assert places == sorted(places)
    for verb in verbs:
        assert "Examples:" in gqs(verb, "--help").stdout


def test_the_version_needs_no_verb() -> None:
    shown = gqs("--version")
    assert (shown.returncode, shown.stdout) == (0, f"gqs {__version__}\n")


def test_time_left_is_told_from_what_this_run_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rerun that begins at 900 of 1,000 and does one a minute has 99 minutes left."""
    seconds = iter([0.0, 60.0, 6000.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with progress.progress_bar("Training") as tell:
        for done in (900, 901, 1000):
            tell(done, 1000, "epoch 9")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[1].split(";")[0] for line in lines] == [
        "started",
        "1.6 h left",
        "done",
    ]


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys, gqs.cli; print([m for m in ('torch','astropy','scipy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_evaluate_writes_a_report_and_its_numbers(work: Path) -> None:
    done = gqs("evaluate", work / "model", work / "cutouts", "--out", work / "report", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    page = Path(answer["report"]).read_text()
    assert page.count("<img") >= 6 and "http://" not in page.split("</head>")[0]
    numbers = json.loads((work / "report" / "metrics.json").read_text())
    judged = tables.read(work / "report" / "predictions.parquet")
    truth = tables.read(work / "cutouts" / "index.parquet")
    truth = dict(zip(truth["objid"].tolist(), truth["class"].tolist(), strict=True))
    right = np.mean([truth[o] == c for o, c in zip(judged["objid"], judged["class"], strict=True)])
    assert numbers["metrics"]["overall"]["accuracy"]["value"] == pytest.approx(right)


def test_a_model_is_not_evaluated_on_its_training_objects(work: Path, survey: Path) -> None:
    """Neither by another split nor through another store of the same sky; nor calibrated."""
    other = work / "other.parquet"
    gqs("split", work / "cutouts", "--scheme", "paper", "--seed", 2, "--out", other)
    done = gqs("evaluate", work / "model", work / "cutouts", "--out", work / "r", "--split", other)
    refused(done, 7, "learned from")
    to = ("--out", work / "calibrated")
    refused(
        gqs("calibrate", work / "model", work / "cutouts", "--split", other, *to),
        7,
        "overconfident",
    )
    done = gqs("calibrate", work / "model", work / "cutouts", "--side", "test", *to, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["objects"] > 0
    again = work / "again"
    gqs("cutouts", survey / "frames", "--catalog", survey / "catalog.csv", "--out", again,
        "--bands", "gri")  # fmt: skip
    gqs("split", again, "--scheme", "paper", "--seed", 3)
    refused(gqs("evaluate", work / "model", again, "--out", work / "r"), 7, "learned from")


def test_the_packages_model_is_judged_on_any_simulated_sky(tmp_path: Path) -> None:
    """Its own training was on another stretch of it, whatever the seed."""
    store = tmp_path / "store"
    made = gqs("simulate", "--out", store, "--into-store", "--objects", 900, "--seed", 11)
    assert made.returncode == 0, made.stderr
    assert "With 8 whole fields the ratio is" in gqs("split", store).stdout
    done = gqs("evaluate", "package", store, "--out", tmp_path / "report", "--no-trees")
    assert done.returncode == 0, done.stderr
    assert "not seen before" in done.stdout


def test_the_answer_names_the_side_that_was_judged(work: Path) -> None:
    words = ("evaluate", work / "model", work / "cutouts", "--out", work / "r", "--no-trees")
    assert "that it was trained on" in gqs(*words, "--side", "train").stdout
    assert "that chose its epoch" in gqs(*words, "--side", "validation").stdout
    assert "not seen before" in gqs(*words).stdout


def test_options_that_would_do_nothing_are_refused(work: Path, tmp_path: Path) -> None:
    out = ("simulate", "--out", tmp_path / "s")
    refused(gqs(*out, "--objects", 9), 2, "--into-store")
    refused(gqs(*out, "--into-store", "--enriched", 5), 2, "without fields")
    refused(gqs(*out, "--enriched", 5, "--stars", 2), 2, "densities")
    refused(gqs(*out, "--bands", "gi"), 2, "must be among")
    refused(gqs("split", work / "cutouts", "--scheme", "paper", "--by", "run"), 2, "--by")
    refused(gqs(*out, "--into-store", "--catalog", tmp_path / "no.csv"), 2, "no such file")
    shown = gqs("classify", "--help").stdout.replace("│", " ")  # the frame around the options
    assert "the model in the package" in " ".join(shown.split())


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv", ".csv"])
def test_classify_writes_every_format(work: Path, survey: Path, ending: str) -> None:
    out = work / f"catalogue{ending}"
    field = sorted((survey / "frames").iterdir())[0]
    extra = ("--region", work / "s.reg", "--plot", work / "s.png") if ending == ".fits" else ()
    kernel = "module://matplotlib_inline.backend_inline"  # as a Jupyter kernel's children inherit
    done = gqs(
        "classify", field, "--model", work / "model", "--out", out, *extra, MPLBACKEND=kernel
    )
    assert done.returncode == 0, done.stderr
    found = tables.read(out)
    assert len(found) > 10 and found["objid"].dtype == np.uint64
    if extra:
        assert (work / "s.png").read_bytes().startswith(b"\x89PNG")
        assert (work / "s.reg").read_text().count("circle(") == len(found)
    assert not list(work.glob(".catalogue*"))


def test_configuration_comes_from_option_then_variable_then_file(work: Path) -> None:
    config = work / "gqs.toml"
    config.write_text('[split]\nscheme = "paper"\nseed = 5\njson = true\n')
    words = ("--config", config, "split", work / "cutouts", "--out")
    from_file = json.loads(gqs(*words, work / "a.parquet").stdout)
    variable = json.loads(gqs(*words, work / "b.parquet", GQS_SPLIT_SEED="6").stdout)
    option = json.loads(gqs(*words, work / "c.parquet", "--seed", 7, GQS_SPLIT_SEED="6").stdout)
    assert [found["seed"] for found in (from_file, variable, option)] == [5, 6, 7]
    config.write_text("[split]\nschema = 1\n")
    refused(gqs(*words, work / "d.parquet"), 2, "no option 'schema'")


def test_refusals_say_what_is_wrong_and_carry_their_code(work: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out.csv"
    refused(gqs("classify", empty, "--out", out), 2, "contains no frames")
    refused(gqs("classify", empty, "--out", tmp_path / "out.txt"), 2, "unknown ending")
    refused(gqs("classify", tmp_path / "no.fits", "--out", out), 2, "no such file")
    page = tmp_path / "frame-r-1-1-1.fits.bz2"
    page.write_text("<html>404</html>")
    refused(gqs("classify", page, "--out", out, "--model", work / "model"), 3, "web page")
    refused(gqs("classify", page, "--out", out, "--model", empty), 6, "model.json")
    refused(gqs("train", empty, "--out", tmp_path / "m"), 2, "no store of cutouts")
    refused(gqs("train", work / "cutouts", "--out", tmp_path / "m", "--set", "bogus=1"), 2, "bogus")
    refused(gqs("train", work / "cutouts", "--out", tmp_path / "m", "--network", "x"), 2, "resnet")
    assert not out.exists()


def test_catalogues_that_lost_digits_or_name_no_class(survey: Path, tmp_path: Path) -> None:
    catalog = tables.read(survey / "catalog.csv")
    words = ("cutouts", survey / "frames", "--out", tmp_path / "store", "--catalog")
    rounded = catalog.copy()
    rounded["objid"] = rounded["objid"].astype(float)
    rounded.write(tmp_path / "float.csv", format="ascii.csv")
    refused(gqs(*words, tmp_path / "float.csv"), 7, "objid")
    strange = catalog[:40].copy()
    strange["class"] = strange["class"].astype("U12")
    strange["class"][3] = "quasar"
    strange.write(tmp_path / "strange.csv", format="ascii.csv")
    done = gqs(*words, tmp_path / "strange.csv", "--json")
    assert done.returncode == 3 and "'quasar' is none of" in done.stderr
    assert json.loads(done.stdout)["objects"] >= 30
