"""What every test may ask for: the real data, where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gqs.model.classifier import Classifier


@pytest.fixture(scope="session", autouse=True)
def torch_judges() -> Iterator[None]:
    """Let verbs judge by torch: trying every engine on every small model takes half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GQS_CLASSIFY_ENGINE", "torch")
        patch.setenv("GQS_EXPLAIN_ENGINE", "torch")
        yield


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
    from gqs.simulation.fields import simulate
    from gqs.simulation.population import Mix

    folder = tmp_path_factory.mktemp("survey")
    simulate(folder, 2, seed=11, mix=Mix.enriched_with(300), shape=(300, 420), trails=0.0)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A small network with untrained weights: what is tested holds for any weights."""
    import torch

    from gqs.model.classifier import load_classifier
    from gqs.model.folder import Card, save_model
    from gqs.networks import zoo

    torch.manual_seed(3)
    network = zoo.build("compact", channels=10)
    card = Card(
        network="compact",
        bands="ugriz",
        form="flux",
        stretch="linear",
        data_hash="0" * 64,
        split_hash="0" * 64,
    )
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, network.state_dict(), card)
    return load_classifier(folder)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Make a folder, with all in it, one in which this process may not write, root or not."""
    root, locked = os.geteuid() == 0, []

    def locking(folder: Path) -> None:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
            locked.append(path)
        for parent in (tmp_path, *list(tmp_path.parents)[:3]):
            if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
                parent.chmod(0o755)
        if root:
            os.seteuid(65534)

    yield locking
    if root:
        os.seteuid(0)
    for path in locked:
        path.chmod(0o755 if path.is_dir() else 0o644)
