"""Simulated frames in the archive's file format: header, image, calibration, sky, astrometry.

The layout is that of the frame data model (data.sdss.org/datamodel, BOSS_PHOTOOBJ/frames, file
`frame`), card by card as in real frames of DR17. FLAVOR, OBSERVER and a comment say that the frame
is simulated.
"""

from __future__ import annotations

import bz2
import io
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from gqs.simulation.conditions import NODE, BandConditions, FieldConditions
from gqs.simulation.exposure import sky_steps
from gqs.surveys.sdss import FRAME_OFFSET, PIXEL_SCALE, RERUN, FieldId

ROW_S: Final = 0.026322  # seconds a row: the drift scan's clock
_ORDER: Final = "riuzg"  # rows of the camera, in which the sky drifts over the filters
_FIRST_TAI: Final = 4_500_000_000.0  # some night of 2001, seconds since MJD 0
_LEVEL: Final = 1  # of bzip2: as fast as 9 and, on these images, 10 % larger


def compressed_frame(flux: NDArray[np.float32], conditions: FieldConditions, band: str) -> bytes:
    """Put one band of one field into the archive's form."""
    own = conditions.bands[band]
    image = fits.PrimaryHDU(flux)
    image.header = _header(conditions, own)
    units = fits.HDUList(
        [
            image,
            fits.ImageHDU(own.calibration),
            fits.BinTableHDU(_sky_table(own, flux.shape)),
            fits.BinTableHDU(_astrometry_table(conditions, own)),
        ]
    )
    buffer = io.BytesIO()
    units.writeto(buffer, output_verify="ignore")
    return bz2.compress(buffer.getbuffer(), _LEVEL)


def observed_at(field: FieldId, band: str) -> float:
    """Time at which a field's first row was read, TAI seconds since MJD 0."""
    start = _FIRST_TAI + 86400.0 * 3 * (field.run % 997)
    return round(start + (field.field + FRAME_OFFSET[band]) * 1361 * ROW_S, 2)


def _header(conditions: FieldConditions, own: BandConditions) -> fits.Header:
    field, pointing, band = conditions.field, conditions.pointing, own.band
    tai = observed_at(field, band)
    date, clock = Time(tai / 86400.0, format="mjd", scale="tai").isot.split("T")
    ny, nx = conditions.shape
    row = _ORDER.index(band) + 1
    ra, dec = (float(value) for value in own.wcs.wcs.crval)
    cards: list[tuple[Any, ...]] = [
        ("SIMPLE", True),
        ("BITPIX", -32, "32 bit floating point"),
        ("NAXIS", 2),
        ("NAXIS1", nx),
        ("NAXIS2", ny),
        ("EXTEND", True, "Extensions may be present"),
        ("TAI", tai, "1st row - Number of seconds since Nov 17 1858"),
        ("RA", round(ra, 5), "1st row - Right ascension of telescope boresigh"),
        ("DEC", round(dec, 6), "1st row - Declination of telescope boresight (d"),
        ("DATE-OBS", date, "1st row - TAI date"),
        ("TAIHMS", clock[:11], "1st row - TAI time (HH:MM:SS.SS) (TAI-UT = appr"),
        ("ORIGIN", "SDSS"),
        ("TELESCOP", "2.5m"),
        ("TIMESYS", "TAI"),
        ("RUN", field.run, "Run number"),
        ("FRAME", field.field + FRAME_OFFSET[band], "Frame sequence number within the run"),
        ("CCDLOC", 10 * row + field.camcol, "Survey location of CCD (e.g., rowCol)"),
        ("STRIPE", pointing.stripe, "Stripe index number (23 <--> eta=0)"),
        ("STRIP", pointing.strip, "Strip in the stripe being tracked."),
        ("FLAVOR", "simulated", "Flavor of this run"),
        ("OBSERVER", "gqs", "Observer"),
        ("SYS_SCN", "mean", "System of the scan great circle (e.g., mean)"),
        ("EQNX_SCN", 2000.0, "Equinox of the scan great circle. (years)"),
        ("NODE", NODE, "RA of the great circle's ascending node (deg)"),
        ("INCL", pointing.inclination, "Great circle's inclination wrt cel. eq. (deg)"),
        ("OBJECT", f"{pointing.stripe} {pointing.strip}", "e.g., 'stripe 50.6 degrees'"),
        ("EXPTIME", "53.907456", "Exposure time (seconds)"),
        ("SYSTEM", "FK5", "System of the TCC coordinates (e.g., mean)"),
        ("CCDMODE", "DRIFT", "'STARING' or 'DRIFT'"),
        ("C_OBS", 26322, "CCD row clock rate (usec/row)"),
        ("COLBIN", 1, "Binning factor perpendicular to the columns"),
        ("ROWBIN", 1, "Binning factor perpendicular to the rows"),
        ("CAMROW", row, "Row in the imaging camera"),
        ("BADLINES", 0, "Number of bad lines in frame"),
        ("EQUINOX", 2000.0),
        ("SOFTBIAS", 1000, 'software "bias" added to all DN'),
        ("BUNIT", "nanomaggy", "1 nanomaggy = 3.631e-6 Jy"),
        ("FILTER", band, "filter used"),
        ("CAMCOL", field.camcol, "column in the imaging camera"),
        ("RADECSYS", "ICRS", "International Celestial Ref. System"),
        ("CTYPE1", "RA---TAN", "Coordinate type"),
        ("CTYPE2", "DEC--TAN", "Coordinate type"),
        ("CUNIT1", "deg", "Units"),
        ("CUNIT2", "deg", "Units"),
        ("CRPIX1", float(own.wcs.wcs.crpix[0]), "X of reference pixel"),
        ("CRPIX2", float(own.wcs.wcs.crpix[1]), "Y of reference pixel"),
        ("CRVAL1", ra, "RA of reference pixel (deg)"),
        ("CRVAL2", dec, "Dec of reference pixel (deg)"),
    ]
    for i, axis in enumerate(("RA", "Dec")):
        for j, along in enumerate(("column", "row")):
            value = float(own.wcs.wcs.cd[i, j])
            cards.append((f"CD{i + 1}_{j + 1}", value, f"{axis} deg per {along} pixel"))
    cards += [
        ("NMGY", round(own.nmgy, 8), "Calibration factor [nMgy per count]"),
        ("NMGYIVAR", round(1 / (0.01 * own.nmgy) ** 2, 2), "Calibration factor inverse variance"),
        ("RERUN", str(RERUN), "rerun"),
        ("COMMENT", "SIMULATED by gqs: no pixel of this frame was observed"),
        ("COMMENT", "Floats truncated at 10 binary digits with FLOATCOMPRESS"),
    ]
    return fits.Header([fits.Card(*card) for card in cards])


def _sky_table(own: BandConditions, shape: tuple[int, ...]) -> NDArray[np.void]:
    """Sky in counts on a coarse grid, and where on it each pixel lies (HDU 2)."""
    ny, nx = shape
    sky = np.zeros(
        1, [("ALLSKY", ">f4", own.sky.shape), ("XINTERP", ">f4", nx), ("YINTERP", ">f4", ny)]
    )
    sky["ALLSKY"], sky["XINTERP"] = own.sky, sky_steps(nx, -0.4375)
    sky["YINTERP"] = sky_steps(ny, 0.5625)
    return sky


def _astrometry_table(conditions: FieldConditions, own: BandConditions) -> NDArray[np.void]:
    """Great-circle astrometry of the field (HDU 3); distortion and colour terms are zero."""
    field, pointing, (ny, nx) = conditions.field, conditions.pointing, conditions.shape
    scale = PIXEL_SCALE / 3600
    zeros = [name + str(k) for name in ("DROW", "DCOL") for k in range(4)]
    zeros += ["CSROW", "CSCOL", "CCROW", "CCCOL"]
    values: dict[str, tuple[str, Any]] = {
        "RUN": (">i4", field.run),
        "RERUN": ("S3", str(RERUN)),
        "CAMCOL": (">i4", field.camcol),
        "FILTER": ("S1", own.band),
        "NODE": (">f8", NODE),
        "INCL": (">f8", pointing.inclination),
        "NAXIS": ("(2,)>i4", (nx, ny)),
        "FIELD": (">i4", field.field),
        "A": (">f8", pointing.mu - scale * ny / 2),
        "B": (">f8", scale),
        "C": (">f8", 0.0),
        "D": (">f8", pointing.nu - scale * nx / 2),
        "E": (">f8", 0.0),
        "F": (">f8", scale),
        **{name: (">f8", 0.0) for name in zeros},
        "RICUT": (">f8", 100.0),
        "MJD": (">f8", observed_at(field, own.band) / 86400.0),
        "AIRMASS": (">f8", 1.15),
        "MUERR": (">f4", 0.0),
        "NUERR": (">f4", 0.0),
    }
    row = np.zeros(1, [(name, kind) for name, (kind, _) in values.items()])
    for name, (_, value) in values.items():
        row[name] = value
    return row
