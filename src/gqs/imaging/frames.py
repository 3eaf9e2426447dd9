"""Read frames: one band of one field in nanomaggies, with its noise.

SDSS's corrected frames contain the calibrated, sky-subtracted image (HDU 0), the calibration along
a row (HDU 1) and the subtracted sky (HDU 2), but neither a mask nor the noise. The camera's counts
are reconstructed from the three, and noise and saturated pixels follow from counts, gain and dark
variance, as the data model explains (data.sdss.org/datamodel, BOSS_PHOTOOBJ/frames). Counts are
whole numbers, so pixels that contradict their own calibration are recognized: another unit under an
old header, another byte order or scaling, a mirrored image. Images without calibration and sky
(one's own reduction, or HDU 0 of a frame saved alone) have their noise estimated from their pixels.
"""

from __future__ import annotations

import glob
import io
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from gqs import files
from gqs.errors import BadInputError, IntegrityError, UsageError
from gqs.formatting import percent
from gqs.imaging import unpack
from gqs.imaging.astrometry import celestial_wcs
from gqs.imaging.bad_pixels import NoSignalError, bad_pixels
from gqs.surveys.sdss import (
    BANDS,
    CUTOUT_SIZE,
    FRAME_OFFSET,
    SATURATION,
    FieldId,
    FrameName,
    dark_variance,
    gain,
)

MAX_PIXELS: Final = 1 << 24
_UNITS: Final = ("nanomaggy", "nanomaggies", "nmgy")
_SDSS_HDUS: Final = 4
_IDENTITY_CARDS: Final = frozenset(b"RUN CAMCOL FRAME FILTER RERUN BUNIT ORIGIN NMGY".split())
# Counts possible with 16 bits, bias, flat field and interpolation; others mean damage.
_COUNTS: Final = (-1000.0, 120_000.0)
# Of 25 real and simulated frames, 99.8 % or more of the counts are within 0.1 of a whole number
# (the rest is interpolated over cosmic rays); of pixels with another calibration, 20 % are.
_WHOLE: Final = 0.1
_LEAST_WHOLE: Final = 0.8
_EXACT: Final = 1e4  # counts below which float32 pixels determine them to 0.01


@dataclass(frozen=True)
class Frame:
    """One band of one field.

    Attributes
    ----------
    band : str
        One of u g r i z.
    field : FieldId
        Run, camera column and field, from the header.
    flux : ndarray
        (ny, nx) float32 nanomaggies, native byte order, NaN where `bad`.
    wcs : WCS
        Pixels (0-based) to ICRS.
    saturated : ndarray
        (ny, nx) bool. Such pixels keep their value.
    bad : ndarray
        (ny, nx) bool: not finite, impossible counts, or in a row, column or patch of one value.
    variance : ndarray
        (ny, nx) float32 nanomaggies squared: photon noise of source and sky, read noise, dark
        current. For frames without calibration: the constant variance of the sky.
    path : Path
        The file.
    rerun : str
        SDSS's processing version; empty if it is not in the header.
    calibrated : bool
        Whether counts could be reconstructed, so that variance and saturation are the detector's.
    """

    band: str
    field: FieldId
    flux: NDArray[np.float32]
    wcs: WCS
    saturated: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    variance: NDArray[np.float32]
    path: Path
    rerun: str = ""
    calibrated: bool = True


def read_frame(path: str | Path) -> Frame:
    """Read one frame; the whole file is checked, including the checksums of its archive.

    Parameters
    ----------
    path : path
        A FITS file, plain or compressed with bzip2 or gzip, whatever its name.

    Returns
    -------
    Frame
        Its arrays are in native byte order and own their memory.

    Raises
    ------
    BadInputError
        If the file, its header or its pixels are damaged or inconsistent.
    UsageError
        If there is no such file.
    """
    path = Path(path)
    data = unpack.read(path)
    parts = unpack.hdus(data, path)
    _check_image(parts[0], path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _assembled(data, parts, path)
    except BadInputError:
        raise
    except Exception as error:  # astropy has its own errors for each way a file can be wrong
        reason = " ".join(str(error).split())[:120]
        raise BadInputError(
            f"{path}: cannot be read as a frame ({type(error).__name__}: {reason}). "
            "Fetch the frame again."
        ) from error


def identify(path: str | Path) -> FrameName:
    """Band and field of a file, from its first header; no pixels are decompressed."""
    path = Path(path)
    return _identity(_header(unpack.head(path), path), path)[0]


def check_frame(path: Path, expected: FrameName) -> None:
    """Refuse a file that is incomplete or not the expected frame.

    The archive is decompressed completely, which verifies its checksums; all HDUs must be present,
    and the first header must name the expected band and field.
    """
    data = unpack.read(path)
    parts = unpack.hdus(data, path)
    _check_image(parts[0], path)
    header = _header(_identity_cards(data[: parts[0].data]), path)
    found = _identity(header, path)[0]
    if found != expected:
        raise IntegrityError(
            f"{path}: its header is of band {found.band} of field {found.field}, not of band "
            f"{expected.band} of field {expected.field}."
        )
    if _is_sdss(header) and len(parts) < _SDSS_HDUS:
        raise BadInputError(
            f"{path}: has {len(parts)} of the {_SDSS_HDUS} HDUs of SDSS's frames, so it was "
            "cut. Fetch the frame again."
        )


def find_frames(paths: Iterable[str | Path]) -> list[Path]:
    """Frames of files, folders that hold frame-*.fits*, and patterns such as `data/frame-*.bz2`."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [p for p in files.below(path) if fnmatch(p.name, "frame-*.fits*")]
            if not inside:
                raise UsageError(f"{path}: holds no frame-*.fits*. Name frames or their folder.")
            found += inside
        elif glob.has_magic(str(path)) and not path.exists():
            inside = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
            if not inside:
                raise UsageError(f"{path}: matches no file. Name frames or their folder.")
            found += inside
        else:
            found.append(path)
    if not found:
        raise UsageError("No frames were given. Name frames, or a folder of them.")
    return found


def group_fields(
    paths: Iterable[str | Path], name_of: Callable[[Path], FrameName] = identify
) -> tuple[dict[FieldId, dict[str, Path]], list[str]]:
    """Group frames into fields, by default by their headers; also a sentence for each left out."""
    fields: dict[FieldId, dict[str, Path]] = {}
    set_aside: list[str] = []
    for path in map(Path, paths):
        try:
            name = name_of(path)
        except BadInputError as error:
            set_aside.append(str(error))
            continue
        frames = fields.setdefault(name.field, {})
        if name.band in frames:
            set_aside.append(
                f"{path}: field {name.field} already has a frame in band {name.band}, "
                f"{frames[name.band]}."
            )
        else:
            frames[name.band] = path
    ordered = {
        field: {band: frames[band] for band in BANDS if band in frames}
        for field, frames in fields.items()
    }
    return ordered, set_aside


def _assembled(data: bytes, parts: list[unpack.Hdu], path: Path) -> Frame:
    with fits.open(io.BytesIO(data), memmap=False, disable_image_compression=True) as opened:
        header = opened[0].header
        name, rerun = _identity(header, path)
        flux = np.array(opened[0].data, dtype=np.float32)  # a copy, in native byte order
        wcs = celestial_wcs(header, flux.shape, path)
        sdss = _is_sdss(header) and len(parts) > 1  # else the image was saved alone
        if sdss and len(parts) < _SDSS_HDUS:
            raise BadInputError(
                f"{path}: has {len(parts)} of the {_SDSS_HDUS} HDUs of SDSS's frames, so it was "
                "cut. Fetch the frame again, or save its image alone to have the noise estimated."
            )
        bad = bad_pixels(flux, path)
        if sdss:
            calibration, sky = _calibration(opened[1].data, opened[2].data, flux.shape, path)
            with np.errstate(invalid="ignore"):
                counts = flux / calibration + sky
                bad |= ~((counts > _COUNTS[0]) & (counts < _COUNTS[1]))
            if bad.all():
                raise NoSignalError(
                    f"{path}: has no pixel with possible counts. Fetch the frame again."
                )
            _require_whole(counts[~bad], path)
            variance = _variance(counts, name) * calibration**2
            saturated = counts >= SATURATION
        else:
            noise = _pixel_noise(np.where(bad, np.float32(np.nan), flux))
            variance = np.full(flux.shape, noise**2, dtype=np.float32)
            level = header.get("SATURATE")  # SExtractor's and many observatories' keyword
            known = isinstance(level, int | float) and level > 0
            saturated = flux >= level if known else np.zeros(flux.shape, dtype=bool)
    flux[bad] = np.nan
    variance[bad] = np.nan
    return Frame(
        name.band, name.field, flux, wcs, saturated & ~bad, bad, variance, path, rerun, sdss
    )


def _require_whole(counts: NDArray[np.float32], path: Path) -> None:
    """Refuse pixels whose counts are not whole numbers, as a camera's are."""
    exact = counts[counts < _EXACT]
    whole = float((np.abs(exact - np.rint(exact)) < _WHOLE).mean()) if len(exact) else 1.0
    if whole < _LEAST_WHOLE:
        raise BadInputError(
            f"{path}: its pixels contradict its own calibration (only {percent(whole, 0)} of the "
            "counts are whole numbers): they were changed, or are in another unit. Fetch the frame "
            "again, or save the image of a reduction of your own without the other HDUs."
        )


def _is_sdss(header: fits.Header) -> bool:
    return str(header.get("ORIGIN", "")).strip() == "SDSS" and "NMGY" in header


def _identity_cards(header: bytes) -> bytes:
    """The cards that identify a frame; parsing only these is faster for thousands of files."""
    cards = (header[i : i + 80] for i in range(0, len(header), 80))
    return b"".join(card for card in cards if card[:8].rstrip() in _IDENTITY_CARDS)


def _header(data: bytes, path: Path) -> fits.Header:
    try:
        return fits.Header.fromstring(data.decode("ascii"))
    except ValueError as error:
        raise BadInputError(f"{path}: its header is damaged. Fetch the frame again.") from error


def _check_image(hdu: unpack.Hdu, path: Path) -> None:
    """Refuse an HDU 0 that is not an image of plausible size and scaling, before it is opened."""
    if len(hdu.naxis) != 2:
        raise BadInputError(
            f"{path}: its first HDU has {len(hdu.naxis)} axes, a frame has two. "
            "Use the plain image (decompressed with funpack, for example), one band per file."
        )
    nx, ny = hdu.naxis
    if min(nx, ny) < CUTOUT_SIZE or nx * ny > MAX_PIXELS:
        raise BadInputError(
            f"{path}: has {nx} x {ny} pixels; a frame has at least {CUTOUT_SIZE} on a side and "
            f"at most {MAX_PIXELS:,} in total. Split it."
        )
    for key, usual in (("BSCALE", 1.0), ("BZERO", 0.0)):
        try:
            value = float(hdu.cards.get(key, str(usual)).replace("D", "E"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (key == "BSCALE" and value == 0):
            raise BadInputError(
                f"{path}: {key} is {hdu.cards[key][:20]!r}, which is invalid. "
                "Fetch the frame again."
            )


def _identity(header: fits.Header, path: Path) -> tuple[FrameName, str]:
    """Band, field and rerun; the field number is FRAME minus the offset of the CCD row."""
    try:
        whole = {key: header.get(key) for key in ("RUN", "CAMCOL", "FRAME")}
        band, rerun, unit = (
            str(header.get(key, "")).strip() for key in ("FILTER", "RERUN", "BUNIT")
        )
    except Exception as error:  # astropy parses cards late, and some cannot be parsed
        raise BadInputError(f"{path}: its header is damaged. Fetch the frame again.") from error
    for key, low, high in (("RUN", 1, 999_999), ("CAMCOL", 1, 6), ("FRAME", 0, 4095)):
        value = whole[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            state = "is missing" if value is None else f"is {str(value)[:20]!r}"
            raise BadInputError(
                f"{path}: {key} {state} in the header; it must be a whole number from {low} to "
                f"{high}. Add the identity of the field."
            )
    if band not in tuple(BANDS):
        raise BadInputError(
            f"{path}: FILTER is {band[:10]!r} in the header; frames have {', '.join(BANDS)}."
        )
    number = whole["FRAME"] - FRAME_OFFSET[band]
    if number < 0:
        raise BadInputError(
            f"{path}: FRAME is {whole['FRAME']} in the header, but {band} frames start at "
            f"{FRAME_OFFSET[band]}. Set it to the field number plus {FRAME_OFFSET[band]}."
        )
    if unit.lower() not in _UNITS:
        raise BadInputError(
            f"{path}: BUNIT is {unit[:20]!r} in the header, not 'nanomaggy'. Calibrate the image "
            "to nanomaggies (zero point 22.5 mag) and set BUNIT."
        )
    return FrameName(band, FieldId(whole["RUN"], whole["CAMCOL"], number)), rerun


def _calibration(
    vector: Any, table: Any, shape: tuple[int, ...], path: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Calibration (nx,) in nanomaggies per count, and sky (ny, nx) in counts."""
    ny, nx = shape
    calibration = np.array(vector, dtype=np.float32)
    if calibration.shape != (nx,) or not ((calibration > 0) & (calibration < 1e3)).all():
        raise BadInputError(
            f"{path}: HDU 1 is not a calibration of {nx} positive numbers. Fetch the frame again."
        )
    coarse = np.array(table["ALLSKY"][0], dtype=np.float32)
    x, y = (np.array(table[name][0], dtype=np.float64) for name in ("XINTERP", "YINTERP"))
    if x.shape != (nx,) or y.shape != (ny,) or coarse.ndim != 2 or not np.isfinite(coarse).all():
        raise BadInputError(
            f"{path}: HDU 2 is not a sky for an image of {nx} x {ny} pixels. Fetch the frame again."
        )
    return calibration, np.asarray(_bilinear(_bilinear(coarse, y).T, x).T)


def _bilinear(values: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate along the first axis, clamped at its ends as IDL's `interpolate` does."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(np.intp), max(len(values) - 2, 0))
    share = (at - low).astype(np.float32)[:, None]
    high = values[np.minimum(low + 1, len(values) - 1)]
    return np.asarray(values[low] * (1 - share) + high * share)


def _variance(counts: NDArray[np.float32], name: FrameName) -> NDArray[np.float32]:
    """Counts squared: photon noise at the CCD's gain, plus its dark variance."""
    run, camcol, _ = name.field
    photons = np.maximum(counts, 0) / np.float32(gain(name.band, camcol, run))
    return np.asarray(photons + np.float32(dark_variance(name.band, camcol, run)))


def _pixel_noise(flux: NDArray[np.float32]) -> float:
    """Sky noise from differences of diagonal neighbours, which smooth sources hardly affect."""
    step = (flux[1:, 1:] - flux[:-1, :-1])[::2, ::2]
    step = step[np.isfinite(step)]
    noise = 1.4826 * float(np.median(np.abs(step - np.median(step)))) / math.sqrt(2)
    return noise or float(step.std())
