"""Checkpoints that survive kill -9: whole files, hashes, the last good one kept.

checkpoints/EEEEE-SSSSSS.safetensors   weights before step S of epoch E
checkpoints/EEEEE-SSSSSS.pt            optimizer and averaged weights: numbers, no code
checkpoints/EEEEE-SSSSSS.json          written last: what the training is, history, hashes
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
from typing import Any, Final

import torch
from torch import Tensor

from gqs.errors import GqsError, IntegrityError, ModelError, UsageError
from gqs.files import hash_of, sha256, write_atomically, write_json
from gqs.model.folder import load_weights, save_weights

log = logging.getLogger("gqs.training")
KEPT: Final = 2


class Stopped(GqsError):  # noqa: N818 - it is no error
    """A signal ended the work, and a checkpoint was written: the same command goes on from it."""

    def __init__(self, signum: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + signum


class Signals:
    """Note SIGTERM and SIGINT instead of dying from them; the loop looks after every step.

    A second signal of the same kind does what it always did. In a thread, where handlers cannot be
    set, nothing is noted.
    """

    def __init__(self, patient: bool = False) -> None:
        self.received: int | None = None
        self._patient = patient
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        if not self._patient:
            signal.signal(signum, self._before[signum])


def save_checkpoint(
    folder: Path,
    progress: dict[str, Any],
    weights: dict[str, Tensor],
    state: dict[str, Any],
) -> None:
    """Write a checkpoint; the older ones beyond `KEPT` are then removed."""
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


def newest_checkpoint(
    folder: Path, identity: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]] | None:
    """Load the newest whole checkpoint."""
    manifests = sorted(folder.glob("?????-??????.json"), reverse=True)
    for number, manifest in enumerate(manifests):
        try:
            found = _load(manifest)
        except (ModelError, OSError, ValueError, KeyError, TypeError) as error:
            # Loud: the steps since the one before are trained again.
            log.warning(
                "%s: the checkpoint is damaged (%s); %s.",
                manifest,
                " ".join(str(error).split())[:150],
                "the one before it is used" if number + 1 < len(manifests) else "none is left",
            )
            continue
        require_same(folder, found[0]["identity"], identity)
        return found
    if manifests:
        raise IntegrityError(
            f"{folder}: every checkpoint is damaged. Delete the folder to train from the start."
        )
    return None


def _load(manifest: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    progress = json.loads(manifest.read_text("utf-8"))
    if (
        hash_of({key: value for key, value in progress.items() if key != "self"})
        != progress["self"]
    ):
        raise ValueError("its manifest contradicts itself")
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
    return progress, weights, state


def require_same(where: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to continue a training as another one."""
    then, now = _flat(then), _flat(now)
    changed = [key for key in sorted(then | now) if then.get(key) != now.get(key)]
    if changed:
        what = ", ".join(
            f"{key} ({str(then.get(key))[:24]} then, {str(now.get(key))[:24]} now)"
            for key in changed[:4]
        )
        raise UsageError(
            f"{where}: was begun with another {what}. Train with the same, name another folder, "
            "or start over."
        )


def _flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{before}{key}.") if isinstance(item, dict) else {before + key: item}
    return flat


def save_best(folder: Path, epoch: int, weights: dict[str, Tensor]) -> dict[str, str]:
    """Write the best epoch's weights."""
    path = save_weights(folder / f"best-{epoch:05d}.safetensors", weights)
    return {"file": path.name, "sha256": sha256(path)}


def _remove_old(folder: Path) -> None:
    manifests = sorted(folder.glob("?????-??????.json"), reverse=True)
    for manifest in manifests[KEPT:]:
        for ending in (".json", ".pt", ".safetensors"):
            manifest.with_suffix(ending).unlink(missing_ok=True)
    needed = {manifest.stem for manifest in manifests[:KEPT]}
    for manifest in manifests[:KEPT]:
        best = json.loads(manifest.read_text("utf-8")).get("best")
        if best:
            needed.add(Path(best["file"]).stem)
    for path in folder.glob("*.*"):  # also what a kill left without a manifest
        if path.suffix in (".pt", ".safetensors") and path.stem not in needed:
            path.unlink(missing_ok=True)


def remove_all(folder: Path) -> None:
    """Remove every checkpoint: the training has ended, or starts over."""
    for path in folder.glob("*.*"):
        if path.suffix in (".json", ".pt", ".safetensors"):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
