"""Trails are found where they were drawn and taken off to the noise; nothing else is one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from gqs.imaging.align import align
from gqs.imaging.detect import find
from gqs.imaging.frames import read_frame
from gqs.imaging.stray_light import Trail, find_line, subtract_trail
from gqs.tables import Flag

SHAPE = (361, 523)
ANGLE, AT = 0.4, (260.0, 180.0)


def pieces(n, rng, angle=None, at=AT):
    """So many thin detections: along a line, or anywhere and in any direction."""
    found = np.zeros(n, dtype=[(name, float) for name in ("x", "y", "a", "b", "theta")])
    found["a"], found["b"] = 2.0, 0.8
    if angle is None:
        found["x"], found["y"] = rng.uniform(0, SHAPE[1], n), rng.uniform(0, SHAPE[0], n)
        found["theta"] = rng.uniform(-np.pi / 2, np.pi / 2, n)
        return found
    along = rng.uniform(-200, 200, n)
    off = rng.normal(0, 0.5, n)
    found["x"] = at[0] + along * np.cos(angle) - off * np.sin(angle)
    found["y"] = at[1] + along * np.sin(angle) + off * np.cos(angle)
    found["theta"] = angle + rng.normal(0, 0.15, n)
    return found


def light(crest, width=1.8):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    across = (y - AT[1]) * np.cos(ANGLE) - (x - AT[0]) * np.sin(ANGLE)
    return crest * np.exp(-0.5 * (across / width) ** 2)


def test_a_chain_is_found_among_others_and_chance_makes_none():
    rng = np.random.default_rng(3)
    line = find_line(np.concatenate([pieces(60, rng), pieces(14, rng, ANGLE)]))
    assert line is not None and line.angle == pytest.approx(ANGLE, abs=0.02)
    assert abs(line.place(*AT)[1]) < 1.0
    assert all(find_line(pieces(60, rng)) is None for _ in range(20))
    assert find_line(pieces(7, rng, ANGLE)) is None  # too few


def test_one_long_detection_is_a_trail_by_itself():
    found = pieces(1, np.random.default_rng(0), ANGLE)
    found["a"], found["b"] = 150.0, 2.5
    line = find_line(found)
    assert line is not None and (line.end - line.start) == pytest.approx(150 * 12**0.5)
    found["b"] = 20.0  # a galaxy
    assert find_line(found) is None


def test_light_is_taken_off_to_the_noise_and_stars_keep_theirs():
    rng = np.random.default_rng(5)
    noise = 0.03
    plain = rng.normal(0, noise, SHAPE)
    plain[170:176, 250:256] += 3.0  # a star nearly on the line
    flux = (plain + light(0.6)).astype(np.float32)
    trail = subtract_trail(flux, np.zeros(SHAPE, dtype=bool), Trail(*AT, ANGLE, -100, 100), noise)
    assert trail is not None and trail.end - trail.start > 400
    left = (flux - plain)[light(1.0) > 0.1]
    assert abs(np.median(left)) < 0.1 * noise and left.std() < 0.5 * noise
    assert flux[170:176, 250:256].sum() == pytest.approx(plain[170:176, 250:256].sum(), rel=0.02)
    empty = rng.normal(0, noise, SHAPE).astype(np.float32)
    assert subtract_trail(empty, np.zeros(SHAPE, dtype=bool), trail, noise) is None


@pytest.mark.parametrize("crest", [1.5, 30.0])
def test_stars_under_a_trail_are_found_and_flagged(make_sky, tmp_path, crest):
    sky = make_sky(shape=SHAPE, n_stars=20, seed=2)
    sky.stars[0] = AT
    stack = align({"r": read_frame(sky.write(tmp_path, "r"))}, "r")
    drawn = light(crest * stack.noise[0]).astype(np.float32)
    found, removed = find(dataclasses.replace(stack, flux=stack.flux + drawn))
    assert len(removed.trails) == 1
    places = np.column_stack([found["x"], found["y"]])
    apart, which = cKDTree(places).query(sky.stars)
    assert apart.max() < 0.7 and len(found) <= len(sky.stars) + 1
    flags = np.asarray(found["flags"])
    assert flags[which[0]] & Flag.TRAIL
    far = np.abs(removed.trails[0].place(*sky.stars.T)[1]) > 12
    assert far.sum() > 10 and not (flags[which[far]] & Flag.TRAIL).any()
    assert not find(stack)[1].trails
