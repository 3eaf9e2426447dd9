"""A simulated survey on disk: the archive's layout, the same bytes for a seed, and after a kill."""

from __future__ import annotations

import bz2
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from gqs import files, tables
from gqs.errors import UsageError
from gqs.imaging.frames import read_frame
from gqs.simulation.fields import simulate
from gqs.simulation.layout import FIRST_RUN, place, plan
from gqs.simulation.population import Mix
from gqs.surveys.sdss import BANDS, FieldId, flux_of_asinh_magnitude

SHAPE = (230, 310)
MIX = Mix.enriched_with(300)
OPTIONS = {"shape": SHAPE, "trails": 0.0, "fields_a_run": 2}
TWO_BANDS = {"mix": MIX, "bands": "gr", "workers": 1, **OPTIONS}


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): files.sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("survey")
    done = simulate(out, 2, 5, MIX, workers=2, **OPTIONS)
    assert done.made == 2
    assert not done.set_aside
    return out


@pytest.fixture(scope="module")
def in_two_bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two-bands")
    simulate(out, 3, 5, **TWO_BANDS | {"workers": 2})
    return out


def opened(path: Path) -> fits.HDUList:
    return fits.open(io.BytesIO(bz2.decompress(path.read_bytes())))


def test_frames_have_the_archives_hdus_and_cards(survey: Path) -> None:
    field = FieldId(FIRST_RUN, 2, 11)
    for band in BANDS:
        units = opened(survey / "frames" / str(field) / f"frame-{band}-{field}.fits.bz2")
        assert [type(unit).__name__ for unit in units] == [
            "PrimaryHDU",
            "ImageHDU",
            "BinTableHDU",
            "BinTableHDU",
        ]
        header = units[0].header
        assert header["FILTER"] == band
        assert (header["RUN"], header["CAMCOL"]) == field[:2]
        assert header["BUNIT"] == "nanomaggy"
        assert "SIMULATED" in str(header["COMMENT"])
        assert units[0].data.shape == SHAPE
        assert units[1].data.shape == SHAPE[1:]
        assert units[1].data.dtype == ">f4"
        assert units[2].data["ALLSKY"].shape == (1, 192, 256)
        assert units[2].data["XINTERP"][0, 0] == -0.4375
        assert units[2].data["YINTERP"][0, 0] == 0.5625
        assert units[3].data["FIELD"][0] == field.field
        assert header["NMGY"] == pytest.approx(float(units[1].data.mean()), rel=1e-4)


def test_cards_are_those_of_real_frames(survey: Path, real_data: Path) -> None:
    real = opened(next((real_data / "frames").glob("*/frame-g-*.fits.bz2")))
    ours = opened(next((survey / "frames").glob("*/frame-g-*.fits.bz2")))
    instruments = {"SPA", "IPA", "IPARATE", "AZ", "ALT", "FOCUS", "XBORE", "YBORE", "DAVERS"}
    for theirs, mine in zip(real, ours, strict=True):
        left = {
            key
            for key in set(theirs.header) - set(mine.header)
            if not key.startswith(("SCD", "VERS", "BZERO", "BSCALE", "P", "HISTORY"))
            and key not in instruments
            and not key.endswith(("_VER", "_ID", "VSN", "SION"))
        }
        assert left <= {"COMMENT", ""}
        for key in ("NAXIS", "BITPIX", "TFIELDS", "TTYPE1", "TTYPE3", "CTYPE1", "CUNIT2", "CRPIX1"):
            if key in theirs.header and not key.startswith("CRPIX"):
                assert theirs.header[key] == mine.header[key]


def test_the_reader_of_real_frames_takes_them_as_such(survey: Path) -> None:
    for path in sorted((survey / "frames").glob("*/*.bz2"))[:5]:
        frame = read_frame(path)
        assert frame.calibrated
        assert not frame.bad.any()
        step = np.diff(frame.flux[:, ::4], axis=1)  # 4 px apart, so that sources count little
        sky = 1.4826 * np.median(np.abs(step)) / np.sqrt(2)
        assert np.sqrt(np.median(frame.variance)) == pytest.approx(sky, rel=0.2)


def test_the_catalogue_says_who_lies_where(survey: Path) -> None:
    catalog = tables.read(survey / "catalog.csv")
    assert len(np.unique(catalog["objid"])) == len(catalog)
    assert set(catalog["class"]) == {"GALAXY", "QSO", "STAR"}
    keys = np.column_stack([catalog[name] for name in ("run", "camcol", "field")]).tolist()
    assert {FieldId(*key) for key in keys} == set(plan(2, 2))
    ratios = []
    for field in plan(2, 2):
        rows = catalog[(catalog["run"] == field.run) & (catalog["camcol"] == field.camcol)]
        path = survey / "frames" / str(field) / f"frame-r-{field}.fits.bz2"
        units = opened(path)
        x, y = read_frame(path).wcs.all_world2pix(rows["ra"], rows["dec"], 0)
        assert (np.abs(x - 155) <= 155).all()
        assert (np.abs(y - 115) <= 115).all()
        flux = flux_of_asinh_magnitude(rows["r"], "r")
        yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
        for k in np.flatnonzero((np.asarray(rows["class"]) == "STAR") & (flux > 60)):
            apart = np.hypot(x - x[k], y - y[k])
            apart[k] = 99
            if apart.min() < 30 or not (20 < x[k] < 289 and 20 < y[k] < 209) or flux[k] > 4000:
                continue
            inside = np.hypot(xx - x[k], yy - y[k]) < 7.43 / 0.396
            sky = np.median(units[0].data)
            ratios.append((units[0].data[inside] - sky).sum() / flux[k])
    assert len(ratios) >= 3
    assert np.median(ratios) == pytest.approx(1, abs=0.03)  # neighbours are never wholly away


def test_fields_do_not_share_sky(survey: Path) -> None:
    names = plan(40, 14)
    assert len(set(names)) == 40
    places = [(p.stripe, p.mu, p.nu) for p in map(place, names)]
    size = np.array([1489, 2048]) * 0.396 / 3600
    for k, (stripe, mu, nu) in enumerate(places):
        for other, mu2, nu2 in places[:k]:
            apart = abs(mu - mu2) > size[0] or abs(nu - nu2) > size[1]
            assert stripe != other or apart


def test_the_same_seed_gives_the_same_bytes(in_two_bands: Path, tmp_path: Path) -> None:
    simulate(tmp_path, 3, 5, **TWO_BANDS)
    assert hashes(tmp_path) == hashes(in_two_bands)


def test_a_band_has_the_same_pixels_alone_and_with_others(survey: Path, in_two_bands: Path) -> None:
    field = plan(1)[0]
    name = f"frames/{field}/frame-r-{field}.fits.bz2"
    assert (survey / name).read_bytes() == (in_two_bands / name).read_bytes()


def test_what_is_harmed_or_missing_is_made_again_and_nothing_else(
    in_two_bands: Path, tmp_path: Path
) -> None:
    shutil.copytree(in_two_bands, tmp_path, dirs_exist_ok=True)
    whole = hashes(tmp_path)
    frames = sorted((tmp_path / "frames").glob("*/*.bz2"))
    data = bytearray(frames[0].read_bytes())
    data[1000] ^= 4
    frames[0].write_bytes(bytes(data))
    frames[5].unlink()
    kept = frames[3].stat().st_mtime_ns
    done = simulate(tmp_path, 3, 5, **TWO_BANDS)
    assert done.made == 2
    assert frames[3].stat().st_mtime_ns == kept
    assert hashes(tmp_path) == whole


def test_a_kill_and_the_same_command_end_as_a_faultless_run(
    in_two_bands: Path, tmp_path: Path
) -> None:
    command = (
        "from pathlib import Path\n"
        "from gqs.simulation.fields import simulate\n"
        "from gqs.simulation.population import Mix\n"
        f"simulate(Path({str(tmp_path)!r}), 3, 5, mix=Mix.enriched_with(300), bands='gr',"
        f" workers=1, **{OPTIONS!r})\n"
    )
    child = subprocess.Popen([sys.executable, "-c", command], start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "frames").glob("*/*.bz2")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    done = simulate(tmp_path, 3, 5, **TWO_BANDS)
    assert done.made >= 1
    for stale in tmp_path.rglob(".*.tmp"):  # of the killed process; swept when it is old
        stale.unlink()
    assert hashes(tmp_path) == hashes(in_two_bands)


def test_a_folder_of_another_survey_is_refused(survey: Path) -> None:
    with pytest.raises(UsageError, match="another seed"):
        simulate(survey, 2, 6, MIX, **OPTIONS)
    assert "Enriched" in json.loads((survey / "simulation.json").read_text())["note"]


def test_ones_own_photometry_is_rendered_row_by_row(tmp_path: Path) -> None:
    n = 14
    own = Table(
        {
            "class": ["STAR", "QSO"] * (n // 2),
            **{band: np.linspace(17, 20, n) for band in BANDS},
            "redshift": np.tile([0.0, 1.5], n // 2),
        }
    )
    own["class"] = [
        "QUASAR" if k == 3 else str(name).strip() for k, name in enumerate(own["class"])
    ]
    done = simulate(
        tmp_path, None, 1, catalog=own, bands="gr", catalog_density=6, workers=2, shape=SHAPE
    )
    assert len(done.fields) == 3
    assert len(done.set_aside) == 1
    assert "QUASAR" in done.set_aside[0]
    catalog = tables.read(done.catalog)
    catalog.sort("row")
    assert catalog["row"].tolist() == [k for k in range(n) if k != 3]
    assert np.allclose(catalog["r"], np.delete(np.linspace(17, 20, n), 3), atol=1e-3)


def test_numbers_that_make_no_survey_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        simulate(tmp_path, 0, 1)
    with pytest.raises(UsageError):
        simulate(tmp_path, None, 1)
    with pytest.raises(UsageError):
        plan(10**6, 6)
    assert not list(tmp_path.iterdir())
