"""Loopback servers of frames and of SDSS's catalogue, and as little patience as tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from archive.folder import FRAMES, State, fetched
from gqs.archive import http, skyserver
from loopback.sas import any_field, serve_frames, small_frame
from loopback.server import LoopbackServer
from loopback.skyserver import Database, SkyServer, generated

ROWS = generated(400, repeats=6)
QUICK = http.Patience(
    tries=3, first_wait_s=0.01, longest_wait_s=0.05, low_speed_s=0.4, unreachable_s=1.0
)


@pytest.fixture
def quick() -> http.Patience:
    """Three tries, and hardly a wait."""
    return QUICK


@pytest.fixture
def sky(monkeypatch: pytest.MonkeyPatch) -> Iterator[SkyServer]:
    """A SkyServer of 400 objects and six further spectra; `sky.server` is where it is."""
    monkeypatch.setattr(skyserver, "PAUSE_S", 0.0)
    database = Database(ROWS)
    made = SkyServer(dict.fromkeys((8, 9, 10, 11, 12, 16, 18, 19), database))
    with LoopbackServer() as server:
        made.serve(server)
        yield made


@pytest.fixture(scope="session")
def pixels() -> bytes:
    return small_frame()


@pytest.fixture(scope="module")
def running(pixels: bytes) -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        serve_frames(server, any_field(pixels))
        yield server


@pytest.fixture
def server(running: LoopbackServer) -> LoopbackServer:
    running.heal()
    running.log.clear()
    return running


@pytest.fixture(scope="module")
def faultless(running: LoopbackServer, tmp_path_factory: pytest.TempPathFactory) -> State:
    running.heal()
    folder = tmp_path_factory.mktemp("faultless")
    report = fetched(running, folder)
    assert len(report.paths) == len(FRAMES) == report.fetched
    return State.of(folder)
