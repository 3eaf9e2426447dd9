"""Exit codes are those that trust in the whole rests on; the worst of several wins."""

from __future__ import annotations

import itertools
import pickle

import pytest

from gqs import errors

CODES = {
    errors.UsageError: 2,
    errors.BadInputError: 3,
    errors.NetworkError: 4,
    errors.ResourceError: 5,
    errors.ModelError: 6,
    errors.IntegrityError: 7,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_codes(kind: type[errors.GqsError], code: int) -> None:
    assert kind("what is wrong").exit_code == code
    assert issubclass(kind, errors.GqsError)


@pytest.mark.parametrize("kind", CODES)
def test_errors_cross_processes(kind: type[errors.GqsError]) -> None:
    error = pickle.loads(pickle.dumps(kind("frame.fits: cut. Fetch it again.")))
    assert type(error) is kind
    assert str(error) == "frame.fits: cut. Fetch it again."


def test_worst() -> None:
    assert errors.worst(set()) == 0
    assert errors.worst({0}) == 0
    assert errors.worst({0, 3}) == 3
    for a, b in itertools.combinations((7, 6, 5, 4, 2, 3), 2):
        assert errors.worst({b, a}) == a
