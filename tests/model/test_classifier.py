"""Cutouts judged: probabilities where there is something to judge, NaN where there is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units

from drawn import stars
from gqs import labels
from gqs.errors import UsageError
from gqs.model.classifier import Classifier, load_classifier


def test_probabilities_sum_to_one_and_do_not_depend_on_the_batch(classifier: Classifier) -> None:
    flux = stars(7)
    whole = classifier.predict_cutouts(flux)
    assert whole.shape == (7, len(labels.CLASSES))
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-12)
    apart = np.concatenate([classifier.predict_cutouts(flux[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(whole, apart, atol=1e-5)


def test_bands_come_in_any_order(classifier: Classifier) -> None:
    flux = stars(4)
    shuffled = classifier.predict_cutouts(flux[:, [4, 2, 0, 3, 1]], bands="zruig")
    np.testing.assert_array_equal(shuffled, classifier.predict_cutouts(flux))


def test_a_missing_band_is_a_masked_band(classifier: Classifier) -> None:
    flux = stars(4)
    masked = flux.copy()
    masked[:, [0, 4]] = np.nan
    subset = classifier.predict_cutouts(flux[:, 1:4], bands="gri")
    assert np.isfinite(subset).all()
    np.testing.assert_array_equal(subset, classifier.predict_cutouts(masked))


def test_what_cannot_be_judged_is_a_row_of_nan_and_costs_no_neighbour(
    classifier: Classifier,
) -> None:
    flux = stars(8)
    expected = classifier.predict_cutouts(flux)
    bad = flux.copy()
    bad[0, 2, 25, 24] = np.nan  # the centre, r band
    bad[1, :, :26] = np.nan  # over half masked (and the centre)
    bad[2, 2] = 1.25  # constant in r
    bad[3] = np.nan
    bad[4, 2, 24, 24] = np.inf
    bad[5, 2, 5:10, 5:10] = np.nan  # a lesser fault
    bad[6, 0, 25, 25] = np.nan  # the centre, but of u
    found = classifier.predict_cutouts(bad)
    assert np.isnan(found[:5]).all()
    assert np.isfinite(found[5:]).all()
    np.testing.assert_allclose(found[7], expected[7], atol=1e-5)


def test_nothing_gives_nothing(classifier: Classifier) -> None:
    assert classifier.predict_cutouts(stars(1)[:0]).shape == (0, 3)


def test_masks_and_units_count(classifier: Classifier) -> None:
    flux = stars(3)
    plain = classifier.predict_cutouts(flux)
    mask = np.zeros(flux.shape, dtype=bool)
    mask[1, 2, 24, 24] = True  # in the middle of r
    masked = classifier.predict_cutouts(np.ma.array(flux, mask=mask))
    np.testing.assert_allclose(masked[[0, 2]], plain[[0, 2]], atol=1e-5)
    assert np.isnan(masked[1]).all()
    same = classifier.predict_cutouts((flux * 1e-9) * units.mgy)
    np.testing.assert_allclose(same, plain, atol=1e-5)
    with pytest.raises(UsageError, match="in m"):
        classifier.predict_cutouts(flux * units.m)


def test_small_and_large_images_are_used_about_their_centre(classifier: Classifier) -> None:
    flux = stars(3)
    plain = classifier.predict_cutouts(flux)
    around = np.pad(flux, ((0, 0), (0, 0), (7, 7), (3, 4)), constant_values=9.0)
    np.testing.assert_allclose(classifier.predict_cutouts(around), plain, atol=1e-6)
    small = classifier.predict_cutouts(flux[..., 9:41, 9:41])  # 32 px: 41 % of a cutout
    assert np.isfinite(small).all()
    masked = flux.copy()
    masked[..., :9, :], masked[..., 41:, :] = np.nan, np.nan
    masked[..., :9], masked[..., 41:] = np.nan, np.nan
    assert np.isnan(classifier.predict_cutouts(masked)).all()  # mostly masked, not small
    one = {band: flux[0, i] for i, band in enumerate("ugriz")}
    np.testing.assert_allclose(classifier.predict_cutouts(one), plain[:1], atol=1e-6)


@pytest.mark.parametrize(
    ("flux", "bands", "message"),
    [
        (np.zeros((2, 5, 50, 31), np.float32), "ugriz", "must be numbers"),
        (np.zeros((2, 3, 50, 50), np.float32), "ugriz", "must be numbers"),
        (np.zeros((2, 3, 50, 50), np.float32), "giz", "r must be among"),
        (np.zeros((2, 3, 50, 50), np.float32), "grv", "Unknown band 'v'"),
        (np.zeros((2, 5, 50, 50), np.uint8), "ugriz", "8-bit pictures"),
        (np.full((2, 5, 50, 50), "x"), "ugriz", "must be numbers"),
    ],
)
def test_what_is_no_cutout_is_refused_with_a_sentence(
    classifier: Classifier, flux: np.ndarray, bands: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        classifier.predict_cutouts(flux, bands)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    from gqs.errors import ModelError

    with pytest.raises(ModelError, match=r"model\.json"):
        load_classifier(tmp_path)
