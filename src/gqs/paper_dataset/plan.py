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
from gqs.dataset.balance import Balanced, balance_by_run
from gqs.errors import UsageError
from gqs.files import only_writer
from gqs.survey import skyserver
from gqs.survey.archive import Plan, plan
from gqs.survey.archive.fetch import CONNECTIONS
from gqs.survey.archive.wanted import fields_in, frames_of
from gqs.survey.query import Spectroscopic
from gqs.survey.releases import find
from gqs.survey.sdss import PICTURE_BANDS, REFERENCE_BAND, FrameName, check_bands
from gqs.workers import Progress, cores, duration

Bar = Callable[[str], AbstractContextManager[Progress]]

BYTES_S: Final = 5e6  # assumed of the network: 40 Mbit/s
CUT_S: Final = 12.0  # a field and core, g r i: benchmarks/results/cutouts_memory.json
REQUEST: Final = "request.json"
CUTOUT_BYTES: Final = {"paper": 7_500, "flux": 10_000}  # flux: a band


@dataclass(frozen=True)
class Wish:
    """What the data set shall be.

    Attributes
    ----------
    runs : tuple of int
        Imaging runs; their order decides which galaxies and stars are kept.
    out : Path
        Folder to write.
    frames : Path, optional
        Folder of frames; OUT/frames where none is named.
    release : str
        Data release.
    form, bands, edge : str
        Of the cutouts, as for `build_from_frames`.
    scheme : str
        Of the split, as for `make_split`.
    seed : int
        Of the split.
    server, mirror : str, optional
        Addresses in place of SkyServer's and the archive's.
    connections : int
        To the archive at once.
    workers : int, optional
        Child processes that cut; one a core.

    Raises
    ------
    UsageError
        If no run is named, or r is not among the bands.
    """

    runs: tuple[int, ...]
    out: Path
    frames: Path | None = None
    release: str = "16"
    form: str = "paper"
    bands: str = PICTURE_BANDS
    edge: str = "paper"
    scheme: str = "paper"
    seed: int = 1
    server: str | None = None
    mirror: str | None = None
    connections: int = CONNECTIONS
    workers: int | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise UsageError("Name at least one run with --runs, as in 3430,3434.")
        if len(set(self.runs)) != len(self.runs):
            raise UsageError(f"Runs {', '.join(map(str, self.runs))}: name each run once.")
        if REFERENCE_BAND not in self.needed:
            raise UsageError(f"Bands {self.bands!r}: r must be among them; all follow its grid.")

    def request(self) -> dict[str, object]:
        """Return what decides the data set, as OUT/request.json keeps it.

        Returns
        -------
        dict
            Runs in their order, release, form, bands, edge, scheme and seed.
        """
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
        """Refuse a folder that was begun as another data set, before anything is asked for.

        Raises
        ------
        UsageError
            If a run's place, or another part of the request, differs.
        """
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
    """What is to be done, before it is done.

    Attributes
    ----------
    spectra : Table
        All rows that were pulled.
    chosen : Balanced
        Objects that are left when classes are made equal.
    frames : tuple of FrameName
        That they lie on.
    plan : Plan
        Of the fetch.
    disk, free : int
        Bytes that frames and cutouts still take, and that the disk of the frames has.
    fetching_s, cutting_s : float
        Seconds at 5 MB/s, and then of cutting on every core.
    """

    spectra: Table
    chosen: Balanced
    frames: tuple[FrameName, ...]
    plan: Plan
    disk: int
    free: int
    fetching_s: float
    cutting_s: float

    def lines(self) -> list[str]:
        """Say it in a few lines.

        Returns
        -------
        list of str
            Objects by class, files, bytes, hours.
        """
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
        """Return what machines want to know.

        Returns
        -------
        dict
            Of counts, bytes and hours.
        """
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
    """Pull the spectra of the runs, or read them where they were pulled before.

    Parameters
    ----------
    wish : Wish
        With runs, release and server.
    bar : callable
        Makes a progress bar.

    Returns
    -------
    Table
        Every spectrum of the runs; SQL, release, time and rows in `meta`.

    Raises
    ------
    UsageError
        If the folder holds the answer to another query.
    NetworkError
        If the server cannot be reached.
    """
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
    """Choose the objects and tell what their frames will take.

    Parameters
    ----------
    wish : Wish
        What the data set shall be.
    spectra : Table
        As `catalogue` gives it.

    Returns
    -------
    Outlook
        Nothing is fetched yet.

    Raises
    ------
    UsageError
        If a class is missing in these runs.
    NetworkError
        If the archive cannot be reached.
    """
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
        CUT_S * len(fields) / (wish.workers or cores()),
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    places = (folder.absolute(), *folder.absolute().parents)
    return shutil.disk_usage(next(place for place in places if place.is_dir())).free
