"""scikit-learn's own tools on the estimator, and its own checks as far as they suit images."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.base import clone
from sklearn.calibration import CalibrationDisplay
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.utils import estimator_checks

import gqs
from gqs.errors import UsageError
from training import blobs

QUICK = gqs.SkyClassifier(recipe=blobs.recipe(epochs=10), device="cpu")


@pytest.fixture(scope="module")
def stars_and_galaxies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (n, 50, 50) in counts, classes, and fields."""
    images, classes = blobs.sky(360, "r", seed=8)
    classes = np.where(classes == "QSO", "STAR", classes)
    return 900 + 40 * images[:, 0], classes, np.arange(360) // 20


def test_cross_validation_by_field_and_calibration(stars_and_galaxies: tuple) -> None:
    X, y, fields = stars_and_galaxies
    scores = cross_val_score(clone(QUICK), X, y, groups=fields, cv=GroupKFold(2))
    assert scores.mean() > 0.85
    fitted = clone(QUICK).fit(X[:240], y[:240], groups=fields[:240])
    assert fitted.classes_.tolist() == ["GALAXY", "STAR"]
    p = fitted.predict_proba(X[240:])
    assert p.shape == (120, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    predicted = fitted.predict(X[240:])
    assert fitted.score(X[240:], y[240:]) == accuracy_score(y[240:], predicted) > 0.85
    display = CalibrationDisplay.from_estimator(
        fitted, X[240:], y[240:], pos_label="STAR", ax=Figure().subplots()
    )
    np.testing.assert_allclose(display.y_prob, p[:, 1])
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(again.predict_proba(X[240:250]), p[:10], atol=1e-5)  # another batch
    # A masked centre cannot be classified.
    blank = X[240:242].copy()
    blank[:, 20:30, 20:30] = np.nan
    np.testing.assert_allclose(fitted.predict_proba(blank), [fitted.fractions_] * 2)


def test_any_network_on_colour_pictures_and_a_folder_that_is_kept(tmp_path: Path) -> None:
    images, y = blobs.sky(48, "gri", seed=5)
    X = np.clip(30 + 40 * images, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    settings = {"network": "resnet18", "epochs": 1, "device": "cpu", "folder": tmp_path}
    fitted = gqs.SkyClassifier(**settings).fit(X, y)
    assert fitted.predict_proba(X[:5]).shape == (5, 3)
    again = gqs.SkyClassifier(**settings).fit(X, y)  # finds the finished training
    assert again.classifier_.hash == fitted.classifier_.hash
    assert gqs.load_classifier(tmp_path / "model").hash == fitted.classifier_.hash


def test_refusals(stars_and_galaxies: tuple) -> None:
    X, y, _ = stars_and_galaxies
    with pytest.raises(NotFittedError):
        clone(QUICK).predict(X)
    with pytest.raises(UsageError, match="one class only"):
        clone(QUICK).fit(X[:40], ["STAR"] * 40)
    with pytest.raises(UsageError, match="'dog' is none of"):
        clone(QUICK).fit(X[:4], ["STAR", "dog"] * 2)
    with pytest.raises(UsageError, match=r"\(n, ny, nx\)"):
        clone(QUICK).fit(X.reshape(len(X), -1), y)


APPLY = {
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}
# Why the other checks that scikit-learn's API requires of a classifier do not apply.
NOT_APPLICABLE = {
    "fits or predicts tables (n, features), which are no images": {
        "check_estimators_unfitted",
        "check_fit_score_takes_y",
        "check_estimators_overwrite_params",
        "check_dont_overwrite_attributes",
        "check_dont_overwrite_parameters",
        "check_fit2d_1sample",
        "check_fit2d_1feature",
        "check_fit1d",
        "check_fit2d_predict1d",
        "check_estimators_fit_returns_self",
        "check_estimators_dtypes",
        "check_estimators_nan_inf",
        "check_estimators_pickle",
        "check_estimators_empty_data_messages",
        "check_estimator_sparse_tag",
        "check_estimator_sparse_array",
        "check_estimator_sparse_matrix",
        "check_complex_data",
        "check_dtype_object",
        "check_dict_unchanged",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
        "check_f_contiguous_array_estimator",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
    },
    "takes other labels than GALAXY, QSO and STAR": {
        "check_classifiers_classes",
        "check_classifiers_train",
        "check_classifiers_one_label",
        "check_classifiers_regression_target",
        "check_classifier_not_supporting_multiclass",
        "check_supervised_y_no_nan",
        "check_supervised_y_2d",
    },
}


def required() -> dict[str, object]:
    checks = estimator_checks._yield_all_checks(LogisticRegression(), legacy=False)
    return {getattr(check, "func", check).__name__: check for check in checks}


@pytest.mark.parametrize("name", sorted(APPLY))
def test_sklearns_checks(name: str) -> None:
    getattr(estimator_checks, name)("SkyClassifier", gqs.SkyClassifier())


def test_every_required_check_runs_or_has_a_reason() -> None:
    assert set(required()) <= APPLY.union(*NOT_APPLICABLE.values())


def test_importing_gqs_stays_light() -> None:
    code = "import sys, gqs; assert 'sklearn' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
