"""`gqs query` as a user types it: answers, exit codes, and one sentence for each refusal."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import gqs.cli
from cli.commands import GQS, gqs, refused
from gqs import tables
from gqs.archive import skyserver
from gqs.archive.query import parse
from gqs.cli.app import app
from gqs.errors import GqsError
from loopback.casjobs import TOKEN, CasJobs
from loopback.server import LoopbackServer
from loopback.skyserver import Database, SkyServer, csv, generated

ASKED = ("--runs", "3430,3434", "--classes", "QSO,STAR", "--limits", "r=15..21")


@pytest.fixture(scope="module")
def sky() -> Iterator[SkyServer]:
    """SkyServer and CasJobs before one database of 300 objects."""
    database = Database(generated(300, repeats=4))
    made = SkyServer({16: database, 12: database})
    with LoopbackServer() as server:
        made.serve(server)
        CasJobs({16: database}).serve(server)
        yield made


@pytest.fixture(autouse=True)
def well(sky: SkyServer) -> Iterator[None]:
    """Each test begins on a good day."""
    yield
    sky.server.heal()
    sky.row_limit, sky.cut_last_row = 500_000, 0


@pytest.fixture(scope="module")
def faultless(sky: SkyServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of what a run without a fault gives."""
    out = tmp_path_factory.mktemp("faultless") / "out.parquet"
    done = gqs("query", "--page-rows", 100, "--server", sky.server.url, "--out", out)
    assert done.returncode == 0, done.stderr
    return rows_of(out)


def flawless(sky: SkyServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(skyserver, "PAUSE_S", 0.0)
    return skyserver.pull(parse("3430,3434", "QSO,STAR", "r=15..21"), server=sky.server.url)


def typed(*words: object, code: int = 0) -> str:
    """Run the command line in this process, which is quick; return what it says or refuses."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    refusal = done.exception
    if isinstance(refusal, GqsError):
        assert refusal.exit_code == code, str(refusal)
        return str(refusal)
    assert done.exit_code == code, done.output + repr(refusal)
    return done.output


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second between two queries."""
    monkeypatch.setattr(skyserver, "PAUSE_S", 0.0)


def rows_of(path: Path) -> str:
    """A hash of a catalogue without the time at which it came."""
    table = tables.read(path)
    table.meta.pop("retrieved")
    return hashlib.sha256(tables.as_bytes(table, ".parquet")).hexdigest()


def test_a_catalogue_in_one_line(
    sky: SkyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "catalog.parquet"
    done = gqs("query", "--out", out, *ASKED, "--server", sky.server.url, "--json")
    assert done.returncode == 0, done.stderr
    found, expected = tables.read(out), flawless(sky, monkeypatch)
    for name in expected.colnames:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert {**found.meta, "retrieved": 0} == {**expected.meta, "retrieved": 0}
    answer = json.loads(done.stdout)
    assert answer["rows"] == len(found) == sum(answer["classes"].values()) > 25
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.parquet"]


def test_the_sql_is_shown_without_a_network() -> None:
    done = gqs("query", "--show-sql", *ASKED, "--release", "dr12", "--server", "http://gqs.invalid")
    assert done.returncode == 0, done.stderr
    assert "AND p.run IN (3430, 3434)" in done.stdout and "-- DR12" in done.stdout
    unknown = gqs("query", "--show-sql", "--release", "20").stdout
    assert "could not be checked" in unknown
    paper = gqs("query", "--show-sql", "--form", "paper", "--json", "--runs", 3430).stdout
    assert "FROM PhotoObj AS p\nJOIN SpecPhoto AS s" in json.loads(paper)["sql"]


def test_a_dry_run_counts(sky: SkyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = len(flawless(sky, monkeypatch))
    done = gqs("query", "--dry-run", *ASKED, "--server", sky.server.url)
    assert done.returncode == 0 and f"-- {expected} rows" in done.stdout, done.stderr
    assert "SELECT" in done.stdout


def test_casjobs_gives_the_same_rows_and_shows_no_token(sky: SkyServer, tmp_path: Path) -> None:
    one, two, secret = tmp_path / "one.parquet", tmp_path / "two.parquet", tmp_path / "secret"
    secret.write_text(TOKEN)
    words = ("query", *ASKED, "--server", sky.server.url, "--out")
    batch = (*words, two, "--via", "casjobs")
    assert gqs(*words, one).returncode == 0
    refused(gqs(*batch, GQS_CASJOBS_TOKEN=""), 2, "needs a SciServer token")
    done = gqs(*batch, "--token-file", secret, "--json")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    found, other = tables.read(two), tables.read(one)
    assert found.colnames == other.colnames and (found == other).all()
    refused(gqs(*batch, "--wait", "0", GQS_CASJOBS_TOKEN=TOKEN), 4, "is still")


FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "error with 200": (
        {"kind": "body", "body": b"error_message\nInvalid object name 'x'\n"}, 4, "refuses the"),
    "404": ({"kind": "status", "status": 404}, 4, "does not accept SQL"),
    "columns missing": ({"kind": "body", "body": b"objid\n1\n"}, 7, "lacks the columns"),
    "come back in an hour": (
        {"kind": "status", "status": 429, "headers": {"Retry-After": "3600"}}, 4, "60 minutes"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_and_the_same_command_goes_on(
    sky: SkyServer, tmp_path: Path, faultless: str, fault: str
) -> None:
    """The second page fails; afterwards the catalogue is that of a faultless run, byte by byte."""
    details, code, message = FAULTS[fault]
    words = ("query", "--page-rows", 100, "--server", sky.server.url, "--out")
    sky.server.fault(**{"path": r"TOP\+.*%3E%3D\+[1-9]", **details})
    out = tmp_path / "out.parquet"
    refused(gqs(*words, out), code, message)
    assert not out.exists()
    sky.server.heal()
    assert gqs(*words, out).returncode == 0
    assert rows_of(out) == faultless
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_row_limit_and_a_cut_row_are_refused_with_7(sky: SkyServer, tmp_path: Path) -> None:
    words = ("query", *ASKED, "--server", sky.server.url, "--out", tmp_path / "out.parquet")
    sky.row_limit = 12
    refused(gqs(*words), 7, "a limit on rows was met")
    sky.row_limit, sky.cut_last_row = 500_000, 9
    refused(gqs(*words), 7, "is cut")
    sky.cut_last_row = 0
    other = gqs(*words[:1], "--runs", 3437, *words[5:])
    assert other.returncode == 0, other.stderr  # no page was kept, so none can be mixed
    refused(gqs(*words), 2, "the result of another query")
    (tmp_path / "out.parquet").unlink()
    assert gqs(*words).returncode == 0


def test_what_has_no_class_or_position_is_set_aside_with_3(sky: SkyServer, tmp_path: Path) -> None:
    names, rows = sky.releases[16].run(parse().sql(0, 5))
    cells = [list(row) for row in rows]
    cells[1][names.index("class")] = "quasar"
    cells[2][names.index("ra")] = "NaN"
    sky.server.fault("body", path=r"TOP\+", body=csv(names, [tuple(row) for row in cells]))
    sky.server.fault("body", path="COUNT", body=b"#Table1\nobjects\n5\n")
    out = tmp_path / "out.csv"
    done = gqs("query", "--out", out, "--server", sky.server.url)
    assert done.returncode == 3 and done.stderr.count("set aside: ") == 2, done.stderr
    assert len(tables.read(out)) == 3


def test_a_query_that_was_stopped_goes_on(sky: SkyServer, tmp_path: Path, faultless: str) -> None:
    """Interrupted at the second page: 130, and the pages so far are not asked again."""
    out = tmp_path / "out.parquet"
    words = ("query", "--page-rows", "100", "--server", sky.server.url, "--out")
    sky.server.fault("stall", path=r"TOP\+.*%3E%3D\+[1-9]", seconds=60)
    running = subprocess.Popen([*GQS, *words, str(out)], stderr=subprocess.PIPE, text=True)
    page = tmp_path / ".out.parquet.pages" / "pages.json"
    begin = time.monotonic()
    while not page.exists() and time.monotonic() - begin < 60:
        time.sleep(0.05)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=30)
    assert running.returncode == 130 and "to continue" in message, message
    sky.server.heal()
    before = len(sky.server.log)
    assert gqs(*words, out).returncode == 0
    asked = [one.query["cmd"] for one in sky.server.log[before:]]
    assert asked and not any("TOP" in sql and "objID >= 0 " in sql for sql in asked)
    assert rows_of(out) == faultless


@pytest.mark.parametrize("first_line", ["#Table1\n", ""])
def test_a_csv_exported_by_hand(sky: SkyServer, tmp_path: Path, first_line: str) -> None:
    """Identifiers beyond 2^63 stay exact, whatever stands before them."""
    names, rows = sky.releases[16].run(parse(form="paper").sql())
    exported = tmp_path / "exported.csv"
    exported.write_bytes(csv(names, rows, first_line))
    out = tmp_path / "out.parquet"
    done = gqs("query", "--csv", exported, "--out", out, "--release", 12)
    assert done.returncode == 0, done.stderr
    found = tables.read(out)
    assert found["objid"].tolist() == [row[0] for row in rows]
    assert found["specobjid"].tolist() == [int(str(row[1])) for row in rows]
    assert found["specobjid"].dtype == np.uint64 and max(found["specobjid"]) > 2**63
    assert found.meta["release"] == "DR12" and found.meta["source"] == "exported.csv"
    assert found.meta["rows"] == len(rows) > 50


def test_an_export_that_is_not_whole_is_refused(sky: SkyServer, tmp_path: Path) -> None:
    names, rows = sky.releases[16].run(parse(form="paper").sql())
    bad = tmp_path / "bad.csv"
    bad.write_bytes(csv(names, rows)[:-60])
    out = tmp_path / "out.parquet"
    words = ("query", "--csv", bad, "--out", out, "--release", "16")
    refused(gqs(*words), 7, "last row is cut")
    bad.write_bytes(csv(names, rows).replace(b"GALAXY", b"galaxies", 1))
    done = gqs(*words)
    assert done.returncode == 3 and "'galaxies' is none of" in done.stderr


def test_options_that_would_do_nothing_or_harm_are_refused(tmp_path: Path) -> None:
    out = ("query", "--out", tmp_path / "out.parquet")
    refused(gqs("query", "--runs", 3430), 2, "--out")
    refused(gqs(*out, "--runs", "3430; DROP TABLE PhotoObjAll"), 2, "is no run")
    refused(gqs(*out, "--classes", "QSO' OR 'a'='a"), 2, "classes")
    refused(gqs(*out, "--release", "16; SELECT 1"), 2, "not known")
    refused(gqs(*out, "--wait", 2), 2, "--via casjobs")
    refused(gqs(*out, "--csv", "x.csv", "--runs", 1), 2, "--csv takes only")
    assert "--release" in typed(*out, "--csv", "x.csv", code=2)
    assert "--runs '99999': " in typed(*out, "--runs", 99999, code=2)
    refused(gqs(*out, "--server", "file:///etc/passwd"), 2, "no server's address")
    refused(
        gqs("query", "--out", tmp_path / "out.txt", "--server", "http://gqs.invalid"), 2, "ending"
    )
    assert not list(tmp_path.iterdir())


def test_the_sql_shown_is_the_sql_kept_and_has_no_limit(
    sky: SkyServer, tmp_path: Path, swift: None
) -> None:
    """What is shown may be pasted by hand: a TOP would cut it without a word. --out is let be."""
    words = ("query", *ASKED, "--server", sky.server.url, "--out", tmp_path / "out.vot")
    shown, dry = typed(*words, "--show-sql"), typed(*words, "--dry-run")
    assert not list(tmp_path.iterdir())
    sql = shown.partition("\n")[2].strip()
    assert "TOP" not in sql and sql == dry.partition("\n")[2].rpartition("-- ")[0].strip()
    typed(*words)
    assert tables.read(tmp_path / "out.vot").meta["sql"] == sql


@pytest.mark.filterwarnings("error::astropy.utils.exceptions.AstropyWarning")
@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv"])
def test_every_format_that_can_tells_where_its_rows_come_from(
    sky: SkyServer, tmp_path: Path, swift: None, ending: str
) -> None:
    out = tmp_path / f"out{ending}"
    words = ("query", "--out", out, "--server", sky.server.url, "--runs", 3430)
    typed(*words, "--magnitudes", "psf")
    meta = tables.read(out).meta
    request = parse("3430", magnitudes="psf")
    assert (meta["sql"], meta["magnitudes"], meta["release"]) == (request.sql(), "psf", "DR16")
    typed(*words, "--magnitudes", "psf")  # the same again is no harm
    before = out.read_bytes()
    message = typed(*words, code=2)
    assert f"{out}: contains the result of another query" in message and out.read_bytes() == before


def test_a_file_that_does_not_tell_its_query_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("my own notes\n")
    assert "exists already" in typed(
        "query", "--out", out, "--server", "http://gqs.invalid", code=2
    )
    assert out.read_text() == "my own notes\n"


def test_a_query_that_nothing_fits_writes_nothing(
    sky: SkyServer, tmp_path: Path, swift: None
) -> None:
    words = ("query", "--out", tmp_path / "out.fits", "--server", sky.server.url)
    message = typed(*words, "--limits", "r=0..1", code=3)
    assert message.startswith("No spectroscopic object in DR") and not list(tmp_path.iterdir())
    names, _ = sky.releases[16].run(parse(form="paper").sql(0, 1))
    exported = tmp_path / "none.csv"
    exported.write_bytes(csv(names, []))
    out = tmp_path / "out.parquet"
    assert "contains no objects" in typed(
        "query", "--csv", exported, "--release", 16, "--out", out, code=3
    )
    assert not out.exists()


def test_one_object_is_no_plural(sky: SkyServer, tmp_path: Path) -> None:
    names, rows = sky.releases[16].run(parse(form="paper").sql(0, 1))
    exported, out = tmp_path / "one.csv", tmp_path / "out.parquet"
    exported.write_bytes(csv(names, rows))
    message = typed("query", "--csv", exported, "--release", 16, "--out", out)
    assert message.startswith("1 object of DR16 in ")


def test_a_host_that_is_not_there_ends_within_30_s(tmp_path: Path) -> None:
    begin = time.monotonic()
    refused(gqs("query", "--out", tmp_path / "o.csv", "--server", "http://gqs.invalid"), 4, "found")
    assert time.monotonic() - begin < 30
