"""What may be asked of SDSS's database: typed values, bound into reviewed files of SQL. Paper 3.1.

Nothing that a user types reaches a query as text: runs are whole numbers, positions and
magnitudes are finite numbers, classes, bands and kinds of magnitude come from closed lists.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gqs import labels
from gqs.errors import UsageError

# The kinds of magnitude, and how SDSS's columns spell them.
KINDS: Final = {"psf": "psf", "model": "model", "cmodel": "cModel"}
FORMS: Final = {"full": "spectroscopic", "paper": "figure9"}

Value = int | float | str | tuple[int, ...] | tuple[str, ...] | None
_TABLE: Final = re.compile(r"gqs_[0-9a-f]{8}_[0-9a-f]{8}")

Degrees = Annotated[float, Field(ge=0, lt=360)]
Magnitude = Annotated[float, Field(ge=0, le=40)]
Run = Annotated[int, Field(ge=1, le=65535)]  # 16 bits of an objid


# Which option a value came from, and what it may be: the ranges of the types above and of Cone.
_RANGES: Final = {
    "runs": ("runs", "runs are numbered from 1 to 65535"),
    "classes": ("classes", f"the classes are {', '.join(labels.CLASSES)}"),
    "bright": ("limits", "magnitudes are 0 to 40"),
    "faint": ("limits", "magnitudes are 0 to 40"),
    "ra": ("cone", "ra is 0 to 360 deg, 360 itself left out"),
    "dec": ("cone", "dec is -90 to 90 deg"),
    "radius": ("cone", "the radius is 1 arcsec (0.00028 deg) to 90 deg"),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Cone(_Strict):
    """A circle on the sky."""

    ra: Degrees  # centre, deg ICRS
    dec: float = Field(ge=-90, le=90)
    radius: float = Field(ge=1 / 3600, le=90)  # in degrees; at least 1 arcsec


class Spectroscopic(_Strict):
    """Objects with a spectrum whose redshift has no warning, and their photometry."""

    runs: tuple[Run, ...] = ()  # imaging runs; all where empty
    # of `gqs.labels.CLASSES`
    classes: tuple[Literal["GALAXY", "QSO", "STAR"], ...] = labels.CLASSES
    # "model", "psf" or "cmodel": the kind that becomes u g r i z
    magnitudes: Literal["model", "psf", "cmodel"] = "model"
    band: Literal["u", "g", "r", "i", "z"] = "r"  # the band that `bright` and `faint` limit
    bright: Magnitude | None = None  # limits in magnitudes, both included
    faint: Magnitude | None = None
    cone: Cone | None = None  # part of the sky
    # only the best spectrum of a place (sciencePrimary) and the primary image (mode 1)
    primary: bool = True
    # "full", or "paper": Figure 9 as printed, which knows runs and classes alone
    form: Literal["full", "paper"] = "full"

    @model_validator(mode="after")
    def _consistent(self) -> Spectroscopic:
        if not self.classes:
            raise ValueError("name at least one class")
        if self.bright is not None and self.faint is not None and self.bright > self.faint:
            raise ValueError("the bright limit is the smaller number")
        plain = Spectroscopic.model_construct(runs=self.runs, classes=self.classes, form="paper")
        if self.form == "paper" and self != plain:
            raise ValueError("the paper's query takes runs and classes, nothing else")
        return self

    def sql(
        self, first: int | None = None, rows: int | None = None, table: str | None = None
    ) -> str:
        """Return the query as SQL."""
        return bind(
            FORMS[self.form],
            {**self._values(), "first": first, "rows": rows},
            {"kind": KINDS[self.magnitudes], "band": self.band, "table": table},
        )

    def count_sql(self) -> str:
        """Return the query that counts the rows of `sql`."""
        return counting(self.sql())

    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that `sql` asks for."""
        return columns_of(self.sql())

    def _values(self) -> dict[str, Value]:
        values: dict[str, Value] = {
            "runs": tuple(sorted(set(self.runs))) or None,
            "classes": tuple(name for name in labels.CLASSES if name in self.classes),
            "primary": 1 if self.primary else None,
            "bright": self.bright,
            "faint": self.faint,
            **dict.fromkeys(("x", "y", "z", "cosine")),
        }
        if self.cone is not None:
            ra, dec = math.radians(self.cone.ra), math.radians(self.cone.dec)
            values["x"], values["y"] = math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra)
            values["z"] = math.sin(dec)
            values["cosine"] = math.cos(math.radians(self.cone.radius))
        return values


def parse(
    runs: str = "",
    classes: str = "",
    limits: str = "",
    cone: str = "",
    **settings: Any,
) -> Spectroscopic:
    """Read a request as it is typed."""
    given = dict(settings)
    typed = {"runs": runs, "classes": classes, "limits": limits, "cone": cone}
    _agrees_with_form(typed, settings)
    if runs:
        given["runs"] = tuple(_whole(part, runs) for part in runs.split(","))
    if classes:
        given["classes"] = tuple(part.strip() for part in classes.split(","))
    if limits:
        match = re.fullmatch(r"([ugriz])=([0-9.]*?)\.\.([0-9.]*)", limits.strip())
        if match is None or not (match[2] or match[3]):
            raise _wrong("limits", limits, "write band=bright..faint, as in r=13.1..23.2")
        given["band"] = match[1]
        bright, faint = (
            _number(part, "magnitude", "limits", limits) if part else None
            for part in match.groups()[1:]
        )
        if bright is not None and faint is not None and bright > faint:
            swapped = f"{match[1]}={match[3]}..{match[2]}"
            raise _wrong("limits", limits, f"the bright limit is the smaller number: {swapped}")
        given["bright"], given["faint"] = bright, faint
    if cone:
        parts = cone.split(",")
        if len(parts) != 3:
            raise _wrong("cone", cone, "write ra,dec,radius in deg, as in 229.5,42.8,0.2")
        numbers = [_number(part, "angle", "cone", cone) for part in parts]
    try:
        if cone:
            given["cone"] = Cone(ra=numbers[0], dec=numbers[1], radius=numbers[2])
        return Spectroscopic(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if name in _RANGES:
            option, reason = _RANGES[name]
            raise _wrong(option, typed[option], reason) from error
        reason = first["msg"].removeprefix("Value error, ")
        raise _wrong(name or "form", str(first["input"]), reason) from error


def _agrees_with_form(typed: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Refuse, by its name, what the paper's query does not know."""
    if settings.get("form", "full") != "paper":
        return
    extra = [f"--{name} {typed[name][:60]!r}" for name in ("limits", "cone") if typed[name]]
    if settings.get("magnitudes", "model") != "model":
        extra.append(f"--magnitudes {str(settings['magnitudes'])[:60]!r}")
    if not settings.get("primary", True):
        extra.append("--all-spectra")
    if extra:
        raise UsageError(
            f"--form paper takes --runs and --classes alone, as Figure 9 does: leave "
            f"{' and '.join(extra)} out, or --form paper."
        )


def _wrong(option: str, text: str, reason: str) -> UsageError:
    return UsageError(f"--{option} {text[:60]!r}: {reason}.")


def _whole(part: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", part.strip()):
        raise _wrong("runs", text, f"{part[:60]!r} is no run: write a whole number")
    return int(part)


def _number(part: str, what: str, option: str, text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", part.strip()):
        raise _wrong(option, text, f"{part[:60]!r} is no {what}: write a number")
    return float(part)


def bind(name: str, values: Mapping[str, Value], names: Mapping[str, str | None]) -> str:
    """Put typed values into one of the files of `queries/`."""
    text = resources.files("gqs.archive").joinpath("queries", f"{name}.sql").read_text("utf-8")
    lines = []
    for line in text.splitlines():
        if line.startswith("--"):
            continue
        wanted, named = re.findall(r":(\w+)", line), re.findall(r"\{(\w+)\}", line)
        absent = [values[key] is None for key in wanted] + [names[key] is None for key in named]
        if any(absent):
            continue
        for key in named:
            line = line.replace("{" + key + "}", _identifier(names[key]))
        lines.append(re.sub(r":(\w+)", lambda found: _literal(values[found[1]]), line))
    return "\n".join(lines)


def _identifier(name: str | None) -> str:
    if name in KINDS.values() or name in tuple("ugriz") or _TABLE.fullmatch(name or ""):
        return str(name)
    raise ValueError(f"{name!r} is no name that a query may hold.")


def _literal(value: Value) -> str:
    if isinstance(value, tuple):
        return ", ".join(_literal(one) for one in value)
    if type(value) is int:
        return str(value) if value >= 0 else f"({value})"
    if type(value) is float and math.isfinite(value):
        return repr(value) if value >= 0 else f"({value!r})"  # two dashes would begin a comment
    if isinstance(value, str) and value in labels.CLASSES:
        return f"'{value}'"
    raise ValueError(f"{value!r} is no value that a query may hold.")


def counting(sql: str) -> str:
    """Turn a query of rows into the query that counts them."""
    lines = sql.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("FROM"))
    return "\n".join(
        ["SELECT COUNT(*) AS objects"]
        + [line for line in lines[start:] if not line.startswith("ORDER BY")]
    )


def columns_of(sql: str) -> tuple[str, ...]:
    """Return the names of the columns that a query asks for."""
    listed = re.split(r"\n(?:INTO|FROM)\b", sql)[0].removeprefix("SELECT\n")
    listed = re.sub(r"^TOP \d+\n", "", listed)
    return tuple(re.split(r"[ .]", part.strip())[-1].lower() for part in listed.split(","))


def schema_note(release: int) -> str:
    """Say what a release's names of tables and columns were checked against."""
    file = resources.files("gqs.archive").joinpath("queries", "schema.toml")
    return str(tomllib.loads(file.read_text("utf-8"))["checked"][str(release)])
