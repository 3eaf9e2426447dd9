"""One way from frames to cutouts: training sets and classification get the same arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from gqs import tables
from gqs.cutouts.build import build_from_frames
from gqs.cutouts.field import STEPS, CutoutSpec, checked_positions, cut_field
from gqs.cutouts.store import CutoutStore
from gqs.errors import BadInputError, UsageError
from gqs.tables import Flag

SPECS = [
    CutoutSpec("ugriz", "flux"),
    CutoutSpec("gri", "flux", edge="paper", star_shift=True),
    CutoutSpec("gri", "paper", edge="paper"),
]


def compare_both_uses(
    frames: dict[str, Path], catalog: Path, spec: CutoutSpec, out: Path
) -> tuple[CutoutStore, Table]:
    """Build a store and cut for classification from the same frames; every array must agree."""
    build_from_frames(
        frames.values(), catalog, out, spec.bands, spec.form, spec.edge, 1,
        star_shift=spec.star_shift,
    )  # fmt: skip
    store = CutoutStore.open(out)
    cutouts = cut_field(frames, spec, tables.read(catalog))
    kept = cutouts.select(cutouts.usable)
    objects, index = kept.objects, store.index
    for name in ("objid", "ra", "dec", "x", "y", "run", "camcol", "field"):
        np.testing.assert_array_equal(np.asarray(index[name]), np.asarray(objects[name]))
    images = store.images(np.arange(len(store)))
    if spec.form == "paper":
        np.testing.assert_array_equal(images, kept.images)
    for i, band in enumerate(spec.bands):
        if band in kept.bands:
            j = kept.bands.index(band)
            np.testing.assert_array_equal(index[f"seeing_{band}"], kept.seeing[:, j])
            if spec.form == "flux":
                np.testing.assert_array_equal(images[:, i], kept.images[:, j])
        else:
            assert np.isnan(images[:, i]).all()
    np.testing.assert_array_equal(np.asarray(index["flags"]), kept.cut_flags)
    if spec.form == "flux":  # detection adds flags, and takes none away
        assert ((kept.flags & kept.cut_flags) == kept.cut_flags).all()
    return store, cutouts.objects


@pytest.fixture
def field(tmp_path: Path, three_fields: tuple[Any, ...]) -> tuple[dict[str, Path], Path]:
    """A small field's frames by band, and its catalogue."""
    drawn = three_fields[0]
    frames = dict(zip("ugriz", drawn.write(tmp_path / "frames"), strict=True))
    return frames, tables.write(drawn.catalog(), tmp_path / "catalog.csv")


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_training_and_classification_get_the_same_arrays(
    field: tuple[dict[str, Path], Path], spec: CutoutSpec, tmp_path: Path
) -> None:
    store, objects = compare_both_uses(*field, spec, tmp_path / "store")
    assert len(store) == len(objects) == 12
    assert np.isfinite(np.asarray(objects["mag_r"])).all()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_training_and_classification_get_the_same_arrays_of_a_real_field(
    real_data: Path, spec: CutoutSpec, tmp_path: Path
) -> None:
    name = "003918-3-0213"
    positions = tables.read(real_data / "catalogs" / f"field_{name}_photo_types.csv")[::4]
    positions["objid"] = np.arange(1, len(positions) + 1)
    catalog = tables.write(positions, tmp_path / "catalog.csv")
    folder = real_data / "frames" / name
    frames = {path.name[6]: path for path in sorted(folder.glob("frame-*.fits.bz2"))}
    store, _ = compare_both_uses(frames, catalog, spec, tmp_path / "store")
    assert len(store) > 100


def make_flat(path: Path) -> None:
    with fits.open(path) as opened:
        opened[0].data[:] = 0.25
        opened.writeto(path, overwrite=True)


def test_a_band_without_signal_is_missing_and_flagged_in_both_uses(
    field: tuple[dict[str, Path], Path], tmp_path: Path
) -> None:
    frames, catalog = field
    make_flat(frames["u"])
    spec = CutoutSpec("ugriz", "flux")
    store, _ = compare_both_uses(frames, catalog, spec, tmp_path / "store")
    assert (np.asarray(store.index["flags"]) & int(Flag.MISSING_BAND) > 0).all()
    assert any("frame-u" in sentence for sentence in store.manifest["set_aside"])
    cutouts = cut_field(frames, spec, tables.read(catalog))
    assert (cutouts.bands, cutouts.blank) == ("griz", "u")
    assert (cutouts.flags & int(Flag.MISSING_BAND) > 0).all()
    assert cutouts.usable.all()


def test_an_r_band_without_signal_is_refused_in_both_uses(
    field: tuple[dict[str, Path], Path], tmp_path: Path
) -> None:
    frames, catalog = field
    make_flat(frames["r"])
    with pytest.raises(BadInputError, match="frame-r"):
        cut_field(frames, CutoutSpec("ugriz", "flux"), tables.read(catalog))
    with pytest.raises(BadInputError, match="frame-r"):
        build_from_frames(frames.values(), catalog, tmp_path / "store", workers=1)


def test_the_steps_are_reported_in_their_order(field: tuple[dict[str, Path], Path]) -> None:
    begun: list[str] = []
    cut_field(field[0], CutoutSpec("r", "flux", magnitudes=False), on_step=begun.append)
    assert tuple(begun) == STEPS


def test_without_magnitudes_all_else_stays(field: tuple[dict[str, Path], Path]) -> None:
    full = cut_field(field[0], CutoutSpec("gri", "flux"))
    bare = cut_field(field[0], CutoutSpec("gri", "flux", magnitudes=False))
    assert set(full.objects.colnames) - set(bare.objects.colnames) == {
        f"{kind}_{band}" for kind in ("mag", "magerr", "psf_mag", "psf_mag_err") for band in "gri"
    }
    np.testing.assert_array_equal(full.flux, bare.flux)
    np.testing.assert_array_equal(full.flags, bare.flags)


def test_positions_without_objid_are_counted_and_bad_ones_kept_as_nan() -> None:
    checked = checked_positions(Table({"ra": [10.0, 4000.0], "dec": [1.0, 2.0]}), "positions")
    assert checked["objid"].tolist() == [1, 2]
    assert np.isnan(checked["ra"][1]) and np.isfinite(checked["ra"][0])
    with pytest.raises(UsageError, match="positions"):
        checked_positions(Table({"ra": [np.nan], "dec": [1.0]}), "positions")
