"""One page that says why: what a source looks like, what it hangs on, what it is like."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from gqs import labels
from gqs.archive.explore import explore_url
from gqs.explain import figures
from gqs.explain.sources import Explained
from gqs.files import write_bytes, write_json
from gqs.model.classifier import Classifier
from gqs.probability.priors import Prior, holds_for
from gqs.report.blocks import Block, Grid, Key, Link, Listing, Paragraph, Section, Shown, page
from gqs.surveys.sdss import BANDS

_CHANGE: Final = 0.01  # of a probability that is worth a word
_FINE: Final = ((0.0005, 4), (0.01, 3))  # mag below which an error needs so many decimals


def write_page(
    out: Path, classifier: Classifier, found: Sequence[Explained], prior: Prior | None = None
) -> dict[str, Any]:
    """Write the explanation of sources as a self-contained page with its numbers in JSON."""
    numbers = {
        "model": classifier.hash,
        "engine": classifier.computes.name,
        "prior": prior.name if prior else None,
        "prior_source": prior.about if prior else None,
        "sources": [one.as_dict() for one in found],
    }
    beside = write_json(out.with_suffix(".json"), numbers)
    sections = [Section(_heading(one), _blocks(one, classifier)) for one in found]
    first = found[0]
    title = _heading(first) if len(found) == 1 else f"Why: {len(found)} sources"
    notes = [
        "A network has no reasons. What is shown is what its answer changes with; where two bands "
        "say the same, leaving out either may change nothing.",
        f"{holds_for(prior)} The parts of pixels are of the network's own answer, before any "
        f"calibration or prior. Engine: {classifier.computes.name}.",
    ]
    text = page(title, _lead(first), _keys(first), notes, sections, beside.name)
    write_bytes(out, text.encode("utf-8", "replace"))
    return numbers


def _heading(one: Explained) -> str:
    return f"{one.row['class'] or 'Not judged'}: objid {one.row['objid']}"


def _lead(one: Explained) -> str:
    if not one.row["class"]:
        return f"This source was not judged: {'; '.join(one.flags())}."
    name = str(one.row["class"])
    text = f"Judged as {name} with a probability of {_share(one.probabilities.max())}"
    after = {band: float(p[labels.index(name)]) for band, p in one.without.items()}
    changes = {
        band: abs(p - one.probabilities.max()) for band, p in after.items() if np.isfinite(p)
    }
    if not changes:
        return f"{text}."
    band = max(changes, key=lambda band: changes[band])
    if changes[band] < _CHANGE:
        which = f"{'any of ' * (len(changes) > 1)}{', '.join(changes)}"
        return (
            f"{text}. No single band decides it: leaving out {which} changes it by less than "
            f"{100 * _CHANGE:g} percentage point."
        )
    return f"{text}; without {band} it would be {_share(after[band])}."


def _share(p: float) -> str:
    return f"{100 * p:.1f} %" if np.isfinite(p) else "–"


def _keys(one: Explained) -> list[Key]:
    keys = [
        Key(name, _share(p), "probability")
        for name, p in zip(labels.CLASSES, one.probabilities, strict=True)
    ]
    if "mag_r" in one.row.colnames and np.isfinite(one.row["mag_r"]):
        value, error = _with_error(one.row["mag_r"], one.row["magerr_r"])
        keys.append(Key("r", value, f"± {error} mag"))
    if "unlike" in one.row.colnames and np.isfinite(one.row["unlike"]):
        far = float(one.row["unlike"])
        keys.append(Key("Unlike", f"{far:.2f}", "above 1: unlike all that was learned"))
    return keys


def _blocks(one: Explained, classifier: Classifier) -> list[Block]:
    name = str(one.row["class"])
    blocks: list[Block] = [
        Shown(
            figures.bands(one),
            "Above: the cutout in colours and in each band, brightness as asinh of the flux. "
            "Below: what each pixel adds to the lead of its class over empty sky (integrated "
            f"gradients), under each band its sum; all together {_signed(one.lead)} in the logit. "
            "What bands say together is shared between them, so read the next figure first.",
            f"Cutouts of the source in {', '.join(one.bands)}, and the parts of their pixels.",
            "png",
        )
    ]
    if name:
        said = "; ".join(
            f"without {band}: p_{name.lower()} {one.probabilities.max():.2f} to "
            f"{p[labels.index(name)]:.2f}"
            for band, p in one.without.items()
        )
        caption = f"Probabilities, and what they would be without a band. {said}"
        blocks.append(Shown(figures.probabilities(one), f"{caption}.", f"{caption}."))
    caption = (
        "Magnitudes and colours: within 3 arcsec, and as of a point source, which is too faint "
        "for a galaxy."
    )
    blocks.append(Grid(caption, *_magnitudes(one)))
    flags = one.flags()
    blocks.append(Listing(flags) if flags else Paragraph("No flag is set."))
    if one.nearest:
        listed = ", ".join(f"{n.name} at {n.distance:.2f}" for n in one.nearest)
        blocks.append(
            Shown(
                figures.nearest(one.nearest),
                "The training objects that the network sees as most similar, with their distance "
                "(in units of that which 99.5 % of unseen objects keep from their class).",
                f"Nearest training objects: {listed}.",
                "png",
            )
        )
    else:
        blocks.append(Paragraph("This model keeps no examples of what it learned from.", note=True))
    ra, dec = float(one.row["ra"]), float(one.row["dec"])
    where = f"ra {ra:.5f}, dec {dec:.5f} on SkyServer (for sources of the real sky)"
    blocks.append(Link(where, explore_url(ra, dec)))
    return blocks


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if np.isfinite(value) else "nothing"


def _magnitudes(one: Explained) -> tuple[list[str], list[list[str]]]:
    """Columns and two rows: magnitudes with errors, then colours of neighbouring bands."""
    here = [band for band in BANDS if f"mag_{band}" in one.row.colnames]
    columns = ["", *here, *(f"{blue}−{red}" for blue, red in pairwise(here))]
    rows = []
    for name, mag, err in (("aperture", "mag", "magerr"), ("PSF", "psf_mag", "psf_mag_err")):
        of = {band: float(one.row[f"{mag}_{band}"]) for band in here}
        errors = (float(one.row[f"{err}_{band}"]) for band in here)
        measured = [_with_error(*both) for both in zip(of.values(), errors, strict=True)]
        colours = (_number(of[blue] - of[red]) for blue, red in pairwise(here))
        rows.append([name, *(f"{value} ± {error}" for value, error in measured), *colours])
    return columns, rows


def _with_error(value: float, error: float) -> tuple[str, str]:
    """Write a magnitude and its error with as many decimals as the error asks for."""
    decimals = next((count for limit, count in _FINE if error < limit), 2)
    return _number(value, decimals), _number(error, decimals)


def _number(value: float, decimals: int = 2) -> str:
    return f"{value:.{decimals}f}".replace("-", "−") if np.isfinite(value) else "–"
