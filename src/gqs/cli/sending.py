"""The verb that hands a catalogue to TOPCAT, Aladin or DS9: send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gqs.cli.shell import AsJson, app, finish, say
from gqs.errors import NetworkError

PANEL = "Using"


@app.command(rich_help_panel=PANEL)
def send(
    catalogue: Annotated[Path, typer.Argument(help="A table, as `gqs classify` writes it.")],
    to: Annotated[
        str, typer.Option(help="all, or a client's name or part of it: topcat, aladin, ds9.")
    ] = "all",
    hub: Annotated[
        str | None,
        typer.Option(
            help="Address or path of the hub's lock file.  \\[default: $SAMP_HUB, or ~/.samp]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a table to the programs that run beside it, over SAMP.

    The hub is the one that TOPCAT or Aladin brings along.

    Examples:

      gqs send catalogue.fits

      gqs send catalogue.parquet --to topcat
    """
    from gqs.samp import send as send_table

    sent = send_table(catalogue, to, hub)
    names = ", ".join(sent.loaded)
    lines = [f"{names}: loaded {catalogue}."] if sent.loaded else [f"No one loaded {catalogue}."]
    result = {"catalogue": catalogue, "loaded": sent.loaded, "set_aside": sent.set_aside}
    say(lines, result, as_json)
    finish(sent.set_aside, NetworkError.exit_code)
