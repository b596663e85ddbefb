"""RFC 7386: objects merge, null deletes, everything else replaces."""

from __future__ import annotations

from typing import Any

from kubeling.api.errors import bad_request
from kubeling.api.meta import copy_json
from kubeling.api.patch.json_patch import too_deep

#: What JSON calls what is no object and no number.
_KINDS = {list: "array", str: "string", bool: "bool", type(None): "null"}


def apply_merge_patch(document: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The patched document; parts that the patch does not touch are shared with the original. Raises ApiError 400 for a patch that is no object."""
    if not isinstance(patch, dict):
        kind = _KINDS.get(type(patch), "number")
        raise bad_request(f"error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    try:
        return _merge(document, patch)
    except RecursionError:
        raise too_deep() from None


def _merge(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge(merged.get(key), value)
        else:
            merged[key] = copy_json(value)
    return merged
