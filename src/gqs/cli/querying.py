"""The verb that asks SDSS's catalogue database: query."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gqs.cli.shell import AsJson, app, bar, finish, say
from gqs.errors import BadInputError, GqsError, UsageError

if TYPE_CHECKING:
    from astropy.table import Table

PANEL = "Data"
PAGE_ROWS = 50_000
WAIT_HOURS = 24.0


Release = Annotated[str, typer.Option(help="Data release, 8 to the newest, as in 16 or dr16.")]
Server = Annotated[
    str | None, typer.Option(help="Another address in place of SkyServer's.", metavar="URL")
]


@app.command(rich_help_panel=PANEL)
def query(
    out: Annotated[
        Path | None, typer.Option(help="Catalogue to write: .parquet, .fits, .vot, .ecsv, .csv.")
    ] = None,
    runs: Annotated[
        str, typer.Option(help="Imaging runs, as in 3430,3434.  \\[default: all]")
    ] = "",
    classes: Annotated[str, typer.Option(help="Of GALAXY,QSO,STAR.  \\[default: all three]")] = "",
    limits: Annotated[
        str, typer.Option(help="Magnitudes in one band, as in r=13.1..23.2 or r=..20.")
    ] = "",
    cone: Annotated[
        str, typer.Option(help="Part of the sky, deg: ra,dec,radius as in 229.5,42.8,0.2.")
    ] = "",
    magnitudes: Annotated[
        Literal["model", "psf", "cmodel"],
        typer.Option(help="The kind that becomes u g r i z, with errors."),
    ] = "model",
    all_spectra: Annotated[
        bool,
        typer.Option("--all-spectra", help="Not only sciencePrimary spectra of mode 1 images."),
    ] = False,
    form: Annotated[
        Literal["full", "paper"],
        typer.Option(help="All columns, or the paper's own query (Figure 9)."),
    ] = "full",
    release: Annotated[
        str | None,
        typer.Option(help="Data release, 8 to the newest.  \\[default: 16; none for --csv]"),
    ] = None,
    via: Annotated[
        Literal["skyserver", "casjobs"],
        typer.Option(help="Pages of SQL at once, or one batch job into MyDB."),
    ] = "skyserver",
    server: Server = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a SciServer token.  \\[default: GQS_CASJOBS_TOKEN holds it]"),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0.0, help=f"Hours to wait for a batch job.  \\[default: {WAIT_HOURS:.0f}]"
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Import this CSV, exported by hand, instead of asking.")
    ] = None,
    page_rows: Annotated[
        int, typer.Option(min=100, max=500_000, help="Rows of a page; a rerun may change it.")
    ] = PAGE_ROWS,
    show_sql: Annotated[
        bool, typer.Option("--show-sql", help="Print the SQL and end, without a network.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL and how many rows it has, and end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pull labelled objects from SDSS: spectroscopic classes with photometry, as a catalogue.

    Counted first, then page by page; the same command goes on where it was stopped.

    Examples:

      gqs query --out catalog.parquet --runs 3430,3434 --limits r=13.1..23.2

      gqs query --show-sql --form paper --runs 3430 --classes GALAXY

      gqs query --out catalog.parquet --csv exported.csv --release 16
    """
    from gqs import tables
    from gqs.archive.query import parse, schema_note
    from gqs.archive.releases import DEFAULT, find

    number = find(release or DEFAULT).number
    asking = (runs, classes, limits, cone, all_spectra, server, token_file, wait, show_sql, dry_run)
    chosen = (form, magnitudes, via, page_rows) != ("full", "model", "skyserver", PAGE_ROWS)
    for wrong, sentence in (
        (csv and (any(asking) or chosen),
         "--csv asks nothing: --out and --release alone go with it"),
        (csv and not release,
         "name the --release that the CSV was exported from: the file does not tell, and frames "
         "are fetched by it"),
        (via != "casjobs" and (token_file or wait is not None),
         "--token-file and --wait go with --via casjobs"),
        (show_sql and dry_run, "--dry-run shows the SQL as well: leave --show-sql out"),
        (not (show_sql or dry_run or out), "name the catalogue to write with --out"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(f"{sentence[0].upper() + sentence[1:]}.")
    if csv:
        from gqs.archive.exported_csv import read_export

        assert out is not None
        tables.check_ending(out)
        found = read_export(csv, number)
        if not len(found):
            raise _nothing(found, f"{csv}: holds no objects.")
        _refuse_another(out, {key: found.meta[key] for key in ("sha256", "release")})
        _write(found, out, as_json)
        return
    request = parse(
        runs, classes, limits, cone, magnitudes=magnitudes, primary=not all_spectra, form=form
    )
    note = f"DR{number}; columns checked against: {schema_note(number)}"
    if show_sql:
        lines = [f"-- {note}", request.sql()]
        say(lines, {"release": number, "sql": request.sql(), "checked": note}, as_json)
        return
    address: dict[str, Any] = {"release": number, "server": server}
    if via == "casjobs":
        from gqs.archive.sciserver import Token

        address["token"] = Token.find(token_file)
    if dry_run:
        from gqs.archive import casjobs, skyserver

        rows = (casjobs if via == "casjobs" else skyserver).count(request, **address)
        lines = [f"-- {note}", request.sql(), f"-- {rows} row{'s' * (rows != 1)}"]
        say(lines, {"release": number, "sql": request.sql(), "rows": rows}, as_json)
        return
    assert out is not None
    tables.check_ending(out)
    _refuse_another(out, {"sql": request.sql(), "release": f"DR{number}"})
    kept = out.parent / f".{out.name}.pages"
    with bar("Querying SDSS") as progress:
        settings = {**address, "folder": kept, "page_rows": page_rows, "progress": progress}
        if via == "casjobs":
            from gqs.archive import casjobs

            hours = WAIT_HOURS if wait is None else wait
            catalogue = casjobs.pull(request, **settings, wait_s=hours * 3600)
        else:
            from gqs.archive import skyserver

            catalogue = skyserver.pull(request, **settings)
    if not len(catalogue):
        shutil.rmtree(kept, ignore_errors=True)
        raise _nothing(
            catalogue,
            f"No spectroscopic object fits this query in DR{number}, so nothing was written. "
            "Ask for more: see --runs, --classes, --limits and --cone.",
        )
    _write(catalogue, out, as_json, kept)


def _refuse_another(out: Path, asked: dict[str, str]) -> None:
    """Refuse to write over anything but a former answer to the same question."""
    from gqs import tables

    if not out.exists():
        return
    try:
        found = tables.read(out).meta
    except GqsError:
        found = {}
    if any(found.get(key) != value for key, value in asked.items()):
        what = "holds another query's answer" if "release" in found else "is there already"
        raise UsageError(f"{out}: {what}, and is not written over. Delete it, or name another.")


def _nothing(found: Table, sentence: str) -> BadInputError:
    """Return what to say of a catalogue without rows."""
    left_out = found.meta["set_aside"]
    if left_out:
        sentence = f"None of {len(left_out)} rows can be used; the first: {left_out[0]}"
    return BadInputError(sentence)


def _write(catalogue: Table, out: Path, as_json: bool, kept: Path | None = None) -> None:
    """Write a catalogue, and only then let go of what a rerun would need."""
    from gqs import labels, tables

    tables.write(catalogue, out)
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
    counts = {name: int((catalogue["class"] == name).sum()) for name in labels.CLASSES}
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    noun = "object" if len(catalogue) == 1 else "objects"
    lines = [f"{len(catalogue)} {noun} of {catalogue.meta['release']} in {out}: {listed}."]
    if repeats := catalogue.meta.get("repeats"):
        spectra = "spectrum" if repeats == 1 else "spectra"
        lines.append(f"{repeats} further {spectra} of objects that are in it left out.")
    lines.append(f"Next: gqs fetch --catalog {out} --out frames")
    say(lines, {"catalogue": out, "classes": counts, **catalogue.meta}, as_json)
    finish(catalogue.meta["set_aside"])
