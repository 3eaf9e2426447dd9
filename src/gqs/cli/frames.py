"""Frames for the verbs that classify: files on disk, or fields fetched from the archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gqs.cli.app import given_on_command_line, print_note
from gqs.cli.options import FrameSource
from gqs.cli.progress import progress_bar
from gqs.errors import BadInputError, UsageError
from gqs.files import below

if TYPE_CHECKING:
    from gqs.surveys.sdss import FieldId

FITS_ENDINGS = (".fits", ".fits.bz2", ".fits.gz", ".fit")


class Frames(NamedTuple):
    """Paths of frames, a sentence for each frame that is missing, and the exit code for those."""

    paths: list[Path]
    set_aside: list[str]
    code: int


def check_release_used(used: bool, users: str) -> None:
    """Refuse a --release that would have no effect."""
    if not used and given_on_command_line("release"):
        raise UsageError(f"--release has an effect only with {users}.")


def gather_frames(source: FrameSource, bands: str) -> Frames:
    """List the frames that are named, or fetch those of the named fields."""
    from gqs.archive import fetch, frames_folder
    from gqs.archive.frame_list import frames_of
    from gqs.imaging.frames import check_frame
    from gqs.surveys.sdss import REFERENCE_BAND

    if bool(source.frames) == source.to_fetch:
        raise UsageError("Name frames, or fields to fetch by --field or by --ra and --dec.")
    if not source.to_fetch and (source.cache or source.mirror or source.server):
        raise UsageError("--cache, --mirror and --server need --field, or --ra and --dec.")
    if not source.to_fetch:
        return Frames(frame_files(source.frames or []), [], BadInputError.exit_code)
    fields = fields_to_fetch(
        None, source.field, source.ra, source.dec, source.release, source.server
    )
    with progress_bar("Fetching frames") as progress:
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
    return Frames(list(report.paths.values()), report.set_aside, code)


def fields_to_fetch(
    catalog: Path | None,
    names: Sequence[str] | None,
    ra: float | None,
    dec: float | None,
    release: str,
    server: str | None,
) -> list[FieldId]:
    """Fields of a catalogue, by name, or the one that covers a position."""
    from gqs.archive.frame_list import fields_of
    from gqs.surveys.sdss import FieldId

    if (ra is None) != (dec is None):
        raise UsageError("--ra and --dec are needed together.")
    if [catalog is not None, bool(names), ra is not None].count(True) != 1:
        raise UsageError("Choose the frames by one of --catalog, --field, or --ra and --dec.")
    if server is not None and ra is None:
        raise UsageError("--server needs --ra and --dec: only a position is looked up there.")
    if catalog is not None:
        return fields_of(catalog)
    if ra is None or dec is None:
        return [FieldId.parse(text) for text in names or ()]
    from gqs.archive.skyserver import fields_at

    found = fields_at(ra, dec, release, server)
    if not found:
        raise BadInputError(f"No field of release {release} covers ra {ra}, dec {dec}.")
    run, camcol, number = found[0]
    print_note(f"ra {ra}, dec {dec} is on field {run}-{camcol}-{number}.")
    return found[:1]


def frame_files(paths: Sequence[Path]) -> list[Path]:
    """List frames: files as they are named, and all frames inside folders, at any depth."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in below(path) if file.name.endswith(FITS_ENDINGS)]
            if not inside:
                raise UsageError(f"{path}: contains no frames ({', '.join(FITS_ENDINGS)}).")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder.")
    return list(dict.fromkeys(files))
