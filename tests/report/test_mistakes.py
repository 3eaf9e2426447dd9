"""The page of mistakes: which objects it has, in what order, with which details."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from drawn import sample
from gqs.evaluation.matched import match
from gqs.report.mistakes import CHUNK, ClassifiedCutouts, mistake_groups, write_mistakes
from gqs.tables import Flag


def test_each_pair_has_its_most_confident_mistakes_first(tmp_path: Path) -> None:
    predictions, truth = sample(900, seed=3)
    matched = match(predictions, truth)
    confidence = matched.probability.max(axis=1)
    groups = mistake_groups(matched, 20)
    wrong = np.flatnonzero(~matched.correct)
    assert sum(group.count for group in groups) == len(wrong)
    for group in groups:
        assert len(group.rows) == min(group.count, 20)
        assert (np.diff(confidence[group.rows]) <= 0).all()
        assert np.isin(group.rows, wrong).all()

    asked: list[int] = []

    def images(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        cutouts = np.zeros((len(rows), 4, 50, 50), np.float32)
        cutouts += rows[:, None, None, None] % 7
        cutouts[0, 2, :9] = np.nan
        return cutouts

    flags = np.full(len(matched), int(Flag.UNLIKE | Flag.EDGE), dtype=np.int32)
    positions = np.stack([np.full(len(matched), 33.25), np.full(len(matched), -1.5)], axis=1)
    cutouts = ClassifiedCutouts(images, "griz", flags, positions)
    path = write_mistakes(tmp_path, matched, cutouts, limit=20)
    page = path.read_text()
    cards = re.findall(r'class="card" style="--sure: (\d+); --bright: (\d+); --far: (\d+)"', page)
    shown = sum(len(rows) for rows in (group.rows for group in groups))
    assert len(cards) == shown == sum(asked) and max(asked) <= CHUNK
    for places in zip(*cards, strict=True):
        assert sorted(map(int, places)) == list(range(shown))
    assert page.count("EDGE, UNLIKE") == shown and "<script" not in page
    assert page.count("tools/explore/summary.aspx?ra=33.250000&amp;dec=-1.500000") == shown
    rows = np.concatenate([rows for rows in (group.rows for group in groups)])
    brightest = int(rows[np.argsort(matched.r[rows])[0]])
    card = next(part for part in page.split('<div class="card"') if "--bright: 0;" in part)
    assert f">{matched.objid[brightest]}</a>" in card


def test_simulated_objects_have_no_link_and_no_mistakes_are_stated(tmp_path: Path) -> None:
    predictions, truth = sample(300, seed=4)
    predictions["run"] = 60001
    matched = match(predictions, truth)
    nothing = np.zeros(len(matched), dtype=np.int32)
    where = np.zeros((len(matched), 2))

    def images(rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 3, 50, 50), np.uint8)

    page = write_mistakes(tmp_path, matched, ClassifiedCutouts(images, "gri", nothing, where))
    assert "explore" not in page.read_text()
    truth["class"] = predictions["class"]
    right = match(predictions, truth)
    page = write_mistakes(tmp_path, right, ClassifiedCutouts(images, "gri", nothing, where))
    assert "All objects are classified correctly" in page.read_text()
