"""The whole way on a simulated sky: survey, cutouts, split, training, report, catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.table import Table

from gqs import tables
from gqs.cutouts.build import build_from_frames
from gqs.cutouts.split import split_store
from gqs.cutouts.store import CutoutStore
from gqs.executors import Progress
from gqs.files import write_bytes
from gqs.imaging.align import align
from gqs.imaging.frames import group_fields, read_frame
from gqs.model.classifier import Classifier, load_classifier
from gqs.probability.priors import TRAINING
from gqs.report.appraise import Appraisal, AppraiseOptions, appraise
from gqs.report.blocks import CaptionedFigure
from gqs.report.palette import ON_SKY, rendered
from gqs.report.pictures import classified_field, deep_picture
from gqs.runs.local import classify_fields
from gqs.simulation.fields import simulate
from gqs.simulation.population import Mix
from gqs.tables.region import write_region
from gqs.training import train

FIELDS = 12
PER_FIELD = 220  # objects of each class that are added to a field
RECIPE = "demo"
Bar = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Demo:
    """What the demo made, and where it lies."""

    appraisal: Appraisal  # of the network on fields that it never saw
    catalogue: Path  # one of these fields, classified
    picture: Path
    objects: int  # sources in the catalogue
    store: Path  # cutouts, to train on further
    model: Path  # folder of the trained network
    seconds: float  # wall time

    def lines(self) -> list[str]:
        """Say the result, where it lies, and what to type next."""
        return [
            f"Done in {self.seconds / 60:.1f} minutes, on a simulated sky enriched in quasars.",
            *self.appraisal.lines(),
            f"Catalogue: {self.catalogue} ({self.objects} sources of one unseen field; TOPCAT)",
            f"Picture: {self.picture}",
            "Next:",
            "  gqs classify YOUR-FRAMES.fits.bz2 --out catalogue.fits --plot field.png",
            f"  gqs train {self.store} --out longer --epochs 60",
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON can hold it."""
        baseline = self.appraisal.baseline
        return {
            "metrics": self.appraisal.metrics.to_json(),
            "baseline": baseline.to_json() if baseline else None,
            "report": self.appraisal.report,
            "catalogue": self.catalogue,
            "picture": self.picture,
            "model": self.model,
            "seconds": round(self.seconds, 1),
        }


def run_demo(out: Path, *, seed: int, workers: int | None, bar: Bar, fields: int = FIELDS) -> Demo:
    """Run every step, each of which continues where an earlier run was stopped."""
    begin = time.monotonic()
    sky, cutouts, model = out / "sky", out / "cutouts", out / "model"
    with bar("Simulating the survey") as progress:
        simulate(
            sky, fields, seed, Mix.enriched_with(PER_FIELD), workers=workers, progress=progress
        )
    with bar("Cutting out") as progress:
        build_from_frames(
            [sky / "frames"], sky / "catalog.csv", cutouts, workers=workers, progress=progress
        )
    store = CutoutStore.open(cutouts)
    split = split_store(store, cutouts / "split.parquet", seed=seed)
    with bar("Training") as progress:
        trained = train(store, split, model, RECIPE, seed=seed, progress=progress)
    classifier = load_classifier(model)
    with bar("Classifying a field") as progress:
        found, figure = _classified(classifier, sky, split, workers, progress)
    catalogue = tables.write(found, out / "catalogue.fits")
    write_region(found, out / "catalogue.reg", ON_SKY)
    picture = write_bytes(out / "field.png", rendered(figure.figure, "png"))
    with bar("Evaluating") as progress:
        appraisal = appraise(
            classifier,
            store,
            split,
            out / "report",
            AppraiseOptions(
                seed=seed,
                title="gqs demo: fields that the network never saw",
                notes=[
                    f"The sky is simulated. Quasars are enriched: {PER_FIELD} objects of each "
                    "class are added to every field, where a real one holds about one quasar to "
                    "r = 20.5. Numbers on this page are of this sky, not of SDSS."
                ],
                figures=[figure],
                history=trained.history,
                reproduce={"command": f"gqs demo --seed {seed}", "fields": fields},
            ),
            progress,
        )
    return Demo(appraisal, catalogue, picture, len(found), cutouts, model, time.monotonic() - begin)


def _classified(
    classifier: Classifier, sky: Path, split: Table, workers: int | None, progress: Progress
) -> tuple[Table, CaptionedFigure]:
    """Detect and classify the sources of one field of the test side."""
    group = sorted(set(split["group"][split["split"] == "test"].tolist()))[0]
    fields, _ = group_fields(sorted((sky / "frames" / group).iterdir()))
    ((name, files),) = fields.items()
    # The simulated sky is enriched as the training set is, so its mix is the right prior.
    report = classify_fields(
        classifier, list(files.values()), prior=TRAINING, processes=workers, progress=progress
    )
    found = report.predictions
    stack = align({band: read_frame(files[band]) for band in "gri"}, "gri")
    figure = classified_field(deep_picture(stack), found, f"Field {name}", wcs=stack.wcs)
    caption = f"One held-out field, {len(found)} detected sources classified by the network."
    return found, CaptionedFigure(figure, caption, caption, "jpg")
