"""Figures in words: whoever does not see them learns the same numbers."""

from drawn import from_confusion, sample
from gqs import labels
from gqs.evaluation.matched import match
from gqs.evaluation.metrics import measure
from gqs.report.captions import data_plates, history_plate, result_plates

PAPER = [[1117, 27, 8], [36, 914, 54], [18, 98, 905]]


def test_every_plate_says_its_numbers():
    judged = match(*sample(300))
    metrics = measure(judged, resamples=5)
    shown = result_plates(judged, metrics)
    assert len(shown) == 5
    assert f"{metrics.confusion[2][1]:,} as QSO" in shown[0].alt
    assert f"STAR {metrics.classes['STAR']['auc'].value:.4f}" in shown[1].alt
    part = metrics.by_r[2]
    assert f"{part.low:g} to {part.high:g} {100 * part.accuracy.value:.0f} %" in shown[2].alt
    assert all(plate.caption for plate in shown)


def test_no_magnitudes_no_such_plates():
    judged = match(*from_confusion(PAPER))
    shown = result_plates(judged, measure(judged, resamples=5))
    assert len(shown) == 3
    assert "of 1,152 GALAXY 1,117 as GALAXY, 27 as QSO, 8 as STAR" in shown[0].alt


def test_data_and_history():
    counts = dict(zip(labels.CLASSES, (1152, 1004, 1021), strict=True))
    first, second = data_plates(counts, {"train": counts, "test": counts})
    assert "1,152 GALAXY, 1,004 QSO, 1,021 STAR" in first.alt
    assert "test: 1,152 GALAXY" in second.alt
    history = {"epoch": [1, 2], "train_loss": [1, 0.7], "validation_loss": [0.9, 0.61]}
    assert "0.610, epoch 2" in history_plate(history).alt
