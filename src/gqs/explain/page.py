"""One page that says why: what a source looks like, what it hangs on, what it is like."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gqs import labels
from gqs.classify.classifier import Classifier
from gqs.classify.priors import Prior, holds_for
from gqs.evaluation.page import Block, Grid, Key, Link, Listing, Paragraph, Section, Shown, page
from gqs.explain import figures
from gqs.explain.sources import Explained
from gqs.files import write_bytes, write_json
from gqs.survey.explore import explore_url
from gqs.survey.sdss import BANDS


def write_page(
    out: Path, classifier: Classifier, found: Sequence[Explained], prior: Prior | None = None
) -> dict[str, Any]:
    """Write what is to be said of sources as a page that stands alone, and its numbers beside it.

    Parameters
    ----------
    out : Path
        The page, as in why.html; the numbers go into why.json.
    classifier : Classifier
        Who judged.
    found : sequence of Explained
        At least one source.
    prior : Prior, optional
        With which they were explained.

    Returns
    -------
    dict
        The numbers.
    """
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
    changes = {
        band: p[labels.index(name)] - one.probabilities.max() for band, p in one.without.items()
    }
    if changes:
        band = min(changes, key=lambda band: changes[band])
        after = one.without[band][labels.index(name)]
        text += f"; without {band} it would be {_share(after)}"
    return f"{text}."


def _share(p: float) -> str:
    return f"{100 * p:.1f} %" if np.isfinite(p) else "–"


def _keys(one: Explained) -> list[Key]:
    keys = [
        Key(name, _share(p), "probability")
        for name, p in zip(labels.CLASSES, one.probabilities, strict=True)
    ]
    if "mag_r" in one.row.colnames and np.isfinite(one.row["mag_r"]):
        keys.append(Key("r", f"{one.row['mag_r']:.2f}", f"± {one.row['magerr_r']:.2f} mag"))
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
    blocks.append(Grid("Aperture magnitudes (3 arcsec) and colours.", *_magnitudes(one)))
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
    """Columns and one row: magnitudes with errors, then colours of neighbouring bands."""
    here = [band for band in BANDS if f"mag_{band}" in one.row.colnames]
    columns, row = [""], ["this source"]
    for band in here:
        columns.append(band)
        row.append(f"{one.row[f'mag_{band}']:.2f} ± {one.row[f'magerr_{band}']:.2f}")
    for blue, red in pairwise(here):
        columns.append(f"{blue}−{red}")
        row.append(f"{one.row[f'mag_{blue}'] - one.row[f'mag_{red}']:.2f}")
    return columns, [row]
