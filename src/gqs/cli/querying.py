"""The verb that asks SDSS's catalogue database: query."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gqs.cli.shell import AsJson, app, bar, finish, say
from gqs.errors import UsageError

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
    release: Release = "16",
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
        bool, typer.Option("--show-sql", help="Print the SQL and end; needs no network.")
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

      gqs query --out catalog.parquet --csv exported.csv
    """
    from gqs.survey.query import parse, schema_note
    from gqs.survey.releases import find

    number = find(release).number
    asking = (runs, classes, limits, cone, all_spectra, server, token_file, wait, show_sql, dry_run)
    chosen = (form, magnitudes, via, page_rows) != ("full", "model", "skyserver", PAGE_ROWS)
    for wrong, sentence in (
        (csv and (any(asking) or chosen),
         "--csv asks nothing: --out and --release alone go with it"),
        (via != "casjobs" and (token_file or wait is not None),
         "--token-file and --wait go with --via casjobs"),
        (show_sql and dry_run, "--dry-run shows the SQL as well: leave --show-sql out"),
        ((show_sql or dry_run) and out, "nothing is written: leave --out out"),
        (not (show_sql or dry_run or out), "name the catalogue to write with --out"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(f"{sentence[0].upper() + sentence[1:]}.")
    if csv:
        from gqs.survey.export import read_export

        assert out is not None
        _write(read_export(csv, number), out, as_json)
        return
    request = parse(
        runs, classes, limits, cone, magnitudes=magnitudes, primary=not all_spectra, form=form
    )
    note = f"DR{number}; columns checked against: {schema_note(number)}"
    if show_sql:
        lines = [f"-- {note}", request.sql(rows=page_rows)]
        say(lines, {"release": number, "sql": request.sql(), "checked": note}, as_json)
        return
    address: dict[str, Any] = {"release": number, "server": server}
    if via == "casjobs":
        from gqs.survey.sciserver import Token

        address["token"] = Token.find(token_file)
    if dry_run:
        from gqs.survey import casjobs, skyserver

        rows = (casjobs if via == "casjobs" else skyserver).count(request, **address)
        lines = [f"-- {note}", request.sql(), f"-- {rows} rows"]
        say(lines, {"release": number, "sql": request.sql(), "rows": rows}, as_json)
        return
    assert out is not None
    from gqs import tables

    tables.check_ending(out)
    kept = out.parent / f".{out.name}.pages"
    with bar("Querying SDSS") as progress:
        settings = {**address, "folder": kept, "page_rows": page_rows, "progress": progress}
        if via == "casjobs":
            from gqs.survey import casjobs

            hours = WAIT_HOURS if wait is None else wait
            catalogue = casjobs.pull(request, **settings, wait_s=hours * 3600)
        else:
            from gqs.survey import skyserver

            catalogue = skyserver.pull(request, **settings)
    _write(catalogue, out, as_json, kept)


def _write(catalogue: Table, out: Path, as_json: bool, kept: Path | None = None) -> None:
    """Write a catalogue, and only then let go of what a rerun would need."""
    from gqs import labels, tables

    tables.write(catalogue, out)
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
    counts = {name: int((catalogue["class"] == name).sum()) for name in labels.CLASSES}
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    lines = [f"{len(catalogue)} objects of {catalogue.meta['release']} in {out}: {listed}."]
    if catalogue.meta.get("repeats"):
        lines.append(f"{catalogue.meta['repeats']} further spectra of the same objects left out.")
    lines.append(f"Next: gqs fetch --catalog {out} --out frames")
    say(lines, {"catalogue": out, "classes": counts, **catalogue.meta}, as_json)
    finish(catalogue.meta["set_aside"])
