"""The verb that says why a source was judged as it was: explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gqs.cli.archive import Mirror, Release, Server
from gqs.cli.frames import Cache, Engine, Model, Source, note, refuse_idle_release, take
from gqs.cli.probabilities import PriorName
from gqs.cli.shell import AsJson, app, finish, say
from gqs.errors import UsageError

PANEL = "Using"
PAGES = (".html", ".htm")


@app.command(rich_help_panel=PANEL)
def explain(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(help="Page to write, as in why.html; its numbers go into why.json.")
    ],
    frames: Annotated[
        list[Path] | None, typer.Argument(help="Frames of one field, or a folder of them.")
    ] = None,
    objid: Annotated[
        list[int] | None,
        typer.Option(help="A source as `gqs classify` names it on these frames; repeatable."),
    ] = None,
    ra: Annotated[
        float | None,
        typer.Option(help="Right ascension, deg; with --dec. Without frames: fetch its field."),
    ] = None,
    dec: Annotated[float | None, typer.Option(help="Declination, deg; with --ra.")] = None,
    x: Annotated[
        float | None, typer.Option(help="Column on the r frame, 0-based pixels; with --y.")
    ] = None,
    y: Annotated[float | None, typer.Option(help="Row on the r frame; with --x.")] = None,
    field: Annotated[
        str | None, typer.Option(help="Fetch this field's frames first, as in 3918-3-213.")
    ] = None,
    release: Release = "16",
    cache: Cache = None,
    mirror: Mirror = None,
    server: Server = None,
    model: Model = None,
    engine: Engine = "auto",
    prior: PriorName = None,
    as_json: AsJson = False,
) -> None:
    """Say why a source was judged as it was: its bands, what it hangs on, what it is like.

    The source is the one detected within 2 arcsec of the position; where none was, the position
    itself is judged. With the model, engine and prior of a catalogue it says what that says.

    Examples:

      gqs explain frames/ --ra 185.4012 --dec 12.7034 --out why.html

      gqs explain frame-*-003918-3-0213.fits.bz2 --x 1024 --y 700 --out why.html

      gqs explain frames/ --objid 2543018311884804 --prior sky --out why.html

      gqs explain --field 3918-3-213 --objid 2543018311884804 --out why.html
    """
    from gqs.explain.page import write_page
    from gqs.explain.sources import Wanted
    from gqs.explain.sources import explain as explain_sources
    from gqs.model.classifier import load_classifier
    from gqs.probability.priors import find_prior, holds_for

    if out.suffix.lower() not in PAGES:
        raise UsageError(f"{out}: pages end in {' or '.join(PAGES)}.")
    if (ra is None) != (dec is None) or (x is None) != (y is None):
        raise UsageError("--ra goes with --dec, and --x with --y.")
    if [bool(objid), ra is not None, x is not None].count(True) != 1:
        raise UsageError("Name sources by one of --objid, --ra with --dec, and --x with --y.")
    refuse_idle_release(context, not frames, "--field, or --ra with --dec to fetch")
    chosen = None if prior is None else find_prior(prior)
    classifier = load_classifier(model, engine=engine, tell=note)
    place = (None, None) if frames or field else (ra, dec)  # on these frames, or to fetch
    source = Source(release, cache, mirror, server)
    fields = [field] if field else []
    paths, missing, code = take(frames, fields, *place, classifier.bands, source)
    asked = Wanted(
        objid=objid or (),
        radec=None if ra is None or dec is None else (ra, dec),
        xy=None if x is None or y is None else (x, y),
    )
    found = explain_sources(classifier, paths, asked, chosen)
    numbers = write_page(out, classifier, found, chosen)
    lines = [
        *(f"objid {one.row['objid']}: {_said(one.as_dict())}" for one in found),
        holds_for(chosen),
        f"Page: {out}",
    ]
    say(lines, {"out": out, **numbers, "set_aside": missing}, as_json)
    finish(missing, code)


def _said(one: dict[str, object]) -> str:
    name = str(one["class"])
    if not name:
        return "not judged."
    text = f"{name} with {one[f'p_{name.lower()}']:.2f}"
    without = one["without"]
    assert isinstance(without, dict)
    changes = [f"without {band} {p[f'p_{name.lower()}']:.2f}" for band, p in without.items()]
    return f"{text}; {', '.join(changes)}." if changes else f"{text}."
