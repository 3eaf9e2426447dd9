"""Date and command that a catalogue's metadata keep."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gqs.errors import UsageError

_EPOCH: Final = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch/
# Options that do not change any row.
_LEFT_OUT: Final = ("as_json", "workers", "cache", "scheduler", "frames")


def provenance(verb: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Date (UTC) and command line, with file names instead of paths."""
    words = ["gqs", verb]
    for name, value in options.items():
        if name in _LEFT_OUT or value is None or value is False:
            continue
        option = "--" + name.replace("_", "-")
        for item in value if isinstance(value, list | tuple) else [value]:
            text = item.name if isinstance(item, Path) else str(item)
            words += [option] if item is True else [option, text]
    epoch = os.environ.get(_EPOCH)
    try:
        now = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{_EPOCH} is {epoch!r}, which is not a number of seconds.") from error
    return {"date": now.strftime("%Y-%m-%dT%H:%M:%S"), "command": shlex.join(words)}
