"""Files are whole or absent: full disk, read-only folder, kill -9, two writers."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gqs import files
from gqs.errors import IntegrityError, ResourceError


@pytest.fixture
def small_files_only() -> Iterator[int]:
    """Stand in for a full disk: files may not pass 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield 1 << 16
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, earlier)


@pytest.fixture
def read_only(tmp_path: Path, lock: Callable[[Path], None]) -> Path:
    """A folder in which this process may not write, root or not."""
    folder = tmp_path / "locked"
    folder.mkdir()
    lock(folder)
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    assert files.write_bytes(path, b"first") == path
    files.write_atomically(path, lambda file: file.writelines([b"sec", b"ond"]))
    assert path.read_bytes() == b"second"
    assert _names(path.parent) == ["file.bin"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = files.write_bytes(tmp_path / "file.bin", b"old")

    def fail(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        files.write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file.bin"]


def test_a_full_disk_is_one_sentence(tmp_path: Path, small_files_only: int) -> None:
    path = files.write_bytes(tmp_path / "file.bin", b"old")
    with pytest.raises(ResourceError, match=r"file size limit.*run the same command") as caught:
        files.write_bytes(path, bytes(2 * small_files_only))
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file.bin"]


def test_a_read_only_folder_is_one_sentence(read_only: Path) -> None:
    with pytest.raises(ResourceError, match="permission"):
        files.write_bytes(read_only / "file.bin", b"x")
    with pytest.raises(ResourceError, match="permission"), files.only_writer(read_only):
        pass
    with pytest.raises(ResourceError, match="permission"), files.only_writer(read_only / "new"):
        pass


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "file", b"x")
    with pytest.raises(ResourceError, match="a file is where a folder should be"):
        files.write_bytes(tmp_path / "file" / "inner" / "x.bin", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match="a folder is where a file should be"):
        files.write_bytes(tmp_path / "folder", b"x")
    assert _names(tmp_path) == ["file", "folder"]


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.disk_errors(tmp_path, "reading"):
        (tmp_path / "none").read_bytes()


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from gqs import files
def write(file):
    file.write(b"n" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(Path(sys.argv[1]), write)
"""


def test_kill_9_leaves_the_old_file_and_the_next_writer_sweeps(tmp_path: Path) -> None:
    path = files.write_bytes(tmp_path / "file.bin", b"old")
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(_names(tmp_path)) == 2
    assert files.sweep(tmp_path) == 0  # young: it may still be somebody's
    with files.only_writer(tmp_path):
        assert _names(tmp_path) == [".lock", "file.bin"]


def test_sweep_spares_what_is_no_temporary_file(tmp_path: Path) -> None:
    for name in ("data.tmp", ".hidden", ".a.1.2.tmp"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    assert files.sweep(tmp_path) == 1
    assert _names(tmp_path) == [".hidden", "data.tmp"]


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    path, contents = tmp_path / "file.bin", [bytes([i]) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=files.write_bytes, args=(path, c)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert _names(tmp_path) == ["file.bin"]


HOLDER = """
import sys, time
from pathlib import Path
from gqs import files
with files.only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_writer_is_refused_and_told_who_holds(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ResourceError, match=f"process {holder.pid} on") as caught,
            files.only_writer(tmp_path),
        ):
            pass
        assert caught.value.exit_code == 5
    finally:
        holder.kill()
        holder.wait()
    with files.only_writer(tmp_path):  # the lock went with its process
        pass
    with files.only_writer(tmp_path):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "thesis.tex"
    target.write_text("years of work")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".lock").symlink_to(target)
    with pytest.raises(ResourceError, match="store"), files.only_writer(tmp_path / "store"):
        pass
    assert target.read_text() == "years of work"


def test_an_error_within_the_lock_is_not_blamed_on_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.only_writer(tmp_path):
        (tmp_path / "none").read_bytes()
    with pytest.raises(PermissionError), files.only_writer(tmp_path):
        raise PermissionError(13, "elsewhere")


def test_json(tmp_path: Path) -> None:
    value = {"name": "Ångström", "n": [1, 2.5, None], "b": True}
    path = files.write_json(tmp_path / "a.json", value)
    assert json.loads(path.read_text("utf-8")) == value
    assert "Ångström" in path.read_text("utf-8")
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text("utf-8")) == value


def test_hashes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(300_001)
    path = files.write_bytes(tmp_path / "a.bin", data)
    assert files.sha256(path) == hashlib.sha256(data).hexdigest()
    files.check_hash(path, hashlib.sha256(data).hexdigest())
    flipped = bytearray(data)
    flipped[100_000] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(IntegrityError, match=r"a\.bin.*changed or damaged"):
        files.check_hash(path, hashlib.sha256(data).hexdigest())


def test_hash_of_values() -> None:
    assert files.hash_of({"a": 1, "b": [2]}) == files.hash_of({"b": [2], "a": 1})
    assert files.hash_of({"a": 1}) != files.hash_of({"a": 1.5})
    assert files.hash_of(["ab", "c"]) != files.hash_of(["a", "bc"])
    assert files.hash_of(Path("x")) == files.hash_of("x")


def test_the_lock_is_quick(tmp_path: Path) -> None:
    begin = time.monotonic()
    for _ in range(20):
        with files.only_writer(tmp_path):
            pass
    assert time.monotonic() - begin < 2


def test_files_are_listed_behind_links_and_never_in_circles(tmp_path: Path) -> None:
    archive, links = tmp_path / "archive", tmp_path / "links"
    for name in ("b/2/frame.fits", "b/1/frame.fits", "a/frame.fits"):
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).touch()
    links.mkdir()
    (links / "one").symlink_to(archive / "b")
    (links / "same").symlink_to(archive / "b")
    (links / "lost.fits").symlink_to(archive / "no such file")
    (archive / "b" / "circle").symlink_to(links)
    found = files.below(links)
    assert found == [links / "one" / "1" / "frame.fits", links / "one" / "2" / "frame.fits"]
