"""Send tables to TOPCAT, Aladin, DS9 and others over SAMP (IVOA SAMP 1.3, standard profile).

A client is asked to load a local file, and its response is awaited. The hub is one that is already
running, such as TOPCAT's or Aladin's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gqs import __version__, tables
from gqs.errors import NetworkError, UsageError

ALL: Final = "all"  # all clients
WAIT_S: Final = 60.0  # for a client to load the table
_SLACK_S: Final = 10.0  # for the hub to respond
# Messages that load a table: https://wiki.ivoa.net/twiki/bin/view/IVOA/SampMTypes
_LOADS: Final = {".fits": "table.load.fits", ".vot": "table.load.votable"}
_LOCK: Final = ".samp"  # in the home folder; SAMP 1.3, 4.2
_VARIABLE: Final = "SAMP_HUB"
_PREFIX: Final = "std-lockurl:"
_LONGEST_LOCK: Final = 1 << 16
_START: Final = "Start TOPCAT or Aladin, and run the same command again."


@dataclass(frozen=True)
class Sent:
    """Result of sending a table."""

    loaded: list[str] = field(default_factory=list)  # names of clients that loaded the table
    set_aside: list[str] = field(default_factory=list)  # a sentence for each client that did not


@dataclass(frozen=True)
class _Client:
    id: str
    name: str
    takes: tuple[str, ...]  # endings


def send(path: Path, to: str = ALL, hub: str | None = None, wait_s: float = WAIT_S) -> Sent:
    """Ask the clients of a SAMP hub to load a table.

    Parameters
    ----------
    path : Path
        A table in any format that `tables.read` reads. Clients load FITS and VOTable files
        directly, other formats from a converted copy.
    to : str
        "all", or part of a client's name, such as "topcat"; case does not matter.
    hub : str, optional
        Address or path of the hub's lock file; by default $SAMP_HUB, or .samp in the home folder.
    wait_s : float
        Seconds to wait for each client.

    Returns
    -------
    Sent
        The clients that loaded the table, and a sentence for each that did not.

    Raises
    ------
    UsageError
        If there is no such table.
    NetworkError
        If no hub is running, or it has no such client.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            f"{path}: is a folder. Send a single file, such as one part of a survey."
            if path.is_dir()
            else f"{path}: no such file."
        )
    if path.suffix.lower() not in (*tables.ENDINGS, ".gz"):
        raise UsageError(f"{path}: unknown ending. Tables end in {', '.join(tables.ENDINGS)}.")
    sent, late = Sent(), False
    copies = Path(tempfile.mkdtemp(prefix="gqs-send-"))
    try:
        with _registered(hub, wait_s) as (proxy, key):
            for client in _chosen(proxy, key, to):
                file = _file_for(client, path, copies)
                late |= not _load(proxy, key, client, file, path.stem, wait_s, sent)
    finally:
        if not late:  # a late client may still need its copy
            shutil.rmtree(copies, ignore_errors=True)
    return sent


@contextlib.contextmanager
def _registered(hub: str | None, wait_s: float) -> Iterator[tuple[Any, str]]:
    """Register with a hub for the duration of the block."""
    from pyvo.samp import SAMPHubError, SAMPHubProxy

    where, lock = _lock_file(hub)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(wait_s + _SLACK_S)  # the proxy has no setting of its own
    proxy = SAMPHubProxy()
    try:
        try:
            proxy.connect(hub_params=lock)
            key = proxy.register(lock["samp.secret"])["samp.private-key"]
        except (OSError, KeyError, SAMPHubError, xmlrpc.client.Error) as error:
            raise NetworkError(f"The SAMP hub of {where} does not respond. {_START}") from error
        try:
            about = {"samp.name": "gqs", "gqs.version": __version__}
            about["samp.description.text"] = "Classifies galaxies, quasars and stars"
            proxy.declare_metadata(key, about)
            yield proxy, key
        except (OSError, xmlrpc.client.Error) as error:
            raise NetworkError(
                f"The SAMP hub of {where} disconnected ({error}). {_START}"
            ) from error
        finally:
            with contextlib.suppress(OSError, xmlrpc.client.Error):
                proxy.unregister(key)
    finally:
        proxy.disconnect()
        socket.setdefaulttimeout(before)


def _lock_file(hub: str | None) -> tuple[str, dict[str, str]]:
    """Read address and secret from the hub's lock file."""
    where = hub or os.environ.get(_VARIABLE) or str(Path.home() / _LOCK)
    where = where.removeprefix(_PREFIX)
    try:
        if where.startswith(("http://", "https://")):
            with urllib.request.urlopen(where, timeout=_SLACK_S) as answer:  # noqa: S310
                text = answer.read(_LONGEST_LOCK).decode("utf-8", "replace")
        else:
            path = unquote(urlsplit(where).path) if where.startswith("file:") else where
            with Path(path).open("rb") as file:
                text = file.read(_LONGEST_LOCK).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise NetworkError(f"No SAMP hub is running: {where} cannot be read. {_START}") from error
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    lock = {name.strip(): value.strip() for name, sign, value in lines if sign}
    if not {"samp.secret", "samp.hub.xmlrpc.url"} <= set(lock):
        raise NetworkError(f"{where}: is not a SAMP hub's lock file. {_START}")
    return where, lock


def _chosen(proxy: Any, key: str, to: str) -> list[_Client]:
    """The clients that load tables and match the name."""
    takes: dict[str, list[str]] = {}
    for ending, mtype in _LOADS.items():
        for client in proxy.get_subscribed_clients(key, mtype):
            takes.setdefault(client, []).append(ending)
    able = [
        _Client(client, _name(proxy, key, client), tuple(endings))
        for client, endings in sorted(takes.items())
    ]
    if not able:
        there = [_name(proxy, key, client) for client in proxy.get_registered_clients(key)]
        raise NetworkError(
            f"The SAMP hub has no client that loads tables; it has {_listed(there)}. {_START}"
        )
    wanted = to.strip().lower()
    chosen = [client for client in able if wanted in (ALL, "") or wanted in client.name.lower()]
    if not chosen:
        names = _listed([client.name for client in able])
        raise NetworkError(
            f"The SAMP hub has no client called {to!r} that loads tables; it has {names}."
        )
    return chosen


def _name(proxy: Any, key: str, client: str) -> str:
    return str(proxy.get_metadata(key, client).get("samp.name", client))


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _file_for(client: _Client, path: Path, copies: Path) -> Path:
    """The file, or a copy in a format that the client reads."""
    if path.suffix.lower() in client.takes:
        return path
    copy = copies / f"{path.name.partition('.')[0]}{client.takes[0]}"
    if not copy.exists():
        tables.write(tables.read(path), copy)
    return copy


def _load(
    proxy: Any, key: str, client: _Client, file: Path, name: str, wait_s: float, sent: Sent
) -> bool:
    """Ask one client to load a file; returns whether it responded."""
    address = file.resolve().as_uri()
    message = {
        "samp.mtype": _LOADS[file.suffix.lower()],
        "samp.params": {"url": address, "table-id": address, "name": name},
    }
    try:
        answer = proxy.call_and_wait(key, client.id, message, str(int(wait_s)))
    except (TimeoutError, xmlrpc.client.Fault):
        sent.set_aside.append(
            f"{client.name}: did not respond within {wait_s:.0f} s. It may still be loading."
        )
        return False
    if answer.get("samp.status") == "samp.error":
        reason = " ".join(str(answer.get("samp.error", {}).get("samp.errortxt", "")).split())
        sent.set_aside.append(f"{client.name}: cannot load {file} ({reason[:200] or 'no reason'}).")
    else:
        sent.loaded.append(client.name)
    return True
