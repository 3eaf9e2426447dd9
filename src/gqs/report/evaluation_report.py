"""The report: one page of what was found, how sure it is, what was set aside, how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from gqs import labels
from gqs.evaluation.binning import Bin
from gqs.evaluation.comparison import Comparison
from gqs.evaluation.intervals import Estimate
from gqs.evaluation.metrics import Metrics
from gqs.files import write_atomically, write_json
from gqs.report.blocks import Block, Cell, Facts, Grid, Key, Listing, Paragraph, Section, Shown
from gqs.report.blocks import page as html_page

Rows = list[list[str | Cell]]

PAGE: Final = "report.html"
NUMBERS: Final = "metrics.json"
SHARES: Final = ("accuracy", "precision", "recall")  # in percent, as the paper prints them
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


def write_report(
    out: Path,
    title: str,
    *,
    metrics: Metrics,
    figures: Sequence[Shown] = (),
    baseline: Metrics | None = None,
    comparison: Comparison | None = None,
    published: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    set_aside: Sequence[str] = (),
    reproduce: Mapping[str, object] | None = None,
    sections: Sequence[Section] = (),
    further: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report as one HTML page that stands alone, and its numbers as JSON beside it."""
    out = Path(out)
    body = [
        Section("Measures", _measures(metrics, baseline, comparison)),
        Section("Beside the published figures", _published(metrics, published)),
        Section("Figures", figures),
        Section("By brightness and redshift", _bins(metrics)),
        *sections,
        Section("What was not measured", _left_out(metrics, set_aside)),
        Section("How to make this again", _again(reproduce, metrics)),
    ]
    keys = _keys(metrics, baseline, comparison)
    text = html_page(title, headline(metrics), keys, notes, body)
    numbers: dict[str, Any] = {"title": title, "metrics": metrics.to_json()}
    numbers["baseline"] = baseline.to_json() if baseline else None
    numbers["comparison"] = comparison.to_json() if comparison else None
    numbers["published"] = dict(published) if published else None
    numbers["notes"], numbers["set_aside"] = list(notes), list(set_aside)
    numbers["reproduce"] = {key: str(value) for key, value in (reproduce or {}).items()}
    numbers |= further or {}
    write_json(out / NUMBERS, numbers)
    return write_atomically(out / PAGE, lambda file: _write(file, text))


def _write(file: Any, text: str) -> None:
    file.write(text.encode("utf-8", "replace"))


def headline(metrics: Metrics) -> str:
    """Say in a sentence how right the predictions are."""
    recalls = {name: metrics.classes[name]["recall"].value for name in labels.CLASSES}
    known = {name: value for name, value in recalls.items() if np.isfinite(value)}
    found = metrics.accuracy
    text = f"{percent(found.value)} of {metrics.objects:,} objects get their true class"
    if np.isfinite(found.low):
        text += f" (95 % interval {percent(found.low)} to {percent(found.high)})"
    if len(known) > 1:
        weakest = min(known, key=lambda name: known[name])
        text += f"; {weakest} is hardest, with {percent(known[weakest])} found"
    return f"{text}."


def percent(share: float) -> str:
    """Write a share in percent."""
    return f"{100 * share:.2f} %" if np.isfinite(share) else "–"


def shown(name: str, found: Estimate) -> Cell:
    """Write a measure with its interval as the paper writes that measure."""
    share = name in SHARES
    scale, digits = (100, 2) if share else (1, 4)
    value = percent(found.value) if share else _number(found.value)
    if not np.isfinite(found.low):
        return Cell(value)
    return Cell(value, f"{scale * found.low:.{digits}f} to {scale * found.high:.{digits}f}")


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "–"


def _p_value(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def _keys(metrics: Metrics, baseline: Metrics | None, comparison: Comparison | None) -> list[Key]:
    accuracy = metrics.accuracy
    area = metrics.overall["auc"].value
    lost = sum(metrics.unclassified.values())
    judged = "every one judged" if not lost else f"{lost:,} more could not be judged"
    keys = [
        Key("Accuracy", f"{100 * accuracy.value:.1f} %", _interval(accuracy)),
        Key("Mean AUC", f"{area:.3f}" if np.isfinite(area) else "–", "one class against the rest"),
        Key("Objects", f"{metrics.objects:,}", judged),
    ]
    if baseline is not None:
        value = baseline.accuracy
        keys.append(Key("Boosted trees", f"{100 * value.value:.1f} %", _interval(value)))
    if comparison is not None:
        gain = 100 * comparison.difference.value
        note = f"points; {_p_value(comparison.p_value)} (McNemar)".replace("p < ", "p\u00a0<\u00a0")
        keys.append(Key("Lead over trees", f"{gain:+.1f}".replace("-", "−"), note))
    return keys


def _interval(found: Estimate) -> str:
    if not np.isfinite(found.low):
        return "no interval"
    return f"{100 * found.low:.1f} to {100 * found.high:.1f} %"


def _measures(
    metrics: Metrics, baseline: Metrics | None, comparison: Comparison | None
) -> list[Block]:
    columns = ["Measure", "Network"] + (["Boosted trees"] if baseline else [])
    both = [metrics] + ([baseline] if baseline else [])
    rows: Rows = [
        [label, *(shown(name, found.overall[name]) for found in both)]
        for name, label in NAMES.items()
    ]
    unit = metrics.bootstrap
    how = "objects" if unit["group"] is None else f"{unit['units']:,} {unit['group']}s"
    caption = "All classes; precision, recall, F1 and AUC are means of the classes. " + (
        f"Small: 95 % intervals from {unit['resamples']:,} bootstrap samples of {how}."
        if unit["units"] > 1
        else f"No intervals: all objects are of one {unit['group'] or 'object'}."
    )
    keys = ("precision", "recall", "f1", "auc")
    each: Rows = [
        [
            name,
            f"{metrics.counts[name]:,}",
            *(shown(key, metrics.classes[name][key]) for key in keys),
        ]
        for name in labels.CLASSES
    ]
    heads = ["Class", "Objects", *(NAMES[key] for key in keys)]
    blocks: list[Block] = [
        Grid(caption, columns, rows),
        Grid("Class by class, each against the rest.", heads, each),
    ]
    if comparison is not None:
        blocks.append(Paragraph(_verdict(comparison)))
    return blocks


def _verdict(found: Comparison) -> str:
    gap = found.difference
    if found.p_value >= 0.05:
        judgement = "The difference may be chance"
    else:
        better = "network" if gap.value > 0 else "trees"
        judgement = f"The {better} are better" if better == "trees" else "The network is better"
    interval = ""
    if np.isfinite(gap.low):
        interval = f" (95 % interval {100 * gap.low:+.2f} to {100 * gap.high:+.2f})"
    text = (
        f"Of the {found.objects:,} objects that both judged, {found.first_right:,} were right "
        f"only with the network and {found.second_right:,} only with the trees: "
        f"{100 * gap.value:+.2f} points of accuracy{interval}. {judgement} (McNemar's exact test, "
        f"{_p_value(found.p_value)})."
    )
    return text.replace(" -", " −").replace("(-", "(−")


def _published(metrics: Metrics, published: Mapping[str, float] | None) -> list[Block]:
    if not published:
        return []
    rows: Rows = []
    for key, value in published.items():
        name, _, of = key.partition("/")
        ours = metrics.classes[of][name] if of else metrics.overall[name]
        theirs = percent(value) if name in SHARES else _number(value)
        gap = (100 if name in SHARES else 1) * (ours.value - value)
        digits = 2 if name in SHARES else 4
        difference = f"{gap:+.{digits}f}".replace("-", "−") if np.isfinite(gap) else "–"
        inside = "yes" if ours.low <= value <= ours.high else "no"
        label = f"{NAMES[name]}, {of}" if of else NAMES[name]
        rows.append([label, shown(name, ours), theirs, difference, inside])
    columns = ["Measure", "Ours", "Published", "Ours minus published", "In our interval"]
    caption = "Gao, Tu, Li & Li 2023, on their own test objects: other data than ours."
    return [Grid(caption, columns, rows)]


def _bins(metrics: Metrics) -> list[Block]:
    blocks: list[Block] = []
    if metrics.by_r:
        rows: Rows = [
            [
                f"{part.low:g} to {part.high:g}",
                f"{part.count:,}",
                shown("accuracy", part.accuracy),
                *(_recall(part, name) for name in labels.CLASSES),
            ]
            for part in metrics.by_r
        ]
        heads = ["r (mag)", "Objects", "Accuracy", *(f"Recall {name}" for name in labels.CLASSES)]
        blocks.append(Grid("By r magnitude; small: Wilson's 95 % intervals.", heads, rows))
    if metrics.by_redshift:
        rows = [
            [
                f"{part.low:g} to {part.high:g}",
                f"{part.count:,}",
                shown("recall", part.recall[labels.QSO]),
            ]
            for part in metrics.by_redshift
        ]
        caption = "Quasars by redshift: the share that is found."
        blocks.append(Grid(caption, ["Redshift", "Quasars", "Recall"], rows))
    return blocks


def _recall(part: Bin, name: str) -> Cell:
    return shown("recall", part.recall[name]) if part.counts[name] else Cell("none")


def _left_out(metrics: Metrics, set_aside: Sequence[str]) -> list[Block]:
    lost = sum(metrics.unclassified.values())
    by_class = ", ".join(
        f"{count:,} {name}" for name, count in metrics.unclassified.items() if count
    )
    flags = ", ".join(f"{name} {count:,}" for name, count in metrics.unclassified_flags.items())
    sentences = [
        f"Not judged, since the cutout does not show them: {lost:,}"
        + (f" ({by_class}; flags: {flags or 'none'})." if lost else ".")
    ]
    if lost:
        sentences.append(f"Counted as wrong, accuracy is {percent(metrics.accuracy_of_all)}.")
    sentences += [
        f"In the catalogue but not among the predictions: {metrics.without_prediction:,}.",
        f"Predicted but not in the catalogue: {metrics.without_truth:,}.",
        f"Judged, but with r unknown or outside the bins: {metrics.unbinned['r']:,}; "
        f"quasars with such a redshift: {metrics.unbinned['redshift']:,}.",
    ]
    blocks: list[Block] = [Listing(sentences)]
    if set_aside:
        blocks += [Paragraph(f"Set aside on the way: {len(set_aside):,}."), Listing(set_aside)]
    return blocks


def _again(reproduce: Mapping[str, object] | None, metrics: Metrics) -> list[Block]:
    unit = metrics.bootstrap
    drawn = f"{unit['resamples']} samples, seed {unit['seed']}, by {unit['group'] or 'object'}"
    items = [(str(key), str(value)) for key, value in (reproduce or {}).items()]
    return [Facts([*items, ("bootstrap", drawn)])]
