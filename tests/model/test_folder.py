"""Model folders: what was saved comes back; whatever is not a whole model is refused with 6."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from gqs.errors import ModelError
from gqs.files import sha256
from gqs.model.folder import CARD, WEIGHTS, Card, load_model, save_model
from gqs.networks import zoo

ARGUMENTS = {"width": 4, "hidden": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    network = zoo.build("compact", 6, **ARGUMENTS)
    card = Card(
        network="compact",
        arguments=ARGUMENTS,
        bands="gri",
        form="flux",
        stretch="linear",
        data_hash="d" * 64,
        split_hash="e" * 64,
    )
    save_model(tmp_path / "model", network.state_dict(), card)
    return tmp_path / "model"


def change_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change weights and let the card agree: the hash alone must not be what protects us."""
    weights = load((folder / WEIGHTS).read_bytes())
    change(weights)
    (folder / WEIGHTS).write_bytes(save(weights))
    agree(folder)


def agree(folder: Path) -> None:
    change_card(folder, weights_sha256=sha256(folder / WEIGHTS))


def test_what_was_saved_comes_back(folder: Path) -> None:
    torch.manual_seed(1)
    expected = zoo.build("compact", 6, **ARGUMENTS).eval()
    network, card = load_model(folder)
    x = torch.cat([torch.randn(3, 3, 50, 50), torch.ones(3, 3, 50, 50)], dim=1)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), expected(x), rtol=1e-4, atol=1e-4)
    for name, value in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert not network.training
    assert card["weights_sha256"] == sha256(folder / WEIGHTS)
    assert card["classes"] == ["GALAXY", "QSO", "STAR"]


def test_weights_that_are_not_finite_are_not_saved(folder: Path, tmp_path: Path) -> None:
    network, card = load_model(folder)
    weights = network.state_dict()
    weights["head.3.bias"][1] = float("inf")
    with pytest.raises(ModelError, match=r"head\.3\.bias is not finite"):
        save_model(tmp_path / "other", weights, Card(**card))
    assert not (tmp_path / "other" / CARD).exists()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def header(entries: dict[str, Any], data: bytes = b"\0" * 64) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


BAD_BYTES: dict[str, Callable[[bytes, Path], bytes]] = {
    "empty": lambda good, mark: b"",
    "seven bytes": lambda good, mark: b"\0" * 7,
    "cut in the header": lambda good, mark: good[:100],
    "cut in the data": lambda good, mark: good[:-1],
    "one byte more": lambda good, mark: good + b"\0",
    "header length 2^63": lambda good, mark: struct.pack("<Q", 2**63) + good[8:],
    "header length 0": lambda good, mark: struct.pack("<Q", 0) + good[8:],
    "header of garbage": lambda good, mark: good[:8] + b"{" * (len(good) - 8),
    "evil pickle": lambda good, mark: pickle.dumps(Evil(mark)),
    "evil pickle behind zeros": lambda good, mark: b"\0" * 8 + pickle.dumps(Evil(mark)),
    "html": lambda good, mark: b"<html>not found</html>" * 99,
    "overlapping offsets": lambda good, mark: header(
        {"a": entry(0, 64, [16]), "b": entry(32, 64, [8])}
    ),
    "offsets beyond the file": lambda good, mark: header({"a": entry(0, 4096, [1024])}),
    "shape overflow": lambda good, mark: header({"a": entry(0, 64, [2**62, 8])}),
    "negative shape": lambda good, mark: header({"a": entry(0, 64, [-16])}),
    "unknown type": lambda good, mark: header(
        {"a": {"dtype": "PY", "shape": [16], "data_offsets": [0, 64]}}
    ),
}


@pytest.mark.parametrize("name", BAD_BYTES)
@pytest.mark.parametrize("card_agrees", [True, False])
def test_files_that_are_no_whole_weights_are_refused(
    folder: Path, tmp_path: Path, name: str, card_agrees: bool
) -> None:
    path = folder / WEIGHTS
    path.write_bytes(BAD_BYTES[name](path.read_bytes(), tmp_path / "ran"))
    if card_agrees:
        agree(folder)
    with pytest.raises(ModelError, match=WEIGHTS) as caught:
        load_model(folder)
    assert caught.value.exit_code == 6
    assert not (tmp_path / "ran").exists()


def test_any_flipped_bit_is_seen(folder: Path) -> None:
    path = folder / WEIGHTS
    good = path.read_bytes()
    for place in range(0, len(good), max(1, len(good) // 40)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(ModelError, match="SHA-256"):
            load_model(folder)


def test_weights_of_torch_save_are_refused(folder: Path) -> None:
    torch.save(load((folder / WEIGHTS).read_bytes()), folder / WEIGHTS)
    agree(folder)
    with pytest.raises(ModelError, match="pickles are refused"):
        load_model(folder)


def _nan(weights: dict[str, torch.Tensor]) -> None:
    weights["head.3.weight"][2, 5] = float("nan")


def _without_a_key(weights: dict[str, torch.Tensor]) -> None:
    del weights["head.3.bias"]


def _with_a_key(weights: dict[str, torch.Tensor]) -> None:
    weights["extra"] = torch.zeros(3)


def _two_classes(weights: dict[str, torch.Tensor]) -> None:
    for name in ("head.3.weight", "head.3.bias"):
        weights[name] = weights[name][:2].clone()


def _half_precision(weights: dict[str, torch.Tensor]) -> None:
    weights["head.3.weight"] = weights["head.3.weight"].half()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_nan, "not finite"),
        (_without_a_key, "lacks head.3.bias"),
        (_with_a_key, "has the unknown extra"),
        (_two_classes, r"head.3.* is torch.float32 \(2"),
        (_half_precision, "torch.float16"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None], sentence: str
) -> None:
    change_weights(folder, change)
    with pytest.raises(ModelError, match=sentence):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": ["STAR", "QSO", "GALAXY"]}, "its classes are STAR, QSO, GALAXY"),
        ({"classes": ["GALAXY", "STAR"]}, "its classes are GALAXY, STAR"),
        ({"network": "resnet19"}, "Unknown network 'resnet19'"),
        ({"network": "resnet18", "arguments": {}}, "weights of another network"),
        ({"network": ["compact"]}, "network is invalid"),
        ({"arguments": {"depth": 3}}, "has no argument 'depth'"),
        ({"arguments": {"width": 10**9}}, r"model\.json"),
        ({"arguments": {"width": -4}}, r"model\.json"),
        ({"arguments": {"width": "many"}}, r"model\.json"),
        ({"bands": "gv"}, "Unknown band 'v'"),
        ({"bands": "ugriz"}, "is torch.float32"),
        ({"form": "colour"}, "Unknown form"),
        ({"stretch": "log"}, "Unknown stretch"),
        ({"format": 2}, "format is invalid"),
        ({"surprise": 1}, "surprise is invalid"),
    ],
)
def test_cards_that_are_not_ours_are_refused(
    folder: Path, change: dict[str, Any], sentence: str
) -> None:
    change_card(folder, **change)
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "<html></html>"])
def test_cards_that_are_no_json_object_are_refused(folder: Path, text: str) -> None:
    (folder / CARD).write_text(text)
    with pytest.raises(ModelError, match=CARD):
        load_model(folder)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, folder: Path) -> None:
    for nothing in (tmp_path, tmp_path / "absent", folder / WEIGHTS):
        with pytest.raises(ModelError, match="is not a model folder"):
            load_model(nothing)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load_model(folder)
