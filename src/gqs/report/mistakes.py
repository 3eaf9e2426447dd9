"""Page of the worst mistakes: the wrong classifications with the highest probability, with pixels.

The cards are sorted without a script: a radio button selects the order that the style sheet uses.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gqs import labels
from gqs.archive.explore import explore_url
from gqs.evaluation.matched import MatchedPredictions
from gqs.files import write_atomically
from gqs.report.pictures import deep_cutouts
from gqs.report.render import HTML
from gqs.simulation.layout import FIRST_RUN
from gqs.surveys.sdss import SKY_NOISE, like
from gqs.tables import Flag

PAGE: Final = "mistakes.html"
LIMIT: Final = 40  # cards of each pair of classes
CHUNK: Final = 32  # cutouts in memory at a time
SOFTENING: Final = 2.0  # sky noises at which a band's picture turns from linear to logarithmic
ORDERS: Final = {
    "sure": "most confident first",
    "bright": "brightest first",
    "far": "highest redshift first",
}


@dataclass(frozen=True)
class ClassifiedCutouts:
    """Cutouts and catalogue entries of matched objects, in the same order."""

    images: Callable[[NDArray[np.int64]], NDArray[Any]]  # cutouts of some rows
    bands: str
    flags: NDArray[np.int32]  # (n,)
    positions: NDArray[np.float64]  # (n, 2) ra and dec, degrees


@dataclass(frozen=True)
class MistakeGroup:
    """Objects of one true class that are classified as another, most confident first."""

    true: str
    predicted: str
    count: int  # of all such objects
    rows: NDArray[np.int64]  # of those that are shown


@dataclass(frozen=True)
class _Card:
    picture: str  # base64 of a PNG
    objid: int
    url: str  # of SkyServer; empty for simulated objects
    facts: str
    probabilities: str
    flags: str
    order: dict[str, int]  # place in each of the orders


@dataclass(frozen=True)
class _Group:
    heading: str
    alt: str
    cards: Iterator[_Card]


def write_mistakes(
    out: Path, matched: MatchedPredictions, cutouts: ClassifiedCutouts, limit: int = LIMIT
) -> Path:
    """Write the page, with at most `limit` objects of each pair of true and predicted class."""
    groups = mistake_groups(matched, limit)
    orders = _orders(matched, groups)
    wrong = int((~matched.correct).sum())
    page = HTML.get_template("mistakes.html.j2").generate(
        lead=f"{wrong:,} of {len(matched):,} objects are classified wrongly; those with the "
        "highest probability are shown.",
        bands=list(cutouts.bands),
        orders=ORDERS,
        groups=[_group(matched, cutouts, group, orders) for group in groups],
    )

    def write(file: Any) -> None:
        for text in page:  # in pieces, so that few cutouts are in memory
            file.write(text.encode("utf-8", "replace"))

    return write_atomically(Path(out) / PAGE, write)


def mistake_groups(matched: MatchedPredictions, limit: int = LIMIT) -> list[MistakeGroup]:
    """Wrong classifications by true and predicted class."""
    groups = []
    for i, true in enumerate(labels.CLASSES):
        for j, predicted in enumerate(labels.CLASSES):
            rows = np.flatnonzero((matched.truth == i) & (matched.decided == j))
            if i != j and len(rows):
                order = np.argsort(-matched.confidence[rows], kind="stable")
                groups.append(MistakeGroup(true, predicted, len(rows), rows[order][:limit]))
    return groups


def _orders(
    matched: MatchedPredictions, groups: Sequence[MistakeGroup]
) -> dict[int, dict[str, int]]:
    """Place of each row in each order; rows without magnitude or redshift are last."""
    rows = np.concatenate([group.rows for group in groups] or [np.zeros(0, int)])
    keys = {"sure": -matched.confidence, "bright": matched.r, "far": -matched.redshift}
    places: dict[int, dict[str, int]] = {int(row): {} for row in rows}
    for name, key in keys.items():
        for place, row in enumerate(rows[np.argsort(key[rows], kind="stable")].tolist()):
            places[row][name] = place
    return places


def _group(
    matched: MatchedPredictions,
    cutouts: ClassifiedCutouts,
    group: MistakeGroup,
    orders: dict[int, dict[str, int]],
) -> _Group:
    shown = "all shown" if group.count == len(group.rows) else f"{len(group.rows)} shown"
    title = f"{group.true} classified as {group.predicted}"
    cards = _cards(matched, cutouts, group.rows, orders)
    return _Group(f"{title}: {group.count:,}, {shown}", title, cards)


def _cards(
    matched: MatchedPredictions,
    cutouts: ClassifiedCutouts,
    rows: NDArray[np.int64],
    orders: dict[int, dict[str, int]],
) -> Iterator[_Card]:
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        strips = _strips(cutouts.images(chunk), cutouts.bands)
        for row, strip in zip(chunk.tolist(), strips, strict=True):
            yield _card(matched, cutouts, row, strip, orders[row])


def _card(
    matched: MatchedPredictions,
    cutouts: ClassifiedCutouts,
    row: int,
    picture: str,
    order: dict[str, int],
) -> _Card:
    r, z, position = matched.r[row], matched.redshift[row], cutouts.positions[row]
    facts = [f"r = {r:.2f}" if np.isfinite(r) else "r unknown"]
    facts += [f"z = {z:.3f}"] if np.isfinite(z) else []
    of_real_sky = matched.field_id[row, 0] < FIRST_RUN and np.isfinite(position).all()
    return _Card(
        picture=picture,
        objid=int(matched.objid[row]),
        url=explore_url(*position.tolist()) if of_real_sky else "",
        facts=", ".join(facts),
        probabilities=", ".join(
            f"{name} {p:.3f}"
            for name, p in zip(labels.CLASSES, matched.probability[row], strict=True)
        ),
        flags=", ".join(str(flag.name) for flag in Flag if int(cutouts.flags[row]) & flag),
        order=order,
    )


def _strips(images: NDArray[Any], bands: str) -> Iterator[str]:
    """Base64 PNGs of each cutout: its colours, and each band in grey to the right."""
    grey = np.full((len(images), 0, *images.shape[2:], 3), 0, dtype=np.uint8)
    if images.dtype != np.uint8:
        noise = np.array([SKY_NOISE[like(band)] for band in bands])[:, None, None]
        planes = np.arcsinh(np.nan_to_num(images) / noise / SOFTENING)
        low = np.quantile(planes, 0.02, axis=(2, 3), keepdims=True)
        high = np.maximum(np.quantile(planes, 0.997, axis=(2, 3), keepdims=True), low + 1)
        level = 255 * np.clip((planes - low) / (high - low), 0, 1)
        grey = np.repeat(level.astype(np.uint8)[..., None], 3, axis=-1)
    for picture, planes_of_one in zip(deep_cutouts(images, bands), grey, strict=True):
        strip = np.concatenate([picture, *planes_of_one], axis=1)[::-1]  # first row at the bottom
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(strip)).save(buffer, "png", optimize=True)
        yield base64.b64encode(buffer.getvalue()).decode()
