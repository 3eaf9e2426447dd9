"""SkyServer on the loopback: its addresses, its dialect of CSV, tables that SQL really runs on.

The SQL that arrives is changed from SQL Server's dialect to SQLite's and run, so that a wrong
query gives wrong rows. What SkyServer does to answers on bad days is done on command: a row limit
met in silence, a last row cut, an error as text with status 200.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from loopback.server import Answer, LoopbackServer, Request

BANDS = "ugriz"
KINDS = ("psf", "model", "cModel")
PHOTO = (
    "objID", "ra", "dec", "cx", "cy", "cz", "run", "camcol", "field", "type", "mode",
    *(f"{kind}Mag_{b}" for kind in KINDS for b in BANDS),
    *(f"{kind}MagErr_{b}" for kind in KINDS for b in BANDS),
    *(f"extinction_{b}" for b in BANDS), *BANDS,
)  # fmt: skip
SPECTRO = (
    "specObjID", "objID", "class", "z", "zWarning", "plate", "mjd", "fiberID", "sciencePrimary",
    "mode",
)  # fmt: skip
FRAME = ("fieldID", "run", "camcol", "field", "zoom", *"abcdef", "node", "incl", "cx", "cy", "cz")
FORBIDDEN = re.compile(r";|--|\b(drop|delete|update|insert|exec|union|xp_\w+)\b", re.IGNORECASE)
DIALECT = (
    (r"dbo\.fGetNearbyFrameEq\(([^,]+),([^,]+),([^,]+),\s*0\)",
     r"(SELECT fieldID FROM Frame WHERE arcmin(cx, cy, cz, \1, \2) < \3 AND zoom = 0)"),
)  # fmt: skip


@dataclass
class Database:
    """SDSS's tables in memory, one for each release."""

    objects: Sequence[dict[str, object]]
    frames: Sequence[dict[str, object]] = ()
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        self.connection.create_function("arcmin", 5, _arcmin, deterministic=True)
        for name, columns in (("PhotoObjAll", PHOTO), ("SpecPhotoAll", SPECTRO), ("Frame", FRAME)):
            self.connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
        self.connection.executescript(
            "CREATE VIEW PhotoObj AS SELECT * FROM PhotoObjAll WHERE mode IN (1, 2);"
            "CREATE VIEW SpecPhoto AS SELECT * FROM SpecPhotoAll "
            "WHERE sciencePrimary = 1 AND mode = 1;"
        )
        seen = set()
        for one in self.objects:
            if one["objID"] not in seen:
                self._insert("PhotoObjAll", PHOTO, one)
            seen.add(one["objID"])
            spectrum = {key: one[key] for key in SPECTRO}
            # SQLite's integers end at 2^63: longer ones are kept, and sorted, as padded text
            spectrum["specObjID"] = f"{one['specObjID']:>20}"
            self._insert("SpecPhotoAll", SPECTRO, spectrum)
        for one in self.frames:
            self._insert("Frame", FRAME, one)

    def _insert(self, table: str, columns: Iterable[str], row: dict[str, object]) -> None:
        names = list(columns)
        marks = ", ".join("?" * len(names))
        self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", [row[n] for n in names])

    def run(self, sql: str) -> tuple[list[str], list[tuple[object, ...]]]:
        """Run a query of SQL Server's dialect; sqlite3.Error where it is none."""
        self.asked.append(sql)
        text = " ".join(sql.split())
        ours = re.fullmatch(r"DROP TABLE gqs_\w+", text)
        if FORBIDDEN.search(text) and not ours:
            raise sqlite3.OperationalError("only SELECT is permitted")
        for pattern, by in DIALECT:
            text = re.sub(pattern, by, text)
        top = re.match(r"SELECT TOP (\d+)", text)
        if top:
            text = "SELECT" + text[top.end() :] + f" LIMIT {top[1]}"
        into = re.search(r" INTO MyDB\.(gqs_\w+)", text)
        if into:
            text = f"CREATE TABLE {into[1]} AS " + text.replace(into[0], "")
        cursor = self.connection.execute(text)
        return [column[0] for column in cursor.description or ()], cursor.fetchall()


def _arcmin(cx: float, cy: float, cz: float, ra: float, dec: float) -> float:
    a, d = math.radians(ra), math.radians(dec)
    dot = cx * math.cos(d) * math.cos(a) + cy * math.cos(d) * math.sin(a) + cz * math.sin(d)
    return 60 * math.degrees(math.acos(min(1.0, dot)))


def csv(names: list[str], rows: list[tuple[object, ...]], first_line: str = "#Table1\n") -> bytes:
    """SkyServer's dialect: a first line that is no header, then names, then rows."""
    cells = ((str(cell).strip() if cell is not None else "null") for row in rows for cell in row)
    flat = list(cells)
    width = len(names)
    lines = [",".join(flat[i : i + width]) for i in range(0, len(flat), width)] if width else []
    return (first_line + "\n".join([",".join(names), *lines]) + "\n").encode()


@dataclass
class SkyServer:
    """SkyServer's answers to SQL for some releases; its bad days are switched on here."""

    releases: dict[int, Database]
    row_limit: int = 500_000
    cut_last_row: int = 0  # so many answers lose the end of their last row
    say: str = ""  # an error as text, with status 200, for so many answers:
    say_times: int = 0
    seen: list[float] = field(default_factory=list)
    server: LoopbackServer = field(init=False)

    def serve(self, server: LoopbackServer) -> None:
        """Answer at the addresses that the releases have had. astroquery.sdss has the list."""
        self.server = server
        server.route(r"/dr(8|9)/en/tools/search/x_sql\.asp$", self.answer)
        server.route(r"/dr10/en/tools/search/x_sql\.aspx$", self.answer)
        server.route(r"/dr1[1-9]/en/tools/search/x_results\.aspx$", self.answer)

    def answer(self, request: Request) -> Answer:
        """Run the SQL of a request as SkyServer would."""
        self.seen.append(request.at)
        release = int(re.match(r"/dr(\d+)/", request.path)[1])  # type: ignore[index]
        wanted = {"cmd", "format"} | ({"searchtool"} if release > 11 else set())
        if set(request.query) != wanted or request.query["format"] != "csv":
            return Answer(b"<html>HTTP 400: unknown parameters</html>", 400, "text/html")
        if self.say_times > 0:
            self.say_times -= 1
            return Answer(f"error_message\n{self.say}\n".encode(), kind="text/plain")
        if release not in self.releases:
            return Answer(b"<html>404</html>", 404, "text/html")
        try:
            names, rows = self.releases[release].run(request.query["cmd"])
        except sqlite3.Error as error:
            return Answer(f'error_message\n"{error}"\n'.encode(), kind="text/plain")
        body = csv(names, rows[: self.row_limit], "" if release < 10 else "#Table1\n")
        if self.cut_last_row > 0 and len(rows) > 1:
            self.cut_last_row -= 1
            body = body[:-4]
        return Answer(body, kind="text/plain")


def generated(number: int, seed: int = 5, repeats: int = 0) -> list[dict[str, object]]:
    """Spectroscopic objects of several runs, with spectra's ids beyond 2^63 among them.

    Classes, primaries, warnings and magnitudes are drawn; the last `repeats` rows are further
    spectra of the first objects.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for i in range(number):
        run = int(rng.choice([3430, 3434, 3437, 3918]))
        ra, dec = float(rng.uniform(0, 360)), float(rng.uniform(-10, 60))
        camcol, frame = int(rng.integers(1, 7)), int(rng.integers(11, 300))
        objid = (1 << 60) | (301 << 48) | (run << 32) | (camcol << 29) | (frame << 16) | i
        mags = rng.normal(19, 1.5, (3, 5)).round(4)
        rows.append(
            {
                "objID": objid, "ra": ra, "dec": dec, "run": run, "camcol": camcol, "field": frame,
                **xyz(ra, dec), "type": int(rng.choice([3, 6])),
                "mode": int(rng.choice([1, 1, 1, 2])),
                "specObjID": int(rng.choice([1 << 59, (1 << 63) + 12345])) + i,
                "class": str(rng.choice(["GALAXY", "QSO", "STAR"])),
                "z": round(float(rng.exponential(0.7)), 6), "zWarning": int(rng.choice([0, 0, 4])),
                "plate": int(rng.integers(266, 12000)), "mjd": 51600 + i, "fiberID": i % 1000 + 1,
                "sciencePrimary": int(rng.choice([1, 1, 1, 0])),
                **{f"{k}Mag_{b}": float(mags[j, n])
                   for j, k in enumerate(KINDS) for n, b in enumerate(BANDS)},
                **{f"{k}MagErr_{b}": round(0.01 * (n + 1), 4)
                   for k in KINDS for n, b in enumerate(BANDS)},
                **{f"extinction_{b}": round(0.3 / (n + 1), 4) for n, b in enumerate(BANDS)},
                **{b: float(mags[1, n]) for n, b in enumerate(BANDS)},
            }
        )  # fmt: skip
    for i in range(repeats):
        again = {**rows[i], "specObjID": int(rows[i]["specObjID"]) + (1 << 40)}  # type: ignore[call-overload]
        rows.append({**again, "sciencePrimary": 0, "plate": 12345, "class": "STAR"})
    return rows


def xyz(ra: float, dec: float) -> dict[str, float]:
    """Unit vector of a position, as SDSS's tables have it."""
    a, d = math.radians(ra), math.radians(dec)
    return {"cx": math.cos(d) * math.cos(a), "cy": math.cos(d) * math.sin(a), "cz": math.sin(d)}
