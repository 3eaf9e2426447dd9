"""What a folder of frames holds, and a fetch that has only a test's patience."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gqs.archive import FetchReport, Manifest, fetch
from gqs.archive.http import Patience
from gqs.archive.manifest import Row
from gqs.imaging.frames import check_frame
from gqs.surveys.sdss import FrameName
from loopback.sas import some_frames
from loopback.server import LoopbackServer

# As by default, but in seconds that a test has.
QUICK = Patience(
    connect_s=1.0, unreachable_s=2.0, tries=3, first_wait_s=0.01, longest_wait_s=0.05,
    longest_pause_s=5.0, low_speed_s=1.0,
)  # fmt: skip
FRAMES = some_frames(3, "gr")


@dataclass(frozen=True)
class State:
    """Everything that a folder of frames holds, leaving out the manifest's own pages."""

    files: dict[str, bytes]
    manifest: list[Row]

    @classmethod
    def of(cls, folder: Path) -> State:
        with Manifest(folder) as manifest:
            rows = manifest.rows()
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith("manifest.sqlite")
        }
        return cls(files, rows)


def fetched(
    server: LoopbackServer,
    folder: Path,
    frames: list[FrameName] = FRAMES,
    patience: Patience = QUICK,
    connections: int = 4,
) -> FetchReport:
    return fetch(
        frames, folder, check=check_frame, mirror=server.url, patience=patience,
        connections=connections,
    )  # fmt: skip
