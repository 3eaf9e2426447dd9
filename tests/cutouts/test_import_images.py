"""Labelled images of any survey become a store; what cannot be used is named with its reason."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from gqs.cutouts.image_files import find_images, image_set
from gqs.cutouts.import_images import ImportOptions, import_images
from gqs.cutouts.split import check_split, make_split
from gqs.cutouts.store import CutoutStore
from gqs.errors import BadInputError, UsageError
from gqs.surveys.sdss import SKY_NOISE


def stars(n: int, shape: tuple[int, int] = (64, 60), noise: float = 5.0, seed: int = 1):
    """Counts with a Gaussian of 10,000 counts at the centre of each image, and their classes."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape)
    width = np.where(np.arange(n) % 3 == 0, 3.0, 1.5)[:, None, None]
    spot = np.exp(-(y[:, None] ** 2 + x**2) / (2 * width**2)) / (2 * np.pi * width**2)
    images = 1e4 * spot + 100 + noise * rng.normal(size=(n, *shape))
    return images.astype(np.float32), np.where(np.arange(n) % 3 == 0, "GALAXY", "STAR")


def test_arrays_become_their_centres_in_sky_noises_with_groups_that_do_not_leak(tmp_path: Path):
    images, classes = stars(60)
    images[7] = images[5]  # a copy that could leak
    groups = np.array([f"night {row // 5}" for row in range(60)])
    store = CutoutStore.from_arrays(tmp_path / "store", images, classes, groups=groups)
    assert (store.bands, store.form, len(store)) == ("A", "flux", 59)
    assert "image 8: has the same pixels as image 6" in store.manifest["set_aside"][0]
    found, scale = store.images([0])[0, 0], store.manifest["made"]["scale"]["A"]
    np.testing.assert_allclose(found, images[0, 7:57, 5:55] * scale, rtol=1e-6)
    assert scale * 5.0 == pytest.approx(SKY_NOISE["r"], rel=0.1)
    split = make_split(store.index, "grouped", "field", seed=2)
    check_split(split, store.index)
    sides = dict(zip(split["objid"], split["split"], strict=True))
    for name in set(groups):
        rows = store.index[store.index["group"] == name]
        assert len({sides[objid] for objid in rows["objid"]}) == 1
    # The same images have the same identifiers in another store, so that leaks are seen.
    again = CutoutStore.from_arrays(tmp_path / "again", images[:9], classes[:9])
    assert set(np.asarray(again.index["objid"])) <= set(np.asarray(store.index["objid"]))


def test_sdss_bands_become_nanomaggies_and_others_do_not(tmp_path: Path):
    images, classes = stars(6)
    two = np.stack([images, 2 * images], axis=1)
    store = CutoutStore.from_arrays(tmp_path / "s", two, classes, bands="rg", zero_point=25.0)
    np.testing.assert_allclose(store.images([1])[0, 0], two[1, 1, 7:57, 5:55] / 10, rtol=1e-6)
    assert store.bands == "gr"
    with pytest.raises(UsageError, match="need a zero point"):
        CutoutStore.from_arrays(tmp_path / "t", two, classes, bands="gr")
    with pytest.raises(UsageError, match="zero point is for SDSS's bands"):
        CutoutStore.from_arrays(tmp_path / "t", two, classes, bands="AB", zero_point=25.0)
    with pytest.raises(UsageError, match="6 images, but 5 labels"):
        CutoutStore.from_arrays(tmp_path / "t", two, classes[:5])


def folder_of_classes(folder: Path) -> None:
    """Usable images in every format, and others that are not."""
    images, _ = stars(12, (55, 61))
    grey = np.clip(images / images.max() * 255, 0, 255).astype(np.uint8)
    for name in ("star", "WD", "galaxy", "comet"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(grey[0]).save(folder / "galaxy" / "a.png")
    Image.fromarray(np.stack([grey[1]] * 3, axis=-1)).save(folder / "star" / "b.png")
    Image.fromarray(grey[2]).save(folder / "star" / "c.tif")
    Image.fromarray(grey[3]).save(folder / "WD" / "d.jpg")
    np.save(folder / "star" / "e.npy", grey[4])
    fits.writeto(folder / "star" / "f.fits", grey[5])
    Image.fromarray(grey[6]).save(folder / "comet" / "g.png")
    np.save(folder / "star" / "h.npy", images[6])
    np.save(folder / "star" / "i.npy", np.array([{}], dtype=object))
    (folder / "star" / "j.png").write_bytes(b"<html>not found</html>")
    Image.fromarray(np.zeros((600, 40), np.uint8)).save(folder / "star" / "k.png")
    Image.fromarray(np.full((50, 50), 9, np.uint8)).save(folder / "star" / "l.png")
    (folder / "star" / "m.npy").write_bytes((folder / "star" / "e.npy").read_bytes()[:200])


def test_a_folder_for_each_class_in_every_format(tmp_path: Path):
    folder_of_classes(tmp_path / "images")
    options = ImportOptions(classes={"WD": "STAR"})
    report = import_images([tmp_path / "images"], None, tmp_path / "store", options)
    store = CutoutStore.open(tmp_path / "store")
    assert store.form == "paper"
    assert report.classes == {"GALAXY": 1, "STAR": 5}
    assert report.exit_code == 3
    reasons = {name: text for text in report.set_aside for name in "ghijklm" if f"{name}." in text}
    assert len(report.set_aside) == len(reasons) == 7
    for name, reason in {
        "g": "'comet' is none of",
        "h": "8-bit",
        "i": "Python objects",
        "j": "readable picture",
        "k": "40 x 600",
        "l": "all pixels are equal",
        "m": "readable .npy",
    }.items():
        assert reason in reasons[name]
    row = np.flatnonzero(store.index["name"] == "star/f.fits")[0]
    assert store.images([row]).shape == (1, 3, 50, 50)


def test_labels_are_joined_by_name_and_columns_lie_beside_arrays(tmp_path: Path):
    images, classes = stars(5, (40, 70))
    for row, image in enumerate(images):
        np.save(tmp_path / f"{row}.npy", image)
    table = Table({"file": ["3", "1.npy", "0.npy", "0.npy"], "label": ["GALAXY"] * 4})
    table["ra"], table["dec"], table["redshift"] = [10.0, 20.0, 5, 6], [1.0, 2.0, 3, 4], [0.1] * 4
    report = import_images([tmp_path], table, tmp_path / "s" / "store")
    store = CutoutStore.open(tmp_path / "s" / "store")
    assert store.index["name"].tolist() == ["1.npy", "3.npy"]
    assert store.index["ra"].tolist() == [20.0, 10.0]
    assert {text.split(":")[0] for text in report.set_aside} == {"0.npy", "2.npy", "4.npy"}
    padded = store.images([0])[0, 0]
    assert np.isnan(padded[:5]).all() and np.isnan(padded[45:]).all()
    assert np.isfinite(padded[5:45]).all()
    np.savez(tmp_path / "all.npz", images=images, label=classes, night=np.arange(5) // 2)
    report = import_images(
        [tmp_path / "all.npz"], None, tmp_path / "npz", ImportOptions(group="night")
    )
    index = CutoutStore.open(tmp_path / "npz").index
    assert index["field"].tolist() == [1, 1, 2, 2, 3]
    with pytest.raises(UsageError, match=r"no column 'field'.*--group"):
        import_images([tmp_path / "all.npz"], None, tmp_path / "no", ImportOptions(group="field"))


def test_resampling_conserves_flux_and_the_centre(tmp_path: Path):
    images, classes = stars(3, (161, 140), noise=0.01)
    options = ImportOptions(bands="r", zero_point=22.5, pixel_scale=0.198)
    table = Table({"class": classes})
    store = CutoutStore.open(
        Path(import_images(image_set(images - 100), table, tmp_path / "s", options).store)
    )
    y, x = np.mgrid[:50, :50]
    for cutout in store.images([0, 1, 2])[:, 0]:
        assert cutout.sum() == pytest.approx(1e4, rel=0.01)
        assert (cutout * x).sum() / cutout.sum() == pytest.approx(24.5, abs=0.05)
        assert (cutout * y).sum() / cutout.sum() == pytest.approx(24.5, abs=0.05)
    small, classes = stars(3, (20, 24), noise=0.01)
    with pytest.raises(BadInputError, match="--pixel-scale to enlarge"):
        CutoutStore.from_arrays(tmp_path / "small", small, classes)
    import_images(
        image_set(small), Table({"class": classes}), tmp_path / "t", ImportOptions(pixel_scale=1.0)
    )


def test_a_huge_array_is_refused_before_memory_is_taken(tmp_path: Path):
    with (tmp_path / "bomb.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (100_000, 1000, 1000)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(BadInputError, match="MiB"):
        find_images([tmp_path / "bomb.npy"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of pictures that it regards as bombs
        Image.fromarray(np.zeros((20_000, 10_000), np.uint8)).save(tmp_path / "bomb.png")
    with pytest.raises(BadInputError, match="no image can be read"):
        import_images(
            [tmp_path / "bomb.png"], Table({"name": ["bomb"], "class": ["STAR"]}), tmp_path / "s"
        )
