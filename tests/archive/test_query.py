"""What may be asked: the SQL that comes of it, and that nothing but typed values gets in."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gqs import labels
from gqs.archive import releases
from gqs.archive.query import Cone, Spectroscopic, bind, columns_of, counting, parse, schema_note
from gqs.errors import UsageError

NASTY = (
    "3430; DROP TABLE PhotoObjAll", "3430) OR (1=1", "3430--", "/* */3430", "0x0D66", "3430 UNION",
    "' OR ''='", "GALAXY' OR 'a'='a", "'GALAXY'", "QSO\x00", "QSO,STAR'; EXEC xp_cmdshell 'dir'",
    "r=1..2; SELECT 1", "r=1..2)--", "r=1e400..2", "modelMag_r=1..2", "x=1..2", "r=..", "{table}",
    "1,2,3;--", "nan,0,1", "inf,0,1", "1,2,1e999", ":first", "{kind}", "３４３０", "1_000", "1e5",
    "%27%20OR%201=1", "\n3430\nGO", "r=--1..2", "-1", "1.5", "99999999999999999999", "🜨", "0,0,-1",
)  # fmt: skip
OPTIONS = ("runs", "classes", "limits", "cone", "magnitudes", "form", "band")


def skeleton(sql: str) -> list[str]:
    """The lines of a query without its values: numbers are 0, labels L, lists one of them."""
    text = re.sub(r"'(?:GALAXY|QSO|STAR)'", "L", sql)
    text = re.sub(r"\(?(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?\)?(?=[\s,)]|$)", "0", text)
    text = re.sub(r"(0|L)(?:, \1)+", r"\1", text)
    text = re.sub(r"IN \((0|L)\)?", r"IN \1", text)
    return text.split("\n")


WIDEST = {
    form: {
        line
        for kind in ("psf", "model", "cmodel")
        for band in "ugriz"
        for line in skeleton(
            parse("1,2", "GALAXY,STAR", "" if form == "paper" else f"{band}=1..2",
                  "" if form == "paper" else "10,-20,3", form=form,
                  magnitudes="model" if form == "paper" else kind).sql(5, 6)
        )
    }
    for form in ("full", "paper")
}  # fmt: skip


def only_typed_values(**options: Any) -> None:
    try:
        request = parse(**options)
    except UsageError as refusal:
        assert "\n" not in str(refusal)
        return
    sql = request.sql(7, 100)
    assert ";" not in sql and "--" not in sql and "/*" not in sql and sql.isascii()
    assert set(skeleton(sql)) <= WIDEST[request.form], options
    assert set(re.findall(r"'[^']*'", sql)) <= {f"'{name}'" for name in labels.CLASSES}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("text", NASTY)
def test_nothing_but_typed_values_reaches_a_query(option: str, text: str) -> None:
    only_typed_values(**{option: text})


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(OPTIONS), st.text(max_size=30), max_size=4))
def test_no_text_at_all_reaches_a_query(options: dict[str, str]) -> None:
    only_typed_values(**options)


def test_what_is_typed_right_is_asked() -> None:
    """So that the tests above do not pass by refusing everything."""
    sql = parse("3434, 3430,3434", "STAR,QSO", "g=14.5..21", "10,-20,0.5", magnitudes="psf").sql(9)
    assert "AND p.run IN (3430, 3434)" in sql
    assert "AND s.class IN ('QSO', 'STAR')" in sql
    assert "AND p.psfMag_g >= 14.5\nAND p.psfMag_g <= 21.0" in sql
    assert "p.psfMagErr_z AS magerr_z" in sql and "p.extinction_u" in sql
    assert "AND p.objID >= 9" in sql and "TOP" not in sql
    line = next(line for line in sql.split("\n") if "p.cx" in line)
    x, y, z, cosine = (float(n) for n in re.findall(r"(?<![\w.])-?\d[\d.e-]*", line))
    assert (x, y, z) == pytest.approx(
        (math.cos(math.radians(20)) * math.cos(math.radians(10)),
         math.cos(math.radians(20)) * math.sin(math.radians(10)),
         math.sin(math.radians(-20))), abs=1e-15)  # fmt: skip
    assert math.degrees(math.acos(cosine)) == pytest.approx(0.5, abs=1e-9)


def test_conditions_that_are_not_asked_for_are_left_out() -> None:
    wide = parse(primary=False).sql()
    for word in (
        "run IN",
        "Mag_r >=",
        "cx",
        "sciencePrimary =",
        "p.mode ",
        "TOP",
        "INTO",
        ":",
        "{",
    ):
        assert word not in wide, word
    assert "sciencePrimary = 1 AND p.mode = 1" in parse().sql()
    assert "p.modelMag_i <= 20.0" in (only := parse(limits="i=..20").sql()) and ">= " not in only


def test_the_papers_query_is_figure_9_with_its_slips_mended() -> None:
    """Word by word, but for alias of z, paging and the spectrum's id."""
    printed = (
        "SELECT p.objID, p.run, p.camcol, p.field, p.type, p.ra, p.dec, s.z, s.class, "
        "p.u, p.g, p.r, p.i, p.z, p.psfMag_r, p.cModelMag_r from photoObj p "
        "JOIN SpecPhoto s ON s.ObjID = p.objID WHERE s.class = 'GALAXY' AND s.zWarning = 0 "
        "AND p.run = 3430"
    )
    sql = " ".join(parse("3430", "GALAXY", form="paper").sql().split())
    for added in (", s.specObjID AS specobjid", ", p.objID AS row_end", " AS objid", " AS redshift",
                  " AS psfmag_r", " AS cmodelmag_r", " ORDER BY p.objID, s.specObjID"):  # fmt: skip
        assert added in sql
        sql = sql.replace(added, "")
    sql = sql.replace("PhotoObj AS p", "photoObj p").replace("SpecPhoto AS s", "SpecPhoto s")
    sql = sql.replace("IN ('GALAXY')", "= 'GALAXY'").replace("IN (3430)", "= 3430")
    assert sql.lower() == printed.lower()


@pytest.mark.parametrize("form", ["full", "paper"])
def test_count_and_rows_have_the_same_conditions(form: str) -> None:
    request = parse("3430", "QSO", form=form)
    rows, counted = request.sql(), request.count_sql()
    assert counted.split("\n")[0] == "SELECT COUNT(*) AS objects"
    assert counted.split("\n")[1:] == rows[rows.index("FROM") :].split("\n")[:-1]
    assert rows.split("\n")[-1].startswith("ORDER BY")


def test_columns_are_named_as_they_come() -> None:
    assert parse(form="paper").columns() == (
        "objid", "specobjid", "run", "camcol", "field", "type", "ra", "dec", "redshift", "class",
        "u", "g", "r", "i", "z", "psfmag_r", "cmodelmag_r", "row_end",
    )  # fmt: skip
    assert columns_of(parse().sql(1, 2, "gqs_01234567_89abcdef")) == parse().columns()
    assert counting(parse().sql(1, 2)).count("objID >= 1") == 1


def test_a_batch_job_names_only_tables_of_our_own() -> None:
    assert "\nINTO MyDB.gqs_01234567_89abcdef\nFROM" in parse().sql(table="gqs_01234567_89abcdef")
    for name in ("PhotoObjAll", "gqs_1", "gqs_01234567_89abcdef; DROP", "gqs_01234567_89abcdeF"):
        with pytest.raises(ValueError, match="no name"):
            bind("drop", {}, {"table": name})


@pytest.mark.parametrize("value", [True, math.nan, math.inf, "x", ("GALAXY", "x"), b"1", [1], 1j])
def test_bind_refuses_values_of_other_types(value: Any) -> None:
    with pytest.raises(ValueError, match="no value"):
        bind("mydb", {"rows": 1, "first": value}, {"table": "gqs_01234567_89abcdef"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runs": "x"}, "'x' is no run"),
        ({"runs": "3430,99999"}, "--runs '3430,99999': runs are numbered from 1 to 65535."),
        ({"classes": "quasar"}, "--classes 'quasar': the classes are GALAXY, QSO, STAR."),
        ({"limits": "r<20"}, "--limits 'r<20': write band=bright..faint"),
        ({"limits": "r=23..13"}, "--limits 'r=23..13': the bright limit is the smaller number"),
        ({"limits": "r=13..50"}, "--limits 'r=13..50': magnitudes are 0 to 40."),
        ({"cone": "1,2"}, "--cone '1,2': write ra,dec,radius"),
        ({"cone": "229.5,142.8,1"}, "--cone '229.5,142.8,1': dec is -90 to 90 deg."),
        ({"cone": "400,0,1"}, "--cone '400,0,1': ra is 0 to 360 deg"),
        ({"cone": "4,0,0"}, "--cone '4,0,0': the radius is 1 arcsec"),
        ({"form": "paper", "limits": "r=..20"}, "--form paper takes --runs and --classes alone"),
        ({"form": "paper", "limits": "r=..20"}, "leave --limits 'r=..20' out"),
        ({"form": "paper", "magnitudes": "psf"}, "leave --magnitudes 'psf' out"),
        ({"form": "paper", "primary": False}, "leave --all-spectra out"),
    ],
)
def test_refusals_say_what_is_wrong(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as refusal:
        parse(**options)
    assert "Input should" not in str(refusal.value) and "Spectroscopic" not in str(refusal.value)


def test_equal_requests_give_equal_sql() -> None:
    """However runs and classes are ordered, so that pages of one are pages of the other."""
    one = Spectroscopic(runs=(3434, 3430), classes=("STAR", "GALAXY"))
    other = Spectroscopic(runs=(3430, 3434, 3430), classes=("GALAXY", "STAR"))
    assert one.sql() == other.sql()
    assert Spectroscopic(cone=Cone(ra=1.0, dec=2.0, radius=3.0)).sql() != one.sql()


def test_every_release_says_what_its_columns_were_checked_against() -> None:
    for number in releases.all_releases():
        assert len(schema_note(number)) > 20
    assert "could not be checked" in schema_note(20)
