"""The archive's frames on the loopback server: real ones where they are at hand, or simulated.

A frame of any field can be made from one that is there: its header is written anew, compressed by
itself, and followed by the compressed rest, since several bzip2 streams in a row are one file.
"""

from __future__ import annotations

import bz2
import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gqs.archive.frame_list import frames_of
from gqs.archive.releases import all_releases
from gqs.surveys.sdss import FRAME_OFFSET, FieldId, FrameName
from loopback.server import Answer, LoopbackServer, Request

_PATH = (
    r"/sas/dr(\d+)/(boss|eboss|prior-surveys/sdss4-dr17-eboss)/photoObj/frames/301/"
    r"(\d+)/([1-6])/frame-([ugriz])-(\d{6})-([1-6])-(\d{4})\.fits\.bz2$"
)
Frames = Callable[[FrameName], bytes | None]


def serve_frames(server: LoopbackServer, frames: Frames) -> None:
    """Answer the path that each release has, and no other."""

    def answer(request: Request) -> Answer:
        found = re.match(_PATH, request.path)
        if found is None:
            return Answer(b"<html><body>404 Not Found</body></html>", 404, "text/html")
        release, path, run, camcol, band, *name = found.groups()
        known = all_releases().get(int(release))
        field = FieldId(*map(int, name))
        body = None
        if known and known.path == path and (int(run), int(camcol)) == field[:2]:
            body = frames(FrameName(band, field))
        if body is None:
            return Answer(b"<html><body>404 Not Found</body></html>", 404, "text/html")
        return Answer(body, kind="application/x-bzip2")

    server.route("/sas/", answer)


def files_in(folder: Path) -> Frames:
    """Frames as they lie in a folder, at any depth, by their names."""
    found = {path.name: path for path in folder.rglob("frame-*.fits.bz2")}

    def frame(name: FrameName) -> bytes | None:
        path = found.get(str(name))
        return None if path is None else path.read_bytes()

    return frame


def any_field(pattern: bytes) -> Frames:
    """Any field of any run, with the pixels of one frame and a header of its own."""
    plain = bz2.decompress(pattern)
    end = plain.index(b"END" + b" " * 77) // 2880 * 2880 + 2880
    rest = bz2.compress(plain[end:], int(pattern[3:4]))  # at the level of the original

    @functools.lru_cache(maxsize=256)
    def frame(name: FrameName) -> bytes:
        run, camcol, field = name.field
        values = {"RUN": run, "CAMCOL": camcol, "FRAME": field + FRAME_OFFSET[name.band]}
        header = plain[:end]
        for key, value in {**values, "FILTER": f"'{name.band}       '"}.items():
            at = header.index(f"{key:<8}= ".encode())
            card = f"{key:<8}= {value:>20}" if key != "FILTER" else f"{key:<8}= {value}"
            header = header[:at] + f"{card:<80}".encode() + header[at + 80 :]
        return bz2.compress(header) + rest

    return frame


def small_frame(seed: int = 5, shape: tuple[int, int] = (60, 80)) -> bytes:
    """One frame of a few kilobytes with all that a frame has: an exposure of an empty sky."""
    from gqs.simulation.conditions import draw_conditions
    from gqs.simulation.exposure import expose
    from gqs.simulation.frame_files import compressed_frame
    from gqs.simulation.layout import place, plan

    rng = np.random.default_rng(seed)
    field = plan(1)[0]
    conditions = draw_conditions(field, place(field), rng, shape)
    flux = expose(np.zeros(shape, np.float32), conditions.bands["r"], rng)
    return compressed_frame(flux, conditions, "r")


def some_frames(fields: int, bands: str = "r", run: int = 3918) -> list[FrameName]:
    """Names of the frames of consecutive fields."""
    return frames_of([FieldId(run, 3, 11 + i) for i in range(fields)], bands)
