"""Frames are read right, and their noise, saturation and identity are what the pixels say."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from gqs.errors import BadInputError, UsageError
from gqs.imaging import unpack
from gqs.imaging.frames import group_fields, identify, read_frame
from gqs.surveys.sdss import SATURATION, FieldId, dark_variance, gain


def test_pixels_wcs_and_identity_survive(sky, tmp_path):
    path = sky.write(tmp_path, "g")
    frame = read_frame(path)
    expected = sky.hdus("g")[0].data
    assert frame.flux.dtype == np.dtype("float32") and frame.flux.dtype.isnative
    np.testing.assert_array_equal(frame.flux, expected)
    assert (frame.band, frame.field, frame.rerun) == ("g", sky.field, "301")
    assert identify(path).band == "g" and identify(path).field == sky.field
    assert frame.wcs.wcs.crval[1] == 42.7
    assert not frame.bad.any() and not frame.saturated.any()


@pytest.mark.parametrize("ending", ["fits", "fits.gz", "fits.bz2", "two streams"])
def test_content_not_name_decides_how_it_is_unpacked(sky, tmp_path, ending):
    data = sky.bytes("r")
    half = len(data) // 2
    packed = {
        "fits": data,
        "fits.gz": gzip.compress(data, 1),
        "fits.bz2": bz2.compress(data),
        "two streams": bz2.compress(data[:half]) + bz2.compress(data[half:]),
    }[ending]
    path = tmp_path / "whatever.dat"
    path.write_bytes(packed)
    assert unpack.read(path) == data
    assert read_frame(path).band == "r"


def test_counts_are_rebuilt_so_that_variance_is_the_detectors(sky, tmp_path):
    frame = read_frame(sky.write(tmp_path, "i"))
    counts = sky.counts("i")
    run, camcol, _ = sky.field
    variance = counts / gain("i", camcol, run) + dark_variance("i", camcol, run)
    np.testing.assert_allclose(frame.variance, variance * sky.calibration**2, rtol=2e-3)


def in_another_unit(hdus):
    hdus[0].data *= 1.25


def in_counts(hdus):
    hdus[0].data /= hdus[1].data


def in_little_endian(hdus):
    hdus[0].data = hdus[0].data.byteswap()


def mirrored(hdus):
    hdus[0].data = hdus[0].data[:, ::-1].copy()


def scaled(hdus):
    hdus[0].header["BSCALE"] = 1.5


@pytest.mark.parametrize("change", [in_another_unit, in_counts, in_little_endian, mirrored, scaled])
def test_pixels_that_contradict_their_calibration_are_refused(sky, tmp_path, change):
    """With a sky that is no whole number and a calibration that varies along the row, as SDSS's."""
    sky = dataclasses.replace(sky, sky_counts=sky.sky_counts + 0.37)

    def with_slope(hdus):
        slope = (1 + 0.02 * np.linspace(-1, 1, len(hdus[1].data))).astype(">f4")
        hdus[0].data = (hdus[0].data * slope).astype(">f4")
        hdus[1].data = (hdus[1].data * slope).astype(">f4")

    good = read_frame(sky.write(tmp_path, "r", with_slope))
    assert good.calibrated

    def both(hdus):
        with_slope(hdus)
        change(hdus)

    with pytest.raises(BadInputError, match=r"contradict its own calibration|impossible|possible"):
        read_frame(sky.write(tmp_path, "r", both))


def test_real_frames_agree_with_their_calibration(real_data):
    for band in "ugriz":
        path = real_data / "frames" / "007264-3-0111" / f"frame-{band}-007264-3-0111.fits.bz2"
        assert read_frame(path).calibrated


def test_an_image_saved_alone_has_its_noise_estimated(sky, tmp_path):
    whole = read_frame(sky.write(tmp_path, "r"))

    def alone(hdus):
        del hdus[1:]

    frame = read_frame(sky.write(tmp_path, "r", alone))
    assert not frame.calibrated
    np.testing.assert_array_equal(frame.flux, whole.flux)
    np.testing.assert_allclose(
        np.sqrt(frame.variance[0, 0]), np.sqrt(np.median(whole.variance)), rtol=0.1
    )


def test_right_ascensions_are_positive_whatever_crval_is(sky, tmp_path):
    def turned(hdus):
        hdus[0].header["CRVAL1"] -= 360

    plain, other = (read_frame(sky.write(tmp_path, "r", c)).wcs for c in (None, turned))
    np.testing.assert_allclose(other.all_pix2world(30, 50, 0), plain.all_pix2world(30, 50, 0))


def test_saturated_pixels_keep_their_value(sky, tmp_path):
    counts = sky.counts("r")
    counts[40, 70:73] = SATURATION + 2000

    def saturate(hdus):
        hdus[0].data[:] = (counts - sky.sky_counts) * sky.calibration

    frame = read_frame(sky.write(tmp_path, "r", saturate))
    assert frame.saturated.sum() == 3 and frame.saturated[40, 71]
    assert frame.flux[40, 71] > 200 and not frame.bad.any()


def test_bad_pixels_are_masked_never_used(sky, tmp_path):
    def spoil(hdus):
        hdus[0].data[10, 20], hdus[0].data[11, 21] = np.nan, np.inf
        hdus[0].data[12, 22] = 1e9  # no count of 16 bits
        hdus[0].data[:, 150] = 0.25
        hdus[0].data[90, :] = -1.0

    frame = read_frame(sky.write(tmp_path, "r", spoil))
    expected = np.zeros(sky.shape, dtype=bool)
    expected[[10, 11, 12], [20, 21, 22]] = True
    expected[:, 150], expected[90, :] = True, True
    np.testing.assert_array_equal(frame.bad, expected)
    assert np.isnan(frame.flux[frame.bad]).all() and np.isfinite(frame.flux[~frame.bad]).all()


def test_frames_from_elsewhere_estimate_their_noise(sky, tmp_path):
    def strip(hdus):
        del hdus[1:]
        del hdus[0].header["NMGY"]
        hdus[0].header["SATURATE"] = 3.0

    frame = read_frame(sky.write(tmp_path, "r", strip))
    run, camcol, _ = sky.field
    expected = sky.calibration * np.sqrt(
        sky.sky_counts / gain("r", camcol, run) + dark_variance("r", camcol, run)
    )
    assert not frame.calibrated
    assert np.sqrt(frame.variance[5, 5]) == pytest.approx(expected, rel=0.06)
    assert frame.saturated.sum() == (frame.flux >= 3.0).sum() > 0


@pytest.mark.parametrize("bitpix", ["int16", "float64"])
def test_scaled_integers_and_doubles_are_read(sky, tmp_path, bitpix):
    def convert(hdus):
        data = hdus[0].data.astype(float)
        header = hdus[0].header
        hdus[0] = fits.PrimaryHDU(data, header)
        if bitpix == "int16":
            hdus[0].scale("int16", bscale=0.001, bzero=1.0)

    frame = read_frame(sky.write(tmp_path, "r", convert))
    np.testing.assert_allclose(frame.flux, sky.hdus("r")[0].data, atol=6e-4)


def test_fields_are_grouped_by_headers_not_names(make_sky, tmp_path):
    one, other = make_sky(seed=1), make_sky(seed=2, field=FieldId(94, 1, 12))
    paths = []
    for i, (sky, band) in enumerate([(one, "r"), (other, "r"), (one, "g"), (one, "r")]):
        path = tmp_path / f"{i}.fits"
        path.write_bytes(sky.bytes(band))
        paths.append(path)
    page = tmp_path / "frame-i-003918-3-0213.fits.bz2"
    page.write_text("<html>404</html>")
    fields, set_aside = group_fields([*paths, page])
    assert fields == {
        one.field: {"g": paths[2], "r": paths[0]},
        other.field: {"r": paths[1]},
    }
    assert len(set_aside) == 2
    assert "already has a frame in band r" in set_aside[0] and "web page" in set_aside[1]


def test_missing_file_is_the_callers_mistake(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_frame(tmp_path / "none.fits")
    with pytest.raises(UsageError, match="not a file"):
        identify(tmp_path)


def test_a_frame_goes_to_a_child_and_back(sky, tmp_path):
    frame = pickle.loads(pickle.dumps(read_frame(sky.write(tmp_path, "r"))))
    assert frame.wcs.all_pix2world(3.0, 4.0, 0)[1] < 43


def test_identify_reads_no_more_than_the_head(sky, tmp_path):
    data = bz2.compress(sky.bytes("z"), 1)
    path = tmp_path / "cut.fits.bz2"
    path.write_bytes(data[: len(data) * 4 // 5])
    assert identify(path).band == "z"
    with pytest.raises(BadInputError, match="cut before its end"):
        read_frame(path)


def test_real_frames_rebuild_whole_counts(real_data: Path):
    """The proof of calibration and sky: what the camera counted comes back as whole numbers."""
    path = next((real_data / "frames/003918-3-0213").glob("frame-r-*.fits.bz2"))
    frame = read_frame(path)
    assert frame.field == FieldId(3918, 3, 213) and frame.calibrated
    run, camcol, _ = frame.field
    with fits.open(path) as opened:
        calibration = opened[1].data.astype("f4")
    noise = frame.variance / calibration**2
    counts = (noise - dark_variance("r", camcol, run)) * gain("r", camcol, run)
    low = counts[counts < 200]
    assert (np.abs(low - np.rint(low)) < 0.05).mean() > 0.999
    # and the noise that they give is the noise that the pixels show
    step = (frame.flux[1:, 1:] - frame.flux[:-1, :-1])[::2, ::2]
    seen = 1.4826 * np.median(np.abs(step)) / np.sqrt(2)
    assert np.sqrt(np.median(frame.variance)) == pytest.approx(seen, rel=0.12)


def test_real_fields_are_told_from_frame_numbers(real_data: Path):
    """FRAME runs ahead of the field by the camera's row; the archive's own names are the oracle."""
    for folder in sorted((real_data / "frames").iterdir()):
        for path in folder.glob("frame-?-*.fits.bz2"):
            assert str(identify(path)) == path.name
