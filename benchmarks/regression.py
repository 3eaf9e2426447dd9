"""Does a changed gqs still give what it gave? Its results before and after, beside each other.

    python benchmarks/regression.py record OLD --source ../before/src --commit c2367af
    python benchmarks/regression.py record NEW --source src --commit HEAD [--inputs OLD]
    python benchmarks/regression.py compare OLD NEW [--only ITEM ...]
    python benchmarks/regression.py speed speed.json --source src

`record` runs a source tree's gqs with this interpreter, through its command line and, for cutouts,
`gqs.load_classifier`; nothing of gqs is imported here. Each item of the record is a folder of
arrays, tables and JSON; items that are done are passed over, so the same command goes on after a
stop. With `--inputs` every item works on what that record made (frames, stores, splits, cutouts,
models), so that one change is not seen again in all that comes after it. `--only` takes the names
of some items. It needs GQS_REAL_DATA, and takes some ten minutes of one core.

`compare` ends with 1 if a number differs by more than 1e-6 (in single precision of its value, where
that is over 1), or if anything else differs: counts, flags, classes, text, missing values, types,
order, hashes of pixels.

Left out of the record is what does not repeat: times, rates and CPU seconds; the date and the
command in the metadata of tables; memory, sizes and hashes of whole files; the engine `auto`, since
what is fastest is decided by the clock. So are hashes of stores, splits and recipes, and sentences,
which say how something is written down and not what was found.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import csv
import ctypes
import hashlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from safetensors.numpy import load_file

TOLERANCE: Final = 1e-6
SEED: Final = "7"
FIELD: Final = "003918-3-0213"  # the real field that is looked at alone
ENGINES: Final = ("torch", "onnx", "openvino")
BANDS: Final = "ugriz"
BAND_SETS: Final = ("ugriz", "griz", "gri", "r")
CUTOUTS: Final = 500
HARMED: Final = 40  # of these, with pixels missing
SIDE: Final = 50
LIBRARIES: Final = ("numpy", "scipy", "astropy", "sep", "torch", "onnxruntime", "openvino", "dask")
DONE: Final = "done.json"
WORK: Final = "work"  # subfolder of an item that later items read and that is not compared
ORIGIN: Final = "origin.json"
VOLATILE: Final = (  # keys of JSON that are no results
    *("hash", "split_hash", "data_hash", "store", "model", "recipe", "about", "missing"),
    *("seconds", "title", "reproduce", "out", "set_aside", "page", "engine", "prior_source"),
)
ORPHANS_S: Final = 30.0  # how long processes may outlive the command that began them
_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)


# ------------------------------------------------------------------ commands and their CPU time


@dataclass(frozen=True)
class Ran:
    """What a command said, and what it and all processes begun by it took."""

    code: int
    said: str
    cpu_s: float
    wall_s: float


def adopt_orphans() -> None:
    """Have grandchildren whose parent ended come to this process, so that their time is counted.

    The children of gqs are children of a server that outlives the command: nobody else waits for
    them. Where there is no Linux their time is missing.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def ran(command: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> Ran:
    """Run a command to its end, and to that of all its processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("a") as errors:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
    wall = time.monotonic() - begin
    reap_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Ran(done.returncode, done.stdout, cpu, wall)


def reap_orphans() -> None:
    """Wait for the processes that a command left behind; they end by themselves."""
    deadline = time.monotonic() + ORPHANS_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)


def clean_environment(source: Path, cache: Path, **more: str) -> dict[str, str]:
    """Return this shell's variables, without those that change what gqs does by default."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GQS_")}
    return kept | {"PYTHONPATH": str(source), "GQS_CACHE": str(cache)} | more


# ------------------------------------------------------------------------------------- recording


@dataclass(frozen=True)
class Recording:
    """A record under way.

    Attributes
    ----------
    out : Path
        Its folder.
    inputs : Path
        Folder of the record whose frames, stores and models are used: `out` itself, or another.
    source : Path
        Tree that holds the package gqs.
    real : Path
        Folder of the real data.
    """

    out: Path
    inputs: Path
    source: Path
    real: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables for gqs: one thread everywhere, no GPU, and a cache of its own."""
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        one = dict.fromkeys(threads, "1") | {"CUDA_VISIBLE_DEVICES": ""}
        return clean_environment(self.source, self.out / "cache", **one)

    def python(self, work: Path, arguments: Iterable[object]) -> str:
        """Run Python on the source tree; return what it printed, or end with its last words."""
        log = work / "errors.log"
        command = [sys.executable, *map(str, arguments)]
        found = ran(command, work, self.environment, log)
        if found.code not in (0, 3):  # 3: done, with items set aside
            last = "\n".join(log.read_text().splitlines()[-15:])
            sys.exit(f"{' '.join(command)}\nended with {found.code}:\n{last}")
        return found.said

    def gqs(self, work: Path, *arguments: object) -> dict[str, Any]:
        """Run a verb in a folder and return what it says as JSON."""
        said = self.python(work, ["-m", "gqs.cli", *arguments, "--json"])
        found: dict[str, Any] = json.loads(said)
        return found

    def made(self, item: str, name: str) -> Path:
        """Return what an earlier item left for later ones."""
        path = self.inputs / item / WORK / name
        if not path.exists():
            sys.exit(f"{path} is not there: record the item {item} first.")
        return path

    def frames(self, *names: str) -> list[Path]:
        """Return the folders of some real fields, or of all."""
        folder = self.real / "frames"
        return [folder / name for name in names] or sorted(folder.iterdir())


Item = Callable[[Recording, Path, Path], None]  # fills its folder, and the work folder in it


def keep_json(path: Path, values: Any) -> None:
    """Write JSON without what does not repeat."""
    path.write_text(json.dumps(steady(values), indent=1) + "\n")


def steady(values: Any) -> Any:
    """Leave out keys that are no results, and texts too long to be names."""
    if isinstance(values, dict):
        return {
            key: steady(value)
            for key, value in values.items()
            if key not in VOLATILE and not key.endswith(("_sha256", "_s"))
        }
    return [steady(value) for value in values] if isinstance(values, list) else values


def keep_table(path: Path, table: pa.Table, without: Iterable[str] = ()) -> None:
    """Write a table's columns, and no metadata."""
    names = [name for name in table.column_names if name not in set(without)]
    pq.write_table(table.select(names).replace_schema_metadata(None), path)


def keep_tensors(path: Path, source: Path) -> None:
    """Write the arrays of a safetensors file by their names."""
    tensors: dict[str, Any] = load_file(source)
    np.savez(path, **tensors)


def sha256_of(values: NDArray[Any]) -> str:
    """Hash an array's values in their order, little-endian whatever the file has."""
    plain = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(plain.tobytes()).hexdigest()


# Simulated sky


def simulated_sky(run: Recording, out: Path, work: Path) -> None:
    """Two whole fields: every pixel by hash, and the catalogue of what is on them."""
    options = ("--fields", 2, "--enriched", 300, "--seed", SEED, "--workers", 1)
    told = run.gqs(work, "simulate", "--out", "sky", *options)
    keep_json(out / "told.json", {"objects": told["objects"], "fields": told["fields"]})
    keep_table(out / "catalog.parquet", pyarrow.csv.read_csv(work / "sky" / "catalog.csv"))
    found = {path.name: frame_hashes(path) for path in sorted(work.rglob("frame-*.fits*"))}
    keep_json(out / "frames.json", found)


def frame_hashes(path: Path) -> dict[str, str]:
    """Hash a frame's header, without comments, and the data of each of its HDUs."""
    with fits.open(path) as opened:
        cards = [
            f"{card.keyword}={card.value}"
            for card in opened[0].header.cards
            if card.keyword not in ("", "COMMENT", "HISTORY", "DATE", "CHECKSUM", "DATASUM")
        ]
        found = {"header": hashlib.sha256("\n".join(cards).encode()).hexdigest()}
        for number, hdu in enumerate(opened):
            columns = hdu.data.names if isinstance(hdu, fits.BinTableHDU) else [None]
            for name in columns:
                values = np.asarray(hdu.data if name is None else hdu.data[name])
                found[f"hdu {number}" + (f" {name}" if name else "")] = sha256_of(values)
    return found


def pictures(run: Recording, out: Path, work: Path) -> None:
    """Pictures rendered straight into a store, as the paper's networks take them."""
    options = ("--objects", 450, "--form", "paper", "--seed", SEED, "--workers", 1)
    told = run.gqs(work, "simulate", "--into-store", "--out", "store", *options)
    keep_store(out, work / "store", told)


# Objects and stores


def real_objects(run: Recording, out: Path, work: Path) -> None:
    """Positions with classes on the real fields, numbered: what gqs is given, not what it finds."""
    folder = run.real / "catalogs"
    names = (f"field_{FIELD}_photo_types.csv", "spectroscopic_in_frames.csv")
    rows = [row for name in names for row in read_rows(folder / name)]
    place = ("objid", "ra", "dec", "class")
    for name, columns in (("by_name", (*place, "run", "camcol", "field")), ("by_position", place)):
        with (work / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for number, row in enumerate(rows, start=1):
                writer.writerow([{**row, "objid": number}[column] for column in columns])
    keep_table(out / "objects.parquet", pyarrow.csv.read_csv(work / "by_name.csv"))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def store_of_sky(run: Recording, out: Path, work: Path) -> None:
    """Cutouts of all that was drawn onto the simulated fields, and its division at random."""
    sky = run.made("simulated_sky", "sky")
    options = ("--catalog", sky / "catalog.csv", "--out", "store", "--workers", 1)
    keep_store(out, work / "store", run.gqs(work, "cutouts", sky / "frames", *options))
    keep_split(run, out, work, work / "store", "paper")


def store_of_real(run: Recording, out: Path, work: Path) -> None:
    """Cutouts of the real fields' objects, whose fields the catalogue names."""
    catalog = run.made("real_objects", "by_name.csv")
    options = ("--catalog", catalog, "--out", "store", "--workers", 1)
    keep_store(out, work / "store", run.gqs(work, "cutouts", *run.frames(), *options))


def pictures_of_real(run: Recording, out: Path, work: Path) -> None:
    """The same objects found by position, as pictures, cut and aligned the other way."""
    catalog = run.made("real_objects", "by_position.csv")
    options = ("--catalog", catalog, "--out", "store", "--workers", 1)
    how = ("--form", "paper", "--edge", "paper", "--star-shift")
    keep_store(out, work / "store", run.gqs(work, "cutouts", *run.frames(), *options, *how))


def split_by_field(run: Recording, out: Path, work: Path) -> None:
    """A division that keeps fields whole, with classes made equal."""
    keep_split(run, out, work, run.made("pictures", "store"), "grouped", "--balance")


def keep_split(run: Recording, out: Path, work: Path, store: Path, scheme: str, *more: str) -> None:
    """Divide a store, and keep who is where."""
    options = ("--scheme", scheme, "--out", work / "split.parquet", "--seed", SEED, *more)
    told = run.gqs(work, "split", store, *options)
    keep_json(out / "split.json", {"counts": told["counts"], "dropped": told["dropped"]})
    keep_table(out / "split.parquet", pq.read_table(work / "split.parquet"))


def keep_store(out: Path, store: Path, told: Mapping[str, Any]) -> None:
    """Keep a store's index, the hash of its images, and each image's sums to tell how far off."""
    index, images = read_store(store)
    keep_table(out / "index.parquet", index)
    np.save(out / "sums.npy", np.nansum(images, axis=(2, 3), dtype=np.float64))
    found = {
        "sha256 of images": sha256_of(images),
        "shape": list(images.shape),
        "type": str(images.dtype),
        "set aside": len(told["set_aside"]),
        "classes": told["classes"],
        "elsewhere": told["elsewhere"],
        "repeated": told["repeated"],
    }
    keep_json(out / "images.json", found)


def read_store(store: Path) -> tuple[pa.Table, NDArray[Any]]:
    """Read a store's index and its images in that order, whatever shards they lie in."""
    index = pq.read_table(store / "index.parquet")
    marks = sorted((store / "shards").glob("*.parquet"))
    images = np.concatenate([np.load(mark.with_suffix(".npy")) for mark in marks])
    objid = np.concatenate([pq.read_table(mark)["objid"].to_numpy() for mark in marks])
    order = np.argsort(objid)
    return index, images[order[np.searchsorted(objid[order], index["objid"].to_numpy())]]


# Catalogues


def catalogue(
    run: Recording,
    out: Path,
    work: Path,
    frames: Callable[[Recording], list[Path]],
    more: Callable[[Recording], tuple[object, ...]] = lambda run: (),
    name: str = "catalogue.parquet",
    engine: str = "torch",
) -> None:
    """Classify frames, and keep all columns and what was said of them."""
    options = ("--out", name, "--engine", engine, "--workers", 1)
    told = run.gqs(work, "classify", *frames(run), *options, *more(run))
    keep_json(out / "told.json", told | {"set aside": len(told["set_aside"])})
    keep_table(out / "catalogue.parquet", read_catalogue(work / name))
    if (work / "candidates.parquet").is_file():
        keep_table(out / "candidates.parquet", pq.read_table(work / "candidates.parquet"))


def read_catalogue(path: Path) -> pa.Table:
    """Read a catalogue in Parquet or FITS; of a FITS file columns alone, with native bytes."""
    if path.suffix == ".parquet":
        return pq.read_table(path)
    table = Table.read(path)
    columns = {}
    for name in table.colnames:
        values = np.ma.filled(table[name])
        text = values.dtype.kind in "SU"
        columns[name] = pa.array(
            values.astype(str) if text else values.astype(values.dtype.newbyteorder("="))
        )
    return pa.table(columns)


def whole_sky(run: Recording) -> list[Path]:
    """The frames of the simulated fields."""
    return [run.made("simulated_sky", "sky") / "frames"]


def some_bands(run: Recording) -> list[Path]:
    """Some bands alone of one simulated field."""
    first = min(whole_sky(run)[0].iterdir())
    return [path for path in sorted(first.iterdir()) if path.name[6] in "gri"]


def weighed(run: Recording) -> tuple[object, ...]:
    """Options that weigh probabilities anew, and list candidates."""
    listed = ("--candidates", "QSO", "--candidates-out", "candidates.parquet")
    return ("--prior", "sky", "--coverage", 0.95, *listed)


def real_positions(run: Recording) -> tuple[object, ...]:
    """Options that judge the real fields' objects."""
    return ("--catalog", run.made("real_objects", "by_name.csv"))


def sky_positions(run: Recording) -> tuple[object, ...]:
    """Options that judge the objects of whose cutouts each engine is asked."""
    return ("--catalog", run.made("cutouts", "positions.csv"))


def survey(run: Recording, out: Path, work: Path) -> None:
    """A survey on Dask: a real field, and a simulated one in two halves that overlap."""
    halves = overlapping_halves(min(whole_sky(run)[0].iterdir()), work / "frames")
    frames = (*run.frames(FIELD), *halves)
    told = run.gqs(work, "classify", *frames, "--out", "survey", "--engine", "torch")
    kept = ("objects", "rows", "fields", "by_class", "fields_missing_bands")
    keep_json(out / "told.json", {key: told[key] for key in kept})
    parts = sorted((work / "survey" / "objects").rglob("*.parquet"))
    keep_table(out / "rows.parquet", pa.concat_tables([pq.read_table(path) for path in parts]))
    # Left out: a sentence, where files lie, tries, time, and what a date in a file changes.
    passing = ("reason", "part", "sha256", "tries", "bytes", "cpu_s")
    manifest = pq.read_table(work / "survey" / "manifest.parquet")
    keep_table(out / "manifest.parquet", manifest, without=passing)


def overlapping_halves(source: Path, out: Path) -> list[Path]:
    """Cut a field's columns into two fields that share 348 of them."""
    folders = []
    for number, (first, last) in ((1000, (0, 1198)), (1001, (850, 2048))):
        folder = out / str(number)
        folder.mkdir(parents=True)
        for path in sorted(source.iterdir()):
            with fits.open(path) as opened:
                header = opened[0].header.copy()
                data = np.ascontiguousarray(opened[0].data[:, first:last])
            own = int(path.name.split(".")[0].split("-")[-1])
            header["CRPIX1"] -= first
            header["ORIGIN"] = "cut"  # one HDU: no camera's counts can be rebuilt
            header["FRAME"] += number - own
            name = path.name.split(".")[0].removesuffix(f"{own:04d}") + f"{number:04d}.fits"
            fits.PrimaryHDU(data, header).writeto(folder / name)
        folders.append(folder)
    return folders


# Cutouts and engines


def cutouts(run: Recording, out: Path, work: Path) -> None:
    """Cutouts out of the simulated fields' store, some of them harmed: what engines are given."""
    index, images = read_store(run.made("store_of_sky", "store"))
    rows = np.linspace(0, len(images) - 1, CUTOUTS).astype(int)
    flux = images[rows]
    seeing = np.stack([index[f"seeing_{band}"].to_numpy()[rows] for band in BANDS], axis=1)
    some, r = len(flux) - HARMED, BANDS.index("r")
    flux[some : some + 8, r, 24:27, 24:27] = np.nan  # cannot be judged
    flux[some + 8 : some + 16, :, :, :20] = np.nan
    flux[some + 16 : some + 24, 0] = np.nan
    flux[some + 24 : some + 32, :, :3] = np.inf
    seeing[some + 32 :] = np.nan
    np.save(out / "flux.npy", flux)
    np.save(out / "seeing.npy", seeing)
    np.save(out / "mag_r.npy", index["r"].to_numpy()[rows])
    pyarrow.csv.write_csv(index.select(["objid", "ra", "dec"]).take(rows), work / "positions.csv")


def judged(run: Recording, out: Path, work: Path, engine: str) -> None:
    """Probabilities of the same cutouts with one engine and all sets of bands, from Python."""
    given = run.inputs / "cutouts"
    run.python(work, [Path(__file__).resolve(), "judge", given, out, "--engine", engine])


def judge(given: Path, out: Path, engine: str) -> None:
    """In a process on the source tree: what `judged` records."""
    import gqs

    flux, seeing, mag_r = (np.load(given / f"{key}.npy") for key in ("flux", "seeing", "mag_r"))
    classifier = gqs.load_classifier(None, engine=engine)
    for bands in BAND_SETS:
        at = [BANDS.index(band) for band in bands]
        told = seeing[:, at]
        np.save(out / f"{bands}.npy", classifier.predict_cutouts(flux[:, at], bands, seeing=told))
    np.save(out / "no_seeing.npy", classifier.predict_cutouts(flux, BANDS))
    found = classifier.predict_cutouts(flux, bands=BANDS, mag_r=mag_r, seeing=seeing)
    np.save(out / "told_mag_r.npy", found)


# Learning


def trained(
    run: Recording, out: Path, work: Path, store: str, split: str, network: str, recipe: str
) -> None:
    """Two epochs in fp32 on one thread: weights, and all else that the model folder tells."""
    options: list[object] = ["--network", network, "--recipe", recipe, "--epochs", 2]
    options += ["--precision", "fp32", "--device", "cpu", "--threads", 1, "--seed", SEED]
    options += ["--out", "model", "--split", run.made(split, "split.parquet")]
    told = run.gqs(work, "train", run.made(store, "store"), *options)
    keep_json(out / "told.json", told["validation"])
    keep_model(out, work / "model")


def keep_model(out: Path, model: Path) -> None:
    """Keep a model folder's arrays and tables, and what its card says was found."""
    for path in sorted(model.glob("*.safetensors")):
        keep_tensors(out / f"{path.stem}.npz", path)
    for path in sorted(model.glob("*.parquet")):
        keep_table(out / path.name, pq.read_table(path))
    if (model / "history.csv").is_file():
        history = pyarrow.csv.read_csv(model / "history.csv")
        keep_table(out / "history.parquet", history, without=("seconds", "waiting"))
    card = json.loads((model / "model.json").read_text())
    kept = ("network", "arguments", "bands", "form", "stretch", "classes", "metrics", "calibration")
    keep_json(out / "card.json", {key: card[key] for key in kept})


def evaluated(
    run: Recording, out: Path, work: Path, model: Callable[[Recording], object], *more: str
) -> None:
    """The numbers of a report on the test side of the simulated fields' store."""
    split = run.made("store_of_sky", "split.parquet")
    options = ("--split", split, "--out", "report", "--seed", SEED, *more)
    run.gqs(work, "evaluate", model(run), run.made("store_of_sky", "store"), *options)
    found = json.loads((work / "report" / "metrics.json").read_text())
    keep_json(out / "metrics.json", found)
    keep_table(out / "predictions.parquet", pq.read_table(work / "report" / "predictions.parquet"))


def calibrated(run: Recording, out: Path, work: Path) -> None:
    """The package's model calibrated anew on the simulated fields' test side."""
    split = run.made("store_of_sky", "split.parquet")
    options = ("--split", split, "--side", "test", "--device", "cpu", "--out", "model")
    run.gqs(work, "calibrate", "package", run.made("store_of_sky", "store"), *options)
    card = json.loads((work / "model" / "model.json").read_text())
    keep_json(out / "calibration.json", card["calibration"])
    keep_table(out / "held_out.parquet", pq.read_table(work / "model" / "held_out.parquet"))


def reproduced(run: Recording, out: Path, work: Path) -> None:
    """The paper's tables of two small networks and two seeds: every number but those of time."""
    options: list[object] = ["--networks", "resnet18_eca,mobilenet_v2", "--seeds", "1,2"]
    options += ["--limit", 120, "--epochs", 1, "--batch", 32, "--precision", "fp32"]
    options += ["--device", "cpu", "--threads", 1, "--jobs", 1, "--seed", SEED, "--out", "paper"]
    run.gqs(work, "reproduce", run.made("pictures", "store"), *options)
    keep_json(out / "results.json", json.loads((work / "paper" / "results.json").read_text()))
    kept = ("split", "network", "seed", "parameters", "multiply_adds")
    costs = json.loads((work / "paper" / "costs.json").read_text())
    keep_json(out / "costs.json", [{key: cost[key] for key in kept} for cost in costs])


def compact_model(run: Recording) -> object:
    """The small network that was trained here."""
    return run.made("trained_compact", "model")


# In the order in which they need each other.
ITEMS: Final[dict[str, Item]] = {
    "simulated_sky": simulated_sky,
    "pictures": pictures,
    "real_objects": real_objects,
    "store_of_sky": store_of_sky,
    "store_of_real": store_of_real,
    "pictures_of_real": pictures_of_real,
    "split_by_field": split_by_field,
    "cutouts": cutouts,
    **{f"judged_{engine}": partial(judged, engine=engine) for engine in ENGINES},
    "one_field": partial(catalogue, frames=lambda run: run.frames(FIELD), name="one.fits"),
    "real_fields": partial(catalogue, frames=lambda run: run.frames()),
    "real_fields_weighed": partial(catalogue, frames=lambda run: run.frames(), more=weighed),
    "real_positions": partial(catalogue, frames=lambda run: run.frames(), more=real_positions),
    "sky_fields": partial(catalogue, frames=whole_sky),
    "sky_fields_weighed": partial(catalogue, frames=whole_sky, more=weighed),
    "sky_some_bands": partial(catalogue, frames=some_bands),
    # The distance from all that was learned is told by catalogues alone: here, by engine.
    **{
        f"sky_positions_{engine}": partial(
            catalogue, frames=whole_sky, more=sky_positions, engine=engine
        )
        for engine in ENGINES
    },
    "survey": survey,
    "trained_compact": partial(
        trained, store="store_of_sky", split="store_of_sky", network="compact", recipe="demo"
    ),
    "trained_resnet": partial(
        trained, store="pictures", split="split_by_field", network="resnet18_se", recipe="paper"
    ),
    "evaluated_compact": partial(evaluated, model=compact_model),
    "evaluated_package": lambda run, out, work: evaluated(
        run, out, work, lambda run: "package", "--no-trees"
    ),
    "calibrated": calibrated,
    "reproduced": reproduced,
}


def record(out: Path, source: Path, inputs: Path | None, commit: str, only: list[str]) -> None:
    """Record what a source tree's gqs gives."""
    real = os.environ.get("GQS_REAL_DATA")
    if not real or not Path(real).is_dir():
        sys.exit("GQS_REAL_DATA names no folder: the record needs real SDSS frames.")
    if unknown := set(only) - set(ITEMS):
        sys.exit(f"There is no item {', '.join(sorted(unknown))}. There are {', '.join(ITEMS)}.")
    run = Recording(out, inputs or out, source, Path(real))
    out.mkdir(parents=True, exist_ok=True)
    note_origin(run, commit)
    for name, item in ITEMS.items():
        folder = out / name
        if (only and name not in only) or (folder / DONE).is_file():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        (folder / WORK).mkdir(parents=True)
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        item(run, folder, folder / WORK)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        took = {"cpu_s": round(cpu, 1), "wall_s": round(time.monotonic() - begin, 1)}
        (folder / DONE).write_text(json.dumps(took) + "\n")
        print(f"{name:<24} {took['cpu_s']:7.1f} CPU s {took['wall_s']:7.1f} s", flush=True)


def note_origin(run: Recording, commit: str) -> None:
    """Write where a record comes from; refuse to go on with that of another source."""
    first = "import gqs; print(gqs.__file__)"
    with tempfile.TemporaryDirectory() as folder:
        package = Path(run.python(Path(folder), ["-c", first]).strip())
    if run.source not in package.parents:
        sys.exit(f"{package} would be recorded, which is not of {run.source}.")
    origin = {
        "commit": commit,
        "source": str(run.source),
        "inputs": None if run.inputs == run.out else str(run.inputs),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "libraries": {library: version(library) for library in LIBRARIES},
    }
    path = run.out / ORIGIN
    if path.is_file() and json.loads(path.read_text()) != origin:
        sys.exit(
            f"{path} tells of another source, commit, inputs or libraries. Begin a new record."
        )
    path.write_text(json.dumps(origin, indent=1) + "\n")


# ------------------------------------------------------------------------------------- comparing


@dataclass
class Found:
    """How two files differ."""

    equal: bool = True  # to the bit
    largest: float = 0.0  # difference of numbers
    where: str = ""
    wrong: list[str] = field(default_factory=list)  # what no tolerance is for

    @property
    def good(self) -> bool:
        """Whether all differences may be."""
        return not self.wrong and self.largest <= TOLERANCE

    def __str__(self) -> str:
        if self.equal and not self.wrong:
            return "equal to the bit"
        told = [f"largest difference {self.largest:.2g} ({self.where})"] if self.where else []
        told += [*self.wrong[:4], *([f"{len(self.wrong) - 4} more"] if self.wrong[4:] else [])]
        return ("" if self.good else "DIFFERS: ") + "; ".join(told)


def compare(old: Path, new: Path, only: list[str]) -> int:
    """Print how two records differ; return 1 where they differ by more than they may."""
    for folder in (old, new):
        origin = json.loads((folder / ORIGIN).read_text())
        given = f" on the inputs of {origin['inputs']}" if origin["inputs"] else ""
        print(f"{folder}: commit {origin['commit']}, Python {origin['python']}{given}")
    results = []
    recorded = {path.parent.name for folder in (old, new) for path in folder.glob(f"*/{DONE}")}
    names = [name for name in ITEMS if name in recorded] + sorted(recorded - set(ITEMS))
    for name in only or names:
        files = sorted(results_of(old / name) | results_of(new / name))
        for file in files:
            found = compare_files(old / name / file, new / name / file)
            results.append(found)
            print(f"{name + '/' + file:<42} {found}")
    equal = sum(found.equal and not found.wrong for found in results)
    bad = sum(not found.good for found in results)
    near = len(results) - equal - bad
    print(
        f"{len(results)} files: {equal} equal to the bit, {near} within {TOLERANCE:g}, {bad} not."
    )
    return 1 if bad or not results else 0


def results_of(folder: Path) -> set[str]:
    """Names of what an item recorded; none where it is not done."""
    if not (folder / DONE).is_file():
        return set()
    return {path.name for path in folder.iterdir() if path.is_file() and path.name != DONE}


def compare_files(old: Path, new: Path) -> Found:
    """Compare two files of a record, name by name."""
    found = Found()
    for path, other in ((old, new), (new, old)):
        if not path.is_file():
            found.wrong.append(f"only in {other.parent.parent.name}")
            return found
    before, after = contents(old), contents(new)
    for one, another, which in ((before, after, "old"), (after, before, "new")):
        if lacking := [name for name in one if name not in another]:
            shown = ", ".join(lacking[:5]) + (" ..." if lacking[5:] else "")
            found.wrong.append(f"{len(lacking)} only in the {which}: {shown}")
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before] and old.suffix == ".parquet":
        found.wrong.append("columns in another order")
    for name in common:
        compare_values(name, before[name], after[name], found)
    return found


def contents(path: Path) -> dict[str, NDArray[Any]]:
    """Read a file of a record as arrays by name."""
    if path.suffix == ".npy":
        return {path.stem: np.load(path)}
    if path.suffix == ".npz":
        with np.load(path) as opened:
            return dict(opened)
    if path.suffix == ".json":
        return leaves(json.loads(path.read_text()))
    table = pq.read_table(path)
    found: dict[str, NDArray[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            found[name] = column.fill_null(0).to_numpy()
        else:
            found[name] = np.array([str(value) for value in column.to_pylist()])
        if column.null_count:
            found[f"{name} is missing"] = column.is_null().to_numpy()
    return found


def leaves(values: Any, at: str = "") -> dict[str, NDArray[Any]]:
    """Return the numbers and texts of nested JSON by their paths."""
    if isinstance(values, dict | list) and values:
        pairs = values.items() if isinstance(values, dict) else enumerate(values)
        found: dict[str, NDArray[Any]] = {}
        for key, value in pairs:
            found |= leaves(value, f"{at}.{key}" if at else str(key))
        return found
    plain = isinstance(values, int | float) and not isinstance(values, bool)
    return {at: np.asarray(values if plain else json.dumps(values))}


def compare_values(name: str, old: NDArray[Any], new: NDArray[Any], found: Found) -> None:
    """Compare two arrays, and add to what was found."""
    if old.shape != new.shape:
        found.wrong.append(f"{name}: shape {old.shape} against {new.shape}")
        return
    kinds = {old.dtype.kind, new.dtype.kind}
    if kinds != {"U"} and old.dtype != new.dtype:
        found.wrong.append(f"{name}: {old.dtype} against {new.dtype}")
        return
    if kinds != {"f"}:
        if count := np.count_nonzero(old != new):
            one = (
                f": {old} against {new}" if old.ndim == 0 else f" differs in {count} of {old.size}"
            )
            found.wrong.append(f"{name}{one}")
        return
    if (count := np.count_nonzero(np.isnan(old) != np.isnan(new))) != 0:
        found.wrong.append(f"{name}: {count} of {old.size} are NaN in one alone")
    there = ~(np.isnan(old) | np.isnan(new))
    old, new = old[there], new[there]
    if old.tobytes() == new.tobytes():
        return
    found.equal = False
    same = old == new  # infinite ones too
    with np.errstate(invalid="ignore"):
        apart = np.abs(old.astype(np.float64) - new)
        if old.dtype == np.float32:
            apart /= np.maximum(1.0, np.abs(old))
    largest = float(np.where(same, 0.0, np.nan_to_num(apart, nan=np.inf)).max())
    if largest >= found.largest:
        found.largest, found.where = largest, name


# ----------------------------------------------------------------------------------------- speed


def speed(path: Path, source: Path, commit: str, repeats: int) -> None:
    """Write what the first catalogue of a real field takes, with default options.

    Twice over: with an empty cache, so that the model's graph is drawn and every engine tried, and
    with the cache that this left. All processes are counted, those also that outlive the command.
    The package is copied and compiled first, as where it is installed.
    """
    with tempfile.TemporaryDirectory(prefix="gqs-speed-") as folder:
        shutil.copytree(source / "gqs", Path(folder) / "gqs")
        compileall.compile_dir(folder, quiet=1)
        found = {"commit": commit} | first_catalogue(Path(folder), repeats)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.read_text(), end="")


def first_catalogue(source: Path, repeats: int) -> dict[str, Any]:
    """Seconds of the catalogue, by the state of the cache."""
    frames = Path(os.environ["GQS_REAL_DATA"]) / "frames" / FIELD
    command = [sys.executable, "-m", "gqs.cli", "classify", str(frames), "--out", "x.fits"]
    found: dict[str, Any] = {"field": FIELD, "cores": os.cpu_count()}
    cache = source / "cache"
    for kind in ("fresh cache", "warm cache"):
        runs = []
        for number in range(repeats):
            if kind == "fresh cache":
                shutil.rmtree(cache, ignore_errors=True)
            work = source / kind / str(number)
            work.mkdir(parents=True)
            environment = clean_environment(source, cache)
            one = ran([*command, "--json"], work, environment, work / "errors.log")
            if one.code != 0:
                sys.exit((work / "errors.log").read_text())
            took = {"cpu_s": round(one.cpu_s, 2), "wall_s": round(one.wall_s, 2)}
            runs.append(took | {"engine": json.loads(one.said)["engine"]})
        found[kind] = {
            "median_cpu_s": statistics.median(run["cpu_s"] for run in runs),
            "median_wall_s": statistics.median(run["wall_s"] for run in runs),
            "runs": runs,
        }
    return found


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("record", "speed"):
        added = verbs.add_parser(verb)
        added.add_argument("out", type=Path)
        added.add_argument("--source", type=Path, required=True, help="tree that holds gqs")
        added.add_argument("--commit", default="unknown", help="of the source, noted")
        if verb == "record":
            added.add_argument("--inputs", type=Path, help="record whose frames, stores ... to use")
            added.add_argument("--only", nargs="+", default=[], help="items")
        else:
            added.add_argument("--repeats", type=int, default=3)
    compared = verbs.add_parser("compare")
    compared.add_argument("old", type=Path)
    compared.add_argument("new", type=Path)
    compared.add_argument("--only", nargs="+", default=[], help="items")
    judging = verbs.add_parser("judge", help="used by record")
    judging.add_argument("given", type=Path)
    judging.add_argument("out", type=Path)
    judging.add_argument("--engine", required=True)
    told = parser.parse_args()
    adopt_orphans()
    if told.verb == "compare":
        return compare(told.old, told.new, told.only)
    if told.verb == "judge":
        judge(told.given, told.out, told.engine)
        return 0
    source, out = told.source.resolve(), told.out.resolve()
    if told.verb == "speed":
        speed(out, source, told.commit, told.repeats)
        return 0
    record(out, source, told.inputs and told.inputs.resolve(), told.commit, told.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
