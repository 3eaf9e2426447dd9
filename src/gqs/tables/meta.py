"""All of a table's metadata as one JSON text, which every format but CSV keeps whole."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

META: Final = "gqs"  # under which it stands


def as_json(meta: dict[str, Any]) -> str:
    """Write metadata as JSON."""
    return json.dumps(dict(meta), default=str)


def from_json(text: str) -> dict[str, Any]:
    """Return what was kept as JSON; nothing where another program uses the name for its own."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


def with_mappings(meta: dict[str, Any]) -> dict[str, Any]:
    """Return what `plain` does, and mappings, such as the figures of a list of candidates."""
    short = plain(meta)
    mappings = {key: value for key, value in meta.items() if isinstance(value, dict)}
    whole = short | json.loads(as_json(mappings))
    return {key: whole[key] for key in meta if key in whole}


def plain(meta: dict[str, Any]) -> dict[str, str | int | float]:
    """Return what people and other programs can read as it is: short texts and numbers."""
    return {
        key: " ".join(value.split()) if isinstance(value, str) else value
        for key, value in meta.items()
        if isinstance(value, str | int | float)
    }
