"""The verb that gives a model away: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gqs.cli.shell import AsJson, app, say

PANEL = "Using"


@app.command(rich_help_panel=PANEL)
def export(
    out: Annotated[Path, typer.Option(help="File to write; ends in .onnx.")],
    model: Annotated[
        Path | None, typer.Argument(help="Model folder.  \\[default: the one in the package]")
    ] = None,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, 18 to 23.")] = 18,
    as_json: AsJson = False,
) -> None:
    """Write a model as ONNX, for programs that know nothing of gqs.

    Preprocessing, masks, calibration, labels and bands are inside: the file takes cutouts in
    nanomaggies with NaN where a pixel is bad, and gives probabilities.

    Examples:

      gqs export --out model.onnx

      gqs export my-model --out model.onnx --opset 20
    """
    from gqs.model.classifier import load_classifier
    from gqs.model.export import export as written

    told = written(load_classifier(model), out, opset)
    size = out.stat().st_size
    lines = [f"{out}: {size / 1e6:.1f} MB, opset {opset}.", f"images: {told['images']}."]
    if "seeing" in told:
        lines.append(f"seeing: {told['seeing']}.")
    lines += [f"{name}: {told[name]}." for name in ("probabilities", "calibration")]
    say(lines, {"out": out, "bytes": size, "opset": opset, **told}, as_json)
