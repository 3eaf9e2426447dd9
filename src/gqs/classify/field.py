"""Fields classified: frames in, a row for each source out; a field at a time, in children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from gqs import tables, workers
from gqs.errors import BadInputError, UsageError
from gqs.files import hash_of
from gqs.imaging.align import BandStack, align
from gqs.imaging.composite import colour_picture
from gqs.imaging.cutouts import cut_flux, cut_picture, pixel_positions
from gqs.imaging.detect import detect
from gqs.imaging.frames import group_fields, read_frame
from gqs.imaging.photometry import aperture_magnitudes
from gqs.survey.sdss import REFERENCE_BAND, FieldId
from gqs.tables import Flag

if TYPE_CHECKING:
    from gqs.classify.classifier import Classifier

FrameFiles = Mapping[str, Path]


@dataclass(frozen=True)
class Prepared:
    """One field made ready for the network: its objects, their cutouts and flags.

    Attributes
    ----------
    objects : Table
        `objid ra dec x y run camcol field` and aperture magnitudes, (n,) rows.
    images : ndarray
        (n, band, 50, 50) float32 nanomaggies, or (n, 3, 50, 50) uint8 for the form `paper`.
    bands : str
        Bands of `images`.
    flags : ndarray
        (n,) sums of `Flag`.
    """

    objects: Table
    images: NDArray[Any]
    bands: str
    flags: NDArray[np.int32]


@dataclass(frozen=True)
class FieldsReport:
    """What a run over fields gave.

    Attributes
    ----------
    predictions : Table
        One row for each object.
    fields : int
        Fields classified.
    set_aside : list of str
        A sentence for each file or field left out.
    """

    predictions: Table
    fields: int
    set_aside: list[str] = field(default_factory=list)


def prepare(
    files: FrameFiles,
    bands: str,
    form: str,
    positions: Table | None = None,
    keep_outside: bool = True,
) -> Prepared:
    """Read a field's frames, align them, find or place its objects and cut them out.

    Parameters
    ----------
    files : mapping of str to Path
        A frame for each band; r among them.
    bands : str
        Bands that the model takes; those without a frame are missing from the cutouts.
    form : str
        `flux` or `paper`.
    positions : Table, optional
        With `objid ra dec`; by default sources are detected.
    keep_outside : bool
        Whether positions off the frame get a row too; False where other fields answer for them.

    Returns
    -------
    Prepared
        The field's objects in the order of `positions` or of detection.

    Raises
    ------
    BadInputError
        If a frame cannot be used.
    """
    here = "".join(band for band in bands if band in files)
    if REFERENCE_BAND not in files:
        raise BadInputError(
            f"{_where(files)}: the {REFERENCE_BAND} frame is missing, onto whose grid the "
            "other bands go. Add it."
        )
    stack = align({band: read_frame(files[band]) for band in here}, here)
    objects = detect(stack) if positions is None else _placed(stack, positions)
    if not keep_outside:
        ny, nx = stack.flux.shape[1:]
        within = (objects["x"] > -0.5) & (objects["x"] < nx - 0.5)
        objects = objects[within & (objects["y"] > -0.5) & (objects["y"] < ny - 0.5)]
    x, y = np.asarray(objects["x"]), np.asarray(objects["y"])
    images, flags = cut_flux(stack, x, y)
    flags = flags | np.asarray(objects["flags"], dtype=np.int32)
    if len(here) < len(bands):
        flags = flags | np.int32(Flag.MISSING_BAND)
    magnitudes, errors = aperture_magnitudes(images, here)
    for i, band in enumerate(here):
        objects[f"mag_{band}"], objects[f"magerr_{band}"] = magnitudes[:, i], errors[:, i]
    if form == "paper":
        picture, covered = colour_picture(stack), np.asarray(stack.covered.all(axis=0))
        return Prepared(objects, cut_picture(picture, covered, x, y)[0], here, flags)
    return Prepared(objects, images, here, flags)


def classify_field(
    classifier: Classifier, paths: Sequence[Path], positions: Table | None = None
) -> Table:
    """Classify one field in this process; see `Classifier.classify_field`.

    Parameters
    ----------
    classifier : Classifier
        The judge.
    paths : sequence of Path
        Frames of one field.
    positions : Table, optional
        Objects to judge instead of detected ones.

    Returns
    -------
    Table
        Predictions.

    Raises
    ------
    BadInputError
        If a frame cannot be used or the frames are of several fields.
    """
    fields, refused = group_fields(paths)
    if refused:
        raise BadInputError(refused[0])
    if len(fields) != 1:
        raise BadInputError(
            f"The frames are of {len(fields)} fields ({', '.join(map(str, fields))}). "
            "Name the frames of one, or use `gqs classify` for many."
        )
    (files,) = fields.values()
    checked = None if positions is None else checked_positions(positions, "positions")
    return judge(classifier, prepare(files, classifier.bands, classifier.form, checked))


def classify_fields(
    classifier: Classifier,
    paths: Sequence[Path],
    positions: Table | None = None,
    *,
    parts: Path | None = None,
    processes: int | None = None,
    progress: workers.Progress = workers.silent,
) -> FieldsReport:
    """Classify many fields: frames are prepared in child processes, judged in this one.

    Parameters
    ----------
    classifier : Classifier
        The judge.
    paths : sequence of Path
        Frames of any number of fields, grouped by their headers.
    positions : Table, optional
        Objects to judge instead of detected ones; each goes to the field that holds it, and one
        that none holds is kept as a row flagged OUTSIDE.
    parts : Path, optional
        Folder that keeps each finished field, so that the same call after a stop goes on.
    processes : int, optional
        Number of children; by default one a core.
    progress : callable
        Told how many fields are done.

    Returns
    -------
    FieldsReport
        Predictions in the order of the fields' names, or of `positions`.

    Raises
    ------
    BadInputError
        If no field at all could be classified.
    """
    fields, set_aside = group_fields(paths)
    checked = None if positions is None else checked_positions(positions, "positions")
    tasks = [_Task(name, dict(files)) for name, files in sorted(fields.items())]
    done: dict[FieldId, Table] = {}
    for task in tasks:
        part = _part(parts, classifier, task, checked)
        if part is not None and part.is_file():
            done[task.name] = tables.read(part)
    work = partial(_prepare_task, bands=classifier.bands, form=classifier.form, positions=checked)
    progress(len(done), len(tasks), "fields")
    waiting = [task for task in tasks if task.name not in done]
    for outcome in workers.run(work, waiting, workers=processes):
        if outcome.error is not None:
            set_aside.append(str(outcome.error))
        else:
            found = judge(classifier, outcome.result)
            done[outcome.item.name] = found
            part = _part(parts, classifier, outcome.item, checked)
            if part is not None:
                tables.write(found, part)
        progress(len(done), len(tasks), "fields")
    if not done:
        raise BadInputError("; ".join(set_aside) or "No frames were given.")
    whole = vstack([done[name] for name in sorted(done)], metadata_conflicts="silent")
    if checked is not None:
        whole = _one_row_each(whole, checked, classifier)
    return FieldsReport(whole, len(done), set_aside)


def judge(classifier: Classifier, prepared: Prepared) -> Table:
    """Turn a prepared field into Predictions.

    Parameters
    ----------
    classifier : Classifier
        The judge.
    prepared : Prepared
        One field.

    Returns
    -------
    Table
        Predictions, one row for each object.
    """
    bands = prepared.bands if classifier.form == "flux" else classifier.bands
    probabilities = classifier.predict_cutouts(prepared.images, bands)
    # Outside the frame there is nothing, whatever a padded cutout may hold.
    probabilities[(prepared.flags & int(Flag.OUTSIDE)) > 0] = np.nan
    return tables.predictions(prepared.objects, probabilities, prepared.flags, classifier.hash)


def checked_positions(positions: Table, where: object) -> Table:
    """Refuse positions that could not be told apart afterwards; the others stay as they are.

    Parameters
    ----------
    positions : Table
        With `ra` and `dec` in degrees; without `objid` its rows are numbered from 1.
    where : object
        Named in errors.

    Returns
    -------
    Table
        `objid ra dec`, all rows, in their order.

    Raises
    ------
    UsageError
        If a column is missing.
    IntegrityError
        If an objid comes twice or has lost digits.
    """
    tables.require_columns(positions, ("ra", "dec"), where)
    if not len(positions):
        raise UsageError(f"{where}: holds no rows.")
    if "objid" in positions.colnames:
        objid = tables.exact_objid(positions["objid"], where)
    else:
        objid = np.arange(1, len(positions) + 1, dtype=np.uint64)
    tables.require_unique(objid, where)
    checked = Table({"objid": objid, "ra": positions["ra"], "dec": positions["dec"]})
    usable = tables.positions_usable(checked)
    for name in ("ra", "dec"):
        checked[name][~usable] = np.nan
    return checked


@dataclass(frozen=True)
class _Task:
    name: FieldId
    files: dict[str, Path]

    def __str__(self) -> str:
        return f"field {self.name}"


def _prepare_task(task: _Task, bands: str, form: str, positions: Table | None) -> Prepared:
    return prepare(task.files, bands, form, positions, keep_outside=False)


def _placed(stack: BandStack, positions: Table) -> Table:
    objects = Table({name: positions[name] for name in ("objid", "ra", "dec")})
    x, y = pixel_positions(stack.wcs, np.asarray(objects["ra"]), np.asarray(objects["dec"]))
    objects["x"], objects["y"] = x, y
    for name, value in stack.field._asdict().items():
        objects[name] = np.full(len(objects), value, dtype=np.int32)
    objects["flags"] = np.zeros(len(objects), dtype=np.int32)
    return objects


def _one_row_each(found: Table, positions: Table, classifier: Classifier) -> Table:
    """Keep each object's best-judged row, and give a flagged one to those on no field."""
    judged = np.isfinite(np.asarray(found["p_star"]))
    whole = (np.asarray(found["flags"]) & int(Flag.EDGE)) == 0
    best = found[np.lexsort((~whole, ~judged, np.asarray(found["objid"])))]
    best = best[np.unique(np.asarray(best["objid"]), return_index=True)[1]]
    missing = positions[~np.isin(positions["objid"], best["objid"])]
    if len(missing):
        for name in ("x", "y"):
            missing[name] = np.nan
        for name in tables.FIELD_COLUMNS:
            missing[name] = np.full(len(missing), -1, dtype=np.int32)
        nothing = np.full((len(missing), 3), np.nan)
        flags = np.full(len(missing), int(Flag.OUTSIDE), dtype=np.int32)
        nowhere = tables.predictions(missing, nothing, flags, classifier.hash)
        for name in best.colnames:
            if name.startswith(("mag_", "magerr_")):
                nowhere[name] = np.nan
        best = vstack([best, nowhere], metadata_conflicts="silent")
    order = np.argsort(np.asarray(best["objid"]))
    return best[order[np.searchsorted(np.asarray(best["objid"])[order], positions["objid"])]]


def _part(
    folder: Path | None, classifier: Classifier, task: _Task, positions: Table | None
) -> Path | None:
    """Name a field's finished part after all that its content depends on."""
    if folder is None:
        return None
    sizes = {band: (str(path), path.stat().st_size) for band, path in task.files.items()}
    asked = (
        "" if positions is None else hash_of({n: positions[n].tolist() for n in positions.colnames})
    )
    return folder / f"{task.name}-{hash_of([classifier.hash, sizes, asked])[:16]}.parquet"


def _where(files: FrameFiles) -> str:
    return str(next(iter(files.values())).parent) if files else "no frames"
