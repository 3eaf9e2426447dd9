"""A model folder: weights.safetensors, model.json and optional parts; nothing is unpickled.

Label order, network, shapes, hashes and finite weights are checked when a model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from gqs import __version__, labels
from gqs.cutouts.preprocessing import Preprocessing
from gqs.errors import ModelError, UsageError
from gqs.files import sha256, write_atomically, write_json
from gqs.networks import zoo

FORMAT: Final = 1
WEIGHTS: Final = "weights.safetensors"
CARD: Final = "model.json"
LEARNED: Final = (
    "learned.parquet"  # objid, ra, dec and split of all training and validation objects
)
TYPICAL: Final = "typical.safetensors"  # novelty distances; optional
EXAMPLES: Final = "examples.safetensors"  # pictures of some training objects; optional
HELD_OUT: Final = "held_out.parquet"  # objid, class, mag_r and logits of the validation side
_MOST_CARD_BYTES: Final = 4 << 20
_MOST_HEADER_BYTES: Final = 16 << 20


class Card(BaseModel):
    """The content of model.json."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format: Literal[1] = FORMAT
    network: str  # as `zoo.build` takes them; channels follow from form and bands
    arguments: dict[str, int | float | bool | str] = {}
    bands: str  # as `Preprocessing` takes them
    form: str
    stretch: str
    # how its training cutouts were made: edge policy, bands aligned by their stars too
    edge: str = "pad"
    star_shift: bool = False
    # factors on the pixels of a user's own bands, which have no zero point
    scale: dict[str, float] = {}
    classes: list[str] = list(labels.CLASSES)  # in the order of the logits
    data_hash: str  # store and split of the training
    split_hash: str
    recipe: dict[str, Any] = {}  # training configuration, training facts, validation metrics
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    # calibration of the logits; a plain softmax without it
    calibration: dict[str, Any] | None = None
    weights_sha256: str = ""  # of weights.safetensors
    gqs: str = __version__  # version of gqs that wrote it

    def preprocessing(self) -> Preprocessing:
        """Preprocessing of this network's input."""
        uses_seeing = bool(self.arguments.get("seeing", False))
        return Preprocessing(self.form, self.bands, self.stretch, uses_seeing)


def save_model(folder: Path, weights: dict[str, Tensor], card: Card) -> str:
    """Write a model folder, replacing an earlier model; returns the hash of the weights."""
    folder = Path(folder)
    path = save_weights(folder / WEIGHTS, weights)
    card = card.model_copy(update={"weights_sha256": sha256(path)})
    write_json(folder / CARD, card.model_dump())
    return card.weights_sha256


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load and check a model folder."""
    folder = Path(folder)
    card = read_card(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{folder}: has no {WEIGHTS}. Train again, or copy the whole folder.")
    found = sha256(path)
    if found != card.weights_sha256:
        raise ModelError(
            f"{path}: its SHA-256 is {found[:12]}..., {CARD} says {card.weights_sha256[:12]}...: "
            "the weights were changed or damaged. Copy the folder again, or train again."
        )
    weights = load_weights(path)
    network = _empty_network(folder, card)
    _require_fit(path, network, weights)
    network = zoo.build(card.network, card.preprocessing().channels, **card.arguments)
    network.load_state_dict(weights)
    return zoo.channels_last(network).eval(), card.model_dump()


def read_card(folder: Path) -> Card:
    """Read and check model.json."""
    path = Path(folder) / CARD
    if not path.is_file():
        raise ModelError(
            f"{folder}: is not a model folder (no {CARD}). Name one that gqs train wrote."
        )
    if path.stat().st_size > _MOST_CARD_BYTES:
        raise ModelError(f"{path}: is too large for a model card. Copy the folder again.")
    try:
        values = json.loads(path.read_text("utf-8"))
        card = Card.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{path}: {key or 'the file'} is invalid ({first['msg']}). "
            "Use the version of gqs that wrote it, or train again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: is not JSON, so it is damaged. Copy the folder again."
        ) from error
    if card.classes != list(labels.CLASSES):
        raise ModelError(
            f"{path}: its classes are {', '.join(card.classes)}; gqs has "
            f"{', '.join(labels.CLASSES)} in this order. Train again with this version."
        )
    return card


def part(folder: Path, card: Mapping[str, Any], name: str) -> Path | None:
    """Path of an optional part of a model folder; None if there is none."""
    path, expected = folder / name, card["training"].get(f"{Path(name).stem}_sha256")
    if expected is None or not path.is_file():
        return None
    if sha256(path) != expected:
        raise ModelError(
            f"{path}: does not match {CARD}: it was changed, or is of another model. "
            "Copy the model folder again, or delete this file to go without it."
        )
    return path


def save_weights(path: Path, weights: dict[str, Tensor]) -> Path:
    """Write weights atomically; refuse weights that are not finite."""
    _require_finite(path, weights)
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    data = save(plain)
    return write_atomically(path, lambda file: (file.write(data), None)[1])


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read weights, checked against the file's size; all must be finite."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    # The library checks this too; here the message names a pickle or a header length of 2^63.
    if size < 8 or header > min(size - 8, _MOST_HEADER_BYTES):
        raise ModelError(
            f"{path}: is not a complete safetensors file ({size} bytes). No other format is read; "
            "pickles are refused. Copy the file again, or train again."
        )
    try:
        weights = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise ModelError(
            f"{path}: is damaged ({' '.join(str(error).split())[:120]}). Copy the file again, "
            "or train again."
        ) from error
    _require_finite(path, weights)
    return weights


def _require_finite(path: Path, weights: dict[str, Tensor]) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{path}: {name} is not finite. Train again with a lower rate.")


def _empty_network(folder: Path, card: Card) -> nn.Module:
    """Build the network without allocating memory, to check its shapes first."""
    try:
        with torch.device("meta"):
            return zoo.build(card.network, card.preprocessing().channels, **card.arguments)
    except (UsageError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"{folder / CARD}: {error}") from error


def _require_fit(path: Path, network: nn.Module, weights: dict[str, Tensor]) -> None:
    expected = network.state_dict()
    for names, fault in (
        (expected.keys() - weights.keys(), "lacks"),
        (weights.keys() - expected.keys(), "has the unknown"),
    ):
        if names:
            raise ModelError(
                f"{path}: {fault} {sorted(names)[0]} ({len(names)} such): weights of another "
                "network. Copy the whole folder again, or train again."
            )
    for name, value in expected.items():
        found = weights[name]
        if found.shape != value.shape or found.dtype != value.dtype:
            raise ModelError(
                f"{path}: {name} is {found.dtype} {tuple(found.shape)}, the network needs "
                f"{value.dtype} {tuple(value.shape)}. Copy the whole folder again, or train again."
            )
