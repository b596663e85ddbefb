"""What the API says when it refuses: `metav1.Status` failures and the field errors inside them.

kubectl prints a Status by its `reason`, `message` and `details.causes`, so the wording is upstream's. A 422 always carries causes: kubectl drops the
message of one without them. `details.kind` is the plural resource everywhere except in a 422, where it is the Kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Status = dict[str, Any]

_OMIT = object()

NOT_FOUND = "FieldValueNotFound"
REQUIRED = "FieldValueRequired"
DUPLICATE = "FieldValueDuplicate"
INVALID = "FieldValueInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
TYPE_INVALID = "FieldValueTypeInvalid"
INTERNAL = "InternalError"

_WORDS = {
    NOT_FOUND: "Not found",
    REQUIRED: "Required value",
    DUPLICATE: "Duplicate value",
    INVALID: "Invalid value",
    NOT_SUPPORTED: "Unsupported value",
    FORBIDDEN: "Forbidden",
    TOO_LONG: "Too long",
    TOO_MANY: "Too many",
    TYPE_INVALID: "Invalid value",
    INTERNAL: "Internal error",
}
#: These never show the value: it is absent, secret or too big.
_WITHOUT_VALUE = frozenset({REQUIRED, FORBIDDEN, TOO_LONG, INTERNAL})


@dataclass(slots=True)
class FieldError:
    """One fault at one path. `reason` is one of the constants above; `str()` reads `spec.replicas: Invalid value: -1: must be …`."""

    reason: str
    field: str
    value: Any = _OMIT
    detail: str = ""

    @property
    def body(self) -> str:
        """The message without the path, as a cause carries it."""
        text = _WORDS[self.reason]
        if self.reason not in _WITHOUT_VALUE and self.value is not _OMIT:
            text = f"{text}: {quote(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"

    def cause(self) -> dict[str, str]:
        """The entry of `details.causes`."""
        return {"reason": self.reason, "message": self.body, "field": self.field}


def quote(value: Any) -> str:
    """A value as Go prints it in a message: strings quoted, null as the string "null", the rest as JSON."""
    if value is None:
        return '"null"'
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    """The value breaks a rule."""
    return FieldError(INVALID, field, value, detail)


def required_value(field: str, detail: str = "") -> FieldError:
    """The value is missing."""
    return FieldError(REQUIRED, field, "", detail)


def forbidden_value(field: str, detail: str) -> FieldError:
    """The field must not be set, or must not change."""
    return FieldError(FORBIDDEN, field, "", detail)


def duplicate_value(field: str, value: Any) -> FieldError:
    """The value stands there twice."""
    return FieldError(DUPLICATE, field, value)


def not_found_value(field: str, value: Any) -> FieldError:
    """The value names something that is not there."""
    return FieldError(NOT_FOUND, field, value)


def unsupported_value(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    """The value is none of an enumeration's."""
    words = ", ".join(quote(each) for each in supported)
    return FieldError(NOT_SUPPORTED, field, value, f"supported values: {words}" if words else "")


def too_long_value(field: str, limit: int) -> FieldError:
    """More than `limit` bytes."""
    return FieldError(TOO_LONG, field, "", f"may not be more than {limit} {'byte' if limit == 1 else 'bytes'}")


def too_many_values(field: str, actual: int, limit: int) -> FieldError:
    """A list of `actual` where `limit` are allowed."""
    return FieldError(TOO_MANY, field, actual, f"must have at most {limit} {'item' if limit == 1 else 'items'}")


def wrong_type(field: str, value: Any, detail: str) -> FieldError:
    """The value has another JSON type."""
    return FieldError(TYPE_INVALID, field, value, detail)


class ApiError(Exception):
    """A refusal. `status` is the Status to send or the one that was received."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.get("message") or status.get("reason") or "unknown")
        self.status = status

    @property
    def code(self) -> int:
        """The HTTP status code."""
        return int(self.status.get("code") or 500)

    @property
    def reason(self) -> str:
        """The machine-readable reason, such as `NotFound`; empty where the server gave none."""
        return str(self.status.get("reason") or "")

    @property
    def message(self) -> str:
        return str(self.status.get("message") or "")

    @property
    def causes(self) -> list[dict[str, str]]:
        """`details.causes`, empty where there are none."""
        return list((self.status.get("details") or {}).get("causes") or [])

    @property
    def retry_after(self) -> int:
        """`details.retryAfterSeconds`, 0 where the server gave none."""
        return int((self.status.get("details") or {}).get("retryAfterSeconds") or 0)


def failure(code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> ApiError:
    """Any failure; the constructors below know the usual ones."""
    status: Status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    if reason:
        status["reason"] = reason
    if details:
        status["details"] = {key: value for key, value in details.items() if value not in ("", None, [])}
    status["code"] = code
    return ApiError(status)


def _of(group: str, plural: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "group": group, "kind": plural, **more}


def _qualified(group: str, resource: str) -> str:
    return f"{resource}.{group}" if group else resource


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def not_found(group: str, plural: str, name: str) -> ApiError:
    """404: there is no such object."""
    return failure(404, "NotFound", f'{_qualified(group, plural)} "{name}" not found', _of(group, plural, name))


def no_such_path() -> ApiError:
    """404 for a path or kind that is not served."""
    return failure(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group: str, plural: str, name: str) -> ApiError:
    """409: the name is taken."""
    return failure(409, "AlreadyExists", f'{_qualified(group, plural)} "{name}" already exists', _of(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str = STALE) -> ApiError:
    """409: somebody else wrote first, or a precondition failed."""
    message = f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}'
    return failure(409, "Conflict", message, _of(group, plural, name))


def apply_conflict(message: str, causes: Sequence[dict[str, str]]) -> ApiError:
    """409 of server-side apply: the fields belong to other managers."""
    return failure(409, "Conflict", message, {"causes": list(causes)})


def invalid(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422: the object breaks rules; one cause a fault."""
    words = list(dict.fromkeys(str(each) for each in errors))
    text = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    message = f'{_qualified(group, kind)} "{name}" is invalid' + (f": {text}" if words else "")
    return failure(422, "Invalid", message, _of(group, kind, name, causes=[each.cause() for each in errors]))


def bad_request(message: str) -> ApiError:
    """400: the request makes no sense."""
    return failure(400, "BadRequest", message)


def forbidden(group: str, plural: str, name: str, why: str) -> ApiError:
    """403: the user, an admission rule or a quota does not allow it."""
    subject = f'{_qualified(group, plural)} "{name}"' if name else _qualified(group, plural)
    message = f"{subject} is forbidden: {why}" if plural else f"forbidden: {why}"
    return failure(403, "Forbidden", message, _of(group, plural, name))


def unauthorized(message: str = "Unauthorized") -> ApiError:
    """401: nobody knows who is asking."""
    return failure(401, "Unauthorized", message)


def method_not_allowed(group: str, plural: str, verb: str) -> ApiError:
    """405: the resource has no such verb."""
    message = f'{verb} is not supported on resources of kind "{_qualified(group, plural)}"'
    return failure(405, "MethodNotAllowed", message, _of(group, plural))


def gone(message: str) -> ApiError:
    """410: it was there once and is not coming back."""
    return failure(410, "Gone", message)


def expired(message: str) -> ApiError:
    """410: the resourceVersion or continue token is older than what is kept; list again."""
    return failure(410, "Expired", message)


def too_large(message: str) -> ApiError:
    """413: the body is over the limit."""
    return failure(413, "RequestEntityTooLarge", f"Request entity is too large: {message}")


def unsupported_media_type(accepted: Iterable[str]) -> ApiError:
    """415: the body is in a format that is not taken here."""
    words = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {words}"
    return failure(415, "UnsupportedMediaType", message)


def not_acceptable(accepted: Iterable[str]) -> ApiError:
    """406: none of the formats asked for can be had."""
    return failure(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")


def timeout(message: str, retry_after: int = 0) -> ApiError:
    """504: it took too long; whether it happened is not known."""
    return failure(504, "Timeout", f"Timeout: {message}", {"retryAfterSeconds": retry_after or None})


def too_many_requests(message: str, retry_after: int = 0) -> ApiError:
    """429. `retry_after` in seconds makes client-go try again silently, so leave it 0 where the user should see the message."""
    return failure(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after or None})


def internal(message: str) -> ApiError:
    """500: our own fault."""
    return failure(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})


def service_unavailable(message: str) -> ApiError:
    """503: not now."""
    return failure(503, "ServiceUnavailable", message)


def from_status(status: Status) -> ApiError:
    """The error of a Status that a server sent."""
    return ApiError(status)


def _has(error: BaseException | None, reason: str, code: int) -> bool:
    """By reason; by code only where the server gave no reason."""
    if not isinstance(error, ApiError):
        return False
    return error.reason == reason or (not error.reason and error.code == code)


def is_not_found(error: BaseException | None) -> bool:
    return _has(error, "NotFound", 404)


def is_already_exists(error: BaseException | None) -> bool:
    return _has(error, "AlreadyExists", 0)


def is_conflict(error: BaseException | None) -> bool:
    return _has(error, "Conflict", 409)


def is_invalid(error: BaseException | None) -> bool:
    return _has(error, "Invalid", 422)


def is_expired(error: BaseException | None) -> bool:
    """Whether a list or watch has to start again from scratch."""
    return _has(error, "Expired", 410) or _has(error, "Gone", 410)


def is_timeout(error: BaseException | None) -> bool:
    return _has(error, "Timeout", 504)


def is_namespace_terminating(error: BaseException | None) -> bool:
    """A create that was refused because its namespace is being deleted: not worth a retry."""
    return isinstance(error, ApiError) and any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes)
