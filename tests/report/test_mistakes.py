"""The page of mistakes: which are on it, in what order, and with what beside them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from drawn import sample
from gqs.evaluation.matched import match
from gqs.report.mistakes import AT_ONCE, pairs, write_mistakes
from gqs.tables import Flag


def test_each_pair_has_its_most_confident_mistakes_first(tmp_path: Path) -> None:
    predictions, truth = sample(900, seed=3)
    judged = match(predictions, truth)
    said = judged.probability.max(axis=1)
    found = list(pairs(judged, most=20))
    wrong = np.flatnonzero(~judged.correct)
    assert sum(count for _, _, count, _ in found) == len(wrong)
    for _, _, count, rows in found:
        assert len(rows) == min(count, 20) and (np.diff(said[rows]) <= 0).all()
        assert np.isin(rows, wrong).all()

    asked: list[int] = []

    def images(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        cutouts = np.zeros((len(rows), 4, 50, 50), np.float32)
        cutouts += rows[:, None, None, None] % 7
        cutouts[0, 2, :9] = np.nan
        return cutouts

    flags = np.full(len(judged), int(Flag.UNLIKE | Flag.EDGE), dtype=np.int32)
    positions = np.stack([np.full(len(judged), 33.25), np.full(len(judged), -1.5)], axis=1)
    path = write_mistakes(
        tmp_path, judged, images, "griz", flags=flags, positions=positions, most=20
    )
    page = path.read_text()
    cards = re.findall(r'class="card" style="--sure: (\d+); --bright: (\d+); --far: (\d+)"', page)
    shown = sum(len(rows) for *_, rows in found)
    assert len(cards) == shown == sum(asked) and max(asked) <= AT_ONCE
    for places in zip(*cards, strict=True):
        assert sorted(map(int, places)) == list(range(shown))
    assert page.count("EDGE, UNLIKE") == shown and "<script" not in page
    assert page.count("tools/explore/summary.aspx?ra=33.250000&amp;dec=-1.500000") == shown
    rows = np.concatenate([rows for *_, rows in found])
    brightest = int(rows[np.argsort(judged.r[rows])[0]])
    card = next(part for part in page.split('<div class="card"') if "--bright: 0;" in part)
    assert f">{judged.objid[brightest]}</a>" in card


def test_simulated_objects_have_no_link_and_no_mistake_is_said(tmp_path: Path) -> None:
    predictions, truth = sample(300, seed=4)
    predictions["run"] = 60001
    judged = match(predictions, truth)
    nothing = np.zeros(len(judged), dtype=np.int32)
    where = np.zeros((len(judged), 2))

    def images(rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 3, 50, 50), np.uint8)

    page = write_mistakes(tmp_path, judged, images, "gri", flags=nothing, positions=where)
    assert "explore" not in page.read_text()
    truth["class"] = predictions["class"]
    right = match(predictions, truth)
    page = write_mistakes(tmp_path, right, images, "gri", flags=nothing, positions=where)
    assert "Not one object was told wrong" in page.read_text()
