"""Verbs that get data from SDSS: query, fetch, dataset."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gqs.cli.app import DATA, finish, print_note, print_result, verb
from gqs.cli.frames import fields_to_fetch
from gqs.cli.options import (
    ARCHIVE,
    INPUT,
    OUTPUT,
    AsJson,
    Connections,
    Edge,
    Form,
    Mirror,
    Release,
    Seed,
    Server,
    Workers,
    option,
)
from gqs.cli.progress import progress_bar
from gqs.errors import BadInputError, GqsError, UsageError
from gqs.formatting import plural, size

if TYPE_CHECKING:
    from astropy.table import Table

    from gqs.archive import FetchReport, Plan

PAGE_ROWS = 50_000
WAIT_HOURS = 24.0


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """Options of `gqs query`."""

    out: Annotated[
        Path | None,
        option("Catalogue to write: .parquet, .fits, .vot, .ecsv or .csv.", panel=OUTPUT),
    ] = None
    runs: Annotated[str, option("Imaging runs, such as 3430,3434.  \\[default: all]")] = ""
    classes: Annotated[str, option("Of GALAXY,QSO,STAR.  \\[default: all]")] = ""
    limits: Annotated[
        str, option("Magnitude range in one band, such as r=13.1..23.2 or r=..20.")
    ] = ""
    cone: Annotated[str, option("Cone in degrees: ra,dec,radius, such as 229.5,42.8,0.2.")] = ""
    magnitudes: Annotated[
        Literal["model", "psf", "cmodel"], option("Kind of magnitudes u, g, r, i and z.")
    ] = "model"
    all_spectra: Annotated[
        bool,
        option("Include spectra that are not sciencePrimary or not of mode 1.", "--all-spectra"),
    ] = False
    form: Annotated[
        Literal["full", "paper"], option("All columns, or the paper's own query (Figure 9).")
    ] = "full"
    release: Annotated[
        str | None,
        option(
            "Data release, 8 to the newest; required with --csv.  \\[default: 16]", panel=ARCHIVE
        ),
    ] = None
    via: Annotated[
        Literal["skyserver", "casjobs"],
        option("Pages of SQL from SkyServer, or one CasJobs batch job.", panel=ARCHIVE),
    ] = "skyserver"
    server: Server = None
    token_file: Annotated[
        Path | None,
        option(
            "File with a SciServer token.  \\[default: the variable GQS_CASJOBS_TOKEN]",
            panel=ARCHIVE,
        ),
    ] = None
    wait: Annotated[
        float | None,
        option(
            f"Hours to wait for a batch job.  \\[default: {WAIT_HOURS:.0f}]",
            panel=ARCHIVE,
            min=0.0,
        ),
    ] = None
    csv: Annotated[
        Path | None,
        option("Read this CSV file, exported from SkyServer by hand, instead.", panel=INPUT),
    ] = None
    page_rows: Annotated[
        int, option("Rows of a page; may change on a rerun.", panel=ARCHIVE, min=100, max=500_000)
    ] = PAGE_ROWS
    show_sql: Annotated[
        bool, option("Print the SQL and exit, without network access.", "--show-sql")
    ] = False
    dry_run: Annotated[
        bool, option("Print the SQL and the number of rows, and exit.", "--dry-run")
    ] = False
    as_json: AsJson = False

    def check(self) -> None:
        """Refuse options that contradict each other."""
        selection = (self.runs, self.classes, self.limits, self.cone, self.all_spectra)
        asking = (*selection, self.server, self.token_file, self.wait, self.show_sql, self.dry_run)
        kinds = (self.form, self.magnitudes, self.via, self.page_rows)
        changed = kinds != ("full", "model", "skyserver", PAGE_ROWS)
        for wrong, sentence in (
            (
                self.csv and (any(asking) or changed),
                "--csv takes only --out and --release.",
            ),
            (
                self.csv and not self.release,
                "--csv needs the --release it was exported from; the file does not contain it.",
            ),
            (
                self.via != "casjobs" and (self.token_file or self.wait is not None),
                "--token-file and --wait need --via casjobs.",
            ),
            (self.show_sql and self.dry_run, "--dry-run prints the SQL too: remove --show-sql."),
            (
                not (self.show_sql or self.dry_run or self.out),
                "Name the catalogue to write with --out.",
            ),
        ):
            if wrong:
                raise UsageError(sentence)


@verb(panel=DATA)
def query(options: QueryOptions) -> None:
    """Query SDSS for spectroscopically classified objects with photometry; writes a catalogue.

    Rows are counted first and then read page by page; run again to continue an interrupted query.

    Examples:

      gqs query --out catalog.parquet --runs 3430,3434 --limits r=13.1..23.2

      gqs query --show-sql --form paper --runs 3430 --classes GALAXY

      gqs query --out catalog.parquet --csv exported.csv --release 16
    """
    from gqs.archive.query import parse, schema_note
    from gqs.archive.releases import DEFAULT, find

    options.check()
    number = find(options.release or DEFAULT).number
    if options.csv:
        _import_csv(options.csv, number, options)
        return
    request = parse(
        options.runs,
        options.classes,
        options.limits,
        options.cone,
        magnitudes=options.magnitudes,
        primary=not options.all_spectra,
        form=options.form,
    )
    checked = f"DR{number}; columns checked against: {schema_note(number)}"
    lines = [f"-- {checked}", request.sql()]
    values: dict[str, Any] = {"release": number, "sql": request.sql()}
    if options.show_sql:
        print_result(lines, values | {"checked": checked}, options.as_json)
        return
    address: dict[str, Any] = {"release": number, "server": options.server}
    if options.via == "casjobs":
        from gqs.archive.sciserver import Token

        address["token"] = Token.find(options.token_file)
    if options.dry_run:
        from gqs.archive import casjobs, skyserver

        rows = (casjobs if options.via == "casjobs" else skyserver).count(request, **address)
        lines.append(f"-- {plural(rows, 'row')}")
        print_result(lines, values | {"rows": rows}, options.as_json)
        return
    _run_query(request, address, options)


def _run_query(request: Any, address: dict[str, Any], options: QueryOptions) -> None:
    """Run a query page by page, or as a batch job, and write the catalogue."""
    from gqs import tables

    out = options.out
    assert out is not None  # checked
    number = address["release"]
    tables.check_ending(out)
    _refuse_overwriting(out, {"sql": request.sql(), "release": f"DR{number}"})
    pages = out.parent / f".{out.name}.pages"
    with progress_bar("Querying SDSS") as progress:
        settings = {
            **address,
            "folder": pages,
            "page_rows": options.page_rows,
            "progress": progress,
        }
        if options.via == "casjobs":
            from gqs.archive import casjobs

            hours = WAIT_HOURS if options.wait is None else options.wait
            catalogue = casjobs.pull(request, **settings, wait_s=hours * 3600)
        else:
            from gqs.archive import skyserver

            catalogue = skyserver.pull(request, **settings)
    if not len(catalogue):
        shutil.rmtree(pages, ignore_errors=True)
        raise _no_rows(
            catalogue,
            f"No spectroscopic object in DR{number} matches this query; nothing was written. "
            "Widen --runs, --classes, --limits or --cone.",
        )
    _write_catalogue(catalogue, out, options.as_json)
    shutil.rmtree(pages, ignore_errors=True)  # only once the catalogue is on disk
    finish(catalogue.meta["set_aside"])


def _import_csv(csv: Path, release: int, options: QueryOptions) -> None:
    """Convert a CSV file that was exported by hand into a catalogue."""
    from gqs import tables
    from gqs.archive.exported_csv import read_export

    assert options.out is not None  # checked
    tables.check_ending(options.out)
    catalogue = read_export(csv, release)
    if not len(catalogue):
        raise _no_rows(catalogue, f"{csv}: contains no objects.")
    identity = {key: catalogue.meta[key] for key in ("sha256", "release")}
    _refuse_overwriting(options.out, identity)
    _write_catalogue(catalogue, options.out, options.as_json)
    finish(catalogue.meta["set_aside"])


def _refuse_overwriting(out: Path, identity: dict[str, str]) -> None:
    """Refuse to overwrite a file unless it is an earlier result of the same query."""
    from gqs import tables

    if not out.exists():
        return
    try:
        meta = tables.read(out).meta
    except GqsError:
        meta = {}
    if any(meta.get(key) != value for key, value in identity.items()):
        what = "contains the result of another query" if "release" in meta else "exists already"
        raise UsageError(f"{out}: {what} and is not overwritten. Delete it, or name another file.")


def _no_rows(catalogue: Table, sentence: str) -> BadInputError:
    """The error for a catalogue without rows: the reason of the first row set aside, if any."""
    set_aside = catalogue.meta["set_aside"]
    if set_aside:
        sentence = f"None of {len(set_aside)} rows can be used; the first: {set_aside[0]}"
    return BadInputError(sentence)


def _write_catalogue(catalogue: Table, out: Path, as_json: bool) -> None:
    from gqs import labels, tables

    tables.write(catalogue, out)
    counts = {name: int((catalogue["class"] == name).sum()) for name in labels.CLASSES}
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    noun = "object" if len(catalogue) == 1 else "objects"
    lines = [f"{len(catalogue)} {noun} of {catalogue.meta['release']} in {out}: {listed}."]
    if repeats := catalogue.meta.get("repeats"):
        spectra = "spectrum" if repeats == 1 else "spectra"
        lines.append(f"{repeats} further {spectra} of the same objects left out.")
    lines.append(f"Next: gqs fetch --catalog {out} --out frames")
    print_result(lines, {"catalogue": out, "classes": counts, **catalogue.meta}, as_json)


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Options of `gqs fetch`."""

    catalog: Annotated[
        Path | None,
        option("Fetch all fields of this catalogue (run, camcol, field).", panel=INPUT),
    ] = None
    field: Annotated[
        list[str] | None,
        option("Fetch this field, such as 3918-3-213; repeatable.", panel=INPUT),
    ] = None
    ra: Annotated[
        float | None,
        option(
            "Right ascension in degrees, with --dec; SkyServer is asked for the field there.",
            panel=INPUT,
        ),
    ] = None
    dec: Annotated[float | None, option("Declination in degrees.", panel=INPUT)] = None
    bands: Annotated[str, option("Bands as one word, such as gri.")] = "ugriz"
    release: Release = "16"
    out: Annotated[
        Path | None,
        option(
            "Folder of frames.  \\[default: $GQS_CACHE, or gqs in the user's cache]",
            panel=OUTPUT,
        ),
    ] = None
    dry_run: Annotated[
        bool, option("Print the number of files and bytes, and exit.", "--dry-run")
    ] = False
    connections: Connections = 8
    mirror: Mirror = None
    server: Server = None
    as_json: AsJson = False


@verb(panel=DATA)
def fetch(options: FetchOptions) -> None:
    """Fetch frames from the SDSS archive into a folder that the other verbs read.

    A file gets its final name only when it is complete and its header shows the requested field
    and band. FOLDER/manifest.sqlite lists the state of every file, FOLDER/set_aside.csv the files
    set aside and why. Run again to continue an interrupted fetch.

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

    release, folder = find(options.release), options.out or frames_folder()
    fields = fields_to_fetch(
        options.catalog, options.field, options.ra, options.dec, options.release, options.server
    )
    frames = frames_of(fields, options.bands)
    if options.dry_run:
        planned = plan(frames, folder, release, options.mirror, connections=options.connections)
        values = {**planned.__dict__, "to_come": planned.to_come}
        print_result(_plan_lines(planned, folder), values, options.as_json)
        return
    with progress_bar("Fetching frames") as progress:
        report = fetch_frames(
            frames,
            folder,
            check=check_frame,
            release=release,
            mirror=options.mirror,
            connections=options.connections,
            progress=progress,
        )
    lines = [
        _fetched_line(report, len(frames), folder),
        *_next_command(report, folder, options.catalog),
    ]
    print_result(lines, report.as_dict(), options.as_json)
    finish(report.set_aside, report.code, folder / SET_ASIDE)


def _plan_lines(planned: Plan, folder: Path) -> list[str]:
    lines = [
        f"{planned.to_come} of {planned.wanted} frames to fetch into {folder}, "
        f"{size(planned.bytes)}; {planned.here} are on disk."
    ]
    if planned.to_come > planned.asked:
        sample = f"{planned.asked} of them" if planned.asked else "twenty real frames"
        lines.append(f"  the size is estimated from {sample}")
    if planned.absent:
        lines.append(f"  {planned.absent} were missing on the server before and are tried again")
    return lines


def _fetched_line(report: FetchReport, wanted: int, folder: Path) -> str:
    on_disk = len(report.paths)
    if on_disk == wanted and not report.fetched:
        return f"All {wanted} frames are on disk ({folder})."
    line = f"{on_disk} of {wanted} frames in {folder}: {report.fetched} fetched"
    held, transferred = size(report.size), size(report.bytes)
    if report.fetched:
        speed = report.bytes / max(report.seconds, 1e-3) / 1e6
        line += f", {held} in {report.seconds:.1f} s, {speed:.1f} MB/s"
    return f"{line}." if transferred == held else f"{line}; {transferred} were transferred."


def _next_command(report: FetchReport, folder: Path, catalog: Path | None) -> list[str]:
    """The next command to type; none without r frames, which everything else needs."""
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


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Options of `gqs dataset`."""

    name: Annotated[Literal["paper"], typer.Argument(help="Data set: the paper's, by runs.")]
    runs: Annotated[str, option("Imaging runs, in the order in which they are used.")]
    out: Annotated[
        Path, option("Folder to write; run again to continue an interrupted run.", panel=OUTPUT)
    ]
    frames: Annotated[
        Path | None, option("Folder of frames.  \\[default: frames in --out]", panel=OUTPUT)
    ] = None
    release: Release = "16"
    form: Form = "paper"
    bands: Annotated[
        str | None, option("Bands for --form flux, as one word.  \\[default: ugriz]")
    ] = None
    edge: Edge = "paper"
    scheme: Annotated[
        Literal["paper", "grouped"],
        option("paper: random objects (section 3.4); grouped: whole fields on one side."),
    ] = "paper"
    dry_run: Annotated[
        bool, option("Query, then print bytes and hours, and exit.", "--dry-run")
    ] = False
    connections: Connections = 8
    mirror: Mirror = None
    server: Server = None
    seed: Seed = 1
    workers: Workers = None
    as_json: AsJson = False


@verb(panel=DATA)
def dataset(options: DatasetOptions) -> None:
    """Build the paper's data set: query, balance by run, fetch, extract and split (paper 3.1-3.4).

    All quasars are kept, with galaxies and stars of the first runs until there are as many. The
    cost is printed first. Run again to continue an interrupted run.

    Examples:

      gqs dataset paper --runs 3430,3434,3437,3438 --out paper --dry-run

      gqs dataset paper --runs 3430,3434,3437,3438 --out paper

      gqs dataset paper --runs 3430,3434 --out five --form flux --edge pad --scheme grouped
    """
    from gqs.archive.query import parse
    from gqs.reproduce.paper_dataset import (
        DatasetRequest,
        build_dataset,
        plan_dataset,
        pull_spectra,
    )
    from gqs.surveys.sdss import BANDS

    if options.bands and options.form == "paper":
        raise UsageError("--bands needs --form flux: the paper's picture is of g, r and i.")
    request = DatasetRequest(
        runs=parse(runs=options.runs).runs,
        out=options.out,
        frames=options.frames,
        release=options.release,
        form=options.form,
        bands=options.bands or BANDS,
        edge=options.edge,
        scheme=options.scheme,
        seed=options.seed,
        server=options.server,
        mirror=options.mirror,
        connections=options.connections,
        workers=options.workers,
    )
    planned = plan_dataset(request, pull_spectra(request, progress_bar))
    if options.dry_run:
        print_result(planned.lines(), planned.as_dict(), options.as_json)
        return
    print_note("\n".join(planned.lines()))
    made = build_dataset(request, planned, progress_bar)
    print_result(made.lines(), {"store": made.store, **made.split.meta}, options.as_json)
    finish(made.set_aside, made.code)
