"""Make the paper's 8-bit pictures of the very objects that the package's model learns from.

    python shipped/pictures.py build/shipped build/pictures

Writes two stores with the same objects and the same split: `paper` for the paper's networks, and
`planes` for the package's own, which takes flux and masks: its flux in units of the sky noise is
the picture's number, 0 to 255. What a network loses on them it loses by the picture. A rerun
continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np

from gqs import files, tables
from gqs.cli.progress import progress_bar
from gqs.cutouts.shards import committed, rows_hash, write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.imaging.composite import PICTURE_BANDS, colour_cutouts
from gqs.surveys.sdss import SKY_NOISE

BANDS: Final = "gri"
FORMS: Final = {"paper": "paper", "planes": "flux"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, help="as make.py wrote it")
    parser.add_argument("out", type=Path, help="folder of the two stores")
    options = parser.parse_args()
    store = CutoutStore.open(options.store)
    for name, form in FORMS.items():
        convert(store, options.out / name, form)
        for part in ("split", "members"):
            known = tables.read(options.store / f"{part}.parquet")
            if part == "split":
                known.meta["store"] = CutoutStore.open(options.out / name).hash
            tables.write(known, options.out / name / f"{part}.parquet")


def convert(store: CutoutStore, out: Path, form: str) -> None:
    """Write a store of pictures, shard by shard."""
    made = {"from": "shipped/pictures.py", "store": store.hash}
    shard = np.asarray(store.index["shard"])
    names = [one["name"] for one in store.manifest["shards"]]
    with StoreWriter(out, BANDS, form, "pad", made) as writer, progress_bar("pictures") as progress:
        for number, name in enumerate(names):
            rows = np.flatnonzero(shard == number)
            index = store.index[rows]
            index.remove_columns(["shard", "row"])
            source = files.hash_of([store.hash, name, form, rows_hash(index)])
            if committed(out, name, source) is None:
                write_shard(out, name, pictures(store.images(rows), form), index, source)
            progress(number + 1, len(names), "shards")
        writer.finish(names)


def pictures(images: np.ndarray, form: str) -> np.ndarray:
    """Turn (n, 5, 50, 50) nanomaggies into (n, 3, 50, 50) pictures; masked pixels are black."""
    colours = colour_cutouts(np.nan_to_num(images), "ugriz")
    if form == "paper":
        return colours
    planes = [
        colours[:, PICTURE_BANDS.index(band)].astype(np.float32) * SKY_NOISE[band] for band in BANDS
    ]
    return np.stack(planes, axis=1)


if __name__ == "__main__":
    main()
