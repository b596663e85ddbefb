"""Server-side apply itself.

A manager sends everything it wishes and nothing else. Leaves that it would change and that others own are conflicts, which `force` turns into a
change of owner. What it owned and no longer sends goes, unless somebody else owns it too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from kubeling.api.apply.fieldset import EMPTY, FieldSet, common, from_paths, paths, spelled, without
from kubeling.api.apply.managers import APPLY, BEFORE_FIRST_APPLY, UPDATE, Entry, capped, decode, write_entries
from kubeling.api.apply.merge import check_keys, merge, prune, strip_nulls
from kubeling.api.apply.versions import Versions, write
from kubeling.api.apply.walk import fields_of, owned_view
from kubeling.api.errors import ApiError, apply_conflict, bad_request, invalid
from kubeling.api.meta import annotations_of, copy_json, metadata_of, name_of
from kubeling.api.schema import Schema
from kubeling.api.times import format_time, parse_time

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_CLIENT_SIDE = "kubectl-client-side-apply"


def apply(
    live: dict[str, Any] | None,
    applied: dict[str, Any],
    *,
    manager: str,
    force: bool,
    schema: Schema,
    version: str,
    now: datetime,
    subresource: str = "",
    ignored: Sequence[Sequence[str]] = (),
    versions: Versions | None = None,
) -> dict[str, Any]:
    """The object after the apply, with its managedFields; equal to `live` where nothing changed. Neither argument is changed.

    `live` (None: create) and `applied` are in `version`. Raises ApiError: 400 where managedFields were sent or the name of the manager is missing,
    409 with the conflicts as causes, 422 where a keyed list cannot be merged; with `versions`, in which entries of other versions are treated, Unconverted.
    Defaulting, admission and validation come after.
    """
    if metadata_of(applied).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if not manager:
        raise bad_request("fieldManager is required for apply patch")
    wish = strip_nulls(applied)
    errors = check_keys(wish, schema)
    if errors:
        raise invalid(applied.get("kind", ""), version.rpartition("/")[0], name_of(applied), errors)
    skipped = from_paths(ignored) if ignored else EMPTY
    base = live if live is not None else {}
    entries = _entries_of(live, schema, version, now)
    mine = Entry(manager, APPLY, version, fields_of(owned_view(wish, skipped), schema), format_time(now), subresource)
    former = next((each for each in entries if each.identity == mine.identity), None)
    others = [each for each in entries if each is not former]

    merged = _merged(base, wish, schema)
    door = write(version, schema, ignored, versions)
    touched = [(each, door.changes(base, merged, each.api_version)) for each in others]
    contested = [(each, common(each.fields, found[0])) for each, found in touched if found is not None]
    contested = [(each, fields) for each, fields in contested if fields]
    if contested and not force:
        contested = _not_own_past(contested, base, manager, schema)
        if contested:
            raise _conflict(contested)
    others = [replace(each, fields=without(each.fields, found[0])) for each, found in touched if found is not None]
    if former is not None:
        owned = [(each.api_version, each.fields) for each in (mine, *others)]
        merged = door.pruned(merged, (former.api_version, former.fields), owned, prune)
        touched = [(each, door.changes(base, merged, each.api_version)) for each in others]
        others = [replace(each, fields=without(each.fields, found[1])) for each, found in touched if found is not None]
    if manager == "kubectl" and not subresource:
        _refresh_last_applied(merged, applied)
    if live is not None and former is not None and _same(former, mine) and merged == base:
        return copy_json(base)  # type: ignore[no-any-return]
    result: dict[str, Any] = copy_json(merged)
    write_entries(result, capped([*others, mine]))
    return result


def _same(former: Entry, mine: Entry) -> bool:
    return former.fields == mine.fields and former.api_version == mine.api_version


def _entries_of(live: dict[str, Any] | None, schema: Schema, version: str, now: datetime) -> list[Entry]:
    """The entries; for an object that has none yet, one that owns everything there is."""
    if live is None:
        return []
    entries = decode(metadata_of(live).get("managedFields"))
    if entries:
        return entries
    stamp = metadata_of(live).get("creationTimestamp")
    since = format_time(parse_time(stamp)) if stamp else format_time(now)
    return [Entry(BEFORE_FIRST_APPLY, UPDATE, version, fields_of(owned_view(live, EMPTY), schema, True), since)]


def _merged(live: dict[str, Any], wish: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """The merge, in which what the server sets stays the live object's. A resourceVersion or uid in the wish is a precondition and stays."""
    merged: dict[str, Any] = merge(live, wish, schema)
    before, sent = metadata_of(live), metadata_of(wish)
    metadata = dict(merged.get("metadata") or {})
    for name in (
        "creationTimestamp",
        "generation",
        "selfLink",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ):
        if name in before:
            metadata[name] = before[name]
        elif name in sent:
            del metadata[name]
    merged["metadata"] = metadata
    return merged


def _not_own_past(
    contested: list[tuple[Entry, FieldSet]], live: dict[str, Any], manager: str, schema: Schema
) -> list[tuple[Entry, FieldSet]]:
    """Moving from client-side to server-side apply: what kubectl itself applied before is no conflict for kubectl."""
    text = annotations_of(live).get(LAST_APPLIED)
    if manager != "kubectl" or not text:
        return contested
    try:
        past = fields_of(owned_view(strip_nulls(json.loads(text)), EMPTY), schema)
    except (ValueError, AttributeError):
        return contested
    left = [(each, without(fields, past) if each.manager == _CLIENT_SIDE else fields) for each, fields in contested]
    return [(each, fields) for each, fields in left if fields]


def _refresh_last_applied(merged: dict[str, Any], applied: dict[str, Any]) -> None:
    """Where client-side apply's annotation is kept, keep it true, so that one can go back."""
    if LAST_APPLIED not in annotations_of(merged) or LAST_APPLIED in annotations_of(applied):
        return
    bare = {**applied, "metadata": {name: value for name, value in metadata_of(applied).items() if name != "managedFields"}}
    metadata = merged["metadata"]
    text = json.dumps(bare, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n"
    metadata["annotations"] = {**metadata["annotations"], LAST_APPLIED: text}


def _conflict(contested: list[tuple[Entry, FieldSet]]) -> ApiError:
    """The 409, which names each field and its owner."""
    contested.sort(key=lambda each: _called(each[0]))
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {_called(each)}", "field": spelled(path)}
        for each, fields in contested
        for path in paths(fields)
    ]
    if len(causes) == 1:
        return apply_conflict(f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}", causes)
    lines: list[str] = []
    for each, fields in contested:
        lines.append(f"conflicts with {_called(each)}:")
        lines += [f"- {spelled(path)}" for path in paths(fields)]
    return apply_conflict(f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines), causes)


def _called(entry: Entry) -> str:
    name = json.dumps(entry.manager, ensure_ascii=False)
    if entry.subresource:
        name = f'{name} with subresource "{entry.subresource}"'
    if entry.operation == UPDATE:
        return f"{name} using {entry.api_version}"
    return name
