"""Verbs that pass results on: export (a model as ONNX) and send (a catalogue over SAMP)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gqs.cli.app import CLASSIFICATION, finish, print_result, verb
from gqs.cli.options import OUTPUT, AsJson, option
from gqs.errors import NetworkError
from gqs.formatting import size


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `gqs export`."""

    out: Annotated[Path, option("File to write, ending in .onnx.", panel=OUTPUT)]
    model: Annotated[
        Path | None, typer.Argument(help="Model folder.  \\[default: the model in the package]")
    ] = None
    opset: Annotated[int, option("ONNX operator set, 18 to 23.")] = 18
    as_json: AsJson = False


@verb(panel=CLASSIFICATION)
def export(options: ExportOptions) -> None:
    """Write a model as ONNX, for use without gqs.

    The file contains preprocessing, masks, calibration, labels and bands: it takes cutouts in
    nanomaggies, NaN where a pixel is bad, and returns probabilities.

    Examples:

      gqs export --out model.onnx

      gqs export my-model --out model.onnx --opset 20
    """
    from gqs.model.classifier import load_classifier
    from gqs.model.export import export as write_onnx

    metadata = write_onnx(load_classifier(options.model), options.out, options.opset)
    n_bytes = options.out.stat().st_size
    lines = [f"{options.out}: {size(n_bytes)}, opset {options.opset}."]
    described = ("images", "seeing", "probabilities", "calibration")
    lines += [f"{name}: {metadata[name]}." for name in described if name in metadata]
    values = {"out": options.out, "bytes": n_bytes, "opset": options.opset, **metadata}
    print_result(lines, values, options.as_json)


@dataclass(frozen=True, kw_only=True)
class SendOptions:
    """Options of `gqs send`."""

    catalogue: Annotated[Path, typer.Argument(help="Table that `gqs classify` wrote.")]
    to: Annotated[
        str, option("all, or a client's name or part of it, such as topcat, aladin or ds9.")
    ] = "all"
    hub: Annotated[
        str | None,
        option("Address or path of the hub's lock file.  \\[default: $SAMP_HUB, or ~/.samp]"),
    ] = None
    as_json: AsJson = False


@verb(panel=CLASSIFICATION)
def send(options: SendOptions) -> None:
    """Send a catalogue to TOPCAT, Aladin, DS9 or another running program over SAMP.

    TOPCAT and Aladin start the hub that this needs.

    Examples:

      gqs send catalogue.fits

      gqs send catalogue.parquet --to topcat
    """
    from gqs.samp import send as send_table

    catalogue = options.catalogue
    sent = send_table(catalogue, options.to, options.hub)
    names = ", ".join(sent.loaded)
    lines = [f"{names}: loaded {catalogue}." if names else f"No program loaded {catalogue}."]
    values = {"catalogue": catalogue, "loaded": sent.loaded, "set_aside": sent.set_aside}
    print_result(lines, values, options.as_json)
    finish(sent.set_aside, NetworkError.exit_code)
