"""Augmentation of whole batches: what does not change what an object is. Paper 3.5.

Everything is drawn from the generator that is given, so that a step of training can be drawn
again exactly. Drawn once for a batch where that is all that training needs, else an image at a
time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Generator, Tensor

_WHOLE: Final = 0.999  # of a mask after bilinear mixing


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training batch; each part is off at its default.

    Attributes
    ----------
    dihedral : bool
        One of the square's eight turns and flips, which move pixels but never mix them: noise
        stays white, masks stay 0 or 1.
    shift : int
        Whole pixels, up to this many, in x and y: positions from elsewhere are centred
        otherwise. What comes in from outside is masked.
    band_dropout : float
        Probability that a band is missing from an image; the reference band never is.
    dim : float
        Largest share of its light that an image loses, its sky noise kept: the same object as if
        it were fainter. For flux in sky noises, not stretched.
    rotation : float
        Degrees; turned freely between plus and minus this (the paper: 90), bilinearly, the
        corners filled with black, as torchvision's RandomRotation does.
    flip : float
        Probability of a flip left to right, and again up to down (the paper: 0.5).
    """

    dihedral: bool = False
    shift: int = 0
    band_dropout: float = 0.0
    dim: float = 0.0
    rotation: float = 0.0
    flip: float = 0.0

    def __call__(
        self, x: Tensor, generator: Generator, masks: int = 0, reference: int | None = None
    ) -> Tensor:
        """Augment a batch.

        Parameters
        ----------
        x : Tensor
            (n, channel, row, column).
        generator : Generator
            Where the random numbers come from.
        masks : int
            How many of the last channels are masks of the first ones (half of them); 0 for
            the paper's picture.
        reference : int, optional
            Band that dropout spares.

        Returns
        -------
        Tensor
            The same shape; `x` itself is left alone.
        """
        if self.dihedral:
            x = dihedral(x, generator)
        if self.shift:
            x = shifted(x, self.shift, generator)
        if self.band_dropout and masks:
            x = without_bands(x, self.band_dropout, generator, masks, reference)
        if self.dim and masks:
            x = dimmed(x, self.dim, generator, masks)
        if self.flip:
            x = flipped(x, self.flip, generator)
        if self.rotation:
            x = rotated(x, self.rotation, generator, black=0.0 if masks else -1.0)
            if masks:  # a pixel mixed with a masked one is masked
                valid = (x[:, masks:] > _WHOLE).to(x)
                x = torch.cat([x[:, :masks] * valid, valid], dim=1)
        return x


def dihedral(x: Tensor, generator: Generator) -> Tensor:
    """Turn and flip each image into one of its eight orientations.

    Parameters
    ----------
    x : Tensor
        (n, channel, side, side).
    generator : Generator
        Where the random numbers come from.

    Returns
    -------
    Tensor
        The same shape.
    """
    way = torch.randint(8, (len(x),), generator=generator)
    out = torch.empty_like(x)
    for number in range(8):
        chosen = x[way == number]
        if number >= 4:
            chosen = chosen.flip(-1)
        out[way == number] = torch.rot90(chosen, number % 4, (2, 3))
    return out


def shifted(x: Tensor, most: int, generator: Generator) -> Tensor:
    """Move each image by whole pixels; what comes in is 0, in the mask channels too.

    Parameters
    ----------
    x : Tensor
        (n, channel, row, column).
    most : int
        Largest shift along each axis, pixels.
    generator : Generator
        Where the random numbers come from.

    Returns
    -------
    Tensor
        The same shape.
    """
    ways = 2 * most + 1
    way = torch.randint(ways * ways, (len(x),), generator=generator)
    rows, columns = x.shape[2:]
    padded = torch.nn.functional.pad(x, (most, most, most, most))
    out = torch.empty_like(x)
    for number in range(ways * ways):  # one slice a shift: no gather over every pixel
        top, left = divmod(number, ways)
        chosen = way == number
        out[chosen] = padded[chosen, :, top : top + rows, left : left + columns]
    return out


def without_bands(
    x: Tensor, probability: float, generator: Generator, masks: int, reference: int | None
) -> Tensor:
    """Mask whole bands, as if they had not been observed.

    Parameters
    ----------
    x : Tensor
        (n, 2 band, row, column): flux, then masks.
    probability : float
        That a band is missing.
    generator : Generator
        Where the random numbers come from.
    masks : int
        Number of bands.
    reference : int, optional
        Band that is never missing.

    Returns
    -------
    Tensor
        The same shape.
    """
    # Half of the images keep all of their bands: that is how most of them will be used.
    whole = torch.rand(len(x), 1, generator=generator) < 0.5
    keep = whole | (torch.rand(len(x), masks, generator=generator) >= 2 * probability)
    if reference is not None:
        keep[:, reference] = True
    return x * torch.cat([keep, keep], dim=1)[:, :, None, None].to(x)


def dimmed(x: Tensor, most: float, generator: Generator, masks: int) -> Tensor:
    """Take light from half of the images, and give them noise so that the sky keeps its own.

    f x + sqrt(1 - f^2) n, f uniform in (1 - most, 1): the noise of every pixel stays 1, the source
    is fainter by f, and its colours and shape are those of the same class, seen less well.

    Parameters
    ----------
    x : Tensor
        (n, 2 band, row, column): flux in sky noises, then masks.
    most : float
        Largest share of the light that is lost.
    generator : Generator
        Where the random numbers come from.
    masks : int
        Number of bands.

    Returns
    -------
    Tensor
        The same shape; masked pixels stay 0.
    """
    lost = most * torch.rand(len(x), generator=generator)
    lost = lost * (torch.rand(len(x), generator=generator) < 0.5)
    kept = (1 - lost)[:, None, None, None]
    flux, valid = x[:, :masks], x[:, masks:]
    noise = torch.randn(flux.shape, generator=generator)
    return torch.cat([flux * kept + (1 - kept**2).sqrt() * noise * valid, valid], dim=1)


def flipped(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Flip images left to right, and on another draw up to down.

    Parameters
    ----------
    x : Tensor
        (n, channel, row, column).
    probability : float
        Of each flip.
    generator : Generator
        Where the random numbers come from.

    Returns
    -------
    Tensor
        The same shape.
    """
    for axis in (3, 2):
        turn = torch.rand(len(x), generator=generator) < probability
        x = torch.where(turn[:, None, None, None], x.flip(axis), x)
    return x


def rotated(x: Tensor, degrees: float, generator: Generator, black: float = 0.0) -> Tensor:
    """Turn each image freely about its centre, between plus and minus an angle.

    Parameters
    ----------
    x : Tensor
        (n, channel, side, side).
    degrees : float
        Largest angle.
    generator : Generator
        Where the random numbers come from.
    black : float
        Value of the corners that come in.

    Returns
    -------
    Tensor
        The same shape, bilinear between pixels.
    """
    angle = (torch.rand(len(x), generator=generator) * 2 - 1) * math.radians(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros(len(x))
    turn = torch.stack(
        [torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], dim=1
    )
    grid = torch.nn.functional.affine_grid(turn, list(x.shape), align_corners=False)
    # Sampled relative to black, since grid_sample fills with zeros.
    return torch.nn.functional.grid_sample(x - black, grid, align_corners=False) + black
