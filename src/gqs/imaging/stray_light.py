"""Stray light: satellite trails and halos of bright stars, in which sources are flagged.

A bright trail is one detection of hundreds of pixels that includes the stars it crosses; a faint
one breaks into dozens of small detections. In both cases the pieces are thin, aligned and on one
line. The profile across the line, a median along it, is subtracted so that sources under the trail
are detected; sources that it crosses are flagged.

The extent of a halo follows from the star's isophote, which grows with its flux: the wings of
stars fall as r^-2 (see `gqs.simulation.profiles`), so that at twice the isophote's radius a quarter
of its surface brightness remains, a third of the sky noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gqs.imaging.cores import BRIGHT
from gqs.tables import Flag

REACH: Final = 2.0  # extent of a flagged halo in radii of the star's isophote
_ROUND: Final = 0.4  # least axis ratio of a source with a round halo
ACROSS: Final = 8.0  # pixels, distance within which a trail is in a source's aperture
FEWEST: Final = 8  # thin detections on a line that make a trail
LONGEST: Final = 200  # longest detections, among which pairs are tried
_THIN: Final = 0.6  # largest axis ratio of a piece
_TURN: Final = 0.35  # radians, largest angle between a piece and the line
_OFF: Final = 2.0  # pixels, largest distance from the line
_SPAN: Final = 200.0  # pixels, least length of a chain
# A single detection that is a trail: no galaxy in a field is so long and thin.
_ALONE: Final = 60.0  # pixels, rms along
_ALONE_THIN: Final = 0.1
_FINE: Final = 2  # steps per pixel of the profile across the trail
_HALF: Final = 16 * _FINE  # steps on each side
_RIM: Final = 11 * _FINE  # steps beyond which the sky beside the trail is measured
_CHUNK: Final = 200  # pixels along the trail over which the profile is a median
_SEEN: Final = 5.0  # significance of a trail's flux in a chunk


@dataclass(frozen=True)
class Trail:
    """A line segment in the r frame."""

    x: float  # a point on the line, pixels
    y: float
    angle: float  # radians from +x
    start: float  # ends of the segment, pixels along the line from that point
    end: float

    def place(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Coordinates of points along and across the line, pixels."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        dx, dy = x - self.x, y - self.y
        return dx * cosine + dy * sine, dy * cosine - dx * sine

    def crosses(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether the trail is in the aperture of each point, (n,) bool."""
        along, across = self.place(x, y)
        with np.errstate(invalid="ignore"):
            seen = (along > self.start - ACROSS) & (along < self.end + ACROSS)
            return np.asarray(seen & (np.abs(across) < ACROSS))


@dataclass(frozen=True)
class StrayLight:
    """Satellite trails and halos of a field."""

    trails: tuple[Trail, ...] = ()
    # (n, 3): x, y and radius of the halos of bright stars, pixels
    halos: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))

    def flags(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int32]:
        """Flags HALO and TRAIL of positions, (n,) int32; a bright star is not in its own halo."""
        flags = np.zeros(len(x), dtype=np.int32)
        for star_x, star_y, radius in self.halos:
            away = np.hypot(x - star_x, y - star_y)
            with np.errstate(invalid="ignore"):
                flags[(away > 3) & (away < radius)] |= int(Flag.HALO)
        for trail in self.trails:
            flags[trail.crosses(x, y)] |= int(Flag.TRAIL)
        return flags


def halos(found: NDArray[Any], saturated: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Halos of a field's bright stars: (n, 3) x, y and radius, pixels."""
    star = (found["flux"] > BRIGHT) | (saturated & (found["flux"] > BRIGHT / 3))
    star &= found["b"] > _ROUND * found["a"]
    stars = found[star]
    radius = REACH * np.sqrt(stars["npix"] / math.pi)
    return np.column_stack([stars["x"], stars["y"], radius]).astype(np.float64)


def find_line(found: NDArray[Any]) -> Trail | None:
    """The longest chain of thin detections on a line, or None."""
    thin = found[found["b"] < _THIN * found["a"]]
    alone = thin[(thin["a"] > _ALONE) & (thin["b"] < _ALONE_THIN * thin["a"])]
    if len(alone):
        longest = alone[alone["a"].argmax()]
        reach = math.sqrt(3) * float(longest["a"])  # half-length of a line with that rms
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
    for start in range(0, len(first), 2048):  # bounds memory in crowded fields
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
    """Fit a line by least squares of the distances from it."""
    xm, ym = float(x.mean()), float(y.mean())
    angle = 0.5 * math.atan2(2 * float(((x - xm) * (y - ym)).mean()), float(x.var() - y.var()))
    along = (x - xm) * math.cos(angle) + (y - ym) * math.sin(angle)
    return Trail(xm, ym, angle, float(along.min()), float(along.max()))


def subtract_trail(
    flux: NDArray[np.float32], masked: NDArray[np.bool_], line: Trail, noise: float
) -> Trail | None:
    """Subtract a trail from `flux` in place, with its median profile in pieces of 200 pixels.

    Returns the segment in which the trail was significant, or None.
    """
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
    """Median profile across the line in each piece, (piece, across), sky subtracted."""
    wide = 2 * _HALF + 1
    cell = piece * wide + bins
    known = np.isfinite(values)
    order = np.lexsort((values[known], cell[known]))
    ordered, cells = values[known][order], cell[known][order]
    first = np.searchsorted(cells, np.arange(pieces * wide))
    count = np.diff(np.append(first, len(cells)))
    medians = np.zeros(pieces * wide, dtype=np.float32)
    some = count > _CHUNK / _FINE / 4
    medians[some] = ordered[first[some] + count[some] // 2]
    profile = medians.reshape(pieces, wide)
    beside = np.abs(np.arange(wide) - _HALF) >= _RIM
    profile -= np.median(profile[:, beside], axis=1, keepdims=True)
    profile[:, beside] = 0
    profile[~some.reshape(pieces, wide)] = 0
    return profile


def _run_of(seen: NDArray[np.bool_], middle: int) -> NDArray[np.bool_]:
    """The run of significant pieces around the middle one, with gaps of one allowed."""
    kept = np.zeros(len(seen), dtype=bool)
    for step in (1, -1):
        at, gap = middle, 0
        while 0 <= at < len(seen) and gap < 2:
            gap = 0 if seen[at] else gap + 1
            kept[at] = seen[at]
            at += step
    return kept
