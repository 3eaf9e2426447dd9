"""A store is whole shards or no store: kill -9, full disk, flipped bits, two writers."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from numpy.typing import NDArray

from gqs import files
from gqs.cutouts.shards import image_shape, read_shard, write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.errors import BadInputError, GqsError, IntegrityError, ResourceError, UsageError

SIZES = (5, 1, 0, 7)
MADE = {"from": "a test", "seed": 3}


def rows(number: int, size: int) -> Table:
    at = np.arange(size)
    table = Table({"objid": (1000 * number + at).astype(np.uint64)})
    table["ra"], table["dec"] = 10.0 + at + number / 10, -5.0 + at / 7
    table["x"], table["y"] = at * 1.5, at * 2.5
    table["run"], table["camcol"], table["field"] = (np.full(size, v) for v in (756, 2, number))
    table["class"] = np.array(["GALAXY", "QSO", "STAR"])[at % 3]
    table["flags"] = at.astype(np.int32)
    table["redshift"] = at / 10
    table["plate"] = at  # not kept
    return table


def images(number: int, size: int, form: str = "flux") -> NDArray[np.float32]:
    rng = np.random.default_rng(number)
    made = rng.normal(0, 1, (size, *image_shape("gr", form))).astype(np.float32)
    made[..., :2, :3] = np.nan
    return made


def fill(path: Path, only: int | None = None, bands: str = "gr", seed: int = 3) -> CutoutStore:
    with StoreWriter(path, bands, "flux", "pad", {**MADE, "seed": seed}) as writer:
        for number, size in enumerate(SIZES[:only]):
            write_shard(
                path, f"s{number}", images(number, size), rows(number, size), f"src{number}"
            )
        return writer.finish(
            [f"s{n}" for n in range(len(SIZES[:only]))], ["a.fits: cut; set aside."]
        )


def content(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def flip(path: Path, byte: int, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def test_row_i_is_object_i(tmp_path: Path) -> None:
    store = fill(tmp_path / "s")
    assert len(store) == sum(SIZES)
    assert store.bands == "gr"
    assert (store.form, store.edge) == ("flux", "pad")
    names = ["objid", "ra", "dec", "x", "y", "run", "camcol", "field", "class", "flags"]
    assert store.index.colnames == [*names, "redshift", "shard", "row"]
    truth = np.concatenate([images(n, size) for n, size in enumerate(SIZES)])
    for order in ([0], [12, 0, 5, 5, 1], range(13), [], np.arange(13)[::-1]):
        found = store.images(order)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, truth[list(order)])
    for i, row in enumerate(store.index):
        assert row["objid"] == 1000 * row["shard"] + row["row"]
        np.testing.assert_array_equal(store.images(i)[0], truth[i])
    assert store.manifest["set_aside"] == ["a.fits: cut; set aside."]
    assert store.manifest["classes"] == {"GALAXY": 6, "QSO": 4, "STAR": 3}


def test_rows_out_of_range(tmp_path: Path) -> None:
    store = fill(tmp_path / "s")
    for wrong in ([-1], [13], [0, 99]):
        with pytest.raises(IndexError):
            store.images(wrong)


def test_shards_are_plain_npy(tmp_path: Path) -> None:
    fill(tmp_path / "s")
    mapped = np.load(tmp_path / "s" / "shards" / "s3.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, images(3, 7))


def test_paper_form(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, "gri", "paper", "paper", MADE) as writer:
        picture = np.random.default_rng(0).integers(0, 256, (4, 3, 50, 50)).astype(np.uint8)
        write_shard(tmp_path, "a", picture, rows(0, 4), "src")
        store = writer.finish(["a"])
    np.testing.assert_array_equal(store.images([3, 1]), picture[[3, 1]])
    assert store.images([0]).dtype == np.uint8


def test_the_hash_tells_content(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "a"), fill(tmp_path / "b")
    assert a.hash == b.hash
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert fill(tmp_path / "c", only=2).hash != a.hash
    assert a.index.meta["store"] == a.hash
    assert fill(tmp_path / "d", seed=4).hash == a.hash  # the same content, made otherwise


def test_processes_and_threads_may_share(tmp_path: Path) -> None:
    store = fill(tmp_path / "s")
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).images([7, 2]), store.images([7, 2]))
    truth, wrong = store.images(range(13)), []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            some = rng.integers(0, 13, 6)
            if not np.array_equal(store.images(some), truth[some], equal_nan=True):
                wrong.append(some)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_changed_store_is_not_reopened_under_a_pickle(tmp_path: Path) -> None:
    sent = pickle.dumps(fill(tmp_path / "s"))
    with StoreWriter(tmp_path / "s", "gr", "flux", "pad", MADE) as writer:
        writer.finish(["s0"])
    with pytest.raises(IntegrityError, match="has changed"):
        pickle.loads(sent)


def test_memory_is_that_of_the_answer(tmp_path: Path) -> None:
    """Reading through a large store leaves no mapped pages behind."""
    n = 3000
    with StoreWriter(tmp_path, "gr", "flux", "pad", MADE) as writer:
        many = rows(0, n)
        many["dec"] = 0.0
        write_shard(tmp_path, "a", np.zeros((n, 2, 50, 50), np.float32), many, "src")
        store = writer.finish(["a"])
    code = (
        "import sys, resource, numpy as np\n"
        "from gqs.cutouts.store import CutoutStore\n"
        "s = CutoutStore.open(sys.argv[1]); s.images(range(50))\n"
        "a = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for i in range(0, len(s), 50): s.images(range(i, min(i + 50, len(s))))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - a)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8 * 1024  # KiB; the store has 60 MB


def test_the_writer_keeps_one_image_a_row(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="3 images for 4 rows"):
        write_shard(tmp_path, "a", images(0, 3), rows(0, 4), "src")


def test_an_unfinished_store_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store"):
        CutoutStore.open(tmp_path)
    with StoreWriter(tmp_path, "gr", "flux", "pad", MADE):
        write_shard(tmp_path, "a", images(0, 3), rows(0, 3), "src")
    with pytest.raises(UsageError, match="not finished"):
        CutoutStore.open(tmp_path)


def test_writing_a_shard_opens_the_store_again(tmp_path: Path) -> None:
    fill(tmp_path)
    write_shard(tmp_path, "s1", images(9, 1), rows(1, 1), "other")
    with pytest.raises(UsageError, match="not finished"):
        CutoutStore.open(tmp_path)


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with (
        StoreWriter(tmp_path, "gr", "flux", "pad", MADE) as writer,
        pytest.raises(BadInputError, match=r"first reason: a\.fits: cut"),
    ):
        write_shard(tmp_path, "a", images(0, 0), rows(0, 0), "src")
        writer.finish(["a"], ["a.fits: cut."])


def test_an_objid_comes_once(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, "gr", "flux", "pad", MADE) as writer:
        for name in "ab":
            write_shard(tmp_path, name, images(0, 3), rows(0, 3), "src")
        with pytest.raises(IntegrityError, match="objid"):
            writer.finish(["a", "b"])


@pytest.mark.parametrize(
    ("bands", "form", "edge", "made", "word"),
    [
        ("gri", "flux", "pad", MADE, "bands"),
        ("gr", "paper", "pad", MADE, "form"),
        ("gr", "flux", "paper", MADE, "edge"),
        ("gr", "flux", "pad", {**MADE, "seed": 4}, "seed"),
        ("gr", "flux", "pad", {**MADE, "more": 1}, "more"),
    ],
)
def test_another_request_is_refused(
    tmp_path: Path, bands: str, form: str, edge: str, made: dict[str, object], word: str
) -> None:
    before = content((fill(tmp_path)).path)
    with pytest.raises(UsageError, match=f"another {word} ") as caught:
        StoreWriter(tmp_path, bands, form, edge, made).__enter__()
    assert caught.value.exit_code == 2
    assert content(tmp_path) == before
    fill(tmp_path)  # the lock was let go


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        fill(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


@pytest.mark.parametrize("name", ["request.json", "manifest.json"])
def test_unknown_format(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    value = json.loads((tmp_path / name).read_text())
    value["format"] = 99
    (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(UsageError, match="format 99") as caught:
        fill(tmp_path) if name == "request.json" else CutoutStore.open(tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("part", ["npy", "parquet"])
def test_a_flipped_bit_names_its_shard(tmp_path: Path, part: str) -> None:
    store = fill(tmp_path)
    store.verify()
    path = tmp_path / "shards" / f"s3.{part}"
    rng = np.random.default_rng(2)
    whole = path.read_bytes()
    for byte in rng.integers(len(whole), size=25).tolist():
        flip(path, byte)
        with pytest.raises(IntegrityError, match=r"1 of 4 shards are damaged: s3\.") as caught:
            store.verify()
        assert caught.value.exit_code == 7
        path.write_bytes(whole)
    store.verify()


def test_damaged_pixels_are_never_read(tmp_path: Path) -> None:
    store = fill(tmp_path)
    before = store.images(np.arange(len(store)))
    path = tmp_path / "shards" / "s3.npy"
    whole = path.read_bytes()
    flip(path, len(whole) - 7)  # after it was read: the file's time has changed
    for one in (store, CutoutStore.open(tmp_path)):
        with pytest.raises(IntegrityError, match=r"Shard s3 .* rebuilds this shard") as caught:
            one.images(np.arange(len(store)))
        assert caught.value.exit_code == 7
    path.write_bytes(whole)
    np.testing.assert_array_equal(store.images(np.arange(len(store))), before)


def test_a_flipped_bit_in_index_or_manifest(tmp_path: Path) -> None:
    fill(tmp_path)
    rng = np.random.default_rng(7)
    for name in ("index.parquet", "manifest.json"):
        path = tmp_path / name
        whole = path.read_bytes()
        for byte in rng.integers(len(whole), size=40).tolist():
            flip(path, byte)
            with pytest.raises(GqsError):
                CutoutStore.open(tmp_path)
            path.write_bytes(whole)


def test_a_missing_or_cut_shard_is_never_read(tmp_path: Path) -> None:
    store = fill(tmp_path)
    path = tmp_path / "shards" / "s3.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(IntegrityError, match="Shard s3"):
        store.images([12])
    path.unlink()
    with pytest.raises(IntegrityError, match="Shard s3"):
        store.images([12])
    assert store.images([0, 5]).shape == (2, 2, 50, 50)
    with pytest.raises(IntegrityError):
        read_shard(tmp_path, "s3")


HOLDER = """
import json, sys, time
from pathlib import Path
from gqs.cutouts.store import StoreWriter
with StoreWriter(Path(sys.argv[1]), "gr", "flux", "pad", json.loads(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_writers(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), json.dumps(MADE)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResourceError, match=f"process {holder.pid} on") as caught:
            fill(tmp_path)
        assert caught.value.exit_code == 5
    finally:
        holder.kill()
        holder.wait()
    fill(tmp_path)


@pytest.fixture
def small_files_only() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, earlier)


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, small_files_only: None) -> None:
    with pytest.raises(ResourceError, match=r"s0\.npy"):
        fill(tmp_path)
    assert not [p for p in (tmp_path / "shards").iterdir()]


def test_after_a_full_disk_the_same_command_ends_well(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (110_000, hard))  # the first shard fits
    try:
        with pytest.raises(ResourceError):
            fill(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, earlier)
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def _filled_until_killed(path: Path, at: int) -> int:
    """Fill a store in a fork that kills itself at its `at`-th rename; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left, rename, sync = at, Path.replace, files._sync_folder

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(source: Path, target: Path) -> Path:
        count()
        return rename(source, target)

    def after(folder: Path) -> None:
        sync(folder)
        count()

    Path.replace, files._sync_folder = before, after  # type: ignore[method-assign,assignment]
    try:
        fill(path)
    finally:
        os._exit(1)


def test_kill_9_before_and_after_every_file(tmp_path: Path) -> None:
    """Killed wherever a file gets its name, the same command ends with the same bytes."""
    truth = content(fill(tmp_path / "truth").path)
    names = 2 * len(truth)
    assert names == 22  # request, 4 shards of 2 files, index, manifest: before and after each
    for at in range(1, names + 1):
        path = tmp_path / f"killed{at}"
        assert _filled_until_killed(path, at) == -signal.SIGKILL
        if at < names:
            with pytest.raises(UsageError):
                CutoutStore.open(path)
        fill(path)
        assert content(path) == truth
    assert _filled_until_killed(tmp_path / "never", names + 1) == 1


def test_kill_9_while_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    truth = content(fill(tmp_path / "truth").path)
    for at in (1, 2, 3, 4, 5):
        path = tmp_path / f"killed{at}"
        fill(path)
        flip(path / "shards" / "s0.npy", 999)
        assert _filled_until_killed(path, at) == -signal.SIGKILL
        with pytest.raises(UsageError, match="not finished"):
            CutoutStore.open(path)
        fill(path)
        assert content(path) == truth
