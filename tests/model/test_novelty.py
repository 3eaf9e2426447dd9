"""The distance from what was learned, held to Gaussians of which it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gqs.errors import ModelError
from gqs.model import novelty
from gqs.model.examples import Examples

D = 5
MEANS = np.array([[0, 0, 0, 0, 0], [12, 0, 0, 3, 0], [0, -9, 0, 0, 1]], dtype=float)
# One covariance a class, far from round: axes of 0.1 to 4, turned.
TURN = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
SPREADS = np.array([[4, 1, 0.5, 0.2, 0.1], [0.1, 1, 1, 2, 0.3], [1, 1, 1, 1, 1]])


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(3, size=n)
    return MEANS[classes] + (rng.normal(size=(n, D)) * SPREADS[classes]) @ TURN.T, classes


def test_the_limit_is_the_quantile_of_chi() -> None:
    found = novelty.fit(*drawn(30_000, 2), drawn(30_000, 3)[0])
    expected = np.sqrt(stats.chi2.ppf(novelty.QUANTILE, D))
    assert found.limit == pytest.approx(expected, rel=0.02)
    other, classes = drawn(30_000, 4)
    share = (found.unlike(other) > 1).mean()
    assert share == pytest.approx(1 - novelty.QUANTILE, abs=0.0015)
    assert (found.distances(other).argmin(axis=1) == classes).mean() > 0.99


def test_distances_are_in_standard_deviations_of_the_class() -> None:
    found = novelty.fit(*drawn(30_000, 2), drawn(2_000, 3)[0])
    for i in range(3):
        steps = SPREADS[i][:, None] * TURN.T  # one standard deviation along each axis
        far = found.distances(MEANS[i] + 3 * steps)[:, i] * found.limit
        np.testing.assert_allclose(far, 3, rtol=0.05)


def test_what_leaves_the_axes_of_wide_embeddings_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "WIDEST", 8)
    rng = np.random.default_rng(6)
    into = rng.normal(size=(D, 40))  # five numbers, spread over forty, and a little noise

    def wide(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        values, classes = drawn(n, seed)
        return values @ into + 0.01 * np.random.default_rng(seed).normal(size=(n, 40)), classes

    found = novelty.fit(*wide(4000, 2), wide(4000, 3)[0])
    assert found.basis.shape == (40, 7) and found.means.shape == (3, 8)
    inside = wide(300, 7)[0]
    assert (found.unlike(inside) > 1).mean() < 0.05
    away = np.linalg.svd(into)[2][-1]  # a direction that no object knows
    assert (found.unlike(inside + 0.5 * away) > 1).mean() > 0.95


def test_a_class_of_few_objects_has_the_covariance_of_all() -> None:
    values, classes = drawn(3000, 2)
    few = np.concatenate([np.flatnonzero(classes != 2), np.flatnonzero(classes == 2)[:4]])
    found = novelty.fit(values[few], classes[few], values)
    assert np.isfinite(found.unlike(values)).all()


def test_it_comes_back_from_its_file_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    values, classes = drawn(600, 2)
    found = novelty.fit(values, classes, values)
    path = found.save(tmp_path / "typical.safetensors")
    np.testing.assert_allclose(
        novelty.Novelty.load(path).unlike(values), found.unlike(values), rtol=1e-4
    )
    other = novelty.Novelty(found.centre, found.basis, found.means[:, :4], found.whitening, 1.0)
    with pytest.raises(ModelError, match="is damaged"):
        novelty.Novelty.load(other.save(tmp_path / "other.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"typical\.safetensors: is damaged"):
        novelty.Novelty.load(path)


def test_the_nearest_example_is_the_source_itself(tmp_path: Path) -> None:
    values, classes = drawn(90, 2)
    found = novelty.fit(values, classes, values)
    pictures = np.random.default_rng(3).integers(0, 255, (90, 6, 7, 3)).astype(np.uint8)
    objid = np.arange(90, dtype=np.uint64) + np.uint64(2**63)
    places = found.coordinates(values).astype(np.float32)
    kept = Examples.load(Examples(objid, classes, pictures, places).save(tmp_path / "e"))
    np.testing.assert_array_equal(kept.objid, objid)
    np.testing.assert_array_equal(kept.pictures, pictures)
    rows, far = kept.nearest(values[17], found, 5)
    assert rows[0] == 17 and far[0] < 1e-4 and (np.diff(far) >= 0).all() and len(rows) == 5
    (tmp_path / "e").write_bytes(b"no")
    with pytest.raises(ModelError, match="is damaged"):
        Examples.load(tmp_path / "e")
