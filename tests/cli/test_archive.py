"""What `gqs fetch` says: counts, bytes, where the list of the missing is, and what to do next."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from astropy.table import Table
from typer.testing import CliRunner, Result

from gqs import tables
from gqs.cli.app import app
from loopback.sas import any_field, serve_frames, small_frame
from loopback.server import LoopbackServer
from loopback.skyserver import Database, SkyServer, xyz

FIELD = ("--field", "3918-3-11")
SCALE = 0.396 / 3600  # degrees a pixel


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


def fetch(server: LoopbackServer, *words: object) -> Result:
    return CliRunner().invoke(app, ["fetch", *map(str, words), "--mirror", server.url])


def absent(server: LoopbackServer, path: str) -> None:
    server.fault("status", path, method="", status=404)


def test_all_here_is_said_without_zeros(server: LoopbackServer, tmp_path: Path) -> None:
    words = (*FIELD, "--out", tmp_path)
    first = fetch(server, *words)
    assert first.exit_code == 0 and "5 of 5 frames in" in first.stdout
    assert ": 5 fetched, 0.5 MB in " in first.stdout and "network" not in first.stdout
    again = fetch(server, *words).stdout.splitlines()
    assert again == [
        f"All 5 frames are on disk ({tmp_path}).",
        f"Next: gqs classify {tmp_path} --out catalogue.fits",
    ]


def test_what_came_twice_is_said(server: LoopbackServer, tmp_path: Path) -> None:
    server.fault("body", "frame-r", times=1, body=bytes(3_000_000))
    said = fetch(server, *FIELD, "--bands", "r", "--out", tmp_path).stdout
    assert "1 fetched, 0.1 MB in " in said and "; 3.1 MB were transferred" in said


def test_a_dry_run_tells_what_was_absent(server: LoopbackServer, tmp_path: Path) -> None:
    absent(server, "frame-[uz]")
    words = (*FIELD, "--out", tmp_path)
    assert fetch(server, *words).exit_code == 3
    said = fetch(server, *words, "--dry-run").stdout
    assert "0 of 5 frames to fetch" in said and ", 0.0 MB; 3 are on disk." in said
    assert "2 were missing on the server before" in said


@pytest.mark.parametrize(
    ("fields", "told"), [(2, ""), (3, "set aside: ... and 2 more; all are in {}/set_aside.csv")]
)
def test_a_long_list_of_the_missing_lies_in_the_folder(
    server: LoopbackServer, tmp_path: Path, fields: int, told: str
) -> None:
    absent(server, "frame-[ugiz]")
    words = [word for i in range(fields) for word in ("--field", f"3918-3-{11 + i}")]
    done = fetch(server, *words, "--out", tmp_path)
    said = done.stderr.splitlines()
    assert done.exit_code == 3 and [line for line in said if "more" in line] == (
        [told.format(tmp_path)] if told else []
    )
    shown = [line for line in said if "http" in line]
    assert len(shown) == min(10, 4 * fields)
    assert all(line.count("set aside") == 1 for line in shown)
    with (tmp_path / "set_aside.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * fields


@pytest.mark.parametrize(
    ("bands", "asked", "then"),
    [
        ("ugriz", "catalog", "gqs cutouts {} --catalog {} --out cutouts"),
        ("irg", "catalog", "gqs cutouts {} --catalog {} --out cutouts --bands gri"),
        ("gi", "catalog", None),
        ("gri", "field", "gqs classify {} --out catalogue.fits"),
        ("gi", "field", None),
    ],
)
def test_the_next_command_can_be_run(
    server: LoopbackServer, tmp_path: Path, bands: str, asked: str, then: str | None
) -> None:
    catalog, out = tmp_path / "my objects.csv", tmp_path / "frames"
    tables.write(Table({"objid": [1], "run": [3918], "camcol": [3], "field": [11]}), catalog)
    wanted = ("--catalog", catalog) if asked == "catalog" else FIELD
    said = fetch(server, *wanted, "--bands", bands, "--out", out).stdout.splitlines()
    expected = [] if then is None else [f"Next: {then.format(out, repr(str(catalog)))}"]
    assert [line for line in said if line.startswith("Next: ")] == expected


def test_a_positions_field_is_named(server: LoopbackServer, tmp_path: Path) -> None:
    """One field whose rows run along ra and whose columns along dec, by its own astrometry."""
    center = {"ra": 10.0 + 744 * SCALE, "dec": 1.0 + 1024 * SCALE}
    terms = {"a": 10.0, "b": SCALE, "c": 0.0, "d": 1.0, "e": 0.0, "f": SCALE}
    row: dict[str, Any] = {"fieldID": 1, "run": 3918, "camcol": 3, "field": 11, "zoom": 0}
    row |= {**terms, "node": 0.0, "incl": 0.0, **xyz(**center)}
    with LoopbackServer() as sky:
        SkyServer({16: Database([], [row])}).serve(sky)
        done = fetch(
            server, "--ra", center["ra"], "--dec", center["dec"], "--bands", "r",
            "--server", sky.url, "--out", tmp_path, "--json",
        )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert f"ra {center['ra']}, dec {center['dec']} is on field 3918-3-11." in done.stderr
    assert "lie on" not in done.stdout
    assert "SkyServer is asked" in " ".join(fetch(server, "--help").stdout.replace("│", "").split())
