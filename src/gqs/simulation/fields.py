"""A simulated survey on disk: frames in the archive's format, and a catalogue of their sources.

Every field depends only on the survey's seed and its own number. It is written in a child process
and counts as complete only when all its files are; running the same command again writes the
missing fields.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.table import Table, vstack

from gqs import __version__, files, labels, tables
from gqs.errors import BadInputError, GqsError, UsageError
from gqs.executors import Progress, no_progress
from gqs.executors.processes import LocalExecutor
from gqs.simulation import population
from gqs.simulation.conditions import draw_conditions
from gqs.simulation.exposure import expose
from gqs.simulation.frame_files import compressed_frame
from gqs.simulation.layout import FIELDS_A_RUN, band_positions, place, plan, scatter, stream
from gqs.simulation.population import Mix
from gqs.simulation.rendering import Painter, add_trail
from gqs.surveys import sdss
from gqs.surveys.sdss import FRAME_SHAPE, PIXEL_SCALE, FieldId, FrameName

CATALOG_DENSITY: Final = 300  # of one's own objects a field
_CATALOG: Final = ("objid", "run", "camcol", "field", "ra", "dec", *"ugriz", "redshift", "class")


@dataclass(frozen=True)
class Survey:
    """Options that determine every byte of a simulated survey."""

    seed: int
    bands: str = sdss.BANDS  # of the frames that are written; pixels do not depend on this choice
    mix: Mix = field(default_factory=Mix)  # densities of the sources
    fields_a_run: int = FIELDS_A_RUN  # fields per run; each run is on another part of the sky
    trails: float = 0.02  # probability that a satellite crosses a frame
    shape: tuple[int, int] = FRAME_SHAPE  # (ny, nx) of a frame; SDSS's is (1489, 2048)


@dataclass(frozen=True)
class Simulated:
    """Result of `simulate`."""

    folder: Path
    catalog: Path
    fields: list[FieldId]
    made: int  # fields that this call wrote; the others were complete before
    objects: dict[str, int]  # catalogue rows of each class
    set_aside: list[str]  # a sentence for each catalogue row or field that could not be simulated


def simulate(
    out: Path,
    n_fields: int | None,
    seed: int,
    mix: Mix | None = None,
    catalog: Table | None = None,
    bands: str = sdss.BANDS,
    workers: int | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Simulated:
    """Write a survey: frames of each field, catalog.csv and simulation.json.

    Also writes sources/RUN-CAMCOL-FIELD.csv with every source of the field and its position on the
    r frame, whether or not it is in the catalogue.

    Parameters
    ----------
    out : Path
        Folder, created if missing. If it contains a part of the same survey, that is completed.
    n_fields : int or None
        Number of fields. With None, as many as the catalogue fills at `catalog_density`.
    seed : int
        Equal seeds and options give equal files, for any number of workers.
    mix : Mix, optional
        Densities of the sources; by default those of the real sky.
    catalog : Table, optional
        Photometry of sources to simulate (class, u, g, r, i, z and optionally redshift). Only these
        are in the output catalogue, spread evenly over the fields; the mix gives their neighbours.
    bands : str
        Bands of the frames that are written.
    workers : int, optional
        Number of child processes; by default one per core.
    progress : callable
        Called after every field with the number of finished fields, their total and a note.
    **options
        `fields_a_run`, `trails` and `shape` of `Survey`; `catalog_density`, objects per field.

    Returns
    -------
    Simulated
        The complete survey in the folder.

    Raises
    ------
    UsageError
        If the folder contains another survey, or an option is invalid.
    ResourceError
        If the disk is full or not writable, or another process writes to the folder.
    """
    out = Path(out)
    density = int(options.pop("catalog_density", CATALOG_DENSITY))
    survey = Survey(seed, sdss.check_bands(bands), mix or Mix(), **options)
    own, set_aside = _own_sources(catalog, seed)
    if n_fields is None:
        if own is None:
            raise UsageError("Give the number of fields, or a catalogue.")
        n_fields = max(1, -(-len(own) // density))
    fields = plan(n_fields, survey.fields_a_run)
    options_hash = files.hash_of({"survey": asdict(survey), "own": _fingerprint(own)})
    with files.only_writer(out):
        _claim(out, survey, options_hash, n_fields, catalog is not None)
        todo = [
            _Task(survey, index, one, _share(own, index, n_fields), out)
            for index, one in enumerate(fields)
            if not _whole(out, one, survey.bands, options_hash)
        ]
        done = len(fields) - len(todo)
        progress(done, len(fields), "fields")
        make = partial(_make_field, options_hash=options_hash)
        for outcome in LocalExecutor(workers).run(make, todo):
            if outcome.error is not None:
                if outcome.error.exit_code != BadInputError.exit_code:
                    raise outcome.error
                set_aside.append(str(outcome.error))
            done += 1
            progress(done, len(fields), "fields")
        return _finish(out, survey, fields, len(todo), set_aside, options_hash)


@dataclass(frozen=True)
class _Task:
    """One field to simulate in a child process."""

    survey: Survey
    index: int
    field: FieldId
    own: Table | None
    out: Path

    def __str__(self) -> str:
        return f"field {self.field}"


def _make_field(task: _Task, options_hash: str) -> None:
    survey = task.survey
    conditions = draw_conditions(
        task.field, place(task.field), stream(survey.seed, task.index, 0), survey.shape
    )
    who, where = (stream(survey.seed, task.index, what) for what in (1, 2))
    sources = scatter(task.field, conditions, survey.mix, task.own, who, where)
    positions = band_positions(conditions, sources, survey.bands)
    canvases = {band: np.zeros(survey.shape, np.float32) for band in survey.bands}
    on_r = np.asarray(sources["x"]), np.asarray(sources["y"])
    Painter(conditions).paint(canvases, sources, on_r, positions)
    hashes = {}
    folder = task.out / "frames" / str(task.field)
    for band in survey.bands:
        own = conditions.bands[band]
        rng = stream(survey.seed, task.index, 10 + sdss.BANDS.index(band))
        add_trail(canvases[band], own, survey.trails, rng)
        flux = expose(canvases[band], own, rng)
        path = folder / str(FrameName(band, task.field))
        files.write_bytes(path, compressed_frame(flux, conditions, band))
        hashes[path.name] = files.sha256(path)
    table = task.out / "sources" / f"{task.field}.csv"
    tables.write(sources, table)
    hashes[table.name] = files.sha256(table)
    seen = {
        band: {
            "seeing": round(own.psf.fwhm * PIXEL_SCALE, 4),
            "axis_ratio": round(own.psf.axis_ratio, 4),
            "noise": round(own.noise, 6),
        }
        for band, own in conditions.bands.items()
    }
    # Written last: a field is complete when this file lists the hashes of all its other files.
    value = {"survey": options_hash, "sha256": hashes, "conditions": seen}
    files.write_json(task.out / "sources" / f"{task.field}.json", value)


def _own_sources(catalog: Table | None, seed: int) -> tuple[Table | None, list[str]]:
    if catalog is None:
        return None, []
    sources, set_aside = population.from_catalog(catalog, stream(seed, 0, 3))
    if not len(sources):
        raise UsageError("No row of the catalogue can be drawn: " + " ".join(set_aside[:1]))
    return sources, set_aside


def _share(own: Table | None, index: int, n_fields: int) -> Table | None:
    """A field's rows of the catalogue: every n-th, so that blocks of one class are spread."""
    return None if own is None else own[index::n_fields]


def _fingerprint(own: Table | None) -> str | None:
    if own is None:
        return None
    return files.hash_of({name: np.asarray(own[name]).tolist() for name in own.colnames})


def _claim(out: Path, survey: Survey, options_hash: str, n_fields: int, own: bool) -> None:
    """Write the survey's description, or refuse a folder that contains another survey."""
    path = out / "simulation.json"
    if path.exists():
        try:
            known = json.loads(path.read_text()).get("hash")
        except (ValueError, AttributeError):
            known = None
        if known != options_hash:
            raise UsageError(
                f"{out}: contains a survey with another seed or other options. "
                "Use another folder, or delete this one."
            )
    files.write_json(path, _described(survey, options_hash, n_fields, own))


def _described(survey: Survey, options_hash: str, n_fields: int, own: bool) -> dict[str, Any]:
    mix = survey.mix
    if own:
        note = "The catalogue's rows are the user's own photometry; their neighbours are drawn."
    elif mix.enriched:
        note = (
            "Enriched: beside a thinned sky, quasars, stars and galaxies are added in equal "
            f"numbers, {mix.enriched:.0f} a square degree of each. Quasars are far more frequent "
            "than on the sky; accuracies hold for this mixture, not for a survey's."
        )
    else:
        note = "The sky as it is: about one quasar a field."
    return {
        "hash": options_hash,
        "note": "Simulated: no pixel was observed. " + note,
        "magnitudes": "catalog.csv has true magnitudes in SDSS's asinh form, without noise.",
        "n_fields": n_fields,
        "survey": asdict(survey),
        "versions": {"gqs": __version__, "numpy": np.__version__},
    }


def _whole(out: Path, one: FieldId, bands: str, options_hash: str) -> bool:
    """Whether all files of a field exist, belong to this survey and match their hashes."""
    try:
        known = json.loads((out / "sources" / f"{one}.json").read_text())
        if known["survey"] != options_hash:
            return False
        table = f"{one}.csv"
        paths = {str(FrameName(b, one)): out / "frames" / str(one) for b in bands}
        paths[table] = out / "sources"
        for name, folder in paths.items():
            files.check_hash(folder / name, known["sha256"][name])
    except (OSError, ValueError, KeyError, TypeError, GqsError):
        return False
    return True


def _finish(
    out: Path,
    survey: Survey,
    fields: list[FieldId],
    made: int,
    set_aside: list[str],
    options_hash: str,
) -> Simulated:
    parts = []
    for one in fields:
        if not _whole(out, one, survey.bands, options_hash):
            continue
        table = tables.read(out / "sources" / f"{one}.csv")
        chosen = np.asarray(table["in_catalog"]).astype(str) == "True"
        names = [*_CATALOG, *(name for name in ("row",) if name in table.colnames)]
        parts.append(table[chosen][names])
    if not parts:
        raise BadInputError(f"{out}: no field could be simulated. " + " ".join(set_aside[:1]))
    rows = vstack(parts, metadata_conflicts="silent")
    for band in sdss.BANDS:  # the catalogue has SDSS's asinh magnitudes
        flux = 10 ** (-0.4 * (np.asarray(rows[band], np.float64) - sdss.ZERO_POINT))
        rows[band] = np.round(sdss.asinh_magnitude(flux, band), 5)
    catalog = tables.write(rows, out / "catalog.csv")
    classes = np.asarray(rows["class"]).astype(str)
    objects = {name: int((classes == name).sum()) for name in labels.CLASSES}
    return Simulated(out, catalog, fields, made, objects, set_aside)
