"""What every test may ask for: the real data, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real SDSS frames and catalogues, or a skip that says why."""
    folder = os.environ.get("GQS_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GQS_REAL_DATA names no folder: the tests on real SDSS pixels need it")
    return Path(folder)


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small simulated fields in five bands, with their catalogue."""
    from gqs.survey.simulated.fields import simulate
    from gqs.survey.simulated.population import Mix

    folder = tmp_path_factory.mktemp("survey")
    simulate(folder, 2, seed=11, mix=Mix.enriched_with(300), shape=(300, 420), trails=0.0)
    return folder
