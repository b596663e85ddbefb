"""What the door says when it refuses, in upstream's words."""

from __future__ import annotations

from kubeling.api.errors import ApiError


class DecodeError(ApiError):
    """400: the body is not what it should be. Its message stands alone, without a kind before it, where none is known yet."""

    def __init__(self, message: str) -> None:
        super().__init__(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "BadRequest",
                "code": 400,
            }
        )


def cannot_handle(api_version: str, kind: str, why: str) -> DecodeError:
    """The object is none of that kind."""
    version = api_version.rpartition("/")[2]
    return DecodeError(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')
