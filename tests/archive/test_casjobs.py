"""CasJobs: jobs that end and jobs that do not, and a token that is never seen."""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archive.equal_catalogues import same
from gqs.archive import casjobs, http, skyserver
from gqs.archive.query import parse
from gqs.archive.sciserver import TOKEN_VARIABLE, Server, Token
from gqs.errors import BadInputError, GqsError, IntegrityError, NetworkError, UsageError
from loopback.casjobs import API, TOKEN, CasJobs
from loopback.server import LoopbackServer
from loopback.skyserver import Database, SkyServer, generated

ASKED = parse("3430,3434", "QSO,STAR", "r=15..21")
NOT_OURS = "wrong0token0wrong0token"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[CasJobs]:
    """CasJobs and SkyServer before one database; `jobs.server` is where they are."""
    monkeypatch.setattr(skyserver, "PAUSE_S", 0.0)
    database = Database(generated(300, repeats=3))
    made = CasJobs({16: database})
    with LoopbackServer() as server:
        made.serve(server)
        SkyServer({16: database}).serve(server)
        yield made


def pull(jobs: CasJobs, quick: http.Patience, folder: Path | None = None, **more: Any) -> Any:
    settings = {"token": Token(TOKEN), "page_rows": 20, "poll_s": (0.02, 0.05), "wait_s": 3.0}
    return casjobs.pull(
        ASKED, server=jobs.server.url, patience=quick, folder=folder, **{**settings, **more}
    )


def test_a_batch_job_gives_what_skyserver_gives(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path
) -> None:
    """Queued, running, finished, downloaded in pages, and MyDB as empty as before."""
    found = pull(jobs, quick, tmp_path)
    other = skyserver.pull(ASKED, server=jobs.server.url)
    assert found.meta["via"] == "casjobs"
    found.meta["via"] = "skyserver"
    same(found, other)
    assert len(found) > 25 and len(jobs.jobs) == 1
    job = jobs.jobs[7000]
    assert job.task in job.query and jobs.dropped == [job.task]
    assert not (tmp_path / "job" / "job.json").exists()
    jobs.typed_header = False
    again = pull(jobs, quick)
    again.meta["via"] = "skyserver"
    same(again, other)


def test_counting_needs_no_job(jobs: CasJobs, quick: http.Patience) -> None:
    counted = casjobs.count(ASKED, token=Token(TOKEN), server=jobs.server.url, patience=quick)
    assert counted == skyserver.count(ASKED, server=jobs.server.url)
    assert not jobs.jobs


@pytest.mark.parametrize(
    ("becomes", "said"),
    [
        ((0, 1, 4), "failed (Query exceeded its time). See the SQL"),
        ((0, 3), "cancelled (Query exceeded its time). The same command"),
        ((1,), "is still running. It goes on"),
        ((0,), "is still queued. It goes on"),
    ],
)
def test_a_job_that_does_not_finish_is_told(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path, becomes: tuple[int, ...], said: str
) -> None:
    """A failed one is submitted again by the next run, a slow one is looked at again."""
    jobs.becomes, jobs.message = becomes, "Query exceeded its time"
    with pytest.raises(UsageError if 4 in becomes else NetworkError) as refusal:
        pull(jobs, quick, tmp_path, wait_s=0.2)
    assert said in str(refusal.value) and "job 7000" in str(refusal.value)
    jobs.becomes, submitted = (0, 5), len(jobs.jobs)
    slow = "still" in said
    if slow:  # in the meantime it ended
        jobs.jobs[7000].states = [5]
        jobs.releases[16].run(jobs.jobs[7000].query)
    flawless = skyserver.pull(ASKED, server=jobs.server.url)
    found = pull(jobs, quick, tmp_path)
    assert len(jobs.jobs) == submitted + (not slow)
    assert found["objid"].tolist() == flawless["objid"].tolist()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, ""), (1.9, ""), (45, " after 45 seconds"), (600, " after 10 minutes"),
     (7200, " after 2 hours"), (86400, " after 24 hours")],
)  # fmt: skip
def test_a_wait_is_told_in_a_unit_that_fits(seconds: float, said: str) -> None:
    assert casjobs._after(seconds) == said


def test_a_job_whose_number_was_never_heard_is_found_again(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path
) -> None:
    """The answer to the submission was lost: neither this run nor the next submits twice."""
    jobs.server.fault("reset", path="/jobs$", method="PUT", after=0, times=1)
    pull(jobs, quick, tmp_path / "one")
    assert len(jobs.jobs) == 1
    jobs.server.fault("reset", path="/jobs", method="PUT", after=0, times=1)
    jobs.server.fault("drop", path="/jobs/$", times=None)
    with pytest.raises(NetworkError, match="broke the connection off"):
        pull(jobs, quick, tmp_path / "two")
    assert len(jobs.jobs) == 2
    assert json.loads((tmp_path / "two" / "job" / "job.json").read_text())["job"] is None
    jobs.server.heal()
    pull(jobs, quick, tmp_path / "two")
    assert len(jobs.jobs) == 2


def test_a_download_that_broke_off_goes_on(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path
) -> None:
    flawless = pull(jobs, quick)
    jobs.server.fault("reset", path="/MyDB/query", method="POST")
    with pytest.raises(NetworkError, match="broke the connection off"):
        pull(jobs, quick, tmp_path)
    jobs.server.heal()
    same(pull(jobs, quick, tmp_path), flawless)
    assert len(jobs.jobs) == 2 and len(jobs.dropped) == 2


def test_a_table_that_has_gone_is_made_again_by_the_next_run(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path
) -> None:
    jobs.server.fault("status", path="/MyDB/query", method="POST", status=503)
    with pytest.raises(NetworkError, match="busy"):
        pull(jobs, quick, tmp_path)
    jobs.server.heal()
    jobs.releases[16].run(f"DROP TABLE {jobs.jobs[7000].task}")
    with pytest.raises(NetworkError, match="Invalid object name"):
        pull(jobs, quick, tmp_path)
    assert len(pull(jobs, quick, tmp_path)) > 25 and len(jobs.jobs) == 2


def test_a_folder_of_another_query_or_damaged_is_refused(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path
) -> None:
    jobs.becomes = (0,)
    with pytest.raises(NetworkError, match="still queued"):
        pull(jobs, quick, tmp_path, wait_s=0.05)
    with pytest.raises(IntegrityError, match="another query, release or server"):
        casjobs.pull(parse("3437"), token=Token(TOKEN), server=jobs.server.url, folder=tmp_path)
    memory = tmp_path / "job" / "job.json"
    for text in ("", "[]", memory.read_text().replace("gqs_", "PhotoObj; DROP ")):
        memory.write_text(text)
        with pytest.raises(BadInputError, match="is damaged"):
            pull(jobs, quick, tmp_path)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong token": ({"kind": "status", "status": 401}, "does not accept the token"),
    "forbidden": ({"kind": "status", "status": 403}, "does not accept the token"),
    "busy": ({"kind": "status", "status": 503}, "busy (HTTP 503)"),
    "token said back": (
        {"kind": "status", "status": 400, "body": f"bad token {TOKEN}".encode()}, "bad token ***"),
    "HTML": ({"kind": "html"}, "a web page"),
    "no JSON": ({"kind": "body", "body": b"?"}, "CasJobs"),
    "token in JSON": ({"kind": "body", "body": json.dumps({"Status": TOKEN}).encode()}, "CasJobs"),
    "drop": ({"kind": "drop"}, "broke the connection off"),
    "stall": ({"kind": "stall", "seconds": 20}, "stopped in the middle"),
    "redirect": ({"kind": "redirect", "target": "http://example.org/"}, "the token is not taken"),
    "404": ({"kind": "status", "status": 404, "body": b"gone"}, "refuses (HTTP 404: gone)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["PUT", "GET", "POST"])
def test_the_token_is_never_seen(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path, fault: str, where: str,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Not in a sentence, an exception or what it holds, a log, the output or a file."""
    caplog.set_level(logging.DEBUG)
    if fault in ("no JSON", "token in JSON") and where == "POST":
        pytest.skip("a query's answer is CSV")
    if fault in ("drop", "stall") and where == "PUT":
        pytest.skip("no failure: the job was taken, and is found by its table")
    details, said = FAULTS[fault]
    jobs.server.fault(path=API, method=where, **details)
    with pytest.raises(GqsError) as refusal:
        pull(jobs, quick, tmp_path)
    error: BaseException | None = refusal.value
    code = 2 if "accept the token" in said else 4
    assert said in str(error) and refusal.value.exit_code == code, str(error)
    while error is not None:
        assert TOKEN not in "".join(traceback.format_exception(error))
        assert TOKEN not in repr(vars(error)) and not hasattr(error, "request")
        error = error.__cause__ or error.__context__
    output = capfd.readouterr()
    assert TOKEN not in caplog.text + output.out + output.err
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()
    assert all(TOKEN not in one.path + str(one.query) for one in jobs.server.log)
    jobs.server.heal()
    assert len(pull(jobs, quick, tmp_path)) > 25


def test_the_token_goes_to_its_server_alone() -> None:
    with pytest.raises(UsageError, match="over https only"):
        Server(Token(TOKEN), server="http://example.org")
    assert TOKEN not in repr(Token(TOKEN)) + str(Token(TOKEN))
    assert "..." in repr(Token(TOKEN))


def test_the_token_comes_from_a_file_or_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(UsageError, match=f"put it into {TOKEN_VARIABLE}"):
        Token.find()
    monkeypatch.setenv(TOKEN_VARIABLE, "fromvariable")
    assert Token.find().header == {"X-Auth-Token": "fromvariable"}
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert Token.find(file).header == {"X-Auth-Token": TOKEN}
    for text in ("short", "with\x07bell0000", "ünïcödé0000"):
        file.write_text(text)
        with pytest.raises(UsageError) as refusal:
            Token.find(file)
        assert text not in str(refusal.value)
    with pytest.raises(UsageError, match="cannot be read"):
        Token.find(tmp_path / "none")


def test_two_processes_do_not_submit_one_job_each(
    jobs: CasJobs, quick: http.Patience, tmp_path: Path
) -> None:
    jobs.becomes = (0,)
    errors: list[GqsError] = []

    def other() -> None:
        try:
            pull(jobs, quick, tmp_path, wait_s=1.0)
        except GqsError as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    while not jobs.jobs:
        time.sleep(0.01)
    with pytest.raises(GqsError, match="is writing here"):
        pull(jobs, quick, tmp_path)
    thread.join()
    assert len(jobs.jobs) == 1 and "still queued" in str(errors[0])


def test_a_wrong_token_is_refused_by_the_server(jobs: CasJobs, quick: http.Patience) -> None:
    with pytest.raises(UsageError, match="does not accept the token") as refusal:
        pull(jobs, quick, token=Token(NOT_OURS))
    assert NOT_OURS not in str(refusal.value)
