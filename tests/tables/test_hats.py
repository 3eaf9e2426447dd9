"""HATS: what LSDB opens has the very rows, in partitions that its own validator finds sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from astropy.table import Table

from gqs import tables
from gqs.errors import UsageError
from gqs.tables.hats import write_hats

pytest.importorskip("hats", reason="the extra gqs[hats] is not installed")

ROWS = 700


def catalogue() -> Table:
    rng = np.random.default_rng(3)
    table = Table({"objid": rng.permutation(ROWS).astype(np.uint64) + np.uint64(2**63)})
    # Half of them in one field, the others over all the sky, both poles among them.
    table["ra"] = np.where(
        np.arange(ROWS) % 2, 185 + 0.2 * rng.random(ROWS), 360 * rng.random(ROWS)
    )
    table["dec"] = np.degrees(np.arcsin(2 * rng.random(ROWS) - 1))
    table["dec"][1::2] = 12 + 0.2 * rng.random(ROWS // 2)
    table["dec"][0], table["dec"][2] = 90.0, -90.0
    table["x"], table["y"] = rng.random(ROWS), rng.random(ROWS)
    for name in ("run", "camcol", "field"):
        table[name] = np.full(ROWS, 3, dtype=np.int32)
    p = rng.dirichlet([1, 1, 1], ROWS)
    p[4] = np.nan
    return tables.predictions(table, p, np.zeros(ROWS, np.int32), "abcdef")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hats(catalogue(), tmp_path_factory.mktemp("hats") / "sky.hats", most_rows=90)


def test_its_own_validator_finds_it_sound(written: Path) -> None:
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(written, strict=True)


def test_every_row_lies_in_the_partition_of_its_position(written: Path) -> None:
    """astropy_healpix, another implementation, gives the same pixels."""
    from astropy import units
    from astropy_healpix import HEALPix

    files = sorted(written.rglob("Npix=*.parquet"))
    orders, rows = set(), 0
    for file in files:
        order = int(file.parts[-3].removeprefix("Norder="))
        number = int(file.stem.removeprefix("Npix="))
        part = tables.read(file)
        place = np.asarray(part["ra"]) * units.deg, np.asarray(part["dec"]) * units.deg
        pixel = HEALPix(2**order, "nested").lonlat_to_healpix(*place)
        assert (pixel == number).all() and 0 < len(part) <= 90
        index = HEALPix(2**29, "nested").lonlat_to_healpix(*place)
        np.testing.assert_array_equal(np.asarray(part["_healpix_29"]), index)
        assert (np.diff(index) >= 0).all()
        assert part["mag_r"].meta[tables.UCD] == "phot.mag;em.opt.R"
        orders.add(order)
        rows += len(part)
    assert rows == ROWS and len(orders) > 2
    common = pyarrow.parquet.read_schema(written / "dataset" / "_common_metadata")
    assert common.equals(pyarrow.parquet.read_schema(files[0]), check_metadata=True)


def test_lsdb_opens_it_and_finds_the_same_rows(written: Path) -> None:
    lsdb = pytest.importorskip("lsdb", reason="lsdb is not installed")
    opened = lsdb.open_catalog(written)
    table = catalogue()
    table.sort("objid")
    frame = opened.compute().sort_values("objid")
    assert frame["objid"].tolist() == table["objid"].tolist()
    for name in ("ra", "dec", "p_qso"):
        np.testing.assert_array_equal(frame[name].to_numpy(dtype=float), np.asarray(table[name]))
    assert frame["class"].tolist() == table["class"].tolist()
    cone = opened.cone_search(185.1, 12.1, 200).compute()
    here = np.hypot((table["ra"] - 185.1) * np.cos(np.radians(12.1)), table["dec"] - 12.1)
    assert len(cone) == (np.asarray(here) < 200 / 3600).sum() > 10


def test_a_former_catalogue_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path, table = tmp_path / "sky.hats", catalogue()
    tables.write(table, path)
    table["ra"][7] = np.nan  # no position, no pixel
    tables.write(table[:20], path)
    assert sum(len(tables.read(file)) for file in path.rglob("Npix=*.parquet")) == 19
    assert [found.name for found in tmp_path.iterdir()] == ["sky.hats"]
    own = tmp_path / "mine.hats"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a HATS catalogue"):
        tables.write(table, own)
    assert (own / "notes.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="cannot store an empty"):
        tables.write(table[7:8], tmp_path / "none.hats")


def test_a_refused_disk_leaves_the_former_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, table = tmp_path / "sky.hats", catalogue()
    tables.write(table[:10], path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gqs.tables.hats.write_bytes", full)
    with pytest.raises(Exception, match="disk is full"):
        tables.write(table, path)
    assert [found.name for found in tmp_path.iterdir()] == ["sky.hats"]
    assert sum(len(tables.read(file)) for file in path.rglob("Npix=*.parquet")) == 10


def test_without_the_extra_it_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'gqs\[hats\]'"):
        tables.check_ending(tmp_path / "sky.hats")
