"""What does kill -9 leave of a fetch? 100 runs of 30 files, killed at random moments.

The archive is a loopback server in another process, at 0.8 MB/s a connection, so that most kills
fall into the middle of files. After each kill every file under a final name is compared with what
the archive has, byte for byte; then one more run has to bring files and manifest to the state that
a fetch leaves which nobody killed.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from gqs.archive import Manifest, fetch
from gqs.imaging.frames import check_frame
from measured import save

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from loopback.fetching import archive_process, killed
from loopback.sas import any_field, small_frame, some_frames

SEED = 20241123
RUNS, FILES = 100, 30


def left_in(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the manifest's, by its path there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("manifest.sqlite")
    }


def rows_in(folder: Path) -> list[object]:
    with Manifest(folder) as manifest:
        return list(manifest.rows())


def main() -> None:
    chance, frames = random.Random(SEED), some_frames(FILES)
    made = any_field(small_frame())
    true = {str(name): made(name) for name in frames}
    wrong, unfinished, alive, parts, finals, resumed = 0, 0, 0, 0, [], 0
    with archive_process("--latency", 0.02, "--pace", 0.01) as url:
        with tempfile.TemporaryDirectory() as name:
            begin = time.monotonic()
            fetch(frames, Path(name), check=check_frame, mirror=url)
            whole_s = time.monotonic() - begin
            faultless, rows = left_in(Path(name)), rows_in(Path(name))
        total = sum(map(len, faultless.values()))
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                alive += killed(url, folder, FILES, chance.uniform(0.0, whole_s))
                left = left_in(folder)
                named = [path for path in left if path.endswith(".fits.bz2")]
                wrong += sum(left[path] != true[Path(path).name] for path in named)
                parts += sum(path.endswith(".part") and bool(left[path]) for path in left)
                finals.append(len(named))
                report = fetch(frames, folder, check=check_frame, mirror=url)
                resumed += total - sum(len(left[path]) for path in named) - report.bytes
                unfinished += left_in(folder) != faultless or rows_in(folder) != rows
    save(
        "fetch_killed",
        SEED,
        {
            "question": "Does a killed fetch ever leave a wrong file, or one that is not mended?",
            "runs": RUNS,
            "files": FILES,
            "bytes_a_fetch": total,
            "seconds_without_kill": whole_s,
            "killed_while_at_it": alive,
            "files_there_after_a_kill": {
                "least": min(finals),
                "mean": sum(finals) / RUNS,
                "most": max(finals),
            },
            "begun_files_left": parts,
            "bytes_not_fetched_again_thanks_to_them": resumed,
            "wrong_files_under_a_final_name": wrong,
            "runs_not_finished_by_one_more": unfinished,
        },
    )


if __name__ == "__main__":
    main()
