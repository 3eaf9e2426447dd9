"""Photometry as a layer: aperture sums, colours, concentration and sizes with fixed weights.

All linear sums over a cutout are one matrix product; a few formulas follow that are not linear.
Flux is in units of the sky noise of a pixel, so that nothing here depends on a survey. Everything
is computed in float32, whatever precision the rest of a network has: bfloat16's eight bits are too
few for the magnitude of a bright star.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

SIZE: Final = 50
CENTRE: Final = 24.5  # pixels; the source lies at 24 < x <= 25, 0-based
RADII: Final = (2.0, 3.0, 4.5, 7.0, 10.0, 15.0)  # pixels
COLOUR_RADII: Final = (1, 2)  # positions in RADII: good signal, little light of neighbours
ERROR_RADII: Final = (1, 3, 5)
RING: Final = (18.0, 25.0)  # pixels; sky and neighbours, seldom the source
SIGMAS: Final = (2.0, 4.0)  # pixels; widths of the Gaussian weights of sizes
CLIP_SKY: Final = 4.0  # sky noises; limits the effect of neighbours on the noise
POGSON: Final = 1.0857362047581294  # 2.5 / ln 10
NARROW, WIDE = 0, 2  # positions in RADII between which a source's extension is measured
PIXEL, FWHM = 0.396, 2.3548200450309493  # arcsec; of a Gaussian over its sigma
SEEING: Final = (1.35, 0.2)  # arcsec: typical value in SDSS, and its scatter
LIMIT: Final = 6.0  # standardised features are clipped to +- this


class Measure(nn.Module):
    """Measure (n, band, 50, 50) cutouts and give standardised features.

    For each band: asinh magnitudes in six apertures (Lupton et al. 1999, softened at the aperture's
    noise), three of their errors, five concentrations, and for two Gaussian weights size,
    ellipticity and distance of the centroid; the fraction of valid pixels. Then the shapes of the
    sum of the bands, and every colour in two apertures. Features of a missing or masked band are 0
    after standardising, never NaN. The sky's level and noise are left out: a network would learn to
    recognise fields by them, and be worse on others.
    """

    weights: Tensor
    area: Tensor
    # (feature,) median and half the central 68 %, set once from training data by `fit`
    middle: Tensor
    spread: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.pairs = [(i, j) for i in range(bands) for j in range(i + 1, bands)]
        weights = _weights()
        # Fixed by formula, so not saved with the weights.
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("area", weights[:, : len(RADII)].sum(0), persistent=False)
        shapes = (len(RADII) - 1) + 3 * len(SIGMAS)
        per_band = len(RADII) + len(ERROR_RADII) + shapes + 1
        self.features = bands * per_band + shapes + len(COLOUR_RADII) * len(self.pairs)
        self.register_buffer("middle", torch.zeros(self.features))
        self.register_buffer("spread", torch.ones(self.features))

    @torch.no_grad()
    def fit(self, flux: Tensor, mask: Tensor) -> None:
        """Set the constants of standardisation from cutouts of the training set."""
        raw, valid = self.measure(flux, mask)
        raw = torch.where(valid, raw, torch.nan)
        low, middle, high = torch.nanquantile(raw, torch.tensor([0.16, 0.5, 0.84]).to(raw), dim=0)
        self.middle.copy_(torch.nan_to_num(middle))
        self.spread.copy_(torch.nan_to_num((high - low) / 2, nan=1.0).clamp_min(1e-3))

    def forward(self, flux: Tensor, mask: Tensor) -> Tensor:
        """Features (n, feature) float32, each about standard normal and within +-6."""
        return _in_float32(self._standardised, flux, mask)

    def extension(self, flux: Tensor, mask: Tensor, seeing: Tensor) -> Tensor:
        """How much less concentrated sources are than a star, (n, 4 band + 2) float32.

        A Gaussian as wide as the seeing (n, band; arcsec, 0 if unknown) predicts the ratio of the
        light within 2 pixels and within 4.5. The light missing from the smaller aperture is given
        in units of its noise and of the light, for each band and for all together; 0 if unknown.
        Stars are not Gaussians, but they are all alike.
        """
        return _in_float32(self._extension, flux, mask, seeing)

    def _extension(self, flux: Tensor, mask: Tensor, seeing: Tensor) -> Tensor:
        counts = mask.flatten(2) @ self.weights[:, : WIDE + 1]
        sums = (flux * mask).flatten(2) @ self.weights[:, : WIDE + 1]
        whole = sums * self.area[: WIDE + 1] / counts.clamp_min(1.0)
        inner, outer = whole[..., NARROW], whole[..., WIDE]
        known = ((seeing > 0) & (counts[..., 1] > 0.5 * self.area[1])).float()
        width = (seeing / (PIXEL * FWHM)).clamp_min(0.3)
        share = _within(RADII[NARROW], width) / _within(RADII[WIDE], width)
        missing = (share * outer - inner) * known
        variance = self.area[NARROW] * (1 - 2 * share) + share.square() * self.area[WIDE]
        noise = (variance.clamp_min(1.0) * known).sqrt()
        together = torch.cat(
            [
                _softly(missing.sum(1), noise.square().sum(1).sqrt().clamp_min(1.0)),
                missing.sum(1) / _floored((outer * known).sum(1), 20.0),
            ]
        ).view(2, -1)
        seeing_feature = (seeing - SEEING[0]) / SEEING[1] * known
        of_bands = [_softly(missing, noise.clamp_min(1.0)), missing / _floored(outer, 20.0)]
        return torch.cat([*of_bands, seeing_feature, known, together.T], dim=1).clamp(-LIMIT, LIMIT)

    def _standardised(self, flux: Tensor, mask: Tensor) -> Tensor:
        raw, valid = self.measure(flux, mask)
        return ((raw - self.middle) / self.spread).clamp(-LIMIT, LIMIT) * valid

    def measure(self, flux: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features and whether they are valid, both (n, feature)."""
        n, discs = flux.shape[0], len(RADII)
        pixels = (flux * mask).flatten(2)
        sums = pixels @ self.weights  # (n, band, disc + ring + 6 moments a sigma)
        counts = mask.flatten(2) @ self.weights[:, : discs + 1]
        present = counts[..., 1] > 0.5 * self.area[1]  # half of the 3-pixel aperture is valid

        ring_count = counts[..., discs].clamp_min(1.0)
        clipped = pixels.clamp(-CLIP_SKY, CLIP_SKY).square() @ self.weights[:, discs]
        noise = (clipped / ring_count).clamp(0.1, CLIP_SKY**2).sqrt()  # (n, band)

        # The masked part of an aperture is assumed to be as bright as the rest.
        flux_in = sums[..., :discs] * self.area / counts[..., :discs].clamp_min(1.0)
        soft = 2 * self.area.sqrt()
        magnitude = -POGSON * torch.asinh(flux_in / soft)
        error = POGSON * noise[..., None] * self.area.sqrt() / (flux_in.square() + soft**2).sqrt()
        share = counts[..., 4] / self.area[4]
        shapes = _shapes(flux_in, sums[..., discs + 1 :])
        single = [magnitude, error[..., list(ERROR_RADII)], shapes]
        of_bands = torch.cat([*single, share[..., None]], dim=-1)

        together = _shapes(flux_in.sum(1), sums[..., discs + 1 :].sum(1))
        colours = [
            magnitude[:, i, list(COLOUR_RADII)] - magnitude[:, j, list(COLOUR_RADII)]
            for i, j in self.pairs
        ]
        valid = [
            present[..., None].expand_as(of_bands).flatten(1),
            present.any(1)[:, None].expand_as(together),
        ]
        valid += [
            (present[:, i] & present[:, j])[:, None].expand(n, len(COLOUR_RADII))
            for i, j in self.pairs
        ]
        raw = torch.cat([of_bands.flatten(1), together, *colours], dim=1)
        return raw, torch.cat(valid, dim=1)


def _in_float32(measure: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """Measure in float32, also under autocast."""
    device = images[0].device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return measure(*(image.float() for image in images))
    return measure(*images)


def extension_features(bands: int) -> int:
    """Number of features of `Measure.extension`."""
    return 4 * bands + 2


def _within(radius: float, width: Tensor) -> Tensor:
    """Fraction of a Gaussian's light within a radius."""
    return 1 - torch.exp(-0.5 * (radius / width).square())


def _softly(value: Tensor, noise: Tensor) -> Tensor:
    """Signal in units of its noise, logarithmic for large values."""
    return torch.asinh(value / noise)


def _floored(light: Tensor, floor: float) -> Tensor:
    """Light as a safe denominator: positive, and at least a few sigma."""
    return (light.square() + floor**2).sqrt() / 5


def _shapes(flux_in: Tensor, moments: Tensor) -> Tensor:
    """Concentrations, then size, ellipticity and offset under each Gaussian.

    Moments are about the centroid, so that the position of a source within its pixel does not
    matter; without signal the floor of the denominator keeps them near 0.
    """
    outer = 4 * RADII[-1]
    logs = torch.asinh(flux_in / outer)
    found = [logs[..., 1:] - logs[..., :-1]]
    for number, sigma in enumerate(SIGMAS):
        total, x, y, xx, yy, xy = moments[..., 6 * number : 6 * number + 6].unbind(-1)
        floor = 6 * sigma  # about 3 times the noise of `total`
        total = (total.square() + floor**2).sqrt()
        x, y = (x / total).clamp(-2, 2), (y / total).clamp(-2, 2)
        xx = (xx / total - x * x).clamp(-(sigma**2), 2 * sigma**2)
        yy = (yy / total - y * y).clamp(-(sigma**2), 2 * sigma**2)
        xy = (xy / total - x * y).clamp(-(sigma**2), sigma**2)
        stretch = ((xx - yy).square() + 4 * xy.square() + 1e-4).sqrt()
        found.append(torch.stack([xx + yy, stretch, (x * x + y * y + 1e-4).sqrt()], dim=-1))
    return torch.cat(found, dim=-1)


def _weights() -> Tensor:
    """Weight of each pixel in each sum, (2500, disc + ring + 6 a sigma)."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    x, y = (x - CENTRE).flatten(), (y - CENTRE).flatten()
    distance = torch.hypot(x, y)
    columns = [(radius + 0.5 - distance).clamp(0, 1) for radius in RADII]
    columns.append(((distance > RING[0]) & (distance < RING[1])).float())
    for sigma in SIGMAS:
        under = torch.exp(-0.5 * (distance / sigma) ** 2)
        columns += [under * term for term in (torch.ones_like(x), x, y, x * x, y * y, x * y)]
    return torch.stack(columns, dim=1)
