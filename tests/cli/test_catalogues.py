"""Catalogues as `gqs classify` writes them: what they tell of themselves, and who can open them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table, vstack
from typer.testing import CliRunner

from gqs import tables
from gqs.cli.app import app
from gqs.cli.provenance import provenance
from gqs.errors import UsageError
from gqs.tables import UCD

EPOCH = "1000000000"  # 2001-09-09T01:46:40


def classify(*words: object, **environment: str) -> None:
    """Run the verb in this process, which has its libraries loaded; its errors are raised here."""
    given = ["classify", "--engine", "torch", "--workers", "1", *map(str, words)]
    done = CliRunner().invoke(app, given, env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def field(survey: Path) -> Path:
    return sorted((survey / "frames").iterdir())[0]


@pytest.fixture(scope="module")
def catalogue(field: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("catalogue") / "c.fits"
    classify(field, "--out", out, "--links", "--release", 17, SOURCE_DATE_EPOCH=EPOCH)
    return out


def test_every_column_and_the_table_say_what_they_are(catalogue: Path) -> None:
    found = tables.read(catalogue)
    assert len(found) > 10
    for column in found.itercols():
        assert column.description and column.meta[UCD], column.name
    assert units.Unit(found["seeing_r"].unit) == units.arcsec
    assert 0.5 < np.asarray(found["seeing_r"])[0] < 3
    meta = found.meta
    assert len(meta["model"]) == 64 and "flag512" in meta
    header = fits.getheader(catalogue, 1)
    assert header["DATE"] == "2001-09-09T01:46:40" and header["CREATOR"].startswith("gqs ")
    words = meta["command"].split()
    assert words[:2] == ["gqs", "classify"] and "--links" in words
    assert words[words.index("--out") + 1] == "c.fits"  # no folder of this machine
    assert words[words.index("--release") + 1] == "17" and "--workers" not in words


def test_links_lead_to_each_row_in_the_release_that_was_asked_for(catalogue: Path) -> None:
    found = tables.read(catalogue)
    for row in found[:5]:
        assert f"/dr17/VisualTools/explore/summary?ra={row['ra']:.6f}&dec=" in row["link"]
    assert found["link"].meta[UCD] == "meta.ref.url"


def test_fields_with_other_bands_stack(field: Path, catalogue: Path, tmp_path: Path) -> None:
    some = [path for path in field.iterdir() if path.name[6] in "gri"]
    classify(*some, "--out", tmp_path / "c.parquet", SOURCE_DATE_EPOCH=EPOCH)
    fewer, whole = tables.read(tmp_path / "c.parquet"), tables.read(catalogue)
    whole.remove_column("link")
    both = vstack([whole, fewer], join_type="exact", metadata_conflicts="silent")
    assert np.isnan(np.asarray(both["mag_u"]))[len(whole) :].all()
    assert np.isfinite(np.asarray(fewer["mag_g"])).any()
    # A single Parquet file is written part by part; it carries the same metadata as the others.
    assert fewer.meta["date"] == "2001-09-09T01:46:40" and fewer["class"].description
    assert fewer.meta["creator"] == whole.meta["creator"]


def test_hats_has_the_same_rows_and_is_written_over(
    field: Path, catalogue: Path, tmp_path: Path
) -> None:
    pytest.importorskip("hats", reason="the extra gqs[hats] is not installed")
    out = tmp_path / "sky.hats"
    for _ in range(2):
        classify(field, "--out", out)
    rows = vstack([tables.read(file) for file in out.rglob("Npix=*.parquet")])
    rows.sort("objid")
    found: Table = tables.read(catalogue)
    np.testing.assert_array_equal(np.asarray(rows["objid"]), np.asarray(found["objid"]))
    np.testing.assert_array_equal(np.asarray(rows["p_qso"]), np.asarray(found["p_qso"]))
    assert [path.name for path in tmp_path.iterdir()] == ["sky.hats"]
    words = (field, "--out", out, "--candidates", "QSO", "--candidates-out")
    with pytest.raises(UsageError, match="cannot store an empty"):
        classify(*words, tmp_path / "q.hats")


def test_the_date_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    options = {"out": Path("/home/me/c 1.fits"), "links": True, "ra": 1.5, "frames": ("a",)}
    options |= {"field": ("1-2-3", "1-2-4"), "dec": None, "more": ()}
    record = provenance("classify", options)
    assert record["date"] == "2001-09-09T01:46:40"
    assert record["command"] == (
        "gqs classify --out 'c 1.fits' --links --ra 1.5 --field 1-2-3 --field 1-2-4"
    )
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(UsageError, match="not a number of seconds"):
        provenance("classify", {})
