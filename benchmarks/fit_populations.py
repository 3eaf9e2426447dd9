"""Fit the simulated sky's tables to SDSS's catalogues: statistics are carried over, never rows.

Colours are fitted as mixtures of Gaussians by extreme deconvolution (Bovy, Hogg & Roweis 2011,
Ann. Appl. Stat. 5, 1657): the mixture describes what the objects are, the errors of their
magnitudes are taken out, and rendering adds them once. Run as

    GQS_REAL_DATA=... python benchmarks/fit_populations.py [galaxy qso star magnitudes errors]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from sklearn.mixture import GaussianMixture

from field_measurements import measure
from gqs import tables
from gqs.labels import CLASSES, GALAXY, QSO, STAR
from gqs.simulation.distributions import Mixture
from gqs.surveys import sdss

OUT = Path(__file__).parent.parent / "src/gqs/simulation"
SEED = 20240601
SPECTROSCOPIC = "SDSS spectroscopic objects with photometry (SkyServer), 13 < r < 23.2"
DR5 = "SDSS DR5 quasar catalogue (Schneider et al. 2007)"
# (u - g, g - r, r - i, i - z): a row beyond these is a failure of the photometry, not a source.
COLOUR_LIMITS = np.array([[-1.5, 6.5], [-1.2, 4.0], [-1.2, 3.5], [-1.5, 2.5]])
COMPONENTS = {GALAXY: 48, QSO: 72, STAR: 72}
HELD_OUT = "003918-3-0213"  # models are judged on this field: nothing is fitted to it
SKY_COMPONENTS = {GALAXY: 10, STAR: 14}
SKY_LIMITS = {GALAXY: [15.0, 22.0], STAR: [14.5, 21.2]}  # r: beyond, colours stay as they are there
# Model magnitudes of galaxies are fitted over more sky than a point source's.
EXTENDED_SKY = {GALAXY: 2.0, QSO: 1.0, STAR: 1.0}


def magnitudes(table: Table) -> np.ndarray:
    """(n, 5) asinh magnitudes u g r i z."""
    return np.stack([np.asarray(table[b], float) for b in sdss.BANDS], axis=1)


def usable(mag: np.ndarray) -> np.ndarray:
    colours = mag[:, :-1] - mag[:, 1:]
    inside = (colours > COLOUR_LIMITS[:, 0]) & (colours < COLOUR_LIMITS[:, 1])
    return inside.all(axis=1) & (mag[:, 2] > 13.1) & (mag[:, 2] < 23.2)


def quasars_of_dr5(real: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitudes, their errors and redshifts of the DR5 quasars with all bands measured."""
    table = Table.read(real / "catalogs/dr5_quasars.csv.gz", format="ascii.csv")
    mag = np.stack([np.asarray(table[f"{b}_mag"], float) for b in sdss.BANDS], axis=1)
    error = np.stack([np.asarray(table[f"sig_{b}_mag"], float) for b in sdss.BANDS], axis=1)
    good = usable(mag) & (error > 0).all(axis=1) & (error < 2).all(axis=1)
    return mag[good], error[good], np.asarray(table["z"], float)[good]


def fit_errors(real: Path) -> Table:
    """Variance of a point source's flux: sky^2 + photon * flux + (floor * flux)^2, by band."""
    mag, error, _ = quasars_of_dr5(real)
    rows = []
    for k, band in enumerate(sdss.BANDS):
        flux = sdss.flux_of_asinh_magnitude(mag[:, k], band)
        b = sdss.SOFTENING[band] * 1e9
        sigma = error[:, k] * np.sqrt(flux**2 + 4 * b**2) / 1.0857
        faint = flux < np.quantile(flux, 0.98)
        edges = np.unique(np.quantile(flux[faint], np.linspace(0, 1, 61)))
        bin_of = np.digitize(flux, edges[1:-1])
        f = np.array([np.median(flux[bin_of == j]) for j in range(len(edges) - 1)])
        v = np.array([np.median(sigma[bin_of == j] ** 2) for j in range(len(edges) - 1)])
        design = np.stack([np.ones_like(f), np.clip(f, 0, None), f**2], axis=1) / v[:, None]
        from scipy.optimize import nnls

        a, p, c = nnls(design, np.ones_like(f))[0]
        rows.append((band, np.sqrt(a), p, np.sqrt(c)))
    table = Table(rows=rows, names=("band", "sky", "photon", "floor"))
    table.meta = {
        "title": "Errors of a point source's flux in SDSS, nanomaggies",
        "formula": "variance = sky^2 + photon * flux + (floor * flux)^2",
        "source": f"median errors of the {DR5}",
    }
    return table


def flux_errors(flux: np.ndarray, errors: Table, extended: float) -> np.ndarray:
    sky, photon, floor = (np.asarray(errors[c], float) for c in ("sky", "photon", "floor"))
    above = np.clip(flux, 0, None)
    # Most of the catalogue's floor is common to the bands: bright stars' colours scatter less.
    floor = np.minimum(floor, 0.006)
    return np.sqrt((extended * sky) ** 2 + photon * above + (floor * above) ** 2)


def fluxes(mag: np.ndarray) -> np.ndarray:
    return np.stack(
        [sdss.flux_of_asinh_magnitude(mag[:, k], b) for k, b in enumerate(sdss.BANDS)], 1
    )


def magnitude_errors(mag: np.ndarray, errors: Table, extended: float) -> np.ndarray:
    """(n, 5) errors of asinh magnitudes, by propagating the flux's."""
    flux = fluxes(mag)
    b = np.array([sdss.SOFTENING[band] for band in sdss.BANDS]) * 1e9
    return 1.0857 * flux_errors(flux, errors, extended) / np.sqrt(flux**2 + 4 * b**2)


def features(mag: np.ndarray, sigma: np.ndarray, redshift: np.ndarray | None):
    """r, u-g, g-r, r-i, i-z (and ln(1 + redshift)) with the covariance of their errors."""
    to = np.zeros((5, 5))
    to[0, 2] = 1
    for k in range(4):
        to[k + 1, k], to[k + 1, k + 1] = 1, -1
    x = mag @ to.T
    noise = np.einsum("ab,nb,cb->nac", to, sigma**2, to)
    if redshift is None:
        return x, noise
    x = np.column_stack([x, np.log1p(np.clip(redshift, 0, None))])
    padded = np.zeros((len(x), 6, 6))
    padded[:, :5, :5] = noise
    padded[:, 5, 5] = 1e-6
    return x, padded


def deconvolve(x, noise, weight, k, seed, names, iterations=(90, 12), report=print) -> Mixture:
    """Extreme deconvolution, with a weight a row. Bovy, Hogg & Roweis 2011, section 2."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(x), min(len(x), 9000), replace=False, p=weight / weight.sum())
    start = GaussianMixture(k, reg_covar=1e-3, random_state=seed, max_iter=60).fit(x[chosen])
    pi, mean, cov = start.weights_, start.means_, start.covariances_
    d = x.shape[1]
    floor = np.eye(d) * 0.006**2
    for rows, rounds in ((chosen, iterations[0]), (np.arange(len(x)), iterations[1])):
        flat = np.ones(len(rows)) if rows is chosen else weight[rows]
        for step in range(rounds):
            begun = time.time()
            s0, s1, s2, likelihood = 0.0, 0.0, 0.0, 0.0
            for part in np.array_split(rows, max(1, len(rows) // 1500)):
                w = flat[np.searchsorted(rows, part)] if rows is not chosen else np.ones(len(part))
                total = noise[part, None] + cov[None]
                inverse = np.linalg.inv(total)
                away = x[part, None] - mean[None]
                pulled = np.einsum("nkab,nkb->nka", inverse, away)
                log = np.log(pi) - 0.5 * (
                    np.einsum("nka,nka->nk", away, pulled) + np.linalg.slogdet(total)[1]
                )
                top = log.max(axis=1, keepdims=True)
                q = np.exp(log - top)
                norm = q.sum(axis=1, keepdims=True)
                likelihood += float((w[:, None] * (np.log(norm) + top)).sum())
                q = q / norm * w[:, None]
                b = mean + np.einsum("kab,nkb->nka", cov, pulled)
                spread = np.einsum("nk,nkab->kab", q, inverse)
                s0 = s0 + q.sum(axis=0)
                s1 = s1 + np.einsum("nk,nka->ka", q, b)
                s2 = s2 + np.einsum("nk,nka,nkb->kab", q, b, b)
                s2 = s2 + q.sum(axis=0)[:, None, None] * cov - cov @ spread @ cov
            pi = np.clip(s0 / np.sum(s0), 1e-6, None)
            mean = s1 / (s0[:, None] + 1e-9)
            cov = s2 / (s0[:, None, None] + 1e-9) - np.einsum("ka,kb->kab", mean, mean)
            cov = (
                0.5 * (cov + cov.transpose(0, 2, 1)) + floor / np.maximum(s0, 5)[:, None, None] * 5
            )
            low = np.linalg.eigvalsh(cov).min(axis=1)
            cov = cov + np.eye(d) * np.clip(1e-5 - low, 0, None)[:, None, None]
            if step % 20 == 0:
                report(
                    f"  step {step}: {likelihood / flat.sum():.4f} ({time.time() - begun:.1f} s)"
                )
    return Mixture(names, pi / pi.sum(), mean, cov)


def fit_class(name: str, real: Path, errors: Table, k: int | None = None) -> Table:
    """The mixture of one class over r, colours and (but for stars) ln(1 + redshift)."""
    spectra = tables.read(real / "catalogs/sdss_spectro_photometry.csv.gz")
    rows = spectra[np.asarray(spectra["class"]) == name]
    mag = magnitudes(rows)
    good = usable(mag)
    mag, redshift = mag[good], np.asarray(rows["redshift"], float)[good]
    sigma = magnitude_errors(mag, errors, EXTENDED_SKY[name])
    weight = np.ones(len(mag))
    source = SPECTROSCOPIC
    if name == QSO:
        more, more_sigma, more_redshift = quasars_of_dr5(real)
        rng = np.random.default_rng(SEED)
        keep = rng.random(len(more)) < np.where(more_redshift > 2.3, 1.0, 0.12)
        mag = np.concatenate([mag, more[keep]])
        sigma = np.concatenate([sigma, more_sigma[keep]])
        redshift = np.concatenate([redshift, more_redshift[keep]])
        # DR5 fills the redshifts that are rare among the spectra, without outvoting them.
        weight = np.concatenate([weight, np.where(more_redshift[keep] > 2.3, 0.15, 0.3)])
        source = f"{SPECTROSCOPIC}; {DR5}"
    names = ("r", "ug", "gr", "ri", "iz") + (() if name == STAR else ("lnz",))
    x, noise = features(mag, sigma, None if name == STAR else redshift)
    mixture = deconvolve(x, noise, weight, k or COMPONENTS[name], SEED, names)
    table = rounded(mixture.to_table())
    table.meta = {
        "title": f"{name}: mixture of Gaussians over r, u-g, g-r, r-i, i-z (asinh magnitudes, as "
        "observed, errors deconvolved)" + ("" if name == STAR else " and ln(1 + redshift)"),
        "source": source,
        "method": "extreme deconvolution (Bovy, Hogg & Roweis 2011), benchmarks/fit_populations.py",
        "objects": len(mag),
    }
    return table


def fit_magnitudes(real: Path) -> Table:
    """Quantiles of the r magnitude of the spectroscopic objects, by class."""
    spectra = tables.read(real / "catalogs/sdss_spectro_photometry.csv.gz")
    share = np.concatenate([[0, 0.001, 0.003], np.arange(0.01, 1, 0.01), [0.997, 0.999, 1]])
    table = Table({"share": share})
    for name in CLASSES:
        mag = magnitudes(spectra[np.asarray(spectra["class"]) == name])
        table[name.lower()] = np.round(np.quantile(mag[usable(mag), 2], share), 3)
    table.meta = {"title": "Quantiles of r by class", "source": SPECTROSCOPIC}
    return table


def fit_sky(name: str, real: Path, errors: Table) -> Table:
    """The mixture of the sky's own stars or galaxies: those of three fields, with some spectra.

    A spectroscopic survey's targets are not the sky: faint galaxies there are red, and stars are
    those that look like quasars. The frames give the colours of what is there, the spectra the
    rare kinds (white dwarfs, blue horizontal branch) and the bright end.
    """
    folders = [f for f in sorted((real / "frames").iterdir()) if f.name != HELD_OUT]
    fields = [measure(folder)[0] for folder in folders]
    table = vstack(fields, metadata_conflicts="silent")
    extended = table["concentration"] - table["psf_concentration"]
    mag = magnitudes(table)
    sigma = np.stack([table[f"{b}_error"] for b in sdss.BANDS], axis=1)
    r = np.asarray(table["r_total"])
    alone = (np.asarray(table["nearest"]) > 10) & (np.asarray(table["flag"]) == 0)
    if name == STAR:
        uvx = (mag[:, 0] - mag[:, 1] < 0.6) & (mag[:, 1] - mag[:, 2] < 0.5)  # mostly quasars
        chosen = alone & (np.abs(extended) < 0.08) & (r > 14.5) & (r < 21.2) & ~uvx
        # Where u holds no light to speak of, its colour is that of brighter stars of the kind.
        sigma[:, 0] = np.where(sigma[:, 0] > 0.25, 3.0, sigma[:, 0])
    else:
        chosen = alone & (extended > 0.15) & (r > 16) & (r < 22)
        mag = mag + (r - mag[:, 2])[:, None]  # the aperture's colours, the whole light
        # Galaxies drawn and measured again came out so much too bright in u: asinh magnitudes of
        # light below the noise are not normal.
        mag[:, 0] += np.interp(r, [18.5, 19.5], [0.0, 0.3])
    chosen &= usable(mag)
    spectra = tables.read(real / "catalogs/sdss_spectro_photometry.csv.gz")
    known = magnitudes(spectra[np.asarray(spectra["class"]) == name])
    known = known[usable(known)]
    if name == GALAXY:  # complete only where every galaxy is a target
        known = known[known[:, 2] < 17.7]
    share = {STAR: 0.12, GALAXY: 0.15}[name] * chosen.sum() / len(known)
    both = np.concatenate([mag[chosen], known])
    noise = np.concatenate([sigma[chosen], magnitude_errors(known, errors, EXTENDED_SKY[name])])
    weight = np.concatenate([np.ones(chosen.sum()), np.full(len(known), share)])
    # As many rows as their weight says, so that every step sees the same shares.
    rng = np.random.default_rng(SEED)
    rows = rng.choice(len(both), 6000, p=weight / weight.sum())
    x, cov = features(both[rows], noise[rows], None)
    names = ("r", "ug", "gr", "ri", "iz")
    mixture = deconvolve(x, cov, np.ones(len(x)), SKY_COMPONENTS[name], SEED, names, (60, 0))
    out = rounded(mixture.to_table())
    out.meta = {
        "title": f"{name} of the sky: mixture of Gaussians over r, u-g, g-r, r-i, i-z (asinh "
        "magnitudes, as observed, errors deconvolved)",
        "source": f"{int(chosen.sum())} sources of SDSS DR17 fields 1035-6-17, 1043-5-25 "
        f"and 7264-3-111; for rare kinds {SPECTROSCOPIC}",
        "method": "extreme deconvolution (Bovy, Hogg & Roweis 2011), benchmarks/fit_populations.py",
        "r_limits": SKY_LIMITS[name],
    }
    return out


def rounded(table: Table) -> Table:
    for column in table.colnames:
        table[column] = np.array([float(f"{v:.6g}") for v in table[column]])
    return table


def bahcall_soneira(v: np.ndarray, latitude: float, longitude: float) -> np.ndarray:
    """Stars a square degree and V magnitude. Bahcall & Soneira 1980, ApJS 44, 73, eq. B1."""
    b, away = np.radians(latitude), np.radians(longitude)
    fraction = np.clip(0.0075 * (v - 12) + 0.03, 0.03, 0.09)
    gamma = np.clip(0.36 - 0.04 * (v - 12), 0.04, 0.36)
    sigma = 1.45 - 0.20 * np.cos(b) * np.cos(away)
    disc = 200 * 10 ** (0.01 * (v - 15)) / (1 + 10 ** (-0.2 * (v - 15))) ** 2
    disc /= (np.sin(b) * (1 - fraction * np.cos(away) / np.tan(b))) ** (3 - 5 * gamma)
    halo = 400 * 10 ** (0.065 * (v - 17.5)) / (1 + 10 ** (-0.26 * (v - 17.5))) ** 1.5
    return disc + halo / (1 - np.cos(b) * np.cos(away)) ** sigma


# log10 of galaxies and quasars a square degree and r magnitude.
COUNTED = {
    10: (-2.54, -6.0), 12: (-1.34, -4.5), 13: (-0.74, -3.9), 14: (-0.14, -3.2), 15: (0.46, -2.4),
    16: (1.06, -1.40), 17: (1.63, -0.48), 18: (2.18, 0.38), 19: (2.66, 1.00), 20: (3.09, 1.43),
    21: (3.48, 1.72), 22: (3.84, 1.98), 23: (4.16, 2.18), 24: (4.46, 2.30),
}  # fmt: skip


def counts() -> Table:
    """Number counts of the sky at galactic latitude 50 degrees, from the literature."""
    r = np.array(sorted(COUNTED), float)
    table = Table({"r": r})
    table["galaxy"], table["qso"] = np.array([COUNTED[int(m)] for m in r]).T
    # Stars at high latitude have V - r = 0.3 in the middle (Jester et al. 2005, Table 1).
    table["star"] = np.round(np.log10(bahcall_soneira(r + 0.3, 50, 90)), 3)
    table.meta = {
        "title": "log10 of sources a square degree and r magnitude, galactic latitude 50 degrees",
        "galaxy": "Euclidean slope to r = 16 and shape to r = 21 after Yasuda et al. 2001 (AJ 122, "
        "1104); 92 to r = 17.77 (Strauss et al. 2002, AJ 124, 1810), 6,000 to r = 21.8 (Sheldon "
        "et al. 2012, ApJS 201, 32); faint end after Metcalfe et al. 2001 (MNRAS 323, 795)",
        "qso": "176 to g = 22.5 (Palanque-Delabrouille et al. 2013, A&A 551, A29), bright end "
        "after Richards et al. 2006 (AJ 131, 2766) and Croom et al. 2009 (MNRAS 399, 1755)",
        "star": "Bahcall & Soneira 1980 (ApJS 44, 73), eq. B1, l = 90 degrees, V - r = 0.3",
    }
    return table


def quasar_redshifts() -> Table:
    """Quasars a square degree to g = 22.5 by redshift."""
    edges = [0.1, 0.4, 0.7, 1.0, 1.3, 1.6, 1.9, 2.15, 2.5, 3.0, 3.5, 4.0, 5.0]
    shares = [3.0, 10.0, 17.0, 24.0, 27.0, 27.0, 21.0, 20.5, 17.0, 6.5, 2.3, 0.7]
    table = Table({"z_low": edges[:-1], "z_high": edges[1:], "per_deg2": shares})
    table.meta = {
        "title": "Quasars a square degree to g = 22.5",
        "source": "30, 99 and 47 below z = 1, to 2.15 and beyond: Palanque-Delabrouille et al. "
        "2013, A&A 551, A29; parted within these by the luminosity functions of Croom et al. 2009 "
        "and Richards et al. 2006",
    }
    return table


def galaxy_sizes() -> Table:
    """Half-light radii, such that simulated fields measured as real ones have the same radii."""
    rows = {13: 14, 14: 9.5, 15: 6.3, 16: 4.4, 17: 3.0, 18: 2.1, 19: 1.5, 20: 1.0, 21: 0.74,
            22: 0.56, 23: 0.44, 24: 0.36}  # fmt: skip
    table = Table(
        {"r": np.array(list(rows), float), "radius": np.array(list(rows.values()), float)}
    )
    table["scatter"] = np.interp(table["r"], [15, 18, 20], [0.40, 0.44, 0.48])
    table.meta = {
        "title": "Half-light radius of galaxies by r: median (arcsec) and scatter of its logarithm",
        "source": "to r = 17.7 as Shen et al. 2003 (MNRAS 343, 978) have SDSS's main galaxies; "
        "fainter, radii of galaxies in SDSS DR17 fields 1035-6-17, 1043-5-25 and "
        "7264-3-111, freed of the PSF; beyond r = 21.5, scaled as in Metcalfe et al. 2001 "
        "(MNRAS 323, 795)",
    }
    return table


def main(wanted: list[str]) -> None:
    """Fit what is named (all by default) and write it beside the code that reads it."""
    real = Path(os.environ["GQS_REAL_DATA"])
    if not wanted or "errors" in wanted:
        tables.write(fit_errors(real), OUT / "photometric_errors.ecsv")
    if not wanted or "magnitudes" in wanted:
        tables.write(fit_magnitudes(real), OUT / "magnitudes.ecsv")
    if not wanted or "counts" in wanted:
        tables.write(counts(), OUT / "counts.ecsv")
        tables.write(galaxy_sizes(), OUT / "galaxy_sizes.ecsv")
        tables.write(quasar_redshifts(), OUT / "quasar_redshifts.ecsv")
    errors = tables.read(OUT / "photometric_errors.ecsv")
    for name in (c for c in (GALAXY, STAR) if not wanted or f"sky_{c.lower()}" in wanted):
        print("sky", name)
        tables.write(fit_sky(name, real, errors), OUT / f"sky_{name.lower()}.ecsv")
    for name in (c for c in CLASSES if not wanted or c.lower() in wanted):
        print(name)
        tables.write(fit_class(name, real, errors), OUT / f"spectroscopic_{name.lower()}.ecsv")


if __name__ == "__main__":
    main(sys.argv[1:])
