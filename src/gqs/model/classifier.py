"""A trained network with everything it needs to judge: weights, preprocessing, label order."""

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
from gqs.cutouts.preprocessing import Preprocessing
from gqs.cutouts.quality import faults, plain_flux
from gqs.errors import ModelError, UsageError
from gqs.imaging.photometry import aperture_magnitudes
from gqs.model.calibration import Calibration
from gqs.model.classify_field import cut_one_field, field_predictions
from gqs.model.engines import select as choosing
from gqs.model.engines.backends import Engine, Torch
from gqs.model.folder import CARD, TYPICAL, Card, load_model, part
from gqs.model.novelty import Typical
from gqs.surveys.sdss import BANDS, CUTOUT_SIZE, REFERENCE_BAND, check_bands

if TYPE_CHECKING:
    from astropy.table import Table

SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Classifier:
    """A network, its preprocessing and its identity; made by `load_classifier`.

    Attributes
    ----------
    network : torch.nn.Module
        (n, channel, 50, 50) to (n, 3) logits.
    preprocessing : Preprocessing
        What turns cutouts into channels.
    hash : str
        SHA-256 of the weights.
    card : mapping
        The model folder's `model.json`.
    folder : Path
        The model folder.
    batch : int
        Most cutouts judged at a time, which bounds memory.
    calibration : Calibration, optional
        What makes probabilities of logits; a plain softmax where the model has none.
    typical : Typical, optional
        What tells how unlike a source is of all that was learned.
    engine : Engine, optional
        What computes; torch in float32 where none is named.
    """

    network: torch.nn.Module = field(repr=False)
    preprocessing: Preprocessing
    hash: str
    card: Mapping[str, Any] = field(repr=False)
    folder: Path
    batch: int = 256
    calibration: Calibration | None = field(default=None, repr=False)
    typical: Typical | None = field(default=None, repr=False)
    engine: Engine | None = field(default=None, repr=False)

    @property
    def computes(self) -> Engine:
        """What computes; its `name` is as `--engine` takes it."""
        return self.engine or Torch(self.network, self.preprocessing)

    @property
    def bands(self) -> str:
        """Bands that the model takes, in the survey's order."""
        return self.preprocessing.bands

    @property
    def form(self) -> str:
        """`flux` (nanomaggies) or `paper` (8-bit colour picture)."""
        return self.preprocessing.form

    def predict_cutouts(
        self,
        flux: NDArray[Any],
        bands: str = BANDS,
        mag_r: NDArray[np.float64] | None = None,
        seeing: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Judge cutouts: calibrated probabilities, for the mix of classes that was learned.

        Parameters
        ----------
        flux : ndarray
            (n, band, 50, 50) nanomaggies, NaN where a pixel is bad or not covered. For a model of
            the form `paper`: (n, 3, 50, 50) uint8, red, green and blue from i, r and g.
        bands : str
            A letter for each band of `flux`, in its order; must hold r. Bands that the model does
            not take are passed over, bands that are missing count as masked.
        mag_r : ndarray, optional
            (n,) as `magnitudes` gives them, where they are at hand; else they are measured.
        seeing : ndarray, optional
            (n, band) or (band,) arcsec of the bands of `flux`, as `gqs.imaging.seeing` defines it
            and `gqs.imaging.seeing` measures it; NaN where not known. Models that are told the
            seeing part small galaxies from stars better with it.

        Returns
        -------
        ndarray
            (n, 3) probabilities in the order of `gqs.labels.CLASSES`, each row summing to 1; a row
            of NaN where the central 3 x 3 pixels of the r band are not all valid, over half of
            the cutout is masked, the r band is constant, or the network's answer is not finite.

        Raises
        ------
        UsageError
            If shape, type or bands do not fit.
        """
        return self.examine_cutouts(flux, bands, mag_r, seeing)[0]

    def examine_cutouts(
        self,
        flux: NDArray[Any],
        bands: str = BANDS,
        mag_r: NDArray[np.float64] | None = None,
        seeing: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Judge cutouts, and tell how far each lies from all that the model learned."""
        flux = plain_flux(flux)
        images = self.arranged(flux, bands)
        told = self.told(len(images), bands, seeing)
        if mag_r is None and self.calibration is not None:
            mag_r = self.magnitudes(flux, bands)
        found = np.full((len(images), len(labels.CLASSES)), np.nan)
        unlike = np.full(len(images), np.nan)
        rows = np.flatnonzero(self._judgeable(images, bands))
        engine = self.computes
        batch = min(self.batch, engine.batch)
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            found[some], embedding = engine(images[some], told[some])
            if self.typical is not None:
                unlike[some] = self.typical.unlike(embedding)
                unlike[some[~self._complete(images[some])]] = np.nan
        found[~np.isfinite(found).all(axis=1)] = np.nan
        unlike[np.isnan(found[:, 0])] = np.nan
        if self.calibration is None or mag_r is None:
            return np.asarray(softmax(found, axis=1)), unlike
        temperature = self.calibration.at(self.given(bands))
        return temperature.probabilities(found, np.asarray(mag_r)), unlike

    def magnitudes(self, flux: NDArray[Any], bands: str = BANDS) -> NDArray[np.float64]:
        """Measure what calibration and priors go by: r magnitudes within 3 arcsec."""
        if self.form == "paper" or REFERENCE_BAND not in bands:
            return np.full(len(flux), np.nan)
        r = bands.index(REFERENCE_BAND)
        plane = plain_flux(flux)[:, r : r + 1].astype(np.float32, copy=False)
        plane = np.where(np.isfinite(plane), plane, np.nan)
        return aperture_magnitudes(plane, REFERENCE_BAND)[0][:, 0]

    def classify_field(
        self, paths: Sequence[str | Path] | str | Path, positions: Table | None = None
    ) -> Table:
        """Classify what is on one field's frames.

        Parameters
        ----------
        paths : sequence of paths, or one path
            Frames of one field, in any order, r among them.
        positions : Table, optional
            With `objid`, `ra` and `dec` (degrees): judge these instead of detected sources. The
            answer then has exactly one row for each, in their order.

        Returns
        -------
        Table
            Predictions (see `gqs.tables.predictions`).

        Raises
        ------
        BadInputError
            If a frame cannot be read, or they are of different fields.
        """
        several = [paths] if isinstance(paths, str | Path) else paths
        files = [Path(path) for path in several]
        return self.classify_cutouts(cut_one_field(files, self.cutout_spec, positions))

    def classify_cutouts(self, cutouts: FieldCutouts) -> Table:
        """Classify a field that has been cut out by `cut_field`: its Predictions."""
        bands = cutouts.bands if self.form == "flux" else self.bands
        magnitudes = np.asarray(cutouts.objects[f"mag_{REFERENCE_BAND}"], dtype=np.float64)
        probabilities, unlike = self.examine_cutouts(
            cutouts.images, bands, magnitudes, cutouts.seeing
        )
        known = None if self.typical is None else unlike
        return field_predictions(cutouts, probabilities, known, self.hash)

    @property
    def cutout_spec(self) -> CutoutSpec:
        """How cutouts are made for this model: as those of its training set were."""
        return CutoutSpec(self.bands, self.form, self.card["edge"], self.card["star_shift"])

    def given(self, bands: str) -> str:
        """Name those of the model's bands that are there, in its order; all of a colour picture."""
        return "".join(band for band in self.bands if band in bands or self.form == "paper")

    def arranged(self, flux: NDArray[Any], bands: str) -> NDArray[Any]:
        """Put the bands into the model's order, with planes of NaN for those that are missing: (n,
        band, 50, 50) as `preprocessing` takes them.
        """
        if self.form == "paper":
            if flux.dtype != np.uint8 or flux.ndim != 4 or flux.shape[1] != 3:
                raise UsageError(
                    f"This model takes 8-bit colour pictures (n, 3, {CUTOUT_SIZE}, {CUTOUT_SIZE}); "
                    f"got {flux.dtype} {flux.shape}."
                )
            return flux
        check_bands(bands)
        wanted = (len(bands), CUTOUT_SIZE, CUTOUT_SIZE)
        if flux.ndim != 4 or flux.shape[1:] != wanted or flux.dtype.kind not in "fiu":
            raise UsageError(
                f"Cutouts for bands {bands!r} must be numbers (n, {', '.join(map(str, wanted))}); "
                f"got {flux.dtype} {flux.shape}."
            )
        if flux.dtype == np.uint8:
            raise UsageError(
                "Cutouts are 8-bit pictures, of which no flux can be told. Give nanomaggies."
            )
        if REFERENCE_BAND not in bands or REFERENCE_BAND not in self.bands:
            raise UsageError(f"Bands {bands!r}: {REFERENCE_BAND} must be among them.")
        images = np.full((len(flux), len(self.bands), *wanted[1:]), np.nan, dtype=np.float32)
        for i, band in enumerate(self.bands):
            if band in bands:
                images[:, i] = flux[:, bands.index(band)]
        images[~np.isfinite(images)] = np.nan
        return images

    def told(
        self, n: int, bands: str, seeing: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Put the seeing into the model's order of bands: (n, band) arcsec, as `preprocessing`
        takes it; NaN where it is not known.
        """
        found = np.full((n, len(self.bands)), np.nan)
        if seeing is not None and self.form == "flux":
            given = np.broadcast_to(np.asarray(seeing, dtype=np.float64), (n, len(bands)))
            for i, band in enumerate(self.bands):
                if band in bands:
                    found[:, i] = given[:, bands.index(band)]
        return found

    def _complete(self, images: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which cutouts show something in every band: a missing one is not an odd source."""
        if self.form == "paper":
            return np.ones(len(images), dtype=bool)
        return np.asarray(np.isfinite(images).any(axis=(2, 3)).all(axis=1))

    def _judgeable(self, images: NDArray[Any], bands: str) -> NDArray[np.bool_]:
        if self.form == "paper":
            return np.asarray(images.max(axis=(1, 2, 3)) > images.min(axis=(1, 2, 3)))
        given = [i for i, band in enumerate(self.bands) if band in bands]
        return np.asarray(faults(images[:, given], "".join(self.bands[i] for i in given)) == 0)


def load_classifier(
    folder: str | Path | None = None,
    device: str = "cpu",
    engine: str = "torch",
    threads: int | None = None,
    tell: choosing.Tell = choosing.nobody,
) -> Classifier:
    """Load a classifier from its model folder.

    Parameters
    ----------
    folder : path, optional
        As `gqs train` writes it; the model that comes with the package where none is named.
    device : str
        Where to compute, as torch names it; other engines compute on the CPU alone.
    engine : str
        "torch", "onnx" or "openvino", with a precision as in "openvino:bf16", or "auto" for the
        fastest of them in fp32. All but torch in fp32 are tried against it first, once a machine.
    threads : int, optional
        Of the engine; by default those that torch has.
    tell : callable
        Told, in a sentence, what takes time or was passed over in opening the engine.

    Returns
    -------
    Classifier
        Ready to judge.

    Raises
    ------
    ModelError
        If the folder is no model, was damaged, or holds weights that are not finite; if the engine
        that was named differs from torch by more than it may.
    UsageError
        If there is no such engine, or it is not installed.

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
            f"{path / CARD}: its calibration is not what it should be ({error}). Use the version "
            "of gqs that wrote it, or train again."
        ) from error
    typical = Typical.load(learned) if (learned := part(path, card, TYPICAL)) else None
    network, identity = network.to(device), card["weights_sha256"]
    subject = choosing.Model(network, preprocessing, identity, typical)
    return Classifier(
        network,
        preprocessing,
        identity,
        card,
        path,
        calibration=calibration,
        typical=typical,
        engine=choosing.opened(engine, subject, threads, tell),
    )
