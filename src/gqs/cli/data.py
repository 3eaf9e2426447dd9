"""Verbs that prepare training data: simulate, cutouts, split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gqs import labels
from gqs.cli.app import DATA, finish, print_result, verb
from gqs.cli.frames import frame_files
from gqs.cli.options import (
    INPUT,
    OUTPUT,
    AsJson,
    Bands,
    Edge,
    Form,
    Seed,
    Store,
    Workers,
    option,
)
from gqs.cli.progress import progress_bar
from gqs.errors import UsageError

if TYPE_CHECKING:
    from gqs.cutouts.build import BuildReport

DEFAULT_FIELDS = 8
DEFAULT_OBJECTS = 30_000
FEW_GROUPS = 20  # below this number of groups the shares of a grouped split are far from 8:1:1


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """Options of `gqs simulate`."""

    out: Annotated[
        Path, option("Folder to write; run again to continue an interrupted run.", panel=OUTPUT)
    ]
    fields: Annotated[
        int | None,
        option("Number of fields.  \\[default: 8, or what --catalog needs]", min=1),
    ] = None
    enriched: Annotated[
        int,
        option("Add this many objects of each class to every field; 0: natural densities.", min=0),
    ] = 0
    galaxies: Annotated[float, option("Factor on the density of galaxies.", min=0)] = 1.0
    quasars: Annotated[float, option("Factor on the density of quasars.", min=0)] = 1.0
    stars: Annotated[float, option("Factor on the density of stars.", min=0)] = 1.0
    catalog: Annotated[
        list[Path] | None,
        option(
            "Render the objects of this table (class, u, g, r, i, z) instead of drawing them; "
            "repeatable with --into-store: an object of several tables (within 1 arcsec) is "
            "rendered once.",
            panel=INPUT,
        ),
    ] = None
    into_store: Annotated[
        bool, option("Render cutouts straight into a store, without frames.", "--into-store")
    ] = False
    objects: Annotated[
        str | None,
        option(
            "With --into-store: number of objects, a third of each class, or such as "
            "GALAXY=11512,QSO=10038,STAR=10206; drawn from --catalog if that is given.  "
            "\\[default: 30000, or all rows of --catalog]",
            metavar="N|CLASS=N,...",
        ),
    ] = None
    bands: Bands = "ugriz"
    form: Form = "flux"
    seed: Seed = 1
    workers: Workers = None
    as_json: AsJson = False

    def check(self) -> None:
        """Refuse options that contradict each other."""
        if "r" not in self.bands:
            raise UsageError(f"--bands {self.bands}: r, the reference band, must be among them.")
        factors = (self.galaxies, self.quasars, self.stars) != (1.0, 1.0, 1.0)
        draws_fields = bool(self.fields or self.enriched or factors)
        for wrong, sentence in (
            (self.into_store and draws_fields, "--into-store renders cutouts without fields"),
            (self.form == "paper" and not self.into_store, "--form paper needs --into-store"),
            (self.objects and not self.into_store, "--objects needs --into-store"),
            (self.enriched and factors, "--enriched sets the densities of all classes"),
            (
                len(self.catalog or ()) > 1 and not self.into_store,
                "several --catalog need --into-store",
            ),
        ):
            if wrong:
                raise UsageError(f"{sentence}: remove one of these options.")


@verb(panel=DATA)
def simulate(options: SimulateOptions) -> None:
    """Simulate a survey: frames in SDSS's file format, and the catalogue of their sources.

    By default the densities are those of the sky, with about one quasar to r = 20.5 in a field.

    Examples:

      gqs simulate --out sky --fields 8 --enriched 200

      gqs simulate --out sky --catalog photometry.csv

      gqs simulate --out cutouts --into-store --objects 60000

      gqs simulate --out pictures --into-store --form paper --catalog photometry.csv --objects 6000

      gqs simulate --out table3 --into-store --form paper --catalog one.csv --catalog two.csv \\
          --objects GALAXY=11512,QSO=10038,STAR=10206
    """
    options.check()
    if options.into_store:
        _simulate_store(options)
        return
    from gqs import tables
    from gqs.simulation.fields import simulate as simulate_fields
    from gqs.simulation.population import Mix

    mix = Mix(options.galaxies, options.quasars, options.stars)
    if options.enriched:
        mix = Mix.enriched_with(options.enriched)
    catalog = tables.read(options.catalog[0]) if options.catalog else None
    with progress_bar("Simulating fields") as progress:
        made = simulate_fields(
            options.out,
            options.fields or (DEFAULT_FIELDS if catalog is None else None),
            options.seed,
            mix,
            catalog,
            options.bands,
            workers=options.workers,
            progress=progress,
        )
    counts = ", ".join(f"{count} {name}" for name, count in made.objects.items())
    frames, written = options.out / "frames", options.out / "catalog.csv"
    lines = [
        f"{len(made.fields)} fields in {frames}; {written} lists {counts}.",
        f"Next: gqs cutouts {frames} --catalog {written} --out cutouts",
    ]
    print_result(lines, made.__dict__, options.as_json)


def _simulate_store(options: SimulateOptions) -> None:
    from gqs.cutouts.build import build_from_simulation

    default = None if options.catalog else str(DEFAULT_OBJECTS)
    objects = options.objects or default
    with progress_bar("Rendering cutouts") as progress:
        report = build_from_simulation(
            options.out,
            _class_counts(objects) if objects else None,
            options.catalog,
            options.seed,
            options.bands,
            options.workers,
            progress,
            options.form,
        )
    _print_store(report, options.as_json)


def _class_counts(text: str) -> dict[str, int]:
    """Number of objects of each class from "30000" or "GALAXY=11512,QSO=10038,STAR=10206"."""
    from gqs import labels

    if text.isascii() and text.isdigit() and int(text) >= len(labels.CLASSES):
        return dict.fromkeys(labels.CLASSES, int(text) // len(labels.CLASSES))
    words = [word.partition("=") for word in text.split(",")]
    counts = {name.strip(): number.strip() for name, _, number in words}
    valid = all(number.isascii() and number.isdigit() for number in counts.values())
    if not valid or len(counts) < len(words) or not set(counts) <= set(labels.CLASSES):
        raise UsageError(
            f"--objects {text}: give a number of at least {len(labels.CLASSES)}, or numbers by "
            "class such as GALAXY=11512,QSO=10038,STAR=10206."
        )
    return {name: int(number) for name, number in counts.items()}


@dataclass(frozen=True, kw_only=True)
class CutoutsOptions:
    """Options of `gqs cutouts`."""

    frames: Annotated[
        list[Path],
        typer.Argument(help="Frames (.fits, .fits.bz2, .fits.gz), or folders that contain them."),
    ]
    catalog: Annotated[
        Path, option("Catalogue of objects with objid, ra, dec and class.", panel=INPUT)
    ]
    out: Annotated[Path, option("Folder of the cutout store.", panel=OUTPUT)]
    bands: Bands = "ugriz"
    form: Form = "flux"
    edge: Edge = "pad"
    star_shift: Annotated[
        bool, option("Correct what the WCS leaves between bands by their stars.", "--star-shift")
    ] = False
    workers: Workers = None
    as_json: AsJson = False


@verb(panel=DATA)
def cutouts(options: CutoutsOptions) -> None:
    """Extract 50x50 cutouts of catalogued objects; all bands are resampled to the r band's grid.

    Examples:

      gqs cutouts sky/frames --catalog sky/catalog.csv --out cutouts

      gqs cutouts frame-*.fits.bz2 --catalog specphoto.csv --out pictures --form paper
    """
    from gqs.cutouts.build import build_from_frames

    with progress_bar("Extracting cutouts") as progress:
        report = build_from_frames(
            frame_files(options.frames),
            options.catalog,
            options.out,
            options.bands,
            options.form,
            options.edge,
            options.workers,
            progress,
            options.star_shift,
        )
    _print_store(report, options.as_json)


@dataclass(frozen=True, kw_only=True)
class SurveysOptions:
    """Options of `gqs surveys`."""

    words: Annotated[
        list[str] | None,
        typer.Argument(help="show NAME: print a survey's description.", metavar="[show NAME]"),
    ] = None
    as_json: AsJson = False


@verb(panel=DATA)
def surveys(options: SurveysOptions) -> None:
    """List surveys whose images `gqs import --survey` knows, or show one to start a file from.

    Examples:

      gqs surveys

      gqs surveys show legacy > mine.toml
    """
    from gqs.surveys import description

    words = options.words or []
    if words and (len(words) != 2 or words[0] != "show"):
        raise UsageError(f"gqs surveys {' '.join(words)}: write show and the name of a survey.")
    found = {name: description.load(name) for name in words[1:] or description.names()}
    lines = [
        f"{name:<12}{one.bands:<8}{one.pixel_scale:<7g}{one.zero_point:<6g}{one.about}"
        for name, one in found.items()
    ]
    lines.insert(0, f"{'survey':<12}{'bands':<8}{'scale':<7}{'zero':<6}images")
    if words:
        lines = [description.text_of(words[1]).rstrip()]
    values = {name: one.model_dump() for name, one in found.items()}
    print_result(lines, values, options.as_json)


@dataclass(frozen=True, kw_only=True)
class ImportImagesOptions:
    """Options of `gqs import`."""

    images: Annotated[
        list[Path],
        typer.Argument(
            help="Folders or files of images (FITS, NPY, PNG, JPG, TIFF), or one NPY, NPZ, FITS or "
            "HDF5 file with all of them."
        ),
    ]
    out: Annotated[Path, option("Folder of the store.", panel=OUTPUT)]
    table: Annotated[
        Path | None,
        option(
            "Table with the class of each image, by its name or in the order of the file with all "
            "images.  \\[default: columns of the .npz file, or a folder for each class]",
            "--labels",
            panel=INPUT,
        ),
    ] = None
    classes: Annotated[
        str | None,
        option("Classes of other labels, such as WD=STAR,AGN=QSO.", "--map", panel=INPUT),
    ] = None
    group: Annotated[
        str | None,
        option("Column whose values a split keeps on one side, such as the field.", panel=INPUT),
    ] = None
    bands: Annotated[
        str | None,
        option(
            "A letter for each plane: u, g, r, i, z are SDSS's and need --zero-point; capital "
            "letters are your own.  \\[default: A, B, ...]"
        ),
    ] = None
    survey: Annotated[
        str | None,
        option(
            "Survey (`gqs surveys`) or a .toml file: bands, zero point and pixel scale, each of "
            "which the options beside it replace."
        ),
    ] = None
    zero_point: Annotated[
        float | None, option("AB magnitude of one count; 22.5 for nanomaggies.")
    ] = None
    pixel_scale: Annotated[
        float | None,
        option("Arcsec per pixel: resample to 0.396.  \\[default: pixels stay as they are]"),
    ] = None
    form: Annotated[
        Literal["flux", "paper"] | None,
        option("paper: 8-bit pictures; flux: numbers.  \\[default: paper for 8-bit images]"),
    ] = None
    as_json: AsJson = False


@verb(panel=DATA, name="import")
def import_images(options: ImportImagesOptions) -> None:
    """Make a store of labelled images of any survey, without frames or header cards.

    Examples:

      gqs import images --labels labels.csv --group field --out cutouts

      gqs import folder_of_classes --map "WD=STAR,AGN=QSO" --out cutouts

      gqs import cube.npz --form flux --group night --out cutouts

      gqs import coadds --labels labels.csv --survey legacy --out cutouts
    """
    from gqs import tables
    from gqs.cutouts.import_images import ImportOptions
    from gqs.cutouts.import_images import import_images as make_store
    from gqs.surveys import description

    bands, zero_point, scale = options.bands, options.zero_point, options.pixel_scale
    if options.survey is not None:
        described = description.load(options.survey)
        bands = described.bands if bands is None else bands
        zero_point = described.zero_point if zero_point is None else zero_point
        scale = described.pixel_scale if scale is None else scale
    settings = ImportOptions(
        bands=bands,
        form=options.form,
        zero_point=zero_point,
        pixel_scale=scale,
        classes=_class_map(options.classes),
        group=options.group,
    )
    table = None if options.table is None else tables.read(options.table, exact=False)
    with progress_bar("Importing images") as progress:
        report = make_store(options.images, table, options.out, settings, progress)
    _print_store(report, options.as_json)


def _class_map(text: str | None) -> dict[str, str]:
    """Parse LABEL=CLASS,LABEL=CLASS."""
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    for label, _, name in pairs:
        if name.strip().upper() not in labels.CLASSES:
            raise UsageError(
                f"--map {label.strip()}={name.strip()}: write LABEL=CLASS with a class of "
                f"{', '.join(labels.CLASSES)}."
            )
    return {label.strip(): name.strip().upper() for label, _, name in pairs}


def _print_store(report: BuildReport, as_json: bool) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in report.classes.items())
    lines = [f"{report.objects} cutouts in {report.store}: {counts}."]
    if report.elsewhere:
        lines.append(f"{report.elsewhere} rows of the catalogue are outside all fields.")
    if report.repeated:
        lines.append(
            f"{report.repeated} objects have a neighbour within 1 arcsec; a split keeps them on "
            "the same side."
        )
    lines.append(f"Next: gqs split {report.store}")
    print_result(lines, report.as_dict(), as_json)
    finish(report.set_aside)


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Options of `gqs split`."""

    store: Store
    out: Annotated[
        Path | None, option("File to write.  \\[default: split.parquet in STORE]", panel=OUTPUT)
    ] = None
    scheme: Annotated[
        Literal["grouped", "paper"],
        option("grouped: whole fields or runs; paper: random objects (paper, section 3.4)."),
    ] = "grouped"
    by: Annotated[
        Literal["field", "run"] | None,
        option("Groups that stay together in a grouped split.  \\[default: field]"),
    ] = None
    balance: Annotated[bool, option("Drop objects of the larger classes.")] = False
    seed: Seed = 1
    as_json: AsJson = False


@verb(panel=DATA)
def split(options: SplitOptions) -> None:
    """Split a store 8:1:1 into training, validation and test; the split is saved.

    Examples:

      gqs split cutouts

      gqs split cutouts --scheme paper --balance --out random.parquet
    """
    import numpy as np

    from gqs.cutouts.split import split_store
    from gqs.cutouts.store import CutoutStore

    if options.by and options.scheme == "paper":
        raise UsageError("--by needs --scheme grouped; the paper's split ignores groups.")
    by = options.by or "field"
    path = options.out or options.store / "split.parquet"
    store = CutoutStore.open(options.store)
    table = split_store(store, path, options.scheme, by, options.seed, options.balance)
    counts, dropped = table.meta["counts"], table.meta["dropped"]
    lines = [f"{len(table)} objects split ({options.scheme}); saved in {path}."]
    lines += [
        f"  {side:<10} " + ", ".join(f"{count} {name}" for name, count in by_class.items())
        for side, by_class in counts.items()
    ]
    lines += [f"  left out: {count} ({reason})" for reason, count in dropped.items() if count]
    groups = len(np.unique(np.asarray(table["group"]).astype(str)))
    if options.scheme == "grouped" and groups < FEW_GROUPS:
        shares = [sum(by_class.values()) / max(len(table), 1) for by_class in counts.values()]
        ratio = ":".join(f"{10 * share:.1f}" for share in shares)
        lines.append(
            f"  With {groups} whole {by}s the ratio is {ratio} instead of 8:1:1, and the test side "
            f"holds few of them. Use more {by}s for reliable results."
        )
    recipe = " --recipe paper" if store.form == "paper" else ""
    lines.append(f"Next: gqs train {options.store} --out model{recipe}")
    print_result(lines, {"split": path, **table.meta}, options.as_json)
