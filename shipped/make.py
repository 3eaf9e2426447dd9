"""Make the store that the package's model learns from, and who is on which side of it.

    python shipped/make.py build/shipped

Training, a third of each class: real photometry rendered; the population's own objects rendered,
faint ones as common in every class, and the sky's own; drawn sources on real sky; and real
pixels, the quasars with cutouts and the stars and galaxies of three real fields. Validation and
test are real photometry of other runs, as spectroscopic surveys have it. The folder gets, beside
the store, members.parquet (what every row is) and split.parquet; calibration.parquet, whose
validation side has the sky's own faint objects too, for lists of candidates are made of such; and
fold-0.parquet to fold-4.parquet: each holds out a fifth of the real quasars, by run, and the
first three hold out one of the real fields, with all that was drawn on its sky. A rerun continues.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from astropy.table import Table, vstack

import objects
import real_pixels
from gqs import files, tables
from gqs.cli.progress import progress_bar
from gqs.cutouts import split as splits
from gqs.cutouts.build import CHUNK, RenderTask, render_chunk
from gqs.cutouts.shards import committed, rows_hash, write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.executors.processes import LocalExecutor
from gqs.imaging import seeing
from gqs.labels import CLASSES, GALAXY, STAR
from gqs.simulation import population
from gqs.simulation.stamps import renderer_hash
from gqs.surveys.sdss import BANDS
from painting import paint

SEED: Final = 7
# Objects of a class on each side that are real photometry, rendered.
PHOTOMETRY: Final = {"train": 7200, "validation": 1600, "test": 3500}
CALIBRATION: Final = 4000  # more of a class for calibration, as the sky has it
# Number of each part's first shard.
FIRST: Final = {"train": 0, "validation": 300, "test": 400, "calibration": 500}
DRAWN: Final = (
    2400  # of a class as spectroscopic surveys have it, and as many with the sky's colours
)
HIGH_REDSHIFT: Final = 2.5  # half of the DR5 quasars, which stand for the sky's own, lie beyond
REDSHIFT_BIN: Final = 0.25  # beyond it, as many in one bin as in another while they last
PAINTED: Final = 1500  # on the sky of each real field, a third of each class
PAINTED_BESIDE: Final = 9000  # on the sky of quasars' cutouts, lest this sky mean quasar
PAINTED_R: Final = (15.5, 22.8)  # brighter sources would saturate, which is not simulated
REPEATS: Final = 2  # of each real star, galaxy and quasar, for they are few


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the store's folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of real data")
    parser.add_argument("--workers", type=int, help="processes; by default one a core")
    options = parser.parse_args()
    every = objects.gather(options.data)
    made = {
        "from": "shipped/make.py",
        "seed": SEED,
        "renderer_sha256": renderer_hash(),
        "objects_sha256": rows_hash(every),
    }
    members: list[Table] = []
    with StoreWriter(options.out, BANDS, "flux", "pad", made) as writer:
        names = [
            *_rendered(options.out, every, options.workers, members),
            *_real(options.out, every, options.data, members),
        ]
        store = writer.finish(names)
    member = vstack(members, metadata_conflicts="silent")
    member["objid"] = store.index["objid"]
    tables.write(member, options.out / "members.parquet")
    sides = np.asarray(member["side"]).astype("U11")
    more = sides == "calibration"
    _save_split(store, member, np.where(more, "", sides), options.out / "split.parquet")
    known = np.where(more, "validation", sides)
    _save_split(store, member, known, options.out / "calibration.parquet")
    for fold in range(objects.FOLDS):
        sides = fold_sides(member, fold)
        _save_split(store, member, sides, options.out / f"fold-{fold}.parquet")


def fold_sides(member: Table, fold: int) -> np.ndarray:
    """Sides when one fold of the real pixels is the test: all that shows them leaves training."""
    sides = np.asarray(member["side"]).astype("U11")
    sides[np.asarray(member["fold"]) >= 0] = "train"
    sides[np.isin(sides, ["test", "calibration"])] = ""
    mine = np.asarray(member["fold"]) == fold
    sides[mine] = ""
    pixels = mine & (np.asarray(member["origin"]) == "real")
    sides[_shows(member, pixels)] = ""
    sides[pixels] = "test"
    sides[_shows(member, sides == "train") & (sides == "validation")] = ""
    return sides


def _shows(member: Table, rows: np.ndarray) -> np.ndarray:
    """Tell which entries show an object that some rows show, on their sky or drawn onto it."""
    columns = [np.asarray(member[name]) for name in ("object", "painted")]
    numbers = np.concatenate([column[rows] for column in columns])
    numbers = numbers[numbers >= 0]
    return np.any([np.isin(column, numbers) for column in columns], axis=0)


def _save_split(store: CutoutStore, member: Table, sides: np.ndarray, path: Path) -> None:
    kept = np.flatnonzero(np.asarray(sides) != "")
    split = Table({"objid": store.index["objid"][kept], "split": np.asarray(sides)[kept]})
    rows = store.index[kept]
    split["group"] = [f"{a}-{b}-{c}" for a, b, c in rows["run", "camcol", "field"].iterrows()]
    classes = np.asarray(rows["class"]).astype(str)
    counts = {
        side: {name: int(((split["split"] == side) & (classes == name)).sum()) for name in CLASSES}
        for side in splits.SIDES
    }
    split.meta = {
        "scheme": "grouped",
        "by": "field",
        "seed": objects.SEED,
        "balance": False,
        "fractions": list(objects.FRACTIONS),
        "store": store.hash,
        "counts": counts,
        "dropped": {},
    }
    splits.check_split(split, store.index)
    splits.save(split, path)
    print(path.name, counts)


def _rendered(out: Path, every: Table, processes: int | None, members: list[Table]) -> list[str]:
    """Render each side's objects, whole fields to a side."""
    tasks = []
    for side, count in {**PHOTOMETRY, "calibration": CALIBRATION}.items():
        rng = np.random.default_rng([SEED, FIRST[side]])
        if side == "calibration":
            parts = _like_sky(every, rng)
        else:
            parts = [_photometry(every, side, count, rng)]
        if side == "train":
            parts += _train_only(every, rng)
        drawn = vstack([part for part, _ in parts], metadata_conflicts="silent")
        entries = vstack([part for _, part in parts])
        order = rng.permutation(len(drawn))
        drawn, entries = drawn[order], entries[order]
        entries["side"] = side
        members.append(entries)
        for k, start in enumerate(range(0, len(drawn), CHUNK)):
            sources = drawn[start : start + CHUNK]
            tasks.append(RenderTask(out, FIRST[side] + k, sources, BANDS, "flux", SEED))
    names = {}
    with progress_bar("rendering") as progress:
        for done, outcome in enumerate(LocalExecutor(processes).run(render_chunk, tasks)):
            if outcome.error is not None:
                raise outcome.error
            names[outcome.item.number] = outcome.result.name
            progress(done + 1, len(tasks), "shards")
    return [names[task.number] for task in tasks]


def _photometry(
    every: Table, side: str, count: int, rng: np.random.Generator
) -> tuple[Table, Table]:
    """Real photometry of one side: so many objects of each class, none twice."""
    mine = every[(every["source"] == "spectroscopic") & (every["side"] == side)]
    mine = mine[np.unique(mine["object"], return_index=True)[1]]
    sources, _ = population.from_catalog(mine, rng)
    classes = np.asarray(sources["class"])
    chosen = np.concatenate([_some(np.flatnonzero(classes == c), count, rng) for c in CLASSES])
    sources = sources[chosen]
    entries = _entries(len(sources), mine["object"][sources["row"]])
    entries["catalogue"] = "spectroscopic"
    return _plain(sources), entries


def _some(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(rows, min(count, len(rows)), replace=False)


def _train_only(every: Table, rng: np.random.Generator) -> list[tuple[Table, Table]]:
    """What only training has: the population's objects, and quasars of DR5."""
    drawn = population.draw(dict.fromkeys(CLASSES, DRAWN), rng)
    sky = population.draw({GALAXY: DRAWN, STAR: DRAWN}, rng, like_sky=True)
    quasars, entries = _dr5(every, DRAWN, rng)
    parts = [(_plain(part), _entries(len(part))) for part in (drawn, sky)]
    return [*parts, (quasars, entries)]


def _like_sky(every: Table, rng: np.random.Generator) -> list[tuple[Table, Table]]:
    """What only calibration has: faint stars and galaxies of the sky, and quasars of DR5."""
    sky = population.draw({GALAXY: CALIBRATION, STAR: CALIBRATION}, rng, like_sky=True)
    return [(_plain(sky), _entries(len(sky))), _dr5(every, CALIBRATION, rng, "validation")]


def _dr5(
    every: Table, count: int, rng: np.random.Generator, side: str = "train"
) -> tuple[Table, Table]:
    mine = every[(every["source"] == "dr5") & (every["side"] == side)]
    far = np.asarray(mine["redshift"]) > HIGH_REDSHIFT
    near = _some(np.flatnonzero(~far), count - count // 2, rng)
    rows = np.concatenate([_evenly(mine["redshift"], np.flatnonzero(far), count // 2, rng), near])
    sources, _ = population.from_catalog(mine[rows], rng)
    entries = _entries(len(sources), mine["object"][rows][sources["row"]])
    entries["catalogue"] = "dr5"
    return _plain(sources), entries


def _evenly(
    redshift: np.ndarray, rows: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Choose rows evenly over redshift: a catalogue thins out where its quasars matter most."""
    number = (np.asarray(redshift)[rows] / REDSHIFT_BIN).astype(int)
    weight = 1 / np.bincount(number)[number]
    return rng.choice(rows, min(count, len(rows)), replace=False, p=weight / weight.sum())


def _plain(sources: Table) -> Table:
    sources = sources.copy()
    if "row" in sources.colnames:
        sources.remove_column("row")
    sources.meta.clear()
    return sources


def _entries(
    n: int, number: np.ndarray | int = -1, origin: str = "simulated", fold: np.ndarray | int = -1
) -> Table:
    """Tell what rows are: which real object they show, and which one is painted onto its sky."""
    entries = Table({"object": np.full(n, number), "fold": np.full(n, fold)})
    entries["painted"] = np.full(n, -1)
    entries["origin"] = np.full(n, origin)
    entries["catalogue"] = np.full(n, "", dtype="U13")  # of which it is real photometry, rendered
    return entries


def _real(out: Path, every: Table, data: Path, members: list[Table]) -> Iterator[str]:
    """Write the shards of real pixels: quasars, sources drawn on their sky, fields likewise."""
    cutouts = every[every["source"] == "cutout"]
    images, rows = real_pixels.quasars(data)
    # A quasar is learned from where its run is, unless another catalogue has it on another side.
    side = np.where(cutouts["side"] == "train", "train", "")
    entries = _entries(len(rows), cutouts["object"], "real", cutouts["fold"])
    again = np.tile(np.arange(len(rows)), REPEATS)
    yield _shard(
        *(out, "real-quasars", images[again], rows[again]),
        *(entries[again], side[again], members, 10_000),
    )
    sky = real_pixels.sky_of_quasars(images, rows)
    rng = np.random.default_rng([SEED, 1])
    pick = rng.permutation(np.resize(rng.permutation(len(sky.rows)), PAINTED_BESIDE))
    order = np.argsort(rows["objid"])
    number = order[np.searchsorted(rows["objid"][order], sky.rows["objid"][pick])]
    yield _painted(out, "quasars", every, sky, pick, entries[number], side[number], 1, members)
    known = tables.read(data / "catalogs" / "spectroscopic_in_frames.csv")
    for k, stack in enumerate(real_pixels.field_stacks(data)):
        images, rows = real_pixels.stars_and_galaxies(stack, known)
        again = np.tile(np.arange(len(rows)), REPEATS)
        entries = _entries(len(again), -1, "real", k)
        name = f"real-{stack.field}"
        yield _shard(out, name, images[again], rows[again], entries, "train", members, 10_000)
        sky = real_pixels.sky_of_field(stack, PAINTED, np.random.default_rng([SEED, 2, k]))
        pick = np.arange(min(PAINTED, len(sky.rows)))
        entries = _entries(len(pick), -1, "painted", k)
        name = str(stack.field)
        yield _painted(out, name, every, sky, pick, entries, "train", 2 + k, members)


def _painted(
    out: Path,
    name: str,
    every: Table,
    sky: real_pixels.Sky,
    pick: np.ndarray,
    entries: Table,
    side: np.ndarray | str,
    seed: int,
    members: list[Table],
) -> str:
    """Draw a third of each class onto pieces of sky."""
    rng = np.random.default_rng([SEED, 3, seed])
    sources, shown = _paintable(every, len(pick), rng)
    images, widths = paint(sky.images[pick], sky.fwhm[pick], sky.offset[pick], sources, SEED + seed)
    rows = sky.rows[pick]["ra", "dec", "x", "y", "run", "camcol", "field", "flags"]
    for column, width in zip(seeing.COLUMNS, widths.T, strict=True):
        rows[column] = width
    for column in ("class", "redshift", *BANDS):
        rows[column] = np.asarray(sources[column])
    rows["objid"] = real_pixels.objids(rows, 20_000)
    entries = entries.copy()
    entries["origin"], entries["painted"] = np.full(len(entries), "painted"), shown
    return _shard(out, f"painted-{name}", images, rows, entries, side, members)


def _paintable(every: Table, n: int, rng: np.random.Generator) -> tuple[Table, np.ndarray]:
    """n sources to be painted, a third of each class, half of them with the sky's own colours.

    With the number of each that is a real object, else -1.
    """
    each = -(-n // 3)
    half = each  # twice as many as needed, for some are too bright
    drawn = population.draw(dict.fromkeys(CLASSES, half), rng)
    sky = population.draw({GALAXY: half, STAR: half}, rng, like_sky=True)
    quasars, entries = _dr5(every, half, rng)
    parts = [_plain(part) for part in (drawn, sky, quasars)]
    number = np.concatenate([np.full(len(drawn) + len(sky), -1), entries["object"]])
    drawn = vstack(parts, metadata_conflicts="silent")
    r, classes = np.asarray(drawn["r"]), np.asarray(drawn["class"])
    fit = (r > PAINTED_R[0]) & (r < PAINTED_R[1])
    rows = [_some(np.flatnonzero(fit & (classes == name)), each, rng) for name in CLASSES]
    chosen = rng.permutation(np.concatenate(rows))[:n]
    return drawn[chosen], number[chosen]


def _shard(
    out: Path,
    name: str,
    images: np.ndarray,
    rows: Table,
    entries: Table,
    side: np.ndarray | str,
    members: list[Table],
    apart: int = 0,
) -> str:
    """Write one shard of real pixels, or find it there."""
    rows, entries = rows.copy(), entries.copy()
    if apart:  # repeats of a row get identifiers of their own
        rows["objid"] = real_pixels.objids(rows, apart)
    rows["origin"] = entries["origin"]
    entries["side"] = side
    members.append(entries)
    images = np.ascontiguousarray(images, np.float32)
    pixels = hashlib.sha256(images).hexdigest()
    source = files.hash_of([name, rows_hash(rows), pixels])
    if committed(out, name, source) is None:
        write_shard(out, name, images, rows, source)
    return name


if __name__ == "__main__":
    main()
