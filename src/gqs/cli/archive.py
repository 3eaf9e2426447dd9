"""Verbs that fetch from SDSS's archive: fetch, dataset; before them comes query."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gqs.cli.querying import PANEL
from gqs.cli.querying import Release as Release
from gqs.cli.querying import Server as Server
from gqs.cli.shell import AsJson, Edge, Form, Processes, Seed, app, bar, finish, say
from gqs.errors import BadInputError, UsageError

if TYPE_CHECKING:
    from gqs.archive import FetchReport, Plan
    from gqs.surveys.sdss import FieldId

Mirror = Annotated[
    str | None,
    typer.Option(help="Another server in place of the archive's, same paths.", metavar="URL"),
]
Connections = Annotated[int, typer.Option(min=1, max=64, help="Files fetched at once; be polite.")]


@app.command(rich_help_panel=PANEL)
def fetch(
    catalog: Annotated[
        Path | None,
        typer.Option(help="Frames of all fields in this catalogue (run, camcol, field)."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="Frames of this field, as in 3918-3-213; may be repeated."),
    ] = None,
    ra: Annotated[
        float | None,
        typer.Option(help="Right ascension, deg; with --dec. SkyServer is asked for the field."),
    ] = None,
    dec: Annotated[float | None, typer.Option(help="Declination, deg; with --ra.")] = None,
    bands: Annotated[str, typer.Option(help="Bands as one word, as in gri.")] = "ugriz",
    release: Release = "16",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of frames.  \\[default: $GQS_CACHE, or gqs in the user's cache]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many files and bytes; fetch nothing.")
    ] = False,
    connections: Connections = 8,
    mirror: Mirror = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Fetch frames from the SDSS archive: resumed, checked, and kept for every other verb.

    A frame has its name only when it is whole and its header is the field and band asked for.
    FOLDER/manifest.sqlite says of every file whether it is wanted, here, or set aside and why;
    FOLDER/set_aside.csv lists those that are set aside, if any. However it ends, the same command
    goes on from there.

    Examples:

      gqs fetch --field 3918-3-213 --out frames

      gqs fetch --catalog objects.parquet --bands gri --out frames --dry-run

      gqs fetch --ra 185.4 --dec 12.7 --out frames
    """
    from gqs.archive import fetch as fetch_frames
    from gqs.archive import frames_folder, plan
    from gqs.archive.frame_list import frames_of
    from gqs.archive.manifest import SET_ASIDE
    from gqs.archive.releases import find
    from gqs.imaging.frames import check_frame

    chosen, folder = find(release), out or frames_folder()
    frames = frames_of(fields_asked(catalog, field or [], ra, dec, release, server), bands)
    if dry_run:
        planned = plan(frames, folder, chosen, mirror, connections=connections)
        say(_told(planned, folder), {**planned.__dict__, "to_come": planned.to_come}, as_json)
        return
    with bar("Fetching frames") as progress:
        report = fetch_frames(
            frames,
            folder,
            check=check_frame,
            release=chosen,
            mirror=mirror,
            connections=connections,
            progress=progress,
        )
    lines = [_fetched_line(report, len(frames), folder), *_next(report, folder, catalog)]
    say(lines, report.as_dict(), as_json)
    finish(report.set_aside, report.code, folder / SET_ASIDE)


def fields_asked(
    catalog: Path | None,
    field: list[str],
    ra: float | None,
    dec: float | None,
    release: str,
    server: str | None,
) -> list[FieldId]:
    """Return fields as the options name them; the one that a position lies on is told."""
    from gqs.archive.frame_list import fields_of
    from gqs.surveys.sdss import FieldId

    if (ra is None) != (dec is None):
        raise UsageError("--ra and --dec go together.")
    if [catalog is not None, bool(field), ra is not None].count(True) != 1:
        raise UsageError("Name the frames by one of --catalog, --field, and --ra with --dec.")
    if server is not None and ra is None:
        raise UsageError("--server goes with --ra and --dec: nothing else asks SkyServer.")
    if catalog is not None:
        return fields_of(catalog)
    if ra is None or dec is None:
        return [FieldId.parse(text) for text in field]
    from gqs.archive.skyserver import fields_at

    found = fields_at(ra, dec, release, server)
    if not found:
        raise BadInputError(f"No field of release {release} covers ra {ra}, dec {dec}.")
    run, camcol, number = found[0]
    print(f"ra {ra}, dec {dec} lie on field {run}-{camcol}-{number}.", file=sys.stderr)
    return found[:1]


def _told(planned: Plan, folder: Path) -> list[str]:
    lines = [
        f"{planned.to_come} of {planned.wanted} frames to fetch into {folder}, "
        f"{planned.bytes / 1e6:,.1f} MB; {planned.here} are here."
    ]
    if planned.to_come > planned.asked:
        how = f"{planned.asked} of them" if planned.asked else "twenty real frames"
        lines.append(f"  the bytes are estimated from the sizes of {how}")
    if planned.absent:
        lines.append(
            f"  {planned.absent} were absent when last asked; they will be asked once more"
        )
    return lines


def _fetched_line(report: FetchReport, wanted: int, folder: Path) -> str:
    here = len(report.paths)
    if here == wanted and not report.fetched:
        return f"All {wanted} frames are here ({folder})."
    line = f"{here} of {wanted} frames in {folder}: {report.fetched} fetched"
    size, came = (f"{count / 1e6:,.1f} MB" for count in (report.size, report.bytes))
    if report.fetched:
        speed = report.bytes / max(report.seconds, 1e-3) / 1e6
        line += f", {size} in {report.seconds:.1f} s, {speed:.1f} MB/s"
    return f"{line}." if came == size else f"{line}; {came} came over the network."


def _next(report: FetchReport, folder: Path, catalog: Path | None) -> list[str]:
    """Name the next command; there is none without an r frame, onto whose grid all others go."""
    from gqs.surveys.sdss import BANDS

    bands = "".join(band for band in BANDS if any(name.band == band for name in report.paths))
    if "r" not in bands:
        return []
    frames = shlex.quote(str(folder))
    if catalog is None:
        return [f"Next: gqs classify {frames} --out catalogue.fits"]
    some = "" if bands == BANDS else f" --bands {bands}"
    cut = f"gqs cutouts {frames} --catalog {shlex.quote(str(catalog))} --out cutouts{some}"
    return [f"Next: {cut}"]


@app.command(rich_help_panel=PANEL)
def dataset(
    name: Annotated[Literal["paper"], typer.Argument(help="Which: the paper's, by runs.")],
    runs: Annotated[str, typer.Option(help="Imaging runs, in the order in which they fill up.")],
    out: Annotated[Path, typer.Option(help="Folder to write; a rerun continues there.")],
    frames: Annotated[
        Path | None, typer.Option(help="Folder of frames.  \\[default: frames in --out]")
    ] = None,
    release: Release = "16",
    form: Form = "paper",
    bands: Annotated[
        str | None, typer.Option(help="Bands of --form flux, as one word.  \\[default: ugriz]")
    ] = None,
    edge: Edge = "paper",
    scheme: Annotated[
        Literal["paper", "grouped"],
        typer.Option(help="Objects at random (paper 3.4), or whole fields on one side."),
    ] = "paper",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Query, then say bytes and hours; fetch nothing.")
    ] = False,
    connections: Connections = 8,
    mirror: Mirror = None,
    server: Server = None,
    seed: Seed = 1,
    workers: Processes = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's data set: query, balance by run, fetch, cut out and split (paper 3.1-3.4).

    All quasars are kept; galaxies and stars of the first runs, until there are as many. It says
    beforehand what it will take, and can be stopped at any point and continued.

    Examples:

      gqs dataset paper --runs 3430,3434,3437,3438 --out paper --dry-run

      gqs dataset paper --runs 3430,3434,3437,3438 --out paper

      gqs dataset paper --runs 3430,3434 --out five --form flux --edge pad --scheme grouped
    """
    from gqs.archive.query import parse
    from gqs.reproduce import paper_dataset, paper_dataset_plan
    from gqs.surveys.sdss import BANDS

    if bands and form == "paper":
        raise UsageError("--bands goes with --form flux: the paper's picture is of g, r and i.")
    wish = paper_dataset_plan.Wish(
        runs=parse(runs=runs).runs,
        out=out,
        frames=frames,
        release=release,
        form=form,
        bands=bands or BANDS,
        edge=edge,
        scheme=scheme,
        seed=seed,
        server=server,
        mirror=mirror,
        connections=connections,
        workers=workers,
    )
    ahead = paper_dataset_plan.outlook(wish, paper_dataset_plan.catalogue(wish, bar))
    if dry_run:
        say(ahead.lines(), ahead.as_dict(), as_json)
        return
    print("\n".join(ahead.lines()), file=sys.stderr)
    made = paper_dataset.make(wish, ahead, bar)
    say(made.lines(), {"store": made.store, **made.split.meta}, as_json)
    finish(made.set_aside, made.code)
