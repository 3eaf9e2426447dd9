"""Images in files of any survey: FITS, NumPy, HDF5 and pictures, checked before memory is taken."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from PIL import Image

from gqs import files
from gqs.errors import BadInputError, UsageError
from gqs.imaging import unpack

PICTURES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
FITS: Final = (".fits", ".fit", ".fits.gz", ".fits.bz2")
CUBES: Final = (".npy", ".npz", ".h5", ".hdf5", *FITS)
ENDINGS: Final = (".npy", *FITS, *PICTURES)  # of files with one image each
SMALLEST, LARGEST = 16, 512  # pixels on a side
_MOST_BANDS: Final = 26
_MOST_BYTES: Final = 4 << 30  # of a file with all images
_ONE_IMAGE: Final = _MOST_BANDS * LARGEST**2 * 8
_PLAIN_MODES: Final = ("L", "RGB", "I", "I;16", "F")  # of Pillow; others are converted to RGB


@dataclass(frozen=True)
class ImageSet:
    """Images that are read one at a time, each with a name.

    `images` is an array (n, band, ny, nx), or the path of each image; `table` has the columns that
    came with the array; `folders` has the name of each file's folder.
    """

    names: Sequence[str]
    images: NDArray[Any] | Sequence[Path]
    table: Table | None = None
    folders: Sequence[str] = field(default=())

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, row: int) -> NDArray[Any]:
        """Pixels of an image, (band, ny, nx); the first row is at the bottom."""
        found = self.images[row]
        return read_image(found) if isinstance(found, Path) else np.asarray(found)


def image_set(images: Any, names: Sequence[str] | None = None) -> ImageSet:
    """Images in memory or mapped from a file: (n, ny, nx), (n, band, ny, nx) or colours last."""
    array = _bands_second(images if isinstance(images, np.ndarray) else np.asarray(images))
    return ImageSet(names or [f"image {row + 1}" for row in range(len(array))], array)


def find_images(paths: Iterable[Path]) -> ImageSet:
    """Images of folders and files; a single .npy, .npz, .h5 or FITS file holds all of them."""
    given = [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder.")
    if len(given) == 1 and given[0].is_file() and ending(given[0]) in CUBES:
        return read_cube(given[0])
    found: list[Path] = []
    names: list[str] = []
    for path in given:
        inside = sorted(files.below(path)) if path.is_dir() else [path]
        inside = [one for one in inside if ending(one) in ENDINGS or not path.is_dir()]
        found += inside
        names += [str(one.relative_to(path)) if path.is_dir() else one.name for one in inside]
    if not found:
        raise UsageError(f"{given[0]}: holds no image ({', '.join(ENDINGS)}). Name another folder.")
    return ImageSet(names, found, folders=[one.parent.name for one in found])


def ending(path: Path) -> str:
    """A file name's ending in lower case, with that of an archive."""
    name = path.name.lower()
    return next((one for one in FITS if name.endswith(one)), path.suffix.lower())


def read_image(path: Path) -> NDArray[Any]:
    """Read a file with one image, (band, ny, nx)."""
    kind = ending(path)
    if kind in PICTURES:
        return _picture(path)
    if kind == ".npy":
        return _planes(np.array(_npy(path, _ONE_IMAGE)), path)
    if kind in FITS:
        return _planes(_fits(path, _ONE_IMAGE), path)
    raise BadInputError(f"{path}: {kind or 'its format'} is not read ({', '.join(ENDINGS)}).")


def read_cube(path: Path) -> ImageSet:
    """Read a file with all images, and the columns that lie beside them."""
    kind = ending(path)
    if kind == ".npy":
        return image_set(_npy(path, _MOST_BYTES))
    if kind in FITS:
        return image_set(_fits(path, _MOST_BYTES))
    arrays = _npz(path) if kind == ".npz" else _hdf5(path)
    cubes = [name for name, array in arrays.items() if array.ndim in (3, 4)]
    if len(cubes) != 1:
        raise UsageError(
            f"{path}: has {len(cubes)} arrays of images ({', '.join(arrays)}). Save one array "
            "(n, ny, nx) or (n, band, ny, nx), with columns of length n beside it."
        )
    found = image_set(arrays.pop(cubes[0]))
    columns = {k: v for k, v in arrays.items() if v.ndim == 1 and len(v) == len(found)}
    return ImageSet(found.names, found.images, Table(columns) if columns else None)


def _bands_second(array: NDArray[Any]) -> NDArray[Any]:
    """An array of images as (n, band, ny, nx)."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] <= 4 < min(array.shape[1:3]):
        return np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.dtype.kind not in "fiub":
        raise UsageError(
            f"Images {array.dtype} {array.shape}: give numbers (n, ny, nx) or (n, band, ny, nx)."
        )
    return array


def _planes(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """An image as (band, ny, nx)."""
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3 and array.shape[2] <= 4 < min(array.shape[:2]):
        return np.moveaxis(array, 2, 0)
    if array.ndim != 3:
        raise BadInputError(f"{path}: has the shape {array.shape}; an image is (ny, nx).")
    return array


def _picture(path: Path) -> NDArray[Any]:
    try:
        with Image.open(path) as picture:  # reads the header alone
            if max(picture.size) > LARGEST:
                width, height = picture.size
                raise BadInputError(f"{path}: is {width} x {height} px, {LARGEST} px at most.")
            mode = picture.mode
            pixels = np.asarray(picture if mode in _PLAIN_MODES else picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInputError(f"{path}: is not a readable picture ({error}).") from error
    pixels = pixels[::-1]  # pictures have their first row at the top
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0))


def _npy(path: Path, most: int) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            _check_header(file, path, most)
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise BadInputError(f"{path}: is not a readable .npy file ({error}).") from error
    return found


def _check_header(file: IO[bytes], path: object, most: int) -> None:
    """Refuse an .npy file of Python objects, or of a size that memory is not given for."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    shape, _, kind = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    size = int(np.prod([int(n) for n in shape], dtype=object)) * kind.itemsize
    if kind.hasobject:
        raise BadInputError(f"{path}: holds Python objects, which are not read. Save numbers.")
    if size > most:
        raise BadInputError(f"{path}: an array of {size >> 20} MiB; {most >> 20} MiB at most.")


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    _check_header(file, f"{path}, {entry.filename}", _MOST_BYTES)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path}: is not a readable .npz file ({error}).") from error


def _hdf5(path: Path) -> dict[str, NDArray[Any]]:
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            f"{path}: HDF5 needs h5py (pip install h5py). Or save the arrays with numpy.savez."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            sets = {name: one for name, one in file.items() if isinstance(one, h5py.Dataset)}
            if sum(one.size * one.dtype.itemsize for one in sets.values()) > _MOST_BYTES:
                raise BadInputError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB. Split it.")
            return {
                name: one.asstr()[()] if one.dtype.kind in "OS" else one[()]
                for name, one in sets.items()
            }
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(f"{path}: is not a readable HDF5 file ({error}).") from error


def _fits(path: Path, most: int) -> NDArray[Any]:
    """Pixels of the first image of a FITS file."""
    data = unpack.read(path, most + unpack.LIMIT)
    for number, hdu in enumerate(unpack.hdus(data, path)):
        table = hdu.cards.get("XTENSION", "'IMAGE").strip("' ").startswith(("BINTABLE", "TABLE"))
        if len(hdu.naxis) < 2 or not hdu.size or table:
            continue
        try:
            with fits.open(io.BytesIO(data), memmap=False) as opened:
                return np.asarray(opened[number].data)
        except (OSError, ValueError, TypeError, fits.VerifyError) as error:
            raise BadInputError(f"{path}: its image cannot be read ({error}).") from error
    raise BadInputError(f"{path}: has no image (tile-compressed ones are not read: funpack it).")
