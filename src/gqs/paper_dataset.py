"""The paper's data set from one command: query, balance, fetch, cut, split. Paper 3.1-3.4.

OUT/spectra.parquet    every spectrum of the runs, as it was pulled
OUT/catalog.parquet    what is left when the classes are made about equal
OUT/cutouts            the store, with split.parquet
OUT/frames             the frames, unless another folder is named
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from astropy.table import Table

from gqs import labels, tables
from gqs.dataset.assemble import PICTURE_BANDS, build_from_frames
from gqs.dataset.balance import Balanced, balance_by_run
from gqs.dataset.split import SIDES, split_store
from gqs.dataset.store import CutoutStore
from gqs.errors import ResourceError, UsageError
from gqs.files import only_writer
from gqs.imaging.frames import check_frame
from gqs.recipes import published
from gqs.survey import skyserver
from gqs.survey.archive import Plan, fetch, plan
from gqs.survey.archive.fetch import CONNECTIONS
from gqs.survey.archive.wanted import fields_in, frames_of
from gqs.survey.query import Spectroscopic
from gqs.survey.releases import find
from gqs.survey.sdss import REFERENCE_BAND, FrameName, check_bands
from gqs.workers import Progress, cores

Bar = Callable[[str], AbstractContextManager[Progress]]

BYTES_S: Final = 5e6  # assumed of the network: 40 Mbit/s
CUT_S: Final = 12.0  # a field and core, g r i: benchmarks/results/cutouts_memory.json
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
        if REFERENCE_BAND not in self.needed:
            raise UsageError(f"Bands {self.bands!r}: r must be among them; all follow its grid.")

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
    hours : float
        At 5 MB/s, then cutting on every core.
    """

    spectra: Table
    chosen: Balanced
    frames: tuple[FrameName, ...]
    plan: Plan
    disk: int
    free: int
    hours: float

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
            f"{count} {name} of {len(self.chosen.runs[name])} runs"
            for name, count in counts.items()
        )
        return [
            f"{len(self.spectra)} spectra; kept {kept}.",
            f"They lie on {self.plan.wanted} frames, {self.plan.here} of them here; "
            f"{self.plan.bytes / 1e9:,.2f} GB to fetch, {self.disk / 1e9:,.2f} GB on disk in all "
            f"({self.free / 1e9:,.0f} GB free), about {self.hours:.1f} h at "
            f"{BYTES_S / 1e6:.0f} MB/s.",
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
            "hours": self.hours,
        }


@dataclass(frozen=True)
class PaperDataset:
    """What was made.

    Attributes
    ----------
    store : Path
        The cutouts.
    split : Table
        Saved beside them; `meta` has the counts of Table 3.
    set_aside : list of str
        A sentence for each frame, field and object that is not in it.
    code : int
        0, 3 where anything was set aside, 7 where the archive gave a wrong frame twice.
    """

    store: Path
    split: Table
    set_aside: list[str] = field(default_factory=list)
    code: int = 0

    def lines(self) -> list[str]:
        """Show Table 3, ours beside the paper's.

        Returns
        -------
        list of str
            A line a class, and the next command.
        """
        counts = self.split.meta["counts"]
        lines = ["Table 3, the paper's beside ours:"]
        for name in labels.CLASSES:
            pairs = zip(SIDES, published.TABLE_3[name], strict=True)
            cells = (f"{side} {theirs:>5} {counts[side][name]:>6}" for side, theirs in pairs)
            lines.append(f"  {name:<7}" + "   ".join(cells))
        return [*lines, f"Next: gqs reproduce {self.store} --out reproduced"]


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
    hours = (coming.bytes / BYTES_S + CUT_S * len(fields) / (wish.workers or cores())) / 3600
    return Outlook(
        spectra,
        chosen,
        tuple(frames),
        coming,
        coming.bytes + size * len(chosen.catalog),
        _free(wish.folder),
        hours,
    )


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    places = (folder.absolute(), *folder.absolute().parents)
    return shutil.disk_usage(next(place for place in places if place.is_dir())).free


def make(wish: Wish, ahead: Outlook, bar: Bar) -> PaperDataset:
    """Fetch, cut and split; what is there already stays, so that the same call goes on.

    Parameters
    ----------
    wish : Wish
        What the data set shall be.
    ahead : Outlook
        Of this wish.
    bar : callable
        Makes a progress bar.

    Returns
    -------
    PaperDataset
        Store, split and what was set aside.

    Raises
    ------
    NetworkError
        If the archive cannot be reached, or frames are missing for its faults.
    BadInputError, IntegrityError
        If the archive has none of the frames, or only wrong ones.
    ResourceError
        If the disk has not the room.
    """
    if ahead.disk > ahead.free:
        raise ResourceError(
            f"{wish.folder}: the frames and cutouts take {ahead.disk / 1e9:,.1f} GB more, the disk "
            f"has {ahead.free / 1e9:,.1f} GB. Name fewer --runs, or folders on a larger disk."
        )
    with only_writer(wish.out):
        path = tables.write(ahead.chosen.catalog, wish.out / "catalog.parquet")
        with bar("Fetching frames") as progress:
            fetched = fetch(
                ahead.frames,
                wish.folder,
                check=check_frame,
                release=wish.release,
                mirror=wish.mirror,
                connections=wish.connections,
                progress=progress,
            )
        fetched.refuse_none()
        cutouts = wish.out / "cutouts"
        with bar("Cutting out") as progress:
            built = build_from_frames(
                fetched.paths.values(),
                path,
                cutouts,
                wish.needed,
                wish.form,
                wish.edge,
                wish.workers,
                progress,
            )
        split = split_store(
            CutoutStore.open(cutouts), cutouts / "split.parquet", wish.scheme, seed=wish.seed
        )
    set_aside = [*ahead.spectra.meta.get("set_aside", ()), *fetched.set_aside, *built.set_aside]
    return PaperDataset(cutouts, split, set_aside, fetched.code or (3 if set_aside else 0))
