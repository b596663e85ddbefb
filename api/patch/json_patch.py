"""RFC 6902. A patch that is no patch is a 400; one that does not fit the document, a failed `test` included, is a 422; one too long is a 413."""

from __future__ import annotations

import json
from typing import Any

from kubeling.api.errors import ApiError, bad_request, failure
from kubeling.api.meta import copy_json

MAX_OPERATIONS = 10_000
#: What `copy` may add up to, in bytes of JSON, so that a few operations cannot blow a document up.
MAX_COPIED = 3 * 1024 * 1024

_ABSENT = object()


def apply_json_patch(document: Any, operations: Any) -> Any:
    """The patched document; `document` itself stays as it is. Raises ApiError."""
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise failure(413, "RequestEntityTooLarge", message)
    try:
        return _Run(copy_json(document)).all(operations)
    except RecursionError:
        raise too_deep() from None


def too_deep() -> ApiError:
    """The 400 of a patch that is nested deeper than can be walked."""
    return bad_request("error decoding patch: json: exceeded max depth")


def unprocessable(message: str) -> ApiError:
    """The 422 of a patch that does not fit. It has no causes: kubectl shows the message of an Invalid that names no object."""
    return failure(422, "Invalid", f"the server rejected our request due to an error in our request: {message}")


class _Run:
    """One patch being applied to a document of its own."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._copied = 0

    def all(self, operations: list[dict[str, Any]]) -> Any:
        for each in operations:
            self._one(each)
        return self._document

    def _one(self, operation: dict[str, Any]) -> None:
        name, path = operation.get("op"), operation.get("path")
        if not isinstance(path, str):
            raise bad_request(f"{name} operation: path is missing or not a string")
        tokens = _tokens(path)
        match name:
            case "add":
                self._add(tokens, copy_json(_member(operation, "value")), path)
            case "remove":
                self._remove(tokens, path)
            case "replace":
                value = copy_json(_member(operation, "value"))
                if self._get(tokens) is _ABSENT:
                    raise unprocessable(f"replace operation does not apply: doc is missing key: {path}: missing value")
                self._put(tokens, value)
            case "test":
                found = self._get(tokens)
                expected = operation.get("value")
                if not _equal(None if found is _ABSENT else found, expected):
                    raise unprocessable(f"testing value {path} failed: test failed")
            case "move":
                source = _tokens(_pointer(operation))
                if tokens[: len(source)] == source and len(tokens) > len(source):
                    raise unprocessable(f"move operation does not apply: cannot move {_pointer(operation)} into itself")
                value = self._take(source, "move", operation)
                self._remove(source, path)
                self._add(tokens, value, path)
            case "copy":
                value = copy_json(self._take(_tokens(_pointer(operation)), "copy", operation))
                self._copied += len(json.dumps(value))
                if self._copied > MAX_COPIED:
                    raise failure(
                        413, "RequestEntityTooLarge", "Unable to complete the copy, the accumulated size increase is too large"
                    )
                self._add(tokens, value, path)
            case _:
                raise unprocessable(f"Unexpected kind: {name}")

    def _take(self, source: list[str], name: str, operation: dict[str, Any]) -> Any:
        value = self._get(source)
        if value is _ABSENT:
            raise unprocessable(f"{name} operation does not apply: doc is missing from path: {operation['from']}: missing value")
        return value

    def _get(self, tokens: list[str]) -> Any:
        found = self._document
        for token in tokens:
            if isinstance(found, dict):
                found = found.get(token, _ABSENT)
            elif isinstance(found, list):
                at = _index(token, len(found) - 1)
                found = found[at] if at is not None else _ABSENT
            else:
                return _ABSENT
            if found is _ABSENT:
                return _ABSENT
        return found

    def _put(self, tokens: list[str], value: Any) -> None:
        if not tokens:
            self._document = value
            return
        parent = self._get(tokens[:-1])
        parent[int(tokens[-1]) if isinstance(parent, list) else tokens[-1]] = value

    def _add(self, tokens: list[str], value: Any, path: str) -> None:
        parent = self._get(tokens[:-1]) if tokens else {}
        if isinstance(parent, list):
            at = len(parent) if tokens[-1] == "-" else _index(tokens[-1], len(parent))
            if at is None:
                raise unprocessable(
                    f"error in add for path: '{path}': Unable to access invalid index: {tokens[-1]}: invalid index referenced"
                )
            parent.insert(at, value)
        elif isinstance(parent, dict):
            self._put(tokens, value)
        else:
            raise unprocessable(f'add operation does not apply: doc is missing path: "{path}": missing value')

    def _remove(self, tokens: list[str], path: str) -> None:
        parent = self._get(tokens[:-1]) if tokens else None
        if not isinstance(parent, dict | list):
            raise unprocessable(f'remove operation does not apply: doc is missing path: "{path}": missing value')
        if self._get(tokens) is _ABSENT:
            why = "access invalid index" if isinstance(parent, list) else "remove nonexistent key"
            what = "invalid index referenced" if isinstance(parent, list) else "missing value"
            raise unprocessable(f"error in remove for path: '{path}': Unable to {why}: {tokens[-1]}: {what}")
        if isinstance(parent, list):
            del parent[int(tokens[-1])]
        else:
            del parent[tokens[-1]]


def _member(operation: dict[str, Any], name: str) -> Any:
    if name not in operation:
        raise unprocessable(f"{operation.get('op')} operation does not apply: missing {name}")
    return operation[name]


def _pointer(operation: dict[str, Any]) -> str:
    source = operation.get("from")
    if not isinstance(source, str):
        raise bad_request(f"{operation.get('op')} operation: from is missing or not a string")
    return source


def _tokens(pointer: str) -> list[str]:
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise unprocessable(f'invalid JSON pointer: "{pointer}"')
    return [each.replace("~1", "/").replace("~0", "~") for each in pointer[1:].split("/")]


def _index(token: str, last: int) -> int | None:
    """The index that a token means, None where it is none or beyond `last`."""
    if not token.isascii() or not token.isdigit() or len(token) > 9 or (token[0] == "0" and token != "0"):
        return None
    at = int(token)
    return at if at <= last else None


def _equal(left: Any, right: Any) -> bool:
    """JSON equality, in which true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_equal(one, other) for one, other in zip(left, right, strict=True))
    return bool(left == right)
