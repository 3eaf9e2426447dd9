"""Checkpoints: complete files with hashes, the last good one kept, safe against kill -9.

checkpoints/EEEEE-SSSSSS.safetensors   weights before step S of epoch E
checkpoints/EEEEE-SSSSSS.pt            optimizer and averaged weights: numbers only, no code
checkpoints/EEEEE-SSSSSS.json          written last: identity of the training, history, hashes
checkpoints/best-EEEEE.safetensors     weights of the best epoch so far
"""

from __future__ import annotations

import io
import json
import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from gqs.errors import GqsError, IntegrityError, ModelError, UsageError
from gqs.files import hash_of, sha256, write_atomically, write_json
from gqs.model.folder import load_weights, save_weights

log = logging.getLogger("gqs.training")
FOLDER: Final = "checkpoints"
KEPT: Final = 2


class Stopped(GqsError):  # noqa: N818 - it is no error
    """A signal stopped the work after a checkpoint was written; the same command continues it."""

    def __init__(self, signum: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + signum


class StopSignals:
    """Record SIGTERM and SIGINT instead of ending at once; the training checks after every step.

    A second signal of the same kind has its usual effect, unless `every_signal` is set. In a thread
    other than the main one, where handlers cannot be set, nothing is recorded.
    """

    def __init__(self, every_signal: bool = False) -> None:
        self.received: int | None = None
        self._every_signal = every_signal
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._before[signum] = signal.signal(signum, self._record)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _record(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        if not self._every_signal:
            signal.signal(signum, self._before[signum])


class Checkpoint(NamedTuple):
    """What a checkpoint holds: progress as JSON, weights, and the optimizer's state."""

    progress: dict[str, Any]
    weights: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove all but the newest two."""
    progress, weights, state = checkpoint
    name = f"{progress['epoch']:05d}-{progress['step']:06d}"
    save_weights(folder / f"{name}.safetensors", weights)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(folder / f"{name}.pt", lambda file: _copy(buffer, file))
    hashes = {ending: sha256(folder / f"{name}.{ending}") for ending in ("safetensors", "pt")}
    manifest = progress | {"sha256": hashes}
    write_json(folder / f"{name}.json", manifest | {"self": hash_of(manifest)})
    _remove_old(folder)


def _copy(buffer: io.BytesIO, file: Any) -> None:
    file.write(buffer.getbuffer())


def manifests(folder: Path) -> list[Path]:
    """Manifests of a folder's checkpoints, the newest first."""
    return sorted(folder.glob("?????-??????.json"), reverse=True)


def newest_checkpoint(folder: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """Load the newest undamaged checkpoint, if there is one."""
    found = manifests(folder)
    for number, manifest in enumerate(found):
        try:
            checkpoint = _load(manifest)
        except (ModelError, OSError, ValueError, KeyError, TypeError) as error:
            # A warning: the steps since the previous checkpoint are trained again.
            log.warning(
                "%s: the checkpoint is damaged (%s); %s.",
                manifest,
                " ".join(str(error).split())[:150],
                "the one before it is used" if number + 1 < len(found) else "none is left",
            )
            continue
        require_same(folder, checkpoint.progress["identity"], identity)
        return checkpoint
    if found:
        raise IntegrityError(
            f"{folder}: every checkpoint is damaged. Delete the folder to train from the start."
        )
    return None


def _load(manifest: Path) -> Checkpoint:
    progress = json.loads(manifest.read_text("utf-8"))
    content = {key: value for key, value in progress.items() if key != "self"}
    if hash_of(content) != progress["self"]:
        raise ValueError("its manifest does not match its own hash")
    for ending, expected in progress["sha256"].items():
        path = manifest.with_suffix(f".{ending}")
        if sha256(path) != expected:
            raise ValueError(f"{path.name} has another SHA-256")
    best = progress.get("best")
    if best and sha256(manifest.parent / best["file"]) != best["sha256"]:
        raise ValueError(f"{best['file']} has another SHA-256")
    weights = load_weights(manifest.with_suffix(".safetensors"))
    try:
        state = torch.load(manifest.with_suffix(".pt"), map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle can fail in any way
        raise ValueError(f"state cannot be read ({error})") from error
    return Checkpoint(progress, weights, state)


def require_same(where: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to continue a training with another identity."""
    then, now = _flat(then), _flat(now)
    changed = [key for key in sorted(then | now) if then.get(key) != now.get(key)]
    if changed:
        differences = ", ".join(
            f"{key} ({str(then.get(key))[:24]} then, {str(now.get(key))[:24]} now)"
            for key in changed[:4]
        )
        raise UsageError(
            f"{where}: was started with another {differences}. Use the same, choose another "
            "folder, or start again (--fresh)."
        )


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
    return flat


def save_best(folder: Path, epoch: int, weights: dict[str, Tensor]) -> dict[str, str]:
    """Write the weights of the best epoch so far; returns their file name and hash."""
    path = save_weights(folder / f"best-{epoch:05d}.safetensors", weights)
    return {"file": path.name, "sha256": sha256(path)}


def _remove_old(folder: Path) -> None:
    found = manifests(folder)
    for manifest in found[KEPT:]:
        for ending in (".json", ".pt", ".safetensors"):
            manifest.with_suffix(ending).unlink(missing_ok=True)
    needed = {manifest.stem for manifest in found[:KEPT]}
    for manifest in found[:KEPT]:
        best = json.loads(manifest.read_text("utf-8")).get("best")
        if best:
            needed.add(Path(best["file"]).stem)
    for path in folder.glob("*.*"):  # also files without a manifest, left by a kill
        if path.suffix in (".pt", ".safetensors") and path.stem not in needed:
            path.unlink(missing_ok=True)


def remove_all(folder: Path) -> None:
    """Remove every checkpoint, when a training has finished or starts again."""
    for path in folder.glob("*.*"):
        if path.suffix in (".json", ".pt", ".safetensors"):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
