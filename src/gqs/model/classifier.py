"""The classifier: a network with its preprocessing, calibration, novelty and engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from gqs import labels
from gqs.cutouts.field import CutoutSpec, FieldCutouts
from gqs.cutouts.pixels import as_pixels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.errors import ModelError, UsageError
from gqs.imaging.frames import find_frames
from gqs.model.calibration import Calibration
from gqs.model.classify_field import cut_one_field, field_predictions
from gqs.model.engines import select
from gqs.model.engines.backends import Engine, Torch
from gqs.model.folder import CARD, TYPICAL, Card, load_model, part
from gqs.model.novelty import Novelty
from gqs.probability.priors import Prior, choose_prior
from gqs.surveys.sdss import BANDS, OWN_BANDS, REFERENCE_BAND

if TYPE_CHECKING:
    from astropy.table import Table

SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Classifier:
    """A trained model, loaded by `load_classifier`.

    Attributes
    ----------
    network : torch.nn.Module
        (n, channel, 50, 50) to (n, 3) logits.
    preprocessing : Preprocessing
        From cutouts to the network's input.
    hash : str
        SHA-256 of the weights.
    card : mapping
        Content of `model.json`.
    folder : Path
        The model folder.
    batch : int
        Largest batch, which bounds memory.
    calibration : Calibration, optional
        From logits to probabilities; a plain softmax if the model has none.
    typical : Typical, optional
        Novelty distances, if the model has them.
    engine : Engine, optional
        Inference engine; torch in float32 by default.
    """

    network: torch.nn.Module = field(repr=False)
    preprocessing: Preprocessing
    hash: str
    card: Mapping[str, Any] = field(repr=False)
    folder: Path
    batch: int = 256
    calibration: Calibration | None = field(default=None, repr=False)
    novelty: Novelty | None = field(default=None, repr=False)
    engine: Engine | None = field(default=None, repr=False)

    @property
    def computes(self) -> Engine:
        """The inference engine; its `name` is as in `--engine`."""
        return self.engine or Torch(self.network, self.preprocessing)

    @property
    def bands(self) -> str:
        """Bands of the model, in the survey's order."""
        return self.preprocessing.bands

    @property
    def form(self) -> str:
        """`flux` (nanomaggies) or `paper` (8-bit colour picture)."""
        return self.preprocessing.form

    def predict_cutouts(
        self,
        flux: Any,
        bands: str = BANDS,
        mag_r: NDArray[np.float64] | None = None,
        seeing: NDArray[np.float64] | None = None,
        zero_point: float | None = None,
    ) -> NDArray[np.float64]:
        """Calibrated class probabilities of cutouts, for the training set's class fractions.

        Parameters
        ----------
        flux : array, Quantity, NDData, Cutout2D or tensor, list of them, or dict by band
            (n, band, ny, nx) nanomaggies, NaN where a pixel is bad or not covered; (band, ny, nx)
            for one object, (n, ny, nx) in a dict or for one band. Quantities may have any unit of
            flux density; masks of NDData, CCDData and masked arrays are used. Images have 32 pixels
            or more a side; 50 x 50 about their centre are used, with pixels of 0.396 arcsec. For a
            model of the form `paper`: (n, 3, 50, 50) uint8, red, green and blue from i, r and g.
        bands : str
            A letter for each band of `flux`, in its order, including r. Bands that the model does
            not use are ignored, missing ones count as masked.
        mag_r : ndarray, optional
            (n,) r magnitudes within 3 arcsec; by default they are measured on the cutouts.
        seeing : ndarray, optional
            (n, band) or (band,) seeing in the bands of `flux`, arcsec, as `gqs.imaging.seeing`
            measures it; NaN if unknown. Models that use the seeing separate small galaxies from
            stars better with it.
        zero_point : float, optional
            AB magnitude of one count, for images in counts (adu, electrons) or without a unit;
            by default numbers are nanomaggies.

        Returns
        -------
        ndarray
            (n, 3) probabilities in the order of `gqs.labels.CLASSES`; each row sums to 1, or is
            NaN if the central 3 x 3 pixels of the r band are not all valid, over half of
            the cutout is masked, the r band is constant, or the network's output is not finite.

        Raises
        ------
        UsageError
            If shape, type, unit or bands do not fit.
        """
        pixels = as_pixels(flux, bands, zero_point)
        images, factors = pixels.images, self._own_scale(pixels.bands)
        if factors.any() and images.ndim == 4 and images.shape[1] == len(factors):
            images = images * np.where(factors, factors, 1)[:, None, None]
        return self.examine_cutouts(images, pixels.bands, mag_r, seeing, pixels.area)[0]

    def _own_scale(self, bands: str) -> NDArray[np.float32]:
        """Factors on a user's own bands, as in the training set's store; 0 for SDSS's bands."""
        scale = self.card.get("scale", {})
        own = [scale.get(band, 0.0) if band in OWN_BANDS else 0.0 for band in bands]
        return np.array(own, dtype=np.float32)

    def examine_cutouts(
        self,
        flux: NDArray[Any],
        bands: str = BANDS,
        mag_r: NDArray[np.float64] | None = None,
        seeing: NDArray[np.float64] | None = None,
        area: float = 1.0,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities (n, 3) and novelty (n,) of cutouts; above 1 is unlike the training set.

        Cutouts are (n, band, 50, 50) as in a store; `area` is the fraction of them that was
        observed, where smaller images were padded.
        """
        preprocessing = self.preprocessing
        reference = preprocessing.bands[preprocessing.reference]
        if reference not in preprocessing.shared_bands(bands):
            raise UsageError(f"Bands {bands!r}: {reference} must be among them.")
        images, seeing, usable, complete = preprocessing.inputs(flux, bands, seeing, area=area)
        if mag_r is None and self.calibration is not None:
            mag_r = preprocessing.magnitudes(flux, bands)
        logits = np.full((len(images), len(labels.CLASSES)), np.nan)
        unlike = np.full(len(images), np.nan)
        rows = np.flatnonzero(usable)
        engine = self.computes
        batch = min(self.batch, engine.batch)
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            logits[chosen], embedding = engine(images[chosen], seeing[chosen])
            if self.novelty is not None:
                unlike[chosen] = self.novelty.unlike(embedding)
        logits[~np.isfinite(logits).all(axis=1)] = np.nan
        # Any source without a band would be unlike the training set.
        unlike[~complete | np.isnan(logits[:, 0])] = np.nan
        if self.calibration is None or mag_r is None:
            return np.asarray(softmax(logits, axis=1)), unlike
        temperature = self.calibration.at(preprocessing.shared_bands(bands))
        return temperature.probabilities(logits, np.asarray(mag_r)), unlike

    def classify_field(
        self,
        paths: Sequence[str | Path] | str | Path,
        positions: Table | None = None,
        prior: Prior | str | Path | None = None,
    ) -> Table:
        """Classify the sources on the frames of one field.

        Parameters
        ----------
        paths : sequence of paths, or one path
            Frames of one field, in any order, including r; also their folder, or a pattern such as
            ``data/frame-*-003918-3-0213.fits.bz2``.
        positions : Table, optional
            Objects to classify instead of detections (`ra`, `dec` in degrees, `objid`). The
            result has one row for each, in the same order.
        prior : Prior, str or Path, optional
            Mix of classes that the probabilities hold for: `sky` (published counts by magnitude
            and galactic latitude), `balanced`, `training`, or a table's path (see
            `gqs.probability.priors.find_prior`). By default `sky` for detections and `balanced`
            for positions, whose mix is not known.

        Returns
        -------
        Table
            Predictions (see `gqs.tables.predictions`); its meta has `prior`. Columns ``p_*`` are
            for the prior, ``p_*_balanced`` for equal numbers of all classes.

        Raises
        ------
        BadInputError
            If a frame cannot be read, or they are of different fields.
        UsageError
            If the prior is unknown, or the model lacks what it needs.
        """
        from gqs.model.reweight import apply_prior, default_prior

        several = [paths] if isinstance(paths, str | Path) else paths
        chosen = choose_prior(prior, default_prior(self, positions is not None))
        files = find_frames(several)
        found = self.classify_cutouts(cut_one_field(files, self.cutout_spec, positions))
        return apply_prior(found, self, chosen)

    def classify_cutouts(self, cutouts: FieldCutouts) -> Table:
        """Predictions of a field's cutouts, for the training set's class fractions."""
        bands = cutouts.bands if self.form == "flux" else self.bands
        magnitudes = np.asarray(cutouts.objects[f"mag_{REFERENCE_BAND}"], dtype=np.float64)
        probabilities, unlike = self.examine_cutouts(
            cutouts.images, bands, magnitudes, cutouts.seeing
        )
        known = None if self.novelty is None else unlike
        return field_predictions(cutouts, probabilities, known, self.hash)

    @property
    def cutout_spec(self) -> CutoutSpec:
        """Specification of the model's cutouts, the same as for its training set."""
        own = [band for band in self.bands if band in OWN_BANDS]
        if own:
            raise UsageError(
                f"{self.folder}: takes the bands {', '.join(own)} of other images, which SDSS's "
                "frames do not have. Use predict_cutouts, or `gqs import` and `gqs evaluate`."
            )
        return CutoutSpec(self.bands, self.form, self.card["edge"], self.card["star_shift"])


def load_classifier(
    folder: str | Path | None = None,
    device: str = "cpu",
    engine: str = "torch",
    threads: int | None = None,
    tell: select.Tell = select.no_message,
) -> Classifier:
    """Load a classifier from its model folder.

    Parameters
    ----------
    folder : path, optional
        Folder that `gqs train` wrote; by default the model in the package.
    device : str
        torch's name of the device; other engines run on the CPU only.
    engine : str
        "torch", "onnx" or "openvino", optionally with a precision as in "openvino:bf16"; "auto":
        the fastest one in fp32. Engines other than torch in fp32 are checked against it once.
    threads : int, optional
        Threads of the engine; by default torch's setting.
    tell : callable
        Called with a sentence when opening the engine takes time, or an engine is not used.

    Returns
    -------
    Classifier
        The model.

    Raises
    ------
    ModelError
        If the folder is not a model, was damaged, or has weights that are not finite; if the
        requested engine differs from torch by more than allowed.
    UsageError
        If the engine is unknown or not installed.

    Examples
    --------
    >>> import gqs
    >>> classifier = gqs.load_classifier()
    >>> classifier.bands
    'ugriz'
    """
    path = Path(folder) if folder is not None else SHIPPED
    network, card = load_model(path)
    preprocessing = Card.model_validate(card).preprocessing()
    try:
        calibration = Calibration.from_card(card["calibration"])
    except ValueError as error:
        raise ModelError(
            f"{path / CARD}: its calibration is invalid ({error}). Use the version "
            "of gqs that wrote it, or train again."
        ) from error
    novelty = Novelty.load(learned) if (learned := part(path, card, TYPICAL)) else None
    network, identity = network.to(device), card["weights_sha256"]
    subject = select.Model(network, preprocessing, identity, novelty)
    return Classifier(
        network,
        preprocessing,
        identity,
        card,
        path,
        calibration=calibration,
        novelty=novelty,
        engine=select.opened(engine, subject, threads, tell),
    )
