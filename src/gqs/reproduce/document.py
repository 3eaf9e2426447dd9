"""The report of a reproduction: the paper's claims, tables and figures beside ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from gqs import __version__, labels
from gqs.cutouts.split import split_hash
from gqs.evaluation.intervals import wilson
from gqs.files import write_bytes, write_json
from gqs.formatting import DASH, number, percent, percent_interval, plural
from gqs.recipes import published
from gqs.report.blocks import (
    Block,
    BulletList,
    CaptionedFigure,
    HeadlineNumber,
    KeyValues,
    Paragraph,
    Report,
    Section,
)
from gqs.report.palette import rendered
from gqs.report.render import to_latex, to_markdown, write_html
from gqs.reproduce import ablations, comparison_figures, hypotheses, tables, timing
from gqs.reproduce.results import Results, SplitResults

TITLE: Final = "Reproducing the paper: galaxies, quasars and stars by ResNet50-GQS and others"
PAGE, NUMBERS, COSTS = "reproduce.html", "results.json", "costs.json"
MARKDOWN, LATEX, FIGURES = "tables.md", "tables.tex", "figures"


def write_documents(results: Results, out: Path) -> Path:
    """Write the page, its tables as Markdown and LaTeX, its figures, and the numbers.

    The same models give the same bytes, except for the page and costs.json, which have times.
    """
    out = Path(out)
    report = Report(
        title=TITLE,
        lead=headline(results),
        sections=sections(results),
        headline_numbers=headline_numbers(results),
        notes=caveats(results),
        numbers_file=NUMBERS,
    )
    files: dict[int, str] = {}

    def figure_file(block: CaptionedFigure) -> str:
        """Write a figure once and return its file name."""
        if id(block) not in files:
            name = f"{FIGURES}/figure-{len(files) + 1:02d}.png"
            write_bytes(out / name, rendered(block.figure, "png"))
            files[id(block)] = name
        return files[id(block)]

    write_bytes(out / MARKDOWN, to_markdown(report, figure_file).encode())
    write_bytes(out / LATEX, to_latex(report, figure_file).encode())
    write_json(out / NUMBERS, results.to_json())
    costs = timing.costs(results)
    write_json(out / COSTS, costs)
    table = tables.cost_table(costs)
    with_costs = list(report.sections)
    with_costs.insert(-2, Section("Training and inference times", [table] if table.rows else []))
    return write_html(replace(report, sections=with_costs), out / PAGE)


def headline(results: Results) -> str:
    """Whether the paper's order of networks holds, in a sentence."""
    first = results.first
    if first is None or not first.runs:
        return "Nothing is trained yet: only the published values are shown."
    tested = [v for v in first.verdicts if v.difference is not None and v.hypothesis.published]
    if not tested:
        return "None of the paper's claims can be tested yet: train the networks that it compares."
    counts = {word: sum(v.word == word for v in tested) for word in ablations.VERDICTS}
    objects = next(iter(first.runs.values()))[0].metrics.objects
    chain = [
        (hypotheses.GQS, "resnet50_se"),
        ("resnet50_se", "resnet50"),
        (hypotheses.GQS, "resnet50"),
    ]
    of_chain = "; ".join(
        f"{v.hypothesis.words}: {ablations.VERDICTS[v.word]}"
        for v in tested
        if (v.hypothesis.better, v.hypothesis.worse) in chain
    )
    return (
        f"Of {plural(len(tested), 'claim')} of the paper on which network is more accurate, "
        f"{counts['holds']} confirmed, {counts['reversed']} reversed and {counts['open']} "
        f"undecided on {objects:,} test objects. {of_chain}{'.' if of_chain else ''}"
    ).rstrip()


def caveats(results: Results) -> list[str]:
    """What a reader must know first."""
    notes = [
        "The published values are from other objects than ours: compare the order and the "
        "differences rather than the values.",
        _published_interval(),
    ]
    if results.store.manifest.get("made", {}).get("from") == "simulation":
        notes.append(
            "The images are simulated from a catalogue. They were rendered from the catalogue's "
            "magnitudes, so classifiers on magnitudes do not see the noise of the images."
        )
    first = results.first
    if first is not None and first.runs:
        notes += [_seed_note(first), *_epoch_notes(first)]
    return notes


def _published_interval() -> str:
    count = sum(side.test for side in published.TABLE_3.values())
    correct = sum(published.CONFUSION[i][i] for i in range(len(labels.CLASSES)))
    accuracy = wilson(correct, count)
    ends = percent_interval(accuracy.low, accuracy.high)
    return (
        f"The paper's 92.41 % are {correct:,} of {count:,} test objects, which has a 95 % interval "
        f"of {ends} %. It prints one training of each network and chose epochs on the test set; "
        "here epochs are chosen on the validation side, and the test side is used once."
    )


def _seed_note(first: SplitResults) -> str:
    freedom = first.pooled.freedom
    if not freedom:
        return (
            "Networks have one seed each: intervals include the sampling of test objects, not the "
            "variation between trainings."
        )
    deviation = number(100 * first.pooled.variance**0.5, 2)
    return (
        f"Accuracy varies between seeds by {deviation} points (standard deviation, pooled over "
        f"networks, {plural(freedom, 'degree')} of freedom); intervals include this and the "
        "sampling of test objects."
    )


def _epoch_notes(first: SplitResults) -> list[str]:
    notes = []
    lengths = {len(run.history) for runs in first.runs.values() for run in runs}
    planned = {run.card.recipe["epochs"] for runs in first.runs.values() for run in runs}
    if max(lengths) < published.EPOCHS:
        notes.append(
            f"Trained for {_range(lengths)} epochs; the paper's networks had {published.EPOCHS}."
        )
    if len(planned) > 1:
        notes.append(f"Networks have different numbers of epochs: {_range(planned)}.")
    return notes


def _range(values: set[int]) -> str:
    return str(min(values)) if len(values) == 1 else f"{min(values)} to {max(values)}"


def headline_numbers(results: Results) -> list[HeadlineNumber]:
    """Accuracies of the networks that the paper's main claims compare."""
    first = results.first
    if first is None:
        return []
    numbers = []
    for name in hypotheses.FIRST:
        theirs = f"published {percent(hypotheses.PUBLISHED[name].accuracy, 2)}"
        value, note = DASH, f"not trained yet; {theirs}"
        if name in first.runs:
            cell = tables.accuracy_cell(first.accuracies[name])
            value, note = f"{cell.value} %", f"{cell.interval} %; {theirs}"
        numbers.append(HeadlineNumber(hypotheses.title(name), value, note))
    return numbers


def sections(results: Results) -> list[Section]:
    """All sections without times; the last two are what is missing and how to repeat it."""
    first = results.first
    if first is None:
        return [Section("What is missing", [BulletList(results.missing)]), _repeat(results)]
    return [
        Section(
            "Does the paper's order hold?",
            [ablations.order_table(first), *comparison_figures.order_blocks(first)],
        ),
        Section("The paper's tables", _paper_tables(results, first)),
        Section("The paper's figures", _paper_figures(first)),
        *ablations.ablation_sections(results, first),
        Section("How the networks were trained", _trained(results)),
        Section("What is missing", [BulletList(results.missing)] if results.missing else []),
        _repeat(results),
    ]


def _paper_tables(results: Results, first: SplitResults) -> list[Block]:
    t6, t7, t8 = (tuple(hypotheses.GROUPS[name]) for name in ("table6", "table7", "table8"))
    note = ablations.auc_note(first)
    blocks: list[Block | None] = [
        tables.table_3(first),
        tables.scores_table(
            results, "Table 6. Nine networks, and ResNet50-GQS.", (*t6, hypotheses.GQS)
        ),
        tables.scores_table(results, "Table 7. The ResNet family.", t7),
        tables.scores_table(results, "Table 8. Attention in ResNet18 and ResNet50.", t8),
        tables.table_9(first),
        Paragraph(note) if note else None,
    ]
    return [block for block in blocks if block is not None]


def _paper_figures(first: SplitResults) -> list[Block]:
    split = tables.SPLIT_NAMES[first.name]
    runs = first.gqs_runs()
    which = (
        f"Figures 14, 15 and those after them are of ResNet50-GQS, seed {runs[0].seed}."
        if runs
        else "Figures 14 and 15 need ResNet50-GQS, which is not trained yet."
    )
    note = Paragraph(f"All on the {split} split. {which}", note=True)
    return [note, *comparison_figures.paper_blocks(first)]


def _trained(results: Results) -> list[Block]:
    table = tables.training_table(results)
    return [table] if table.rows else []


def _repeat(results: Results) -> Section:
    store = results.store
    facts = [
        ("gqs", __version__),
        ("store", f"{store.hash} ({len(store):,} objects, {store.form} {store.bands})"),
    ]
    for name, on_split in results.splits.items():
        meta = on_split.split.meta
        limit = f", {meta['limit']} objects drawn" if meta.get("limit") else ""
        value = f"{split_hash(on_split.split)} (by {meta['by']}, seed {meta['seed']}{limit})"
        facts.append((f"{tables.SPLIT_NAMES[name]} split", value))
    facts.append(("bootstrap and trees", f"seed {results.seed}"))
    return Section("How to repeat this", [KeyValues(facts)])
