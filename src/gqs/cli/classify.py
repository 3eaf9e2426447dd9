"""The verb that classifies the sources on frames: classify."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gqs.cli.app import CLASSIFICATION, finish, print_note, print_result, verb
from gqs.cli.frames import Frames, check_release_used, gather_frames
from gqs.cli.options import (
    CLUSTER,
    INPUT,
    OUTPUT,
    PROBABILITIES,
    AsJson,
    FrameSource,
    ModelChoice,
    Prior,
    Workers,
    option,
)
from gqs.cli.probability_summary import ProbabilityOptions, ProbabilitySummary
from gqs.cli.progress import progress_bar
from gqs.cli.provenance import provenance
from gqs.errors import BadInputError, UsageError, worst
from gqs.files import only_writer
from gqs.formatting import plural

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table
    from astropy.wcs import WCS
    from numpy.typing import NDArray

    from gqs.executors import Executor
    from gqs.model.classifier import Classifier
    from gqs.runs.survey import SurveyReport

PICTURES = (".png", ".svg")
LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(ModelChoice, FrameSource):
    """Options of `gqs classify`."""

    out: Annotated[
        Path,
        option(
            "Catalogue to write: .parquet, .fits, .vot, .ecsv, .csv or .hats. A name without an "
            "ending is a folder of Parquet files for a survey.",
            panel=OUTPUT,
        ),
    ]
    catalog: Annotated[
        Path | None,
        option("Classify these positions (ra, dec, objid) instead of detections.", panel=INPUT),
    ] = None
    region: Annotated[Path | None, option("DS9 region file to write.", panel=OUTPUT)] = None
    plot: Annotated[
        Path | None,
        option("Picture of the field with its sources to write (.png, .svg).", panel=OUTPUT),
    ] = None
    links: Annotated[
        bool,
        option("Add a column `link` to each source's SkyServer page.", "--links", panel=OUTPUT),
    ] = False
    prior: Prior = None
    coverage: Annotated[
        float | None,
        option(
            "Add a column `set` of classes that contains the true one this often, such as 0.95.",
            panel=PROBABILITIES,
        ),
    ] = None
    candidates: Annotated[
        str | None,
        option("Also list candidates of GALAXY, QSO or STAR.", panel=PROBABILITIES),
    ] = None
    purity: Annotated[
        float | None,
        option(
            "Fraction of the candidates that should be right.  \\[default: 0.9]",
            panel=PROBABILITIES,
        ),
    ] = None
    candidates_out: Annotated[
        Path | None,
        option("File of the candidates.  \\[default: beside the catalogue]", panel=PROBABILITIES),
    ] = None
    scheduler: Annotated[
        str | None,
        option(
            "Address of a Dask scheduler, or local; --out is then a folder.  \\[default: local if "
            "--out has no ending]",
            panel=CLUSTER,
        ),
    ] = None
    workers: Workers = None
    as_json: AsJson = False

    @property
    def is_survey(self) -> bool:
        """Whether rows are written to a folder of Parquet files instead of one file."""
        if self.scheduler is None:
            return not self.out.suffix and not self.out.is_file()
        if not self.scheduler.strip():  # an unset variable in a script
            raise UsageError(
                "--scheduler is empty. Give an address, tcp://head-node:8786, or local."
            )
        if self.out.suffix or self.out.is_file():
            raise UsageError(
                f"{self.out}: --scheduler writes a folder. Use a name without ending, like survey."
            )
        return True

    @property
    def whole_catalogue(self) -> dict[str, object]:
        """Options that need all rows in memory, by name."""
        return {
            "--catalog": self.catalog,
            "--region": self.region,
            "--plot": self.plot,
            "--candidates": self.candidates,
        }

    def check(self) -> None:
        """Refuse what is wrong with the options, before the model is loaded."""
        from gqs import tables

        if self.is_survey:
            self._check_survey()
        else:
            tables.check_ending(self.out)
        if self.plot is not None and self.plot.suffix.lower() not in PICTURES:
            raise UsageError(f"{self.plot}: a picture must end in {' or '.join(PICTURES)}.")
        is_table = self.out.suffix.lower() == tables.HATS
        if self.out.is_dir() and not self.is_survey and not is_table:
            raise UsageError(f"{self.out}: is a folder. Name a file for the catalogue.")
        check_release_used(self.to_fetch or self.links, "--field, --ra and --dec, or --links")

    def _check_survey(self) -> None:
        for name, value in self.whole_catalogue.items():
            if value is not None:
                raise UsageError(
                    f"{name} needs one catalogue file, such as --out catalogue.parquet."
                )
        if self.workers is not None and self.scheduler not in (None, LOCAL):
            raise UsageError("--workers is for a local cluster; a running one has its own workers.")


@verb(panel=CLASSIFICATION)
def classify(options: ClassifyOptions) -> None:
    """Classify the sources on frames; frames are grouped into fields by their headers.

    Frames of --field, or of --ra and --dec, are fetched if they are not in the cache.

    Examples:

      gqs classify frame-*-003918-3-0213.fits.bz2 --out catalogue.fits --plot field.png

      gqs classify frames/ --out catalogue.parquet --region sources.reg

      gqs classify frames/ --catalog positions.csv --out classified.vot

      gqs classify --field 3918-3-213 --out catalogue.fits

      gqs classify --ra 185.4 --dec 12.7 --out catalogue.fits --plot field.png

      gqs classify frames/ --out catalogue.fits --prior balanced --coverage 0.95

      gqs classify frames/ --out catalogue.fits --candidates QSO --purity 0.9

      gqs classify frames/ --out survey --scheduler tcp://head-node:8786
    """
    from gqs.model.cache import use_in_this_process
    from gqs.model.classifier import load_classifier

    options.check()
    # Wrong file names are reported before the model is loaded, which takes seconds.
    frames = None if options.to_fetch else gather_frames(options, "")
    if options.is_survey and options.out.is_dir():
        with only_writer(options.out):
            pass  # the lock is taken again when the survey starts
    engine = options.engine
    if options.is_survey and engine == "auto":
        from gqs.runs.run_store import RunStore

        # The fastest engine here may differ from the one that the survey was started with.
        engine = RunStore(options.out).engine() or engine
    inline = not options.is_survey and (frames is None or _is_small(frames))
    classifier = load_classifier(
        options.model, engine=engine, threads=1 if inline else None, tell=print_note
    )
    if inline:
        use_in_this_process(classifier)
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    made = provenance("classify", values | {"engine": classifier.computes.name})
    probabilities = ProbabilityOptions.check(classifier, options)
    bands = classifier.bands + ("gri" if options.plot else "")
    frames = frames or gather_frames(options, bands)
    if options.is_survey:
        _classify_survey(options, classifier, frames, probabilities, made)
    else:
        _classify_to_file(options, classifier, frames, probabilities, made)


def _is_small(frames: Frames) -> bool:
    """Whether the frames can be of one field only, which is classified in this process."""
    from gqs.surveys.sdss import BANDS

    return len(frames.paths) <= len(BANDS)


def _classify_to_file(
    options: ClassifyOptions,
    classifier: Classifier,
    frames: Frames,
    probabilities: ProbabilityOptions,
    made: dict[str, str],
) -> None:
    """Classify fields into one catalogue file."""
    from gqs import tables
    from gqs.archive.explore import add_links
    from gqs.executors.inline import InlineExecutor
    from gqs.executors.processes import LocalExecutor
    from gqs.report.palette import ON_SKY
    from gqs.runs.local import classify_parts, concatenate, write_parts
    from gqs.tables.region import write_region

    out = options.out
    # A FITS catalogue of an earlier run may be in the folder of frames.
    paths = [path for path in frames.paths if path.resolve() != out.resolve()]
    positions = None if options.catalog is None else tables.read(options.catalog)
    parts = out.parent / f".{out.name}.parts"
    with progress_bar("Classifying fields") as progress:
        executor: Executor = LocalExecutor(options.workers)
        if _is_small(frames):
            # Starting another process would take as long as the field itself.
            executor = InlineExecutor(lambda step: progress(0, 1, step))
        report = classify_parts(
            classifier,
            paths,
            positions,
            where=options.catalog,
            parts=parts,
            executor=executor,
            progress=progress,
        )
    set_aside = [*frames.set_aside, *report.set_aside]
    code = worst({report.code} | ({frames.code} if frames.set_aside else set()))
    replace(report, set_aside=set_aside, code=code).refuse_none()
    needs_all = [*options.whole_catalogue.values(), options.links or None]
    if out.suffix.lower() == ".parquet" and not any(value is not None for value in needs_all):
        parts_summary = ProbabilitySummary(probabilities, classifier)
        counts = write_parts(report, out, parts_summary.finish, made)
        summary, values = parts_summary.lines(), probabilities.values()
    else:
        table = concatenate(report, positions, options.catalog, classifier.hash)
        table.meta |= made
        if options.links:
            add_links(table, options.release)
        table, summary, values = probabilities.apply(table, classifier)
        tables.write(table, out)
        counts = Counter(str(name) for name in table["class"])
        if options.region is not None:
            write_region(table, options.region, ON_SKY)
    shutil.rmtree(parts, ignore_errors=True)
    pictures = [] if options.plot is None else _plot(table, paths, options.plot)
    counts = Counter({name or "not classified": count for name, count in counts.items()})
    number = len(report.parts)
    lines = [
        f"{counts.total():,} objects in {plural(number, 'field')}: {_listed(counts)}.",
        *([f"{len(set_aside):,} set aside."] if set_aside else []),
        *missing_bands(Counter(report.lacking.values()), number),
        *summary,
        f"Catalogue: {out}",
        *([f"DS9 regions: {options.region}"] if options.region is not None else []),
        *(f"Picture: {picture}" for picture in pictures),
    ]
    result = {
        "out": out,
        "objects": counts.total(),
        "fields": number,
        "by_class": counts,
        "missing_bands": {str(name): bands for name, bands in report.lacking.items()},
        "model": classifier.hash,
        "engine": classifier.computes.name,
        **values,
        "set_aside": set_aside,
    }
    print_result(lines, result, options.as_json)
    finish(set_aside, code or BadInputError.exit_code)


def _classify_survey(
    options: ClassifyOptions,
    classifier: Classifier,
    frames: Frames,
    probabilities: ProbabilityOptions,
    made: dict[str, str],
) -> None:
    """Classify many fields on a Dask cluster into a folder."""
    from gqs.runs.survey import classify_survey

    summary = ProbabilitySummary(probabilities, classifier).lines()
    scheduler = options.scheduler or LOCAL
    if scheduler != LOCAL:
        print_note(f"Connecting to the scheduler at {scheduler}, for up to a minute.")
    with progress_bar("Classifying fields") as progress:
        report = classify_survey(
            classifier,
            frames.paths,
            options.out,
            scheduler=scheduler,
            processes=options.workers,
            prior=options.prior,
            coverage=options.coverage,
            links=options.release if options.links else None,
            provenance=made,
            progress=progress,
            opened=lambda link: print_note(f"Dashboard: {link}"),
        )
    set_aside = [*frames.set_aside, *report.set_aside]
    print_result(
        survey_lines(report, summary),
        _survey_result(report, classifier, set_aside),
        options.as_json,
    )
    codes = {report.code} | ({frames.code} if frames.set_aside else set())
    finish(set_aside, worst(codes), report.folder / "manifest.parquet")


def survey_lines(report: SurveyReport, summary: list[str]) -> list[str]:
    """The result of a survey for people."""
    rate = f", {report.fields_an_hour:,.0f} fields per hour" if report.now else ""
    duplicates = report.rows - report.objects
    return [
        *([] if report.fields else ["No field could be classified."]),
        f"{report.objects:,} objects in {plural(report.fields, 'field')}: "
        f"{_listed(_by_class(report)) or 'none'}.",
        f"{duplicates:,} more rows repeat objects where fields overlap (primary is false).",
        f"{plural(report.now, 'field')} in this run, {report.fields - report.now:,} before, "
        f"{len(report.set_aside):,} set aside{rate}.",
        *missing_bands(report.lacking, report.fields),
        *(summary if report.fields else []),
        *([f"Rows: {report.folder / 'objects'}"] if report.fields else []),
        f"Manifest: {report.folder / 'manifest.parquet'}",
    ]


def _survey_result(
    report: SurveyReport, classifier: Classifier, set_aside: list[str]
) -> dict[str, Any]:
    return {
        "out": report.folder,
        "manifest": report.folder / "manifest.parquet",
        "objects": report.objects,
        "rows": report.rows,
        "fields": report.fields,
        "fields_now": report.now,
        "fields_an_hour": round(report.fields_an_hour, 1),
        "by_class": _by_class(report),
        "fields_missing_bands": report.lacking,
        "model": classifier.hash,
        "engine": classifier.computes.name,
        "set_aside": set_aside,
    }


def _by_class(report: SurveyReport) -> dict[str, int]:
    return {name or "not classified": count for name, count in report.by_class.items()}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def missing_bands(lacking: Mapping[str, int], fields: int) -> list[str]:
    """A sentence on the model's bands that are missing; their rows have the flag MISSING_BAND."""
    from gqs.surveys.sdss import BANDS

    missing = [band for band in BANDS if any(band in bands for bands in lacking)]
    if not missing:
        return []
    *others, last = missing
    which = f"Bands {', '.join(others)} and {last} are" if others else f"Band {last} is"
    affected = sum(lacking.values())
    where = "" if affected == fields else f" in {affected:,} of the {fields:,} fields"
    return [f"{which} missing{where}: the model can use it, so results are less accurate."]


def _plot(predictions: Table, paths: list[Path], plot: Path) -> list[Path]:
    """Draw each field with its sources, one file per field."""
    from gqs.files import write_bytes
    from gqs.imaging.frames import group_fields
    from gqs.report.palette import rendered
    from gqs.report.pictures import classified_field

    written = []
    groups, _ = group_fields(paths)
    for name, files in sorted(groups.items()):
        on_field = predictions[
            (predictions["run"] == name.run)
            & (predictions["camcol"] == name.camcol)
            & (predictions["field"] == name.field)
        ]
        if not len(on_field):
            continue
        picture, wcs, bands = field_picture(files)
        path = plot if len(groups) == 1 else plot.with_stem(f"{plot.stem}-{name}")
        title = f"Field {name}" + ("" if bands == "gri" else f", band {bands} only")
        if "prior" in predictions.meta:
            title += f", prior {predictions.meta['prior']}"
        figure = classified_field(picture, on_field, title, wcs=wcs)
        written.append(write_bytes(path, rendered(figure, path.suffix[1:].lower())))
    return written


def field_picture(files: Mapping[str, Path]) -> tuple[NDArray[np.uint8], WCS, str]:
    """Picture of a field (ny, nx, 3), its WCS and bands: g, r, i in colour, or r in grey."""
    from gqs.imaging.align import align
    from gqs.imaging.frames import read_frame
    from gqs.report.pictures import deep_picture
    from gqs.surveys.sdss import REFERENCE_BAND

    if set("gri") <= set(files):
        with contextlib.suppress(BadInputError):  # such as a band without signal
            stack = align({band: read_frame(files[band]) for band in "gri"}, "gri")
            return deep_picture(stack), stack.wcs, stack.bands
    alone = align({REFERENCE_BAND: read_frame(files[REFERENCE_BAND])}, REFERENCE_BAND)
    return deep_picture(alone), alone.wcs, alone.bands
