"""Sizes, bulges and axis ratios of galaxies, and host galaxies of low-redshift quasars."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from astropy.cosmology import FlatLambdaCDM
from numpy.typing import NDArray
from scipy.special import gammainc

from gqs.simulation.distributions import read_table

Floats = NDArray[np.float64]

# Galaxies part into red and blue at this colour. Strateva et al. 2001, AJ 122, 1861.
RED_UR = 2.22
# Thickness of a disc seen edge-on. Ryden 2004, ApJ 601, 214 (mean 0.222 in SDSS i).
THICKNESS = 0.22
# kappa of r = half-light radius: exponential and de Vaucouleurs profiles (Sersic n = 1, 4).
_KAPPA_DISC, _KAPPA_BULGE = 1.67835, 7.66925
MOST_HOST = 0.9
# Hosts of quasars are near M_r = -22.6, with this scatter, their half-light radius near 6 kpc
# (Dunlop et al. 2003, MNRAS 340, 1095, in r; Falomo et al. 2014, MNRAS 440, 476).
_HOST_MAGNITUDE, _HOST_SCATTER, _HOST_RADIUS_KPC = -22.2, 0.7, 6.0


class Shapes(NamedTuple):
    """How the light of n extended sources lies; all (n,).

    Radii are half-light radii along the major axis, in arcsec, angles in degrees.
    """

    bulge_fraction: Floats
    bulge_radius: Floats
    disc_radius: Floats
    axis_ratio: Floats
    angle: Floats


def galaxy_shapes(r: Floats, ur: Floats, rng: np.random.Generator) -> Shapes:
    """Draw bulge, disc and their radii for galaxies of known magnitude and colour.

    Half-light radii (of circles) are lognormal about a median that falls with magnitude (table
    `galaxy_sizes.ecsv`); red galaxies have more of their light in the bulge.
    """
    n = len(r)
    table = read_table("galaxy_sizes")
    redness = 1 / (1 + np.exp(-(ur - RED_UR) / 0.15))
    red = rng.random(n) < redness
    median = np.exp(np.interp(r, table["r"], np.log(table["radius"])))
    scatter = np.interp(r, table["r"], table["scatter"])
    radius = median * np.exp(scatter * rng.standard_normal(n))
    # At one apparent magnitude red galaxies are the more compact (Shen et al. 2003, Fig. 4).
    radius *= np.where(red, 0.90, 1.06)
    fraction = np.where(red, rng.beta(2.2, 1.3, n), rng.beta(0.7, 3.6, n))
    fraction[~red & (rng.random(n) < 0.25)] = 0.0  # bulgeless discs
    fraction[red & (rng.random(n) < 0.30)] = 1.0  # pure ellipticals
    # A bulge is smaller than its disc: half-light radii in the ratio 0.2 to 1.
    ratio = np.clip(0.45 * np.exp(0.35 * rng.standard_normal(n)), 0.15, 1.2)
    axis_ratio = _axis_ratio(fraction, rng)
    # The table's radius is that of a circle with half the light.
    bulge, disc = split_radius(radius / np.sqrt(axis_ratio), fraction, ratio)
    return Shapes(fraction, bulge, disc, axis_ratio, 180.0 * rng.random(n))


def split_radius(radius: Floats, fraction: Floats, ratio: Floats) -> tuple[Floats, Floats]:
    """Find bulge and disc whose sum has the given half-light radius: (n,) half-light radii, in the
    unit of `radius`.
    """
    low, high = np.full(len(radius), -3.0), np.full(len(radius), 3.0)  # ln(disc / radius)
    for _ in range(40):
        middle = 0.5 * (low + high)
        inside = enclosed_light(1.0, fraction, ratio * np.exp(middle), np.exp(middle))
        low = np.where(inside > 0.5, middle, low)
        high = np.where(inside > 0.5, high, middle)
    disc = radius * np.exp(0.5 * (low + high))
    return ratio * disc, disc


def enclosed_light(
    at: Floats | float, fraction: Floats, bulge_radius: Floats, disc_radius: Floats
) -> Floats:
    """Share of a galaxy's light within a radius, seen face-on. Graham & Driver 2005, eq. 2: (n,)
    from 0 to 1.
    """
    bulge = gammainc(8, _KAPPA_BULGE * (at / bulge_radius) ** 0.25)
    disc = gammainc(2, _KAPPA_DISC * (at / disc_radius))
    return np.asarray(fraction * bulge + (1 - fraction) * disc)


def _axis_ratio(fraction: Floats, rng: np.random.Generator) -> Floats:
    """Discs seen from any side; bulges rounder, as ellipticals are (Ryden 1992)."""
    n = len(fraction)
    cosine = rng.random(n)
    disc = np.sqrt((1 - THICKNESS**2) * cosine**2 + THICKNESS**2)
    bulge = np.clip(0.78 + 0.14 * rng.standard_normal(n), 0.4, 1.0)
    return np.asarray(np.where(rng.random(n) < fraction, bulge, disc))


class Hosts(NamedTuple):
    """Hosts of n quasars."""

    fraction: Floats
    shapes: Shapes


def quasar_hosts(r: Floats, redshift: Floats, rng: np.random.Generator) -> Hosts:
    """Draw the host galaxies of quasars: bright at low redshift, invisible beyond z = 1."""
    n = len(r)
    cosmology = FlatLambdaCDM(H0=70, Om0=0.3)
    grid = np.geomspace(0.003, 8, 400)
    z = np.clip(redshift, 0.003, 8)
    modulus = np.interp(z, grid, cosmology.distmod(grid).value)
    arcsec_per_kpc = np.interp(z, grid, cosmology.arcsec_per_kpc_proper(grid).value)
    # An old population dims by about 1.3 z magnitudes in r as it is redshifted, net of evolution.
    absolute = _HOST_MAGNITUDE + _HOST_SCATTER * rng.standard_normal(n)
    apparent = absolute + modulus + 1.3 * z
    light = 10 ** (-0.4 * (apparent - r))
    # A host brighter than the whole is one drawn too bright: something is left to the nucleus.
    fraction = np.minimum(light / np.sqrt(1 + light**2), MOST_HOST)
    fraction[fraction < 0.02] = 0.0
    fraction[z > 1] = 0.0
    kpc = _HOST_RADIUS_KPC * 10 ** (-0.2 * (absolute - _HOST_MAGNITUDE))
    radius = kpc * np.exp(0.35 * rng.standard_normal(n)) * arcsec_per_kpc
    bulge_fraction = rng.beta(2.2, 1.3, n)
    bulge, disc = split_radius(radius, bulge_fraction, np.full(n, 0.6))
    ratio = _axis_ratio(bulge_fraction, rng)
    return Hosts(fraction, Shapes(bulge_fraction, bulge, disc, ratio, 180.0 * rng.random(n)))
