"""One training in a process of its own: `python -m gqs.reproduce.child`, its job on standard input.

Speaks JSON, a line at a time: `done`, `total` and `note` while it works, `failed` with a sentence
where it cannot go on. It ends when its parent does, since the parent holds its standard input; at
SIGTERM the training writes its checkpoint first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from gqs.errors import GqsError


class _Asked:
    """Whether SIGTERM came while the training was not yet listening to it."""

    def __init__(self) -> None:
        self.to_stop = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.to_stop = True

    def heed(self) -> None:
        """Pass the signal on: by now the training listens, or nothing is lost by ending."""
        if self.to_stop:
            self.to_stop = False
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Train, and judge the test side."""
    asked = _Asked()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(done: int, total: int, note: str) -> None:
        _say({"done": done, "total": total, "note": note})
        asked.heed()

    try:
        work(job, tell)
    except GqsError as error:
        _say({"failed": str(error), "code": error.exit_code})
        return error.exit_code
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())[:200]
        where = f"{Path(last.filename).name}:{last.lineno}"
        _say({"failed": f"{type(error).__name__} ({reason}) at {where}.", "code": 1})
        return 1
    return 143 if asked.to_stop else 0


def work(job: dict[str, Any], tell: Any) -> None:
    """Do a job: train a network, or find it trained, and keep its predictions beside it."""
    from gqs.cutouts.split import load
    from gqs.cutouts.store import CutoutStore
    from gqs.recipes import Recipe
    from gqs.reproduce.predictions import keep_predictions
    from gqs.training import train

    store, split = CutoutStore.open(Path(job["store"])), load(Path(job["split"]))
    folder = Path(job["folder"])
    if not job["finished"]:
        train(
            store,
            split,
            folder,
            Recipe.model_validate(job["recipe"]),
            threads=job["threads"],
            device=job["device"],
            seed=job["seed"],
            progress=tell,
        )
    keep_predictions(folder, store, split, job["device"])


def _say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    # A training may be cut off anywhere and goes on from its checkpoint; an orphan would go on
    # writing in a folder that the next command wants.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
