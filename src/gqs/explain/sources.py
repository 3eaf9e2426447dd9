"""Sources of a field selected by objid, position or pixel, and explained."""

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
from gqs.explain.attribution import pixel_contributions, without_each_band
from gqs.imaging.frames import group_fields, read_frame
from gqs.imaging.seeing import seeing_columns
from gqs.model.classifier import Classifier
from gqs.model.examples import Examples
from gqs.model.folder import EXAMPLES, part
from gqs.model.held_out import calibration_of
from gqs.model.reweight import apply_prior, default_prior
from gqs.networks.embedding import embed
from gqs.probability.label_shift import reweight
from gqs.probability.priors import Prior, choose_prior, densities
from gqs.report.pictures import colours
from gqs.surveys.sdss import PIXEL_SCALE, REFERENCE_BAND
from gqs.tables import Flag, float_column

MATCH_PIXELS: Final = 5.0  # largest distance of a source from a position (2 arcsec)
NEIGHBOURS: Final = 8  # nearest training objects

# In the order of `Flag`.
FLAG_WORDS: Final[dict[Flag, str]] = {
    Flag.EDGE: "the cutout extends over the edge of the frame",
    Flag.MASKED: "some pixels are bad or not covered",
    Flag.SATURATED: "some pixels are saturated",
    Flag.MISSING_BAND: "a band that the model takes is missing",
    Flag.BLENDED: "deblended from a neighbour",
    Flag.OUTSIDE: "the position is outside the frames",
    Flag.NO_SIGNAL: "the r band is constant",
    Flag.NOT_JUDGED: "not classified: centre invalid, or more than half of it masked",
    Flag.UNLIKE: "unlike all training objects",
    Flag.NO_PRIOR: "no r magnitude, so no prior",
    Flag.HALO: "in the halo of a bright star",
    Flag.TRAIL: "a satellite's trail crosses it, or it is a piece of one",
    Flag.COSMIC_RAY: "sharper in r than any point source is: a cosmic ray",
    Flag.NOISE_ESTIMATED: "a frame has no calibration, so its noise is estimated from its pixels",
}


@dataclass(frozen=True)
class Neighbour:
    """A training object that the network sees as similar."""

    objid: int
    name: str
    distance: float
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Explanation:
    """A source with its classification and what that depends on.

    Attributes
    ----------
    row : Row
        Its row of the Predictions table.
    image : ndarray
        Cutout, (band, 50, 50) nanomaggies, or (3, 50, 50) uint8.
    bands : str
        Bands of `image`; "irg" for a colour picture.
    picture : ndarray
        The cutout in colours, (50, 50, 3) uint8.
    north : tuple of float
        Unit vector to the north in pixels, x and y.
    east : tuple of float
        Unit vector to the east in pixels, x and y.
    without : mapping
        Probabilities (3,) by the band that is left out.
    contributions : ndarray
        Contribution of each pixel to `lead`, (band, 50, 50).
    lead : float
        Logit of its class minus the mean of the three logits, relative to empty sky.
    nearest : list of Neighbour
        Similar training objects, nearest first; empty if the model stores no examples.
    """

    row: Row
    image: NDArray[Any]
    bands: str
    picture: NDArray[np.uint8]
    north: tuple[float, float]
    east: tuple[float, float]
    without: Mapping[str, NDArray[np.float64]]
    contributions: NDArray[np.float32]
    lead: float
    nearest: list[Neighbour]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities (3,) in the order of the labels; NaN if it is not classified."""
        return np.array([self.row[name] for name in labels.PROBABILITY_COLUMNS], dtype=float)

    def flags(self) -> list[str]:
        """The flags that are set, in words."""
        return [text for flag, text in FLAG_WORDS.items() if int(self.row["flags"]) & flag]

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
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
                for band, value in zip(self.bands, self.contributions, strict=True)
            },
            "nearest": [
                {"objid": n.objid, "class": n.name, "distance": _plain(n.distance)}
                for n in self.nearest
            ],
        }


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else str(value)


@dataclass(frozen=True)
class SourceSelection:
    """Sources by objid as detected, by position (deg), or by pixel of the r frame."""

    objid: Sequence[int] = ()
    radec: tuple[float, float] | None = None
    xy: tuple[float, float] | None = None


def explain(
    classifier: Classifier,
    paths: Sequence[Path],
    selection: SourceSelection,
    prior: Prior | str | Path | None = None,
) -> list[Explanation]:
    """Classify sources of one field and explain the results.

    Parameters
    ----------
    classifier : Classifier
        The model.
    paths : sequence of Path
        Frames of one field.
    selection : SourceSelection
        Which of its sources. A position without a detected source is classified itself.
    prior : Prior, str or Path, optional
        Applied to all probabilities, as for `Classifier.classify_field`; by default `sky`.

    Returns
    -------
    list of Explanation
        In the order of `selection`.

    Raises
    ------
    UsageError
        If there is no such source on the field, the frames are of several fields, or the model
        lacks the calibration that a prior needs.
    BadInputError
        If a frame cannot be used.
    """
    fields, refused = group_fields(list(paths))
    if refused:
        raise BadInputError(refused[0])
    if len(fields) != 1:
        raise UsageError(
            f"The frames are of {len(fields)} fields ({', '.join(map(str, fields))}). Give those "
            "of the field with the source."
        )
    (files,) = fields.values()
    wcs = read_frame(files[REFERENCE_BAND]).wcs if REFERENCE_BAND in files else None
    cutouts = cut_field(files, classifier.cutout_spec)
    assert wcs is not None  # cut_field() needs the r frame
    rows = _rows(cutouts.objects, selection, wcs)
    if rows is None and selection.radec is not None:
        ra, dec = selection.radec
        position = Table({"objid": np.array([1], dtype=np.uint64), "ra": [ra], "dec": [dec]})
        cutouts, rows = cut_field(files, classifier.cutout_spec, position), [0]
        if int(cutouts.flags[0]) & Flag.OUTSIDE:
            raise UsageError(f"ra {ra}, dec {dec}: is outside the frames. Give those around it.")
    assert rows is not None  # _rows() refuses a pixel or a name without a source
    chosen = choose_prior(prior, default_prior(classifier, positions=False))
    return _explain_cutouts(classifier, cutouts.select(rows), wcs, chosen)


def _rows(objects: Table, selection: SourceSelection, wcs: Any) -> list[int] | None:
    """Rows of the selected sources; None for a position without a source."""
    if selection.objid:
        place = {objid: row for row, objid in enumerate(objects["objid"].tolist())}
        for objid in selection.objid:
            if objid not in place:
                raise UsageError(
                    f"objid {objid}: is none of the {len(place)} sources detected on this field. "
                    "Use one of `gqs classify` on the same frames, or a position."
                )
        return [place[objid] for objid in selection.objid]
    if selection.xy is not None:
        x, y = selection.xy
    else:
        assert selection.radec is not None  # the verb requires one of the three
        ((x, y),) = wcs.all_world2pix([selection.radec], 0, quiet=True)
    distance = np.hypot(np.asarray(objects["x"]) - x, np.asarray(objects["y"]) - y)
    if len(distance) and distance.min() <= MATCH_PIXELS:
        return [int(distance.argmin())]
    if selection.xy is not None:
        raise UsageError(
            f"x {x:g}, y {y:g}: no source was detected within {MATCH_PIXELS:g} pixels. "
            "Give --ra and --dec to classify the position itself."
        )
    return None


def _explain_cutouts(
    classifier: Classifier, cutouts: FieldCutouts, wcs: Any, prior: Prior | None
) -> list[Explanation]:
    bands = cutouts.bands if classifier.form == "flux" else classifier.bands
    table = apply_prior(classifier.classify_cutouts(cutouts), classifier, prior)
    widths = seeing_columns(cutouts.objects, bands)
    without = without_each_band(classifier, cutouts.images, bands, widths)
    if prior is not None:
        learned = calibration_of(classifier, "a prior").learned.at(float_column(table, "mag_r"))
        density = densities(prior, table)
        without = {band: reweight(p, density, learned) for band, p in without.items()}
    path = part(classifier.folder, classifier.card, EXAMPLES)
    examples = None if path is None else Examples.load(path)
    pictures = colours(cutouts.images, bands)
    explanations = []
    for i, row in enumerate(table):
        image = cutouts.images[i]
        contributions, lead = np.zeros(image.shape, dtype=np.float32), float("nan")
        nearest: list[Neighbour] = []
        if row["class"]:
            inputs = classifier.preprocessing.inputs(image[None], bands, widths[i])
            channels = to_channels(classifier.preprocessing, inputs.images, inputs.seeing)
            target = labels.index(str(row["class"]))
            all_bands, lead = pixel_contributions(classifier, channels, target)
            paper = classifier.form == "paper"
            contributions = all_bands[
                list(range(3) if paper else map(classifier.bands.index, bands))
            ]
            nearest = _nearest(classifier, channels, examples)
        north, east = _compass(wcs, float(row["ra"]), float(row["dec"]))
        explanations.append(
            Explanation(
                row=row,
                image=image,
                bands="irg" if classifier.form == "paper" else bands,
                picture=pictures[i],
                north=north,
                east=east,
                without={band: p[i] for band, p in without.items()},
                contributions=contributions,
                lead=lead,
                nearest=nearest,
            )
        )
    return explanations


def _nearest(
    classifier: Classifier, channels: torch.Tensor, examples: Examples | None
) -> list[Neighbour]:
    if examples is None or classifier.novelty is None:
        return []
    device = next(classifier.network.parameters()).device
    with torch.inference_mode():
        embedding = embed(classifier.network, channels.to(device))[1]
    rows, distances = examples.nearest(embedding[0].cpu().numpy(), classifier.novelty, NEIGHBOURS)
    return [
        Neighbour(
            int(examples.objid[row]),
            labels.CLASSES[examples.classes[row]],
            float(distance),
            examples.pictures[row],
        )
        for row, distance in zip(rows, distances, strict=True)
    ]


def _compass(wcs: Any, ra: float, dec: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Unit vectors to the north and to the east, in pixels."""
    source, step = SkyCoord(ra, dec, unit="deg"), 10 * PIXEL_SCALE * units.arcsec
    ends = [source.directional_offset_by(turn * units.deg, step) for turn in (0, 90)]
    places = [(place.ra.deg, place.dec.deg) for place in (source, *ends)]
    centre, *away = wcs.all_world2pix(places, 0)
    (nx, ny), (ex, ey) = ((end - centre) / np.hypot(*(end - centre)) for end in away)
    return (float(nx), float(ny)), (float(ex), float(ey))
