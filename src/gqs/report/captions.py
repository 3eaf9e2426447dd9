"""The figures of a report with their captions, and in words what each shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from gqs import labels
from gqs.evaluation.binning import Bin
from gqs.evaluation.matched import MatchedPredictions
from gqs.evaluation.metrics import Metrics
from gqs.evaluation.reliability import reliability
from gqs.report import figures
from gqs.report.blocks import Shown


def data_plates(counts: Mapping[str, int], split: Mapping[str, Mapping[str, int]]) -> list[Shown]:
    """Show what data there are. Paper, Figures 12 and 13."""
    each = "; ".join(f"{side}: {_counted(found)}" for side, found in split.items())
    return [
        Shown(
            figures.class_histogram(counts),
            "Objects of each class (paper, Figure 12).",
            f"Bars: {_counted(counts)}.",
        ),
        Shown(
            figures.split_distribution(split),
            "Objects of each class on each side of the split (paper, Figure 13).",
            f"Bars by side: {each}.",
        ),
    ]


def result_plates(judged: MatchedPredictions, metrics: Metrics) -> list[Shown]:
    """Figures 14 and 15 of the paper, then by magnitude, redshift and confidence."""
    rows = [
        f"of {metrics.counts[name]:,} {name} "
        + ", ".join(
            f"{count:,} as {other}" for other, count in zip(labels.CLASSES, row, strict=True)
        )
        for name, row in zip(labels.CLASSES, metrics.confusion, strict=True)
    ]
    areas = ", ".join(f"{name} {metrics.classes[name]['auc'].value:.4f}" for name in labels.CLASSES)
    shown = [
        Shown(
            figures.confusion_matrix(metrics.confusion),
            "Confusion matrix (paper, Figure 14): counts, and shares of each true class.",
            f"Decided: {'; '.join(rows)}.",
        ),
        Shown(
            figures.roc_curves(judged),
            "ROC curves, each class against the rest, with the upper left corner enlarged "
            "(paper, Figure 15). Macro is the mean of the classes; micro pools all decisions.",
            f"Areas under the curves: {areas}.",
        ),
    ]
    if metrics.by_r:
        shown.append(
            Shown(
                figures.by_magnitude(metrics.by_r),
                "Accuracy, and recall of each class, by r magnitude with Wilson's 95 % intervals; "
                f"faint where fewer than {figures.FEW} objects stand behind a point.",
                f"Accuracy by r magnitude: {_by_bin(metrics.by_r)}.",
            )
        )
    if metrics.by_redshift:
        shown.append(
            Shown(
                figures.by_magnitude(metrics.by_redshift, "redshift", labels.QSO),
                "Share of the quasars that is found, by redshift, with Wilson's 95 % intervals.",
                f"Recall of quasars by redshift: {_by_bin(metrics.by_redshift, labels.QSO)}.",
            )
        )
    confidence = reliability(judged.probability.max(axis=1), judged.correct, 10)
    said = ", ".join(
        f"{100 * part.confidence:.0f} % sure, {100 * part.correct.value:.0f} % right"
        for part in confidence
    )
    caption = (
        "Are the probabilities true? On the diagonal they are; below, how often each is given."
    )
    shown.append(Shown(figures.reliability_diagram(judged), caption, f"By confidence: {said}."))
    return shown


def history_plate(history: Mapping[str, ArrayLike]) -> Shown:
    """Show how training went."""
    figure = figures.training_history(history)
    caption = "Loss and accuracy by epoch; the line marks the lowest validation loss."
    return Shown(figure, caption, f"{figure.axes[0].get_title(loc='left')}.")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{int(counts.get(name, 0)):,} {name}" for name in labels.CLASSES)


def _by_bin(parts: Sequence[Bin], only: str | None = None) -> str:
    shares = [part.accuracy if only is None else part.recall[only] for part in parts]
    return ", ".join(
        f"{part.low:g} to {part.high:g} {100 * share.value:.0f} %"
        for part, share in zip(parts, shares, strict=True)
    )
