"""Errors of gqs: each message is one sentence, each class has an exit code."""

from __future__ import annotations


class GqsError(Exception):
    """Base class; the message says which file or row, what is wrong, and what to do."""

    exit_code = 1


class UsageError(GqsError):
    """An invalid option, configuration or request."""

    exit_code = 2


class BadInputError(GqsError):
    """An invalid item (frame, field, row), which is set aside while the others are processed."""

    exit_code = 3


class NetworkError(GqsError):
    """A host that cannot be found, reached or trusted."""

    exit_code = 4


class ResourceError(GqsError):
    """Disk, memory, permission, or a lock that another process holds."""

    exit_code = 5


class ModelError(GqsError):
    """An invalid model folder, or a training whose loss is not finite."""

    exit_code = 6


class IntegrityError(GqsError):
    """Data that contradict themselves, or leakage between the sides of a split."""

    exit_code = 7


# If several apply, a command returns the first of these.
PRECEDENCE = (7, 6, 5, 4, 2, 3)


def worst(codes: set[int]) -> int:
    """The exit code of a command to which several apply; 0 if none does."""
    return next((code for code in PRECEDENCE if code in codes), 0)
