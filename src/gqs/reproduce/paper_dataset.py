"""The paper's data set: spectra of imaging runs, balanced classes, frames, cutouts, split.

Paper 3.1-3.4.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from astropy.table import Table

from gqs import labels, tables
from gqs.archive import Plan, fetch, plan, skyserver
from gqs.archive.fetch import CONNECTIONS
from gqs.archive.frame_list import fields_in, frames_of
from gqs.archive.query import Spectroscopic
from gqs.archive.releases import find
from gqs.cutouts.build import build_from_frames
from gqs.cutouts.split import SIDES, Balanced, balance_by_run, split_store
from gqs.cutouts.store import CutoutStore
from gqs.errors import ResourceError, UsageError
from gqs.executors import Progress, cpu_count
from gqs.files import only_writer, write_json
from gqs.formatting import duration, plural, size
from gqs.imaging.frames import check_frame
from gqs.recipes import published
from gqs.surveys.sdss import PICTURE_BANDS, REFERENCE_BAND, FrameName, check_bands

Bar = Callable[[str], AbstractContextManager[Progress]]

BYTES_S: Final = 5e6  # assumed network speed, 40 Mbit/s
CUT_S: Final = 12.0  # a field and core, g r i: benchmarks/results/cutouts_memory.json
REQUEST: Final = "request.json"
CUTOUT_BYTES: Final = {"paper": 7_500, "flux": 10_000}  # flux: a band


@dataclass(frozen=True)
class DatasetRequest:
    """What the data set is to contain."""

    runs: tuple[int, ...]  # imaging runs; their order decides which galaxies and stars are kept
    out: Path  # folder to write
    frames: Path | None = None  # folder of frames; by default OUT/frames
    release: str = "16"  # data release
    form: str = "paper"  # of the cutouts, as for `build_from_frames`
    bands: str = PICTURE_BANDS
    edge: str = "paper"
    scheme: str = "paper"  # of the split, as for `make_split`
    seed: int = 1  # of the split
    server: str | None = None  # address instead of SkyServer's
    mirror: str | None = None  # address instead of the archive's
    connections: int = CONNECTIONS  # to the archive at a time
    workers: int | None = None  # child processes that make cutouts; by default one a core

    def __post_init__(self) -> None:
        if not self.runs:
            raise UsageError("Name at least one run with --runs, as in 3430,3434.")
        if len(set(self.runs)) != len(self.runs):
            raise UsageError(f"Runs {', '.join(map(str, self.runs))}: name each run once.")
        if REFERENCE_BAND not in self.needed_bands:
            raise UsageError(f"Bands {self.bands!r}: r must be one of them; it sets the grid.")

    @property
    def frames_folder(self) -> Path:
        """Folder of frames."""
        return self.frames or self.out / "frames"

    @property
    def needed_bands(self) -> str:
        """Bands whose frames are fetched."""
        return PICTURE_BANDS if self.form == "paper" else check_bands(self.bands)

    def identity(self) -> dict[str, object]:
        """Everything that decides the data set, as OUT/request.json records it."""
        return {
            "runs": list(self.runs),
            "release": str(find(self.release)),
            "form": self.form,
            "bands": self.needed_bands,
            "edge": self.edge,
            "scheme": self.scheme,
            "seed": self.seed,
        }

    def require_same(self) -> None:
        """Refuse a folder that was started with another request."""
        path = self.out / REQUEST
        if not path.is_file():
            return
        then, now = json.loads(path.read_text("utf-8")), self.identity()
        for key, value in now.items():
            if then.get(key) != value:
                raise UsageError(
                    f"{self.out}: was started with {key} {_short(then.get(key))}, not "
                    f"{_short(value)}. Choose another folder, or delete this one."
                )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class DatasetPlan:
    """Objects, frames, disk space and time of a data set, before anything is fetched."""

    spectra: Table  # all rows of the query
    chosen: Balanced  # the objects left when classes are balanced
    frames: tuple[FrameName, ...]  # on which they lie
    fetching: Plan
    disk: int  # bytes that frames and cutouts still need
    free: int  # bytes free on the disk of the frames
    fetching_s: float  # seconds at 5 MB/s
    cutting_s: float  # seconds on all cores

    def lines(self) -> list[str]:
        """Lines of the plan to print."""
        catalog = self.chosen.catalog
        counts = {name: int((catalog["class"] == name).sum()) for name in labels.CLASSES}
        kept = ", ".join(
            f"{count} {name} of {plural(runs, 'run')}"
            for name, count in counts.items()
            for runs in [len(self.chosen.runs[name])]
        )
        return [
            f"{len(self.spectra)} spectra; kept {kept}.",
            f"They lie on {self.fetching.wanted} frames, of which {self.fetching.here} are here. "
            f"To fetch: {size(self.fetching.bytes)}, {duration(self.fetching_s)} at "
            f"{BYTES_S / 1e6:.0f} MB/s; then about {duration(self.cutting_s)} to make cutouts. "
            f"Disk: {size(self.disk)}; {size(self.free)} are free.",
        ]

    def as_dict(self) -> dict[str, object]:
        """JSON form of the plan."""
        return {
            "spectra": len(self.spectra),
            "objects": len(self.chosen.catalog),
            "runs": self.chosen.runs,
            "frames": self.fetching.wanted,
            "to_fetch": self.fetching.to_come,
            "bytes": self.fetching.bytes,
            "disk": self.disk,
            "hours": (self.fetching_s + self.cutting_s) / 3600,
        }


@dataclass(frozen=True)
class PaperDataset:
    """The data set that was built."""

    store: Path  # the cutouts
    chosen: Table  # objects of the plan
    split: Table  # saved in the store's folder; `meta` has the counts of Table 3
    set_aside: list[str] = field(default_factory=list)  # a sentence for each frame or object
    code: int = 0  # 0; 3 if anything was set aside; 7 if the archive gave a wrong frame twice

    def lines(self) -> list[str]:
        """Table 3, ours and the paper's, and what is missing."""
        counts = self.split.meta["counts"]
        lines = ["Table 3" + "".join(f"{side:>16}" for side in SIDES)]
        lines.append(" " * 7 + f"{'paper':>9}{'ours':>7}" * len(SIDES))
        for name in labels.CLASSES:
            pairs = zip(SIDES, published.TABLE_3[name], strict=True)
            cells = (f"{printed:>9,}{counts[side][name]:>7,}" for side, printed in pairs)
            lines.append(f"{name:<7}" + "".join(cells))
        return [*lines, *self._missing(), f"Next: gqs reproduce {self.store} --out reproduced"]

    def _missing(self) -> list[str]:
        missing = len(self.chosen) - len(self.split)
        if not missing:
            return []
        sides = self.split.meta["counts"].values()
        left = ", ".join(
            f"{sum(counts[name] for counts in sides)} {name}" for name in labels.CLASSES
        )
        return [
            f"{missing} of the {len(self.chosen)} chosen objects are missing, as their frames are, "
            f"or they were set aside. The classes now have {left}."
        ]


def pull_spectra(request: DatasetRequest, bar: Bar) -> Table:
    """Query the spectra of the runs, or read them if they were pulled before."""
    request.require_same()
    query = Spectroscopic(runs=request.runs, form="paper")
    path = request.out / "spectra.parquet"
    if path.is_file():
        spectra = tables.read(path)
        same = (spectra.meta.get("sql"), str(spectra.meta.get("release")))
        if same != (query.sql(), str(find(request.release))):
            raise UsageError(
                f"{path}: has other runs or another release. Choose another folder, or delete "
                "this one."
            )
        return spectra
    with only_writer(request.out), bar("Querying") as progress:
        spectra = skyserver.pull(
            query,
            release=request.release,
            server=request.server,
            folder=request.out / "pages",
            progress=progress,
        )
        tables.write(spectra, path)
    shutil.rmtree(request.out / "pages", ignore_errors=True)  # the table holds all of them
    return spectra


def plan_dataset(request: DatasetRequest, spectra: Table) -> DatasetPlan:
    """Choose the objects, and estimate disk space and time."""
    chosen = balance_by_run(spectra, request.runs)
    fields = fields_in(chosen.catalog, "catalogue")
    frames = frames_of(fields, request.needed_bands)
    fetching = plan(
        frames,
        request.frames_folder,
        request.release,
        request.mirror,
        connections=request.connections,
    )
    planes = 1 if request.form == "paper" else len(request.bands)
    return DatasetPlan(
        spectra,
        chosen,
        tuple(frames),
        fetching,
        fetching.bytes + CUTOUT_BYTES[request.form] * planes * len(chosen.catalog),
        _free(request.frames_folder),
        fetching.bytes / BYTES_S,
        CUT_S * len(fields) / (request.workers or cpu_count()),
    )


def _free(folder: Path) -> int:
    """Bytes free on the disk of a folder, which need not exist yet."""
    places = (folder.absolute(), *folder.absolute().parents)
    return shutil.disk_usage(next(place for place in places if place.is_dir())).free


def build_dataset(request: DatasetRequest, planned: DatasetPlan, bar: Bar) -> PaperDataset:
    """Fetch frames, make cutouts and split them; the same call continues an interrupted one."""
    if planned.disk > planned.free:
        raise ResourceError(
            f"{request.frames_folder}: frames and cutouts need {size(planned.disk)} more, "
            f"but {size(planned.free)} are free. Name fewer --runs, or use a larger disk."
        )
    with only_writer(request.out):
        request.require_same()
        write_json(request.out / REQUEST, request.identity())
        path = tables.write(planned.chosen.catalog, request.out / "catalog.parquet")
        with bar("Fetching frames") as progress:
            fetched = fetch(
                planned.frames,
                request.frames_folder,
                check=check_frame,
                release=request.release,
                mirror=request.mirror,
                connections=request.connections,
                progress=progress,
            )
        fetched.refuse_none()
        cutouts = request.out / "cutouts"
        with bar("Cutouts") as progress:
            built = build_from_frames(
                fetched.paths.values(),
                path,
                cutouts,
                request.needed_bands,
                request.form,
                request.edge,
                request.workers,
                progress,
            )
        split = split_store(
            CutoutStore.open(cutouts),
            cutouts / "split.parquet",
            request.scheme,
            seed=request.seed,
        )
    set_aside = [
        *planned.spectra.meta.get("set_aside", ()),
        *fetched.set_aside,
        *built.set_aside,
    ]
    code = fetched.code or (3 if set_aside else 0)
    return PaperDataset(cutouts, planned.chosen.catalog, split, set_aside, code)
