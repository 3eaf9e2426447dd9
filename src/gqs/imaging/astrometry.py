"""A header's WCS, checked before use: celestial, regular and invertible."""

from __future__ import annotations

import re
import warnings
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from gqs import tables
from gqs.errors import BadInputError

# Zenithal projections that images use; SIP and TPV add distortion terms.
PROJECTIONS: Final = ("TAN", "TAN-SIP", "TPV", "SIN", "ARC", "STG", "ZEA")
SCALES: Final = (0.05, 5.0)  # plausible pixel scales, arcsec
MAX_SIP_ORDER: Final = 9
_KEYS: Final = re.compile(
    r"(CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA)[12]|(CD|PC)[12]_[12]|PV[12]_\d{1,2}"
    r"|LONPOLE|LATPOLE|EQUINOX|RADESYS|RADECSYS|(A|B|AP|BP)_(ORDER|\d_\d)"
)
_TEXT: Final = ("CTYPE", "CUNIT", "RADE")
_ROUND_TRIP: Final = 0.01  # pixels
_DISTORTION: Final = 100.0  # pixels by which SIP may move a corner


def celestial_wcs(header: fits.Header, shape: tuple[int, int], where: object) -> WCS:
    """Parse and check a header's WCS.

    Only the cards of a plain celestial WCS are read, so that nothing else in a header can make the
    parser open another file.
    """
    try:
        cards = _plain_cards(header)
        _check_values(cards)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            wcs = WCS(fits.Header(list(cards.items())), naxis=2)
            _check_geometry(wcs, shape)
    except BadInputError:
        raise
    except Exception as error:  # wcslib and astropy have a dozen error types for a bad WCS
        reason = str(error) if isinstance(error, _BadWcsError) else "wcslib refuses it"
        raise BadInputError(
            f"{where}: the header's WCS cannot be used ({reason}). Solve its astrometry again."
        ) from error
    return wcs


class _BadWcsError(ValueError):
    """The reason why a WCS is refused."""


def _plain_cards(header: fits.Header) -> dict[str, Any]:
    cards: dict[str, Any] = {}
    for card in header.cards:
        if _KEYS.fullmatch(card.keyword) and card.keyword not in cards:
            value = card.value
            if card.keyword.startswith(_TEXT):
                if not isinstance(value, str):
                    raise _BadWcsError(f"{card.keyword} is not text")
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise _BadWcsError(f"{card.keyword} is {str(value)[:20]!r}, not a number")
            elif not np.isfinite(value):
                raise _BadWcsError(f"{card.keyword} is not finite")
            cards[card.keyword] = value
    return cards


def _check_values(cards: dict[str, Any]) -> None:
    for key in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
        if key not in cards:
            raise _BadWcsError(f"there is no {key}")
    for key, axis in (("CTYPE1", "RA--"), ("CTYPE2", "DEC-")):
        name, _, projection = cards[key].partition("-")
        if name != axis.rstrip("-") or projection.lstrip("-") not in PROJECTIONS:
            raise _BadWcsError(f"{key} is {cards[key][:20]!r}; it must be {axis}-TAN or the like")
    if cards["CTYPE1"][4:] != cards["CTYPE2"][4:]:
        raise _BadWcsError("CTYPE1 and CTYPE2 name different projections")
    if not any(key.startswith(("CD1_", "CDELT")) for key in cards):
        raise _BadWcsError("there is neither a CD matrix nor CDELT")
    if not (-360 <= cards["CRVAL1"] <= 360 and -90 <= cards["CRVAL2"] <= 90):
        raise _BadWcsError(
            f"CRVAL {cards['CRVAL1']:g}, {cards['CRVAL2']:g} is not a position on the sky"
        )
    # wcslib gives right ascensions of the sign of CRVAL1.
    cards["CRVAL1"] = float(tables.wrapped(cards["CRVAL1"]))
    for key, value in cards.items():
        if key.endswith("_ORDER") and not 0 <= value <= MAX_SIP_ORDER:
            raise _BadWcsError(f"{key} is {value}; the largest order is {MAX_SIP_ORDER}")
    system = cards.get("RADESYS", cards.get("RADECSYS", "ICRS")).strip()
    if system not in ("ICRS", "FK5") or cards.get("EQUINOX", 2000.0) != 2000.0:
        raise _BadWcsError(f"its system is {system[:10]!r}; supported are ICRS and FK5 2000")


def _check_geometry(wcs: WCS, shape: tuple[int, int]) -> None:
    """Check the WCS on the image: scale, skew, distortion, and the round trip."""
    matrix = np.asarray(wcs.pixel_scale_matrix)
    lengths = np.hypot(*matrix)
    if not (lengths > 0).all() or abs(np.linalg.det(matrix)) < 0.1 * lengths.prod():
        raise _BadWcsError("its matrix is singular")
    scales = np.asarray(proj_plane_pixel_scales(wcs)) * 3600
    if not ((scales > SCALES[0]) & (scales < SCALES[1])).all():
        raise _BadWcsError(f"a pixel would be {scales[0]:.3g} by {scales[1]:.3g} arcsec")
    ny, nx = shape
    x, y = (
        axis.ravel() for axis in np.meshgrid(np.linspace(0, nx - 1, 5), np.linspace(0, ny - 1, 4))
    )
    ra, dec = wcs.all_pix2world(x, y, 0)
    linear = np.hypot(*(a - b for a, b in zip(wcs.pix2foc(x, y, 0), (x, y), strict=True)))
    if not (np.isfinite(ra) & np.isfinite(dec)).all():
        raise _BadWcsError("parts of the image lie nowhere on the sky")
    if linear.max() > _DISTORTION:
        raise _BadWcsError("its distortion is absurd")
    back = wcs.all_world2pix(ra, dec, 0)
    if not np.hypot(back[0] - x, back[1] - y).max() < _ROUND_TRIP:
        raise _BadWcsError("it cannot be inverted")
