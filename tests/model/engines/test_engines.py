"""Engines held against torch, and what happens to one that differs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from gqs.cutouts.channels import to_channels
from gqs.errors import ModelError, UsageError
from gqs.model.classifier import load_classifier
from gqs.model.engines import graph, parity, select
from gqs.model.engines.backends import Choice, Graph, Torch, installed
from gqs.model.engines.probe_cutouts import ProbeCutouts, specimens
from gqs.model.folder import Card, load_model
from gqs.training.machine import precision_of

OTHERS = [name for name in ("onnx", "openvino") if installed(name)]
pytestmark = pytest.mark.timeout(1200)  # drawing a graph takes half a minute of processor time
needs_engines = pytest.mark.skipif(len(OTHERS) < 2, reason="pip install 'gqs[engines]'")


@pytest.fixture(scope="module")
def subject(model: Path) -> select.Model:
    network, card = load_model(model)
    preprocessing = Card.model_validate(card).preprocessing()
    return select.Model(network, preprocessing, card["weights_sha256"])


def answered(engine: object, seen: ProbeCutouts) -> np.ndarray:
    return parity.answers(engine, seen)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tensorrt", "Unknown engine 'tensorrt'"),
        ("torch:int8", "no precision 'int8'"),
        ("onnx:bf16", "no precision 'bf16'"),
        ("openvino:fp64", "no precision 'fp64'"),
    ],
)
def test_what_is_no_engine_is_refused_with_a_sentence(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Choice.parse(text)


def test_choices_are_written_as_they_are_read() -> None:
    for text in ("torch", "torch:bf16", *OTHERS, *(f"{name}:int8" for name in OTHERS)):
        assert str(Choice.parse(text)) == text
    assert str(Choice.parse("torch:fp32")) == "torch"


def test_an_engine_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gqs.model.engines.backends.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        Choice.parse("openvino")


def test_specimens_hold_what_is_rare(seen: ProbeCutouts) -> None:
    assert np.isinf(seen.images).any() and np.isnan(seen.seeing).any()
    assert np.isnan(seen.images).all(axis=(2, 3)).any()  # a whole band
    assert np.bincount(seen.truth).tolist() == [30, 30, 30]
    bright = np.nansum(seen.images[0::12, 2, 15:35, 15:35], axis=(1, 2))
    np.testing.assert_allclose(22.5 - 2.5 * np.log10(np.median(bright)), 14.0, atol=0.3)


@needs_engines
@pytest.mark.parametrize("name", OTHERS)
def test_fp32_gives_the_probabilities_of_torch(name: str, model: Path, seen: ProbeCutouts) -> None:
    plain, other = load_classifier(model), load_classifier(model, engine=name, threads=1)
    assert other.computes.name == name and plain.computes.name == "torch"
    images = np.where(np.isinf(seen.images), np.nan, seen.images)
    expected = plain.predict_cutouts(images, seeing=seen.seeing)
    assert len(np.unique(expected.argmax(axis=1))) > 1
    found = other.predict_cutouts(images, seeing=seen.seeing)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - expected).max() > 0  # another engine has computed


@needs_engines
def test_the_embedding_is_the_one_that_torch_gives(
    subject: select.Model, seen: ProbeCutouts
) -> None:
    _, expected, _ = parity.answers(Torch(subject.network, subject.preprocessing), seen)
    for name in OTHERS:
        _, found, _ = parity.answers(select.opened(name, subject, 1), seen)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@needs_engines
@pytest.mark.parametrize("text", ["openvino:bf16", "onnx:int8", "openvino:int8"])
def test_aperture_sums_stay_fp32_whatever_the_rest_is(
    text: str, subject: select.Model, seen: ProbeCutouts
) -> None:
    engine = select.started(Choice.parse(text), subject, 1, select.no_message)
    assert isinstance(engine, Graph)
    given = {"images": seen.images, "seeing": seen.seeing.astype(np.float32)}
    measured = engine.stages[0](given)
    finite = np.where(np.isinf(seen.images), np.nan, seen.images)
    x = to_channels(subject.preprocessing, finite, seen.seeing)
    network = subject.network
    with torch.inference_mode():
        expected = network.measure(x[:, :5], x[:, 5:10]).numpy()
    features = next(value for value in measured.values() if value.ndim == 2)
    np.testing.assert_allclose(features[:, : expected.shape[1]], expected, atol=2e-3)
    coarse = torch.tensor(expected).bfloat16().float().numpy()
    off = np.abs(features[:, : expected.shape[1]] - expected).mean()
    assert off < 5e-2 * np.abs(coarse - expected).mean()


@needs_engines
def test_fewer_bits_cost_what_the_verdict_says(subject: select.Model, seen: ProbeCutouts) -> None:
    plain = Torch(subject.network, subject.preprocessing)
    logits, embedding, _ = parity.answers(plain, seen)
    for text in ("openvino:bf16", "onnx:int8"):
        choice = Choice.parse(text)
        engine = select.started(choice, subject, 1, select.no_message)
        verdict = parity.compared(engine, choice.precision, seen, (logits, embedding))
        own = answered(engine, seen)
        assert verdict.flips == (own.argmax(1) != logits.argmax(1)).sum()
        right = (own.argmax(1) == seen.truth).mean() - (logits.argmax(1) == seen.truth).mean()
        assert verdict.accuracy == pytest.approx(right)
        # A processor without bf16 computes openvino:bf16 in fp32.
        if choice.precision != "bf16" or precision_of("auto", torch.device("cpu")) == "bf16":
            assert verdict.probability > 1e-4


class Drifting:
    """An engine that is off by a little."""

    def __init__(self, inner: Torch, by: float) -> None:
        self.inner, self.by, self.name, self.batch = inner, by, "onnx", inner.batch

    def __call__(self, images: np.ndarray, seeing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, embedding = self.inner(images, seeing)
        return logits + self.by * np.array([1, -1, 0], np.float32), embedding


@pytest.mark.parametrize(("by", "refused"), [(1e-6, False), (1e-2, True), (np.nan, True)])
def test_an_engine_that_drifts_is_refused(
    by: float, refused: bool, subject: select.Model, seen: ProbeCutouts
) -> None:
    plain = Torch(subject.network, subject.preprocessing)
    logits, embedding, _ = parity.answers(plain, seen)
    verdict = parity.compared(Drifting(plain, by), "fp32", seen, (logits, embedding))
    assert bool(verdict.refused) == refused
    assert not refused or "differ from torch's" in verdict.refused


@needs_engines
def test_a_refused_engine_is_not_opened_and_auto_goes_on_without_it(
    subject: select.Model, seen: ProbeCutouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that no engine can keep stands for an engine that drifts on this machine."""
    strict = {"fp32": parity.Limit(0.0, 0.0, 0.0)}
    for path in subject.folder.glob("*-fp32-*.json"):
        path.unlink()
    monkeypatch.setattr(parity, "LIMITS", strict)
    messages: list[str] = []
    with pytest.raises(ModelError, match="onnx is refused"):
        select.opened("onnx", subject, 1)
    assert select.opened("auto", subject, 1, messages.append).name == "torch"
    assert len([sentence for sentence in messages if "is not used" in sentence]) == 2
    for path in subject.folder.glob("*-fp32-*.json"):
        path.unlink()


@needs_engines
def test_the_second_time_nothing_is_drawn_or_tried(
    subject: select.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    select.opened("auto", subject, 1)
    again = dataclasses.replace(subject)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the cache was passed over")

    monkeypatch.setattr(graph, "draw", never)
    monkeypatch.setattr(parity, "compared", never)
    assert select.opened("auto", again, 1).name in ("torch", *OTHERS)


@needs_engines
def test_of_many_that_begin_at_once_one_draws(
    subject: select.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, drawn = select.graph_of(subject), []

    def draw(*_: object) -> object:
        drawn.append(time.monotonic())
        time.sleep(0.2)
        return kept

    monkeypatch.setattr(graph, "draw", draw)
    monkeypatch.setenv("GQS_CACHE", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(select.graph_of, subject) for _ in range(4)]
        assert all(one.result().graph.name == kept.graph.name for one in found)
    assert len(drawn) == 1


@needs_engines
def test_a_damaged_graph_is_drawn_anew(
    subject: select.Model, seen: ProbeCutouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = select.graph_of(subject)
    path = subject.folder / select.GRAPH
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(graph, "draw", lambda *_: kept)
    assert select.graph_of(subject).SerializeToString(deterministic=True) == whole
    assert path.read_bytes() == whole


@needs_engines
def test_a_cache_that_cannot_be_written_is_done_without(
    model: Path, subject: select.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = select.graph_of(subject)
    (tmp_path / "file").write_text("a file where the cache should be")
    monkeypatch.setenv("GQS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(graph, "draw", lambda *_: kept)
    assert select.opened("onnx", subject, 1).name == "onnx"


@needs_engines
def test_the_classifier_of_a_graph_does_not_depend_on_the_batch(
    model: Path, seen: ProbeCutouts
) -> None:
    classifier = load_classifier(model, engine="onnx", threads=1)
    images = np.where(np.isinf(seen.images), np.nan, seen.images)[:7]
    whole = classifier.predict_cutouts(images, seeing=seen.seeing[:7])
    apart = [
        classifier.predict_cutouts(images[i : i + 1], seeing=seen.seeing[i : i + 1])
        for i in range(7)
    ]
    np.testing.assert_allclose(whole, np.concatenate(apart), atol=1e-5)


@needs_engines
def test_openvino_does_not_report_home(model: Path, tmp_path: Path) -> None:
    """Its package openvino_telemetry would, and leaves an identity in the home folder."""
    script = (
        "import sys, onnx.helper as make; from gqs.model.engines.backends import Choice, Graph\n"
        "node = make.make_node('Identity', ['images'], ['logits'])\n"
        "value = [make.make_tensor_value_info(n, 1, [1, 2]) for n in ('images', 'logits')]\n"
        "graph = make.make_graph([node], 'g', value[:1], value[1:])\n"
        "opset = [make.make_opsetid('', 18)]\n"
        "Graph(Choice('openvino'), [make.make_model(graph, ir_version=9, opset_imports=opset)])\n"
        "assert 'openvino' in sys.modules and 'openvino_telemetry' not in sys.modules\n"
    )
    env = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=env)
    assert not (tmp_path / "intel").exists()


def test_harmless_specimens_are_as_the_sky_has_them() -> None:
    from gqs.cutouts.preprocessing import Preprocessing

    plain = specimens(Preprocessing("flux", "gri", "linear"), 9, harmed=False)
    assert plain.images.shape == (9, 3, 50, 50) and np.isfinite(plain.images).all()
    pictures = specimens(Preprocessing("paper", "irg", "linear"), 9)
    assert pictures.images.dtype == np.uint8 and pictures.images.shape == (9, 3, 50, 50)
