"""Sources of a field found by name, position or pixel, and all that is to be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Row, Table
from numpy.typing import NDArray

from gqs import labels
from gqs.cutouts.channels import to_channels
from gqs.cutouts.field import FieldCutouts, cut_field
from gqs.errors import BadInputError, UsageError
from gqs.explain.attribution import evidence, without_each_band
from gqs.imaging.frames import group_fields, read_frame
from gqs.imaging.seeing import seeing_columns
from gqs.model.classifier import Classifier
from gqs.model.examples import Examples
from gqs.model.folder import EXAMPLES, part
from gqs.model.held_out import calibration_of
from gqs.model.reweight import apply_prior
from gqs.networks.embedding import embed
from gqs.probability.label_shift import reweight
from gqs.probability.priors import Prior
from gqs.report.pictures import colours
from gqs.surveys.sdss import PIXEL_SCALE, REFERENCE_BAND
from gqs.tables import Flag, float_column

REACH: Final = 5.0  # pixels (2 arcsec) within which a position means the source that is there
SHOWN: Final = 8  # nearest training objects

# In the order of `Flag`, for readers.
WORDS: Final[dict[Flag, str]] = {
    Flag.EDGE: "the cutout reaches over the frame's edge",
    Flag.MASKED: "some pixels are bad or not covered",
    Flag.SATURATED: "some pixels are saturated",
    Flag.MISSING_BAND: "a band that the model takes is missing",
    Flag.BLENDED: "parted from a neighbour by detection",
    Flag.OUTSIDE: "the position lies off the frames",
    Flag.NO_SIGNAL: "the r band is constant",
    Flag.NOT_JUDGED: "not judged: centre invalid, or over half of it masked",
    Flag.UNLIKE: "unlike all that the model learned",
    Flag.NO_PRIOR: "no r magnitude, so no prior",
    Flag.HALO: "in the halo of a bright star",
    Flag.TRAIL: "a satellite's trail crosses it, or it is a piece of one",
    Flag.COSMIC_RAY: "sharper in r than any point source is: a cosmic ray",
}


@dataclass(frozen=True)
class Neighbour:
    """A training object that the network sees as similar."""

    objid: int
    name: str
    distance: float
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Explained:
    """One source and all that is to be said of its judgement.

    Attributes
    ----------
    row : Row
        Of the Predictions table.
    image : ndarray
        (band, 50, 50) nanomaggies, or (3, 50, 50) uint8.
    bands : str
        Of `image`; of a colour picture "irg".
    picture : ndarray
        (50, 50, 3) uint8.
    north : tuple of float
        Unit vector to the north in pixels, x and y; east is on the side that `east` says.
    east : tuple of float
        The same to the east.
    without : mapping
        (3,) probabilities by the band that is left out.
    parts : ndarray
        (band, 50, 50) of `image`'s bands: each pixel's part in the lead of its class.
    lead : float
        Of its class over what empty sky would have.
    nearest : list of Neighbour
        Nearest first; empty where the model keeps no examples.
    """

    row: Row
    image: NDArray[Any]
    bands: str
    picture: NDArray[np.uint8]
    north: tuple[float, float]
    east: tuple[float, float]
    without: Mapping[str, NDArray[np.float64]]
    parts: NDArray[np.float32]
    lead: float
    nearest: list[Neighbour]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(3,) in the order of the labels; NaN where nothing was judged."""
        return np.array([self.row[name] for name in labels.PROBABILITY_COLUMNS], dtype=float)

    def flags(self) -> list[str]:
        """Say in words what is unusual."""
        return [text for flag, text in WORDS.items() if int(self.row["flags"]) & flag]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON can hold them."""
        row = {name: _plain(self.row[name]) for name in self.row.colnames}
        return {
            **row,
            "flags_in_words": self.flags(),
            "without": {
                band: dict(zip(labels.PROBABILITY_COLUMNS, map(_plain, p), strict=True))
                for band, p in self.without.items()
            },
            "lead": _plain(self.lead),
            "lead_by_band": {
                band: _plain(value.sum())
                for band, value in zip(self.bands, self.parts, strict=True)
            },
            "nearest": [
                {"objid": one.objid, "class": one.name, "distance": _plain(one.distance)}
                for one in self.nearest
            ],
        }


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else str(value)


@dataclass(frozen=True)
class Wanted:
    """Which sources: names that detection gave, a position (deg), or a pixel of the r frame."""

    objid: Sequence[int] = ()
    radec: tuple[float, float] | None = None
    xy: tuple[float, float] | None = None


def explain(
    classifier: Classifier, paths: Sequence[Path], wanted: Wanted, prior: Prior | None = None
) -> list[Explained]:
    """Judge sources of one field and say why.

    Parameters
    ----------
    classifier : Classifier
        The judge.
    paths : sequence of Path
        Frames of one field.
    wanted : Wanted
        Which of its sources. A position where nothing was detected is judged as it is.
    prior : Prior, optional
        By which all probabilities are weighed, as `gqs classify --prior` weighs a catalogue's.

    Returns
    -------
    list of Explained
        In the order of `wanted`.

    Raises
    ------
    UsageError
        If there is no such source on the field, the frames are of several fields, or the model
        does not tell what a prior needs.
    BadInputError
        If a frame cannot be used.
    """
    fields, refused = group_fields(list(paths))
    if refused:
        raise BadInputError(refused[0])
    if len(fields) != 1:
        raise UsageError(
            f"The frames are of {len(fields)} fields ({', '.join(map(str, fields))}). Name those "
            "of the field that holds the source."
        )
    (files,) = fields.values()
    wcs = read_frame(files[REFERENCE_BAND]).wcs if REFERENCE_BAND in files else None
    found = cut_field(files, classifier.cutout_spec)
    assert wcs is not None  # cut_field() needs the r frame
    rows = _rows(found.objects, wanted, wcs)
    if rows is None and wanted.radec is not None:
        ra, dec = wanted.radec
        place = Table({"objid": np.array([1], dtype=np.uint64), "ra": [ra], "dec": [dec]})
        found, rows = cut_field(files, classifier.cutout_spec, place), [0]
        if int(found.flags[0]) & Flag.OUTSIDE:
            raise UsageError(f"ra {ra}, dec {dec}: lies on none of the frames.")
    assert rows is not None  # _rows() refuses a pixel or a name without a source
    return _explained(classifier, found.select(rows), wcs, prior)


def _rows(objects: Table, wanted: Wanted, wcs: Any) -> list[int] | None:
    """Positions of the sources that are wanted; None for a place on the sky without one."""
    if wanted.objid:
        place = {objid: row for row, objid in enumerate(objects["objid"].tolist())}
        for objid in wanted.objid:
            if objid not in place:
                raise UsageError(
                    f"objid {objid}: is none of the {len(place)} sources detected on this field. "
                    "Name one of `gqs classify` on the same frames, or a position."
                )
        return [place[objid] for objid in wanted.objid]
    if wanted.xy is not None:
        x, y = wanted.xy
    else:
        assert wanted.radec is not None  # the verb asks for one of the three
        ((x, y),) = wcs.all_world2pix([wanted.radec], 0, quiet=True)
    far = np.hypot(np.asarray(objects["x"]) - x, np.asarray(objects["y"]) - y)
    if len(far) and far.min() <= REACH:
        return [int(far.argmin())]
    if wanted.xy is not None:
        raise UsageError(
            f"x {x:g}, y {y:g}: no source was detected within {REACH:g} pixels. Give --ra and "
            "--dec to judge the place itself."
        )
    return None


def _explained(
    classifier: Classifier, some: FieldCutouts, wcs: Any, prior: Prior | None
) -> list[Explained]:
    bands = some.bands if classifier.form == "flux" else classifier.bands
    table = apply_prior(classifier.classify_cutouts(some), classifier, prior)
    widths = seeing_columns(some.objects, bands)
    without = without_each_band(classifier, some.images, bands, widths)
    if prior is not None:
        r, ra, dec = (float_column(table, name) for name in ("mag_r", "ra", "dec"))
        learned = calibration_of(classifier, "a prior").learned.at(r)
        expected = prior.density(r, ra, dec)
        without = {band: reweight(p, expected, learned) for band, p in without.items()}
    path = part(classifier.folder, classifier.card, EXAMPLES)
    examples = None if path is None else Examples.load(path)
    pictures = colours(some.images, bands)
    explained = []
    for i, row in enumerate(table):
        image = some.images[i]
        shown = "irg" if classifier.form == "paper" else bands
        parts, lead = np.zeros(image.shape, dtype=np.float32), float("nan")
        nearest: list[Neighbour] = []
        if row["class"]:
            one = classifier.preprocessing.inputs(image[None], bands, widths[i])
            channels = to_channels(classifier.preprocessing, one.images, one.seeing)
            every, lead = evidence(classifier, channels, labels.index(str(row["class"])))
            there = range(3) if classifier.form == "paper" else map(classifier.bands.index, bands)
            parts = every[list(there)]
            nearest = _nearest(classifier, channels, examples)
        north, east = _compass(wcs, float(row["ra"]), float(row["dec"]))
        explained.append(
            Explained(row, image, shown, pictures[i], north, east,
                      {band: p[i] for band, p in without.items()}, parts, lead, nearest)
        )  # fmt: skip
    return explained


def _nearest(
    classifier: Classifier, channels: torch.Tensor, examples: Examples | None
) -> list[Neighbour]:
    if examples is None or classifier.novelty is None:
        return []
    device = next(classifier.network.parameters()).device
    with torch.inference_mode():
        embedding = embed(classifier.network, channels.to(device))[1]
    rows, far = examples.nearest(embedding[0].cpu().numpy(), classifier.novelty, SHOWN)
    return [
        Neighbour(
            int(examples.objid[row]),
            labels.CLASSES[examples.classes[row]],
            float(distance),
            examples.pictures[row],
        )
        for row, distance in zip(rows, far, strict=True)
    ]


def _compass(wcs: Any, ra: float, dec: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Unit vectors to the north and to the east, in pixels."""
    here, step = SkyCoord(ra, dec, unit="deg"), 10 * PIXEL_SCALE * units.arcsec
    ends = [here.directional_offset_by(turn * units.deg, step) for turn in (0, 90)]
    places = [(place.ra.deg, place.dec.deg) for place in (here, *ends)]
    centre, *away = wcs.all_world2pix(places, 0)
    (nx, ny), (ex, ey) = ((end - centre) / np.hypot(*(end - centre)) for end in away)
    return (float(nx), float(ny)), (float(ex), float(ey))
