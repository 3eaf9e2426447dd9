"""A CSV exported by hand: taken whole and exactly, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gqs.archive.exported_csv import ROW_LIMIT, read_export
from gqs.archive.query import parse
from gqs.errors import GqsError, UsageError
from loopback.skyserver import Database, csv, generated

NAMES, ROWS = Database(generated(120)).run(parse(form="paper").sql())
GOOD = csv(NAMES, ROWS)


@pytest.mark.parametrize("first_line", ["#Table1\n", ""])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_was_exported_is_read_exactly(tmp_path: Path, first_line: str, mark: bytes) -> None:
    path = tmp_path / "exported.csv"
    path.write_bytes(mark + csv(NAMES, ROWS, first_line))
    found = read_export(path, 12)
    assert found["objid"].tolist() == [row[0] for row in ROWS]
    assert found["specobjid"].tolist() == [int(str(row[1])) for row in ROWS]
    assert found["specobjid"].dtype == np.uint64 and max(found["specobjid"]) > 2**63
    assert found["redshift"].tolist() == [row[NAMES.index("redshift")] for row in ROWS]
    assert found.meta["release"] == "DR12" and found.meta["rows"] == len(ROWS) > 20


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (GOOD[:-60], 7, "last row is cut"),
        (GOOD.replace(str(ROWS[0][0]).encode(), b"1.2376E+18"), 7, "not a whole number"),
        (GOOD + GOOD.split(b"\n", 2)[2], 7, "are repeated"),
        (b"objid,ra\n" + b"1,2\n" * ROW_LIMIT, 7, "exactly 500,000 rows"),
        (b"<html>try later</html>", 3, "is a web page instead of a table"),
        (b"error_message\nquery timed out\n", 3, "holds an error"),
        (b"", 3, "is an empty answer"),
        (GOOD.decode().encode("utf-16"), 3, "UTF-16"),
        (b"a,b\n1,2\n", 2, "has no column"),
        (b"objid,z,class\n1,0.1,QSO\n", 2, "Name the redshift redshift"),
        (b"objid,Z,u,g,r,i,z\n1,0.1,20,19,18,17,16\n", 2, "Figure 9"),
        (GOOD.replace(b"GALAXY", b'"GALAXY', 1) + b"1,2\n" * 50_000, 3, "is no CSV"),
    ],
)
def test_what_is_no_whole_export_is_refused(
    tmp_path: Path, body: bytes, code: int, said: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(body)
    with pytest.raises(GqsError) as refusal:
        read_export(path, 16)
    assert refusal.value.exit_code == code and said in str(refusal.value), str(refusal.value)
    assert "bad.csv" in str(refusal.value)


def test_rows_without_class_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(GOOD.replace(b"GALAXY", b"galaxies", 1))
    found = read_export(path, 16)
    assert len(found) == len(ROWS) - 1 == found.meta["rows"]
    assert "'galaxies' is none of" in found.meta["set_aside"][0]


def test_only_a_csv_that_is_there_is_imported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_export(tmp_path / "none.csv", 16)
    with pytest.raises(UsageError, match=r"ends in \.csv"):
        read_export(tmp_path / "table.parquet", 16)


def test_a_row_without_objid_is_set_aside_alone(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(GOOD.replace(str(ROWS[2][0]).encode() + b",", b",", 1))
    found = read_export(path, 16)
    assert found["objid"].tolist() == [row[0] for i, row in enumerate(ROWS) if i != 2]
    assert found.meta["set_aside"] == [f"{path}, row 3: has no objid; set aside."]
