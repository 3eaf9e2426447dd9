"""What passes between the rooms as tables: catalogues and predictions; formats in and out."""

from __future__ import annotations

import enum
import io
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from astropy.io.votable import from_table, parse
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from gqs import labels
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.files import write_bytes

ENDINGS: Final = (".parquet", ".fits", ".vot", ".ecsv", ".csv")
FIELD_COLUMNS: Final = ("run", "camcol", "field")
UNITS: Final = {"ra": "deg", "dec": "deg", "x": "pix", "y": "pix"}
MAX_BYTES: Final = 4 << 30


class Flag(enum.IntFlag):
    """What is unusual about an object; the column `flags` is their sum."""

    EDGE = 1  # the cutout reaches over the frame's edge and is padded there
    MASKED = 2  # some of its pixels are bad or not covered in some band
    SATURATED = 4  # some of its pixels are saturated in some band
    MISSING_BAND = 8  # a band that the model takes is not there
    BLENDED = 16  # detection had to part it from a neighbour
    OUTSIDE = 32  # the position lies on none of the frames, or is no position
    NO_SIGNAL = 64  # the reference band is constant: there is nothing to see
    NOT_JUDGED = 128  # no class: centre invalid (3 px, r band), or over half of it masked


def read(path: Path) -> Table:
    """Read a table, its format told by its ending: .parquet, .fits, .vot, .ecsv or .csv.

    Identifiers stay exact: a column `objid` is uint64, never read through a float. Nothing is
    fetched from a network and nothing is unpickled.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Table
        Column names in lower case where they are objid, ra, dec, class, run, camcol or field.

    Raises
    ------
    BadInputError
        If the file is no table of its ending.
    IntegrityError
        If `objid` holds anything but whole numbers from 0 to 2^64 - 1.
    UsageError
        If there is no such file, or its ending is unknown.
    """
    path = Path(path)
    reader = {
        ".parquet": _read_parquet,
        ".fits": _read_fits,
        ".vot": _read_votable,
        ".ecsv": _read_ecsv,
        ".csv": _read_csv,
        ".gz": _read_csv,
    }.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path}: unknown ending. Tables end in {', '.join(ENDINGS)} (or .csv.gz)."
        )
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    if path.stat().st_size > MAX_BYTES:
        raise BadInputError(f"{path}: larger than {MAX_BYTES >> 30} GiB. Split it into parts.")
    try:
        table = reader(path)
    except (BadInputError, IntegrityError):
        raise
    except Exception as error:  # every library has its own errors for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"{path}: cannot be read as {path.suffix} ({reason}). Export it again."
        ) from error
    _tidy(table, path)
    return table


def check_ending(path: Path) -> str:
    """Refuse a name whose ending tells no format, before any work is done for it.

    Parameters
    ----------
    path : Path
        Where a table is to be written.

    Returns
    -------
    str
        The ending in lower case.

    Raises
    ------
    UsageError
        If the ending is unknown.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"{path}: unknown ending. Tables end in {', '.join(ENDINGS)}.")
    return ending


def write(table: Table, path: Path) -> Path:
    """Write a table whole or not at all, its format told by its ending.

    Parameters
    ----------
    table : Table
        Any columns; meta goes along where the format holds it (all but CSV).
    path : Path
        Ending in .parquet, .fits, .vot, .ecsv or .csv.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    UsageError
        If the ending is unknown.
    """
    path, ending = Path(path), check_ending(path)
    table = table.copy(copy_data=False)
    if ending == ".vot":  # VOTable has no unsigned 64-bit integers
        for name in table.colnames:
            if table[name].dtype == np.uint64:
                table[name] = table[name].astype(str)
    buffer = io.BytesIO()
    if ending == ".parquet":
        _write_parquet(table, buffer)
    elif ending == ".fits":
        for name in table.colnames:  # FITS knows bytes, and cards of 8 letters
            if table[name].dtype.kind == "O":
                table[name] = table[name].astype(str)
        table.meta = {key[:8].upper(): value for key, value in table.meta.items()}
        table.write(buffer, format="fits")
    elif ending == ".vot":
        from_table(table).to_xml(buffer)
    else:
        text = io.StringIO()
        table.write(text, format="ascii.ecsv" if ending == ".ecsv" else "ascii.csv")
        buffer.write(text.getvalue().encode())
    return write_bytes(path, buffer.getbuffer())


def _write_parquet(table: Table, buffer: io.BytesIO) -> None:
    columns = {}
    for name in table.colnames:
        column = table[name]
        values = np.asarray(column.filled() if isinstance(column, MaskedColumn) else column)
        if values.ndim > 1:
            columns[name] = pa.array(values.tolist())
        else:
            columns[name] = pa.array(values.tolist() if values.dtype.kind in "OSU" else values)
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit}
    meta = {f"gqs.{key}": str(value) for key, value in table.meta.items()}
    meta |= {f"unit.{name}": unit for name, unit in units.items()}
    arrow = pa.table(columns).replace_schema_metadata(meta)
    pyarrow.parquet.write_table(arrow, buffer, compression="zstd")


def _read_parquet(path: Path) -> Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        arrow = file.read()
    table = Table()
    for name in arrow.column_names:
        values = arrow[name].to_numpy()
        if values.dtype == object and all(isinstance(value, str) for value in values):
            values = values.astype(str)
        elif values.dtype == object and len(values) and isinstance(values[0], np.ndarray):
            values = np.stack(values)
        table[name] = values
    for raw_key, raw_value in (arrow.schema.metadata or {}).items():
        key, value = raw_key.decode(), raw_value.decode()
        if key.startswith("gqs."):
            table.meta[key[4:]] = value
        elif key.startswith("unit.") and key[5:] in table.colnames:
            table[key[5:]].unit = value
    return table


def _read_fits(path: Path) -> Table:
    table = Table.read(path, format="fits", hdu=1, memmap=False, character_as_bytes=False)
    for name in table.colnames:  # FITS is big-endian, most libraries are not
        table[name] = np.asarray(table[name]).astype(table[name].dtype.newbyteorder("="))
    return table


def _read_ecsv(path: Path) -> Table:
    return Table.read(path.read_text("utf-8").splitlines(), format="ascii.ecsv")


def _read_votable(path: Path) -> Table:
    text = path.read_bytes()
    lowered = text.lower()
    for forbidden, what in (
        (b"<!doctype", "a DOCTYPE"),
        (b"<!entity", "an entity"),
        (b"href", "a link"),
    ):
        if forbidden in lowered:
            raise BadInputError(f"{path}: holds {what}, which gqs does not follow. Save it inline.")
    return parse(io.BytesIO(text)).get_first_table().to_table(use_names_over_ids=True)


def _read_csv(path: Path) -> Table:
    """CSV with a header line; SkyServer's first line `#Table1` is passed over."""
    with pa.input_stream(path, compression="gzip" if path.suffix == ".gz" else None) as stream:
        data = stream.read(MAX_BYTES)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadInputError(f"{path}: is UTF-16. Save it as UTF-8.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"<":
        raise BadInputError(
            f"{path}: is HTML or XML, not CSV: perhaps an error page. Export it again."
        )
    if b"\x00" in data:
        raise BadInputError(f"{path}: holds NUL bytes, so it is no text. Export it again.")
    while data.startswith(b"#"):
        data = data.partition(b"\n")[2]
    names = data.partition(b"\n")[0].decode("utf-8", "replace").strip().split(",")
    exact = {name: pa.string() for name in names if _plain(name) in ("objid", "class")}
    options = pa.csv.ConvertOptions(column_types=exact, strings_can_be_null=False)
    arrow = pa.csv.read_csv(io.BytesIO(data), convert_options=options)
    table = Table()
    for name in arrow.column_names:
        values = arrow[name].to_numpy()
        table[name] = values.astype(str) if values.dtype == object else values
    return table


def _plain(name: str) -> str:
    return name.strip().strip('"').lower()


def _tidy(table: Table, path: Path) -> None:
    for name in list(table.colnames):
        plain = _plain(name)
        known = ("objid", "ra", "dec", "class", *FIELD_COLUMNS)
        if plain in known and name != plain and plain not in table.colnames:
            table.rename_column(name, plain)
    if "objid" in table.colnames:
        table["objid"] = exact_objid(table["objid"], path)


def exact_objid(values: object, where: object = "catalogue") -> NDArray[np.uint64]:
    """Return identifiers as uint64, or refuse those that lost digits on the way.

    Parameters
    ----------
    values : array_like
        Whole numbers, or text that spells them.
    where : object
        Named in the error.

    Returns
    -------
    ndarray
        (n,) uint64.

    Raises
    ------
    IntegrityError
        If any value is a float, negative, or no number.
    """
    column = np.asarray(values)
    if column.dtype.kind == "f":
        raise IntegrityError(
            f"{where}: objid was saved as a decimal number, which loses its last digits. "
            "Export it as text or as a 64-bit integer."
        )
    if column.dtype.kind == "u" or (column.dtype.kind == "i" and (column >= 0).all()):
        return column.astype(np.uint64)
    text = [str(value).strip().strip('"') for value in column.tolist()]
    for row, value in enumerate(text):
        if not (value.isascii() and value.isdigit() and int(value) < 2**64):
            raise IntegrityError(
                f"{where}, row {row + 1}: objid {value[:30]!r} is no whole number below 2^64. "
                "Export it as text or as a 64-bit integer."
            )
    return np.array([int(value) for value in text], dtype=np.uint64)


def read_catalog(
    path: Path, needs: tuple[str, ...] = ("objid", "ra", "dec", *FIELD_COLUMNS, "class")
) -> tuple[Table, list[str]]:
    """Read a catalogue and set aside the rows that cannot be used.

    Parameters
    ----------
    path : Path
        A table in any format that `read` knows.
    needs : tuple of str
        Columns that must be there.

    Returns
    -------
    table : Table
        The usable rows in their order; `objid` unique, `ra` in [0, 360), `dec` in [-90, 90],
        `class` one of the three.
    set_aside : list of str
        A sentence for each row left out.

    Raises
    ------
    UsageError
        If a column is missing.
    IntegrityError
        If an objid comes twice.
    """
    table = read(path)
    require_columns(table, needs, path)
    keep, reasons = np.ones(len(table), dtype=bool), []
    usable = positions_usable(table)
    for row in np.flatnonzero(~usable):
        keep[row] = False
        reasons.append(f"{path}, row {row + 1}: ra or dec is no position on the sky; set aside.")
    if "class" in needs:
        names = np.char.strip(np.asarray(table["class"]).astype(str))
        for row in np.flatnonzero(~np.isin(names, labels.CLASSES) & keep):
            keep[row] = False
            reasons.append(
                f"{path}, row {row + 1}: class {names[row]!r} is none of "
                f"{', '.join(labels.CLASSES)}; set aside."
            )
        table["class"] = names
    table = table[keep]
    if "objid" in needs:
        require_unique(table["objid"], path)
    return table, reasons


def positions_usable(table: Table) -> NDArray[np.bool_]:
    """Tell which rows have a position on the sky.

    Parameters
    ----------
    table : Table
        With `ra` and `dec` in degrees; text such as "null" counts as no position.

    Returns
    -------
    ndarray
        (n,) bool. As a side effect `ra` and `dec` become float64.
    """
    for name in ("ra", "dec"):
        table[name] = _as_float(table[name])
    ra, dec = np.asarray(table["ra"]), np.asarray(table["dec"])
    return np.asarray((ra >= 0) & (ra < 360) & (np.abs(dec) <= 90))


def _as_float(column: object) -> NDArray[np.float64]:
    values = np.ma.filled(column, np.nan) if np.ma.isMaskedArray(column) else np.asarray(column)
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)

    def number(text: object) -> float:
        try:
            return float(str(text))
        except ValueError:
            return float("nan")

    return np.array([number(value) for value in values.tolist()], dtype=np.float64)


def require_columns(table: Table, names: tuple[str, ...], where: object) -> None:
    """Refuse a table that lacks a column.

    Parameters
    ----------
    table : Table
        The table.
    names : tuple of str
        Columns that must be there.
    where : object
        Named in the error.

    Raises
    ------
    UsageError
        If one is missing; the sentence lists what is there.
    """
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise UsageError(
            f"{where}: has no column {', '.join(missing)}; it has {', '.join(table.colnames[:20])}."
        )


def require_unique(objid: object, where: object) -> None:
    """Refuse identifiers that come twice.

    Parameters
    ----------
    objid : array_like
        (n,) identifiers.
    where : object
        Named in the error.

    Raises
    ------
    IntegrityError
        If any comes twice.
    """
    values, counts = np.unique(np.asarray(objid), return_counts=True)
    if (counts > 1).any():
        raise IntegrityError(
            f"{where}: {int((counts > 1).sum())} objid come more than once, "
            f"{values[counts > 1][0]} among them. Keep one row for each object."
        )


def predictions(
    objects: Table, probabilities: NDArray[np.float64], flags: NDArray[np.int32], model: str
) -> Table:
    """Put together the Predictions table, the waist of the whole system.

    Parameters
    ----------
    objects : Table
        With `objid ra dec x y run camcol field`, and magnitudes `mag_*` where measured.
    probabilities : ndarray
        (n, 3) in the order of the labels; rows of NaN where nothing could be judged.
    flags : ndarray
        (n,) sums of `Flag`; a row of NaN is flagged NOT_JUDGED here.
    model : str
        Hash of the model that judged.

    Returns
    -------
    Table
        One row an object, in the order of `objects`; `class` is blank in rows of NaN.

    Raises
    ------
    IntegrityError
        If a row's probabilities are neither NaN nor sum to 1 within 1e-5.
    """
    needed = ("objid", "ra", "dec", "x", "y", *FIELD_COLUMNS)
    require_columns(objects, needed, "predictions")
    judged: NDArray[np.bool_] = np.asarray(np.isfinite(probabilities).all(axis=1))
    sums = probabilities[judged].sum(axis=1)
    if (np.abs(sums - 1) > 1e-5).any():
        raise IntegrityError("Predictions: probabilities of some row do not sum to 1.")
    names = np.array(labels.CLASSES)
    best = names[np.where(judged[:, None], probabilities, 0).argmax(axis=1)]
    table = Table({name: objects[name] for name in needed})
    for i, name in enumerate(labels.PROBABILITY_COLUMNS):
        table[name] = np.where(judged, probabilities[:, i], np.nan)
    table["class"] = np.where(judged, best, "").astype("U6")
    for name in objects.colnames:
        if name.startswith(("mag_", "magerr_")):
            table[name] = objects[name]
    table["flags"] = np.where(judged, flags, flags | int(Flag.NOT_JUDGED)).astype(np.int32)
    table["model"] = np.full(len(table), model[:12], dtype="U12")
    for name, unit in UNITS.items():
        table[name].unit = unit
    for name in table.colnames:
        if name.startswith(("mag_", "magerr_")):
            table[name].unit = "mag"
    table.meta["model"] = model
    return table
