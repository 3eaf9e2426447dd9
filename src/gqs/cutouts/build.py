"""A store from frames and a catalogue, or straight from the simulated sky. Paper 3.2-3.4.

A field at a time in child processes: each reads its frames, cuts its objects and writes its
shard, so that memory does not grow with the number of fields and a killed run loses one field.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS
from numpy.typing import NDArray

from gqs import __version__, files, labels, tables
from gqs.cutouts.extract import EDGES, pixel_positions
from gqs.cutouts.field import CutoutSpec, FieldCutouts, cut_field
from gqs.cutouts.preprocessing import arrange_bands
from gqs.cutouts.quality import CENTRE, describe_fault
from gqs.cutouts.shards import OPTIONAL, Shard, committed, rows_hash, write_shard
from gqs.cutouts.sky_groups import sky_groups
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.errors import BadInputError, IntegrityError, ResourceError, UsageError
from gqs.executors import Progress, no_progress
from gqs.executors.processes import LocalExecutor
from gqs.formatting import percent
from gqs.imaging import unpack
from gqs.imaging.astrometry import celestial_wcs
from gqs.imaging.composite import colour_cutouts
from gqs.imaging.frames import find_frames, group_fields
from gqs.simulation.stamps import OBJECTS_A_FIELD, render_cutouts, renderer_hash
from gqs.surveys.sdss import BANDS, PICTURE_BANDS, REFERENCE_BAND, FieldId, check_bands


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes
    ----------
    store : str
        The store's folder.
    hash : str
        Identifies its content.
    objects : int
        In the store.
    classes : dict of str to int
        Objects by class.
    shards : int
        Fields (or simulated chunks) that gave them.
    set_aside : tuple of str
        A sentence for each file, field or object that was left out.
    elsewhere : int
        Catalogue rows that lie on none of the given fields.
    repeated : int
        Objects that have another within 1 arcsec: splits keep them together.
    seconds : float
        Wall time.
    """

    store: str
    hash: str
    objects: int
    classes: dict[str, int]
    shards: int
    set_aside: tuple[str, ...]
    elsewhere: int
    repeated: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """Return 0, or 3 where something was set aside."""
        return 3 if self.set_aside else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return asdict(self)


def build_from_frames(
    paths: Iterable[Path | str],
    catalog_path: Path | str,
    out: Path | str,
    bands: str = "ugriz",
    form: str = "flux",
    edge: str = "pad",
    workers: int | None = None,
    progress: Progress = no_progress,
    star_shift: bool = False,
) -> BuildReport:
    """Cut every catalogued object out of its field's frames, into a store.

    The same command after a crash continues; the store is then the same to the byte.

    Parameters
    ----------
    paths : iterable of path
        Frames of any number of fields, or folders that hold some; grouped by their headers.
    catalog_path : path
        Table with `objid`, `ra`, `dec` and `class`. Rows are given to fields by `run`, `camcol`
        and `field`, or by position where it has no such columns.
    out : path
        The store's folder.
    bands : str
        Bands to cut; for the form "paper" always g, r and i.
    form : str
        "flux" (nanomaggies) or "paper" (8-bit colour picture).
    edge : str
        At a frame's edge: "pad" with masked pixels, or "paper" (shortened box, resized).
    workers : int, optional
        Child processes; by default one a core.
    progress : callable
        Called after every field.
    star_shift : bool
        Align the bands by their stars too (0.04 to 0.26 px in real fields).

    Returns
    -------
    BuildReport
        What was done, and what was set aside and why.

    Raises
    ------
    UsageError
        If an option is unknown, nothing fits together, or the store was begun otherwise.
    IntegrityError
        If the catalogue's identifiers are not exact or not unique.
    ResourceError
        If the disk refuses, or another process writes the store.
    BadInputError
        If not one cutout could be made.
    """
    begin = time.monotonic()
    out, catalog_path = Path(out), Path(catalog_path)
    bands = PICTURE_BANDS if form == "paper" else check_bands(bands)
    if edge not in EDGES:
        raise UsageError(f"Unknown edge policy {edge!r}. There are {' and '.join(EDGES)}.")
    catalog, set_aside = tables.read_catalog(catalog_path, needs=("objid", "ra", "dec", "class"))
    fields, strange = group_fields(find_frames(paths))
    whole, incomplete = _complete(fields, bands)
    rows, unusable = rows_by_field(catalog, whole)
    set_aside += [*strange, *incomplete, *unusable]
    if fields and not rows and not set_aside:
        raise UsageError(
            f"{catalog_path}: none of its {len(catalog)} objects lies on the {len(fields)} fields "
            "given. Name the frames that hold them."
        )
    made: dict[str, Any] = {"from": "frames", "catalogue_sha256": files.sha256(catalog_path)}
    if star_shift:
        made["star_shift"] = True
    spec = CutoutSpec(bands, form, edge, star_shift, magnitudes=False)
    with StoreWriter(out, bands, form, edge, made) as writer:
        _refuse_forgotten(writer, fields)
        tasks = [
            CutTask(out, name, whole[name], _columns(catalog[rows[name]]), spec)
            for name in sorted(rows)
        ]
        shards, failed = _run(cut_shard, tasks, workers, progress)
        store = writer.finish(shards, [*set_aside, *failed])
    elsewhere = len(catalog) - sum(len(found) for found in rows.values())
    return store_report(store, elsewhere, begin)


# A catalogue's positions are taken to be wrong where fewer than a quarter of at least ten objects
# show 3 sigma of light in the 3 x 3 pixels about them; of random places about one in twenty does.
_FEWEST_TO_CHECK: Final = 10
_LEAST_SEEN: Final = 0.25
_SIGMA: Final = 3.0


@dataclass(frozen=True)
class CutTask:
    """One field's shard to make."""

    store: Path  # the store's folder
    field: FieldId
    frames: Mapping[str, Path]  # its frames by band, r among them
    rows: Table  # the catalogue's rows on it
    spec: CutoutSpec

    def __str__(self) -> str:
        return f"Field {self.field}"


def cut_shard(task: CutTask) -> Shard:
    """Make one field's shard, or return it if it is complete already; runs in a child process."""
    name, spec = str(task.field), task.spec
    source = files.hash_of(
        {
            "frames": {band: files.sha256(path) for band, path in task.frames.items()},
            "rows": rows_hash(task.rows),
            "how": [spec.bands, spec.form, spec.edge, spec.star_shift, __version__],
        }
    )
    there = committed(task.store, name, source)
    if there is not None:
        return there
    cutouts = cut_field(task.frames, spec, task.rows)
    keep = cutouts.usable
    _check_positions(cutouts.select(keep))
    rows = task.rows.copy()
    for column in ("x", "y"):
        rows[column] = cutouts.objects[column]
    for column, value in zip(tables.FIELD_COLUMNS, task.field, strict=True):
        rows[column] = np.full(len(rows), value, dtype=np.int32)
    rows["flags"] = cutouts.cut_flags
    for band in cutouts.bands:
        rows[f"seeing_{band}"] = np.asarray(cutouts.objects[f"seeing_{band}"])
    images = cutouts.images[keep]
    if spec.form == "flux" and cutouts.bands != spec.bands:
        images = arrange_bands(images, cutouts.bands, spec.bands)
    left_out = [
        f"{task.frames[band]}: shows no signal; band {band} of field {task.field} is masked."
        for band in cutouts.blank
    ]
    left_out += [
        f"Object {rows['objid'][i]} of field {task.field}: "
        f"{describe_fault(int(cutouts.flags[i]))}; left out."
        for i in np.flatnonzero(~keep)
    ]
    return write_shard(task.store, name, images, rows[keep], source, left_out)


def _check_positions(cutouts: FieldCutouts) -> None:
    """Refuse a field where most positions show no source: a wrong but valid WCS."""
    if len(cutouts.flux) < _FEWEST_TO_CHECK:
        return
    band = cutouts.bands.index(REFERENCE_BAND)
    plane = cutouts.flux[:, band]
    box = plane[:, CENTRE, CENTRE]
    level = np.nanmedian(plane, axis=(1, 2))
    signal = (np.nanmean(box, axis=(1, 2)) - level) * np.sqrt(box[0].size)
    seen = float(np.mean(signal > _SIGMA * cutouts.noise[band]))
    if seen < _LEAST_SEEN:
        raise BadInputError(
            f"only {percent(seen, 0)} of {len(plane)} catalogued objects have any light at their "
            "position, so the WCS or the catalogue is wrong; set aside. Solve the astrometry again."
        )


def _complete(
    fields: Mapping[FieldId, Mapping[str, Path]], bands: str
) -> tuple[dict[FieldId, dict[str, Path]], list[str]]:
    """Fields with every band needed, and a sentence for each that lacks one."""
    needed = [band for band in BANDS if band in bands or band == REFERENCE_BAND]
    whole, set_aside = {}, []
    for name, frames in fields.items():
        missing = [band for band in needed if band not in frames]
        if missing:
            set_aside.append(
                f"Field {name}: has no {', '.join(missing)} frame; set aside. Fetch it, or name "
                "fewer bands (r is always needed)."
            )
        else:
            whole[name] = {band: frames[band] for band in needed}
    return whole, set_aside


def _columns(rows: Table) -> Table:
    """Keep what the store keeps; magnitudes only where all five are there, for SDSS also calls
    the redshift z.
    """
    magnitudes = all(band in rows.colnames for band in BANDS)
    kept = [
        name
        for name in ("objid", "ra", "dec", "class", *OPTIONAL)
        if name in rows.colnames and (len(name) > 1 or magnitudes)
    ]
    plain = rows[kept]
    plain.meta.clear()
    return plain


def _refuse_forgotten(writer: StoreWriter, fields: Mapping[FieldId, object]) -> None:
    forgotten = sorted(writer.names() - {str(name) for name in fields})
    if forgotten:
        raise UsageError(
            f"{writer.path}: holds field {forgotten[0]}, whose frames this command does not name, "
            "or cannot read. Name all fields of the store, or another folder."
        )


def _run(
    function: Callable[[Any], Any], tasks: list[Any], processes: int | None, progress: Progress
) -> tuple[list[str], list[str]]:
    """Make shards in child processes; a full disk ends the run, other errors cost one item only."""
    names: list[str] = []
    failed: list[str] = []
    for done, outcome in enumerate(LocalExecutor(processes).run(function, tasks)):
        if isinstance(outcome.error, ResourceError | IntegrityError):
            raise outcome.error
        if outcome.error is not None:
            name, why = str(outcome.item), str(outcome.error)
            failed.append(why if why.startswith(name) else f"{name}: {why}")
        else:
            names.append(outcome.result.name)
        progress(done + 1, len(tasks), str(outcome.item))
    return sorted(names), sorted(failed)


def build_from_simulation(
    out: Path | str,
    counts: Mapping[str, int] | None = None,
    catalog: Path | str | Sequence[Path | str] | None = None,
    seed: int = 1,
    bands: str = "ugriz",
    workers: int | None = None,
    progress: Progress = no_progress,
    form: str = "flux",
) -> BuildReport:
    """Render simulated objects straight into a store, without frames.

    Parameters
    ----------
    out : path
        The store's folder.
    counts : mapping of str to int, optional
        Objects by class. Of a catalogue so many are chosen at random, of the simulation's own
        population so many are drawn.
    catalog : path or sequence of paths, optional
        Photometry (class, u g r i z, redshift) to render; row by row where no counts are given.
        Of several catalogues (with ra and dec too), an object that an earlier one holds within
        1 arcsec is rendered once.
    seed : int
        Of everything random.
    bands : str
        Bands to render; for the form "paper" always g, r and i.
    workers : int, optional
        Child processes; by default one a core.
    progress : callable
        Called after every shard of 512 objects.
    form : str
        "flux" (nanomaggies) or "paper" (8-bit colour picture).

    Returns
    -------
    BuildReport
        What was done.

    Raises
    ------
    UsageError
        If neither counts nor catalogue are given, the catalogue has too few objects, or the store
        was begun otherwise.
    ResourceError
        If the disk refuses, or another process writes the store.
    """
    from gqs.simulation import population

    begin = time.monotonic()
    bands = PICTURE_BANDS if form == "paper" else check_bands(bands)
    paths = [
        Path(path) for path in ([catalog] if isinstance(catalog, Path | str) else catalog or ())
    ]
    if counts is None and not paths:
        raise UsageError("Say how many objects of each class, or which catalogue.")
    rng = np.random.default_rng([seed, 0])
    set_aside: list[str] = []
    made: dict[str, Any] = {"from": "simulation", "seed": seed}
    if counts is not None:
        made["counts"] = {name: int(counts.get(name, 0)) for name in labels.CLASSES}
        unknown = sorted(set(counts) - set(labels.CLASSES))
        if unknown or sum(made["counts"].values()) <= 0 or min(made["counts"].values()) < 0:
            raise UsageError(f"Counts {counts}: give a number for {', '.join(labels.CLASSES)}.")
    if not paths:
        sources = population.draw(made["counts"], rng)
    else:
        sources, set_aside = _photometry(paths, rng)
        made["catalogue_sha256"] = ",".join(files.sha256(path) for path in paths)
        if counts is not None:
            where = " and ".join(map(str, paths))
            sources, set_aside = _some(sources, made["counts"], rng, where), []
    sky = stretch_of(seed)
    with StoreWriter(Path(out), bands, form, "pad", made) as writer:
        tasks = [
            RenderTask(Path(out), number, sources[start : start + CHUNK], bands, form, seed, sky)
            for number, start in enumerate(range(0, len(sources), CHUNK))
        ]
        shards, failed = _run(render_chunk, tasks, workers, progress)
        store = writer.finish(shards, [*set_aside, *failed])
    return store_report(store, 0, begin)


def _photometry(paths: Sequence[Path], rng: np.random.Generator) -> tuple[Table, list[str]]:
    """Sources of one or more catalogues, each object of the sky once, and the rows set aside."""
    from gqs.simulation import population

    if len(paths) == 1:
        return population.from_catalog(tables.read(paths[0]), rng)
    parts: list[Table] = []
    set_aside: list[str] = []
    known = Table({"ra": np.zeros(0), "dec": np.zeros(0)})
    for path in paths:
        table = tables.read(path)
        tables.require_columns(table, ("ra", "dec"), path)
        places = Table({name: tables.as_float(table[name]) for name in ("ra", "dec")})
        both = vstack([known, places])
        usable = tables.positions_usable(both)
        sky = -1 - np.arange(len(both))  # rows without a position are objects of their own
        sky[usable] = sky_groups(both["ra"][usable], both["dec"][usable])
        repeated = np.isin(sky[len(known) :], sky[: len(known)])
        sources, reasons = population.from_catalog(table, rng)
        parts.append(sources[~repeated[np.asarray(sources["row"])]])
        set_aside += [f"{path}: {reason}" for reason in reasons]
        known = both
    return vstack(parts, metadata_conflicts="silent"), set_aside


def _some(
    sources: Table, counts: Mapping[str, int], rng: np.random.Generator, where: Path | str
) -> Table:
    """Choose so many sources of each class at random; in random order, so that every simulated
    field has all classes.
    """
    classes, chosen = np.asarray(sources["class"]).astype(str), []
    for name, count in counts.items():
        rows = np.flatnonzero(classes == name)
        if len(rows) < count:
            raise UsageError(
                f"{where}: has {len(rows)} {name} that can be drawn, {count} are asked for. Ask "
                "for fewer --objects."
            )
        chosen.append(rng.choice(rows, count, replace=False))
    return sources[rng.permutation(np.concatenate(chosen))]


def store_report(store: CutoutStore, elsewhere: int, begin: float) -> BuildReport:
    """Report of a finished build; `begin` is when it started (time.monotonic)."""
    index = store.index
    sky = sky_groups(np.asarray(index["ra"]), np.asarray(index["dec"]))
    return BuildReport(
        store=str(store.path),
        hash=store.hash,
        objects=len(store),
        classes=dict(store.manifest["classes"]),
        shards=len(np.unique(np.asarray(index["shard"]))),
        set_aside=tuple(store.manifest["set_aside"]),
        elsewhere=elsewhere,
        repeated=int((np.bincount(sky)[sky] > 1).sum()),
        seconds=time.monotonic() - begin,
    )


_BAND_DEG: Final = 0.5  # of declination about a field's centre in which its rows are looked for


def rows_by_field(
    catalog: Table, fields: Mapping[FieldId, Mapping[str, Path]]
) -> tuple[dict[FieldId, NDArray[np.int64]], list[str]]:
    """Assign every catalogue row to at most one field."""
    if all(name in catalog.colnames for name in tables.FIELD_COLUMNS):
        return _by_name(catalog, fields), []
    return _by_position(catalog, fields)


def _by_name(catalog: Table, fields: Iterable[FieldId]) -> dict[FieldId, NDArray[np.int64]]:
    said = np.stack([tables.as_float(catalog[name]) for name in tables.FIELD_COLUMNS], axis=1)
    found = {}
    for field in fields:
        rows = np.flatnonzero((said == np.array(field)).all(axis=1))
        if len(rows):
            found[field] = rows
    return found


def _by_position(
    catalog: Table, fields: Mapping[FieldId, Mapping[str, Path]]
) -> tuple[dict[FieldId, NDArray[np.int64]], list[str]]:
    """Assign a row to the field on which it lies farthest from the edge."""
    order = np.argsort(np.asarray(catalog["dec"]), kind="stable")
    ra, dec = (np.asarray(catalog[name])[order] for name in ("ra", "dec"))
    best = np.full(len(catalog), -np.inf)
    owner = np.full(len(catalog), -1)
    set_aside = []
    for number, (field, frames) in enumerate(fields.items()):
        try:
            wcs, (ny, nx) = _footprint(frames[REFERENCE_BAND])
        except BadInputError as error:
            set_aside.append(f"Field {field}: {error}")
            continue
        centre = float(wcs.all_pix2world([[nx / 2, ny / 2]], 0)[0, 1])
        near = slice(*np.searchsorted(dec, [centre - _BAND_DEG, centre + _BAND_DEG]))
        x, y = pixel_positions(wcs, ra[near], dec[near])
        margin = np.minimum.reduce([x + 0.5, nx - 0.5 - x, y + 0.5, ny - 0.5 - y])
        margin = np.where(np.isfinite(margin) & (margin >= 0), margin, -np.inf)
        better = margin > best[near]
        best[near] = np.where(better, margin, best[near])
        owner[near] = np.where(better, number, owner[near])
    found = {}
    for number, field in enumerate(fields):
        rows = np.sort(order[owner == number])
        if len(rows):
            found[field] = rows
    return found, set_aside


def _footprint(path: Path) -> tuple[WCS, tuple[int, int]]:
    header = fits.Header.fromstring(unpack.head(path).decode("latin-1"))
    try:
        shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
    except (KeyError, ValueError) as error:
        raise BadInputError(f"{path}: its header has no size. Fetch the frame again.") from error
    return celestial_wcs(header, shape, path), shape


_OTHERS: Final = 4000  # fields from which stores of one's own begin
CHUNK: Final = 512  # objects a shard: four fields


@dataclass(frozen=True)
class RenderTask:
    """One shard of simulated objects to make."""

    store: Path  # the store's folder
    number: int  # of the shard
    sources: Table  # as `gqs.simulation.population` draws them
    bands: str  # to render
    form: str  # "flux", or "paper" for the colour picture
    seed: int  # the store's
    stretch: int = 0  # fields of the simulated sky that lie before the store's first

    def __str__(self) -> str:
        return f"Simulated objects from {self.number * CHUNK + 1} on"


def stretch_of(seed: int) -> int:
    """First field of the simulated sky for a seed, so that two seeds show different skies."""
    return _OTHERS + 50 * int(
        np.random.SeedSequence(seed, spawn_key=(22,)).generate_state(1)[0] % 1200
    )


def render_chunk(task: RenderTask) -> Shard:
    """Render one shard, or return it if it is complete already; runs in a child process."""
    name = f"simulated-{task.number:06d}"
    parts_of = [rows_hash(task.sources), task.bands, task.form, task.seed, name, renderer_hash()]
    source = files.hash_of(parts_of + [task.stretch] * (task.stretch > 0))
    there = committed(task.store, name, source)
    if there is not None:
        return there
    # Fields are numbered through the whole store, and each has its own stream of chance, so that
    # a shard does not depend on which process renders it.
    first = task.stretch + task.number * CHUNK // OBJECTS_A_FIELD
    parts = list(render_cutouts(task.sources, task.seed, task.bands, first_field=first))
    images = np.concatenate([part for part, _ in parts])
    if task.form == "paper":
        images = colour_cutouts(images, task.bands)
    rows = vstack([part for _, part in parts], metadata_conflicts="silent")
    return write_shard(task.store, name, images, rows, source)
