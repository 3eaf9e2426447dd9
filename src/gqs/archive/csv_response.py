"""What a catalogue server answers: SDSS's dialect of CSV, and how it shows that it is whole.

The dialect: a first line `#Table1` or none, names, rows; an error or a web page may come with
status 200. Identifiers pass 2^63, so nothing goes through a float but what is one.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Final

import numpy as np
from astropy.table import Table

from gqs import tables
from gqs.errors import IntegrityError, NetworkError

IDENTIFIERS: Final = ("objid", "specobjid")
WHOLE: Final = ("run", "camcol", "field", "type", "plate", "mjd", "fiberid", "best")
TEXT: Final = ("class",)
END: Final = "row_end"  # the first column again: what shows that a row was not cut
_LONGEST_REASON: Final = 200  # characters of a server's own words in a sentence
_ERROR: Final = re.compile(
    r"error_message|^\s*(error|exception)\b|incorrect syntax|invalid object name", re.IGNORECASE
)
_BUSY: Final = re.compile(
    r"per minute|too many|timeout|timed out|deadlock|busy|try again", re.IGNORECASE
)


class RefusedError(NetworkError):
    """The server says, with whatever status, that it will not answer this query."""

    def __init__(self, host: str, why: str, busy: bool) -> None:
        step = "Run the same command again later." if busy else "See the SQL with --show-sql."
        super().__init__(f"{host}: {why}. {step}")
        self.why, self.busy = why, busy


def read_rows(body: bytes, columns: tuple[str, ...], host: str) -> dict[str, list[str]]:
    """Read an answer's cells as text, or refuse what is no whole table of these columns."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{host}: the answer is no UTF-8 text ({error.reason}).") from error
    refuse_errors(text, host)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(line for line in lines if line.strip() and not line.startswith("#"))
    try:
        names = [_plain(name) for name in next(reader, [])]
        rows = list(reader)
    except csv.Error as error:
        raise IntegrityError(f"{host}: the answer is no CSV ({error}).") from error
    if tuple(names) != columns:
        missing = [name for name in columns if name not in names]
        raise IntegrityError(
            f"{host}: the answer lacks the columns {', '.join(missing) or 'in their order'}; "
            f"it has {', '.join(names)[:_LONGEST_REASON]!r}. The release may spell them otherwise."
        )
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns) or (columns[-1] == END and row[-1] != row[0]):
            raise IntegrityError(
                f"{host}: row {number} of {len(rows)} is cut, so the answer is not whole. "
                "Run the same command again; it keeps what came whole."
            )
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


def _plain(name: str) -> str:
    """Return a column's name without CasJobs' type behind it, as in `[objid]:Long`."""
    return re.sub(r"\[(\w+)\](?::\w+)?", r"\1", name).strip().lower()


def refuse_errors(text: str, host: str) -> None:
    """Refuse an answer that is an error or a web page, whatever its status was."""
    start = text.lstrip("\ufeff \t\r\n")[:2000]
    if not start:
        raise RefusedError(host, "sent an empty answer", busy=True)
    if re.match(r"<(!doctype|html|\?xml|head|body|h\d)", start, re.IGNORECASE):
        raise RefusedError(host, "sent a web page instead of a table", busy=True)
    found = _ERROR.search(start)
    if found is not None:
        words = re.sub(r"<[^>]*>|#Table\d+|error_message", " ", start[found.start() :])
        reason = " ".join(words.split()).strip(" :,")[:_LONGEST_REASON]
        busy = _BUSY.search(reason) is not None
        raise RefusedError(host, f"refuses the query ({reason})", busy)


def typed(cells: dict[str, list[str]], host: str) -> Table:
    """Turn cells of text into columns: identifiers exactly, numbers as numbers."""
    table = Table()
    for name, values in cells.items():
        if name == END:
            continue
        if name in IDENTIFIERS:
            try:
                table[name] = tables.exact_objid(values, host)
            except IntegrityError as error:
                raise IntegrityError(str(error).replace("objid", name, 1)) from error
        elif name in WHOLE:
            try:
                table[name] = np.array([int(value) for value in values], dtype=np.int32)
            except (ValueError, OverflowError) as error:
                raise IntegrityError(f"{host}: column {name}: {error}.") from error
        elif name in TEXT:
            table[name] = np.array([value.strip() for value in values], dtype="U32")
        else:
            table[name] = tables.as_float(np.array(values, dtype="U40"))
    return table


def count(body: bytes, host: str) -> int:
    """Read the answer to a counting query."""
    cells = read_rows(body, ("objects",), host)["objects"]
    if len(cells) != 1 or not cells[0].strip().isdigit():
        raise IntegrityError(f"{host}: the count of rows is no number: {cells[:3]!r}.")
    return int(cells[0])
