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


class RegistryUnavailable(CriError):
    """The message begins with the word by which a kubelet knows this case."""

    def __init__(self, message: str) -> None:
        super().__init__(f"RegistryUnavailable: {message}")


class SignatureInvalid(CriError):
    """The image is not signed as the node's policy demands; the message begins with the word by which a kubelet knows this case."""

    def __init__(self, message: str) -> None:
        super().__init__(f"SignatureValidationFailed: {message}")
