"""What the paper's data set takes: its spectra, the objects chosen, frames, bytes, time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astropy.table import Table

from gqs import labels, tables
from gqs.archive import Plan, plan, skyserver
from gqs.archive.fetch import CONNECTIONS
from gqs.archive.frame_list import fields_in, frames_of
from gqs.archive.query import Spectroscopic
from gqs.archive.releases import find
from gqs.cutouts.split import Balanced, balance_by_run
from gqs.errors import UsageError
from gqs.executors import Progress, cpu_count
from gqs.files import only_writer
from gqs.formatting import duration
from gqs.surveys.sdss import PICTURE_BANDS, REFERENCE_BAND, FrameName, check_bands

Bar = Callable[[str], AbstractContextManager[Progress]]

BYTES_S: Final = 5e6  # assumed of the network: 40 Mbit/s
CUT_S: Final = 12.0  # a field and core, g r i: benchmarks/results/cutouts_memory.json
REQUEST: Final = "request.json"
CUTOUT_BYTES: Final = {"paper": 7_500, "flux": 10_000}  # flux: a band


@dataclass(frozen=True)
class Wish:
    """What the data set shall be."""

    runs: tuple[int, ...]  # imaging runs; their order decides which galaxies and stars are kept
    out: Path  # folder to write
    frames: Path | None = None  # folder of frames; OUT/frames where none is named
    release: str = "16"  # data release
    form: str = "paper"  # of the cutouts, as for `build_from_frames`
    bands: str = PICTURE_BANDS
    edge: str = "paper"
    scheme: str = "paper"  # of the split, as for `make_split`
    seed: int = 1  # of the split
    server: str | None = None  # addresses in place of SkyServer's and the archive's
    mirror: str | None = None
    connections: int = CONNECTIONS  # to the archive at once
    workers: int | None = None  # child processes that cut; one a core

    def __post_init__(self) -> None:
        if not self.runs:
            raise UsageError("Name at least one run with --runs, as in 3430,3434.")
        if len(set(self.runs)) != len(self.runs):
            raise UsageError(f"Runs {', '.join(map(str, self.runs))}: name each run once.")
        if REFERENCE_BAND not in self.needed:
            raise UsageError(f"Bands {self.bands!r}: r must be among them; all follow its grid.")

    def request(self) -> dict[str, object]:
        """Return what decides the data set, as OUT/request.json keeps it."""
        return {
            "runs": list(self.runs),
            "release": str(find(self.release)),
            "form": self.form,
            "bands": self.needed,
            "edge": self.edge,
            "scheme": self.scheme,
            "seed": self.seed,
        }

    def refuse_other(self) -> None:
        """Refuse a folder that was begun as another data set, before anything is asked for."""
        path = self.out / REQUEST
        if not path.is_file():
            return
        then, now = json.loads(path.read_text("utf-8")), self.request()
        for key, value in now.items():
            if then.get(key) != value:
                raise UsageError(
                    f"{self.out}: was begun with {key} {_short(then.get(key))}, {_short(value)} "
                    "is asked for. Name another folder, or delete this one."
                )

    @property
    def folder(self) -> Path:
        """Where frames are kept."""
        return self.frames or self.out / "frames"

    @property
    def needed(self) -> str:
        """Bands whose frames are fetched."""
        return PICTURE_BANDS if self.form == "paper" else check_bands(self.bands)


@dataclass(frozen=True)
class Outlook:
    """What is to be done, before it is done."""

    spectra: Table  # all rows that were pulled
    chosen: Balanced  # objects that are left when classes are made equal
    frames: tuple[FrameName, ...]  # that they lie on
    plan: Plan  # of the fetch
    disk: int  # bytes that frames and cutouts still take, and that the disk of the frames has
    free: int
    fetching_s: float  # seconds at 5 MB/s, and then of cutting on every core
    cutting_s: float

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        catalog = self.chosen.catalog
        counts = {name: int((catalog["class"] == name).sum()) for name in labels.CLASSES}
        kept = ", ".join(
            f"{count} {name} of {runs} run{'s' * (runs != 1)}"
            for name, count in counts.items()
            for runs in [len(self.chosen.runs[name])]
        )
        return [
            f"{len(self.spectra)} spectra; kept {kept}.",
            f"They lie on {self.plan.wanted} frames, {self.plan.here} of them here. Still to come: "
            f"{self.plan.bytes / 1e9:,.2f} GB, {duration(self.fetching_s)} at "
            f"{BYTES_S / 1e6:.0f} MB/s; then about {duration(self.cutting_s)} of cutting out. "
            f"It takes {self.disk / 1e9:,.2f} GB of disk; {self.free / 1e9:,.0f} GB are free.",
        ]

    def as_dict(self) -> dict[str, object]:
        """Return what machines want to know."""
        return {
            "spectra": len(self.spectra),
            "objects": len(self.chosen.catalog),
            "runs": self.chosen.runs,
            "frames": self.plan.wanted,
            "to_fetch": self.plan.to_come,
            "bytes": self.plan.bytes,
            "disk": self.disk,
            "hours": (self.fetching_s + self.cutting_s) / 3600,
        }


def catalogue(wish: Wish, bar: Bar) -> Table:
    """Pull the spectra of the runs, or read them where they were pulled before."""
    wish.refuse_other()
    request = Spectroscopic(runs=wish.runs, form="paper")
    path = wish.out / "spectra.parquet"
    if path.is_file():
        found = tables.read(path)
        same = (found.meta.get("sql"), str(found.meta.get("release")))
        if same != (request.sql(), str(find(wish.release))):
            raise UsageError(
                f"{path}: holds other runs, or another release, than are asked for. Name another "
                "folder, or delete this one."
            )
        return found
    with only_writer(wish.out), bar("Querying") as progress:
        found = skyserver.pull(
            request,
            release=wish.release,
            server=wish.server,
            folder=wish.out / "pages",
            progress=progress,
        )
        tables.write(found, path)
    shutil.rmtree(wish.out / "pages", ignore_errors=True)  # the whole is here
    return found


def outlook(wish: Wish, spectra: Table) -> Outlook:
    """Choose the objects and tell what their frames will take."""
    chosen = balance_by_run(spectra, wish.runs)
    fields = fields_in(chosen.catalog, "catalogue")
    frames = frames_of(fields, wish.needed)
    coming = plan(frames, wish.folder, wish.release, wish.mirror, connections=wish.connections)
    size = CUTOUT_BYTES[wish.form] * (1 if wish.form == "paper" else len(wish.bands))
    return Outlook(
        spectra,
        chosen,
        tuple(frames),
        coming,
        coming.bytes + size * len(chosen.catalog),
        _free(wish.folder),
        coming.bytes / BYTES_S,
        CUT_S * len(fields) / (wish.workers or cpu_count()),
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    places = (folder.absolute(), *folder.absolute().parents)
    return shutil.disk_usage(next(place for place in places if place.is_dir())).free
