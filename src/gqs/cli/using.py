"""Verbs that use a classifier: classify, and the demo of the whole way."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gqs.cli.archive import Mirror, Release, Server
from gqs.cli.frames import (
    Cache,
    Engine,
    Model,
    Source,
    note,
    refuse_idle_release,
    said_of_missing,
    take,
)
from gqs.cli.probabilities import (
    CandidatesOf,
    CandidatesOut,
    Coverage,
    PriorName,
    Purity,
    Wanted,
    no_rows,
)
from gqs.cli.provenance import how_made
from gqs.cli.shell import AsJson, Processes, Seed, app, bar, finish, say
from gqs.cli.surveying import Scheduler, classify_into_folder, is_survey, refuse_in_survey
from gqs.errors import BadInputError, UsageError, worst

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table
    from astropy.wcs import WCS
    from numpy.typing import NDArray


PANEL = "Using"
PICTURES = (".png", ".svg")


@app.command(rich_help_panel=PANEL)
def classify(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            help="Catalogue to write: .parquet, .fits, .vot, .ecsv, .csv or .hats; without an "
            "ending, a folder of Parquet for a survey."
        ),
    ],
    frames: Annotated[
        list[Path] | None,
        typer.Argument(help="Frames of one field or many (.fits, .bz2, .gz), or folders of them."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="Fetch this field's frames first, as in 3918-3-213; may be repeated."),
    ] = None,
    ra: Annotated[
        float | None,
        typer.Option(help="Fetch the field that covers it, as SkyServer says, deg; with --dec."),
    ] = None,
    dec: Annotated[float | None, typer.Option(help="Declination, deg; with --ra.")] = None,
    release: Release = "16",
    cache: Cache = None,
    mirror: Mirror = None,
    server: Server = None,
    catalog: Annotated[
        Path | None,
        typer.Option(help="Judge these positions (ra, dec, objid) instead of detected sources."),
    ] = None,
    model: Model = None,
    engine: Engine = "auto",
    region: Annotated[Path | None, typer.Option(help="Also write a DS9 region file here.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also write the field's picture with its sources marked (.png, .svg)."),
    ] = None,
    links: Annotated[
        bool, typer.Option("--links", help="Add the column link: SkyServer's page on each row.")
    ] = False,
    prior: PriorName = None,
    coverage: Coverage = None,
    candidates: CandidatesOf = None,
    purity: Purity = None,
    candidates_out: CandidatesOut = None,
    scheduler: Scheduler = None,
    workers: Processes = None,
    as_json: AsJson = False,
) -> None:
    """Classify the sources on frames; files are grouped into fields by their headers.

    The frames of --field, and of --ra and --dec, are fetched where the cache lacks them.

    Examples:

      gqs classify frame-*-003918-3-0213.fits.bz2 --out catalogue.fits --plot field.png

      gqs classify frames/ --out catalogue.parquet --region sources.reg

      gqs classify frames/ --catalog positions.csv --out judged.vot

      gqs classify --field 3918-3-213 --out catalogue.fits

      gqs classify --ra 185.4 --dec 12.7 --out catalogue.fits --plot field.png

      gqs classify frames/ --out catalogue.fits --prior sky --coverage 0.95

      gqs classify frames/ --out catalogue.fits --prior sky --candidates QSO --purity 0.9

      gqs classify frames/ --out survey --scheduler tcp://head-node:8786
    """
    from gqs import tables
    from gqs.archive.explore import add_links
    from gqs.model.classifier import load_classifier
    from gqs.runs.local import classify_parts, gathered, write_parts
    from gqs.runs.run_store import Ledger
    from gqs.tables.region import write_region

    survey = is_survey(out, scheduler)
    if not survey:
        tables.check_ending(out)
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise UsageError(f"{plot}: pictures end in {' or '.join(PICTURES)}.")
    if out.is_dir() and not survey and out.suffix.lower() != tables.HATS:
        raise UsageError(f"{out}: is a folder. Name a file for the catalogue.")
    needs_all: dict[str, object] = {"--catalog": catalog, "--region": region, "--plot": plot}
    needs_all |= {"--candidates": candidates}
    source = Source(release, cache, mirror, server)
    # What is wrong with names is told before a model is loaded, which takes a while.
    fetched = bool(field) or ra is not None or dec is not None
    refuse_idle_release(context, fetched or links, "--field, --ra with --dec, or --links")
    taken = None if fetched else take(frames, field, ra, dec, "", source)
    if survey:
        refuse_in_survey(out, needs_all, scheduler, workers)
        if engine == "auto":  # what is fastest here may not be what a survey was begun with
            engine = Ledger(out).engine() or engine
    classifier = load_classifier(model, engine=engine, tell=note)
    made = how_made("classify", context.params | {"engine": classifier.computes.name})
    wanted = Wanted.of(classifier, out, prior, coverage, candidates, purity, candidates_out)
    bands = classifier.bands + ("gri" if plot else "")
    taken = taken or take(frames, field, ra, dec, bands, source)
    if survey:
        said = wanted.answered(no_rows(), classifier)[1]
        asked_for = {"prior": prior, "coverage": coverage, "made": made}
        asked_for["links"] = release if links else None
        at = (scheduler, workers)
        classify_into_folder(classifier, taken, out, at, asked_for, said, as_json)
        return
    missing = taken.set_aside
    paths = [path for path in taken.paths if path.resolve() != out.resolve()]  # of an earlier run
    positions = None if catalog is None else tables.read(catalog)
    parts = out.parent / f".{out.name}.parts"
    with bar("Classifying fields") as progress:
        report = classify_parts(
            classifier,
            paths,
            positions,
            where=catalog,
            parts=parts,
            processes=workers,
            progress=progress,
        )
    set_aside = [*missing, *report.set_aside]
    code = worst({report.code} | ({taken.code} if missing else set()))
    replace(report, set_aside=set_aside, code=code).refuse_none()
    asked = [*needs_all.values(), links or None, prior, coverage]
    if out.suffix.lower() == ".parquet" and not any(one is not None for one in asked):
        counts = write_parts(report, out, made)
        _, more, told = wanted.answered(next(report.each())[:0], classifier)
    else:
        found = gathered(report, positions, catalog, classifier.hash)
        found.meta |= made
        if links:
            add_links(found, release)
        found, more, told = wanted.answered(found, classifier)
        tables.write(found, out)
        counts = Counter(str(name) for name in found["class"])
        if region is not None:
            write_region(found, region)
    shutil.rmtree(parts, ignore_errors=True)
    pictures = [] if plot is None else _plot(found, paths, plot)
    counts = Counter({name or "not judged": count for name, count in counts.items()})
    listed = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    fields = len(report.parts)
    lines = [
        f"{counts.total():,} objects in {fields:,} field{'s'[: fields != 1]}: {listed}.",
        *([f"{len(set_aside):,} set aside."] if set_aside else []),
        *said_of_missing(Counter(report.lacking.values()), fields),
        *more,
        f"Catalogue: {out}",
        *([f"DS9 regions: {region}"] if region is not None else []),
        *(f"Picture: {picture}" for picture in pictures),
    ]
    result = {
        "out": out,
        "objects": counts.total(),
        "fields": fields,
        "by_class": counts,
        "missing_bands": {str(name): bands for name, bands in report.lacking.items()},
        "model": classifier.hash,
        "engine": classifier.computes.name,
        **told,
        "set_aside": set_aside,
    }
    say(lines, result, as_json)
    finish(set_aside, code or BadInputError.exit_code)


def _plot(predictions: Table, paths: list[Path], plot: Path) -> list[Path]:
    """Draw each field's picture with its sources; one file a field."""
    from gqs.files import write_bytes
    from gqs.imaging.frames import group_fields
    from gqs.report.palette import rendered
    from gqs.report.pictures import classified_field

    written = []
    fields, _ = group_fields(paths)
    for name, files in sorted(fields.items()):
        here = predictions[
            (predictions["run"] == name.run)
            & (predictions["camcol"] == name.camcol)
            & (predictions["field"] == name.field)
        ]
        if not len(here):
            continue
        picture, wcs, bands = _picture(files)
        path = plot if len(fields) == 1 else plot.with_stem(f"{plot.stem}-{name}")
        title = f"Field {name}" + ("" if bands == "gri" else f", {bands} alone")
        if "prior" in predictions.meta:
            title += f", prior {predictions.meta['prior']}"
        figure = classified_field(picture, here, title, wcs=wcs)
        written.append(write_bytes(path, rendered(figure, path.suffix[1:].lower())))
    return written


def _picture(files: Mapping[str, Path]) -> tuple[NDArray[np.uint8], WCS, str]:
    """Make a field's picture: in colour where g, r and i are all there, else of r in grey."""
    from gqs.imaging.align import align
    from gqs.imaging.composite import colour_picture
    from gqs.imaging.frames import read_frame
    from gqs.report.pictures import colours
    from gqs.surveys.sdss import REFERENCE_BAND

    if set("gri") <= set(files):
        with contextlib.suppress(BadInputError):  # such as a band that shows nothing
            stack = align({band: read_frame(files[band]) for band in "gri"}, "gri")
            return colour_picture(stack), stack.wcs, stack.bands
    alone = align({REFERENCE_BAND: read_frame(files[REFERENCE_BAND])}, REFERENCE_BAND)
    return colours(alone.flux[None], alone.bands)[0], alone.wcs, alone.bands


@app.command(rich_help_panel=PANEL)
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write; a rerun continues there.")] = Path(
        "demo"
    ),
    seed: Seed = 1,
    workers: Processes = None,
    as_json: AsJson = False,
) -> None:
    """Go the whole way on a simulated sky: survey, cutouts, split, training, report, catalogue.

    Examples:

      gqs demo

      gqs demo --out /tmp/demo --seed 2
    """
    from gqs.demo import run_demo

    result = run_demo(out, seed=seed, workers=workers, bar=bar)
    say(result.lines(), result.as_dict(), as_json)
