"""scikit-learn's interface: a network that is trained and used as an estimator on images."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from gqs import labels, recipes
from gqs.cutouts.image_files import image_set
from gqs.cutouts.import_images import CutoutRecipe
from gqs.cutouts.sky_groups import sky_groups
from gqs.cutouts.split import assign_at_random, assign_groups
from gqs.cutouts.store import CutoutStore
from gqs.errors import BadInputError, UsageError
from gqs.model.classifier import load_classifier
from gqs.networks import zoo
from gqs.recipes import Recipe
from gqs.training.loop import train

FRACTIONS: Final = (0.85, 0.15)  # of the objects: training side and validation side
AT_ONCE: Final = 256  # images in memory


class SkyClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network as an estimator of scikit-learn, trained by the same loop as `gqs train`.

    Parameters
    ----------
    network : str
        Name in `gqs.networks.zoo`, or "timm:NAME". "compact" takes flux of any bands, but no 8-bit
        pictures; the others take both.
    recipe : str or Recipe
        Optimizer, schedule and augmentation, as for `gqs.training.train`. Augmentations that the
        network or the images do not allow are left out.
    epochs : int, optional
        Number of epochs, by default the recipe's.
    bands : str, optional
        A letter for each plane of the images, by default A, B, C and so on; see
        `CutoutStore.from_arrays`.
    folder : path, optional
        Folder in which the store and the model are kept, so that an interrupted `fit` continues;
        other data need another folder. By default a temporary one.
    device : str, optional
        Name of a torch device, by default a GPU if there is one.
    random_state : int
        Seed of split, weights, order and augmentation.

    Attributes
    ----------
    classes_ : ndarray
        Classes of the training set, sorted.
    classifier_ : Classifier
        The trained model.
    fractions_ : ndarray
        Fraction of each class in the training set.
    left_out_ : list of str
        A sentence for each image that was not used, with the reason.

    Notes
    -----
    Images are arrays (n, ny, nx) or (n, band, ny, nx), of 16 to 512 pixels a side with the object
    at the centre, or 8-bit colours (n, ny, nx, 3). NaN marks masked pixels. A model folder that
    `folder` keeps can be used by `load_classifier` and the command line.

    Examples
    --------
    >>> import numpy as np, gqs
    >>> gqs.SkyClassifier(epochs=2).get_params()["network"]
    'compact'

    Cross-validation that keeps each field on one side::

        cross_val_score(gqs.SkyClassifier(), images, labels, groups=fields, cv=GroupKFold(5))
    """

    def __init__(
        self,
        network: str = "compact",
        recipe: str | Recipe = "demo",
        epochs: int | None = None,
        bands: str | None = None,
        folder: str | Path | None = None,
        device: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.network = network
        self.recipe = recipe
        self.epochs = epochs
        self.bands = bands
        self.folder = folder
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Train the network; the best epoch on a validation side is kept and calibrated.

        Parameters
        ----------
        X : array_like
            (n, ny, nx) or (n, band, ny, nx) images.
        y : array_like
            (n,) classes, two or three of GALAXY, QSO and STAR.
        groups : array_like, optional
            (n,) names of groups, such as the field, of which none is on both the training and the
            validation side. By default single objects are divided at random.

        Returns
        -------
        SkyClassifier
            The fitted estimator.

        Raises
        ------
        UsageError
            If shapes, labels or parameters do not fit, or there is one class only.
        BadInputError
            If no image can be used.
        """
        unknown = set(np.unique(np.asarray(y).astype(str))) - set(labels.CLASSES)
        if unknown:
            raise UsageError(
                f"Label {str(sorted(unknown)[0])!r} is none of {', '.join(labels.CLASSES)}."
            )
        recipe = self._recipe(np.asarray(X).dtype == np.uint8)
        with _kept_or_temporary(self.folder) as folder:
            store = CutoutStore.from_arrays(folder / "store", X, y, bands=self.bands, groups=groups)
            split = training_sides(store.index, groups is not None, self.random_state)
            train(
                store,
                split,
                folder / "model",
                recipe,
                device=self.device,
                seed=self.random_state,
            )
            self.classifier_ = load_classifier(folder / "model", device=self.device or "cpu")
            self._cutting = CutoutRecipe.of_store(store, self.bands)
            classes = np.asarray(store.index["class"]).astype(str)
            self.left_out_ = list(store.manifest["set_aside"])
        self.classes_, counts = np.unique(classes, return_counts=True)
        self.fractions_ = counts / counts.sum()
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Calibrated class probabilities.

        Parameters
        ----------
        X : array_like
            Images, as for `fit`.

        Returns
        -------
        ndarray
            (n, class) in the order of `classes_`; each row sums to 1. Images that cannot be
            classified, such as those with a masked centre, get the fractions of the training set.
        """
        check_is_fitted(self)
        images = image_set(X)
        columns = [labels.index(str(name)) for name in self.classes_]
        found = np.tile(self.fractions_, (len(images), 1))
        for start in range(0, len(images), AT_ONCE):
            rows, cutouts = [], []
            for row in range(start, min(start + AT_ONCE, len(images))):
                with contextlib.suppress(BadInputError):
                    cutouts.append(self._cutting.scaled(images.pixels(row)))
                    rows.append(row)
            if rows:
                bands = self._cutting.bands
                p = self.classifier_.examine_cutouts(np.stack(cutouts), bands)[0][:, columns]
                p /= p.sum(axis=1, keepdims=True)
                usable = np.isfinite(p).all(axis=1)
                found[np.array(rows)[usable]] = p[usable]
        return found

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:
        """The most probable class of each image.

        Parameters
        ----------
        X : array_like
            Images, as for `fit`.

        Returns
        -------
        ndarray
            (n,) names of classes.
        """
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _recipe(self, pictures: bool) -> Recipe:
        """The recipe, without augmentations that need flux in units of the sky noise."""
        recipe = self.recipe
        if isinstance(recipe, str):
            recipe = recipes.load(recipe, self.network)
        elif recipe.network != self.network:
            recipe = recipe.changed(network=self.network, arguments={})
        if pictures or zoo.find(self.network).stretch != "linear":
            recipe = recipe.changed(**{"augment.dim": 0.0})
        return recipe.changed(epochs=self.epochs)

    def __sklearn_tags__(self) -> Any:
        """Images instead of tables, NaN for masked pixels."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags


@contextlib.contextmanager
def _kept_or_temporary(folder: str | Path | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="gqs-") as temporary:
        yield Path(temporary)


def training_sides(index: Table, grouped: bool, seed: int) -> Table:
    """Training and validation side of a store's objects, as a split; groups are kept whole."""
    kind = np.unique(np.asarray(index["class"]).astype(str), return_inverse=True)[1]
    group = np.asarray(index["group"]).astype(str)
    rng = np.random.default_rng(seed)
    if grouped:
        unit = np.unique(group, return_inverse=True)[1]
        side = assign_groups(kind, unit, FRACTIONS, rng)
    else:
        unit = sky_groups(np.asarray(index["ra"]), np.asarray(index["dec"]))
        side = assign_at_random(kind, unit, FRACTIONS, rng)
    split = Table({"objid": np.asarray(index["objid"])})
    split["split"] = np.array(["train", "validation"])[side]
    split["group"] = group
    return split
