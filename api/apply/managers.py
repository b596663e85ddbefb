"""`metadata.managedFields`: its entries, and how a write other than apply moves ownership.

A manager is its name, operation and subresource, and for updates the apiVersion too. Who changes a field by create, update or patch owns it and
nobody else does any more; who changes nothing leaves everything as it was, times included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from kubeling.api.apply.fieldset import EMPTY, FieldSet, union, without
from kubeling.api.apply.versions import Versions, Write, write
from kubeling.api.schema import Schema
from kubeling.api.times import format_time

APPLY = "Apply"
UPDATE = "Update"
#: Entries of updates beyond this many are folded, oldest first, into one of this name.
MAX_UPDATE_MANAGERS = 10
ANCIENT = "ancient-changes"
#: Owner of what was there before the first apply to an object without managedFields.
BEFORE_FIRST_APPLY = "before-first-apply"


@dataclass(frozen=True, slots=True)
class Entry:
    """One manager and what it owns."""

    manager: str
    operation: str
    api_version: str
    fields: FieldSet
    time: str = ""
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes two entries the same manager."""
        return self.manager, self.operation, self.subresource, "" if self.operation == APPLY else self.api_version

    def encode(self) -> dict[str, Any]:
        """The entry as it stands in the object."""
        found = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields,
            "subresource": self.subresource,
        }
        return {name: value for name, value in found.items() if value != ""}


def decode(entries: Any) -> list[Entry] | None:
    """The entries of an object; None where they are not in a form that can be understood."""
    found: list[Entry] = []
    for each in entries or ():
        if not isinstance(each, dict) or each.get("operation") not in (APPLY, UPDATE) or each.get("fieldsType") != "FieldsV1":
            return None
        fields = each.get("fieldsV1")
        if not isinstance(fields, dict | None):
            return None
        found.append(
            Entry(
                each.get("manager") or "",
                each["operation"],
                each.get("apiVersion") or "",
                fields or EMPTY,
                each.get("time") or "",
                each.get("subresource") or "",
            )
        )
    return found


def is_reset(entries: Any) -> bool:
    """A single empty entry is how a client asks for all of it to be forgotten."""
    return isinstance(entries, list) and len(entries) == 1 and not entries[0]


def current_entries(live: dict[str, Any] | None, new: dict[str, Any], subresource: str) -> list[Entry]:
    """The entries to go on from: those the client sent where they make sense, else the live object's."""
    before = decode(((live or {}).get("metadata") or {}).get("managedFields")) or []
    sent = (new.get("metadata") or {}).get("managedFields")
    if subresource:
        return before
    if is_reset(sent):
        return []
    return decode(sent) or before


def encode_entries(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The list for the object: appliers first, then by time and name; entries that own nothing are left out."""
    kept = [each for each in entries if each.fields]
    kept.sort(key=lambda each: (each.operation, each.time, each.manager, each.api_version, each.subresource))
    return [each.encode() for each in kept]


def write_entries(obj: dict[str, Any], entries: Iterable[Entry]) -> None:
    """Put the entries into the object, in place."""
    encoded = encode_entries(entries)
    metadata = obj.setdefault("metadata", {})
    if encoded:
        metadata["managedFields"] = encoded
    else:
        metadata.pop("managedFields", None)


def update_managers(
    old: dict[str, Any] | None,
    new: dict[str, Any],
    *,
    manager: str,
    schema: Schema,
    now: datetime,
    subresource: str = "",
    api_version: str = "",
    ignored: Sequence[Sequence[str]] = (),
    versions: Versions | None = None,
) -> None:
    """Bring `new.metadata.managedFields` up to date for a create (`old` None), update or patch, in place.

    `new` is the object as it will be stored, `old` as it was, both in `api_version` (the object's own where it is not given). `ignored` are the paths
    that this door resets (`Strategy.reset_fields`). An object that nobody's fields were ever recorded of stays so until the first apply. With `versions`,
    entries of other versions are treated in these, which can raise Unconverted; nothing has been changed then.
    """
    entries = current_entries(old, new, subresource)
    if old is not None and not entries:
        (new.get("metadata") or {}).pop("managedFields", None)
        return
    version = api_version or new.get("apiVersion", "")
    door = write(version, schema, ignored, versions)
    before = old or {}
    changed, removed = door.changes(before, new, version) or (EMPTY, EMPTY)
    if changed or removed:
        entries = list(dispossessed(entries, door, before, new))
    if changed:
        mine = Entry(manager, UPDATE, version, changed, format_time(now), subresource)
        former = next((each for each in entries if each.identity == mine.identity), None)
        if former is not None:
            entries.remove(former)
            mine = replace(mine, fields=union(former.fields, changed))
        entries.append(mine)
    write_entries(new, capped(entries))


def dispossessed(entries: Iterable[Entry], door: Write, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Entry]:
    """The entries without what a write changed or removed; those of versions that are not served are left out."""
    for each in entries:
        found = door.changes(old, new, each.api_version)
        if found is not None:
            yield replace(each, fields=without(without(each.fields, found[0]), found[1]))


def capped(entries: list[Entry]) -> list[Entry]:
    """No more than ten managers by update: the oldest are folded into one for each apiVersion."""
    updates = sorted((each for each in entries if each.operation == UPDATE and not each.subresource), key=lambda each: each.time)
    if len(updates) <= MAX_UPDATE_MANAGERS:
        return entries
    folded: dict[str, Entry] = {}
    gone: set[tuple[str, str, str, str]] = set()
    for each in updates:
        if len(updates) - len(gone) + len(folded) <= MAX_UPDATE_MANAGERS:
            break
        gone.add(each.identity)
        ancient = folded.get(each.api_version)
        fields = union(ancient.fields, each.fields) if ancient else each.fields
        folded[each.api_version] = Entry(ANCIENT, UPDATE, each.api_version, fields, each.time)
    return [each for each in entries if each.identity not in gone] + list(folded.values())
