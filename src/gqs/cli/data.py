"""Verbs that make data: simulate, cutouts, split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gqs.cli.shell import (
    AsJson,
    Bands,
    Edge,
    Form,
    Processes,
    Seed,
    Store,
    app,
    bar,
    finish,
    frame_files,
    say,
)
from gqs.errors import UsageError

if TYPE_CHECKING:
    from gqs.cutouts.build import BuildReport

PANEL = "Data"
OBJECTS = 30_000
FEW_GROUPS = 20


@app.command(rich_help_panel=PANEL)
def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write; a rerun continues there.")],
    fields: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of fields.  \\[default: 8, or as many as --catalog fills]"
        ),
    ] = None,
    enriched: Annotated[
        int,
        typer.Option(min=0, help="Add so many objects of each class to a field; 0: sky as it is."),
    ] = 0,
    galaxies: Annotated[float, typer.Option(min=0, help="Factor on the sky's galaxies.")] = 1.0,
    quasars: Annotated[float, typer.Option(min=0, help="Factor on the sky's quasars.")] = 1.0,
    stars: Annotated[float, typer.Option(min=0, help="Factor on the sky's stars.")] = 1.0,
    catalog: Annotated[
        Path | None,
        typer.Option(help="Render this photometry instead: class and u g r i z, row by row."),
    ] = None,
    into_store: Annotated[
        bool, typer.Option("--into-store", help="Render cutouts straight into a store; no frames.")
    ] = False,
    objects: Annotated[
        int | None,
        typer.Option(
            min=3,
            help="With --into-store: a third of each class, of --catalog's at random where that "
            "is given.  \\[default: 30000, or all rows of --catalog]",
        ),
    ] = None,
    bands: Bands = "ugriz",
    form: Form = "flux",
    seed: Seed = 1,
    workers: Processes = None,
    as_json: AsJson = False,
) -> None:
    """Make a simulated survey in SDSS's own files: frames, and a catalogue of what is on them.

    By default the sky is as it is, with about one quasar a field to r = 20.5.

    Examples:

      gqs simulate --out sky --fields 8 --enriched 200

      gqs simulate --out sky --catalog photometry.csv

      gqs simulate --out cutouts --into-store --objects 60000

      gqs simulate --out pictures --into-store --form paper --catalog photometry.csv --objects 6000
    """
    if "r" not in bands:
        raise UsageError(f"Bands {bands!r}: r must be among them, onto whose grid the others go.")
    changed = (galaxies, quasars, stars) != (1.0, 1.0, 1.0)
    for together, sentence in (
        (into_store and (fields or enriched or changed), "--into-store draws no fields"),
        (form == "paper" and not into_store, "--form paper goes with --into-store"),
        (objects and not into_store, "--objects goes with --into-store"),
        (enriched and changed, "--enriched sets the densities of all classes"),
    ):
        if together:
            raise UsageError(f"{sentence}: leave one of these options out.")
    if into_store:
        from gqs import labels
        from gqs.cutouts.build import build_from_simulation

        wanted = objects or (None if catalog else OBJECTS)
        counts = wanted and dict.fromkeys(labels.CLASSES, wanted // len(labels.CLASSES))
        with bar("Rendering cutouts") as progress:
            report = build_from_simulation(
                out, counts or None, catalog, seed, bands, workers, progress, form
            )
        _say_built(report, as_json)
        return
    from gqs import tables
    from gqs.simulation.fields import simulate as simulate_fields
    from gqs.simulation.population import Mix

    mix = Mix.enriched_with(enriched) if enriched else Mix(galaxies, quasars, stars)
    own = None if catalog is None else tables.read(catalog)
    with bar("Simulating fields") as progress:
        made = simulate_fields(
            out,
            fields or (8 if own is None else None),
            seed,
            mix,
            own,
            bands,
            workers=workers,
            progress=progress,
        )
    listed = ", ".join(f"{count} {name}" for name, count in made.objects.items())
    lines = [
        f"{len(made.fields)} fields in {out}/frames; {out}/catalog.csv has {listed}.",
        f"Next: gqs cutouts {out}/frames --catalog {out}/catalog.csv --out cutouts",
    ]
    say(lines, made.__dict__, as_json)
    finish(made.set_aside)


@app.command(rich_help_panel=PANEL)
def cutouts(
    frames: Annotated[
        list[Path], typer.Argument(help="Frames (.fits, .fits.bz2, .fits.gz), or folders of them.")
    ],
    catalog: Annotated[Path, typer.Option(help="Objects with objid, ra, dec and class.")],
    out: Annotated[Path, typer.Option(help="Folder of the cutout store.")],
    bands: Bands = "ugriz",
    form: Form = "flux",
    edge: Edge = "pad",
    star_shift: Annotated[
        bool, typer.Option("--star-shift", help="Align bands by their stars where the WCS errs.")
    ] = False,
    workers: Processes = None,
    as_json: AsJson = False,
) -> None:
    """Cut 50x50 cutouts of a catalogue's objects out of frames, all bands on the r band's grid.

    Examples:

      gqs cutouts sky/frames --catalog sky/catalog.csv --out cutouts

      gqs cutouts frame-*.fits.bz2 --catalog specphoto.csv --out pictures --form paper
    """
    from gqs.cutouts.build import build_from_frames

    with bar("Cutting out") as progress:
        report = build_from_frames(
            frame_files(frames), catalog, out, bands, form, edge, workers, progress, star_shift
        )
    _say_built(report, as_json)


def _say_built(report: BuildReport, as_json: bool) -> None:
    listed = ", ".join(f"{count} {name}" for name, count in report.classes.items())
    lines = [f"{report.objects} cutouts in {report.store}: {listed}."]
    if report.elsewhere:
        lines.append(f"{report.elsewhere} rows of the catalogue lie on none of the fields.")
    if report.repeated:
        lines.append(
            f"{report.repeated} objects have another within 1 arcsec; a split keeps them together."
        )
    lines.append(f"Next: gqs split {report.store}")
    say(lines, report.as_dict(), as_json)
    finish(report.set_aside)


@app.command(rich_help_panel=PANEL)
def split(
    store: Store,
    out: Annotated[
        Path | None, typer.Option(help="File to keep it in.  \\[default: split.parquet in STORE]")
    ] = None,
    scheme: Annotated[
        Literal["grouped", "paper"],
        typer.Option(help="Whole fields or runs on one side, or objects at random (paper 3.4)."),
    ] = "grouped",
    by: Annotated[
        Literal["field", "run"] | None,
        typer.Option(help="What stays together in a grouped split.  \\[default: field]"),
    ] = None,
    balance: Annotated[bool, typer.Option(help="Drop objects of the larger classes.")] = False,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Divide a store into training, validation and test, 8:1:1; saved and never recomputed.

    Examples:

      gqs split cutouts

      gqs split cutouts --scheme paper --balance --out random.parquet
    """
    import numpy as np

    from gqs.cutouts.split import split_store
    from gqs.cutouts.store import CutoutStore

    if by and scheme == "paper":
        raise UsageError("--by goes with --scheme grouped; the paper's split is of single objects.")
    path, opened = out or store / "split.parquet", CutoutStore.open(store)
    divided = split_store(opened, path, scheme, by or "field", seed, balance)
    counts, dropped = divided.meta["counts"], divided.meta["dropped"]
    lines = [f"{len(divided)} objects divided ({scheme}); saved in {path}."]
    lines += [
        f"  {side:<10} " + ", ".join(f"{count} {name}" for name, count in found.items())
        for side, found in counts.items()
    ]
    lines += [f"  left out: {count} ({why})" for why, count in dropped.items() if count]
    groups = len(np.unique(np.asarray(divided["group"]).astype(str)))
    if scheme == "grouped" and groups < FEW_GROUPS:
        shares = [sum(found.values()) / max(len(divided), 1) for found in counts.values()]
        told = ":".join(f"{10 * share:.1f}" for share in shares)
        lines.append(
            f"  Of {groups} {by or 'field'}s, each whole, 8:1:1 came out as {told}, and what is "
            f"judged rests on few of them. More {by or 'field'}s would settle both."
        )
    recipe = " --recipe paper" if opened.form == "paper" else ""
    lines.append(f"Next: gqs train {store} --out model{recipe}")
    say(lines, {"split": path, **divided.meta}, as_json)
