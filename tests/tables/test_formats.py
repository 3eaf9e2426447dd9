"""Tables in and out: exact, and every bad input of the catalogue of faults is one sentence."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st

from gqs import labels, tables
from gqs.errors import BadInputError, GqsError, IntegrityError, UsageError
from gqs.tables import Flag

GOOD = """objid,ra,dec,run,camcol,field,class
1237648720693755918,10.5,-1.25,756,2,427,GALAXY
1237648720693755919,10.6,-1.26,756,2,427,QSO
18446744073709551615,10.7,-1.27,756,2,427,STAR
"""
BIG = 2**64 - 1
ROW = GOOD.splitlines()[1]


def _table() -> Table:
    table = Table(
        {
            "objid": np.array([2**63 + 1, 7, BIG], dtype=np.uint64),
            "ra": [0.1, 359.9999999999, 12.0],
            "dec": [-89.5, 0.0, 1e-12],
            "run": np.array([756, 94, 3918], dtype=np.int32),
            "class": ["GALAXY", "QSO", ""],
            "p_qso": np.array([0.25, np.nan, 1.0]),
            "flags": np.array([0, 128, 3], dtype=np.int32),
        }
    )
    table["ra"].unit = "deg"
    table.meta = {"model": "abc", "seed": 3}
    return table


@pytest.mark.parametrize("ending", tables.ENDINGS)
def test_round_trip(tmp_path: Path, ending: str) -> None:
    table = _table()
    back = tables.read(tables.write(table, tmp_path / f"t{ending}"))
    assert back.colnames == table.colnames
    assert back["objid"].dtype == np.uint64
    for name in table.colnames:
        np.testing.assert_array_equal(np.asarray(back[name]), np.asarray(table[name]))
        assert np.asarray(back[name]).dtype.isnative
    if ending != ".csv":
        assert back["ra"].unit == "deg"
        assert dict(back.meta) == dict(table.meta)
    assert table["objid"].dtype == np.uint64  # writing did not touch it


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv"])
def test_meta_survives_whatever_it_holds(tmp_path: Path, ending: str) -> None:
    """SQL of many lines, quotes where cards break, long keys, lists; and no warning."""
    table = _table()
    table["p_qso"].unit = "nmgy"
    table.meta = {
        "sql": "SELECT\nTOP 5\n" + "p.u AS 'x''y' & <z>, " * 40 + "\nFROM PhotoObj -- ö",
        "plain": "SELECT\np.u\nFROM PhotoObj",  # YAML writes other texts than those with an ö so
        "magnitudes": "cmodel",
        "release": "DR16",
        "rows": 3,
        "naxis2": 99,
        "date-obs": "x" * 68,
        "quotes": "'" * 30 + "&",
        "set_aside": ["row 1: it's 'no' class", "row 2"],
        "share": 0.25,
    }
    path = tables.write(table, tmp_path / f"t{ending}")
    assert dict(tables.read(path).meta) == table.meta
    if ending == ".fits":
        header = fits.getheader(path, 1)
        assert header["RELEASE"] == "DR16" and header["NAXIS2"] == 3
    if ending == ".vot":
        assert '<INFO ID="release" name="release" value="DR16"/>' in path.read_text()


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv", ".csv"])
def test_a_row_without_objid_is_set_aside_alone(tmp_path: Path, ending: str) -> None:
    table = Table.read(GOOD, format="ascii.csv", converters={"objid": str})
    table["objid"] = ["1237648720693755918", "", str(BIG)]
    found, set_aside = tables.read_catalog(tables.write(table, tmp_path / f"t{ending}"))
    assert found["objid"].tolist() == [1237648720693755918, BIG]
    assert found["objid"].dtype == np.uint64
    assert len(set_aside) == 1 and set_aside[0].endswith("row 2: has no objid; set aside.")


@pytest.mark.parametrize("ending", tables.ENDINGS)
def test_empty_tables_round_trip(tmp_path: Path, ending: str) -> None:
    back = tables.read(tables.write(_table()[:0], tmp_path / f"t{ending}"))
    assert len(back) == 0
    assert back.colnames == _table().colnames


def test_upper_case_endings(tmp_path: Path) -> None:
    path = tables.write(_table(), tmp_path / "T.PARQUET")
    assert len(tables.read(path)) == 3


def test_parquet_is_the_same_to_the_byte(tmp_path: Path) -> None:
    a, b = (tables.write(_table(), tmp_path / f"{n}.parquet").read_bytes() for n in "ab")
    assert a == b


def test_parquet_keeps_metadata_and_images(tmp_path: Path) -> None:
    table = Table({"logits": np.arange(12.0).reshape(4, 3)})
    table.meta = {"counts": {"train": {"QSO": 3}}, "list": [1, 2.5, "x"], "none": None, "t": True}
    back = tables.read(tables.write(table, tmp_path / "t.parquet"))
    np.testing.assert_array_equal(back["logits"], table["logits"])
    assert back.meta == table.meta


@pytest.mark.parametrize("ending", [".parquet", ".ecsv"])
def test_masked_values_stay_masked(tmp_path: Path, ending: str) -> None:
    table = Table(
        {
            "plate": MaskedColumn([BIG, 2, 3], mask=[False, True, False], dtype=np.uint64),
            "mag": MaskedColumn([1.5, 2.5, 3.5], mask=[True, False, False]),
            "name": MaskedColumn(["a", "bb", "c"], mask=[False, False, True]),
        }
    )
    back = tables.read(tables.write(table, tmp_path / f"t{ending}"))
    assert np.ma.getmaskarray(back["plate"]).tolist() == [False, True, False]
    assert int(back["plate"][0]) == BIG  # not through a float
    assert np.isnan(tables.as_float(back["mag"])[0])
    if ending == ".parquet":
        assert np.ma.getmaskarray(back["name"]).tolist() == [False, False, True]
    assert np.asarray(back["name"]).tolist() == ["a", "bb", ""]


@pytest.mark.parametrize("name", ["t", "t.txt", "t.h5", "t.fits.bz2"])
def test_unknown_ending(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown ending.*\.parquet"):
        tables.write(_table(), tmp_path / name)
    with pytest.raises(UsageError, match="unknown ending"):
        tables.read(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        tables.read(tmp_path / "t.csv")


def test_csv_as_skyserver_and_spreadsheets_write_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    quoted = '"objID","RA","Dec","Run","camcol","field","CLASS","note, with comma"\n' + (
        '"18446744073709551615","1.5","2.5",1,2,3,"STAR","a, b"\n'
    )
    for text in (GOOD, "#Table1\n" + GOOD, "\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), quoted):
        path.write_bytes(text.encode())
        table = tables.read(path)
        assert table["objid"].dtype == np.uint64
        assert int(table["objid"][-1]) == BIG
        assert table["class"][-1] == "STAR"
        assert table["ra"].dtype == np.float64
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    assert len(tables.read(tmp_path / "t.csv.gz")) == 3


HTML = "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"

# (name, bytes, exit code): what trust in the whole demands of each bad catalogue.
BAD_CSV: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 3),
    "blank": (b"\n\n", 3),
    "html": (HTML.encode(), 3),
    "xml": (b'<?xml version="1.0"?><a/>', 3),
    "error message": (b"error_message\nSQL query timed out\n", 2),
    "header twice": ((GOOD.splitlines()[0] + "\n" + GOOD).encode(), 7),
    "ragged": ((GOOD + "1,2,3\n").encode(), 3),
    "last row cut": (GOOD[: GOOD.rindex(",") - 3].encode(), 3),
    "float objid": (GOOD.replace("1237648720693755918", "1.237648720693756E18").encode(), 7),
    "objid with point": (GOOD.replace("5918,", "5918.0,").encode(), 7),
    "objid over uint64": (GOOD.replace(str(BIG), str(BIG + 1)).encode(), 7),
    "endless objid": (GOOD.replace(str(BIG), "9" * 5000).encode(), 7),
    "negative objid": (GOOD.replace(str(BIG), "-5").encode(), 7),
    "unclosed quote": (GOOD.replace("GALAXY", '"GALAXY').encode(), 3),
    "utf-16": (GOOD.encode("utf-16"), 3),
    "nul": (GOOD.replace("QSO", "Q\0SO").encode(), 3),
    "latin-1": (GOOD.replace("QSO", "Q\xe9").encode("latin-1"), 3),
    "decimal comma": (GOOD.replace("10.5", "10,5").encode(), 3),
    "semicolons": (GOOD.replace(",", ";").encode(), 2),
    "duplicate rows": ((GOOD + ROW + "\n").encode(), 7),
    "columns twice": (GOOD.replace("dec,", "ra,").encode(), 3),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_bad_csv(tmp_path: Path, name: str) -> None:
    data, code = BAD_CSV[name]
    path = tmp_path / "catalogue.csv"
    path.write_bytes(data)
    with pytest.raises(GqsError) as caught:
        tables.read_catalog(path)
    _one_sentence(caught.value, path, code)


def _one_sentence(error: GqsError, path: Path, code: int) -> None:
    assert error.exit_code == code, str(error)
    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 600


def test_header_alone_is_an_empty_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(GOOD.splitlines()[0] + "\n")
    table, set_aside = tables.read_catalog(path)
    assert len(table) == 0
    assert set_aside == []
    assert table["objid"].dtype == np.uint64


# (cell, replacement, does the row stay?)
ROWS = [
    ("10.6", "NaN", False),
    ("10.6", "null", False),
    ("10.6", "", False),
    ("10.6", "999", False),
    ("10.6", "-999", False),
    ("10.6", "inf", False),
    ("-1.26", "-90.1", False),
    ("-1.26", "10h", False),
    ("QSO", "quasar", False),
    ("QSO", "", False),
    ("QSO", "qso", False),
    ("QSO", "=cmd|' /C calc'!A0", False),
    ("1237648720693755919", "", False),
    ("QSO", "QSO ", True),
    ("-1.26", "-90", True),
    ("10.6", "0", True),
    ("10.6", "360.5", True),
    ("10.6", "-159.5", True),
]


@pytest.mark.parametrize(("cell", "instead", "stays"), ROWS)
def test_bad_rows_are_set_aside_with_a_reason(
    tmp_path: Path, cell: str, instead: str, stays: bool
) -> None:
    path = tmp_path / "c.csv"
    path.write_text(GOOD.replace(cell, instead, 1))
    table, set_aside = tables.read_catalog(path)
    if stays:
        assert len(table) == 3
        assert set_aside == []
        assert table["class"][1] == "QSO"
    else:
        assert table["objid"].tolist() == [1237648720693755918, BIG]
        assert len(set_aside) == 1
        assert f"{path}, row 2: " in set_aside[0]
        assert set_aside[0].endswith("set aside.")
    assert set(table["class"]) <= set(labels.CLASSES)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("objid,ra\n1,2\n")
    with pytest.raises(UsageError, match="no column dec, run, camcol, field, class; it has objid"):
        tables.read_catalog(path)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gqs.tables.contracts.MAX_BYTES", 1 << 20)
    path = tmp_path / "c.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode() + b"\n" * (2 << 20)))
    with pytest.raises(BadInputError, match="Split it into parts"):
        tables.read(path)
    constant = pa.table({"x": pa.array(np.zeros(1 << 20, dtype=np.int8))})
    pyarrow.parquet.write_table(constant, tmp_path / "c.parquet")
    assert (tmp_path / "c.parquet").stat().st_size < 1 << 20
    with pytest.raises(BadInputError, match="Split it into parts"):
        tables.read(tmp_path / "c.parquet")


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".ecsv"])
def test_damaged_files(tmp_path: Path, ending: str) -> None:
    path = tables.write(_table(), tmp_path / f"t{ending}")
    whole = path.read_bytes()
    for data in (b"", bytes(3000), HTML.encode(), whole[: len(whole) // 2], whole[:1]):
        path.write_bytes(data)
        with pytest.raises(GqsError) as caught:
            tables.read(path)
        _one_sentence(caught.value, path, 3)


def test_a_flipped_bit_in_parquet_is_never_silent(tmp_path: Path) -> None:
    table = Table(
        {"objid": np.arange(400, dtype=np.uint64), "x": np.random.default_rng(0).random(400)}
    )
    path = tables.write(table, tmp_path / "t.parquet")
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    silent = 0
    for bit in rng.integers(8 * len(whole), size=60).tolist():
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            back = tables.read(path)
        except GqsError:
            continue
        same = back.colnames == table.colnames and all(
            np.array_equal(np.asarray(back[n]), np.asarray(table[n])) for n in table.colnames
        )
        silent += not same
    assert silent == 0


def test_fits_that_claims_too_much(tmp_path: Path) -> None:
    path = tables.write(_table(), tmp_path / "t.fits")
    with fits.open(path) as units:
        rows = f"NAXIS2  = {units[1].header['NAXIS2']:20d}".encode()
    claim = f"NAXIS2  = {2_000_000_000:20d}".encode()
    path.write_bytes(path.read_bytes().replace(rows, claim))
    with pytest.raises(BadInputError, match="more than it contains"):
        tables.read(path)


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress])
def test_packed_fits_is_not_unpacked(tmp_path: Path, pack: object) -> None:
    path = tables.write(_table(), tmp_path / "t.fits")
    path.write_bytes(pack(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BadInputError, match="Decompress it"):
        tables.read(path)


def _votable(tmp_path: Path) -> tuple[Path, str]:
    path = tables.write(_table(), tmp_path / "t.vot")
    return path, path.read_text()


def test_votable_bombs_and_links(tmp_path: Path) -> None:
    path, text = _votable(tmp_path)
    entity = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;">]>'
    link = '<FITS><STREAM href="http://127.0.0.1:9/x.fits"/></FITS>'
    hidden = f'<BINARY><STREAM rights=">" href="{(tmp_path / "other").as_uri()}"/></BINARY>'
    start, end = text.index("<TABLEDATA>"), text.index("</TABLEDATA>") + len("</TABLEDATA>")
    bad = {
        "DOCTYPE": text.replace("?>", "?>" + entity, 1),
        "link": text[:start] + link + text[end:],
        "a link": text[:start] + hidden + text[end:],
        "declares": text.replace("<TABLE", '<TABLE nrows="2000000000"', 1).replace(
            'nrows="3"', "", 1
        ),
        "UTF-8": text,
    }
    for word, content in bad.items():
        path.write_bytes(content.encode("utf-16" if word == "UTF-8" else "utf-8"))
        with pytest.raises(BadInputError, match=word):
            tables.read(path)


def test_the_state_of_a_query_is_heeded(tmp_path: Path) -> None:
    path, text = _votable(tmp_path)
    for state in ("ERROR", "OVERFLOW", "OK"):
        info = f'<INFO name="QUERY_STATUS" value="{state}"/>'
        path.write_text(text.replace("<TABLE", f"{info}\n<TABLE", 1))
        if state == "ERROR":
            with pytest.raises(BadInputError, match="query that failed"):
                tables.read(path)
        elif state == "OVERFLOW":
            with pytest.warns(UserWarning, match="rows are missing"):
                assert len(tables.read(path)) == 3
        else:
            assert len(tables.read(path)) == 3


def test_right_ascensions_are_of_one_turn(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("objid,ra,dec\n1,-159.5,2\n2,360.25,3\n3,-1e-17,4\n4,12.5,5\n5,9999,6\n")
    table, set_aside = tables.read_catalog(path, ("objid", "ra", "dec"))
    assert table["ra"].tolist() == [200.5, 0.25, 0.0, 12.5]
    assert len(set_aside) == 1 and "row 5" in set_aside[0]


def test_votable_with_a_link_in_its_words_is_read(tmp_path: Path) -> None:
    path, text = _votable(tmp_path)
    path.write_text(text.replace("<TABLE", '<LINK href="https://example.org/about"/>\n  <TABLE', 1))
    assert len(tables.read(path)) == 3


@given(st.lists(st.integers(0, BIG), max_size=20))
def test_objid_is_exact(values: list[int]) -> None:
    for form in (
        [str(value) for value in values],
        np.array(values, dtype=np.uint64),
        np.array([str(value).encode() for value in values], dtype="S20"),
    ):
        assert tables.exact_objid(form).tolist() == values


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [-1],
        ["1.0"],
        ["1e3"],
        ["٣"],
        [""],
        [None],
        [True],
        ["0x10"],
        ["9" * 5000],
        MaskedColumn([1, 2], mask=[False, True]),
    ],
)
def test_inexact_objid_is_refused(values: object) -> None:
    with pytest.raises(IntegrityError):
        tables.exact_objid(values)


def test_as_float() -> None:
    expected = [1.5, np.nan, np.nan, -2.0]
    np.testing.assert_array_equal(tables.as_float(["1.5", "null", "", "-2"]), expected)
    masked = MaskedColumn([1, 2, 3], mask=[False, True, False])
    np.testing.assert_array_equal(tables.as_float(masked), [1, np.nan, 3])


def _objects(n: int) -> Table:
    columns = ("ra", "dec", "x", "y", "run", "camcol", "field")
    table = Table({"objid": np.arange(n, dtype=np.uint64)})
    for name in columns:
        table[name] = np.arange(n)
    table["mag_r"] = np.linspace(14, 20, n)
    return table


def test_predictions() -> None:
    p = np.array([[0.2, 0.5, 0.3], [np.nan, 0.5, 0.5], [1, 0, 0], [0, 0, 1]], dtype=float)
    flags = np.array([0, 2, 1, 0], dtype=np.int32)
    table = tables.predictions(_objects(4), p, flags, "0123456789abcdef")
    assert table["class"].tolist() == ["QSO", "", "GALAXY", "STAR"]
    assert np.isnan([table[f"p_{name}"][1] for name in ("galaxy", "qso", "star")]).all()
    assert table["flags"].tolist() == [0, 2 | Flag.NOT_JUDGED, 1, 0]
    assert table["model"][0] == "0123456789ab"
    assert table.meta["model"] == "0123456789abcdef"
    assert table["ra"].unit == "deg"
    assert table["mag_r"].unit == "mag"


def test_no_predictions_at_all() -> None:
    table = tables.predictions(_objects(0), np.zeros((0, 3)), np.zeros(0, np.int32), "m")
    assert len(table) == 0


@pytest.mark.parametrize(
    "p", [[[0.5, 0.5, 0.1]], [[1.5, -0.5, 0]], [[0, 0, 0]], [[0.5, 0.5]], [[1, 0, 0], [1, 0, 0]]]
)
def test_predictions_that_are_none(p: list[list[float]]) -> None:
    with pytest.raises(IntegrityError):
        tables.predictions(_objects(1), np.array(p, dtype=float), np.zeros(1, np.int32), "m")


def test_flags_are_bits_of_their_own() -> None:
    assert sum(Flag) == (1 << len(Flag)) - 1


def test_real_catalogues(real_data: Path) -> None:
    path = real_data / "catalogs" / "sdss_spectro_photometry.csv.gz"
    table, set_aside = tables.read_catalog(path, needs=("ra", "dec", "class"))
    assert len(table) + len(set_aside) == 55366
    assert set(table["class"]) == set(labels.CLASSES)


def test_predictions_in_csv_have_the_digits_that_their_errors_allow(tmp_path: Path) -> None:
    p = np.array([[1e-9, 0.25, 0.75 - 1e-9], [1 / 3, 1 / 3, 1 / 3]])
    table = Table({"objid": np.array([7, 8], dtype=np.uint64), "ra": [229.37279310631868, 0.1]})
    for name, values in zip(labels.PROBABILITY_COLUMNS, p.T, strict=True):
        table[name] = values
    table["mag_r"] = [22.528526299014565, np.nan]
    path = tables.write(table, tmp_path / "c.csv")
    assert max(len(cell) for line in path.read_text().splitlines() for cell in line.split(",")) < 14
    back = tables.read(path)
    np.testing.assert_allclose(back["ra"], table["ra"], atol=1e-8, rtol=0)  # 0.04 mas
    np.testing.assert_allclose(back["mag_r"], table["mag_r"], atol=1e-4, rtol=0)
    for name in labels.PROBABILITY_COLUMNS:
        np.testing.assert_allclose(back[name], table[name], rtol=1e-6)
