"""Column metadata: UCDs from the IVOA's own list of words, and the same in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from astropy import units
from astropy.io import fits
from astropy.io.votable import parse, ucd
from astropy.table import Table, vstack

from gqs import labels, tables
from gqs.imaging import seeing
from gqs.surveys import sdss
from gqs.tables import UCD, Flag
from gqs.tables.columns import bands, described, flag_lines, known_columns

FITS_CARD = 68  # letters that a card's text has room for
KEEPING = (".parquet", ".fits", ".vot", ".ecsv")


def objects(n: int, measured: str) -> Table:
    table = Table({"objid": np.arange(n, dtype=np.uint64) + np.uint64(2**63)})
    for name in ("ra", "dec", "x", "y"):
        table[name] = np.linspace(0.5, 80.25, n)
    for name in ("run", "camcol", "field"):
        table[name] = np.full(n, 3, dtype=np.int32)
    for band in measured:
        table[f"mag_{band}"] = np.linspace(14, 20, n)
        table[f"magerr_{band}"] = np.linspace(0.01, 0.2, n)
        table[f"seeing_{band}"] = np.full(n, 1.3)
    return table


def predictions(n: int = 5, measured: str = "ugriz") -> Table:
    share = np.linspace(0.1, 0.6, n)
    p = np.stack([share, 0.9 - share, np.full(n, 0.1)], axis=1)
    p[1] = np.nan
    return tables.predictions(
        objects(n, measured), p, np.zeros(n, np.int32), "0123456789abcdef", share
    )


def test_every_ucd_is_made_of_the_ivoas_words() -> None:
    for name, row in known_columns().items():
        assert ucd.check_ucd(row.ucd, check_controlled_vocabulary=True, has_colon=False), name


def test_every_unit_is_one_of_vounits() -> None:
    for row in known_columns().values():
        if row.unit:
            assert units.Unit(row.unit, format="vounit").to_string("vounit")


def test_every_line_fits_into_a_card() -> None:
    lines = [row.about for row in known_columns().values()] + list(flag_lines().values())
    assert all(0 < len(line) <= FITS_CARD and line.isascii() for line in lines)
    assert len(set(lines)) == len(lines)


def test_bands_and_flags_are_those_of_the_survey() -> None:
    assert "".join(bands()) == sdss.BANDS
    assert set(seeing.COLUMNS) <= set(known_columns())
    assert list(flag_lines()) == [f"flag{int(flag)}" for flag in Flag]


def test_predictions_tell_what_each_of_their_columns_is() -> None:
    table = predictions()
    assert set(labels.PROBABILITY_COLUMNS) < set(table.colnames)
    for column in table.itercols():
        assert column.description and column.meta[UCD], column.name
    assert table["ra"].meta[UCD] == "pos.eq.ra;meta.main" and table["ra"].unit == "deg"
    assert table["magerr_z"].meta[UCD] == "stat.error;phot.mag;em.opt.I"
    assert table["seeing_u"].unit == "arcsec"
    assert table.meta["model"] == "0123456789abcdef" and table.meta["creator"].startswith("gqs ")
    assert table.meta["flag2"].startswith("MASKED: ")


@pytest.mark.parametrize("measured", ["", "r", "gri", "ugriz"])
def test_predictions_have_the_same_columns_whatever_was_measured(measured: str) -> None:
    whole, table = predictions(4), predictions(5, measured)
    assert table.colnames == whole.colnames and table.dtype == whole.dtype
    both = vstack([whole, table], join_type="exact")
    for band in sdss.BANDS:
        for kind in ("mag", "magerr", "seeing"):
            known = np.isfinite(np.asarray(both[f"{kind}_{band}"]))
            assert known.tolist() == [True] * 4 + [band in measured] * 5


def test_what_a_table_says_itself_is_kept() -> None:
    table = Table({"ra": [1.0], "mag_r": [2.0], "own": [3]})
    table["ra"].unit, table["mag_r"].description = "hourangle", "another aperture"
    table["mag_r"].meta[UCD] = "phot.mag"
    found = described(table)
    assert found is table and found["ra"].unit == "hourangle"
    assert found["mag_r"].description == "another aperture" and found["mag_r"].unit == "mag"
    assert found["mag_r"].meta[UCD] == "phot.mag" and not found["own"].description


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", KEEPING)
def test_every_format_keeps_all_of_it(tmp_path: Path, ending: str) -> None:
    table = predictions()
    table.meta |= {"prior": "sky", "options": {"coverage": 0.95, "frames": ["a", "b"]}}
    back = tables.read(tables.write(table, tmp_path / f"t{ending}"))
    assert back.colnames == table.colnames and dict(back.meta) == dict(table.meta)
    for name in table.colnames:
        one, other = table[name], back[name]
        np.testing.assert_array_equal(np.asarray(other), np.asarray(one))
        assert other.dtype.kind == one.dtype.kind, name
        assert units.Unit(other.unit or "") == units.Unit(one.unit or ""), name
        assert other.description == one.description, name
        assert dict(other.meta) == dict(one.meta), name
    again = tables.read(tables.write(back, tmp_path / f"u{ending}"))
    assert again["mag_r"].meta == table["mag_r"].meta  # what was read can be written


def test_topcat_finds_ucds_and_descriptions_in_the_cards(tmp_path: Path) -> None:
    header = fits.getheader(tables.write(predictions(), tmp_path / "t.fits"), 1)
    columns = [header[f"TTYPE{i}"] for i in range(1, header["TFIELDS"] + 1)]
    i = columns.index("mag_g") + 1
    assert header[f"TUCD{i}"] == "phot.mag;em.opt.B" and header[f"TUNIT{i}"] == "mag"
    assert header[f"TCOMM{i}"] == known_columns()["mag_g"].about
    assert header["FLAG64"].startswith("NO_SIGNAL: ") and header["CREATOR"].startswith("gqs ")
    assert header["TFORM1"] == "K" and header["TZERO1"] == 2**63  # objid, unsigned


def test_cards_of_another_program_are_read(tmp_path: Path) -> None:
    column = fits.Column("ra", "D", unit="deg", array=np.array([1.0, 2.0]))
    made = fits.BinTableHDU.from_columns([column])
    made.header["TUCD1"], made.header["TCOMM1"] = "pos.eq.ra", "from elsewhere"
    made.header["AUTHOR"] = "somebody"
    made.writeto(tmp_path / "t.fits")
    table = tables.read(tmp_path / "t.fits")
    assert table["ra"].meta[UCD] == "pos.eq.ra" and table["ra"].description == "from elsewhere"
    assert dict(table.meta) == {"AUTHOR": "somebody"}


def test_votable_fields_carry_them(tmp_path: Path) -> None:
    whole = parse(tables.write(predictions(), tmp_path / "t.vot"))
    (frame,) = whole.resources[0].coordinate_systems
    found = whole.get_first_table()
    at = {field.name for field in found.fields if field.ref == frame.ID}
    assert frame.system == "ICRS" and at == {"ra", "dec"}
    by_name = {field.name: field for field in found.fields}
    assert by_name["dec"].ucd == "pos.eq.dec;meta.main" and str(by_name["dec"].unit) == "deg"
    assert by_name["p_qso"].description == known_columns()["p_qso"].about
    assert by_name["objid"].datatype in ("char", "unicodeChar")  # VOTable has no unsigned 64 bits
    assert {"model", "creator", "flag1"} <= {info.name for info in found.infos}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["parquet", "parquet.votable"])
def test_astropys_readers_of_parquet_see_them(tmp_path: Path, form: str) -> None:
    table = predictions()
    found = Table.read(tables.write(table, tmp_path / "t.parquet"), format=form)
    for name in table.colnames:
        assert str(found[name].unit or "") == str(table[name].unit or ""), name
        assert found[name].description == table[name].description
        assert found[name].meta[UCD] == table[name].meta[UCD]
    assert found["objid"].tolist() == table["objid"].tolist()  # no digit lost
    assert found["objid"].dtype == np.uint64
    assert found["class"].tolist() == table["class"].tolist()


def test_astropy_sees_mappings_of_the_tables_own(tmp_path: Path) -> None:
    table = predictions()
    table.meta["candidates"] = {"purity": {"value": 0.9, "low": None}, "r": [14.5, 22], "ok": True}
    table.meta["set_aside"] = ["row 1: no position"]
    path = tables.write(table, tmp_path / "t.parquet")
    found = Table.read(path).meta
    assert found["candidates"] == table.meta["candidates"] and found["model"] == table.meta["model"]
    assert "set_aside" not in found and tables.read(path).meta == table.meta


def test_pyarrow_sees_them_in_the_schema(tmp_path: Path) -> None:
    schema = pyarrow.parquet.read_schema(tables.write(predictions(), tmp_path / "t.parquet"))
    metadata = schema.field("mag_r").metadata
    assert metadata[b"ucd"] == b"phot.mag;em.opt.R" and metadata[b"unit"] == b"mag"
    assert metadata[b"description"].decode() == known_columns()["mag_r"].about
    assert schema.field("objid").type == "uint64"
    assert b"<DATA" not in schema.metadata[b"IVOA.VOTable-Parquet.content"]


def test_parquet_of_gqs_before_columns_were_described(tmp_path: Path) -> None:
    arrow = pyarrow.table({"ra": [1.5, 2.5]}).replace_schema_metadata(
        {"gqs": '{"model": "m"}', "unit.ra": "deg"}
    )
    pyarrow.parquet.write_table(arrow, tmp_path / "t.parquet")
    table = tables.read(tmp_path / "t.parquet")
    assert table["ra"].unit == "deg" and table.meta == {"model": "m"}


def test_the_page_on_catalogues_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs" / "catalogues.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    documented = {
        row[0].strip("`"): row[1:] for row in rows if len(row) == 4 and row[0].startswith("`")
    }
    for name in (*predictions().colnames, "set", "link", "primary"):
        row, kind = known_columns()[name], name.rpartition("_")[0]
        band = name[-1] if f"{kind}_*" in documented else ""
        documented_ucd = row.ucd.replace(f"em.opt.{row.ucd[-1]}", "em.opt.*") if band else row.ucd
        about = row.about.replace(f" in {band}", " in *") if band else row.about
        assert documented[f"{kind}_*" if band else name] == [
            row.unit,
            f"`{documented_ucd}`",
            about,
        ], name
