"""`gqs fetch` as a user types it: the sentence, the exit code, and the same command afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from gqs import tables
from gqs.archive import Manifest
from loopback.sas import any_field, serve_frames, small_frame
from loopback.server import LoopbackServer

GQS = [sys.executable, "-m", "gqs.cli", "fetch"]
FIELD = ("--field", "3918-3-11", "--field", "3918-3-12")
ONE = "frame-r-003918-3-0012"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_PROXY": "*", **more}


def fetch(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GQS, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**more),
    )


@pytest.fixture(scope="module")
def running() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        serve_frames(server, any_field(small_frame()))
        yield server


@pytest.fixture
def server(running: LoopbackServer) -> LoopbackServer:
    running.heal()
    running.log.clear()
    return running


def state(folder: Path) -> tuple[dict[str, bytes], list[Any]]:
    with Manifest(folder) as manifest:
        rows: list[Any] = manifest.rows()
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("manifest.sqlite")
    }
    return files, rows


@pytest.fixture(scope="module")
def faultless(
    running: LoopbackServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], list[Any]]:
    running.heal()
    folder = tmp_path_factory.mktemp("faultless")
    done = fetch(*FIELD, "--bands", "gr", "--out", folder, "--mirror", running.url)
    assert done.returncode == 0, done.stderr
    return state(folder)


@pytest.mark.parametrize(
    ("kind", "details", "code", "said"),
    [
        ("status", {"status": 404}, 3, "set aside: http://"),
        (
            "instead",
            {"target": "OTHER"},
            7,
            "its header is of band g of field 003918-3-0012, not of band r",
        ),
        ("redirect", {"target": "file:///etc/passwd"}, 4, "redirects to 'file:///etc/passwd'"),
        ("drop", {}, 4, "broke the connection off, 6 times in a row"),
        ("status", {"status": 503, "headers": {"Retry-After": "1"}, "times": 1}, 0, ""),
    ],
)
def test_each_fault_has_its_sentence_and_its_code(
    server: LoopbackServer,
    faultless: tuple[dict[str, bytes], list[Any]],
    tmp_path: Path,
    kind: str,
    details: dict[str, Any],
    code: int,
    said: str,
) -> None:
    if details.get("target") == "OTHER":
        path = "/sas/dr16/eboss/photoObj/frames/301/3918/3/frame-g-003918-3-0012.fits.bz2"
        details = {"target": path}
    server.fault(kind, ONE, **details)
    words = (*FIELD, "--bands", "gr", "--out", tmp_path, "--mirror", server.url)
    done = fetch(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    refusals = [line for line in done.stderr.splitlines() if line.startswith("gqs: ")]
    assert len(refusals) == (code == 4)
    for path, data in state(tmp_path)[0].items():
        unfinished = path.endswith(".part") or ".tag" in path or path == "set_aside.csv"
        assert unfinished or faultless[0][path] == data
    server.heal()
    again = fetch(*words)
    assert again.returncode == 0, again.stderr
    assert state(tmp_path) == faultless


def test_a_stall_and_a_crawl_are_broken_off_after_ten_seconds(
    server: LoopbackServer, faultless: tuple[dict[str, bytes], list[Any]], tmp_path: Path
) -> None:
    server.fault("stall", ONE, times=1, after=0.5, seconds=100.0)
    server.fault("slow", "frame-g-003918-3-0011", times=1, after=0.5, seconds=1.0)
    begin = time.monotonic()
    done = fetch(*FIELD, "--bands", "gr", "--out", tmp_path, "--mirror", server.url)
    assert done.returncode == 0, done.stderr
    assert 9.0 < time.monotonic() - begin < 40.0
    assert state(tmp_path) == faultless


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("http://127.0.0.1:9", "127.0.0.1:9: refuses the connection"),
        ("http://no-such-host.invalid", "no-such-host.invalid: cannot be found"),
    ],
)
def test_a_host_that_is_not_there_ends_it_within_30_s(tmp_path: Path, host: str, said: str) -> None:
    begin = time.monotonic()
    done = fetch(*FIELD, "--out", tmp_path, "--mirror", host)
    assert time.monotonic() - begin < 30.0
    assert done.returncode == 4, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.fits.bz2"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_same_command_goes_on(
    server: LoopbackServer,
    faultless: tuple[dict[str, bytes], list[Any]],
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    server.fault("pace", after=4096, seconds=0.2)
    words = list(map(str, (*FIELD, "--bands", "gr", "--out", tmp_path, "--mirror", server.url)))
    with subprocess.Popen(
        [*GQS, *words], stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        while len(server.log) < 4 and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert "gqs: Stopped. Run the same command again to continue." in said
    server.heal()
    server.log.clear()
    assert fetch(*words).returncode == 0
    assert {one.status for one in server.log} == {206}
    assert state(tmp_path) == faultless


def test_a_catalogues_fields_are_fetched_once_each(server: LoopbackServer, tmp_path: Path) -> None:
    catalog = Table(
        {
            "objid": np.arange(5, dtype=np.uint64),
            "run": [3918] * 5,
            "camcol": [3] * 5,
            "field": [12, 11, 12, 12, 11],
        }
    )
    tables.write(catalog, tmp_path / "objects.parquet")
    words = ("--catalog", tmp_path / "objects.parquet", "--bands", "r", "--mirror", server.url)
    told = json.loads(fetch(*words, "--out", tmp_path / "f", "--dry-run", "--json").stdout)
    assert (told["wanted"], told["to_come"], told["asked"]) == (2, 2, 2)
    assert not (tmp_path / "f").exists()
    done = fetch(*words, "--json", "--release", "dr12", GQS_CACHE=str(tmp_path / "cache"))
    answer = json.loads(done.stdout)
    assert answer["fetched"] == 2 and answer["bytes"] == told["bytes"]
    assert all("/cache/dr12/301/3918/3/frame-r-" in path for path in answer["paths"])
    said = fetch(*words, "--out", tmp_path / "f").stdout
    assert "2 of 2 frames in" in said and "MB/s" in said and "Next: gqs cutouts" in said


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "f")
    table = tmp_path / "t.csv"
    table.write_text("objid,run,camcol,field\n1,94,7,12\n")
    lacking = tmp_path / "u.csv"
    lacking.write_text("objid,ra,dec\n1,10.5,2.5\n")
    for words, code, said in (
        ((), 2, "Choose the frames by one of"),
        (("--ra", "1"), 2, "--ra and --dec"),
        ((*FIELD, "--server", "http://a"), 2, "--server needs --ra"),
        (("--field", "3918-7-11"), 2, "is not a field"),
        (("--catalog", lacking), 2, "has no column run, camcol, field"),
        (("--catalog", table), 3, "name no field"),
    ):
        done = fetch(*words, *out)
        assert done.returncode == code, (words, done.stderr)
        assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "f").exists()


def test_frames_that_were_fetched_serve_the_other_verbs(
    running: LoopbackServer, survey: Path, tmp_path: Path
) -> None:
    """The simulated survey's frames through the archive's door, into a store of cutouts."""
    from loopback.sas import files_in

    catalog = tables.read(survey / "catalog.csv")
    with LoopbackServer() as server:
        serve_frames(server, files_in(survey / "frames"))
        done = fetch("--catalog", survey / "catalog.csv", "--out", tmp_path / "f",
                     "--mirror", server.url, "--bands", "gri")  # fmt: skip
    assert done.returncode == 0, done.stderr
    cut = subprocess.run(
        [*GQS[:-1], "cutouts", tmp_path / "f", "--catalog", survey / "catalog.csv",
         "--out", tmp_path / "store", "--bands", "gri", "--json"],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert cut.returncode in (0, 3), cut.stderr
    assert json.loads(cut.stdout)["objects"] > 0.8 * len(catalog)
