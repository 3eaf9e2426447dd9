"""A model given away: a stranger with onnxruntime alone gets our probabilities."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gqs import __version__, labels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.errors import ModelError, UsageError
from gqs.model.classifier import Classifier, load_classifier
from gqs.model.engines import graph
from gqs.model.engines.backends import installed
from gqs.model.engines.probe_cutouts import ProbeCutouts, specimens
from gqs.model.export import export
from gqs.model.folder import Card, save_model
from gqs.networks import zoo

pytestmark = [
    pytest.mark.skipif(not installed("onnx"), reason="pip install 'gqs[engines]'"),
    pytest.mark.timeout(1200),  # drawing a graph takes half a minute of processor time
]

STRANGER = """
import json, sys
import numpy, onnxruntime
assert not {name.partition(".")[0] for name in sys.modules} & {"gqs", "torch", "onnx", "astropy"}
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = dict(numpy.load(sys.argv[2]))
probabilities, logits, _ = session.run(["probabilities", "logits", "embedding"], given)
numpy.savez(sys.argv[3], probabilities=probabilities, logits=logits)
print(json.dumps(session.get_modelmeta().custom_metadata_map))
"""


def strange(file: Path, folder: Path, **given: np.ndarray) -> tuple[dict, dict[str, np.ndarray]]:
    """Let a program that knows nothing of us use the file; its metadata and its answers."""
    np.savez(folder / "given.npz", **given)
    names = [file, folder / "given.npz", folder / "found.npz"]
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, *map(str, names)],
        capture_output=True,
        text=True,
        check=True,
        env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        cwd=folder,
    )
    return json.loads(done.stdout), dict(np.load(folder / "found.npz"))


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(load_classifier(model), file)
    return file


def test_a_stranger_gets_our_probabilities_from_nanomaggies(
    model: Path, exported: Path, seen: ProbeCutouts, tmp_path: Path
) -> None:
    classifier = load_classifier(model)
    assert classifier.calibration is not None
    images = seen.images.copy()
    images[0], images[1, 2], images[2, 2, 24, 24] = np.nan, 0.5, np.nan
    metadata, found = strange(
        exported, tmp_path, images=images, seeing=seen.seeing.astype(np.float32)
    )
    expected = classifier.predict_cutouts(images, seeing=seen.seeing)
    assert np.isnan(expected[:3]).all() and np.isfinite(expected[3:]).all()
    assert len(np.unique(expected[3:].argmax(axis=1))) > 1
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)
    plain = torch.softmax(torch.tensor(found["logits"][3:]), dim=1).numpy()
    assert np.abs(plain - expected[3:]).max() > 0.01  # calibration is inside, and does something
    assert json.loads(metadata["labels"]) == list(labels.CLASSES)
    assert json.loads(metadata["bands"]) == list("ugriz")
    assert metadata["model_sha256"] == classifier.hash and metadata["gqs_version"] == __version__
    assert "nanomaggies" in metadata["images"] and "arcsec" in metadata["seeing"]


def test_any_number_of_cutouts_goes_in(exported: Path, seen: ProbeCutouts, tmp_path: Path) -> None:
    seeing = seen.seeing.astype(np.float32)
    whole = strange(exported, tmp_path, images=seen.images[:5], seeing=seeing[:5])[1]
    one = strange(exported, tmp_path, images=seen.images[4:5], seeing=seeing[4:5])[1]
    np.testing.assert_allclose(one["probabilities"], whole["probabilities"][4:], atol=1e-5)


def test_the_file_tells_nothing_of_the_machine(exported: Path) -> None:
    data = exported.read_bytes()
    for folder in (Path(torch.__file__).parent, Path(graph.__file__).parent, Path.home()):
        assert len(str(folder)) < 4 or str(folder).encode() not in data
    assert b"stack_trace" not in data and b".py" not in data


def test_what_learned_weights_touch_is_parted_from_what_they_do_not(exported: Path) -> None:
    import onnx

    exact, learned = graph.split_graph(onnx.load(str(exported)))
    onnx.checker.check_model(exact)
    onnx.checker.check_model(learned)
    assert "Conv" not in {node.op_type for node in exact.graph.node}
    assert not any("measure" in value.name for value in learned.graph.initializer)
    assert any("measure" in value.name for value in exact.graph.initializer)
    assert "Asinh" not in {node.op_type for node in (*exact.graph.node, *learned.graph.node)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A model of the paper's pictures."""
    torch.manual_seed(4)
    network = zoo.build("resnet18", channels=3)
    card = Card(
        network="resnet18",
        bands="gri",
        form="paper",
        stretch="linear",
        data_hash="0" * 64,
        split_hash="0" * 64,
    )
    folder = tmp_path_factory.mktemp("pictures")
    save_model(folder, network.state_dict(), card)
    return load_classifier(folder)


def test_a_model_of_pictures_is_exported_and_equal_models_give_equal_files(
    pictures: Classifier, tmp_path: Path
) -> None:
    export(pictures, tmp_path / "model.onnx")
    again = [sys.executable, "-m", "gqs.cli", "export", str(pictures.folder), "--out", "again.onnx"]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "uint8" in done.stdout
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    images = specimens(Preprocessing("paper", "irg", "linear"), 9).images
    images[3] = 17  # nothing to see
    metadata, found = strange(tmp_path / "model.onnx", tmp_path, images=images)
    assert json.loads(metadata["bands"]) == ["i", "r", "g"] and "seeing" not in metadata
    np.testing.assert_allclose(found["probabilities"], pictures.predict_cutouts(images), atol=1e-4)
    assert np.isnan(found["probabilities"][3]).all()


class Wandering(nn.Module):
    """A network whose way depends on what it sees, which no graph can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3))
        return self.fc(mean) if mean.sum().item() > 0 else mean


def test_what_cannot_be_exported_is_refused_with_a_sentence(
    pictures: Classifier, tmp_path: Path
) -> None:
    wandering = Classifier(
        Wandering().eval(), pictures.preprocessing, "0" * 64, pictures.card, tmp_path
    )
    with pytest.raises(ModelError, match="cannot be written as ONNX"):
        export(wandering, tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        export(pictures, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="Opset 9"):
        export(pictures, tmp_path / "model.onnx", opset=9)
    assert not list(tmp_path.glob("*.onnx"))
