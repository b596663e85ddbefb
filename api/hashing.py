"""The hash that tells one pod template from another in names and labels (`pod-template-hash`).

FNV-1a over canonical JSON, spelled in letters that form no words. Upstream hashes a dump of its Go structs, so the same template has another hash
there; nothing but the owner ever compares them.
"""

from __future__ import annotations

import json
from typing import Any

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def fnv1a_32(data: bytes, start: int = 0x811C9DC5) -> int:
    """The 32-bit FNV-1a hash."""
    value = start
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def safe_encode(text: str) -> str:
    """Each character by one of 27 that can stand in a name and spell nothing."""
    return "".join(_ALPHABET[ord(each) % len(_ALPHABET)] for each in text)


def canonical_json(value: Any) -> bytes:
    """The same bytes for the same data, however its keys are ordered; absent and null are the same."""
    return json.dumps(_without_null(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_null(each) for each in value]
    return value


def template_hash(template: dict[str, Any], collision_count: int | None = None) -> str:
    """The label value for a template; a collision count gives another one for the same template."""
    value = fnv1a_32(canonical_json(template))
    if collision_count is not None:
        value = fnv1a_32(collision_count.to_bytes(8, "little"), value)
    return safe_encode(str(value))
