"""Sources a second by engine, and how far each engine strays from torch in fp32.

    python benchmarks/engines.py [--model FOLDER] [--gqs FOLDER] [--cutouts 10000]
        [--gqs-cutouts 1000] [--rounds 7] [--threads 1 2] [--name engines] [--small]

The same simulated cutouts go to the model in the package (or --model) and, as 8-bit pictures, to
ResNet50-GQS with fresh weights (or of the folder --gqs: speed does not depend on weights, flips
do). Our side counts all it does to a cutout in nanomaggies: bands arranged, faults looked for,
preprocessing, aperture sums, network, distances to the classes, magnitudes and calibration. The
side of ResNet50-GQS counts its network alone, on pictures that are there, in eager torch, fp32, in
the faster of torch's two layouts. All take turns for short rounds; the median over rounds counts,
by the clock and by processor time. Matrix products of the same precision, timed beside them, say
what the machine can do; an engine's share of it counts its network's multiply-adds alone.

Then every engine judges --cutouts cutouts, some as bright as r = 14, as faint as u = 24, saturated
or masked: the largest difference of a probability from torch's, classes that flip, accuracy lost;
of those of r = 14 and of u = 24 once more alone. With GQS_REAL_DATA the sources of the real frames
are judged too, and set the ranges of int8; and so are real quasars, whose class is known.

How much a fuller batch would gain is measured too: cutouts a CPU-second by the size of the batch,
on one thread, as fields are judged.

With --small it takes a minute or two, for a look, and writes nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gqs
from engine_answers import (
    choices,
    model_of,
    on_real,
    real_quasars,
    real_sources,
    rows_of,
    strays,
    tell,
)
from gqs.model.classifier import Classifier
from gqs.model.engines import select
from gqs.model.engines.backends import PRECISIONS, Choice, Engine, Torch, installed
from gqs.model.engines.probe_cutouts import BRIGHT, EVERY, FAINT, ProbeCutouts, specimens
from gqs.model.folder import Card, save_model
from gqs.networks import zoo
from measured import rounded as to_four_digits
from measured import save

NAME = "engines"
SEED = 2023
SIZE = 2048  # of the square matrices whose product is timed
LEAST_S = 0.5  # of one system in one round
BATCHES = {"shipped": 256, "gqs": 64}
TRIED = (8, 32, 64, 128, 256)  # cutouts at a time

PAGE = Path(__file__).parents[1] / "docs/engines.md"
BEGIN, END = "<!-- made by benchmarks/engines.py -->\n", "<!-- end -->\n"

Pass = Callable[[], int]  # judges some cutouts and tells how many


def with_fresh_weights(folder: Path) -> Path:
    """A model folder of ResNet50-GQS that has learned nothing."""
    torch.manual_seed(SEED)
    unknown = "0" * 64
    card = Card(
        network="resnet50_gqs",
        bands="gri",
        form="paper",
        stretch="linear",
        data_hash=unknown,
        split_hash=unknown,
    )
    save_model(folder, zoo.build("resnet50_gqs").state_dict(), card)
    return folder


def whole(classifier: Classifier, engine: Engine, seen: ProbeCutouts, n: int) -> Pass:
    """From nanomaggies to calibrated probabilities and `unlike`, as `gqs classify` does it."""
    ready = Classifier(
        **{**vars(classifier), "engine": engine, "batch": engine.batch},
    )
    images, told = seen.images[:n], seen.seeing[:n]

    def once() -> int:
        ready.examine_cutouts(images, ready.bands, seeing=told)
        return n

    return once


def alone(engine: Engine, seen: ProbeCutouts, n: int) -> Pass:
    """The engine alone: preprocessing and network."""
    images, told = seen.images[:n], seen.seeing[:n]

    def once() -> int:
        for start in range(0, n, engine.batch):
            engine(images[start : start + engine.batch], told[start : start + engine.batch])
        return n

    return once


def product(precision: torch.dtype) -> Pass:
    """A matrix product; counted in multiply-adds."""
    a, b = (torch.randn(SIZE, SIZE).to(precision) for _ in range(2))

    def once() -> int:
        a @ b
        return SIZE**3

    return once


def rates(systems: dict[str, Pass], rounds: int) -> dict[str, dict[str, float]]:
    """Medians over rounds in which all take turns: units a second, by clock and by CPU time."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for once in systems.values():
        once()
    for _ in range(rounds):
        for name, once in systems.items():
            done, clock, cpu = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - clock < LEAST_S:
                done += once()
            spent = time.perf_counter() - clock, time.process_time() - cpu
            found[name].append((done / spent[0], done / spent[1]))
    return {
        name: dict(zip(("a_second", "a_cpu_second"), np.median(each, axis=0), strict=True))
        for name, each in found.items()
    }


def started(model: select.Model, wanted: list[Choice], threads: int) -> dict[str, Engine]:
    """Engines by name, whether they pass their trial or not."""
    return {str(choice): select.started(choice, model, threads, tell) for choice in wanted}


def contiguous(network: torch.nn.Module) -> torch.nn.Module:
    """The same network in torch's first layout."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def speeds(
    ours: Classifier, theirs: Classifier, sky: ProbeCutouts, pictures: ProbeCutouts, options: Any
) -> dict[str, Any]:
    """All systems at each number of threads."""
    results: dict[str, Any] = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        best = select.opened("auto", model_of(ours), threads, tell)
        n = len(sky)
        systems: dict[str, Pass] = {
            f"{name}, shipped": alone(engine, sky, n)
            for name, engine in started(model_of(ours), choices(), threads).items()
        }
        systems["default, shipped, whole"] = whole(ours, best, sky, n)
        engines = started(model_of(theirs), choices(), threads)
        plain = Torch(contiguous(theirs.network), theirs.preprocessing)
        plain.batch = engines["torch"].batch = BATCHES["gqs"]  # type: ignore[misc]
        n = min(len(pictures), BATCHES["gqs"])
        systems["torch contiguous, gqs"] = alone(plain, pictures, n)
        systems |= {f"{name}, gqs": alone(one, pictures, n) for name, one in engines.items()}
        systems |= {"fp32 product": product(torch.float32), "bf16 product": product(torch.bfloat16)}
        found = rates(systems, options.rounds)
        for which in ("a_second", "a_cpu_second"):
            results.setdefault(_named(threads), {})[which] = summary(
                {name: value[which] for name, value in found.items()}, theirs
            )
        results[_named(threads)]["default"] = best.name
    return results


def summary(rate: dict[str, float], theirs: Classifier) -> dict[str, Any]:
    """Rates, and what they say: ours over eager GQS, GQS over eager, share of the matrix rate."""
    eager = max(rate["torch, gqs"], rate["torch contiguous, gqs"])
    channels = theirs.preprocessing.channels
    with torch.device("meta"):
        adds = zoo.multiply_adds(zoo.build(theirs.card["network"], channels), channels)
    best = max((name for name in rate if name.endswith(", gqs")), key=lambda name: rate[name])
    fp32 = [name for name in rate if name.endswith(", gqs") and ":" not in name]
    best_fp32 = max(fp32, key=lambda name: rate[name])
    shares = {
        name: rate[name] * adds / rate["bf16 product" if "bf16" in name else "fp32 product"]
        for name in rate
        if name.endswith(", gqs") and "int8" not in name
    }
    return {
        "rates": rate,
        "default shipped over eager gqs": rate["default, shipped, whole"] / eager,
        "best engine over eager, gqs": {"engine": best, "times": rate[best] / eager},
        "best fp32 engine over eager, gqs": {"engine": best_fp32, "times": rate[best_fp32] / eager},
        "share of the matrix rate, gqs": shares,
        "gflops fp32": 2e-9 * rate["fp32 product"],
        "gflops bf16": 2e-9 * rate["bf16 product"],
    }


def by_batch(model: select.Model, sky: ProbeCutouts) -> dict[str, dict[int, float]]:
    """Cutouts a CPU-second of each engine in fp32, by the cutouts that it gets at a time."""
    torch.set_num_threads(1)
    found = {}
    for name in filter(installed, PRECISIONS):
        systems = {}
        for batch in TRIED:
            engine = select.started(Choice(name), model, 1, tell)
            engine.batch = batch
            systems[str(batch)] = alone(engine, sky, len(sky))
        measured = rates(systems, 3)
        found[name] = {int(batch): one["a_cpu_second"] for batch, one in measured.items()}
    return found


def table(results: dict[str, Any]) -> str:
    """Markdown: speeds of each engine, then what it differs by from torch."""
    lines = [
        "| engine | model | threads | cutouts a second | a CPU-second |",
        "|---|---|---|---|---|",
    ]
    for threads, found in results["speeds"].items():
        clock, cpu = (found[which]["rates"] for which in ("a_second", "a_cpu_second"))
        for name in clock:
            if "product" not in name:
                engine, model = name.split(", ", 1)
                row = f"{threads.split()[0]} | {clock[name]:,.0f} | {cpu[name]:,.0f}"
                lines.append(f"| {engine} | {model} | {row} |")
    lines += ["", *(line for item in results["speeds"].items() for line in sentences(*item)), ""]
    lines += [
        "| engine | model | cutouts | largest difference | flips | accuracy | `unlike` | refused |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in (name for name in results if name == "gqs" or name.startswith("shipped")):
        for name, one in results[model].items():
            if isinstance(one, dict):
                row = f"{one['objects']:,} | {one['probability']:.1g} | {one['flips']}"
                row += f" | {100 * one['accuracy']:+.2f} % | {one['unlike']:.1g}"
                lines.append(f"| {name} | {model} | {row} | {'yes' if one['refused'] else 'no'} |")
    lines += ["", "Cutouts a CPU-second on one thread by the size of the batch:", ""]
    lines += ["| engine | " + " | ".join(map(str, TRIED)) + " |", "|---" * (len(TRIED) + 1) + "|"]
    for name, one in results["by_batch"].items():
        lines.append(f"| {name} | " + " | ".join(f"{one[n]:,.0f}" for n in TRIED) + " |")
    return "\n".join(lines) + "\n"


def _named(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def sentences(threads: str, found: dict[str, Any]) -> list[str]:
    """The comparisons that were promised, of one number of threads."""
    one = found["a_second"]
    best, plain = one["best engine over eager, gqs"], one["best fp32 engine over eager, gqs"]
    share = one["share of the matrix rate, gqs"][f"{plain['engine']}"]
    return [
        f"- {threads}: the default ({found['default']}) with the model, whole, is "
        f"{one['default shipped over eager gqs']:.1f} times as fast as eager ResNet50-GQS.",
        f"- {threads}: ResNet50-GQS runs {best['times']:.2f} times as fast as eager on "
        f"{best['engine'].split(',')[0]}, {plain['times']:.2f} times in fp32 on "
        f"{plain['engine'].split(',')[0]}, which is {100 * share:.0f} % of the measured matrix "
        f"rate of {one['gflops fp32']:.0f} GFLOP/s.",
    ]


def put_into_docs(text: str) -> None:
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + text + END + after, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--gqs", type=Path)
    parser.add_argument("--cutouts", type=int, default=10_000)
    parser.add_argument("--gqs-cutouts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--name", default=NAME, help="of the result file")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.small:
        options.cutouts, options.gqs_cutouts, options.rounds, options.threads = 192, 48, 1, [1]
    ours = gqs.load_classifier(options.model)
    with tempfile.TemporaryDirectory() as folder:
        theirs = gqs.load_classifier(options.gqs or with_fresh_weights(Path(folder)))
        sky = specimens(ours.preprocessing, options.cutouts)
        pictures = specimens(theirs.preprocessing, options.gqs_cutouts)
        few = rows_of(sky, np.s_[: BATCHES["shipped"]])
        results: dict[str, Any] = {
            "versions": {name: Choice(name).versions() for name in PRECISIONS if installed(name)},
            "model": {"hash": ours.hash, "network": ours.card["network"]},
            "gqs_trained": options.gqs is not None,
            "speeds": speeds(ours, theirs, few, pictures, options),
            "by_batch": by_batch(model_of(ours), few),
            "shipped": strays(model_of(ours), sky),
            **{
                f"shipped, {band} = {magnitude:g}": strays(model_of(ours), rows_of(sky, rows))
                for (band, magnitude), rows in (
                    (BRIGHT, np.s_[::EVERY]),
                    (FAINT, np.s_[1::EVERY]),
                )
            },
            "gqs": strays(model_of(theirs), pictures),
        }
    real = None if options.small else real_sources(ours)
    if real is not None:
        results["shipped, real sources"] = on_real(model_of(ours), real)
    quasars = None if options.small else real_quasars(ours)
    if quasars is not None:
        results["shipped, real quasars"] = strays(model_of(ours), quasars)
    if options.small:
        print(json.dumps(to_four_digits(results), indent=1), table(results), sep="\n")
    else:
        save(options.name, SEED, results)
        if options.name == NAME:
            put_into_docs(table(results))


if __name__ == "__main__":
    main()
