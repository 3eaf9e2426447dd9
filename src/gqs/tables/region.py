"""Predictions as a DS9 region file: one circle per source in the colour of its class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs.files import write_bytes

RADIUS_ARCSEC = 3.0
_NOT_CLASSIFIED = "#888888"


def write_region(predictions: Table, path: Path, colours: Mapping[str, str]) -> Path:
    """Write sources as DS9 circles in the colour of their class, labelled with its probability."""
    lines = ["# Region file format: DS9 version 4.1"]
    if "prior" in predictions.meta:
        lines.append(f"# Probabilities hold for the prior {predictions.meta['prior']}")
    lines.append("icrs")
    for row in predictions[np.isfinite(np.asarray(predictions["ra"]))]:
        name = str(row["class"])
        if name:
            share = row[f"p_{name.lower()}"]
            colour, text = colours[name], f"{name} {share:.2f}"
        else:
            colour, text = _NOT_CLASSIFIED, "not classified"
        lines.append(
            f'circle({row["ra"]:.7f},{row["dec"]:.7f},{RADIUS_ARCSEC}") '
            f"# color={colour} text={{{text}}} tag={{{name or 'none'}}}"
        )
    return write_bytes(Path(path), ("\n".join(lines) + "\n").encode())
