"""Page of an explanation: the source, what its class depends on, similar training objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from gqs import labels
from gqs.archive.explore import explore_url
from gqs.explain import panels
from gqs.explain.sources import Explanation
from gqs.files import write_json
from gqs.formatting import number, percent, signed
from gqs.model.classifier import Classifier
from gqs.probability.priors import Prior, holds_for
from gqs.report.blocks import (
    Block,
    BulletList,
    CaptionedFigure,
    Cell,
    Grid,
    HeadlineNumber,
    Link,
    Paragraph,
    Report,
    Section,
)
from gqs.report.render import write_html
from gqs.surveys.sdss import BANDS

SMALLEST_CHANGE: Final = 0.01  # of a probability that is reported
DECIMALS: Final = ((0.0005, 4), (0.01, 3))  # of magnitudes with errors below a limit; else 2


def write_page(
    out: Path,
    classifier: Classifier,
    sources: Sequence[Explanation],
    prior: Prior | None = None,
) -> dict[str, Any]:
    """Write the explanations as one page, with their numbers as JSON beside it."""
    numbers = {
        "model": classifier.hash,
        "engine": classifier.computes.name,
        "prior": prior.name if prior else None,
        "prior_source": prior.about if prior else None,
        "sources": [source.as_dict() for source in sources],
    }
    numbers_file = write_json(out.with_suffix(".json"), numbers)
    alone = sources[0] if len(sources) == 1 else None
    notes = [
        "The page shows what the result depends on, which is not a physical reason; if two bands "
        "carry the same information, leaving out either one may change nothing.",
        f"{holds_for(prior)} Contributions of pixels are to the network's own result, before "
        f"calibration and prior. Engine: {classifier.computes.name}.",
    ]
    report = Report(
        title=_heading(alone) if alone else f"Explanation of {len(sources)} sources",
        lead=_lead(alone) if alone else _counts(sources),
        sections=[
            Section(_heading(source), [*([] if alone else _summary(source)), *_blocks(source)])
            for source in sources
        ],
        headline_numbers=_headline_numbers(alone) if alone else (),
        notes=notes,
        numbers_file=numbers_file.name,
    )
    write_html(report, out)
    return numbers


def _heading(source: Explanation) -> str:
    return f"{source.row['class'] or 'Not classified'}: objid {source.row['objid']}"


def _counts(sources: Sequence[Explanation]) -> str:
    """How many of several sources are of each class."""
    counts = Counter(str(source.row["class"]) or "not classified" for source in sources)
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) + "."


def _summary(source: Explanation) -> list[Block]:
    """What a page of one source has at its top: the sentence, and the numbers as a table."""
    numbers = _headline_numbers(source)
    row = [Cell(number.value, number.note) for number in numbers]
    table = Grid("Probabilities and measurements.", [number.name for number in numbers], [row])
    return [Paragraph(_lead(source)), table]


def _lead(source: Explanation) -> str:
    """Class, probability, and the band with the largest influence in one sentence."""
    if not source.row["class"]:
        return f"This source is not classified: {'; '.join(source.flags())}."
    name = str(source.row["class"])
    best = source.probabilities.max()
    text = f"Classified as {name} with a probability of {percent(best)}"
    without = {band: float(p[labels.index(name)]) for band, p in source.without.items()}
    changes = {band: abs(p - best) for band, p in without.items() if np.isfinite(p)}
    if not changes:
        return f"{text}."
    band = max(changes, key=lambda band: changes[band])
    if changes[band] < SMALLEST_CHANGE:
        which = f"{'any of ' * (len(changes) > 1)}{', '.join(changes)}"
        return (
            f"{text}. No single band decides it: leaving out {which} changes it by less than "
            f"{100 * SMALLEST_CHANGE:g} percentage point."
        )
    return f"{text}; without {band} it would be {percent(without[band])}."


def _headline_numbers(source: Explanation) -> list[HeadlineNumber]:
    numbers = [
        HeadlineNumber(name, percent(p), "probability")
        for name, p in zip(labels.CLASSES, source.probabilities, strict=True)
    ]
    columns = source.row.colnames
    if "mag_r" in columns and np.isfinite(source.row["mag_r"]):
        value, error = _with_error(source.row["mag_r"], source.row["magerr_r"])
        numbers.append(HeadlineNumber("r", value, f"± {error} mag"))
    if "unlike" in columns and np.isfinite(source.row["unlike"]):
        note = "above 1: unlike all training objects"
        numbers.append(HeadlineNumber("Unlike", number(float(source.row["unlike"]), 2), note))
    return numbers


def _blocks(source: Explanation) -> list[Block]:
    flags = source.flags()
    ra, dec = float(source.row["ra"]), float(source.row["dec"])
    position = f"ra {ra:.5f}, dec {dec:.5f} on SkyServer (for sources of the real sky)"
    caption = (
        "Magnitudes and colours: within 3 arcsec, and from the PSF, which is too faint for a "
        "galaxy."
    )
    return [
        _band_figure(source),
        *_probability_figure(source),
        Grid(caption, *_magnitudes(source)),
        BulletList(flags) if flags else Paragraph("No flag is set."),
        _neighbour_block(source),
        Link(position, explore_url(ra, dec)),
    ]


def _band_figure(source: Explanation) -> CaptionedFigure:
    lead = signed(source.lead, 2) if np.isfinite(source.lead) else "nothing"
    return CaptionedFigure(
        panels.band_panels(source),
        "Above: the cutout in colours and in each band, brightness as asinh of the flux. Below: "
        "the contribution of each pixel to the lead of its class over empty sky (integrated "
        f"gradients), under each band its sum; {lead} in the logit in total. What bands have in "
        "common is shared between them, so read the next figure first.",
        f"Cutouts of the source in {', '.join(source.bands)}, and contributions of their pixels.",
    )


def _probability_figure(source: Explanation) -> list[CaptionedFigure]:
    name = str(source.row["class"])
    if not name:
        return []
    changes = "; ".join(
        f"without {band}: p_{name.lower()} {source.probabilities.max():.2f} to "
        f"{p[labels.index(name)]:.2f}"
        for band, p in source.without.items()
    )
    caption = f"Probabilities, and what they would be without a band. {changes}."
    return [CaptionedFigure(panels.probability_bars(source), caption, caption)]


def _neighbour_block(source: Explanation) -> Block:
    if not source.nearest:
        return Paragraph("This model stores no examples of its training objects.", note=True)
    listed = ", ".join(f"{n.name} at {n.distance:.2f}" for n in source.nearest)
    return CaptionedFigure(
        panels.neighbour_panels(source.nearest),
        "The training objects that are most similar for the network, with their distance (in units "
        "of the one below which 99.5 % of the validation objects are from their class).",
        f"Nearest training objects: {listed}.",
    )


def _magnitudes(source: Explanation) -> tuple[list[str], list[list[str]]]:
    """Columns and two rows: magnitudes with errors, then colours of neighbouring bands."""
    bands = [band for band in BANDS if f"mag_{band}" in source.row.colnames]
    columns = ["", *bands, *(f"{blue}−{red}" for blue, red in pairwise(bands))]
    rows = []
    for name, mag, err in (("aperture", "mag", "magerr"), ("PSF", "psf_mag", "psf_mag_err")):
        mags = {band: float(source.row[f"{mag}_{band}"]) for band in bands}
        errors = (float(source.row[f"{err}_{band}"]) for band in bands)
        cells = [_with_error(*both) for both in zip(mags.values(), errors, strict=True)]
        colours = (number(mags[blue] - mags[red], 2) for blue, red in pairwise(bands))
        rows.append([name, *(f"{value} ± {error}" for value, error in cells), *colours])
    return columns, rows


def _with_error(value: float, error: float) -> tuple[str, str]:
    """A magnitude and its error, with decimals that the error requires."""
    decimals = next((count for limit, count in DECIMALS if error < limit), 2)
    return number(value, decimals), number(error, decimals)
