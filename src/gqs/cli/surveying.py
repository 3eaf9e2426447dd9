"""`gqs classify` into a folder: a survey on a Dask cluster, and what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gqs.cli.frames import note, said_of_missing
from gqs.cli.shell import bar, finish, say
from gqs.errors import UsageError, worst
from gqs.files import only_writer

if TYPE_CHECKING:
    from gqs.cli.frames import Taken
    from gqs.model.classifier import Classifier
    from gqs.runs.survey import SurveyReport

Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask cluster's scheduler, or local; --out is a folder then.  "
        "\\[default: local where --out has no ending]"
    ),
]


def is_survey(out: Path, scheduler: str | None) -> bool:
    """Tell whether rows go to a folder of Parquet rather than into one file."""
    if scheduler is None:
        return not out.suffix and not out.is_file()
    if not scheduler.strip():  # of a variable in a script that is not set
        raise UsageError(
            "--scheduler is empty. Name an address, as tcp://head-node:8786, or local."
        )
    if out.suffix or out.is_file():
        raise UsageError(
            f"{out}: with --scheduler rows go to a folder. Name one without an ending, as survey."
        )
    return True


def refuse_in_survey(
    out: Path, asked: dict[str, object], scheduler: str | None, processes: int | None
) -> None:
    """Refuse what a survey cannot do, before any work."""
    for option, value in asked.items():
        if value is not None:
            raise UsageError(f"{option} needs all rows in one file: --out catalogue.parquet, say.")
    if processes is not None and scheduler not in (None, "local"):
        raise UsageError("--workers is for a local cluster; a running one has its own.")
    if out.is_dir():
        with only_writer(out):
            pass  # it is taken in earnest when the survey begins


def classify_into_folder(
    classifier: Classifier,
    taken: Taken,
    out: Path,
    cluster: tuple[str | None, int | None],
    asked: dict[str, Any],
    more: list[str],
    as_json: bool,
) -> None:
    """Classify a survey and tell its summary."""
    from gqs.executors.dask_cluster import LOCAL
    from gqs.runs.survey import classify_survey

    def opened(link: str) -> None:
        print(f"Dashboard: {link}", file=sys.stderr, flush=True)

    if cluster[0] not in (None, LOCAL):
        note(f"Reaching the scheduler at {cluster[0]}; it has a minute to answer.")
    with bar("Classifying fields") as progress:
        report = classify_survey(
            classifier,
            taken.paths,
            out,
            scheduler=cluster[0] or LOCAL,
            processes=cluster[1],
            **asked,
            progress=progress,
            opened=opened,
        )
    set_aside = [*taken.set_aside, *report.set_aside]
    say(_lines(report, more), _result(report, classifier, set_aside), as_json)
    codes = {report.code} | ({taken.code} if taken.set_aside else set())
    finish(set_aside, worst(codes), report.folder / "manifest.parquet")


def _lines(report: SurveyReport, more: list[str]) -> list[str]:
    listed = ", ".join(f"{count:,} {name}" for name, count in sorted(_classes(report).items()))
    rate = f", {report.fields_an_hour:,.0f} fields an hour" if report.now else ""
    again = report.rows - report.objects
    return [
        *([] if report.fields else ["No field could be classified."]),
        f"{report.objects:,} objects in {_fields(report.fields)}: {listed or 'none'}.",
        f"{again:,} more rows show objects again where fields overlap (primary is false).",
        f"{_fields(report.now)} now, {report.fields - report.now:,} before, "
        f"{len(report.set_aside):,} set aside{rate}.",
        *said_of_missing(report.lacking, report.fields),
        *(more if report.fields else []),
        *([f"Rows: {report.folder / 'objects'}"] if report.fields else []),
        f"Manifest: {report.folder / 'manifest.parquet'}",
    ]


def _fields(number: int) -> str:
    return f"{number:,} field{'s'[: number != 1]}"


def _classes(report: SurveyReport) -> dict[str, int]:
    return {name or "not judged": count for name, count in report.by_class.items()}


def _result(report: SurveyReport, classifier: Classifier, set_aside: list[str]) -> dict[str, Any]:
    return {
        "out": report.folder,
        "manifest": report.folder / "manifest.parquet",
        "objects": report.objects,
        "rows": report.rows,
        "fields": report.fields,
        "fields_now": report.now,
        "fields_an_hour": round(report.fields_an_hour, 1),
        "by_class": _classes(report),
        "fields_missing_bands": report.lacking,
        "model": classifier.hash,
        "engine": classifier.computes.name,
        "set_aside": set_aside,
    }
