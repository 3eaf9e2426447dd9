"""The page: what was claimed, what was found, how sure it is, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gqs import __version__, labels
from gqs.cutouts.split import split_hash
from gqs.evaluation.intervals import wilson
from gqs.files import write_bytes, write_json
from gqs.recipes import published
from gqs.report.blocks import Block, Facts, Key, Listing, Paragraph, Section, Shown, page
from gqs.report.palette import rendered
from gqs.reproduce import ablations, comparison_figures, hypotheses, markup, tables, timing
from gqs.reproduce.results import Results, SplitResults

TITLE: Final = "Reproducing the paper: galaxies, quasars and stars by ResNet50-GQS and others"
PAGE, NUMBERS, COSTS = "reproduce.html", "results.json", "costs.json"
MARKDOWN, LATEX, FIGURES = "tables.md", "tables.tex", "figures"


def write_documents(results: Results, out: Path) -> Path:
    """Write the page, its tables as Markdown and LaTeX, its figures, and the numbers.

    All but the page and costs.json, which hold what the clock said, are the same to the byte
    whenever the same models are judged.
    """
    out = Path(out)
    body, lead, notes = sections(results), headline(results), caveats(results)
    files: dict[int, str] = {}

    def named(shown: Shown) -> str:
        if id(shown) not in files:
            name = f"{FIGURES}/figure-{len(files) + 1:02d}.png"
            write_bytes(out / name, rendered(shown.figure, "png"))
            files[id(shown)] = name
        return files[id(shown)]

    chapters = [Section("Before you read on", [Listing(notes)]), *body]
    write_bytes(
        out / MARKDOWN, markup.write(markup.Markdown(), TITLE, lead, chapters, named).encode()
    )
    write_bytes(out / LATEX, markup.write(markup.Latex(), TITLE, lead, chapters, named).encode())
    write_json(out / NUMBERS, results.to_json())
    clocked = timing.costs(results)
    write_json(out / COSTS, clocked)
    cost = tables.cost_table(clocked)
    clock = Section("What it cost", [cost] if cost.rows else [])
    text = page(TITLE, lead, keys(results), notes, [*body[:-2], clock, *body[-2:]], NUMBERS)
    return write_bytes(out / PAGE, text.encode("utf-8", "replace"))


def headline(results: Results) -> str:
    """Say in a sentence whether the paper's order holds."""
    first = results.first
    if first is None or not first.runs:
        return "Nothing is trained yet: the published numbers stand alone."
    judged = [v for v in first.verdicts if v.difference is not None and v.hypothesis.published]
    if not judged:
        return "None of the paper's claims can be judged yet: train the networks that it compares."
    counts = {word: sum(v.word == word for v in judged) for word in ablations.VERDICTS}
    objects = next(iter(first.runs.values()))[0].metrics.objects
    chain = [
        (hypotheses.GQS, "resnet50_se"),
        ("resnet50_se", "resnet50"),
        (hypotheses.GQS, "resnet50"),
    ]
    said = "; ".join(
        f"{v.hypothesis.words}: {ablations.VERDICTS[v.word]}"
        for v in judged
        if (v.hypothesis.better, v.hypothesis.worse) in chain
    )
    return (
        f"Of {len(judged)} claims of the paper on which network is more accurate, "
        f"{counts['holds']} confirmed, {counts['reversed']} reversed and {counts['open']} too "
        f"close to tell on {objects:,} test objects. {said}{'.' if said else ''}"
    ).rstrip()


def caveats(results: Results) -> list[str]:
    """Say what a reader must know before believing the numbers."""
    count = sum(side.test for side in published.TABLE_3.values())
    right = sum(published.CONFUSION[i][i] for i in range(len(labels.CLASSES)))
    theirs = wilson(right, count)
    notes = [
        "Published numbers are of the paper's own objects, ours of ours: compare the order and the "
        "differences rather than the values.",
        f"The paper's 92.41 % are {right:,} of {count:,} test objects: chance alone gives them a "
        f"95 % interval of {100 * theirs.low:.1f} to {100 * theirs.high:.1f} %. It prints one "
        "training of each network, and chose its epochs on the test set; here epochs are chosen on "
        "the validation side, and the test side is judged once.",
    ]
    if _rendered(results):
        notes.append(
            "The images are rendered from a catalogue, not taken by a telescope. The catalogue's "
            "magnitudes are what the images were rendered from, so classifiers on magnitudes see "
            "them without the images' noise."
        )
    first = results.first
    if first is not None and first.runs:
        freedom = first.pooled.freedom
        notes.append(
            "Networks have one seed each: intervals hold the chance of test objects, not that of "
            "training."
            if not freedom
            else f"From seed to seed accuracy varies by {100 * first.pooled.variance**0.5:.2f} "
            f"points (standard deviation, pooled over networks, {freedom} degrees of freedom); "
            "intervals hold this and the chance of test objects."
        )
        lengths = {len(run.history) for runs in first.runs.values() for run in runs}
        planned = {run.card.recipe["epochs"] for runs in first.runs.values() for run in runs}
        if max(lengths) < published.EPOCHS:
            notes.append(
                f"Trained for {_range(lengths)} epochs; the paper's networks had "
                f"{published.EPOCHS}."
            )
        if len(planned) > 1:
            notes.append(f"Not all networks were given as many epochs: {_range(planned)}.")
    return notes


def _range(values: set[int]) -> str:
    return str(min(values)) if len(values) == 1 else f"{min(values)} to {max(values)}"


def _rendered(results: Results) -> bool:
    return bool(results.store.manifest.get("made", {}).get("from") == "simulation")


def keys(results: Results) -> list[Key]:
    """Return the numbers of the summary: the networks of the chain, best claim first."""
    first = results.first
    if first is None:
        return []
    found = []
    for name in hypotheses.FIRST:
        theirs = f"published {100 * hypotheses.PUBLISHED[name].accuracy:.2f} %"
        if name in first.runs:
            value = first.accuracies[name]
            cell = tables.percent(value)
            found.append(
                Key(hypotheses.title(name), f"{cell.value} %", f"{cell.interval} %; {theirs}")
            )
        else:
            found.append(Key(hypotheses.title(name), tables.DASH, f"not trained yet; {theirs}"))
    return found


def sections(results: Results) -> list[Section]:
    """Put all that repeats to the bit into sections; the last two are what is missing, and how."""
    first = results.first
    if first is None:
        return [Section("What is missing", [Listing(results.missing)]), _made(results)]
    return [
        Section(
            "Does the paper's order hold?",
            [ablations.order_table(first), *comparison_figures.order_blocks(first)],
        ),
        Section("The paper's tables", _paper_tables(results, first)),
        Section("The paper's figures", _paper_figures(first)),
        *ablations.ablation_sections(results, first),
        Section("How the networks were trained", _trained(results)),
        Section("What is missing", [Listing(results.missing)] if results.missing else []),
        _made(results),
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
        else "Figures 14 and 15 wait for ResNet50-GQS, which is not trained yet."
    )
    note = Paragraph(f"All on the {split} split. {which}", note=True)
    return [note, *comparison_figures.paper_blocks(first)]


def _trained(results: Results) -> list[Block]:
    table = tables.training_table(results)
    return [table] if table.rows else []


def _made(results: Results) -> Section:
    store = results.store
    facts = [
        ("gqs", __version__),
        ("store", f"{store.hash} ({len(store):,} objects, {store.form} {store.bands})"),
    ]
    for name, found in results.splits.items():
        meta = found.split.meta
        limit = f", {meta['limit']} objects drawn" if meta.get("limit") else ""
        said = f"{split_hash(found.split)} (by {meta['by']}, seed {meta['seed']}{limit})"
        facts.append((f"{tables.SPLIT_NAMES[name]} split", said))
    facts.append(("bootstrap and trees", f"seed {results.seed}"))
    return Section("How this was made", [Facts(facts)])
