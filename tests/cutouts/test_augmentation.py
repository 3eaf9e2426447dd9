"""Augmentation: pixels are moved, not mixed; masks go along; the same seed draws the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from gqs.cutouts.augmentation import (
    Augmentation,
    Draws,
    dihedral,
    dimmed,
    flipped,
    rotated,
    shifted,
    without_bands,
)


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(seed: int = 5) -> Draws:
    return Draws(generator(seed))


def batch(n: int = 64, channels: int = 3, side: int = 11) -> torch.Tensor:
    return torch.randn(n, channels, side, side, generator=generator(1))


def test_dihedral_gives_all_eight_orientations_and_mixes_no_pixels() -> None:
    x = batch(200)
    y = dihedral(x, draws())
    ways = [np.rot90(x.numpy()[..., ::flip], k, (2, 3)) for flip in (1, -1) for k in range(4)]
    met = np.stack([(way == y.numpy()).all(axis=(1, 2, 3)) for way in ways])
    assert (met.sum(axis=0) == 1).all()
    assert (met.sum(axis=1) > 8).all()


def test_shifts_move_whole_pixels_and_mask_what_comes_in() -> None:
    x = torch.cat([batch(100, 2), torch.ones(100, 2, 11, 11)], dim=1)
    y = shifted(x, 2, draws()).numpy()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    seen = set()
    for i in range(100):
        ways = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if np.array_equal(y[i], padded[i, :, dy : dy + 11, dx : dx + 11])
        ]
        assert len(ways) == 1
        seen.add(ways[0])
    assert len(seen) > 20
    assert set(np.unique(y[:, 2:])) == {0.0, 1.0}


def test_band_dropout_takes_flux_and_mask_and_spares_the_reference() -> None:
    x = torch.ones(4000, 10, 2, 3)
    y = without_bands(x, 0.2, draws(), masks=5, reference=2)
    assert torch.equal(y[:, :5], y[:, 5:])
    assert (y[:, 2] == 1).all()
    missing = 1 - y[:, [0, 1, 3, 4]].mean(dim=(0, 2, 3))
    np.testing.assert_allclose(missing, 0.2, atol=0.03)
    assert (y == 1).flatten(1).all(1).float().mean() > 0.5


def test_dimming_takes_light_and_keeps_the_noise_the_masks_and_the_colours() -> None:
    noise = torch.randn(600, 2, 20, 30, generator=generator(2))
    noise[:, :, 8:12, 10:20] = torch.tensor([400.0, 800.0])[:, None, None]
    valid = torch.ones_like(noise)
    valid[:, 0, :3] = 0
    x = torch.cat([noise * valid, valid], dim=1)
    y = dimmed(x, 0.5, draws(), masks=2)
    assert torch.equal(y[:, 2:], valid)
    assert (y[:, 0, :3] == 0).all()
    sky = y[:, :2, 13:]
    np.testing.assert_allclose(sky.std(dim=(1, 2, 3)), 1, atol=0.1)
    light = y[:, :2, 8:12, 10:20].mean(dim=(2, 3))
    np.testing.assert_allclose(light[:, 1] / light[:, 0], 2, rtol=0.01)
    kept = light[:, 0] / 400
    assert 0.4 < float((kept > 0.999).float().mean()) < 0.6
    assert 0.49 < float(kept.min()) < 0.55


def test_flips_have_their_probability_on_both_axes() -> None:
    x = batch(2000, 1, 5)
    y = flipped(x, 0.5, draws())
    for axes in ([], [3], [2], [2, 3]):
        share = (y == x.flip(axes)).flatten(1).all(1).float().mean()
        assert share == pytest.approx(0.25, abs=0.04)


def test_rotation_turns_about_the_centre_as_scipy_does() -> None:
    # A smooth image, so that bilinear and scipy's linear interpolation are the same thing.
    rows, columns = np.mgrid[:31, :31]
    image = np.exp(-((rows - 12) ** 2 + (columns - 19) ** 2) / 30).astype(np.float32)
    x = torch.from_numpy(image)[None, None].repeat(6, 1, 1, 1)
    y = rotated(x, 90, draws(3)).numpy()[:, 0]
    angle = (torch.rand(6, generator=generator(3)) * 2 - 1) * 90
    for i in range(6):
        expected = ndimage.rotate(image, float(angle[i]), reshape=False, order=1)
        np.testing.assert_allclose(y[i, 6:-6, 6:-6], expected[6:-6, 6:-6], atol=2e-3)


def test_corners_of_a_rotated_picture_are_black() -> None:
    x = torch.full((20, 3, 50, 50), 0.25)
    y = Augmentation(rotation=90)(x, draws(), masks=0)
    assert y.min() == pytest.approx(-1)
    assert y[:, :, 25, 25] == pytest.approx(0.25)


def test_masks_stay_masks_when_flux_is_turned_freely() -> None:
    x = torch.cat([batch(20, 2), torch.ones(20, 2, 11, 11)], dim=1)
    y = Augmentation(rotation=90)(x, draws(), masks=2)
    assert y[:, 2:].unique().tolist() == [0.0, 1.0]
    assert (y[:, :2][y[:, 2:] == 0] == 0).all()


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(dihedral=True, shift=1, band_dropout=0.1, dim=0.4),
        Augmentation(rotation=90, flip=0.5),
    ],
)
def test_the_same_seed_draws_the_same_and_the_input_stays(augmentation: Augmentation) -> None:
    x = batch(16, 10)
    before = x.clone()
    first = augmentation(x, draws(9), masks=5, reference=2)
    second = augmentation(x, draws(9), masks=5, reference=2)
    assert torch.equal(first, second)
    assert torch.equal(x, before)
    assert first.shape == x.shape
    other = augmentation(x, draws(10), masks=5, reference=2)
    assert torch.equal(first, other) == (augmentation == Augmentation())


def test_shares_of_a_batch_are_together_the_whole_batch() -> None:
    x = torch.cat([batch(17, 5), torch.ones(17, 5, 11, 11)], dim=1)
    everything = Augmentation(True, 1, 0.2, 0.4, 90.0, 0.5)
    whole = everything(x, draws(), masks=5, reference=2)
    shares = [
        everything(x[first:last], Draws(generator(), first, 17), masks=5, reference=2)
        for first, last in ((0, 6), (6, 11), (11, 17))
    ]
    assert torch.equal(torch.cat(shares), whole)


def test_constant_planes_are_neither_moved_nor_masked_only_untold() -> None:
    x = torch.cat([batch(80, 3), torch.ones(80, 3, 11, 11), torch.full((80, 3, 11, 11), 1.3)], 1)
    every = Augmentation(dihedral=True, shift=2, band_dropout=0.2, dim=0.3, narrow=0.3)
    y = every(x, draws(), masks=3, reference=1, picture=(1, 2))
    assert torch.equal(y[:, 6:], x[:, 6:])
    blind = Augmentation(blind=0.4)(x, draws(), masks=3)[:, 6:]
    known = (blind == 1.3).flatten(1).all(dim=1)
    assert torch.equal(blind[~known], torch.zeros_like(blind[~known]))
    assert 0.4 < known.double().mean() < 0.8


def test_narrowing_leaves_the_pictures_bands_of_some() -> None:
    x = torch.cat([batch(200, 5), torch.ones(200, 5, 11, 11)], dim=1)
    y = Augmentation(narrow=0.25)(x, draws(), masks=5, picture=(1, 2, 3))
    there = y[:, 5:, 0, 0]
    assert (there[:, 1:4] == 1).all() and torch.equal(there[:, 0], there[:, 4])
    assert 0.65 < there[:, 0].double().mean() < 0.85
    assert torch.equal(y[:, :5], x[:, :5] * there[:, :, None, None])
