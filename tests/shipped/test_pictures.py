"""Pictures of a store show the same objects: as the paper's 8 bits, and as planes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

import pictures
from gqs.cutouts.shards import write_shard
from gqs.cutouts.store import CutoutStore, StoreWriter
from gqs.imaging.composite import PICTURE_BANDS, colour_cutouts
from gqs.surveys.sdss import BANDS, SKY_NOISE


def _store(path: Path) -> CutoutStore:
    rng = np.random.default_rng(4)
    with StoreWriter(path, BANDS, "flux", "pad", {"seed": 4}) as writer:
        for number, n in enumerate((3, 2)):
            images = rng.normal(0, 0.03, (n, 5, 50, 50)).astype(np.float32)
            images[:, :, 20:30, 22:27] += rng.uniform(0.2, 5, (n, 5, 1, 1)).astype(np.float32)
            images[0, 2, :7] = np.nan
            rows = Table({"objid": np.arange(n, dtype=np.uint64) + 10 * number + 1})
            rows["ra"], rows["dec"] = np.arange(n) + 10.0, np.full(n, 2.5)
            rows["class"] = "STAR"
            for name in ("x", "y", "run", "camcol", "field", "flags"):
                rows[name] = np.int32(number)
            write_shard(path, f"part-{number}", images, rows, str(number))
        return writer.finish(["part-0", "part-1"])


def test_both_forms_show_the_same_picture_and_a_rerun_changes_nothing(tmp_path: Path) -> None:
    store = _store(tmp_path / "flux")
    for name, form in pictures.FORMS.items():
        pictures.convert(store, tmp_path / name, form)
    paper, planes = (CutoutStore.open(tmp_path / name) for name in pictures.FORMS)
    every = np.arange(5)
    colours = colour_cutouts(np.nan_to_num(store.images(every)), BANDS)
    assert np.array_equal(paper.images(every), colours)
    assert paper.index["objid"].tolist() == store.index["objid"].tolist()
    for i, band in enumerate(pictures.BANDS):
        plane = planes.images(every)[:, i] / SKY_NOISE[band]
        assert np.allclose(plane, colours[:, PICTURE_BANDS.index(band)], atol=1e-3)
    before = paper.hash
    pictures.convert(store, tmp_path / "paper", "paper")
    assert CutoutStore.open(tmp_path / "paper").hash == before
