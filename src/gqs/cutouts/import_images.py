"""Labelled images of any survey into a store, without frames or header cards.

Images are cropped or padded to 50 x 50 pixels about their centre, optionally resampled to SDSS's
pixel scale first. SDSS's bands (u g r i z) need a zero point and become nanomaggies; other bands
are capital letters, whose pixels are scaled to the sky noise of SDSS's r band. Objects with the
same pixels are kept once, since a copy on another side of a split would leak.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from gqs import files, labels, tables
from gqs.cutouts.build import BuildReport, store_report
from gqs.cutouts.image_files import LARGEST, SMALLEST, ImageSet, find_images, image_set
from gqs.cutouts.pixels import centred
from gqs.cutouts.quality import describe_fault, quality_flags
from gqs.cutouts.shards import OPTIONAL, Shard, write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.errors import BadInputError, UsageError
from gqs.executors import Progress, no_progress
from gqs.surveys.sdss import (
    BANDS,
    CUTOUT_SIZE,
    OWN_BANDS,
    PICTURE_BANDS,
    PIXEL_SCALE,
    REFERENCE_BAND,
    SKY_NOISE,
    ZERO_POINT,
    store_bands,
)

CHUNK: Final = 512  # images a shard
MEASURED: Final = 400  # images from which the noise of a band is measured
NAMES: Final = ("name", "file", "filename", "image", "path", "objid")  # columns that name an image
LABELS: Final = ("class", "label", "type")
_PIXEL_SCALES: Final = (0.01, 10.0)  # arcsec


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How images become cutouts; see `import_images`."""

    bands: str | None = None
    form: str | None = None
    zero_point: float | None = None
    pixel_scale: float | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None


def import_images(
    images: ImageSet | Sequence[Path],
    table: Table | None,
    out: Path,
    options: ImportOptions | None = None,
    progress: Progress = no_progress,
) -> BuildReport:
    """Make a store of labelled images.

    Parameters
    ----------
    images : ImageSet or sequence of paths
        Images, or files and folders of them.
    table : Table, optional
        Class of each image (`class`, `label` or `type`), joined by its name (`name`, `file`,
        `filename`, `image`, `path` or `objid`), or in the order of a file with all images. By
        default the columns in that file, or the names of the images' folders. Columns `objid`,
        `ra`, `dec`, `redshift` and the five magnitudes are kept.
    out : Path
        The store's folder.
    options : ImportOptions, optional
        `bands`: a letter for each plane, by default A, B, C and so on; u g r i z are SDSS's and
        need `zero_point`, the AB magnitude of one count. `form`: "paper" for 8-bit pictures, their
        default, or "flux". `pixel_scale`: of the images, arcsec, with which they are resampled to
        0.396. `classes`: class of other labels, such as {"WD": "STAR"}. `group`: column whose
        values a split keeps on one side.
    progress : callable
        Called after every shard.

    Returns
    -------
    BuildReport
        What was done; `set_aside` names each image that cannot be used, with the reason.

    Raises
    ------
    UsageError
        If an option is unknown, or no class is found.
    BadInputError
        If no image can be used.
    """
    begin, options = time.monotonic(), options or ImportOptions()
    found = images if isinstance(images, ImageSet) else find_images(images)
    rows, set_aside = _join(found, table, options)
    recipe = _recipe(found, rows, options)
    made = {
        "from": "images",
        "labels_sha256": files.hash_of([rows[name].tolist() for name in ("name", "class")]),
        "group": options.group,
        "zero_point": options.zero_point,
        "pixel_scale": options.pixel_scale,
        "scale": recipe.scale,
    }
    seen: dict[str, str] = {}
    with StoreWriter(Path(out), recipe.bands, recipe.form, "pad", made) as writer:
        shards = []
        for number, start in enumerate(range(0, len(rows), CHUNK)):
            part = rows[start : start + CHUNK]
            shards.append(_shard(Path(out), number, found, part, recipe, seen).name)
            progress(start + len(part), len(rows), "images")
        store = writer.finish(shards, set_aside)
    return store_report(store, 0, begin)


def store_from_arrays(
    path: Path,
    images: ArrayLike,
    labels_of: ArrayLike,
    columns: Mapping[str, ArrayLike | None],
    options: ImportOptions,
) -> CutoutStore:
    """Make a store of arrays; see `CutoutStore.from_arrays`."""
    found = image_set(images)
    table = Table({"class": np.asarray(labels_of).astype(str)})
    for name, values in columns.items():
        if values is not None:
            table[name] = np.asarray(values)
    if len(table) != len(found):
        raise UsageError(f"There are {len(found)} images, but {len(table)} labels.")
    return CutoutStore.open(Path(import_images(found, table, path, options).store))


@dataclass(frozen=True)
class CutoutRecipe:
    """How pixels become cutouts."""

    bands: str  # of the store, in its order
    planes: tuple[int, ...]  # plane of the image for each band
    count: int  # planes that an image must have
    form: str
    scale: dict[str, float]  # by band: factor on the pixels
    pixel_scale: float | None

    @classmethod
    def of_store(cls, store: CutoutStore, bands: str | None = None) -> CutoutRecipe:
        """How further images become cutouts like those of an imported store; `bands` as then."""
        made = store.manifest["made"]
        given = PICTURE_BANDS if store.form == "paper" else bands or store.bands
        planes = tuple(given.index(band) for band in store.bands)
        scale = {band: float(value) for band, value in made["scale"].items()}
        return cls(store.bands, planes, len(given), store.form, scale, made["pixel_scale"])

    def scaled(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The cutout of an image (band, ny, nx), as a store has it."""
        cutout = self.cutout(pixels)
        return cutout if self.form == "paper" else cutout * self.factors

    def cutout(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The cutout of an image (band, ny, nx) in its own unit; BadInputError says why not."""
        count, *shape = pixels.shape
        if not (min(shape) >= SMALLEST and max(shape) <= LARGEST):
            raise BadInputError(
                f"is {shape[1]} x {shape[0]} px; {SMALLEST} to {LARGEST} px are possible"
            )
        if pixels.dtype.kind not in "fiub":
            raise BadInputError(f"has pixels of type {pixels.dtype}")
        grey = self.form == "paper" and count == 1
        if not grey and count != self.count:
            raise BadInputError(f"has {count} planes instead of {self.count}")
        if self.form == "paper":
            if pixels.dtype != np.uint8:
                raise BadInputError("is no 8-bit picture, which the form 'paper' takes")
            cutout = centred(_resampled(pixels, self.pixel_scale, 0.0), 0)
            cutout = np.clip(np.rint(cutout), 0, 255).astype(np.uint8)
            cutout = np.repeat(cutout, 3, axis=0) if grey else cutout
            if cutout.max() == cutout.min():
                raise BadInputError("shows nothing: all pixels are equal")
            return cutout
        flux = np.asarray(pixels[list(self.planes)], dtype=np.float32)
        flux = centred(_resampled(flux, self.pixel_scale, np.nan), np.nan)
        flux[~np.isfinite(flux)] = np.nan
        fault = int(quality_flags(flux[None], self.bands)[0])
        if fault:
            reason = describe_fault(fault).replace("the r band", f"band {self.reference}")
            hint = " (give --pixel-scale to enlarge it)" if min(shape) < CUTOUT_SIZE else ""
            raise BadInputError(reason + hint)
        return flux

    @property
    def factors(self) -> NDArray[np.float32]:
        """Factor on the pixels of each band, (band, 1, 1)."""
        factors = [self.scale[band] for band in self.bands]
        return np.array(factors, dtype=np.float32)[:, None, None]

    @property
    def reference(self) -> str:
        """Band by which quality is decided."""
        return REFERENCE_BAND if REFERENCE_BAND in self.bands else self.bands[0]


def _recipe(images: ImageSet, rows: Table, options: ImportOptions) -> CutoutRecipe:
    """Decide form, bands and scales from the options and the first readable image."""
    if options.pixel_scale is not None and not (
        _PIXEL_SCALES[0] <= options.pixel_scale <= _PIXEL_SCALES[1]
    ):
        raise UsageError(f"Pixel scale {options.pixel_scale:g}: give arcsec, 0.01 to 10.")
    first = next((pixels for _, pixels in _readable(images, rows) if pixels is not None), None)
    if first is None:
        raise BadInputError(f"{images.names[0]}: no image can be read; {_first_fault(images)}")
    form = options.form or ("paper" if first.dtype == np.uint8 else "flux")
    if form == "paper":
        if options.bands or options.zero_point is not None:
            raise UsageError("8-bit pictures have no bands or zero point. Use --form flux.")
        return CutoutRecipe(PICTURE_BANDS, (0, 1, 2), 3, form, {}, options.pixel_scale)
    bands = options.bands or OWN_BANDS[: len(first)]
    ordered = store_bands(bands)
    if len(bands) != len(first):
        raise UsageError(f"Bands {bands!r}: the first image has {len(first)} planes.")
    calibrated = [band for band in ordered if band in BANDS]
    if bool(calibrated) != (options.zero_point is not None):
        raise UsageError(
            f"Bands {calibrated[0]!r} of SDSS need a zero point. Give the AB magnitude of one "
            "count (--zero-point), or name bands by capital letters."
            if calibrated
            else "A zero point is for SDSS's bands (u g r i z). Name them (--bands)."
        )
    planes = tuple(bands.index(band) for band in ordered)
    plain = CutoutRecipe(ordered, planes, len(bands), form, dict.fromkeys(ordered, 1.0), None)
    scale = _own_scales(images, rows, plain)
    if options.zero_point is not None:
        factor = float(10 ** (0.4 * (ZERO_POINT - options.zero_point)))
        scale |= dict.fromkeys(calibrated, factor)
    return CutoutRecipe(ordered, planes, len(bands), form, scale, options.pixel_scale)


def _own_scales(images: ImageSet, rows: Table, plain: CutoutRecipe) -> dict[str, float]:
    """Factors that bring the sky noise of a user's own bands to that of SDSS's r band."""
    if not set(plain.bands) & set(OWN_BANDS):
        return {}
    step = max(1, len(rows) // MEASURED)
    widths = []
    for _, pixels in _readable(images, rows[::step]):
        if pixels is not None and len(pixels) == plain.count:
            planes = pixels[list(plain.planes)].reshape(plain.count, -1).astype(np.float64)
            planes[~np.isfinite(planes)] = np.nan
            low, middle, high = np.nanquantile(planes, [0.1587, 0.5, 0.999], axis=1)
            # Compressed pictures may have a constant sky: then a share of their range.
            widths.append(np.where(middle > low, middle - low, 1e-2 * (high - middle)))
    noise = np.nanmedian(np.array(widths), axis=0) if widths else np.ones(plain.count)
    noise = np.where(np.isfinite(noise) & (noise > 0), noise, 1.0)
    return {
        band: float(f"{SKY_NOISE[REFERENCE_BAND] / value:.6g}")
        for band, value in zip(plain.bands, noise.tolist(), strict=True)
        if band in OWN_BANDS
    }


def _readable(images: ImageSet, rows: Table) -> Iterator[tuple[int, NDArray[Any] | None]]:
    """Pixels of the images of a table's rows, None for those that cannot be read."""
    for row in rows["row"].tolist():
        try:
            pixels = images.pixels(row)
        except BadInputError:
            yield row, None
            continue
        fits_in = min(pixels.shape[1:]) >= SMALLEST and max(pixels.shape[1:]) <= LARGEST
        yield row, pixels if fits_in else None


def _first_fault(images: ImageSet) -> str:
    try:
        shape = images.pixels(0).shape
    except BadInputError as error:
        return str(error)
    return f"its shape is {shape}, with {SMALLEST} to {LARGEST} px a side as the limits."


def _resampled(pixels: NDArray[Any], scale: float | None, outside: float) -> NDArray[Any]:
    """Planes on SDSS's pixel scale with their flux conserved, about the same centre."""
    if scale is None or scale == PIXEL_SCALE:
        return pixels
    ratio = PIXEL_SCALE / scale  # old pixels per new one
    size = [max(1, min(CUTOUT_SIZE, int(n / ratio))) for n in pixels.shape[1:]]
    offset = [
        (n - 1) / 2 - ratio * (m - 1) / 2 for n, m in zip(pixels.shape[1:], size, strict=True)
    ]
    found = np.empty((len(pixels), *size), dtype=np.float32)
    picture = not np.isnan(outside)
    for plane, target in zip(pixels.astype(np.float64), found, strict=True):
        valid = np.isfinite(plane)
        filled = np.where(valid, plane, 0.0)
        if ratio > 1:  # the mean over a new pixel, so that no light is skipped
            filled = ndimage.gaussian_filter(filled, 0.29 * np.sqrt(ratio**2 - 1))
        ndimage.affine_transform(filled, [ratio] * 2, offset, tuple(size), target, 3, "nearest")
        if not valid.all():
            share = ndimage.affine_transform(
                valid.astype(np.float64), [ratio] * 2, offset, tuple(size), order=1, mode="nearest"
            )
            target[share < 0.999] = np.nan
        if not picture:
            target *= ratio**2
    return found


def _shard(
    store: Path,
    number: int,
    images: ImageSet,
    rows: Table,
    recipe: CutoutRecipe,
    seen: dict[str, str],
) -> Shard:
    """Read, prepare and write some images; the faults of others are recorded in the shard."""
    cutouts, kept, identifiers, set_aside = [], [], [], []
    for place, row in enumerate(rows["row"].tolist()):
        name = str(rows["name"][place])
        try:
            cutout = recipe.cutout(images.pixels(row))
        except BadInputError as error:
            text = str(error)
            reason = text if name in text else f"{name}: {text}; left out."
            set_aside.append(reason)
            continue
        digest = hashlib.sha256(np.ascontiguousarray(cutout).tobytes()).hexdigest()
        if digest in seen:
            set_aside.append(f"{name}: has the same pixels as {seen[digest]}; left out.")
            continue
        seen[digest] = name
        kept.append(place)
        cutouts.append(cutout if recipe.form == "paper" else cutout * recipe.factors)
        identifiers.append(int(digest[:16], 16))
    table = rows[kept]
    table.remove_column("row")
    if "objid" not in table.colnames:
        table["objid"] = np.array(identifiers, dtype=np.uint64)
    dtype = np.uint8 if recipe.form == "paper" else np.float32
    shape = (0, len(recipe.bands), CUTOUT_SIZE, CUTOUT_SIZE)
    stacked = np.array(cutouts, dtype=dtype) if cutouts else np.empty(shape, dtype=dtype)
    source = files.hash_of([*identifiers, recipe.scale])
    return write_shard(store, f"images-{number:06d}", stacked, table, source, set_aside)


def _join(images: ImageSet, table: Table | None, options: ImportOptions) -> tuple[Table, list[str]]:
    """Rows of the store's index for the images with a class, and a sentence for each other."""
    table = images.table if table is None else table
    if table is None:
        known = {_class_of(name, options.classes) for name in images.folders} - {None}
        if not known:
            raise UsageError(
                "There are no labels. Name a table (--labels), or use a folder a class."
            )
        table = Table({"name": list(images.names), "class": list(images.folders)})
    label = next((name for name in LABELS if name in table.colnames), None)
    if label is None:
        raise UsageError(
            f"The labels have no column {' or '.join(LABELS)}; they have "
            f"{', '.join(table.colnames[:20])}."
        )
    if options.group is not None and options.group not in table.colnames:
        raise UsageError(
            f"The labels have no column {options.group!r} (--group); they have "
            f"{', '.join(table.colnames[:20])}."
        )
    place, set_aside = _places(images, table)
    classes = [_class_of(str(value), options.classes) for value in table[label].tolist()]
    kept = []
    for row, at in enumerate(place):
        if at is None:
            continue
        if classes[at] is None:
            set_aside.append(
                f"{images.names[row]}: its label {str(table[label][at])!r} is none of "
                f"{', '.join(labels.CLASSES)} (give --map {table[label][at]!s}=CLASS); left out."
            )
        else:
            kept.append((row, at))
    if not kept:
        reason = set_aside[0] if set_aside else "there is no image."
        raise BadInputError(f"No image has a class: {reason}")
    used = np.array(kept, dtype=np.int64)
    names = [str(images.names[row]) for row in used[:, 0].tolist()]
    rows = _index_rows(table[used[:, 1]], names, options.group)
    rows["class"] = [classes[at] for at in used[:, 1].tolist()]
    rows["row"] = used[:, 0]
    return rows, set_aside


def _class_of(label: str, classes: Mapping[str, str]) -> str | None:
    text = label.strip()
    name = classes.get(text, text).upper()
    return name if name in labels.CLASSES else None


def _places(images: ImageSet, table: Table) -> tuple[list[int | None], list[str]]:
    """Row of the table for each image, and a sentence for each image without one."""
    column = next((name for name in NAMES if name in table.colnames), None)
    by_order = not isinstance(images.images, list)
    if by_order:
        if len(table) != len(images):
            raise UsageError(f"There are {len(images)} images, but {len(table)} rows of labels.")
        return list(range(len(images))), []
    if column is None:
        raise UsageError(
            f"The labels have no column that names the image ({', '.join(NAMES)}); they have "
            f"{', '.join(table.colnames[:20])}."
        )
    named: dict[str, list[int]] = {}
    for at, value in enumerate(table[column].tolist()):
        named.setdefault(str(value).strip(), []).append(at)
    places: list[int | None] = []
    set_aside = []
    for name in images.names:
        stem = Path(name).name.split(".")[0]
        found = next((named[key] for key in (name, Path(name).name, stem) if key in named), [])
        places.append(found[0] if len(found) == 1 else None)
        if len(found) != 1:
            what = f"has {len(found)} rows" if found else "has no row"
            set_aside.append(f"{name}: {what} in the labels; left out.")
    return places, set_aside


def _index_rows(table: Table, names: list[str], group: str | None) -> Table:
    """Index rows: identity, position if known, and the group as the field that a split uses."""
    rows = Table({"name": names})
    for column in ("ra", "dec"):
        known = column in table.colnames
        rows[column] = tables.as_float(table[column]) if known else np.full(len(table), np.nan)
    groups = [str(v) for v in table[group].tolist()] if group is not None else names
    rows["group"] = groups
    number = np.unique(groups, return_inverse=True)[1].astype(np.int32) + 1
    rows["run"], rows["field"] = number, number
    rows["camcol"] = np.ones(len(rows), dtype=np.int32)
    for column in ("x", "y"):
        rows[column] = np.full(len(rows), (CUTOUT_SIZE - 1) / 2)
    rows["flags"] = np.zeros(len(rows), dtype=np.int32)
    rows["origin"] = np.full(len(rows), "real")
    if "objid" in table.colnames:
        rows["objid"] = tables.exact_objid(table["objid"], "labels")
    magnitudes = all(band in table.colnames for band in BANDS)
    for column in OPTIONAL:
        if column in table.colnames and (len(column) > 1 or magnitudes) and column != "type":
            rows[column] = tables.as_float(table[column])
    return rows
