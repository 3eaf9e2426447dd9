"""A table's metadata as one JSON text, which every format but CSV preserves."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

META: Final = "gqs"  # key of the JSON text


def as_json(meta: dict[str, Any]) -> str:
    """Write metadata as JSON."""
    return json.dumps(dict(meta), default=str)


def from_json(text: str) -> dict[str, Any]:
    """Parse the JSON text; empty if another program uses the key for something else."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


def with_mappings(meta: dict[str, Any]) -> dict[str, Any]:
    """Short texts and numbers as in `plain`, and mappings."""
    short = plain(meta)
    mappings = {key: value for key, value in meta.items() if isinstance(value, dict)}
    whole = short | json.loads(as_json(mappings))
    return {key: whole[key] for key in meta if key in whole}


def plain(meta: dict[str, Any]) -> dict[str, str | int | float]:
    """The entries that other programs can read: texts on one line, and numbers."""
    return {
        key: " ".join(value.split()) if isinstance(value, str) else value
        for key, value in meta.items()
        if isinstance(value, str | int | float)
    }
