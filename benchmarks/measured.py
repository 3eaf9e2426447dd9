"""What every imaging benchmark needs: the real fields, and a result file that says where it ran."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gqs.files import write_json
from gqs.imaging.frames import Frame, read_frame

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("numpy", "scipy", "astropy", "sep", "reproject", "scikit-image")


def real_folder() -> Path:
    """Return the folder of real frames and catalogues, or end with a sentence.

    Returns
    -------
    Path
        As GQS_REAL_DATA names it.
    """
    root = os.environ.get("GQS_REAL_DATA")
    if not root or not Path(root).is_dir():
        sys.exit("GQS_REAL_DATA names no folder: this benchmark measures on real SDSS frames.")
    return Path(root)


def real_fields() -> Iterator[tuple[Path, dict[str, Frame]]]:
    """Yield each real field's folder and its frames by band.

    Yields
    ------
    folder : Path
        Under GQS_REAL_DATA/frames.
    frames : dict of str to Frame
        By band.
    """
    for folder in sorted((real_folder() / "frames").iterdir()):
        frames = map(read_frame, sorted(folder.glob("frame-?-*.fits.bz2")))
        yield folder, {frame.band: frame for frame in frames}


def cpu_seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the median CPU time of a call.

    Parameters
    ----------
    work : callable
        Called without arguments.
    repeats : int
        How often.

    Returns
    -------
    float
        Seconds.
    """
    took = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return float(np.median(took))


def matrix_rate(size: int = 2048, repeats: int = 5) -> float:
    """Return what this machine's cores give in float32 matrix products.

    Parameters
    ----------
    size : int
        Rows and columns.
    repeats : int
        How often; the best counts.

    Returns
    -------
    float
        GFLOP/s, on as many threads as torch has.
    """
    import torch

    a, took = torch.rand(size, size), []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        took.append(time.perf_counter() - start)
    return 2e-9 * size**3 / min(took)


def save(name: str, seed: int | None, results: dict[str, Any]) -> None:
    """Write a benchmark's result with machine and versions, and show it.

    Parameters
    ----------
    name : str
        Of the script.
    seed : int or None
        Of all chance in it.
    results : dict
        Numbers, lists and text.
    """
    record = {
        "benchmark": name,
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine()},
        "python": platform.python_version(),
        "libraries": {library: version(library) for library in LIBRARIES},
        "seed": seed,
        **rounded(results),
    }
    print(write_json(RESULTS / f"{name}.json", record).read_text())


def rounded(value: Any) -> Any:
    """Round numbers to four significant digits, and turn NaN into null.

    Parameters
    ----------
    value : object
        Dicts and lists of numbers.

    Returns
    -------
    object
        The same, fit for JSON.
    """
    if isinstance(value, dict):
        return {str(key): rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [rounded(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
