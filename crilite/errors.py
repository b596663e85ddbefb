"""What a CRI call can fail with; each is one gRPC status code."""

from __future__ import annotations


class CriError(Exception):
    """The base: an unexpected failure of the runtime itself."""

    code = "UNKNOWN"


class NotFound(CriError):
    code = "NOT_FOUND"


class AlreadyExists(CriError):
    code = "ALREADY_EXISTS"


class InvalidArgument(CriError):
    code = "INVALID_ARGUMENT"


class FailedPrecondition(CriError):
    code = "FAILED_PRECONDITION"


class DeadlineExceeded(CriError):
    code = "DEADLINE_EXCEEDED"


class Unimplemented(CriError):
    code = "UNIMPLEMENTED"
