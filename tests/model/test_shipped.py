"""The model in the package: small, and right on a sky and on real pixels that it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gqs
from gqs import tables
from gqs.evaluation.metrics import evaluate
from gqs.model.classifier import SHIPPED, Classifier
from gqs.simulation.population import draw
from gqs.simulation.stamps import render_cutouts


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return gqs.load_classifier()


def test_it_is_small_and_takes_five_bands(shipped: Classifier) -> None:
    assert shipped.bands == "ugriz" and shipped.form == "flux"
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10 << 20


def test_it_classifies_a_sky_that_it_never_saw(shipped: Classifier) -> None:
    """Magnitudes alone reach 89 % here (benchmarks/populations_beside_catalogue.py)."""
    rng = np.random.default_rng(77)
    sources = draw({"GALAXY": 171, "QSO": 171, "STAR": 170}, rng)
    images, rows = zip(*render_cutouts(sources, seed=771, first_field=40_000), strict=True)
    from astropy.table import vstack

    truth = vstack(rows)
    flux = np.concatenate(images)
    for bands, least in (("ugriz", 0.85), ("gri", 0.70)):
        planes = ["ugriz".index(band) for band in bands]
        probabilities = shipped.predict_cutouts(flux[:, planes], bands)
        flags = np.asarray(truth["flags"], dtype=np.int32)
        found = tables.predictions(truth, probabilities, flags, shipped.hash)
        assert evaluate(found, truth, resamples=10).accuracy.value > least


def test_it_tells_galaxies_from_points_on_a_real_field(
    real_data: Path, shipped: Classifier
) -> None:
    """SDSS photo's own types in a field that no fit has seen, to r < 20."""
    name = "003918-3-0213"
    positions = tables.read(real_data / "catalogs" / f"field_{name}_photo_types.csv")
    frames = sorted((real_data / "frames" / name).glob("frame-*.fits.bz2"))
    found = shipped.classify_field(frames, positions)
    assert len(found) == len(positions) == 643
    judged = (np.asarray(found["class"]) != "") & (np.asarray(found["mag_r"]) < 20)
    extended = np.asarray(positions["class"]) == "GALAXY"
    agree = (np.asarray(found["class"]) == "GALAXY") == extended
    assert judged.sum() > 80
    assert agree[judged].mean() > 0.85
