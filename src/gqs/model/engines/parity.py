"""Comparison of an engine with torch in float32, and the allowed differences.

They depend on the precision. In fp32 only the order of sums differs. In bf16 and int8 the class of
some ambiguous objects changes; a class of which torch was confident must not.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from gqs.formatting import percent
from gqs.model.engines.backends import Engine
from gqs.model.engines.probe_cutouts import ProbeCutouts
from gqs.model.novelty import Novelty

Array = NDArray[np.float64]

SURE: Final = 0.9  # probability above which a class must not change
TIMES: Final = 5  # number of timings, of which the shortest is used
TIMED: Final = 256  # cutouts, whatever the engine's batch


class Limit(NamedTuple):
    """Allowed differences from torch in float32."""

    probability: float  # largest difference of a probability
    flips: float  # fraction of objects whose class changes
    unlike: float  # largest difference of a distance to the classes, in units of 1 + distance


LIMITS: Final = {
    "fp32": Limit(1e-4, 0.003, 1e-3),
    "bf16": Limit(0.05, 0.01, 0.05),
    "int8": Limit(0.3, 0.03, 0.5),
}


@dataclass(frozen=True)
class Parity:
    """Differences of an engine from torch in float32 on the same cutouts."""

    engine: str  # such as "openvino:bf16"
    objects: int  # cutouts compared
    probability: float  # largest difference of a probability
    mean_probability: float  # mean difference of the largest probability
    flips: int  # objects whose class changes
    sure_flips: int  # number of those of which torch was confident
    accuracy: float  # accuracy minus torch's accuracy
    # largest difference of `unlike`, in units of 1 + unlike; 0 for models without it
    unlike: float
    # cutouts per second of CPU time, which other programs disturb less than wall time
    a_cpu_second: float
    refused: str = ""  # reason for refusal; empty if accepted

    def as_dict(self) -> dict[str, Any]:
        """The comparison as a JSON mapping."""
        return asdict(self)


def answers(engine: Engine, seen: ProbeCutouts) -> tuple[Array, Array, float]:
    """Probabilities and novelty of all cutouts by an engine."""
    logits, embeddings, took = [], [], []
    for start in range(0, len(seen), engine.batch):
        rows = slice(start, start + engine.batch)
        found = engine(seen.images[rows], seen.seeing[rows])
        logits.append(found[0])
        embeddings.append(found[1])
    count = min(TIMED, len(seen))
    for _ in range(TIMES):
        begin = time.process_time()
        for start in range(0, count, engine.batch):
            rows = slice(start, min(start + engine.batch, count))
            engine(seen.images[rows], seen.seeing[rows])
        took.append((time.process_time() - begin) / count)
    whole = np.concatenate(logits).astype(np.float64)
    return whole, np.concatenate(embeddings).astype(np.float64), 1 / min(took)


def compared(
    engine: Engine,
    precision: str,
    seen: ProbeCutouts,
    reference: tuple[Array, Array],
    typical: Novelty | None = None,
) -> Parity:
    """Compare an engine with torch."""
    logits, embedding, a_cpu_second = answers(engine, seen)
    ours, theirs = softmax(logits, axis=1), softmax(reference[0], axis=1)
    difference = np.abs(ours - theirs)
    flipped = ours.argmax(axis=1) != theirs.argmax(axis=1)
    far = 0.0
    if typical is not None:
        before = typical.unlike(reference[1])
        far = float((np.abs(typical.unlike(embedding) - before) / (1 + before)).max())
    right = (ours.argmax(axis=1) == seen.truth).mean() - (
        theirs.argmax(axis=1) == seen.truth
    ).mean()
    found = Parity(
        engine.name,
        len(seen),
        float(difference.max()) if np.isfinite(logits).all() else 1.0,
        float(np.abs(ours.max(axis=1) - theirs.max(axis=1)).mean()),
        int(flipped.sum()),
        int((flipped & (theirs.max(axis=1) > SURE)).sum()),
        float(right),
        far,
        a_cpu_second,
    )
    return Parity(**{**asdict(found), "refused": _why(found, LIMITS[precision])})


def _why(found: Parity, limit: Limit) -> str:
    """The differences outside the limits as text; empty if there are none."""
    n = found.objects
    if not found.probability <= limit.probability:
        return (
            f"its probabilities differ from torch's by up to {found.probability:.2g} on {n} "
            f"cutouts, where {limit.probability:g} is allowed"
        )
    if found.flips > limit.flips * n or found.sure_flips:
        return (
            f"it gives {found.flips} of {n} cutouts another class than torch, which was sure of "
            f"{found.sure_flips} of them; {percent(limit.flips)} and none are allowed"
        )
    if not found.unlike <= limit.unlike:
        return (
            f"its distances to the classes differ from torch's by up to {found.unlike:.2g}, where "
            f"{limit.unlike:g} is allowed"
        )
    return ""
