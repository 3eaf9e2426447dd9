"""Frames for the verbs that judge what is on them: those named, or fetched first."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from gqs.cli.archive import fields_asked
from gqs.cli.shell import bar, frame_files
from gqs.errors import BadInputError, UsageError

Cache = Annotated[
    Path | None,
    typer.Option(
        help="Folder of fetched frames.  \\[default: $GQS_CACHE, or gqs in the user's cache]"
    ),
]
Model = Annotated[
    Path | None, typer.Option(help="Model folder.  \\[default: the one in the package]")
]

Engine = Annotated[
    str,
    typer.Option(
        help="torch, onnx or openvino, with a precision as in openvino:bf16; auto: the fastest "
        "here in fp32. All are held against torch first."
    ),
]


def said_of_missing(lacking: Mapping[str, int], fields: int) -> list[str]:
    """Say which of the model's bands are missing; their rows have the flag MISSING_BAND."""
    from gqs.surveys.sdss import BANDS

    missing = [band for band in BANDS if any(band in bands for bands in lacking)]
    if not missing:
        return []
    *others, last = missing
    which = f"Bands {', '.join(others)} and {last} are" if others else f"Band {last} is"
    some = sum(lacking.values())
    where = "" if some == fields else f" in {some:,} of the {fields:,} fields"
    return [f"{which} missing{where}, which the model knows: results are worse for it."]


def note(sentence: str) -> None:
    """Tell on standard error what takes time or was passed over."""
    print(sentence, file=sys.stderr, flush=True)


class Source(NamedTuple):
    """Where fetched frames come from and go to, as the options say it."""

    release: str
    cache: Path | None
    mirror: str | None
    server: str | None


class Taken(NamedTuple):
    """Frames that are here, a sentence for each that is not, and the exit code for those."""

    paths: list[Path]
    set_aside: list[str]
    code: int


def refuse_idle_release(context: typer.Context, used: bool, users: str) -> None:
    """Refuse a --release that would do nothing."""
    origin = context.get_parameter_source("release")
    if not used and origin is not None and origin.name == "COMMANDLINE":
        raise UsageError(f"--release goes with {users}.")


def take(
    frames: list[Path] | None,
    field: list[str] | None,
    ra: float | None,
    dec: float | None,
    bands: str,
    source: Source,
) -> Taken:
    """List the frames named, or bring those of the fields asked for."""
    from gqs.archive import fetch, frames_folder
    from gqs.archive.frame_list import frames_of
    from gqs.imaging.frames import check_frame
    from gqs.surveys.sdss import REFERENCE_BAND

    asked = bool(field) or ra is not None or dec is not None
    if bool(frames) == asked:
        raise UsageError("Name frames, or fields to fetch by --field or by --ra with --dec.")
    if not asked and (source.cache or source.mirror or source.server):
        raise UsageError("--cache, --mirror and --server go with --field, or --ra with --dec.")
    if not asked:
        return Taken(frame_files(frames or []), [], BadInputError.exit_code)
    fields = fields_asked(None, field or [], ra, dec, source.release, source.server)
    with bar("Fetching frames") as progress:
        report = fetch(
            frames_of(fields, "".join({*bands, REFERENCE_BAND})),
            source.cache or frames_folder(),
            check=check_frame,
            release=source.release,
            mirror=source.mirror,
            progress=progress,
        )
    report.refuse_none()
    code = report.code or BadInputError.exit_code
    return Taken(list(report.paths.values()), report.set_aside, code)
