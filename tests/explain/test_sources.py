"""Sources selected on frames and explained, also by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from drawn import stars
from gqs.cli.app import app
from gqs.cutouts.channels import to_channels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.errors import UsageError
from gqs.explain.sources import FLAG_WORDS, SourceSelection, explain
from gqs.files import sha256
from gqs.labels import PROBABILITY_COLUMNS
from gqs.model import novelty
from gqs.model.calibration import METHOD
from gqs.model.classifier import Classifier, load_classifier
from gqs.model.examples import Examples
from gqs.model.folder import CARD, EXAMPLES, TYPICAL
from gqs.model.reweight import apply_prior
from gqs.model.temperature import Temperature
from gqs.networks.embedding import embed
from gqs.probability.label_shift import ClassFractions
from gqs.tables import Flag


def frames(survey: Path) -> list[Path]:
    return sorted(sorted((survey / "frames").iterdir())[0].iterdir())


def test_every_flag_has_words() -> None:
    assert list(FLAG_WORDS) == list(Flag)


def with_examples(bare: Classifier) -> Classifier:
    """The same model with novelty distances and examples, from drawn stars."""
    images, classes = stars(60), np.arange(60) % 3
    embedding = embed(bare.network, to_channels(Preprocessing("flux", "ugriz", "linear"), images))[
        1
    ]
    values = embedding.detach().double().numpy()
    found = novelty.fit(values, classes, values)
    pictures = np.random.default_rng(1).integers(0, 255, (60, 50, 50, 3)).astype(np.uint8)
    objid = np.arange(60, dtype=np.uint64)
    places = found.coordinates(values).astype(np.float32)
    paths = {
        "typical": found.save(bare.folder / TYPICAL),
        "examples": Examples(objid, classes, pictures, places).save(bare.folder / EXAMPLES),
    }
    card = json.loads((bare.folder / CARD).read_text())
    card["training"] |= {f"{name}_sha256": sha256(path) for name, path in paths.items()}
    shares = ClassFractions(np.array([15.0, 23.0]), np.array([[0.3, 0.4, 0.3], [0.3, 0.3, 0.4]]))
    temperature = Temperature(1.3).to_json()
    fewer = {"fewer_bands": {"griz": {"temperature": Temperature(1.9).to_json()}}}
    calibration = {"temperature": temperature, "learned_shares": shares.to_json(), **fewer}
    card["calibration"] = {"method": METHOD, **calibration}
    (bare.folder / CARD).write_text(json.dumps(card))
    return load_classifier(bare.folder)


def test_a_source_is_the_same_by_name_position_and_pixel(
    survey: Path, classifier: Classifier, tmp_path: Path
) -> None:
    full = with_examples(classifier)
    table = full.classify_field(frames(survey), prior="training")
    row = table[table["class"] != ""][5]
    objid, ra, dec = int(row["objid"]), float(row["ra"]), float(row["dec"])
    (one,) = explain(full, frames(survey), SourceSelection(objid=[objid]), "training")
    (two,) = explain(full, frames(survey), SourceSelection(radec=(ra, dec)), "training")
    near = SourceSelection(xy=(row["x"] + 1, row["y"] - 1))
    (three,) = explain(full, frames(survey), near, "training")
    for found in (one, two, three):
        assert int(found.row["objid"]) == objid
        np.testing.assert_allclose(found.probabilities, [row["p_galaxy"], row["p_qso"],
                                                         row["p_star"]], atol=1e-6)  # fmt: skip
    assert len(one.nearest) == 8 and one.row["unlike"] > 0
    assert [n.distance for n in one.nearest] == sorted(n.distance for n in one.nearest)
    assert np.hypot(*one.north) == pytest.approx(1) and np.dot(one.north, one.east) == (
        pytest.approx(0, abs=1e-3)
    )
    with pytest.raises(UsageError, match="is none of the"):
        explain(full, frames(survey), SourceSelection(objid=[7]))
    with pytest.raises(UsageError, match="outside the frames"):
        explain(full, frames(survey), SourceSelection(radec=((ra + 90) % 360, dec)))

    out = tmp_path / "why.html"
    words = ["explain", *map(str, frames(survey)), "--model", str(full.folder), "--json"]
    words += ["--prior", "sky"]
    done = CliRunner().invoke(app, [*words, "--objid", str(objid), "--out", str(out)])
    assert done.exit_code == 0, done.output
    page, numbers = out.read_text(), json.loads(out.with_suffix(".json").read_text())
    (source,) = numbers["sources"]
    (listed,) = apply_prior(table[table["objid"] == objid], full, "sky")
    assert source["objid"] == objid and source["class"] == listed["class"]
    for name in PROBABILITY_COLUMNS:  # those of the catalogue
        assert source[name] == pytest.approx(listed[name], abs=1e-6)
        assert abs(source[name] - row[name]) > 1e-4
    assert numbers["prior"] == "sky" and numbers["engine"] == "torch"
    assert "Probabilities hold for the prior sky" in page
    assert sum(source["lead_by_band"].values()) == pytest.approx(source["lead"], abs=0.1, rel=0.1)
    assert page.count("<img") == 3 and "<script" not in page
    assert f"tools/explore/summary.aspx?ra={ra:.6f}" in page

    less = [path for path in frames(survey) if "-u-" not in path.name]
    without = full.classify_field(less, table["objid", "ra", "dec"], "training")
    (listed,) = apply_prior(without[table["objid"] == objid], full, "sky")
    for name in PROBABILITY_COLUMNS:
        assert source["without"]["u"][name] == pytest.approx(listed[name], abs=2e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ra", "10", "--out", "why.html"], "--dec"),
        (["--objid", "1", "--x", "1", "--y", "2", "--out", "why.html"], "one of --objid"),
        (["--objid", "1", "--out", "why.pdf"], "why.pdf"),
        (["--objid", "1", "--out", "why.html"], "frames"),
    ],
)
def test_contradicting_options_are_refused(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["explain", *words])
    assert isinstance(done.exception, UsageError) and message in str(done.exception)
