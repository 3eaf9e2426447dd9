"""Every way that gqs refuses: one sentence each, and the exit code that goes with it."""

from __future__ import annotations


class GqsError(Exception):
    """A refusal that helps: which file or row, what is wrong, what to do next."""

    exit_code = 1


class UsageError(GqsError):
    """An option, a configuration or a request that cannot be met."""

    exit_code = 2


class BadInputError(GqsError):
    """One item (frame, field, row) that is set aside while the rest goes on, if any is left."""

    exit_code = 3


class NetworkError(GqsError):
    """A host that cannot be found, reached or trusted."""

    exit_code = 4


class ResourceError(GqsError):
    """Disk, memory, permission, or a lock that another process holds."""

    exit_code = 5


class ModelError(GqsError):
    """A model folder that is not what it says, or a training that left the finite numbers."""

    exit_code = 6


class IntegrityError(GqsError):
    """Data that contradict themselves, or an object on two sides of a split."""

    exit_code = 7


# When several apply, the first of these is the one that a command returns.
PRECEDENCE = (7, 6, 5, 4, 2, 3)


def worst(codes: set[int]) -> int:
    """Return the exit code that wins where several apply."""
    return next((code for code in PRECEDENCE if code in codes), 0)
