"""A loopback archive of small frames, and what a faultless fetch from it leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from archive.folder import FRAMES, State, fetched
from loopback.sas import any_field, serve_frames, small_frame
from loopback.server import LoopbackServer


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
