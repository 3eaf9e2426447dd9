"""The paper's data set made: frames fetched, objects cut out, the split saved. Paper 3.2-3.4."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from astropy.table import Table

from gqs import labels, tables
from gqs.archive import fetch
from gqs.cutouts.build import build_from_frames
from gqs.cutouts.split import SIDES, split_store
from gqs.cutouts.store import CutoutStore
from gqs.errors import ResourceError
from gqs.files import only_writer, write_json
from gqs.imaging.frames import check_frame
from gqs.recipes import published
from gqs.reproduce.paper_dataset_plan import REQUEST, Bar, Outlook, Wish


@dataclass(frozen=True)
class PaperDataset:
    """What was made."""

    store: Path  # the cutouts
    chosen: Table  # objects that were meant to be in it
    split: Table  # saved beside them; `meta` has the counts of Table 3
    # A sentence for each frame, field and object that is not in it
    set_aside: list[str] = field(default_factory=list)
    code: int = 0  # 0, 3 where anything was set aside, 7 where the archive gave a wrong frame twice

    def lines(self) -> list[str]:
        """Show Table 3, ours beside the paper's, and what was lost on the way."""
        counts = self.split.meta["counts"]
        lines = ["Table 3" + "".join(f"{side:>16}" for side in SIDES)]
        lines.append(" " * 7 + f"{'paper':>9}{'ours':>7}" * len(SIDES))
        for name in labels.CLASSES:
            pairs = zip(SIDES, published.TABLE_3[name], strict=True)
            cells = (f"{theirs:>9,}{counts[side][name]:>7,}" for side, theirs in pairs)
            lines.append(f"{name:<7}" + "".join(cells))
        return [*lines, *self._lost(), f"Next: gqs reproduce {self.store} --out reproduced"]

    def _lost(self) -> list[str]:
        """Say how many objects are missing, and how even the classes still are."""
        lost = len(self.chosen) - len(self.split)
        if not lost:
            return []
        counts = self.split.meta["counts"].values()
        there = ", ".join(f"{sum(c[name] for c in counts)} {name}" for name in labels.CLASSES)
        return [
            f"{lost} of the {len(self.chosen)} objects chosen are not in it: their frames are "
            f"missing, or they were set aside. The classes are now {there}."
        ]


def make(wish: Wish, ahead: Outlook, bar: Bar) -> PaperDataset:
    """Fetch, cut and split; what is there already stays, so that the same call goes on."""
    if ahead.disk > ahead.free:
        raise ResourceError(
            f"{wish.folder}: the frames and cutouts take {ahead.disk / 1e9:,.1f} GB more, the disk "
            f"has {ahead.free / 1e9:,.1f} GB. Name fewer --runs, or folders on a larger disk."
        )
    with only_writer(wish.out):
        wish.refuse_other()
        write_json(wish.out / REQUEST, wish.request())
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
    return PaperDataset(
        cutouts, ahead.chosen.catalog, split, set_aside, fetched.code or (3 if set_aside else 0)
    )
