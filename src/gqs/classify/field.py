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

from gqs import __version__, tables, workers
from gqs.classify.positions import NO_FIELD, checked_positions, no_positions, one_row_each, placed
from gqs.dataset.judgeable import faults
from gqs.errors import BadInputError
from gqs.files import hash_of
from gqs.imaging.align import align
from gqs.imaging.composite import colour_picture
from gqs.imaging.cutouts import cut_flux, cut_picture
from gqs.imaging.detect import detect
from gqs.imaging.frames import group_fields, read_frame
from gqs.imaging.photometry import aperture_magnitudes
from gqs.imaging.seeing import field_seeing
from gqs.survey import seeing
from gqs.survey.sdss import REFERENCE_BAND, FieldId
from gqs.tables import Flag

if TYPE_CHECKING:
    from gqs.classify.classifier import Classifier

FrameFiles = Mapping[str, Path]


@dataclass(frozen=True)
class How:
    """How a model wants its cutouts: as those were made that it was trained on.

    Attributes
    ----------
    bands, form : str
        Bands it takes; `flux` or `paper`.
    edge : str
        Edge policy, `pad` or `paper`.
    star_shift : bool
        Whether bands are aligned by their stars too.
    """

    bands: str
    form: str
    edge: str = "pad"
    star_shift: bool = False

    @classmethod
    def of(cls, classifier: Classifier) -> How:
        """Read it from a model's card.

        Parameters
        ----------
        classifier : Classifier
            The model.

        Returns
        -------
        How
            Its bands, form, edge policy and alignment.
        """
        card = classifier.card
        return cls(classifier.bands, classifier.form, card["edge"], card["star_shift"])


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
    lacking : dict of FieldId to str
        Bands that the model takes and that a field has no frame of, where there are such.
    """

    predictions: Table
    fields: int
    set_aside: list[str] = field(default_factory=list)
    lacking: dict[FieldId, str] = field(default_factory=dict)


def prepare(
    files: FrameFiles,
    how: How,
    positions: Table | None = None,
    keep_outside: bool = True,
) -> Prepared:
    """Read a field's frames, align them, find or place its objects and cut them out.

    Parameters
    ----------
    files : mapping of str to Path
        A frame for each band; r among them.
    how : How
        What the model takes; bands without a frame are missing from the cutouts.
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
    here = "".join(band for band in how.bands if band in files)
    if REFERENCE_BAND not in files:
        raise BadInputError(
            f"{_where(files)}: the {REFERENCE_BAND} frame is missing, onto whose grid the "
            "other bands go. Add it."
        )
    frames = {band: read_frame(files[band]) for band in here}
    stack = align(frames, here, star_shift=how.star_shift)
    sources = detect(stack)
    objects = sources if positions is None else placed(stack, positions)
    for band, width in zip(here, field_seeing(stack, sources), strict=True):
        objects[f"seeing_{band}"] = np.full(len(objects), width)
        objects[f"seeing_{band}"].unit = "arcsec"
    if not keep_outside:
        objects = objects[objects["run"] != NO_FIELD]
    x, y = np.asarray(objects["x"]), np.asarray(objects["y"])
    images, flags = cut_flux(stack, x, y, how.edge)
    flags = flags | faults(images, here)
    flags = flags | np.asarray(objects["flags"], dtype=np.int32)
    if len(here) < len(how.bands):
        flags = flags | np.int32(Flag.MISSING_BAND)
    magnitudes, errors = aperture_magnitudes(images, here)
    for i, band in enumerate(here):
        objects[f"mag_{band}"], objects[f"magerr_{band}"] = magnitudes[:, i], errors[:, i]
    if how.form == "paper":
        picture, covered = colour_picture(stack), np.asarray(stack.covered.all(axis=0))
        return Prepared(objects, cut_picture(picture, covered, x, y, how.edge)[0], here, flags)
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
    if not fields:
        raise BadInputError("No frames were given. Name the frames of a field.")
    if len(fields) != 1:
        raise BadInputError(
            f"The frames are of {len(fields)} fields ({', '.join(map(str, fields))}). "
            "Name the frames of one, or use `gqs classify` for many."
        )
    (files,) = fields.values()
    checked = None if positions is None else checked_positions(positions, "positions")
    return judge(classifier, prepare(files, How.of(classifier), checked))


def classify_fields(
    classifier: Classifier,
    paths: Sequence[Path],
    positions: Table | None = None,
    *,
    where: object = "positions",
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
    where : object
        What errors about the positions name.
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
    checked = None
    if positions is not None:
        checked = checked_positions(positions, where)
        set_aside += no_positions(checked, where)
    tasks = [_Task(name, dict(files)) for name, files in sorted(fields.items())]
    done: dict[FieldId, Table] = {}
    for task in tasks:
        part = _part(parts, classifier, task, checked)
        if part is not None and part.is_file():
            done[task.name] = tables.read(part)
    work = partial(_prepare_task, how=How.of(classifier), positions=checked)
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
        whole = one_row_each(whole, checked, classifier.hash)
    lacking = {
        name: missing
        for name in sorted(done)
        if (missing := "".join(band for band in classifier.bands if band not in fields[name]))
    }
    return FieldsReport(whole, len(done), set_aside, lacking)


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
    magnitudes = np.asarray(prepared.objects[f"mag_{REFERENCE_BAND}"], dtype=np.float64)
    told = seeing.told(prepared.objects, bands)
    probabilities, unlike = classifier.examine_cutouts(prepared.images, bands, magnitudes, told)
    # A colour picture shows no masks, so what is known of the flux decides for it too.
    nothing = (prepared.flags & int(Flag.OUTSIDE | Flag.NOT_JUDGED)) > 0
    probabilities[nothing], unlike[nothing] = np.nan, np.nan
    flags = flagged(prepared.flags, unlike)
    found = tables.predictions(prepared.objects, probabilities, flags, classifier.hash)
    if classifier.typical is not None:
        found["unlike"] = unlike
    return found


def flagged(flags: NDArray[np.int32], unlike: NDArray[np.float64]) -> NDArray[np.int32]:
    """Add UNLIKE to the flags of what lies too far from all that a model learned.

    Parameters
    ----------
    flags : ndarray
        (n,) sums of `Flag`.
    unlike : ndarray
        (n,) as `Classifier.examine_cutouts` gives it.

    Returns
    -------
    ndarray
        (n,) sums of `Flag`.
    """
    with np.errstate(invalid="ignore"):
        return np.where(unlike > 1, flags | int(Flag.UNLIKE), flags).astype(np.int32)


@dataclass(frozen=True)
class _Task:
    name: FieldId
    files: dict[str, Path]

    def __str__(self) -> str:
        return f"field {self.name}"


def _prepare_task(task: _Task, how: How, positions: Table | None) -> Prepared:
    return prepare(task.files, how, positions, keep_outside=False)


def _part(
    folder: Path | None, classifier: Classifier, task: _Task, positions: Table | None
) -> Path | None:
    """Name a field's finished part after all that its content depends on."""
    if folder is None:
        return None
    states = {band: (str(path), path.stat()) for band, path in task.files.items()}
    frames = {b: (path, state.st_size, state.st_mtime_ns) for b, (path, state) in states.items()}
    asked = [] if positions is None else [positions[n].tolist() for n in positions.colnames]
    # The card names weights, calibration, edge and shift; typical.safetensors may be deleted.
    model = [dict(classifier.card), classifier.typical is not None]
    key = hash_of([__version__, model, frames, asked])
    return folder / f"{task.name}-{key[:16]}.parquet"


def _where(files: FrameFiles) -> str:
    return str(next(iter(files.values())).parent) if files else "no frames"
