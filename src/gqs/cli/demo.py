"""The verb that runs everything once on a simulated sky: demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gqs.cli.app import DATA, print_result, verb
from gqs.cli.options import OUTPUT, AsJson, Seed, Workers, option
from gqs.cli.progress import progress_bar


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Options of `gqs demo`."""

    out: Annotated[
        Path, option("Folder to write; run again to continue an interrupted run.", panel=OUTPUT)
    ] = Path("demo")
    seed: Seed = 1
    workers: Workers = None
    as_json: AsJson = False


@verb(panel=DATA)
def demo(options: DemoOptions) -> None:
    """Run all steps on a simulated sky: survey, cutouts, split, training, report, catalogue.

    Examples:

      gqs demo

      gqs demo --out /tmp/demo --seed 2
    """
    from gqs.demo import run_demo

    result = run_demo(options.out, seed=options.seed, workers=options.workers, bar=progress_bar)
    print_result(result.lines(), result.as_dict(), options.as_json)
