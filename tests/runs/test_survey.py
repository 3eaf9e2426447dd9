"""A survey on a real Dask cluster: what is killed, damaged or begun twice costs no row."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.io import fits
from astropy.table import Table, vstack

from gqs import tables
from gqs.archive.explore import explore_url
from gqs.errors import NetworkError, ResourceError, UsageError
from gqs.files import only_writer
from gqs.model.classifier import Classifier, load_classifier
from gqs.runs.local import classify_fields
from gqs.runs.primary import SettleTask, settle_field, unsettled
from gqs.runs.run_store import RunStore

distributed = pytest.importorskip("distributed", reason="a survey needs the extra `cluster`")
from gqs.runs.survey import SurveyReport, classify_survey  # noqa: E402


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a scheduler with two workers."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as running:
        yield running.scheduler_address


@pytest.fixture
def frames(survey: Path, tmp_path: Path) -> list[Path]:
    """The simulated fields' frames, copied so that a test may damage them."""
    shutil.copytree(survey / "frames", tmp_path / "frames")
    return sorted((tmp_path / "frames").rglob("*.fits.bz2"))


def rows(out: Path) -> Table:
    parts = [tables.read(path) for path in sorted((out / "objects").rglob("*.parquet"))]
    return vstack(parts, metadata_conflicts="silent")


def equal(found: Table, expected: Table) -> None:
    assert len(found) == len(expected)
    for name in ("objid", "x", "y", "p_galaxy", "p_qso", "mag_r", "flags", "class"):
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected[name]))


def record(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / "records" / name[:6] / f"{name}.json").read_text())


def field_of(path: Path) -> str:
    return path.name[8:].split(".")[0]


@contextmanager
def killer(out: Path, name: str, most: int) -> Iterator[list[int]]:
    """Kill whichever worker begins a field, `most` times."""
    killed: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        seen: set[Path] = set()
        while not ended.is_set() and len(killed) < most:
            for mark in set(out.glob(f"tries/*/{name}.*")) - seen:
                text = mark.read_text().split()
                if len(text) == 2:
                    seen.add(mark)
                    os.kill(int(text[1]), signal.SIGKILL)
                    killed.append(int(text[1]))
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def test_a_survey_has_the_rows_of_its_fields_and_does_nothing_twice(
    frames: list[Path], classifier: Classifier, cluster: str, tmp_path: Path
) -> None:
    out, links = tmp_path / "survey", []
    asked = {"links": "17", "provenance": {"date": "2026-01-02", "command": "gqs classify"}}
    at = {"scheduler": cluster, "opened": links.append}
    report = classify_survey(classifier, frames, out, **at, **asked)
    expected = classify_fields(classifier, frames, processes=1).predictions
    equal(rows(out), expected)
    assert links[0].startswith("http")
    found = rows(out)
    assert found.meta.items() >= asked["provenance"].items()
    assert found["link"][7] == explore_url(found["ra"][7], found["dec"][7], 17)
    assert (report.fields, report.now, report.code, report.set_aside) == (2, 2, 0, [])
    assert report.rows == len(expected) == report.objects  # simulated fields lie apart
    assert sum(report.by_class.values()) == report.objects
    manifest = tables.read(out / "manifest.parquet")
    assert manifest.meta["command"] == "gqs classify"
    assert manifest["status"].tolist() == ["done", "done"]
    assert manifest["rows"].sum() == len(expected)
    counts = sum(manifest[name] for name in ("galaxy", "qso", "star", "not_judged"))
    assert counts.tolist() == manifest["primary"].tolist()
    assert not list(out.rglob("*.tmp")) and not (out / "tries").exists()
    # All there: no cluster is needed, and nothing is written again.
    before = {path: path.stat().st_mtime_ns for path in (out / "objects").rglob("*.parquet")}
    again = classify_survey(classifier, frames, out, scheduler="tcp://127.0.0.1:1", **asked)
    assert (again.fields, again.now, again.objects) == (2, 0, report.objects)
    # One part is lost, of the other the frames are replaced: both are made anew.
    lost, other = sorted(before)
    lost.unlink()
    mine = [path for path in frames if field_of(path) == other.stem]
    os.utime(mine[0])
    third = classify_survey(classifier, frames, out, **at, **asked)
    assert third.now == 2
    equal(rows(out), expected)


def test_rows_of_another_model_or_option_are_not_mixed_in(
    frames: list[Path], classifier: Classifier, cluster: str, tmp_path: Path
) -> None:
    out = tmp_path / "survey"
    assert RunStore(out).engine() is None
    classify_survey(classifier, frames, out, scheduler=cluster)
    assert RunStore(out).engine() == "torch"
    shutil.copytree(classifier.folder, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**card, "edge": "paper"}))
    with pytest.raises(UsageError, match="started with card"):
        classify_survey(load_classifier(tmp_path / "model"), frames, out, scheduler=cluster)
    with pytest.raises(UsageError, match="started with prior"):
        classify_survey(classifier, frames, out, scheduler=cluster, prior="balanced")
    with pytest.raises(UsageError, match="started without links"):
        classify_survey(classifier, frames, out, scheduler=cluster, links="17")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    with pytest.raises(UsageError, match=r"thesis\.tex.*no survey"):
        classify_survey(classifier, frames, tmp_path / "mine", scheduler=cluster)
    with only_writer(out), pytest.raises(ResourceError, match="is writing here"):
        classify_survey(classifier, frames, out, scheduler=cluster)


def test_a_field_that_kills_its_workers_is_set_aside_after_three_tries(
    frames: list[Path], classifier: Classifier, cluster: str, tmp_path: Path
) -> None:
    out, poisoned = tmp_path / "survey", field_of(frames[0])
    with killer(out, poisoned, 3) as killed:
        report = classify_survey(classifier, frames, out, scheduler=cluster)
    assert len(killed) == 3
    assert (report.fields, report.code) == (1, 3)
    assert "died in each of 3 tries" in report.set_aside[0]
    assert poisoned in report.set_aside[0]
    manifest = tables.read(out / "manifest.parquet")
    assert sorted(manifest["status"].tolist()) == ["done", "set aside"]
    # Killed by chance but twice, it is done in the third try of the same run.
    with killer(out, poisoned, 2) as killed:
        report = classify_survey(classifier, frames, out, scheduler=cluster)
    assert (len(killed), report.fields, report.code) == (2, 2, 0)
    assert record(out, poisoned)["tries"] == 3
    equal(rows(out), classify_fields(classifier, frames, processes=1).predictions)


def test_a_damaged_field_is_set_aside_and_done_once_it_is_whole(
    frames: list[Path], classifier: Classifier, cluster: str, tmp_path: Path
) -> None:
    out, whole = tmp_path / "survey", frames[0].read_bytes()
    frames[0].write_bytes(whole[: len(whole) // 2])
    other = [path for path in frames if field_of(path) != field_of(frames[0])]
    other[2].rename(tmp_path / "wrong")  # a frame under another's name
    shutil.copy(frames[2], other[2])
    report = classify_survey(classifier, frames, out, scheduler=cluster)
    assert (report.fields, report.code, len(report.set_aside)) == (0, 7, 2)
    assert sorted(tables.read(out / "manifest.parquet")["code"].tolist()) == [3, 7]
    assert any("cut before its end" in sentence for sentence in report.set_aside)
    assert any("its header" in sentence for sentence in report.set_aside)
    assert record(out, field_of(frames[0]))["tries"] == 3
    frames[0].write_bytes(whole)
    (tmp_path / "wrong").replace(other[2])
    report = classify_survey(classifier, frames, out, scheduler=cluster)
    assert (report.fields, report.code) == (2, 0)
    equal(rows(out), classify_fields(classifier, frames, processes=1).predictions)


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(
    frames: list[Path], classifier: Classifier, tmp_path: Path
) -> None:
    out = tmp_path / "survey"
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as running,
        distributed.Client(running, set_as_default=False) as client,
    ):
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        client.run(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        with pytest.raises(ResourceError, match="file size limit"):
            classify_survey(classifier, frames, out, scheduler=running.scheduler_address)
        assert not list(out.rglob("*.parquet")) and not list(out.rglob("*.tmp"))
        client.run(resource.setrlimit, resource.RLIMIT_FSIZE, unlimited)
        report = classify_survey(classifier, frames, out, scheduler=running.scheduler_address)
    assert (report.fields, report.code) == (2, 0)


def test_overlapping_fields_give_one_row_an_object(
    survey: Path, classifier: Classifier, cluster: str, tmp_path: Path
) -> None:
    """Two halves of one field that share 180 columns, the second added by a later run."""
    source = sorted((survey / "frames").iterdir())[0]
    left, right = cropped(source, tmp_path, 0, 11), cropped(source, tmp_path, 120, 12)
    out = tmp_path / "survey"
    first = classify_survey(classifier, left, out, scheduler=cluster)
    assert first.rows == first.objects
    report = classify_survey(classifier, [*left, *right], out, scheduler=cluster)
    found = rows(out)
    chosen = np.asarray(found["primary"])
    assert report.objects == chosen.sum() < report.rows == len(found)
    manifest = tables.read(out / "manifest.parquet")
    assert manifest["primary"].sum() == report.objects
    # A neighbour that is being settled too has, for a moment, a part unlike its record.
    store = RunStore(out)
    assert unsettled(store)[1] == []
    (one, own), (other, theirs) = known = list(store.records())
    settled = tables.read(store.part(one))
    again = settled.copy()
    again["primary"][:] = True
    size = tables.write(again, store.part(one)).stat().st_size
    store.keep(one, own | {"bytes": size})
    store.keep(other, theirs | {"bytes": 0})
    settle_field(store, SettleTask(one, dict(known)))
    assert tables.read(store.part(one))["primary"].tolist() == settled["primary"].tolist()
    assert store.record(one)["settled"] == own["settled"]
    # The whole field, seen at once, has the same objects but for a few at the cuts.
    whole = classifier.classify_field(cropped(source, tmp_path, 0, 13, width=420))
    assert abs(int(chosen.sum()) - len(whole)) <= 3
    assert_one_row_an_object(found, seam=210.0, shift=120.0, middle=150.0)


def test_real_fields_overlap_and_lose_a_worker(
    real_data: Path, classifier: Classifier, cluster: str, tmp_path: Path
) -> None:
    """Two pieces of a real field that share 300 columns; the first try of one is killed."""
    source = real_data / "frames" / "003918-3-0213"
    left = cropped(source, tmp_path, 0, 11, width=600, height=400)
    right = cropped(source, tmp_path, 300, 12, width=600, height=400)
    out = tmp_path / "survey"
    with killer(out, field_of(left[0]), 1) as killed:
        report = classify_survey(classifier, [*left, *right], out, scheduler=cluster)
    assert len(killed) == 1 and (report.fields, report.code) == (2, 0)
    found = rows(out)
    equal(found, classify_fields(classifier, [*left, *right], processes=1).predictions)
    assert_one_row_an_object(found, seam=450.0, shift=300.0, middle=200.0)


def assert_one_row_an_object(found: Table, seam: float, shift: float, middle: float) -> None:
    """Of two fields, 11 and 12, of which the second begins `shift` columns later."""
    chosen, field = np.asarray(found["primary"]), np.asarray(found["field"])
    place = SkyCoord(found["ra"], found["dec"], unit="deg")
    i, j, _, _ = search_around_sky(place, place, 1 * units.arcsec)
    pairs = field[i] != field[j]
    assert pairs.sum() > 10 and not (chosen[i] & chosen[j] & pairs).any()
    lonely = np.ones(len(found), dtype=bool)
    lonely[i[pairs & chosen[j]]] = False
    assert chosen[lonely].all()
    # Far from top and bottom the row farther from its own edge stays: a seam half-way between.
    x, y = np.asarray(found["x"]) + np.where(field == 12, shift, 0), np.asarray(found["y"])
    inner = pairs & (field[i] == 11) & (np.abs(y[i] - middle) < 40)
    for a, b in zip(i[inner], j[inner], strict=True):
        if abs(x[a] - seam) > 2 and abs(x[a] - seam) < 30:
            assert chosen[a] == (x[a] < seam) and chosen[b] == (x[b] > seam)


def cropped(
    source: Path, folder: Path, first: int, number: int, width: int = 300, height: int = 300
) -> list[Path]:
    """Frames of columns `first` and on, as some other camera's: one HDU, another field number."""
    written = []
    for path in sorted(source.glob("frame-?-*.fits.bz2")):
        with fits.open(path) as opened:
            header = opened[0].header.copy()
            data = np.ascontiguousarray(opened[0].data[:height, first : first + width])
        header["CRPIX1"] -= first
        header["ORIGIN"] = "cut"
        header["FRAME"] += number - int(field_of(path)[-4:])
        name = path.name.replace(field_of(path)[-4:], f"{number:04d}").removesuffix(".bz2")
        written.append(folder / name)
        fits.PrimaryHDU(data, header).writeto(written[-1], overwrite=True)
    return written


def test_client_and_scheduler_may_be_killed(
    frames: list[Path], classifier: Classifier, tmp_path: Path
) -> None:
    out = tmp_path / "survey"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    dask = [sys.executable, "-m", "dask"] if shutil.which("dask") is None else ["dask"]
    where = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    command = ["scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(where)]
    scheduler = subprocess.Popen([*dask, *command], **quiet)
    command = ["worker", "--nthreads", "1", "--no-dashboard", "--scheduler-file", str(where)]
    worker = subprocess.Popen([*dask, *command], **quiet)
    try:
        while not where.is_file():
            time.sleep(0.05)
        address = json.loads(where.read_text())["address"]
        # The client is killed when its first field has begun; the worker ends that field.
        client = subprocess.Popen(
            [sys.executable, "-m", "gqs.cli", "classify", *map(str, frames), "--out", str(out),
             "--scheduler", address, "--model", str(classifier.folder), "--engine", "torch"],
            **quiet,
        )  # fmt: skip
        while not list(out.glob("tries/*/*")):
            assert client.poll() is None
            time.sleep(0.01)
        client.kill()
        client.wait()
        lost: list[Exception] = []

        def again() -> None:
            try:
                classify_survey(classifier, frames, out, scheduler=address)
            except NetworkError as error:
                lost.append(error)

        before = set(out.glob("tries/*/*"))
        thread = threading.Thread(target=again)
        thread.start()
        while thread.is_alive() and not set(out.glob("tries/*/*")) - before:
            assert worker.poll() is None
            time.sleep(0.01)
        scheduler.kill()
        thread.join()
        assert not lost or "scheduler was lost" in str(lost[0])
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
    with pytest.raises(NetworkError, match="no Dask scheduler responds"):
        classify_survey(classifier, frames, tmp_path / "other", scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "other" / "survey.json").exists()  # it pins options, and nothing began
    report = classify_survey(classifier, frames, out, processes=1)
    assert (report.fields, report.code) == (2, 0)
    equal(rows(out), classify_fields(classifier, frames, processes=1).predictions)


def test_report_counts_fields_an_hour() -> None:
    report = SurveyReport(Path("s"), 5, 4, 10, 9, {}, seconds=7200.0)
    assert report.fields_an_hour == 2.0
