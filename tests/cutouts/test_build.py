"""From frames and a catalogue to a store: right pixels, and every fault set aside or refused."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.nddata import Cutout2D
from astropy.table import Table, vstack

from cutouts.conftest import SHAPE, SmallField
from gqs import tables
from gqs.cutouts.build import BuildReport, build_from_frames, build_from_simulation
from gqs.cutouts.split import check_split, make_split
from gqs.cutouts.store import CutoutStore
from gqs.errors import BadInputError, GqsError, IntegrityError, ResourceError, UsageError
from gqs.surveys.sdss import FieldId

Fields = Sequence[SmallField]


def content(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def build(survey: Path, out: Path, **options: Any) -> tuple[BuildReport, CutoutStore]:
    catalog = options.pop("catalog", survey / "catalog.csv")
    paths = options.pop("paths", [survey / "frames"])
    report = build_from_frames(paths, catalog, out, **{"bands": "gr", "workers": 1, **options})
    return report, CutoutStore.open(out)


@pytest.fixture
def copied(survey: Path, tmp_path: Path) -> Path:
    """The survey, to be spoiled."""
    import shutil

    return Path(shutil.copytree(survey, tmp_path / "survey"))


def test_cutouts_are_astropys(survey: Path, tmp_path: Path, three_fields: Fields) -> None:
    notes: list[tuple[int, int, str]] = []
    report, store = build(survey, tmp_path / "s", progress=lambda *note: notes.append(note))
    assert report.objects == len(store) == 36
    assert report.classes == {"GALAXY": 12, "QSO": 12, "STAR": 12}
    assert (report.shards, report.set_aside, report.elsewhere, report.repeated) == (3, (), 0, 0)
    assert report.exit_code == 0
    assert [note[:2] for note in notes] == [(1, 3), (2, 3), (3, 3)]
    json.dumps(report.as_dict(), allow_nan=False)
    catalog = vstack([field.catalog() for field in three_fields])
    order = {objid: row for row, objid in enumerate(store.index["objid"].tolist())}
    assert set(order) == set(catalog["objid"].tolist())
    images = store.images(range(36))
    for field in three_fields:
        flux = field.flux("r")
        for (x, y), objid in zip(field.stars(), field.catalog()["objid"].tolist(), strict=True):
            row = order[objid]
            oracle = Cutout2D(flux, (x, y), 50, mode="partial", fill_value=np.nan).data
            np.testing.assert_array_equal(images[row, 1], oracle)
            assert store.index["x"][row] == pytest.approx(x, abs=1e-6)
            peak = np.unravel_index(np.nanargmax(images[row, 0]), (50, 50))
            assert np.hypot(peak[0] - 24.5, peak[1] - 24.5) < 3
    line = store.index[order[int(catalog["objid"][14])]]
    assert (line["run"], line["camcol"], line["field"]) == tuple(three_fields[1].field)
    assert line["class"] == catalog["class"][14]
    assert line["redshift"] == catalog["redshift"][14]
    check_split(make_split(store.index), store.index)


def test_workers_and_order_change_nothing(survey: Path, tmp_path: Path) -> None:
    paths = sorted((survey / "frames").rglob("*.fits"))
    build(survey, tmp_path / "a", workers=1)
    build(survey, tmp_path / "b", workers=2, paths=paths[::-1])
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_positions_find_their_field(survey: Path, tmp_path: Path) -> None:
    """A catalogue without run, camcol and field gives the same store."""
    catalog = tables.read(survey / "catalog.csv")
    _, second = build(survey, tmp_path / "seeing")
    catalog.remove_columns(["run", "camcol", "field"])
    catalog.add_row([5, 200.0, 10.0, "STAR", 0.0])
    path = tables.write(catalog, tmp_path / "c.parquet")
    report, found = build(survey, tmp_path / "found", catalog=path)
    assert report.elsewhere == 1
    assert found.hash == second.hash


def test_one_row_an_object_where_fields_overlap(tmp_path: Path) -> None:
    """By position a row goes to the field in which it lies farthest from the edge."""
    left = SmallField(FieldId(756, 2, 40), ra=10.0)
    right = SmallField(FieldId(756, 2, 41), ra=10.0 - 0.01)
    for field in (left, right):
        field.write(tmp_path / "frames", "r")
    catalog = left.catalog()["objid", "ra", "dec", "class"]
    path = tables.write(catalog, tmp_path / "c.csv")
    _, store = build(tmp_path, tmp_path / "s", catalog=path, bands="r")
    assert sorted(store.index["objid"].tolist()) == sorted(catalog["objid"].tolist())
    assert set(store.index["field"].tolist()) == {40, 41}
    for row in store.index:
        field = left if row["field"] == 40 else right
        other = right if row["field"] == 40 else left
        margin, passed_over = (_margin(f, row["ra"], row["dec"]) for f in (field, other))
        assert margin >= passed_over


def _margin(field: SmallField, ra: float, dec: float) -> float:
    x, y = field.wcs.all_world2pix(ra, dec, 0)
    return float(min(x + 0.5, SHAPE[1] - 0.5 - x, y + 0.5, SHAPE[0] - 0.5 - y))


def test_an_object_in_two_fields_is_told_and_not_torn(survey: Path, tmp_path: Path) -> None:
    catalog = tables.read(survey / "catalog.csv")
    again = catalog[:1].copy()
    again["objid"], again["ra"] = 99, again["ra"] + 0.4 / 3600
    path = tables.write(vstack([catalog, again]), tmp_path / "c.csv")
    report, store = build(survey, tmp_path / "s", catalog=path)
    assert report.repeated == 2
    for scheme in ("grouped", "paper"):
        check_split(make_split(store.index, scheme), store.index)


def test_paper_form(survey: Path, tmp_path: Path) -> None:
    report, store = build(survey, tmp_path / "s", form="paper", edge="paper", bands="ugriz")
    assert report.objects == 36
    assert (store.bands, store.form, store.edge) == ("gri", "paper", "paper")
    images = store.images([0, 35])
    assert images.shape == (2, 3, 50, 50)
    assert images.dtype == np.uint8
    assert images.max() > 50


def test_the_same_command_again_changes_nothing(survey: Path, tmp_path: Path) -> None:
    build(survey, tmp_path / "s")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "s" / "shards").iterdir()}
    whole = content(tmp_path / "s")
    build(survey, tmp_path / "s")
    assert content(tmp_path / "s") == whole
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "s" / "shards").iterdir()} == before


@pytest.mark.parametrize("part", ["npy", "parquet"])
def test_a_damaged_shard_is_made_again(survey: Path, tmp_path: Path, part: str) -> None:
    _, store = build(survey, tmp_path / "s")
    whole = content(tmp_path / "s")
    path = sorted((tmp_path / "s" / "shards").glob(f"*.{part}"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=path.stem):
        store.verify()
    build(survey, tmp_path / "s")
    assert content(tmp_path / "s") == whole


def test_another_field_joins_and_none_is_forgotten(
    survey: Path, tmp_path: Path, three_fields: Fields
) -> None:
    folders = [survey / "frames" / str(field.field) for field in three_fields]
    build(survey, tmp_path / "s", paths=folders[:2])
    report, store = build(survey, tmp_path / "s", paths=folders)
    assert report.objects == 36
    with pytest.raises(UsageError, match=f"holds field {three_fields[0].field}, whose frames"):
        build(survey, tmp_path / "s", paths=folders[1:])
    assert CutoutStore.open(tmp_path / "s").hash == store.hash


@pytest.mark.parametrize(
    ("options", "word"),
    [({"bands": "r"}, "bands"), ({"edge": "paper"}, "edge"), ({"form": "paper"}, "bands, form")],
)
def test_changed_options_are_refused(
    survey: Path, tmp_path: Path, options: dict[str, str], word: str
) -> None:
    build(survey, tmp_path / "s")
    whole = content(tmp_path / "s")
    with pytest.raises(UsageError, match="begun with another") as caught:
        build(survey, tmp_path / "s", **options)
    assert word.split(", ")[0] in str(caught.value)
    assert content(tmp_path / "s") == whole


def test_a_changed_catalogue_is_refused(copied: Path, tmp_path: Path) -> None:
    build(copied, tmp_path / "s")
    with (copied / "catalog.csv").open("a") as file:
        file.write("5,10,10,756,2,40,STAR,0\n")
    with pytest.raises(UsageError, match="another catalogue_sha256"):
        build(copied, tmp_path / "s")


def test_a_changed_frame_is_cut_again(copied: Path, tmp_path: Path, three_fields: Fields) -> None:
    _, first = build(copied, tmp_path / "s")
    field = three_fields[1]
    path = copied / "frames" / str(field.field) / f"frame-r-{field.field}.fits"
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4 * 4
    data[at : at + 4] = np.array([7.25], dtype=">f4").tobytes()
    path.write_bytes(data)
    _, second = build(copied, tmp_path / "s")
    assert second.hash != first.hash
    shards = [
        {s["name"]: s["images_sha256"] for s in x.manifest["shards"]} for x in (first, second)
    ]
    assert [n for n in shards[0] if shards[0][n] != shards[1][n]] == [str(field.field)]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def _html(path: Path) -> None:
    path.write_text("<html><body>404</body></html>")


def _no_wcs(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"CTYPE1  =", b"CTYPEX  ="))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _absent(path: Path) -> None:
    path.unlink()


SPOILT = {
    "cut": (_cut, "Fetch"),
    "html": (_html, "web page"),
    "no WCS": (_no_wcs, "WCS"),
    "empty": (_empty, "empty"),
    "absent": (_absent, "has no r frame"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_bad_frame_costs_its_field(
    copied: Path, tmp_path: Path, three_fields: Fields, how: str
) -> None:
    spoil, word = SPOILT[how]
    field = three_fields[1].field
    path = copied / "frames" / str(field) / f"frame-r-{field}.fits"
    good = path.read_bytes()
    spoil(path)
    report, store = build(copied, tmp_path / "s")
    assert report.exit_code == 3
    assert report.objects == 24
    assert set(store.index["field"].tolist()) == {40, 42}
    assert any(word in line for line in report.set_aside), report.set_aside
    assert all("\n" not in line for line in report.set_aside)
    path.write_bytes(good)  # fetched again: the same command ends as a faultless run
    report, store = build(copied, tmp_path / "s")
    assert (report.exit_code, report.objects) == (0, 36)
    build(copied, tmp_path / "whole")
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_two_fields_mixed_in_one_folder(copied: Path, tmp_path: Path, three_fields: Fields) -> None:
    """Headers decide: a band of another field is that field's, and is missed in this one."""
    a, b = (copied / "frames" / str(f.field) for f in three_fields[:2])
    (a / f"frame-g-{a.name}.fits").rename(tmp_path / "g.fits")
    (b / f"frame-g-{b.name}.fits").rename(a / f"frame-g-{a.name}.fits")
    report, store = build(copied, tmp_path / "s")
    assert [line for line in report.set_aside if line.startswith(f"Field {a.name}: has no g")]
    assert set(store.index["field"].tolist()) == {41, 42}


def test_nothing_usable_at_all(copied: Path, tmp_path: Path) -> None:
    for path in (copied / "frames").rglob("*.fits"):
        _html(path)
    with pytest.raises(BadInputError, match="not one cutout could be made"):
        build(copied, tmp_path / "s")


def test_no_frames(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no frame"):
        build(survey, tmp_path / "s", paths=[tmp_path / "empty"])
    with pytest.raises(UsageError, match="No frames"):
        build(survey, tmp_path / "s", paths=[])
    with pytest.raises(UsageError, match="no such file"):
        build(survey, tmp_path / "s", paths=[tmp_path / "none.fits"])
    assert not (tmp_path / "s").exists()


def test_a_catalogue_of_elsewhere(survey: Path, tmp_path: Path) -> None:
    catalog = tables.read(survey / "catalog.csv")
    catalog["run"] = 5
    path = tables.write(catalog, tmp_path / "c.csv")
    with pytest.raises(UsageError, match="none of its 36 objects lies on the 3 fields"):
        build(survey, tmp_path / "s", catalog=path)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("756040000,", "7.5604e8,", IntegrityError),
        ("756040001,", "756040000,", IntegrityError),
        ("class", "kind", UsageError),
    ],
)
def test_a_catalogue_that_is_refused(
    survey: Path, tmp_path: Path, old: str, new: str, error: type[GqsError]
) -> None:
    text = (survey / "catalog.csv").read_text()
    assert old in text
    (tmp_path / "c.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(error):
        build(survey, tmp_path / "s", catalog=tmp_path / "c.csv")
    assert not (tmp_path / "s").exists()


def test_rows_that_cannot_be_used(survey: Path, tmp_path: Path) -> None:
    catalog = tables.read(survey / "catalog.csv")
    catalog["class"] = catalog["class"].astype("U12")
    catalog["class"][0] = "quasar"
    catalog["ra"][1] = np.nan
    catalog["ra"][2] += 30.0  # on none of the frames, though the catalogue says so
    path = tables.write(catalog, tmp_path / "c.csv")
    report, store = build(survey, tmp_path / "s", catalog=path)
    assert report.objects == 33
    assert report.exit_code == 3
    messages = "\n".join(report.set_aside)
    assert "row 1: class 'quasar' is none of" in messages
    assert "row 2" in messages
    assert f"Object {catalog['objid'][2]} of field" in messages
    assert "lies on none of the frames; left out." in messages
    gone = set(catalog["objid"][:3].tolist())
    assert not gone & set(store.index["objid"].tolist())


def test_masked_and_edge_objects(survey: Path, copied: Path, tmp_path: Path) -> None:
    """A masked centre is left out; a padded edge is kept and flagged."""
    field = SmallField(FieldId(756, 2, 40), ra=10.0)
    path = copied / "frames" / str(field.field) / f"frame-r-{field.field}.fits"
    from astropy.io import fits

    with fits.open(path, mode="update") as units:
        x, y = np.rint(field.stars()[4]).astype(int)
        units[0].data[y, x] = np.nan
    catalog = tables.read(survey / "catalog.csv")
    edge = catalog[:1].copy()
    edge["objid"] = 98
    edge["ra"], edge["dec"] = (v.item() for v in field.wcs.all_pix2world(8.0, 60.0, 0))
    path = tables.write(vstack([catalog, edge]), tmp_path / "c.csv")
    report, store = build(copied, tmp_path / "s", catalog=path)
    assert report.objects == 36
    assert "masked centre" in report.set_aside[0]
    assert str(catalog["objid"][4]) in report.set_aside[0]
    row = int(np.flatnonzero(store.index["objid"] == 98)[0])
    assert store.index["flags"][row] & tables.Flag.EDGE
    assert np.isnan(store.images([row])[0, 0, :, :16]).all()


def test_a_shifted_wcs_is_seen_by_the_catalogue(
    copied: Path, tmp_path: Path, three_fields: Fields
) -> None:
    field = three_fields[2].field
    for path in (copied / "frames" / str(field)).iterdir():
        data = path.read_bytes()
        at = data.index(b"CRPIX1")
        card = data[at : at + 80]
        path.write_bytes(
            data.replace(card, f"CRPIX1  = {SHAPE[1] / 2 + 21:20.6f}".encode().ljust(80))
        )
    report, _ = build(copied, tmp_path / "s")
    assert report.objects == 24
    assert "have any light at their position" in report.set_aside[0]
    assert str(field) in report.set_aside[0]


def test_a_full_disk_ends_the_build(survey: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from gqs.cutouts.build import build_from_frames\n"
        "from gqs.errors import GqsError\n"
        "try:\n"
        "    build_from_frames([sys.argv[1]], sys.argv[2], sys.argv[3], 'gr', workers=2)\n"
        "except GqsError as error:\n"
        "    print(error)\n"
        "    sys.exit(error.exit_code)\n"
    )
    out = tmp_path / "s"
    command = [sys.executable, "-c", code, survey / "frames", survey / "catalog.csv", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ResourceError.exit_code, done.stderr
    assert done.stdout.count("\n") == 1
    assert "000756-2-00" in done.stdout and "size limit" in done.stdout
    assert done.stderr == ""
    build(survey, out)
    build(survey, tmp_path / "t")
    assert content(out) == content(tmp_path / "t")


def test_kill_9_at_any_time(survey: Path, tmp_path: Path) -> None:
    """Parent and children are killed at random moments until a run comes to its end."""
    build(survey, tmp_path / "truth")
    code = (
        "import sys\n"
        "from gqs.cutouts.build import build_from_frames\n"
        "print('begins', flush=True)\n"
        "build_from_frames([sys.argv[1]], sys.argv[2], sys.argv[3], 'gr', workers=1,\n"
        "                  progress=lambda *note: print(note, flush=True))\n"
    )
    out = tmp_path / "killed"
    command = [sys.executable, "-c", code, survey / "frames", survey / "catalog.csv", out]
    for lines in (1, 2, 3):  # right after the start, after the first field, after the second
        child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True)
        assert child.stdout is not None
        for _ in range(lines):
            assert child.stdout.readline()
        time.sleep(0.02 * lines)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    build(survey, out)
    assert content(out) == content(tmp_path / "truth")


def test_simulated_objects_go_straight_in(tmp_path: Path) -> None:
    counts = {"GALAXY": 171, "QSO": 171, "STAR": 171}  # one more than a shard
    report = build_from_simulation(tmp_path / "a", counts, seed=4, bands="r", workers=2)
    store = CutoutStore.open(tmp_path / "a")
    assert report.classes == counts
    assert store.images([0, 512]).shape == (2, 1, 50, 50)
    assert len(set(store.index["objid"].tolist())) == 513
    assert len(np.unique(store.index["field"])) * len(np.unique(store.index["camcol"])) >= 4
    whole = content(tmp_path / "a")
    (tmp_path / "a" / "shards" / "simulated-000001.npy").unlink()
    build_from_simulation(tmp_path / "a", counts, seed=4, bands="r", workers=1)
    assert content(tmp_path / "a") == whole
    check_split(make_split(store.index), store.index)
    with pytest.raises(UsageError, match="another seed"):
        build_from_simulation(tmp_path / "a", counts, seed=5, bands="r")
    for wrong in ({"QUASAR": 5}, {"QSO": -1}, {}):
        with pytest.raises(UsageError):
            build_from_simulation(tmp_path / "b", wrong, seed=5)
    with pytest.raises(UsageError, match="Say how many"):
        build_from_simulation(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_catalogues_objects_are_chosen_evenly_and_drawn_as_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    n = 90
    rows = Table({"class": rng.choice(["GALAXY", "QSO", "STAR"], n, p=[0.6, 0.2, 0.2])})
    for band in "ugriz":
        rows[band] = rng.uniform(16.0, 19.0, n)
    rows["r"][:5] = 24.0  # beyond the paper's limits
    path = tables.write(rows, tmp_path / "photometry.csv")
    counts = dict.fromkeys(("GALAXY", "QSO", "STAR"), 8)
    options = {"counts": counts, "catalog": path, "form": "paper", "workers": 1}
    report = build_from_simulation(tmp_path / "s", **options)
    store = CutoutStore.open(tmp_path / "s")
    assert report.classes == counts and not report.set_aside
    assert (store.form, store.bands) == ("paper", "gri")
    images = store.images(range(len(store)))
    assert images.shape == (24, 3, 50, 50) and images.dtype == np.uint8
    middle = images[:, :, 23:27, 23:27].mean(axis=(1, 2, 3))
    assert (middle > 20 + np.median(images, axis=(1, 2, 3))).all()  # the source is there
    r = np.sort(store.index["r"])
    assert set(np.round(r, 3)) <= set(np.round(np.asarray(rows["r"][5:]), 3))
    assert len(np.unique(r)) == 24
    with pytest.raises(UsageError, match="90 are asked for"):
        build_from_simulation(tmp_path / "t", {"GALAXY": 90}, path)


def test_an_object_of_two_catalogues_is_rendered_once(tmp_path: Path) -> None:
    def catalogue(name: str, ra: list[float], r: float) -> Path:
        rows = Table({"class": ["GALAXY", "QSO", "STAR", "STAR"], "ra": ra, "dec": [1.0] * 4})
        for band in "ugriz":
            rows[band] = np.full(4, r)
        return tables.write(rows, tmp_path / name)

    one = catalogue("one.csv", [10.0, 10.1, 10.2, 359.99999], 17.0)
    # The galaxy again, 0.5" away; the last star again, 0.07" away across 0 h; two new objects.
    two = catalogue("two.csv", [10.0 + 0.5 / 3600, 10.3, 10.4, 0.00001], 18.0)
    report = build_from_simulation(tmp_path / "s", catalog=[one, two], form="paper", workers=1)
    assert report.classes == {"GALAXY": 1, "QSO": 2, "STAR": 3}
    r = np.sort(CutoutStore.open(tmp_path / "s").index["r"])
    np.testing.assert_allclose(r, [17, 17, 17, 17, 18, 18], atol=1e-3)


def test_real_frames(real_data: Path, tmp_path: Path) -> None:
    """Objects with spectra in a real field: their light is in the middle."""
    table = Table.read(real_data / "catalogs" / "spectroscopic_in_frames.csv")
    table = table[table["run"] == 1043]
    table["objid"] = np.arange(len(table)) + 10**18
    table.keep_columns(["objid", "ra", "dec", "run", "camcol", "field", "class", "redshift"])
    path = tables.write(table, tmp_path / "c.csv")
    report = build_from_frames(
        [real_data / "frames" / "001043-5-0025"], path, tmp_path / "s", bands="gri"
    )
    store = CutoutStore.open(tmp_path / "s")
    assert report.objects == len(table) >= 1
    images = store.images(range(len(store)))
    centre = np.nanmean(images[:, :, 23:27, 23:27], axis=(2, 3))
    around = np.nanmedian(images, axis=(2, 3))
    assert (centre > around + 0.1).all()


def test_limits_of_this_process_are_untouched() -> None:
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
