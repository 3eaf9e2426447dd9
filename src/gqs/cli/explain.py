"""The verb that explains the classification of a source: explain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from gqs.cli.app import CLASSIFICATION, finish, print_note, print_result, verb
from gqs.cli.frames import check_release_used, gather_frames
from gqs.cli.options import (
    INPUT,
    OUTPUT,
    AsJson,
    FrameSource,
    ModelChoice,
    Prior,
    option,
)
from gqs.errors import UsageError

PAGES = (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(ModelChoice, FrameSource):
    """Options of `gqs explain`."""

    out: Annotated[
        Path,
        option("Page to write, such as why.html; its numbers go to why.json.", panel=OUTPUT),
    ]
    objid: Annotated[
        list[int] | None,
        option("Source by the objid that `gqs classify` gave it; repeatable.", panel=INPUT),
    ] = None
    x: Annotated[
        float | None, option("Column in the r frame, 0-based pixels, with --y.", panel=INPUT)
    ] = None
    y: Annotated[float | None, option("Row in the r frame.", panel=INPUT)] = None
    prior: Prior = None
    as_json: AsJson = False

    def check(self) -> None:
        """Refuse options that contradict each other."""
        if self.out.suffix.lower() not in PAGES:
            raise UsageError(f"{self.out}: a page must end in {' or '.join(PAGES)}.")
        if (self.ra is None) != (self.dec is None) or (self.x is None) != (self.y is None):
            raise UsageError("--ra is needed with --dec, and --x with --y.")
        if [bool(self.objid), self.ra is not None, self.x is not None].count(True) != 1:
            raise UsageError("Name sources by one of --objid, --ra and --dec, or --x and --y.")
        if self.field and len(self.field) > 1:
            raise UsageError("--field: one field at a time is explained.")
        check_release_used(not self.frames, "--field, or --ra and --dec without frames")


@verb(panel=CLASSIFICATION)
def explain(options: ExplainOptions) -> None:
    """Explain the classification of a source: its bands, what the result depends on, neighbours.

    The source is the one detected within 2 arcsec of the position; if there is none, the position
    itself is classified. Use the model, engine and prior of a catalogue to explain that catalogue.

    Examples:

      gqs explain frames/ --ra 185.4012 --dec 12.7034 --out why.html

      gqs explain frame-*-003918-3-0213.fits.bz2 --x 1024 --y 700 --out why.html

      gqs explain frames/ --objid 2543018311884804 --prior balanced --out why.html

      gqs explain --field 3918-3-213 --objid 2543018311884804 --out why.html
    """
    from gqs.explain.page import write_page
    from gqs.explain.sources import SourceSelection
    from gqs.explain.sources import explain as explain_sources
    from gqs.model.classifier import load_classifier
    from gqs.model.reweight import default_prior
    from gqs.probability.priors import TRAINING, choose_prior, holds_for

    options.check()
    if options.prior is not None:
        choose_prior(options.prior, options.prior)  # refused before the model is loaded
    classifier = load_classifier(options.model, engine=options.engine, tell=print_note)
    prior = choose_prior(options.prior, default_prior(classifier, positions=False))
    # With frames or a field, ra and dec name the source and not the field to fetch.
    here = bool(options.frames or options.field)
    source = replace(options, ra=None, dec=None) if here else options
    frames = gather_frames(source, classifier.bands)
    radec = None if options.ra is None or options.dec is None else (options.ra, options.dec)
    xy = None if options.x is None or options.y is None else (options.x, options.y)
    selection = SourceSelection(objid=options.objid or (), radec=radec, xy=xy)
    explained = explain_sources(classifier, frames.paths, selection, prior or TRAINING)
    numbers = write_page(options.out, classifier, explained, prior)
    lines = [
        *(f"objid {source.row['objid']}: {_summary(source.as_dict())}" for source in explained),
        holds_for(prior),
        f"Page: {options.out}",
    ]
    values = {"out": options.out, **numbers, "set_aside": frames.set_aside}
    print_result(lines, values, options.as_json)
    finish(frames.set_aside, frames.code)


def _summary(source: dict[str, object]) -> str:
    """Class and probability, and the probability without each band, as one line."""
    name = str(source["class"])
    if not name:
        return "not classified."
    column = f"p_{name.lower()}"
    without = source["without"]
    assert isinstance(without, dict)
    text = f"{name}, probability {source[column]:.2f}"
    changes = [f"without {band} {p[column]:.2f}" for band, p in without.items()]
    return f"{'; '.join([text, ', '.join(changes)]) if changes else text}."
