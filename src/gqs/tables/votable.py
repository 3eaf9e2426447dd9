"""VOTable with UCD and description in each FIELD; links and entities are never followed."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import IO, Any, Final, NoReturn
from xml.parsers import expat

import numpy as np
from astropy.io.votable import from_table, parse
from astropy.io.votable.tree import CooSys, Field, Info, Resource, TableElement, VOTableFile
from astropy.table import Table

from gqs.errors import BadInputError
from gqs.tables.columns import UCD
from gqs.tables.meta import META, as_json, from_json, plain

_KEPT: Final = (UCD, "utype", "xtype")  # attributes of a FIELD that are kept in a column's meta
# Datatypes of a table without data. VOTable has no unsigned 64-bit integers; a reader that combines
# the type of the data with this one must not end up with floats, which lose digits.
_DATATYPES: Final = {
    "b1": "boolean", "i1": "short", "u1": "unsignedByte", "i2": "short", "u2": "int",
    "i4": "int", "u4": "long", "i8": "long", "u8": "unsignedByte", "f4": "float", "f8": "double",
}  # fmt: skip


def write_votable(table: Table, buffer: IO[bytes]) -> None:
    """Write a VOTable; unsigned 64-bit integers, which VOTable lacks, are written as text."""
    for name in table.colnames:
        if table[name].dtype == np.uint64:
            table[name] = table[name].astype(str)
    meta, table.meta = dict(table.meta), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about units that VOTable does not know
        made = from_table(table)
        _add_coosys(made)
        made.get_first_table().infos.extend(_infos(meta))
        buffer.write(_as_xml(made))


def without_data(table: Table) -> bytes:
    """A VOTable of columns and metadata without rows, for the schema of a Parquet file.

    IVOA Note "Parquet in the VO" 1.0 (2025-01-14), 2.2.
    """
    made = VOTableFile()
    resource = Resource()
    made.resources.append(resource)
    element = TableElement(made)
    resource.tables.append(element)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about units that VOTable does not know
        for column in table.itercols():
            kind = column.dtype.str[1:]
            datatype = _DATATYPES.get(kind)
            shape = [*column.shape[1:]]
            if column.dtype.kind in "US":  # length of the text
                shape.append(max(int(kind[1:]), 1))
            size = {"arraysize": "x".join(str(n) for n in reversed(shape))} if shape else {}
            size = {"arraysize": "*"} if column.dtype.kind == "O" else size
            unit = {"unit": str(column.unit)} if column.unit else {}
            ucd = {"ucd": column.meta[UCD]} if column.meta.get(UCD) else {}
            field = Field(
                made, name=column.name, datatype=datatype or "unicodeChar", **size, **unit, **ucd
            )
            field.description = column.description
            element.fields.append(field)
        _add_coosys(made)
        element.infos.extend(_infos(table.meta))
        return _as_xml(made)


def _add_coosys(made: VOTableFile) -> None:
    """Declare positions as ICRS in a COOSYS, for TOPCAT and Aladin (VOTable 1.4, section 3.1)."""
    element = made.resources[0].tables[0]
    places = [field for field in element.fields if field.name in ("ra", "dec")]
    if len(places) == 2:
        made.resources[0].coordinate_systems.append(CooSys(ID="frame", system="ICRS"))
        for field in places:
            field.ref = "frame"


def _as_xml(made: VOTableFile) -> bytes:
    """Serialise as XML with each description on one line; astropy breaks long ones."""
    buffer = io.BytesIO()
    made.to_xml(buffer)
    broken = re.compile(rb"(?<=<DESCRIPTION>)[^<]*(?=</DESCRIPTION>)")
    return broken.sub(lambda found: b" ".join(found[0].split()), buffer.getvalue())


def _infos(meta: dict[str, Any]) -> list[Info]:
    """One INFO for each short text or number, for other programs, and one with all metadata."""
    infos = [Info(name=key, value=str(value)) for key, value in plain(meta).items()]
    return [*infos, Info(name=META, value=as_json(meta))] if meta else []


def _check_structure(text: bytes, path: Path) -> None:
    """Refuse what would make a reader open anything else, and the answer of a failed query.

    The XML is parsed, so that no way of writing it hides a link from this check.
    """
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def refuse(what: str) -> NoReturn:
        raise BadInputError(
            f"{path}: contains {what}, which gqs does not follow. Save the data inline."
        )

    def start(name: str, attributes: dict[str, str]) -> None:
        element = name.rpartition(":")[2].upper()
        if element == "STREAM" and any("href" in key.lower() for key in attributes):
            refuse("a link to its data")
        if element == "INFO" and attributes.get("name", "").upper() == "QUERY_STATUS":
            state = attributes.get("value", "").upper()
            if state == "ERROR":
                raise BadInputError(f"{path}: is the answer of a query that failed. Query again.")
            if state == "OVERFLOW":
                warnings.warn(
                    f"{path}: the query's answer was cut at the server's limit (OVERFLOW), so rows "
                    "are missing.",
                    stacklevel=2,
                )

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = lambda *declared: refuse("a DOCTYPE")
    parser.EntityDeclHandler = lambda *declared: refuse("an entity")
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise BadInputError(f"{path}: is not valid XML ({error}). Export it again.") from error


def read_votable(path: Path) -> Table:
    """Read the first table of a VOTable."""
    text = path.read_bytes()
    if b"\x00" in text:  # UTF-16 would hide what is searched for below
        raise BadInputError(f"{path}: is not UTF-8 text. Save it as UTF-8.")
    _check_structure(text, path)
    for claim in re.findall(rb"(?:nrows|arraysize)\s*=\s*[\"']([\dx*\s]+)", text):
        if np.prod([int(n) for n in re.findall(rb"\d+", claim)], dtype=float) > len(text):
            raise BadInputError(
                f"{path}: declares {claim.decode()} rows or elements, more than it contains. "
                "Export it again."
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about units and the like; values are checked later
        found = parse(io.BytesIO(text)).get_first_table()
        table = found.to_table(use_names_over_ids=True)
    text_of_meta = next((str(info.value) for info in found.infos if info.name == META), "")
    table.meta = from_json(text_of_meta) or table.meta
    for column in table.itercols():
        column.meta = {key: column.meta[key] for key in _KEPT if column.meta.get(key)}
    return table
