"""SDSS's data releases: where each keeps its frames and answers SQL. Table: releases.toml."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final
from urllib.parse import urlsplit

from gqs.errors import UsageError
from gqs.surveys.sdss import RERUN, FrameName


@dataclass(frozen=True)
class Release:
    """One data release."""

    number: int  # as in 16
    path: str  # part of the archive's path that changed over the years
    sas: str  # base address of the Science Archive Server
    sky_server: str  # base address of SkyServer; a release's pages lie under /dr16 and the like
    checked: str  # what the path was checked against, and what could not be checked

    def __str__(self) -> str:
        return f"DR{self.number}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts that may serve this release's frames: the archive's, and the release's own."""
        return (urlsplit(self.sas).netloc, f"dr{self.number}.sdss.org")

    def frame_path(self, name: FrameName) -> str:
        """Where a frame lies in a folder of frames, as in dr16/301/3918/3/frame-r-....fits.bz2."""
        run, camcol, _ = name.field
        return f"dr{self.number}/{RERUN}/{run}/{camcol}/{name}"

    def frame_url(self, name: FrameName, mirror: str | None = None) -> str:
        """Address of a frame."""
        run, camcol, _ = name.field
        base = self.sas
        if mirror is not None:
            base = checked_address(mirror) + urlsplit(self.sas).path
        return f"{base}/dr{self.number}/{self.path}/photoObj/frames/{RERUN}/{run}/{camcol}/{name}"


def checked_address(address: str) -> str:
    """Return a server's address without a slash at its end, or refuse it."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that does not close
        usable = False
    if usable and "@" in parts.netloc:  # it would stand in tables and on screens
        raise UsageError(
            f"The address of {parts.hostname} holds a name or a password; they are not sent. "
            "Write it without them."
        )
    if not usable or parts.query or parts.fragment:
        raise UsageError(f"{address!r} is no server's address. Write one as https://host[:port].")
    return address.rstrip("/")


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(
        resources.files("gqs.archive").joinpath("releases.toml").read_text("utf-8")
    )


@functools.cache
def all_releases() -> dict[int, Release]:
    """Return every release that is known, by number."""
    table = _table()
    sas, sky_server = table["sas"], table["sky_server"]
    return {
        row["number"]: Release(row["number"], row["path"], sas, sky_server, row["checked"])
        for row in table["release"]
    }


DEFAULT: Final[int] = int(_table()["default"])


def find(release: int | str | Release) -> Release:
    """Find a data release."""
    if isinstance(release, Release):
        return release
    known = all_releases()
    text = str(release).strip().lower().removeprefix("dr")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1
    if number not in known:
        raise UsageError(
            f"Data release {release!r} is not known. Frames are in DR{min(known)} to "
            f"DR{max(known)}; write it as 16 or dr16."
        )
    return known[number]
