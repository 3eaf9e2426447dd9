"""Surveys as data: what is shipped is valid and used; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cli.commands import gqs, refused
from gqs.cutouts.store import CutoutStore
from gqs.errors import UsageError
from gqs.surveys import description, sdss


def test_every_description_is_valid_and_sdss_agrees_with_its_constants() -> None:
    assert set(description.names()) >= {"sdss", "legacy", "panstarrs", "hsc", "rubin"}
    for name in description.names():
        assert description.load(name).source
    ours = description.load("sdss")
    assert ours.bands == sdss.BANDS
    assert (ours.pixel_scale, ours.zero_point) == (sdss.PIXEL_SCALE, sdss.ZERO_POINT)
    # 1 nJy is 31.4 mag and 1 nanomaggy 22.5 mag: 3631 nJy a nanomaggy
    steps = description.load("rubin").zero_point - description.load("legacy").zero_point
    assert 10 ** (0.4 * steps) == pytest.approx(3631, rel=1e-3)


def test_wrong_keys_and_values_are_refused_with_the_valid_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(description.text_of("legacy") + "\npixelscale = 1.0\n")
    with pytest.raises(UsageError, match=r"pixelscale.*The keys are about, source, bands"):
        description.load(path)
    path.write_text('bands = "gv"\npixel_scale = 0.3\nzero_point = 25\n')
    with pytest.raises(UsageError, match="Unknown band 'v'"):
        description.load(path)
    with pytest.raises(UsageError, match=r"Unknown survey 'lega'.*legacy"):
        description.load("lega")


def test_a_survey_of_ones_own_on_the_command_line(tmp_path: Path) -> None:
    shown = gqs("surveys", "show", "hsc")
    path = tmp_path / "mine.toml"
    path.write_text(shown.stdout.replace('"grizY"', '"rg"').replace("0.168", "0.396"))
    rng = np.random.default_rng(2)
    for name in ("STAR", "GALAXY"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for row in range(2):
            pixels = rng.normal(5, 1, (2, 54, 60)).astype(np.float32)
            fits.writeto(tmp_path / "images" / name / f"{row}.fits", pixels)
    done = gqs("import", tmp_path / "images", "--survey", path, "--out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    store = CutoutStore.open(tmp_path / "store")
    row = int(np.flatnonzero(store.index["name"] == "STAR/1.fits")[0])
    raw = fits.getdata(tmp_path / "images" / "STAR" / "1.fits")[::-1, 2:52, 5:55]
    assert store.bands == "gr"
    np.testing.assert_allclose(store.images([row])[0], raw * 10 ** (-0.4 * 4.5), rtol=1e-5)
    refused(gqs("surveys", "legacy"), 2, "write show and the name")
    refused(
        gqs("import", tmp_path / "images", "--survey", "sdss", "--out", tmp_path / "no"),
        2,
        "the first image has 2 planes",
    )
