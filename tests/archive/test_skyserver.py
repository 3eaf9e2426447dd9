"""SkyServer, on good days and on bad: what comes is whole and right, or is refused."""

from __future__ import annotations

import bz2
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from archive.equal_catalogues import same
from gqs import tables
from gqs.archive import http, skyserver
from gqs.archive.query import Spectroscopic, parse
from gqs.errors import GqsError, IntegrityError, NetworkError, UsageError
from gqs.surveys.sdss import FieldId, photo_objid
from loopback.server import LoopbackServer
from loopback.skyserver import Database, SkyServer, csv, generated, xyz

ROWS = generated(400, repeats=6)
ASKED = parse("3430,3434,3437", "QSO,STAR", "r=15..21")


def wanted(**options: Any) -> list[dict[str, Any]]:
    """The rows that ASKED means, said in Python."""
    return sorted(
        (
            one for one in ROWS
            if one["run"] in (3430, 3434, 3437) and one["class"] != "GALAXY"
            and one["zWarning"] == 0 and one["mode"] == 1 and one["sciencePrimary"] == 1
            and 15 <= one["modelMag_r"] <= 21
        ),
        key=lambda one: one["objID"],
    )  # fmt: skip


def test_what_comes_is_what_was_asked_for(sky: SkyServer, quick: http.Patience) -> None:
    found = skyserver.pull(ASKED, server=sky.server.url, page_rows=13, patience=quick)
    expected = wanted()
    assert 40 < len(expected) == len(found) == found.meta["rows"]
    for ours, theirs in (("objid", "objID"), ("specobjid", "specObjID"), ("class", "class"),
                         ("redshift", "z"), ("r", "modelMag_r"), ("magerr_z", "modelMagErr_z"),
                         ("extinction_u", "extinction_u"), ("psfmag_r", "psfMag_r"),
                         ("fiberid", "fiberID"), ("ra", "ra"), ("camcol", "camcol")):  # fmt: skip
        assert found[ours].tolist() == [one[theirs] for one in expected], ours
    assert found["objid"].dtype == found["specobjid"].dtype == np.uint64
    assert (np.asarray(found["specobjid"]) > np.uint64(2**63)).sum() > 5
    assert found["ra"].unit == "deg" and found["u"].unit == "mag"
    assert found.meta["release"] == "DR16" and found.meta["sql"] == ASKED.sql()
    assert found.meta["server"] == sky.server.url and "T" in found.meta["retrieved"]


@pytest.mark.parametrize("rows", [3, 7, 50, 1000])
def test_the_size_of_pages_changes_nothing(sky: SkyServer, rows: int, tmp_path: Path) -> None:
    request = parse(primary=False)
    whole = skyserver.pull(request, server=sky.server.url)
    same(skyserver.pull(request, server=sky.server.url, page_rows=rows, folder=tmp_path), whole)


def test_two_pulls_differ_in_the_time_alone(sky: SkyServer, tmp_path: Path) -> None:
    one = skyserver.pull(ASKED, server=sky.server.url)
    time.sleep(1.05)
    two = skyserver.pull(ASKED, server=sky.server.url)
    same(one, two)
    assert one.meta["retrieved"] != two.meta["retrieved"]
    tables.write(one, tmp_path / "one.parquet")
    same(tables.read(tmp_path / "one.parquet"), one)


@pytest.mark.parametrize("release", [8, 9, 10, 11, 12, 16, 18, 19])
def test_each_release_is_asked_at_its_own_address(sky: SkyServer, release: int) -> None:
    found = skyserver.pull(ASKED, release=release, server=sky.server.url)
    assert len(found) == len(wanted()) and found.meta["release"] == f"DR{release}"
    assert {one.path.split("/")[1] for one in sky.server.log} == {f"dr{release}"}


def test_further_spectra_of_an_object_are_counted_and_left_out(sky: SkyServer) -> None:
    found = skyserver.pull(parse(primary=False), server=sky.server.url, page_rows=9)
    kept = [one for one in ROWS if one["zWarning"] == 0]
    objects: dict[int, dict[str, Any]] = {}
    for one in sorted(kept, key=lambda one: (one["sciencePrimary"], -one["specObjID"])):
        objects[one["objID"]] = one  # the last is primary, or has the first number
    assert found.meta["repeats"] == len(kept) - len(objects) > 0
    assert found["specobjid"].tolist() == [objects[o]["specObjID"] for o in sorted(objects)]


def test_a_cone_is_a_circle_on_the_sky(sky: SkyServer) -> None:
    """Compared with astropy's separations, across right ascension 0 as well."""
    places = SkyCoord([one["ra"] for one in ROWS], [one["dec"] for one in ROWS], unit="deg")
    for ra, dec, radius in ((0.5, 20.0, 25.0), (181.0, -4.0, 17.0), (90.0, 59.0, 20.0)):
        found = skyserver.pull(
            parse(cone=f"{ra},{dec},{radius}", primary=False), server=sky.server.url
        )
        away = places.separation(SkyCoord(ra, dec, unit="deg")).deg
        inside = {
            one["objID"] for one, far in zip(ROWS, away, strict=True)
            if far <= radius and one["zWarning"] == 0
        }  # fmt: skip
        assert set(found["objid"].tolist()) == inside and len(inside) > 2


def test_the_other_magnitudes_and_the_papers_form(sky: SkyServer) -> None:
    psf = skyserver.pull(parse("3430", magnitudes="psf"), server=sky.server.url)
    cmodel = skyserver.pull(parse("3430", magnitudes="cmodel"), server=sky.server.url)
    paper = skyserver.pull(parse("3430", form="paper"), server=sky.server.url)
    np.testing.assert_array_equal(psf["r"], psf["psfmag_r"])
    np.testing.assert_array_equal(cmodel["r"], psf["cmodelmag_r"])
    np.testing.assert_array_equal(paper["psfmag_r"], psf["r"])
    assert (psf["r"] != cmodel["r"]).all()
    assert (paper["objid"] == psf["objid"]).all() and "magerr_u" not in paper.colnames


def test_nothing_found_is_an_empty_catalogue(sky: SkyServer) -> None:
    found = skyserver.pull(parse("9999"), server=sky.server.url)
    assert len(found) == 0 and found["objid"].dtype == np.uint64 and found.meta["rows"] == 0
    assert len(sky.server.log) == 1  # the count


def test_counting_asks_once(sky: SkyServer) -> None:
    assert skyserver.count(ASKED, server=sky.server.url) == len(wanted())
    assert len(sky.server.log) == 1


def test_a_query_a_second_at_most(sky: SkyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skyserver, "PAUSE_S", 1.0)  # as it is outside the tests
    skyserver.pull(ASKED, server=sky.server.url, page_rows=40)
    apart = np.diff(sky.seen)
    assert len(apart) >= 2 and apart.min() > 0.95  # sent a second apart; arrival varies


def page(*rows: dict[str, Any], **changes: Any) -> bytes:
    """A page as SkyServer would send it, with cells changed."""
    names = list(Spectroscopic().columns())
    found = Database(list(rows)).run(parse(primary=False).sql(0, 1000))[1]
    lines = [dict(zip(names, line, strict=True)) | changes for line in found]
    return csv(names, [tuple(line.values()) for line in lines])


PAGES = r"TOP\+"
# Each: how the server misbehaves, what the user is told, the exit code; `lasting` faults stay.
BAD_DAYS: dict[str, tuple[dict[str, Any], str, int]] = {
    "reset before a byte": ({"kind": "drop"}, "broke the connection off", 4),
    "reset in mid-body": ({"kind": "reset"}, "broke the connection off", 4),
    "body shorter than said": ({"kind": "short"}, "ended its answer before it was whole", 4),
    "stall": ({"kind": "stall", "seconds": 30.0}, "stopped in the middle", 4),
    "a byte now and then": ({"kind": "slow", "seconds": 0.1}, "stopped in the middle", 4),
    "HTML with 200": ({"kind": "html"}, "a web page instead of a table", 4),
    "429": ({"kind": "status", "status": 429}, "busy (HTTP 429)", 4),
    "503": ({"kind": "status", "status": 503}, "busy (HTTP 503)", 4),
    "503 for an hour": (
        {"kind": "status", "status": 503, "headers": {"Retry-After": "3600"}}, "60 minutes", 4),
    "404": ({"kind": "status", "status": 404}, "does not accept SQL for DR16 (HTTP 404)", 4),
    "empty": ({"kind": "body", "body": b""}, "empty answer", 4),
    "error text with 200": (
        {"kind": "body", "body": b"error_message\n\"Incorrect syntax near 'x'.\"\n"},
        "refuses the query (\"Incorrect syntax", 4),
    "too many queries": (
        {"kind": "body", "body": b"error_message\nMaximum 60 queries allowed per minute.\n"},
        "per minute", 4),
    "another host": (
        {"kind": "redirect", "target": "http://example.org/x"}, "to 'http://example.org/x'", 4),
    "a local file": ({"kind": "redirect", "target": "file:///etc/passwd"}, "Not followed", 4),
    "a circle": ({"kind": "redirect", "target": "/dr16?TOP+objID+%3E%3D+1"}, "in a circle", 4),
    "columns missing": (
        {"kind": "body", "body": b"#Table1\nobjid,ra\n1,2\n"}, "lacks the columns specobjid", 7),
    "header alone": ({"kind": "body", "body": page()}, "sent 0 rows where", 7),
    "a float objid": (
        {"kind": "body", "body": page(ROWS[0], objid="1.237E+18", row_end="1.237E+18")},
        "objid '1.237E+18' is not a whole number", 7),
    "no UTF-8": ({"kind": "body", "body": "objid\n1\n".encode("utf-16")}, "no UTF-8", 7),
    "an open quote": ({"kind": "body", "body": page(ROWS[0]) + b'"1,2\n'}, "cut", 7),
}  # fmt: skip


@pytest.mark.parametrize("day", BAD_DAYS)
def test_each_fault_is_told_and_the_next_run_is_as_if_it_had_not_been(
    sky: SkyServer, quick: http.Patience, tmp_path: Path, day: str
) -> None:
    """The fault begins after the first page; the next run asks for what is missing only."""
    fault, said, code = BAD_DAYS[day]
    flawless = skyserver.pull(ASKED, server=sky.server.url, page_rows=20)
    again = {"server": sky.server.url, "page_rows": 20, "folder": tmp_path, "patience": quick}
    after_first = rf"{PAGES}.*objID\+%3E%3D\+[1-9]"
    sky.server.fault(**{"path": after_first, **fault})
    begin = time.monotonic()
    with pytest.raises(GqsError) as refusal:
        skyserver.pull(ASKED, **again)
    assert time.monotonic() - begin < 10
    sentence = str(refusal.value)
    assert said in sentence and refusal.value.exit_code == code, sentence
    assert "127.0.0.1" in sentence and "\n" not in sentence and sentence.endswith(".")
    sky.server.heal()
    kept = sorted(path.name for path in tmp_path.glob("page-*"))
    assert kept == ["page-00000.parquet"] and not list(tmp_path.glob(".*.tmp"))
    before = len(sky.server.log)
    same(skyserver.pull(ASKED, **again), flawless)
    firsts = [one.query["cmd"] for one in sky.server.log[before:] if "TOP" in one.query["cmd"]]
    assert not any("objID >= 0 " in sql for sql in firsts)


@pytest.mark.parametrize("day", ["reset in mid-body", "429", "HTML with 200", "too many queries"])
def test_a_fault_that_passes_is_not_noticed(sky: SkyServer, quick: http.Patience, day: str) -> None:
    flawless = skyserver.pull(ASKED, server=sky.server.url)
    fault = sky.server.fault(**BAD_DAYS[day][0], times=2)
    same(skyserver.pull(ASKED, server=sky.server.url, patience=quick), flawless)
    assert fault.met == 2


def test_a_retry_after_is_obeyed(sky: SkyServer, quick: http.Patience) -> None:
    sky.server.fault("status", status=503, headers={"Retry-After": "1"}, times=1)
    skyserver.count(ASKED, server=sky.server.url, patience=quick)
    assert sky.server.log[1].at - sky.server.log[0].at > 0.95


def test_a_row_limit_met_in_silence_is_refused(sky: SkyServer, tmp_path: Path) -> None:
    """And pages under it finish the work, with the same folder."""
    flawless = skyserver.pull(ASKED, server=sky.server.url)
    sky.row_limit = 11
    with pytest.raises(IntegrityError, match="sent 11 rows where 30 were due: a limit on rows"):
        skyserver.pull(ASKED, server=sky.server.url, page_rows=30, folder=tmp_path)
    same(skyserver.pull(ASKED, server=sky.server.url, page_rows=10, folder=tmp_path), flawless)


def test_a_cut_last_row_is_asked_for_again_then_refused(sky: SkyServer) -> None:
    flawless = skyserver.pull(ASKED, server=sky.server.url)
    sky.cut_last_row = 1
    same(skyserver.pull(ASKED, server=sky.server.url), flawless)
    sky.cut_last_row = 2
    with pytest.raises(IntegrityError, match=r"row \d+ of \d+ is cut") as refusal:
        skyserver.pull(ASKED, server=sky.server.url)
    assert refusal.value.exit_code == 7


@pytest.mark.parametrize("lost", range(1, 24))
def test_no_cut_of_a_last_row_goes_unseen(lost: int) -> None:
    """Not even one that leaves the number of cells as it was."""
    from gqs.archive import csv_response

    body = page(*ROWS[:3])[:-1]  # without the last line's end, so that letters go
    columns = Spectroscopic().columns()
    assert len(csv_response.read_rows(body, columns, "x")["objid"]) > 0
    with pytest.raises(IntegrityError, match="cut"):
        csv_response.read_rows(body[:-lost], columns, "x")


def test_pages_of_another_query_or_release_are_never_mixed(
    sky: SkyServer, quick: http.Patience, tmp_path: Path
) -> None:
    again = {"server": sky.server.url, "folder": tmp_path, "patience": quick}
    skyserver.pull(ASKED, **again)
    with pytest.raises(IntegrityError, match="another query, release or server"):
        skyserver.pull(parse("3430"), **again)
    with pytest.raises(IntegrityError, match="another query, release or server"):
        skyserver.pull(ASKED, release=12, **again)
    sky.releases[16] = Database(ROWS[:150])
    with pytest.raises(IntegrityError, match=r"counted \d+ rows when these pages came and \d+ now"):
        skyserver.pull(ASKED, **again)


def test_a_damaged_page_is_asked_for_again(sky: SkyServer, tmp_path: Path) -> None:
    again = {"server": sky.server.url, "folder": tmp_path, "page_rows": 20}
    flawless = skyserver.pull(ASKED, **again)
    path = tmp_path / "page-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    before = len(sky.server.log)
    same(skyserver.pull(ASKED, **again), flawless)
    assert len(sky.server.log) - before >= 2


def test_the_same_spectrum_twice_is_refused(sky: SkyServer) -> None:
    rows = sorted((ROWS[0], ROWS[1]), key=lambda one: one["objID"])
    sky.server.fault("body", path="COUNT", body=b"#Table1\nobjects\n3\n")
    last = page(rows[1]).split(b"\n", 2)[2]
    sky.server.fault("body", path=PAGES, body=page(*rows) + last)
    with pytest.raises(IntegrityError, match="one spectrum comes twice"):
        skyserver.pull(parse(primary=False), server=sky.server.url)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"class": "quasar"}, "'quasar' is none of"), ({"class": ""}, "'' is none of"),
     ({"ra": "NaN"}, "not a valid position"), ({"dec": "null"}, "not a valid position"),
     ({"ra": 4000}, "not a valid position")],
)  # fmt: skip
def test_rows_without_class_or_position_are_set_aside(
    sky: SkyServer, changes: dict[str, Any], said: str
) -> None:
    clean = [one for one in ROWS if one["zWarning"] == 0]
    one, two = sorted(clean[:2], key=lambda one: one["objID"])
    both = page(one) + page(two, **changes).split(b"\n", 2)[2]
    sky.server.fault("body", path=PAGES, body=both)
    sky.server.fault("body", path="COUNT", body=b"#Table1\nobjects\n2\n")
    found = skyserver.pull(parse(primary=False), server=sky.server.url)
    assert found["objid"].tolist() == [one["objID"]]
    assert len(found.meta["set_aside"]) == 1 and said in found.meta["set_aside"][0]


@pytest.mark.parametrize(
    ("address", "said"),
    [("http://127.0.0.1:9", "refuses the connection"), ("http://gqs.invalid", "cannot be found")],
)
def test_a_host_that_is_not_there_ends_it_within_30_s(address: str, said: str) -> None:
    begin = time.monotonic()
    with pytest.raises(NetworkError, match=said) as refusal:
        skyserver.pull(ASKED, server=address)
    assert time.monotonic() - begin < 30 and refusal.value.exit_code == 4


def test_a_redirect_on_the_same_host_is_followed(sky: SkyServer) -> None:
    with LoopbackServer() as front:
        front.route("/moved", sky.answer)
        target = "/dr16/en/tools/search/x_results.aspx?searchtool=SQL&format=csv&cmd=SELECT+1+AS+n"
        sky.server.fault("redirect", target=target, times=1)
        asked = skyserver.Server(16, sky.server.url)
        assert asked.ask("SELECT 2 AS n") == b"#Table1\nn\n1\n"


def test_a_query_too_long_for_an_address_is_refused(sky: SkyServer) -> None:
    request = Spectroscopic(runs=tuple(range(1000, 1400)))
    with pytest.raises(UsageError, match="Use fewer runs"):
        skyserver.pull(request, server=sky.server.url)
    assert not sky.server.log


def test_nothing_is_cached(sky: SkyServer) -> None:
    for _ in range(2):
        skyserver.count(ASKED, server=sky.server.url)
    assert len(sky.server.log) == 2


def test_fields_that_cover_a_position_nearest_first(
    real_data: Path, monkeypatch: pytest.MonkeyPatch, quick: http.Patience
) -> None:
    """Real frames' own astrometry (their last table, Frame's columns) against their WCS.

    Each has a neighbour that begins 1,361 rows further on, as the survey's fields do.
    """
    monkeypatch.setattr(skyserver, "PAUSE_S", 0.0)
    frames: list[dict[str, Any]] = []
    asked: list[tuple[float, float, list[FieldId]]] = []
    for path in sorted(real_data.glob("frames/*/frame-r-*.fits.bz2")):
        with fits.open(io.BytesIO(bz2.decompress(path.read_bytes()))) as units:
            wcs, table = WCS(units[0].header), units[3].data[0]
        own = FieldId(int(table["RUN"]), int(table["CAMCOL"]), int(table["FIELD"]))
        following = own._replace(field=own.field + 1)
        terms = {name: float(table[name.upper()]) for name in (*"abcdef", "node", "incl")}
        for field, steps in ((own, 0), (following, 1361)):
            ra, dec = wcs.all_pix2world(1024, 744 + steps, 0)
            shifted = {"a": terms["a"] + steps * terms["b"], "d": terms["d"] + steps * terms["e"]}
            place = {"fieldID": len(frames), **field._asdict(), **terms, **shifted}
            frames += [place | xyz(float(ra), float(dec)) | {"zoom": zoom} for zoom in (0, 12)]
        for x, y, fields in (
            (1000.0, 300.0, [own]), (30.0, 700.0, [own]), (2000.0, 1300.0, [own]),
            (500.0, 1410.0, [own, following]), (700.0, 1440.0, [following, own]),
            (700.0, 1600.0, [following]), (-8.0, 500.0, []), (2056.0, 500.0, []), (5.0, -8.0, []),
        ):  # fmt: skip
            ra, dec = wcs.all_pix2world(x, y, 0)
            asked.append((float(ra), float(dec), fields))
            row, column = skyserver._pixel(float(ra), float(dec), terms)
            assert row == pytest.approx(y + 0.5, abs=0.6)  # SDSS counts from a pixel's corner
            assert column == pytest.approx(x + 0.5, abs=0.6)
    assert len(asked) == 36
    with LoopbackServer() as server:
        SkyServer({16: Database([], frames)}).serve(server)
        for ra, dec, fields in asked:
            assert skyserver.fields_at(ra, dec, 16, server.url, quick) == fields


def test_a_position_that_is_none_is_refused(sky: SkyServer) -> None:
    for ra, dec in ((-999.0, 0.0), (9999.0, 0.0), (0.0, 91.0), (float("nan"), 0.0)):
        with pytest.raises(UsageError, match="ra is 0 to 360"):
            skyserver.fields_at(ra, dec, server=sky.server.url)
    assert not sky.server.log


def test_the_real_table_comes_back_run_by_run(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts by class and run of 55,366 real spectroscopic objects, through real pages."""
    monkeypatch.setattr(skyserver, "PAUSE_S", 0.0)
    real = Table.read(real_data / "catalogs" / "sdss_spectro_photometry.csv.gz", format="ascii.csv")
    runs, counts = np.unique(real["run"], return_counts=True)
    chosen = [int(run) for run in runs[np.argsort(-counts)[:3]]]
    real = real[np.isin(real["run"], chosen)]
    blank = generated(1)[0]
    rows = []
    for i, one in enumerate(real):
        field = FieldId(int(one["run"]), int(one["camcol"]), int(one["field"]))
        objid = int(photo_objid(field, np.array([i]))[0])
        mags = {f"modelMag_{b}": float(one[b]) for b in "ugriz"}
        keys = {key: float(one[key]) for key in ("ra", "dec")}
        whole = {key: int(one[key]) for key in ("run", "camcol", "field", "plate", "mjd")}
        rows.append(
            blank | mags | keys | whole
            | {"objID": objid, "specObjID": 2**63 + i, "class": str(one["class"]), "zWarning": 0,
               "z": float(one["redshift"]), "mode": 1, "sciencePrimary": 1}
        )  # fmt: skip
    with LoopbackServer() as server:
        SkyServer({16: Database(rows)}).serve(server)
        found = skyserver.pull(
            Spectroscopic(runs=tuple(chosen[:2])), server=server.url, page_rows=700
        )
    expected = real[np.isin(real["run"], chosen[:2])]
    assert len(found) == len(expected) > 1000
    for run in chosen[:2]:
        for name in ("GALAXY", "QSO", "STAR"):
            ours = ((found["run"] == run) & (found["class"] == name)).sum()
            assert ours == ((expected["run"] == run) & (expected["class"] == name)).sum()
    assert np.sort(found["r"]) == pytest.approx(np.sort(np.asarray(expected["r"])))
