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
