"""How long does the simulated sky take? Core-seconds a field, and cutouts a second.

Writes results/simulation_speed.json. Run on an idle machine as

    OMP_NUM_THREADS=1 python benchmarks/simulation_speed.py [--objects 2048]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table

from gqs.executors import cpu_count
from gqs.executors.processes import LocalExecutor
from gqs.simulation import population
from gqs.simulation.fields import Survey, _make_field, _Task, simulate
from gqs.simulation.layout import plan
from gqs.simulation.population import Mix
from gqs.simulation.stamps import OBJECTS_A_FIELD, render_cutouts
from gqs.surveys.sdss import BANDS
from measured import save

SEED = 11
SHARD = 4 * OBJECTS_A_FIELD


def seconds_a_field(mix: Mix, fields: int) -> dict[str, float]:
    """CPU time of whole fields in five bands, in this process, and wall time on every core."""
    with tempfile.TemporaryDirectory() as folder:
        survey = Survey(SEED, BANDS, mix)
        start = time.process_time()
        for index, field in enumerate(plan(fields)):
            _make_field(_Task(survey, index, field, None, Path(folder)), "benchmark")
        took = time.process_time() - start
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.bz2"))
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        done = simulate(Path(folder), fields, SEED, mix)
        wall = time.monotonic() - start
    return {
        "fields": fields,
        "catalogue_objects_a_field": sum(done.objects.values()) / fields,
        "cpu_s_a_field": took / fields,
        "wall_s_a_field_on_every_core": wall / fields,
        "megabytes_a_field": size / 1e6 / fields,
    }


def render(number: int, sources: Table) -> int:
    """One shard's worth of cutouts, as the store's builder asks for them."""
    part = sources[number * SHARD : (number + 1) * SHARD]
    first = number * SHARD // OBJECTS_A_FIELD
    return sum(len(images) for images, _ in render_cutouts(part, SEED, BANDS, first_field=first))


def main() -> None:
    """Measure fields as they are and enriched, and cutouts on one core and on all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=2048)
    objects = parser.parse_args().objects
    third = objects // 3
    counts = {"GALAXY": third, "QSO": third, "STAR": objects - 2 * third}
    sources = population.draw(counts, np.random.default_rng(SEED))
    shards = range(-(-objects // SHARD))
    rates = {}
    for workers in sorted({1, cpu_count()}):
        start = time.monotonic()
        rendered = sum(
            o.result for o in LocalExecutor(workers).run(partial(render, sources=sources), shards)
        )
        rates[f"{workers} cores"] = rendered / (time.monotonic() - start)
    start = time.process_time()
    rendered = sum(render(number, sources) for number in shards)
    rates["a CPU second"] = rendered / (time.process_time() - start)
    load = os.getloadavg()[0]
    save(
        "simulation_speed",
        SEED,
        {
            "load_average": load,  # over the number of cores: others were at work, walls are long
            "fields": {
                "as the sky is": seconds_a_field(Mix(), 4),
                "enriched, 300 of each class": seconds_a_field(Mix.enriched_with(300), 4),
            },
            "cutouts_a_second_in_five_bands": rates,
        },
    )


if __name__ == "__main__":
    main()
