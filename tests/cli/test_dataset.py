"""The paper's data set, and a field by its name, out of a loopback archive of simulated frames."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from cli.commands import GQS, gqs, refused
from gqs import tables
from gqs.cutouts.store import CutoutStore
from gqs.surveys.sdss import FieldId
from loopback.sas import files_in, serve_frames
from loopback.server import LoopbackServer
from loopback.skyserver import Database, SkyServer, generated

FAR_RUN = 3430  # its objects are on frames that the archive does not have


@pytest.fixture(scope="module")
def catalog(survey: Path) -> Table:
    """Every second star and all else of the simulated fields: classes are not equal."""
    rows = tables.read(survey / "catalog.csv")
    return rows[(rows["class"] != "STAR") | (np.arange(len(rows)) % 2 == 0)]


@pytest.fixture
def archive(survey: Path, catalog: Table) -> Iterator[LoopbackServer]:
    """SkyServer with the catalogue's objects, and the frames that they lie on."""
    rows = generated(len(catalog), seed=3)
    for row, true in zip(rows, catalog, strict=True):
        row |= {name: int(true[name]) for name in ("run", "camcol", "field")}
        row |= {"objID": int(true["objid"]), "ra": float(true["ra"]), "dec": float(true["dec"])}
        row |= {"class": str(true["class"]), "zWarning": 0, "mode": 1, "sciencePrimary": 1}
        row |= {band: float(true[band]) for band in "ugriz"}
    far = [{**row, "run": FAR_RUN, "objID": int(row["objID"]) + (7 << 32)} for row in rows[:9]]
    with LoopbackServer() as server:
        serve_frames(server, files_in(survey / "frames"))
        SkyServer({16: Database([*rows, *far])}).serve(server)
        yield server


def paper(server: LoopbackServer, out: Path, runs: object, *more: object) -> list[str]:
    words = ["dataset", "paper", "--runs", runs, "--out", out, "--workers", 1, *more]
    return [*map(str, words), "--server", server.url, "--mirror", server.url]


def test_one_command_makes_the_papers_data_set(
    archive: LoopbackServer, catalog: Table, tmp_path: Path
) -> None:
    run, out = int(catalog["run"][0]), tmp_path / "paper"
    dry = gqs(*paper(archive, out, run, "--dry-run", "--json"))
    assert dry.returncode == 0, dry.stderr
    plan = json.loads(dry.stdout)
    fields = np.unique(np.stack([catalog[n] for n in FieldId._fields], 1), axis=0)
    assert plan["frames"] == plan["to_fetch"] == 3 * len(fields) and plan["bytes"] > 1e5
    assert not (out / "frames").exists()  # nothing was fetched

    made = gqs(*paper(archive, out, run))
    assert made.returncode in (0, 3), made.stderr
    assert "To fetch: " in made.stderr and " at 5 MB/s" in made.stderr  # printed beforehand
    assert "Table 3" in made.stdout and " 9,208 " in made.stdout
    store = CutoutStore.open(out / "cutouts")
    assert (store.form, store.edge, store.bands) == ("paper", "paper", "gri")
    spectra = tables.read(out / "spectra.parquet")
    assert spectra.meta["rows"] == len(catalog) and "zWarning = 0" in spectra.meta["sql"]
    truth = dict(zip(catalog["objid"].tolist(), catalog["class"].tolist(), strict=True))
    assert all(truth[o] == c for o, c in store.index["objid", "class"].iterrows())
    asked = len(archive.log)
    again = gqs(*paper(archive, out, run))
    assert again.returncode == made.returncode and again.stdout == made.stdout
    assert len(archive.log) == asked  # all of it was here

    asked = len(archive.log)
    refused(gqs(*paper(archive, out, f"{run},{FAR_RUN}")), 2, "was started with runs")
    refused(gqs(*paper(archive, out, run, "--form", "flux", "--dry-run")), 2, "with form paper")
    assert len(archive.log) == asked  # nothing is asked for what cannot be continued
    refused(gqs(*paper(archive, tmp_path / "x", f"{run};DROP")), 2, "is no run")
    refused(gqs(*paper(archive, tmp_path / "y", 99)), 2, "hold no")
    asked = len(archive.log)
    refused(gqs(*paper(archive, tmp_path / "z", "")), 2, "at least one run")
    no_r = ("--form", "flux", "--bands", "giz")
    refused(gqs(*paper(archive, tmp_path / "z", run, *no_r)), 2, "r must be one of them")
    assert len(archive.log) == asked  # not one query


def test_frames_that_the_archive_lacks_cost_only_their_objects(
    archive: LoopbackServer, catalog: Table, tmp_path: Path
) -> None:
    run, out = int(catalog["run"][0]), tmp_path / "paper"
    made = gqs(*paper(archive, out, f"{FAR_RUN},{run}", "--scheme", "paper"))
    assert made.returncode == 3, made.stderr
    assert "set aside" in made.stderr and str(FAR_RUN) in made.stderr
    store, chosen = CutoutStore.open(out / "cutouts"), tables.read(out / "catalog.parquet")
    assert FAR_RUN not in store.index["run"] and FAR_RUN in chosen["run"]
    lost = len(chosen) - len(store)
    assert f"{lost} of the {len(chosen)} chosen objects are missing" in made.stdout


def test_stopped_at_any_point_it_goes_on(
    archive: LoopbackServer, catalog: Table, tmp_path: Path
) -> None:
    run = int(catalog["run"][0])
    faultless = gqs(*paper(archive, tmp_path / "a", run))
    assert faultless.returncode in (0, 3), faultless.stderr
    archive.fault("latency", path=r"/sas/", seconds=0.2)
    chance = random.Random(4)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(3):
        words = [*GQS, *paper(archive, tmp_path / "b", run)]
        child = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(1.0, 6.0))
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert gqs(*paper(archive, tmp_path / "b", run)).returncode == faultless.returncode
    one, other = (CutoutStore.open(tmp_path / name / "cutouts") for name in "ab")
    np.testing.assert_array_equal(one.index["objid"], other.index["objid"])
    rows = np.arange(len(one))
    np.testing.assert_array_equal(one.images(rows), other.images(rows))


def test_a_field_is_classified_by_its_name(
    archive: LoopbackServer, catalog: Table, tmp_path: Path
) -> None:
    field = FieldId(*(int(catalog[name][0]) for name in FieldId._fields))
    words = ("classify", "--field", "-".join(map(str, field)), "--cache", tmp_path / "cache",
             "--mirror", archive.url, "--workers", 1)  # fmt: skip
    done = gqs(*words, "--out", tmp_path / "found.csv", "--json")
    assert done.returncode == 0, done.stderr
    found = tables.read(tmp_path / "found.csv")
    assert len(found) == json.loads(done.stdout)["objects"] > 20
    assert {tuple(row) for row in found["run", "camcol", "field"].iterrows()} == {tuple(field)}
    bands = {path.name[6] for path in (tmp_path / "cache").rglob("frame-*")}
    assert bands == set("ugriz")
    asked = len(archive.log)
    assert gqs(*words, "--out", tmp_path / "again.csv").returncode == 0
    assert len(archive.log) == asked  # cached frames are used
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "found.csv").read_bytes()

    out = ("--out", tmp_path / "no.csv")
    lost = gqs("classify", "--field", "94-1-100", "--mirror", archive.url, "--cache",
               tmp_path / "cache", *out)  # fmt: skip
    refused(lost, 3, "gave none of the frames")
    refused(gqs("classify", *out), 2, "Name frames")
    refused(gqs("classify", tmp_path, "--field", "94-1-100", *out), 2, "Name frames")
    refused(gqs("classify", tmp_path, "--cache", tmp_path, *out), 2, "need --field")
    assert not (tmp_path / "no.csv").exists()
