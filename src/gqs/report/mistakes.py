"""A page of the worst mistakes: each with its pixels, so that one sees what went wrong.

Cards are sorted without a script: a radio button above them sets which of their orders counts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gqs import labels
from gqs.archive.explore import explore_url
from gqs.evaluation.matched import MatchedPredictions
from gqs.files import write_atomically
from gqs.report.blocks import CSS, POLICY
from gqs.report.pictures import colours
from gqs.simulation.layout import FIRST_RUN
from gqs.surveys.sdss import SKY_NOISE
from gqs.tables import Flag

PAGE: Final = "mistakes.html"
MOST: Final = 40  # of each pair of classes
AT_ONCE: Final = 32  # cutouts in memory
SOFT: Final = 2.0  # sky noises at which a band's picture turns from linear to logarithmic
_ORDERS: Final = {"sure": "most confident first", "bright": "brightest first",
                  "far": "highest redshift first"}  # fmt: skip
_CSS: Final = """
.cards { display: flex; flex-wrap: wrap; gap: 0.8rem; margin: 0.8rem 0 1.5rem; }
.card { width: 17.6rem; background: var(--card); border: 1px solid var(--rule); padding: 0.6rem;
  font: 0.8rem/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.card img { display: block; width: 100%; height: auto; image-rendering: pixelated; }
.card b { font-size: 0.92rem; } .card span { color: var(--faint); }
.orders { font: 0.86rem system-ui, sans-serif; margin: 1rem auto; }
.orders label { margin-right: 1rem; }
"""


def write_mistakes(
    out: Path,
    judged: MatchedPredictions,
    images: Callable[[NDArray[np.int64]], NDArray[Any]],
    bands: str,
    *,
    flags: NDArray[np.int32],
    positions: NDArray[np.float64],
    most: int = MOST,
) -> Path:
    """Write the mistakes that were made most confidently, by true and judged class."""
    groups = list(pairs(judged, most))
    orders = _ranks(judged, np.concatenate([rows for *_, rows in groups] or [np.zeros(0, int)]))

    def write(file: Any) -> None:
        for text in _page(judged, groups, images, bands, flags, positions, orders):
            file.write(text.encode("utf-8", "replace"))

    return write_atomically(Path(out) / PAGE, write)


def pairs(
    judged: MatchedPredictions, most: int = MOST
) -> Iterator[tuple[str, str, int, NDArray[np.int64]]]:
    """Group mistakes by true and judged class."""
    said = judged.probability[np.arange(len(judged)), judged.decided]
    for i, true in enumerate(labels.CLASSES):
        for j, taken in enumerate(labels.CLASSES):
            rows = np.flatnonzero((judged.truth == i) & (judged.decided == j))
            if i != j and len(rows):
                yield true, taken, len(rows), rows[np.argsort(-said[rows], kind="stable")][:most]


def _ranks(judged: MatchedPredictions, rows: NDArray[np.int64]) -> dict[int, dict[str, int]]:
    """Place of each row in each order; what has no magnitude or redshift comes last."""
    said = judged.probability[np.arange(len(judged)), judged.decided]
    keys = {"sure": -said, "bright": judged.r, "far": -judged.redshift}
    places: dict[int, dict[str, int]] = {int(row): {} for row in rows}
    for name, key in keys.items():
        for place, row in enumerate(rows[np.argsort(key[rows], kind="stable")].tolist()):
            places[row][name] = place
    return places


def _page(
    judged: MatchedPredictions,
    groups: Sequence[tuple[str, str, int, NDArray[np.int64]]],
    images: Callable[[NDArray[np.int64]], NDArray[Any]],
    bands: str,
    flags: NDArray[np.int32],
    positions: NDArray[np.float64],
    orders: dict[int, dict[str, int]],
) -> Iterator[str]:
    wrong = int((~judged.correct).sum())
    title = "The worst mistakes"
    lead = f"{wrong:,} of {len(judged):,} objects were told wrong; the most confident are here."
    rules = "".join(
        f"#by-{name}:checked ~ section .card {{ order: var(--{name}); }}\n" for name in _ORDERS
    )
    yield (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}{_CSS}{rules}</style>\n</head>\n<body>\n"
        f'<header><h1>{title}</h1><p class="lead">{lead}</p>'
        f'<p class="note">Each picture: colours, then the bands {", ".join(bands)}. '
        '<a href="report.html">Back to the report</a></p></header>\n<main class="orders">\n'
    )
    for i, (name, text) in enumerate(_ORDERS.items()):
        checked = " checked" if not i else ""
        yield (
            f'<input type="radio" name="order" id="by-{name}"{checked}>'
            f'<label for="by-{name}">{text}</label>\n'
        )
    for true, taken, count, rows in groups:
        shown = "all shown" if count == len(rows) else f"{len(rows)} shown"
        yield f'<section><h2>{true} taken for {taken}: {count:,}, {shown}</h2><div class="cards">\n'
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            cutouts = images(some)
            strips = _strips(cutouts, bands)
            for row, strip in zip(some.tolist(), strips, strict=True):
                yield _card(judged, row, strip, int(flags[row]), positions[row], orders[row])
        yield "</div></section>\n"
    if not groups:
        yield "<p>Not one object was told wrong.</p>\n"
    yield "</main>\n<footer>Made by gqs. This page runs no script.</footer>\n</body>\n</html>\n"


def _card(
    judged: MatchedPredictions,
    row: int,
    strip: str,
    flags: int,
    position: NDArray[np.float64],
    order: dict[str, int],
) -> str:
    objid, r, z = int(judged.objid[row]), judged.r[row], judged.redshift[row]
    said = ", ".join(
        f"{name} {p:.3f}" for name, p in zip(labels.CLASSES, judged.probability[row], strict=True)
    )
    facts = [f"r = {r:.2f}" if np.isfinite(r) else "r unknown"]
    facts += [f"z = {z:.3f}"] if np.isfinite(z) else []
    names = [str(flag.name) for flag in Flag if flags & flag]
    name = str(objid)
    if judged.field_id[row, 0] < FIRST_RUN and np.isfinite(position).all():  # of the real sky
        name = f'<a href="{escape(explore_url(*position.tolist()))}">{objid}</a>'
    style = "; ".join(f"--{key}: {place}" for key, place in order.items())
    true, taken = (labels.CLASSES[i] for i in (judged.truth[row], judged.decided[row]))
    return (
        f'<div class="card" style="{style}"><img src="data:image/png;base64,{strip}" '
        f'alt="{true} taken for {taken}"><b>{", ".join(facts)}</b><br>{said}<br>'
        f"<span>objid {name}{'; ' if names else ''}{', '.join(names)}</span></div>\n"
    )


def _strips(images: NDArray[Any], bands: str) -> Iterator[str]:
    """One PNG a cutout, base64: colours on the left, each band in grey beside it."""
    grey = np.full((len(images), 0, *images.shape[2:], 3), 0, dtype=np.uint8)
    if images.dtype != np.uint8:
        noise = np.array([SKY_NOISE[band] for band in bands])[:, None, None]
        planes = np.arcsinh(np.nan_to_num(images) / noise / SOFT)
        low = np.quantile(planes, 0.02, axis=(2, 3), keepdims=True)
        high = np.maximum(np.quantile(planes, 0.997, axis=(2, 3), keepdims=True), low + 1)
        level = 255 * np.clip((planes - low) / (high - low), 0, 1)
        grey = np.repeat(level.astype(np.uint8)[..., None], 3, axis=-1)
    for picture, several in zip(colours(images, bands), grey, strict=True):
        whole = np.concatenate([picture, *several], axis=1)[::-1]  # FITS has its first row below
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(whole)).save(buffer, "png", optimize=True)
        yield base64.b64encode(buffer.getvalue()).decode()
