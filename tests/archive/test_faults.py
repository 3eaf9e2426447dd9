"""Every fault of the archive: what is said, that files are whole, and that the next run mends it.

Frames are simulated and small; the server is real, and so are its faults.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archive.folder import FRAMES, QUICK, State, fetched
from gqs.archive import Manifest, fetch, plan
from gqs.archive.transfer import MAX_BYTES
from gqs.errors import GqsError, IntegrityError, NetworkError, ResourceError
from gqs.imaging.frames import check_frame
from loopback.sas import any_field, serve_frames
from loopback.server import Answer, LoopbackServer

ONE = "frame-r-003918-3-0012"

PASSING: list[tuple[str, dict[str, Any]]] = [
    ("drop", {}),
    ("reset", {"after": 0.9}),
    ("reset", {"after": 0}),
    ("short", {"after": 0.7}),
    ("stall", {"after": 0.5, "seconds": 9.0}),
    ("slow", {"after": 0.5, "seconds": 0.05}),
    ("status", {"status": 503, "headers": {"Retry-After": "0"}}),
    ("status", {"status": 429, "headers": {"Retry-After": "1"}}),
    ("status", {"status": 500}),
    ("latency", {"seconds": 0.1}),
    ("html", {}),  # once: content is fetched a second time
]
LASTING: list[tuple[str, dict[str, Any], type[GqsError] | int, str]] = [
    ("drop", {}, NetworkError, "broke the connection off, 3 times in a row"),
    ("reset", {"after": 0.01}, NetworkError, "broke the connection off"),
    ("short", {"after": 0.01}, NetworkError, "ended its answer before it was whole"),
    ("stall", {"after": 0.01, "seconds": 9.0}, NetworkError, "fell silent"),
    ("slow", {"after": 0.01, "seconds": 0.05}, NetworkError, "less than 1024 bytes a second"),
    ("status", {"status": 503}, NetworkError, "answers with 503 Service Unavailable"),
    ("status", {"status": 429, "headers": {"Retry-After": "7200"}}, NetworkError, "120 minutes"),
    ("status", {"status": 403}, NetworkError, "answers with 403 Forbidden"),
    ("redirect", {"target": "http://localhost:9/sas"}, NetworkError, "is not this archive"),
    ("redirect", {"target": "file:///etc/passwd"}, NetworkError, "is not this archive"),
    ("status", {"status": 404}, 3, "absent upstream"),
    ("html", {}, 3, "web page"),
    ("body", {"body": b""}, 3, "is empty"),
    ("body", {"body": b"BZh91AY&SY not really"}, 3, "damaged"),
    ("instead", {"target": "BAND"}, 7, "its header is of band g of field 003918-3-0012"),
    ("instead", {"target": "FIELD"}, 7, "its header is of band r of field 003918-3-0099"),
]


def details_of(details: dict[str, Any]) -> dict[str, Any]:
    """Fill in the path of another band's or another field's frame."""
    folder = "/sas/dr16/eboss/photoObj/frames/301/3918/3/"
    other = {
        "BAND": folder + "frame-g-003918-3-0012.fits.bz2",
        "FIELD": folder + "frame-r-003918-3-0099.fits.bz2",
    }
    target = details.get("target", "")
    return {**details, "target": other.get(target, target)}


def assert_whole(folder: Path, faultless: State) -> None:
    """No wrong file has a frame's name."""
    for path in folder.rglob("*.fits.bz2"):
        assert path.read_bytes() == faultless.files[str(path.relative_to(folder))]


@pytest.mark.parametrize(("kind", "details"), PASSING)
def test_a_fault_that_passes_costs_only_time(
    server: LoopbackServer, faultless: State, tmp_path: Path, kind: str, details: dict[str, Any]
) -> None:
    fault = server.fault(kind, ONE, times=1, **details)
    report = fetched(server, tmp_path)
    assert fault.met == 1
    assert (report.code, report.set_aside, len(report.paths)) == (0, [], len(FRAMES))
    assert State.of(tmp_path) == faultless


@pytest.mark.parametrize(("kind", "details", "ends", "said"), LASTING)
def test_a_fault_that_lasts_is_said_and_mended_by_the_next_run(
    server: LoopbackServer,
    faultless: State,
    tmp_path: Path,
    kind: str,
    details: dict[str, Any],
    ends: type[GqsError] | int,
    said: str,
) -> None:
    server.fault(kind, ONE, **details_of(details))
    if isinstance(ends, int):
        report = fetched(server, tmp_path)
        assert report.code == ends
        assert len(report.set_aside) == 1 and said in report.set_aside[0]
        assert "set aside" not in report.set_aside[0].lower()  # whoever shows it says so
        assert len(report.paths) == len(FRAMES) - 1
        with Manifest(tmp_path) as manifest:
            aside = [row for row in manifest.rows() if row.state == "set aside"]
        assert [row.reason for row in aside] == report.set_aside
    else:
        with pytest.raises(ends, match=said) as raised:
            fetched(server, tmp_path)
        assert f"{len(FRAMES) - 1} of {len(FRAMES)} frames are here" in str(raised.value)
        with Manifest(tmp_path) as manifest:
            assert [row.state for row in manifest.rows()].count("wanted") == 1
    assert_whole(tmp_path, faultless)
    server.heal()
    assert fetched(server, tmp_path).code == 0
    assert State.of(tmp_path) == faultless


@pytest.mark.parametrize("tag", ["", '"new-each-time-{}"'], ids=["no validator", "another"])
def test_a_body_always_cut_at_one_place_is_given_up(
    pixels: bytes, tmp_path: Path, tag: str
) -> None:
    """What must be fetched from the beginning again is no progress, however much it is."""
    with LoopbackServer() as other:
        other.route("/sas/", lambda _: Answer(pixels, headers={"ETag": tag.format(len(other.log))}))
        other.fault("short", after=70_000)
        with pytest.raises(NetworkError, match="before it was whole, 3 times in a row"):
            fetched(other, tmp_path, FRAMES[:1])


def test_wrong_content_is_asked_for_twice_and_absence_once(
    server: LoopbackServer, tmp_path: Path
) -> None:
    server.fault("html", ONE)
    fetched(server, tmp_path / "a")
    assert len(server.asked(ONE)) == 2
    server.heal()
    server.log.clear()
    server.fault("status", ONE, status=404)
    fetched(server, tmp_path / "b")
    assert len(server.asked(ONE)) == 1


def test_what_is_set_aside_is_listed_until_it_comes(server: LoopbackServer, tmp_path: Path) -> None:
    server.fault("status", ONE, status=404)
    server.fault("html", "frame-g-003918-3-0011")
    fetched(server, tmp_path)
    with (tmp_path / "set_aside.csv").open(newline="") as file:
        wrong, absent = csv.DictReader(file)
    assert absent["path"].endswith(f"{ONE}.fits.bz2") and "web page" in wrong["reason"]
    assert absent["url"] == f"{server.url}{server.asked(ONE)[0].path}"
    assert absent["reason"] == "the archive has no such file (404), absent upstream"
    server.heal()
    fetched(server, tmp_path)
    assert not (tmp_path / "set_aside.csv").exists()


def test_nothing_is_asked_of_where_a_redirect_leads(server: LoopbackServer, tmp_path: Path) -> None:
    with LoopbackServer() as other:
        server.fault("redirect", ONE, target=f"{other.url}/sas")
        with pytest.raises(NetworkError, match="Not followed"):
            fetched(server, tmp_path)
        assert other.log == []


def test_a_redirect_within_the_host_is_followed(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    at = server.asked  # the address itself does not change: the manifest names what was wanted
    server.fault("redirect", f"{ONE}.fits.bz2$", times=1, target=f"{server.url}/sas/../sas")
    path = "/sas/dr16/eboss/photoObj/frames/301/3918/3/" + ONE + ".fits.bz2?again"
    server.faults[-1].target = path
    fetched(server, tmp_path)
    assert len(at(ONE)) == 2
    assert State.of(tmp_path) == faultless


def test_a_file_larger_than_any_frame_is_not_taken(server: LoopbackServer, tmp_path: Path) -> None:
    server.fault("body", ONE, body=bytes(MAX_BYTES + 1))
    report = fetched(server, tmp_path)
    assert report.code == 3 and "over 64 MiB" in report.set_aside[0]
    assert not list(tmp_path.rglob(".*"))


def test_a_server_that_is_gone_ends_it_at_once(tmp_path: Path) -> None:
    with LoopbackServer() as gone:
        pass
    with pytest.raises(NetworkError, match="refuses the connection"):
        fetched(gone, tmp_path)


def test_a_wrong_frame_keeps_its_code_where_the_server_then_goes_away(
    pixels: bytes, tmp_path: Path
) -> None:
    """The wrong frame and the end come in while the main loop is busy: it meets both at once."""
    (wrong,) = (name for name in FRAMES if ONE in str(name))
    absent, good, late = (name for name in FRAMES[:4] if name != wrong)
    with contextlib.ExitStack() as life:
        server = life.enter_context(LoopbackServer())
        serve_frames(server, any_field(pixels))
        server.fault("status", str(absent), status=404)
        server.fault("instead", str(wrong), **details_of({"target": "FIELD"}))
        server.fault("latency", str(late), seconds=20.0)
        server.fault("drop", str(late))

        def gone(done: int, total: int, note: str) -> None:
            while not server.asked(str(late)):
                time.sleep(0.02)
            life.close()
            time.sleep(1.0)

        with pytest.raises(IntegrityError, match="1 of 4 frames are here") as raised:
            fetch(
                [absent, good, wrong, late], tmp_path, check=check_frame, mirror=server.url,
                patience=QUICK, connections=1, progress=gone,
            )  # fmt: skip
    assert "refuses the connection" in str(raised.value)
    assert "Besides: " in str(raised.value) and "its header is of" in str(raised.value)
    with (tmp_path / "set_aside.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.parametrize("asked", [fetch, plan])
def test_a_host_that_never_answers_ends_it_within_30_s(
    tmp_path: Path, asked: Callable[..., object]
) -> None:
    """192.0.2.1 is nobody's (RFC 5737): packets to it are lost, or refused on the way."""
    begin = time.monotonic()
    more = {"check": check_frame} if asked is fetch else {}
    with pytest.raises(NetworkError, match=r"192\.0\.2\.1: "):
        asked(FRAMES, tmp_path, mirror="http://192.0.2.1", **more)
    assert time.monotonic() - begin < 30.0


def test_a_server_that_fails_for_all_is_left_alone(server: LoopbackServer, tmp_path: Path) -> None:
    from loopback.sas import some_frames

    server.fault("status", status=403)
    with pytest.raises(NetworkError, match="0 of 200 frames are here"):
        fetched(server, tmp_path, some_frames(200))
    assert len(server.log) < 60


def test_a_plan_that_fails_waits_for_no_pause(server: LoopbackServer, tmp_path: Path) -> None:
    server.fault("status", method="HEAD", status=503, headers={"Retry-After": "4"})
    server.fault("status", "frame-g-003918-3-0011", method="HEAD", status=403)
    begin = time.monotonic()
    with pytest.raises(NetworkError, match="answers with 403"):
        plan(FRAMES, tmp_path, 16, server.url, QUICK)
    assert time.monotonic() - begin < 3.0


def test_a_full_disk_ends_it_and_leaves_no_trace(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    """RLIMIT_FSIZE stands in for a full disk: writing past it fails in the same place."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Manifest(tmp_path):  # the manifest's own pages are there already
        pass
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, hard))
        with pytest.raises(ResourceError, match="file size limit"):
            fetched(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.rglob("*.fits.bz2*"))
    fetched(server, tmp_path)
    assert State.of(tmp_path) == faultless


def test_a_folder_that_cannot_be_written_is_said(server: LoopbackServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="a file is where a folder should be") as raised:
        fetched(server, tmp_path / "file" / "frames")
    assert raised.value.__cause__.errno == errno.ENOTDIR  # type: ignore[union-attr]


def test_a_manifest_that_is_none_is_said(server: LoopbackServer, tmp_path: Path) -> None:
    (tmp_path / "manifest.sqlite").write_bytes(b"<html>no database</html>" * 50)
    with pytest.raises(ResourceError, match="cannot be used as the folder's manifest"):
        fetched(server, tmp_path)


def test_too_many_connections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GqsError, match="1 to 64"):
        fetch(FRAMES, tmp_path, check=lambda *_: None, connections=65, patience=QUICK)
