"""SAMP over a real hub on loopback, with real clients that load the very file they are sent."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from astropy.table import Table
from pyvo.samp import SAMPHubServer, SAMPIntegratedClient

from cli.commands import gqs, refused
from gqs import samp, tables
from gqs.errors import NetworkError, UsageError

BIG = 2**64 - 1


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A hub of its own, far from any that the user runs."""
    lock = tmp_path_factory.mktemp("hub") / "lock file"
    server = SAMPHubServer(
        addr="127.0.0.1", lockfile=str(lock), mode="multiple", web_profile=False, label="test"
    )
    server.start()
    yield lock
    server.stop()


class Loader:
    """A client like TOPCAT: it loads a table on request, and answers when it has."""

    def __init__(self, lock: Path, name: str, *mtypes: str, ill: bool = False) -> None:
        params = dict(line.split("=", 1) for line in lock.read_text().splitlines() if "=" in line)
        self.client = SAMPIntegratedClient(name=name, addr="127.0.0.1")
        self.client.connect(hub_params=params)
        self.ill, self.loaded = ill, [] if ill else list[tuple[Path, Table]]()
        self.messages: list[dict[str, Any]] = []
        for mtype in mtypes:
            self.client.bind_receive_call(mtype, self.load)

    def load(
        self, key: str, sender: str, message: str, mtype: str, params: Any, extra: Any
    ) -> None:
        self.messages.append({"mtype": mtype, **params})
        if self.ill:
            self.client.ereply(message, "samp.error", error={"samp.errortxt": "no\nmemory"})
            return
        path = Path(unquote(urlsplit(params["url"]).path))
        form = {"table.load.fits": "fits", "table.load.votable": "votable"}[mtype]
        self.loaded.append((path, Table.read(path, format=form)))
        self.client.reply(message, {"samp.status": "samp.ok", "samp.result": {}})


@pytest.fixture
def loader(hub: Path) -> Iterator[Any]:
    made: list[Loader] = []

    def make(name: str, *mtypes: str, ill: bool = False) -> Loader:
        made.append(Loader(hub, name, *mtypes, ill=ill))
        return made[-1]

    yield make
    for one in made:
        one.client.disconnect()


@pytest.fixture
def catalogue(tmp_path: Path) -> Table:
    return Table(
        {
            "objid": np.array([BIG, 7, 2**63], dtype=np.uint64),
            "ra": [1.5, 359.25, 12.0],
            "dec": [-89.5, 0.0, 1e-12],
            "class": ["GALAXY", "QSO", ""],
        }
    )


def same(found: Table, table: Table) -> None:
    assert [int(value) for value in found["objid"]] == table["objid"].tolist()
    np.testing.assert_array_equal(np.asarray(found["ra"]), np.asarray(table["ra"]))


def test_each_client_loads_the_file_itself_where_it_takes_it(
    tmp_path: Path, hub: Path, loader: Any, catalogue: Table
) -> None:
    topcat = loader("topcat", "table.load.votable", "table.load.fits")
    old = loader("Old VO tool", "table.load.votable")
    loader("viewer of images", "image.load.fits")
    path = tables.write(catalogue, tmp_path / "my catalogue.fits")
    sent = samp.send(path, hub=str(hub))
    assert sorted(sent.loaded) == ["Old VO tool", "topcat"] and sent.set_aside == []
    (own, found), (copy, other) = topcat.loaded[0], old.loaded[0]
    assert own == path and topcat.messages[0]["name"] == "my catalogue"
    assert topcat.messages[0]["table-id"] == path.as_uri()
    assert copy.suffix == ".vot" and copy.stem == "my catalogue" and not copy.exists()
    same(found, catalogue)
    same(other, catalogue)  # text there: no digit is lost


@pytest.mark.parametrize("ending", [".parquet", ".ecsv", ".csv", ".vot"])
def test_formats_that_no_client_takes_go_as_a_copy(
    tmp_path: Path, hub: Path, loader: Any, catalogue: Table, ending: str
) -> None:
    aladin = loader("Aladin", "table.load.fits")
    samp.send(tables.write(catalogue, tmp_path / f"c{ending}"), "ALADIN", f"file://{hub}")
    same(aladin.loaded[0][1], catalogue)
    assert aladin.messages[0]["mtype"] == "table.load.fits"


def test_a_client_that_cannot_load_it_is_named(
    tmp_path: Path, hub: Path, loader: Any, catalogue: Table
) -> None:
    loader("ds9", "table.load.fits", ill=True)
    good = loader("topcat", "table.load.*")  # subscribed by a pattern, as clients may be
    good.client.bind_receive_call("table.load.fits", good.load)
    sent = samp.send(tables.write(catalogue, tmp_path / "c.fits"), hub=str(hub))
    assert sent.loaded == ["topcat"]
    assert len(sent.set_aside) == 1 and sent.set_aside[0].endswith("(no memory).")
    assert sent.set_aside[0].startswith("ds9: cannot load ")


def test_a_client_that_never_answers_is_not_waited_for_long(
    tmp_path: Path, hub: Path, loader: Any, catalogue: Table
) -> None:
    asleep = loader("asleep")
    asleep.client.bind_receive_call("table.load.fits", lambda *_: None)
    begin = time.monotonic()
    sent = samp.send(tables.write(catalogue, tmp_path / "c.fits"), hub=str(hub), wait_s=2)
    assert time.monotonic() - begin < 30
    assert sent.loaded == [] and "did not respond within 2 s" in sent.set_aside[0]
    assert socket.getdefaulttimeout() is None


def test_the_verb_sends_and_says_to_whom(
    tmp_path: Path, hub: Path, loader: Any, catalogue: Table
) -> None:
    topcat = loader("topcat", "table.load.fits")
    path = tables.write(catalogue, tmp_path / "c.fits")
    done = gqs("send", path, SAMP_HUB=f"std-lockurl:{hub.as_uri()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"topcat: loaded {path}."
    assert topcat.loaded[0][0] == path
    refused(gqs("send", path, "--to", "aladin", "--hub", hub), 4, "'aladin' that loads tables; it")
    loader("ds9", "table.load.fits", ill=True)
    done = gqs("send", path, "--hub", hub, "--to", "ds9", "--json")
    assert done.returncode == 4 and "set aside: ds9: cannot load" in done.stderr


def test_no_hub_and_nobody_there(tmp_path: Path, hub: Path, catalogue: Table) -> None:
    path = tables.write(catalogue, tmp_path / "c.fits")
    with pytest.raises(NetworkError, match="no client that loads tables; it has"):
        samp.send(path, hub=str(hub))
    refused(gqs("send", path, HOME=str(tmp_path), SAMP_HUB=""), 4, "No SAMP hub is running")
    lock = tmp_path / ".samp"
    lock.write_text("<html>")
    with pytest.raises(NetworkError, match="not a SAMP hub's lock file"):
        samp.send(path, hub=str(lock))
    with socket.socket() as taken:  # a hub that died: no process listens at its port
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        lock.write_text(f"samp.secret=x\nsamp.hub.xmlrpc.url=http://127.0.0.1:{port}/\n")
        with pytest.raises(NetworkError, match=r"does not respond\. Start TOPCAT"):
            samp.send(path, hub=lock.as_uri())


def test_a_hub_that_hangs_is_given_up(
    tmp_path: Path, catalogue: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gqs.samp._SLACK_S", 1.0)
    path = tables.write(catalogue, tmp_path / "c.fits")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        (tmp_path / "lock").write_text(f"samp.secret=x\nsamp.hub.xmlrpc.url={url}\n")
        with pytest.raises(NetworkError, match="does not respond"):
            samp.send(path, hub=str(tmp_path / "lock"), wait_s=1)


def test_what_is_no_table_is_refused_before_any_hub_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        samp.send(tmp_path / "no.fits", hub="nowhere")
    (tmp_path / "field.png").write_bytes(b"\x89PNG")
    with pytest.raises(UsageError, match="unknown ending"):
        samp.send(tmp_path / "field.png", hub="nowhere")
