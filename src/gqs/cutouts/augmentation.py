"""Augmentation of whole batches: what does not change what an object is. Paper 3.5.

Everything is drawn on the CPU, from the generator that is given, so that a step of training can be
drawn again exactly, on any device. Where several processes share a batch, each draws for all of it
and keeps the numbers of its own images: the batch is then that of one process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Generator, Tensor

from gqs.cutouts.channels import to_device

_WHOLE: Final = 0.999  # of a mask after bilinear mixing


@dataclass(frozen=True)
class Draws:
    """Random numbers for the images of a batch, or for a share of it."""

    generator: Generator  # of the CPU
    # place of the share's first image, and images in the whole batch; 0 where the images at hand
    # are all
    first: int = 0
    whole: int = 0

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Return (n, ...) numbers from 0 to 1."""
        return self._share(torch.rand(self.whole or n, *shape, generator=self.generator), n)

    def normal(self, n: int, *shape: int) -> Tensor:
        """Return (n, ...) numbers of mean 0 and spread 1."""
        return self._share(torch.randn(self.whole or n, *shape, generator=self.generator), n)

    def integers(self, below: int, n: int) -> Tensor:
        """Return (n,) whole numbers under a limit."""
        return self._share(torch.randint(below, (self.whole or n,), generator=self.generator), n)

    def _share(self, numbers: Tensor, n: int) -> Tensor:
        return numbers[self.first : self.first + n]


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training batch; each part is off at its default."""

    # one of the square's eight turns and flips, which move pixels but never mix them: noise stays
    # white, masks stay 0 or 1
    dihedral: bool = False
    # whole pixels, up to this many, in x and y: positions from elsewhere are centred otherwise.
    # What comes in from outside is masked.
    shift: int = 0
    # probability that a band is missing from an image; the reference band never is
    band_dropout: float = 0.0
    # largest share of its light that an image loses, its sky noise kept: the same object as if it
    # were fainter. For flux in sky noises, not stretched.
    dim: float = 0.0
    # degrees; turned freely between plus and minus this (the paper: 90), bilinearly, the corners
    # filled with black, as torchvision's RandomRotation does
    rotation: float = 0.0
    flip: float = 0.0  # probability of a flip left to right, and again up to down (the paper: 0.5)
    blind: float = 0.0  # probability of withholding an image's seeing from a network that takes it
    # probability that only the bands of the paper's picture, g, r and i, are left of an image;
    # which planes these are the caller says
    narrow: float = 0.0

    def __call__(
        self,
        x: Tensor,
        draws: Draws,
        masks: int = 0,
        reference: int | None = None,
        picture: Sequence[int] = (),
    ) -> Tensor:
        """Augment a batch."""
        x, constant = (x[:, : 2 * masks], x[:, 2 * masks :]) if masks else (x, x[:, :0])
        if self.dihedral:
            x = dihedral(x, draws)
        if self.shift:
            x = shifted(x, self.shift, draws)
        if self.band_dropout and masks:
            x = without_bands(x, self.band_dropout, draws, masks, reference)
        if self.narrow and masks and picture:
            x = narrowed(x, self.narrow, draws, masks, picture)
        if self.dim and masks:
            x = dimmed(x, self.dim, draws, masks)
        if self.flip:
            x = flipped(x, self.flip, draws)
        if self.rotation:
            x = rotated(x, self.rotation, draws, black=0.0 if masks else -1.0)
            if masks:  # a pixel mixed with a masked one is masked
                valid = (x[:, masks:] > _WHOLE).to(x)
                x = torch.cat([x[:, :masks] * valid, valid], dim=1)
        if not constant.shape[1]:
            return x
        if self.blind:
            given = to_device((draws.uniform(len(x)) >= self.blind).to(x.dtype), x.device)
            constant = constant * given[:, None, None, None]
        return torch.cat([x, constant], dim=1)


def dihedral(x: Tensor, draws: Draws) -> Tensor:
    """Turn and flip each image into one of its eight orientations."""
    way = draws.integers(8, len(x))
    out = torch.empty_like(x)
    for number in range(8):
        places = _where(way == number, x)
        chosen = x[places]
        if number >= 4:
            chosen = chosen.flip(-1)
        out[places] = torch.rot90(chosen, number % 4, (2, 3))
    return out


def shifted(x: Tensor, most: int, draws: Draws) -> Tensor:
    """Move each image by whole pixels; what comes in is 0, in the mask channels too."""
    ways = 2 * most + 1
    way = draws.integers(ways * ways, len(x))
    rows, columns = x.shape[2:]
    padded = torch.nn.functional.pad(x, (most, most, most, most))
    out = torch.empty_like(x)
    for number in range(ways * ways):  # one slice a shift: no gather over every pixel
        top, left = divmod(number, ways)
        chosen = _where(way == number, x)
        out[chosen] = padded[chosen, :, top : top + rows, left : left + columns]
    return out


def without_bands(
    x: Tensor, probability: float, draws: Draws, masks: int, reference: int | None
) -> Tensor:
    """Mask whole bands, as if they had not been observed."""
    # Half of the images keep all of their bands: that is how most of them will be used.
    whole = draws.uniform(len(x), 1) < 0.5
    keep = whole | (draws.uniform(len(x), masks) >= 2 * probability)
    if reference is not None:
        keep[:, reference] = True
    return _masked(x, keep)


def narrowed(
    x: Tensor, probability: float, draws: Draws, masks: int, picture: Sequence[int]
) -> Tensor:
    """Mask all bands but those of the paper's picture."""
    keep = (draws.uniform(len(x), 1) >= probability).repeat(1, masks)
    keep[:, list(picture)] = True
    return _masked(x, keep)


def dimmed(x: Tensor, most: float, draws: Draws, masks: int) -> Tensor:
    """Take light from half of the images, and give them noise so that the sky keeps its own.

    f x + sqrt(1 - f^2) n, f uniform in (1 - most, 1): the noise of every pixel stays 1, the source
    is fainter by f, and its colours and shape are those of the same class, seen less well.
    """
    lost = most * draws.uniform(len(x))
    lost = lost * (draws.uniform(len(x)) < 0.5)
    kept = to_device((1 - lost)[:, None, None, None], x.device)
    flux, valid = x[:, :masks], x[:, masks:]
    noise = to_device(draws.normal(*flux.shape), x.device)
    return torch.cat([flux * kept + (1 - kept**2).sqrt() * noise * valid, valid], dim=1)


def flipped(x: Tensor, probability: float, draws: Draws) -> Tensor:
    """Flip images left to right, and on another draw up to down."""
    for axis in (3, 2):
        turn = to_device(draws.uniform(len(x)) < probability, x.device)
        x = torch.where(turn[:, None, None, None], x.flip(axis), x)
    return x


def rotated(x: Tensor, degrees: float, draws: Draws, black: float = 0.0) -> Tensor:
    """Turn each image freely about its centre, between plus and minus an angle."""
    angle = (draws.uniform(len(x)) * 2 - 1) * math.radians(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros(len(x))
    turn = torch.stack(
        [torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], dim=1
    )
    turn = to_device(turn, x.device)
    grid = torch.nn.functional.affine_grid(turn, list(x.shape), align_corners=False)
    # Sampled relative to black, since grid_sample fills with zeros.
    return torch.nn.functional.grid_sample(x - black, grid, align_corners=False) + black


def _where(chosen: Tensor, x: Tensor) -> Tensor:
    """Return the places of chosen images, counted on the CPU so that a GPU need not be asked."""
    return to_device(chosen.nonzero()[:, 0], x.device)


def _masked(x: Tensor, keep: Tensor) -> Tensor:
    """Put 0 in place of the flux and the masks of bands that are not kept, (n, band)."""
    return x * to_device(torch.cat([keep, keep], dim=1)[:, :, None, None].to(x.dtype), x.device)
