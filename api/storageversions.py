"""What a StorageVersion says of the servers that store a kind (KEP-2339): their entries, and whether they agree. Without I/O, for those who write and for those who tidy up."""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from typing import Any

from kubeling.api.conditions import set_condition
from kubeling.api.meta import copy_json

Status = dict[str, Any]

AGREED = "AllEncodingVersionsEqual"


def name_of_kind(group: str, plural: str) -> str:
    """The name of a kind's StorageVersion."""
    return f"{group or 'core'}.{plural}"


def entry(server: str, encoding: str, decodable: Iterable[str], served: Iterable[str]) -> dict[str, Any]:
    """What one server says of itself."""
    return {
        "apiServerID": server,
        "encodingVersion": encoding,
        "decodableVersions": sorted({encoding, *decodable}),
        "servedVersions": sorted(served),
    }


def with_entry(status: Status, said: dict[str, Any], now: datetime, generation: int = 0) -> Status:
    """The status with a server's entry put in, or in place of its former one; the very same status where it said so already."""
    entries = list(status.get("storageVersions") or ())
    if said in entries:
        return status
    at = next((at for at, each in enumerate(entries) if each.get("apiServerID") == said["apiServerID"]), len(entries))
    entries[at : at + 1] = [said]
    return _settled(status, entries, now, generation)


def without(status: Status, gone: Container[str], now: datetime, generation: int = 0) -> Status:
    """The status without the entries of these servers; the very same status where it has none."""
    entries = status.get("storageVersions") or []
    left = [each for each in entries if each.get("apiServerID") not in gone]
    return status if len(left) == len(entries) else _settled(status, left, now, generation)


def _settled(status: Status, entries: list[dict[str, Any]], now: datetime, generation: int) -> Status:
    found: Status = {**status, "storageVersions": entries, "conditions": copy_json(status.get("conditions") or [])}
    found.pop("commonEncodingVersion", None)
    encodings = {each.get("encodingVersion") for each in entries}
    said, verb = "False", "Unset"
    if len(encodings) == 1:
        found["commonEncodingVersion"] = encodings.pop()
        said, verb = "True", "Set"
    set_condition(
        found["conditions"],
        AGREED,
        said,
        now,
        reason=f"CommonEncodingVersion{verb}",
        message=f"Common encoding version {verb.lower()}",
        **({"observedGeneration": generation} if generation else {}),
    )
    return found
