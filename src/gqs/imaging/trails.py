"""Satellites' trails across a frame: found as chains of thin detections on one line, taken off.

A bright trail is one detection of hundreds of pixels which swallows the stars that it crosses; a
faint one breaks into dozens of small ones. Either way its pieces are thin, point along one line
and lie on it. What the line's own profile, a median along it, tells of its light is subtracted, so
that sources under it are found; those that it crosses are flagged, since their light is not clean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ACROSS: Final = 8.0  # pixels: a source so near to a trail has it in its aperture
FEWEST: Final = 8  # thin detections on a line that make a trail
LONGEST: Final = 200  # detections among which pairs are tried; the longest go first
_THIN: Final = 0.6  # minor over major axis of a piece
_TURN: Final = 0.35  # radians by which a piece may point off the line
_OFF: Final = 2.0  # pixels from the line
_SPAN: Final = 200.0  # pixels that a chain covers at least
# One detection that is a trail by itself: no galaxy on a field is so long and so thin.
_ALONE: Final = 60.0  # pixels, rms along
_ALONE_THIN: Final = 0.1
_FINE: Final = 2  # steps a pixel in which the profile across is measured
_HALF: Final = 16 * _FINE  # steps to each side
_RIM: Final = 11 * _FINE  # steps from which on the sky beside the trail is taken
_CHUNK: Final = 200  # pixels along, over which the profile is a median
_SEEN: Final = 5.0  # sigmas from which a chunk's light is a trail's


@dataclass(frozen=True)
class Trail:
    """A straight line on the r frame, and how much of it shines."""

    x: float  # A point on it, pixels
    y: float
    angle: float  # radians from +x
    start: float  # pixels along it from that point between which it was seen
    end: float

    def place(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Tell how far along the line and how far across it points lie."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        dx, dy = x - self.x, y - self.y
        return dx * cosine + dy * sine, dy * cosine - dx * sine

    def crosses(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which points have the trail's light in their aperture: (n,) bool."""
        along, across = self.place(x, y)
        with np.errstate(invalid="ignore"):
            seen = (along > self.start - ACROSS) & (along < self.end + ACROSS)
            return np.asarray(seen & (np.abs(across) < ACROSS))


def find_line(found: NDArray[Any]) -> Trail | None:
    """Find the straightest and longest chain among a field's detections."""
    thin = found[found["b"] < _THIN * found["a"]]
    alone = thin[(thin["a"] > _ALONE) & (thin["b"] < _ALONE_THIN * thin["a"])]
    if len(alone):
        longest = alone[alone["a"].argmax()]
        reach = math.sqrt(3) * float(longest["a"])  # of a line with that rms
        x, y, theta = (float(longest[key]) for key in ("x", "y", "theta"))
        return Trail(x, y, theta, -reach, reach)
    if len(thin) < FEWEST:
        return None
    thin = thin[np.argsort(-thin["a"], kind="stable")][:LONGEST]
    xs, ys = thin["x"].astype(float), thin["y"].astype(float)
    first, second = np.triu_indices(len(thin), 1)
    angle = np.arctan2(ys[second] - ys[first], xs[second] - xs[first])
    apart = np.hypot(ys[second] - ys[first], xs[second] - xs[first])
    likely = (
        (apart > 20) & _along(thin["theta"][first], angle) & _along(thin["theta"][second], angle)
    )
    first, angle = first[likely], angle[likely]
    best: NDArray[np.bool_] = np.zeros(len(thin), dtype=bool)
    for start in range(0, len(first), 2048):  # memory stays flat in crowded fields
        some, turn = first[start : start + 2048, None], angle[start : start + 2048, None]
        across = (ys - ys[some]) * np.cos(turn) - (xs - xs[some]) * np.sin(turn)
        on = (np.abs(across) < _OFF) & _along(thin["theta"], turn)
        top = on[on.sum(axis=1).argmax()]
        best = top if top.sum() > best.sum() else best
    if best.sum() < FEWEST:
        return None
    line = _through(xs[best], ys[best])
    return line if line.end - line.start > _SPAN else None


def _along(theta: NDArray[Any], angle: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.abs((theta - angle + np.pi / 2) % np.pi - np.pi / 2) < _TURN)


def _through(x: NDArray[np.float64], y: NDArray[np.float64]) -> Trail:
    """Fit the line with the least squares across it."""
    xm, ym = float(x.mean()), float(y.mean())
    angle = 0.5 * math.atan2(2 * float(((x - xm) * (y - ym)).mean()), float(x.var() - y.var()))
    along = (x - xm) * math.cos(angle) + (y - ym) * math.sin(angle)
    return Trail(xm, ym, angle, float(along.min()), float(along.max()))


def take_off(
    flux: NDArray[np.float32], masked: NDArray[np.bool_], line: Trail, noise: float
) -> Trail | None:
    """Subtract a trail's light, as the median along it has it in pieces of 200 pixels."""
    ny, nx = flux.shape
    y, x = np.arange(ny, dtype=np.float32)[:, None], np.arange(nx, dtype=np.float32)[None, :]
    along, across = line.place(x, y)
    rows, columns = np.nonzero(np.abs(across) < _HALF / _FINE)
    along, across = along[rows, columns], across[rows, columns] * _FINE
    if not len(along):
        return None
    first, length = float(along.min()), float(np.ptp(along)) + 1
    pieces = max(round(length / _CHUNK), 1)
    size = length / pieces
    piece = ((along - first) / size).astype(np.intp)
    bins = np.rint(across).astype(np.intp) + _HALF
    values = np.where(masked[rows, columns], np.nan, flux[rows, columns])
    profile = _medians(values, piece, bins, pieces)
    core = np.abs(np.arange(2 * _HALF + 1) - _HALF) <= 3 * _FINE
    light = profile[:, core].sum(axis=1)
    seen = light > _SEEN * noise * math.sqrt(core.sum() * math.pi / 2 / (_CHUNK / _FINE))
    middle = int((0.5 * (line.start + line.end) - first) / size)
    shining = _run_of(seen, min(max(middle, 0), pieces - 1))
    if not shining.any():
        return None
    profile[~shining] = 0
    at = np.clip(across + _HALF, 0, 2 * _HALF - 1e-3)
    low, share = at.astype(np.intp), at % 1
    flux[rows, columns] -= profile[piece, low] * (1 - share) + profile[piece, low + 1] * share
    flux[masked] = 0
    where = np.flatnonzero(shining)
    start, end = first + size * float(where[0]), first + size * float(where[-1] + 1)
    return Trail(line.x, line.y, line.angle, start, end)


def _medians(
    values: NDArray[Any], piece: NDArray[np.intp], bins: NDArray[np.intp], pieces: int
) -> NDArray[np.float32]:
    """Profile across the line in each piece, (piece, across), above the sky beside it."""
    wide = 2 * _HALF + 1
    cell = piece * wide + bins
    known = np.isfinite(values)
    order = np.lexsort((values[known], cell[known]))
    ordered, cells = values[known][order], cell[known][order]
    first = np.searchsorted(cells, np.arange(pieces * wide))
    count = np.diff(np.append(first, len(cells)))
    told = np.zeros(pieces * wide, dtype=np.float32)
    some = count > _CHUNK / _FINE / 4
    told[some] = ordered[first[some] + count[some] // 2]
    profile = told.reshape(pieces, wide)
    beside = np.abs(np.arange(wide) - _HALF) >= _RIM
    profile -= np.median(profile[:, beside], axis=1, keepdims=True)
    profile[:, beside] = 0
    profile[~some.reshape(pieces, wide)] = 0
    return profile


def _run_of(seen: NDArray[np.bool_], middle: int) -> NDArray[np.bool_]:
    """Keep the pieces seen around the middle one, over gaps of one."""
    kept = np.zeros(len(seen), dtype=bool)
    for step in (1, -1):
        at, gap = middle, 0
        while 0 <= at < len(seen) and gap < 2:
            gap = 0 if seen[at] else gap + 1
            kept[at] = seen[at]
            at += step
    return kept
