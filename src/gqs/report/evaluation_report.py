"""The evaluation report: measures with intervals, figures, what was left out, how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from gqs import labels
from gqs.evaluation.binning import Bin, merged_bins
from gqs.evaluation.comparison import Comparison
from gqs.evaluation.intervals import Estimate
from gqs.evaluation.metrics import Metrics
from gqs.files import write_json
from gqs.formatting import number, p_equals, percent, percent_interval, signed
from gqs.report.blocks import (
    Block,
    BulletList,
    CaptionedFigure,
    Cell,
    Grid,
    HeadlineNumber,
    KeyValues,
    Paragraph,
    Report,
    Section,
    number_cell,
    percent_cell,
)
from gqs.report.figures import ENOUGH
from gqs.report.render import write_html

Rows = list[list[str | Cell]]

PAGE: Final = "report.html"
NUMBERS: Final = "metrics.json"
IN_PERCENT: Final = ("accuracy", "precision", "recall")  # as the paper prints them
NAMES: Final = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "auc": "AUC",
    "auc_micro": "AUC, micro",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Everything that an evaluation report shows."""

    title: str
    metrics: Metrics
    baseline: Metrics | None = None  # of boosted trees on the same objects
    comparison: Comparison | None = None  # of the model with the trees
    figures: Sequence[CaptionedFigure] = ()
    published: Mapping[str, float] | None = None  # by measure, or "measure/class"
    sections: Sequence[Section] = ()  # put after the tables
    notes: Sequence[str] = ()  # that a reader must know first
    set_aside: Sequence[str] = ()  # inputs that could not be used
    reproduce: Mapping[str, object] = field(default_factory=dict)  # versions, hashes, command
    further_numbers: Mapping[str, Any] = field(default_factory=dict)  # for metrics.json

    def write(self, out: Path) -> Path:
        """Write the page and, beside it, its numbers as JSON; returns the page."""
        write_json(Path(out) / NUMBERS, self.numbers())
        return write_html(self.page(), Path(out) / PAGE)

    def numbers(self) -> dict[str, Any]:
        """The numbers of the report in JSON form."""
        return {
            "title": self.title,
            "metrics": self.metrics.to_json(),
            "baseline": self.baseline.to_json() if self.baseline else None,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "published": dict(self.published) if self.published else None,
            "notes": list(self.notes),
            "set_aside": list(self.set_aside),
            "reproduce": {key: str(value) for key, value in self.reproduce.items()},
            **self.further_numbers,
        }

    def page(self) -> Report:
        """The report as blocks."""
        metrics = self.metrics
        sections = [
            Section("Measures", _measures(metrics, self.baseline, self.comparison)),
            Section("Comparison with the published values", _published(metrics, self.published)),
            Section("Figures", self.figures),
            Section("By magnitude and redshift", _bins(metrics)),
            *self.sections,
            Section("Objects left out", _left_out(metrics, self.set_aside)),
            Section("How to repeat this", _repeat(self.reproduce, metrics)),
        ]
        numbers = _headline_numbers(metrics, self.baseline, self.comparison)
        return Report(self.title, headline(metrics), sections, numbers, self.notes, NUMBERS)


def headline(metrics: Metrics) -> str:
    """The accuracy, and the class with the lowest recall, in a sentence."""
    recalls = {name: metrics.classes[name]["recall"].value for name in labels.CLASSES}
    known = {name: value for name, value in recalls.items() if np.isfinite(value)}
    accuracy = metrics.accuracy
    text = f"{percent(accuracy.value, 2)} of {metrics.objects:,} objects get their true class"
    if np.isfinite(accuracy.low):
        ends = f"{percent(accuracy.low, 2)} to {percent(accuracy.high, 2)}"
        text += f" (95 % interval {ends})"
    if len(known) > 1:
        lowest = min(known, key=lambda name: known[name])
        text += f"; {lowest} has the lowest recall, {percent(known[lowest], 2)}"
    return f"{text}."


def measure_cell(name: str, estimate: Estimate) -> Cell:
    """A measure with its interval, in percent or as a fraction as the paper prints it."""
    return percent_cell(estimate) if name in IN_PERCENT else number_cell(estimate)


def _headline_numbers(
    metrics: Metrics, baseline: Metrics | None, comparison: Comparison | None
) -> list[HeadlineNumber]:
    lost = sum(metrics.unclassified.values())
    classified = f"{lost:,} more could not be classified" if lost else "all are classified"
    area = metrics.overall["auc"].value
    numbers = [
        HeadlineNumber(
            "Accuracy", percent(metrics.accuracy.value), _interval_note(metrics.accuracy)
        ),
        HeadlineNumber("Mean AUC", number(area, 3), "each class against the rest"),
        HeadlineNumber("Objects", f"{metrics.objects:,}", classified),
    ]
    if baseline is not None:
        accuracy = baseline.accuracy
        numbers.append(
            HeadlineNumber("Boosted trees", percent(accuracy.value), _interval_note(accuracy))
        )
    if comparison is not None:
        gain = signed(100 * comparison.difference.value, 1)
        p = p_equals(comparison.p_value).replace("p < ", "p\u00a0<\u00a0")
        numbers.append(HeadlineNumber("Lead over trees", gain, f"points; {p} (McNemar)"))
    return numbers


def _interval_note(estimate: Estimate) -> str:
    ends = percent_interval(estimate.low, estimate.high)
    return f"{ends} %" if ends else "no interval"


def _measures(
    metrics: Metrics, baseline: Metrics | None, comparison: Comparison | None
) -> list[Block]:
    columns = ["Measure", "Network"] + (["Boosted trees"] if baseline else [])
    classifiers = [metrics] + ([baseline] if baseline else [])
    rows: Rows = [
        [label, *(measure_cell(name, each.overall[name]) for each in classifiers)]
        for name, label in NAMES.items()
    ]
    drawn = metrics.bootstrap
    units = "objects" if drawn["group"] is None else f"{drawn['units']:,} {drawn['group']}s"
    caption = "All classes; precision, recall, F1 and AUC are means of the classes. " + (
        f"Small: 95 % intervals from {drawn['resamples']:,} bootstrap samples of {units}, "
        "Wilson's for proportions of 0 and 100 %."
        if drawn["units"] > 1
        else f"No intervals: all objects are of one {drawn['group'] or 'object'}."
    )
    of_class = ("precision", "recall", "f1", "auc")
    class_rows: Rows = [
        [
            name,
            f"{metrics.counts[name]:,}",
            *(measure_cell(measure, metrics.classes[name][measure]) for measure in of_class),
        ]
        for name in labels.CLASSES
    ]
    heads = ["Class", "Objects", *(NAMES[measure] for measure in of_class)]
    blocks: list[Block] = [
        Grid(caption, columns, rows),
        Grid("Each class against the rest.", heads, class_rows),
    ]
    if comparison is not None:
        blocks.append(Paragraph(_comparison_sentences(comparison)))
    return blocks


def _comparison_sentences(comparison: Comparison) -> str:
    gap = comparison.difference
    if comparison.p_value >= 0.05:
        conclusion = "The difference is not significant"
    else:
        conclusion = "The network is better" if gap.value > 0 else "The trees are better"
    interval = ""
    if np.isfinite(gap.low):
        interval = f" (95 % interval {signed(100 * gap.low, 2)} to {signed(100 * gap.high, 2)})"
    return (
        f"Of the {comparison.objects:,} objects that both classify, {comparison.first_right:,} are "
        f"correct only with the network and {comparison.second_right:,} only with the trees: "
        f"{signed(100 * gap.value, 2)} points of accuracy{interval}. {conclusion} (McNemar's exact "
        f"test, {p_equals(comparison.p_value)})."
    )


def _published(metrics: Metrics, published: Mapping[str, float] | None) -> list[Block]:
    if not published:
        return []
    rows: Rows = []
    for key, value in published.items():
        name, _, of_class = key.partition("/")
        ours = metrics.classes[of_class][name] if of_class else metrics.overall[name]
        in_percent = name in IN_PERCENT
        scale, digits = (100, 2) if in_percent else (1, 4)
        rows.append(
            [
                f"{NAMES[name]}, {of_class}" if of_class else NAMES[name],
                measure_cell(name, ours),
                percent(value, 2) if in_percent else number(value, 4),
                signed(scale * (ours.value - value), digits),
                "yes" if ours.low <= value <= ours.high else "no",
            ]
        )
    columns = ["Measure", "Ours", "Published", "Ours minus published", "In our interval"]
    caption = "Gao, Tu, Li & Li 2023, on their own test objects, which differ from ours."
    return [Grid(caption, columns, rows)]


def _bins(metrics: Metrics) -> list[Block]:
    blocks: list[Block] = []
    by_r = merged_bins(metrics.by_r, ENOUGH)
    by_redshift = merged_bins(metrics.by_redshift, ENOUGH, labels.QSO)
    if by_r:
        rows: Rows = [
            [
                _range(part),
                f"{part.count:,}",
                percent_cell(part.accuracy),
                *(
                    percent_cell(part.recall[name]) if part.counts[name] else Cell("none")
                    for name in labels.CLASSES
                ),
            ]
            for part in by_r
        ]
        heads = ["r (mag)", "Objects", "Accuracy", *(f"Recall {name}" for name in labels.CLASSES)]
        blocks.append(Grid("By r magnitude; small: Wilson's 95 % intervals.", heads, rows))
    if by_redshift:
        rows = [
            [_range(part), f"{part.count:,}", percent_cell(part.recall[labels.QSO])]
            for part in by_redshift
        ]
        heads = ["Redshift", "Quasars", "Recall"]
        blocks.append(Grid("Recall of quasars by redshift.", heads, rows))
    return blocks


def _range(part: Bin) -> str:
    return f"{part.low:g} to {part.high:g}"


def _left_out(metrics: Metrics, set_aside: Sequence[str]) -> list[Block]:
    counts = metrics.unclassified
    lost = sum(counts.values())
    by_class = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    flags = ", ".join(f"{name} {count:,}" for name, count in metrics.unclassified_flags.items())
    details = f" ({by_class}; flags: {flags or 'none'})" if lost else ""
    sentences = [f"Not classified because the cutout is unusable: {lost:,}{details}."]
    if lost:
        accuracy = percent(metrics.accuracy_of_all, 2)
        sentences.append(f"If these count as wrong, accuracy is {accuracy}.")
    sentences += [
        f"In the catalogue but not among the predictions: {metrics.without_prediction:,}.",
        f"Predicted but not in the catalogue: {metrics.without_truth:,}.",
        f"Classified, but with r unknown or outside the bins: {metrics.unbinned['r']:,}; "
        f"quasars with such a redshift: {metrics.unbinned['redshift']:,}.",
    ]
    blocks: list[Block] = [BulletList(sentences)]
    if set_aside:
        blocks += [Paragraph(f"Inputs set aside: {len(set_aside):,}."), BulletList(set_aside)]
    return blocks


def _repeat(reproduce: Mapping[str, object], metrics: Metrics) -> list[Block]:
    drawn = metrics.bootstrap
    samples = f"{drawn['resamples']} samples, seed {drawn['seed']}, by {drawn['group'] or 'object'}"
    items = [(str(key), str(value)) for key, value in reproduce.items()]
    return [KeyValues([*items, ("bootstrap", samples)])]
