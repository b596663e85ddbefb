"""The vocabulary: what a client asked, what it was answered, and how both are kept as JSON lines.

Keys and values are text here, so that a history can be read by people. The dataclasses are plain: what they mean is in `model`, how they go over the wire is
in `client`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class KV(NamedTuple):
    """A key at one revision, as etcd's KeyValue."""

    key: str
    value: str
    create: int
    mod: int
    version: int
    lease: int = 0


class Event(NamedTuple):
    """What one revision did to one key; `kv` is None for a deletion."""

    key: str
    revision: int
    kv: KV | None


@dataclass(frozen=True)
class Put:
    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True)
class Range:
    """All keys in [key, end), or the one key; `revision` 0 is the newest."""

    key: str
    end: str = ""
    revision: int = 0
    limit: int = 0
    serializable: bool = False


@dataclass(frozen=True)
class Delete:
    key: str
    end: str = ""


@dataclass(frozen=True)
class Compare:
    """`target` is one of value, version, create, mod; `operator` one of = != < >."""

    key: str
    target: str
    operator: str
    operand: str | int


@dataclass(frozen=True)
class Txn:
    compares: tuple[Compare, ...]
    success: tuple[Put | Range | Delete, ...]
    failure: tuple[Put | Range | Delete, ...] = ()


@dataclass(frozen=True)
class Grant:
    id: int
    ttl: int


@dataclass(frozen=True)
class Revoke:
    id: int


@dataclass(frozen=True)
class KeepAlive:
    id: int


@dataclass(frozen=True)
class Compact:
    revision: int


Request = Put | Range | Delete | Txn | Grant | Revoke | KeepAlive | Compact


@dataclass(frozen=True)
class PutBody:
    previous: KV | None


@dataclass(frozen=True)
class RangeBody:
    kvs: tuple[KV, ...]
    count: int
    more: bool = False


@dataclass(frozen=True)
class DeleteBody:
    deleted: int
    previous: tuple[KV, ...]


@dataclass(frozen=True)
class TxnBody:
    succeeded: bool
    bodies: tuple[PutBody | RangeBody | DeleteBody, ...]


@dataclass(frozen=True)
class LeaseBody:
    """Of a grant or a keep-alive; `ttl` in seconds, 0 where the lease is no more."""

    ttl: int


Body = PutBody | RangeBody | DeleteBody | TxnBody | LeaseBody | None

#: Outcomes: answered; certainly without effect; nobody knows.
OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


@dataclass
class Operation:
    """One request of one client. Times are nanoseconds of the run's own monotonic clock; `returned` of an unknown outcome is when the client gave up."""

    id: int
    client: str
    member: str
    request: Request
    called: int
    returned: int = 0
    outcome: str = UNKNOWN
    revision: int = 0
    body: Body = None
    error: str = ""


@dataclass
class WatchOpen:
    """What a watch was created with; `start` 0 is from now on. Without `end` it is one key. `filters` are of noput, nodelete."""

    key: str
    end: str = ""
    start: int = 0
    previous: bool = False
    progress: bool = False
    filters: tuple[str, ...] = ()


@dataclass
class WatchResponse:
    """One message of a watch stream. `events` may be empty: created, cancelled, or a bookmark."""

    at: int
    revision: int
    events: tuple[tuple[Event, KV | None], ...] = ()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    reason: str = ""

    @property
    def bookmark(self) -> bool:
        return not self.events and not self.created and not self.canceled


@dataclass
class Watching:
    """One watch on one stream, from its creation to its end. `expected` is the revision up to which it has to have delivered by `ended`, 0 where it was cut off."""

    id: int
    client: str
    member: str
    opened: int
    request: WatchOpen
    responses: list[WatchResponse] = field(default_factory=list)
    ended: int = 0
    reason: str = ""
    expected: int = 0


_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Put, Range, Delete, Compare, Txn, Grant, Revoke, KeepAlive, Compact, PutBody, RangeBody, DeleteBody, TxnBody, LeaseBody,
        Operation, WatchOpen, WatchResponse, Watching, KV, Event,
    )
}  # fmt: skip


def to_json(thing: Any) -> Any:
    """`thing` of this module as JSON: an object with the name of its type under `_`; a KV and an Event as lists."""
    if isinstance(thing, (KV, Event)):
        return [type(thing).__name__, *map(to_json, thing)]
    if dataclasses.is_dataclass(thing):
        fields = {one.name: getattr(thing, one.name) for one in dataclasses.fields(thing)}
        return {"_": type(thing).__name__} | {name: to_json(value) for name, value in fields.items()}
    if isinstance(thing, (list, tuple)):
        return [to_json(one) for one in thing]
    return thing


def from_json(data: Any) -> Any:
    """The inverse of :func:`to_json`."""
    if isinstance(data, dict):
        fields = {name: from_json(value) for name, value in data.items() if name != "_"}
        thing = _KINDS[data["_"]](**fields)
        if isinstance(thing, Watching):
            thing.responses = list(thing.responses)
        return thing
    if isinstance(data, list):
        if data and data[0] in ("KV", "Event"):
            return _KINDS[data[0]](*map(from_json, data[1:]))
        return tuple(map(from_json, data))
    return data
