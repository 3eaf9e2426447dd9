"""What a catalogue keeps of how it came about: when, and by which command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gqs.errors import UsageError

_EPOCH: Final = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch/
_NOT_TOLD: Final = ("as_json", "workers", "cache", "scheduler", "frames")  # change no row


def how_made(verb: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return a catalogue's date and command, as its metadata keep them."""
    words = ["gqs", verb]
    for name, value in options.items():
        if name in _NOT_TOLD or value is None or value is False:
            continue
        option = "--" + name.replace("_", "-")
        for one in value if isinstance(value, list | tuple) else [value]:
            text = one.name if isinstance(one, Path) else str(one)
            words += [option] if one is True else [option, text]
    epoch = os.environ.get(_EPOCH)
    try:
        now = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{_EPOCH} is {epoch!r}, no number of seconds.") from error
    return {"date": now.strftime("%Y-%m-%dT%H:%M:%S"), "command": shlex.join(words)}
