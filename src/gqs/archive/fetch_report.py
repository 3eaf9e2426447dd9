"""What a fetch did, and what it ends with where frames are missing or wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gqs.errors import BadInputError, GqsError, IntegrityError, NetworkError, worst
from gqs.surveys.sdss import FrameName


@dataclass
class FetchReport:
    """What a fetch did."""

    # of the frames that are in the folder now
    paths: dict[FrameName, Path] = field(default_factory=dict)
    # A sentence for each frame that the archive does not have, or has wrong
    set_aside: list[str] = field(default_factory=list)
    code: int = 0  # 0, 3 where frames are set aside, 7 where one of them is not what its name says
    fetched: int = 0  # frames that were not there before
    size: int = 0  # bytes of those
    # that came over the network: fewer where a part was here, more where one came twice
    bytes: int = 0
    seconds: float = 0.0  # it took

    def refuse_none(self) -> None:
        """Refuse to go on where not one frame came."""
        if not self.paths:
            wrong = self.code == IntegrityError.exit_code
            refuse = IntegrityError if wrong else BadInputError
            raise refuse(f"The archive gave none of the frames. {self.set_aside[0]}")

    def put_aside(self, error: GqsError) -> None:
        """Note a frame that the archive does not have, or has wrong."""
        first = error.exit_code == IntegrityError.exit_code
        self.set_aside.insert(0 if first else len(self.set_aside), str(error))
        self.code = worst({self.code, error.exit_code} - {0})

    def incomplete(self, error: GqsError, total: int) -> GqsError:
        """Say why frames are missing."""
        sentence = f"{len(self.paths)} of {total} frames are here. {error}"
        if self.code == IntegrityError.exit_code:
            return self.wrong(sentence)
        return NetworkError(sentence)

    def wrong(self, ended: object) -> IntegrityError:
        """Say of a fetch that ended early that a frame had come which is not what its name says."""
        return IntegrityError(f"{ended} Besides: {self.set_aside[0]}")

    def as_dict(self) -> dict[str, Any]:
        """Return what machines want to know."""
        return {**self.__dict__, "paths": [str(path) for path in self.paths.values()]}
