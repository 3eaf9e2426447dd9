"""Fetching into a folder: resumed, shared by processes, killed, planned, and what it writes."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.folder import FRAMES, QUICK, State, fetched
from gqs.archive import Manifest, Plan, fetch, frames_folder, plan
from gqs.archive.http import Patience, Stopped
from gqs.archive.partial_file import STALE_AFTER_S, part_of, sweep
from gqs.errors import ResourceError
from gqs.imaging.frames import check_frame
from gqs.surveys.sdss import FrameName
from loopback.fetching import archive_process, killed
from loopback.sas import any_field, some_frames
from loopback.server import LoopbackServer

ONE = "frame-r-003918-3-0012"
IMPATIENT = Patience(tries=1, first_wait_s=0.01)


def cut_off(server: LoopbackServer, folder: Path) -> Path:
    """Fetch with one file reset in its middle and no second try; give its part."""
    server.fault("reset", ONE, times=1, after=0.6)
    with pytest.raises(Exception, match="broke the connection off"):
        fetched(server, folder, patience=IMPATIENT)
    (part,) = folder.rglob(f".{ONE}*.part")
    server.log.clear()
    return part


def test_files_lie_as_in_the_archive_and_the_manifest_says_so(
    server: LoopbackServer, faultless: State, tmp_path: Path, pixels: bytes
) -> None:
    report = fetched(server, tmp_path)
    expected = any_field(pixels)
    for name in FRAMES:
        run, camcol, _ = name.field
        path = tmp_path / "dr16" / "301" / str(run) / str(camcol) / str(name)
        assert report.paths[name] == path
        assert path.read_bytes() == expected(name)
    assert report.bytes == sum(map(len, faultless.files.values()))
    with Manifest(tmp_path) as manifest:
        for row in manifest.rows():
            data = (tmp_path / row.path).read_bytes()
            assert (row.state, row.reason, row.bytes) == ("here", "", len(data))
            assert row.sha256 == hashlib.sha256(data).hexdigest()
            assert row.url.startswith(server.url) and row.release == 16
    mode = sqlite3.connect(tmp_path / "manifest.sqlite").execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


def test_what_is_here_is_not_asked_for_again(server: LoopbackServer, tmp_path: Path) -> None:
    fetched(server, tmp_path)
    server.log.clear()
    again = fetched(server, tmp_path)
    assert server.log == [] and again.fetched == 0 and len(again.paths) == len(FRAMES)


def names_in(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_folder_that_may_only_be_read_serves_if_it_holds_all(
    server: LoopbackServer, tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    """As one that others filled and share; a copy has other times than the manifest says."""
    folder = tmp_path / "shared"
    whole = fetched(server, folder)
    os.utime(whole.paths[FRAMES[1]], (0, 0))
    server.log.clear()
    lock(folder)
    before = names_in(folder)
    report = fetched(server, folder)
    assert (report.code, report.set_aside, report.fetched) == (0, [], 0)
    assert report.paths == whole.paths
    assert plan(FRAMES, folder, 16, server.url, QUICK) == Plan(6, 6, 0, 0, 0)
    assert server.log == [] and names_in(folder) == before


def test_a_folder_that_may_only_be_read_and_lacks_frames_is_refused(
    server: LoopbackServer, tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    folder = tmp_path / "shared"
    paths = fetched(server, folder, FRAMES[:4]).paths
    damaged = bytearray(paths[FRAMES[0]].read_bytes())
    damaged[5000] ^= 1
    paths[FRAMES[0]].write_bytes(damaged)
    server.log.clear()
    lock(folder)
    before = names_in(folder)
    with pytest.raises(ResourceError, match="3 of 6 frames are not there as its manifest says"):
        fetched(server, folder)
    assert server.log == [] and names_in(folder) == before


def test_what_another_process_has_just_noted_is_read_where_nothing_may_be_written(
    server: LoopbackServer, tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    """Its last commits lie beside the manifest as long as it has it open."""
    folder = tmp_path / "shared"
    with Manifest(folder):
        fetched(server, folder)
        assert (folder / "manifest.sqlite-wal").stat().st_size
        lock(folder)
        assert len(fetched(server, folder).paths) == len(FRAMES)


def test_a_frame_that_was_damaged_since_is_fetched_anew(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    path = fetched(server, tmp_path).paths[FRAMES[2]]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert fetched(server, tmp_path).fetched == 1
    assert State.of(tmp_path) == faultless


def test_frames_without_their_manifest_are_checked_and_taken(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    paths = fetched(server, tmp_path).paths
    for left in tmp_path.glob("manifest.sqlite*"):
        left.unlink()
    paths[FRAMES[0]].replace(paths[FRAMES[1]])  # now one is missing and one is another's
    server.log.clear()
    assert fetched(server, tmp_path).fetched == 2 == len(server.log)
    assert State.of(tmp_path) == faultless


def test_a_transfer_goes_on_where_it_was_cut_off(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    begun = cut_off(server, tmp_path).stat().st_size
    whole = len(next(data for path, data in faultless.files.items() if ONE in path))
    assert 0 < begun < whole
    report = fetched(server, tmp_path)
    (asked,) = server.asked(ONE)
    assert asked.headers["range"] == f"bytes={begun}-" and asked.status == 206
    assert (report.bytes, report.size) == (whole - begun, whole)
    assert State.of(tmp_path) == faultless


def test_a_file_that_changed_upstream_is_not_pieced_together(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    part = cut_off(server, tmp_path)
    part.write_bytes(b"x" * part.stat().st_size)  # as if of another version
    tag = part.with_name(part.name + ".tag")
    tag.write_text('"of-another-version"')
    fetched(server, tmp_path)
    assert server.asked(ONE)[0].status == 200
    assert State.of(tmp_path) == faultless


def test_a_part_that_was_damaged_costs_one_more_transfer(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    part = cut_off(server, tmp_path)
    part.write_bytes(b"\0" * part.stat().st_size)  # as after a power failure
    assert fetched(server, tmp_path).code == 0
    assert [one.status for one in server.asked(ONE)] == [206, 200]
    assert State.of(tmp_path) == faultless


def test_a_part_longer_than_the_file_is_forgotten(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    part = cut_off(server, tmp_path)
    part.write_bytes(b"\0" * 500_000)
    assert fetched(server, tmp_path).code == 0
    assert State.of(tmp_path) == faultless


def test_a_part_is_its_holders_alone(tmp_path: Path) -> None:
    with part_of(tmp_path / "a") as mine, part_of(tmp_path / "a") as theirs:
        assert mine is not None and theirs is None
        mine.restart('"tag"')
        mine.add(b"whole")
        mine.finish(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_old_parts_are_swept_and_others_kept(tmp_path: Path) -> None:
    old, new, held = (tmp_path / f".{name}.part" for name in ("old", "new", "held"))
    for path in (old, new, held):
        path.write_bytes(b"begun")
    long_ago = time.time() - STALE_AFTER_S - 60
    for path in (old, held):
        os.utime(path, (long_ago, long_ago))
    with part_of(tmp_path / "held"):
        assert sweep(tmp_path) == 1
    assert not old.exists() and new.exists() and held.exists()


def test_two_fetches_into_one_folder_share_the_work(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    server.fault("latency", seconds=0.05)
    reports = []
    both = [
        threading.Thread(target=lambda: reports.append(fetched(server, tmp_path))) for _ in "ab"
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [len(report.paths) for report in reports] == [len(FRAMES)] * 2
    assert sum(report.fetched for report in reports) == len(FRAMES) == len(server.log)
    assert State.of(tmp_path) == faultless


def test_two_processes_into_one_folder_even_if_one_is_killed(tmp_path: Path) -> None:
    frames = some_frames(12)
    with archive_process("--latency", 0.02, "--pace", 0.02) as url:
        fetch(frames, tmp_path / "alone", check=check_frame, mirror=url)
        other = threading.Thread(target=killed, args=(url, tmp_path / "both", 12, 0.4))
        other.start()
        report = fetch(frames, tmp_path / "both", check=check_frame, mirror=url)
        other.join()
        assert len(report.paths) == 12
        assert State.of(tmp_path / "both") == State.of(tmp_path / "alone")


def test_a_killed_fetch_leaves_no_wrong_file_and_the_next_finishes(
    tmp_path: Path, pixels: bytes
) -> None:
    frames, true, chance = some_frames(10), any_field(pixels), random.Random(8)
    expected = {str(name): true(name) for name in frames}
    with archive_process("--latency", 0.02, "--pace", 0.01) as url:
        fetch(frames, tmp_path / "alone", check=check_frame, mirror=url)
        for attempt in range(3):
            folder = tmp_path / str(attempt)
            killed(url, folder, 10, chance.uniform(0.0, 0.4))
            for path in folder.rglob("*.fits.bz2"):
                assert path.read_bytes() == expected[path.name]
            fetch(frames, folder, check=check_frame, mirror=url)
            assert State.of(folder) == State.of(tmp_path / "alone")


def test_stopping_keeps_what_was_begun(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    """As Ctrl-C does: the exception comes out of the progress that is told."""
    server.fault("pace", after=4096, seconds=0.02)

    def stopped(done: int, total: int, note: str) -> None:
        if "0.0 MB" not in note:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(FRAMES, tmp_path, check=check_frame, mirror=server.url, progress=stopped)
    assert list(tmp_path.rglob("*.part"))
    server.heal()
    fetched(server, tmp_path)
    assert State.of(tmp_path) == faultless


def test_a_plan_tells_files_and_bytes_and_writes_nothing(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    total = sum(map(len, faultless.files.values()))
    planned = plan(FRAMES, tmp_path / "new", 16, server.url, QUICK)
    assert (planned.wanted, planned.here, planned.bytes, planned.asked) == (6, 0, total, 6)
    assert not (tmp_path / "new").exists()
    assert {one.method for one in server.log} == {"HEAD"}
    fetched(server, tmp_path / "new", FRAMES[:4])
    left = plan(FRAMES, tmp_path / "new", 16, server.url, QUICK)
    assert (left.wanted, left.here, left.to_come) == (6, 4, 2)
    assert left.bytes == sum(
        len(data) for path, data in faultless.files.items() if "0013.fits" in path
    )


def test_a_plan_counts_on_no_byte_of_what_is_absent(
    server: LoopbackServer, faultless: State, tmp_path: Path
) -> None:
    server.fault("status", ONE, method="", status=404)
    server.fault("html", "frame-g-003918-3-0013")
    first = plan(FRAMES, tmp_path, 16, server.url, QUICK)  # the archive itself says it now
    assert (first.absent, first.to_come, first.asked) == (1, 5, 5)
    fetched(server, tmp_path)
    server.log.clear()
    again = plan(FRAMES, tmp_path, 16, server.url, QUICK)  # the manifest says it
    assert server.asked(ONE) == []
    wrong = next(len(data) for path, data in faultless.files.items() if "g-003918-3-0013" in path)
    assert again == Plan(wanted=6, here=4, bytes=wrong, asked=1, absent=1)
    server.heal()
    assert fetched(server, tmp_path).fetched == 2  # a fetch asks for both once more
    assert plan(FRAMES, tmp_path, 16, server.url, QUICK) == Plan(6, 6, 0, 0, 0)


def test_a_plan_of_many_asks_for_few_sizes(
    server: LoopbackServer, tmp_path: Path, pixels: bytes
) -> None:
    planned = plan(some_frames(200), tmp_path, 16, server.url, QUICK)
    assert planned.asked == len(server.log) == 20
    assert planned.bytes / 200 == pytest.approx(len(pixels), rel=0.02)


def test_a_part_counts_as_fetched_in_a_plan(server: LoopbackServer, tmp_path: Path) -> None:
    begun = cut_off(server, tmp_path).stat().st_size
    whole = plan(FRAMES, tmp_path / "new", 16, server.url, QUICK).bytes
    rest = plan(FRAMES, tmp_path, 16, server.url, QUICK)
    assert rest.to_come == 1 and rest.bytes == pytest.approx(whole / 6 - begun, abs=600)


@pytest.mark.parametrize("release", [8, 12, 17, 20])
def test_each_release_has_its_own_path(
    server: LoopbackServer, tmp_path: Path, release: int
) -> None:
    report = fetch(FRAMES[:1], tmp_path, check=check_frame, release=release, mirror=server.url)
    assert str(report.paths[FRAMES[0]].relative_to(tmp_path)).startswith(f"dr{release}/301/3918/3/")


def test_progress_counts_files_and_tells_bytes_and_speed(
    server: LoopbackServer, tmp_path: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    fetch(
        FRAMES, tmp_path, check=check_frame, mirror=server.url,
        progress=lambda *words: told.append(words),
    )  # fmt: skip
    assert told[-1][:2] == (6, 6)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert "MB, " in told[-1][2] and told[-1][2].endswith("MB/s")


def test_frames_are_kept_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    for name in ("GQS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert frames_folder() == Path("/home/ada/.cache/gqs")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert frames_folder() == Path("/scratch/gqs")
    monkeypatch.setenv("GQS_CACHE", "/data/frames")
    assert frames_folder() == Path("/data/frames")


def test_real_frames_come_through(real_data: Path, running: LoopbackServer, tmp_path: Path) -> None:
    from gqs.archive.frame_list import frames_of
    from gqs.surveys.sdss import FieldId
    from loopback.sas import files_in, serve_frames

    frames: list[FrameName] = frames_of([FieldId(3918, 3, 213)], "gr")
    with LoopbackServer() as server:
        serve_frames(server, files_in(real_data / "frames"))
        server.fault("reset", "frame-r", times=1, after=0.5)
        report = fetch(frames, tmp_path, check=check_frame, mirror=server.url)
    for name in frames:
        there = real_data / "frames" / str(name.field) / str(name)
        assert report.paths[name].read_bytes() == there.read_bytes()
