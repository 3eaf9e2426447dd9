"""Descriptions of surveys as data: bands, pixel scale and zero point of labelled images."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gqs.errors import UsageError
from gqs.surveys.sdss import store_bands

_FOLDER: Final = "descriptions"


class Survey(BaseModel):
    """What an image of a survey means."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    about: str = ""
    source: str = ""
    bands: str  # a letter for each plane: u g r i z, or capital letters for other bands
    pixel_scale: Annotated[float, Field(ge=0.01, le=10)]  # arcsec
    zero_point: float  # AB magnitude of one unit of the pixels


def names() -> list[str]:
    """Names of the surveys in the package."""
    folder = resources.files("gqs.surveys") / _FOLDER
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def text_of(name: str | Path) -> str:
    """The TOML of a survey in the package, or of a file that ends in .toml."""
    if str(name).endswith(".toml"):
        try:
            return Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{name}: cannot be read as a survey ({error}).") from error
    if str(name) not in names():
        raise UsageError(
            f"Unknown survey {str(name)!r}. The surveys are {', '.join(names())}, or a file that "
            "ends in .toml."
        )
    return (resources.files("gqs.surveys") / _FOLDER / f"{name}.toml").read_text("utf-8")


def load(name: str | Path) -> Survey:
    """Read and check a survey's description."""
    try:
        survey = Survey.model_validate(tomllib.loads(text_of(name)))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Survey {name}: cannot be read as TOML ({error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"Survey {name}: {key}: {first['msg']}. The keys are {', '.join(Survey.model_fields)}."
        ) from error
    store_bands(survey.bands)
    return survey
