"""The model: what a correct store does with a request, in the simplest form that can be right.

A state is a dict of the keys that exist; a revision is a number beside it. Nothing is ever changed in place, so the states of all revisions can be kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from .operations import (
    KV,
    Body,
    Compare,
    Delete,
    DeleteBody,
    Event,
    Put,
    PutBody,
    Range,
    RangeBody,
    Request,
    Txn,
    TxnBody,
)

State = dict[str, KV]


def covers(key: str, start: str, end: str) -> bool:
    """Whether `key` is in etcd's range [start, end): one key where `end` is empty, no upper limit where it is a zero byte."""
    if not end:
        return key == start
    return key >= start and (end == "\x00" or key < end)


def prefix_end(prefix: str) -> str:
    """The end of the range of all keys with this prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def apply(state: State, revision: int, request: Request) -> tuple[State, list[Event], Body]:
    """What `request` makes of `state`: the state after it, its events (all of `revision` + 1; none: no new revision), and the answer's body."""
    after = dict(state)
    events: list[Event] = []
    body: Body = None
    if isinstance(request, Txn):
        succeeded = all(holds(one, state) for one in request.compares)
        chosen = request.success if succeeded else request.failure
        body = TxnBody(succeeded, tuple(_one(after, revision, part, events) for part in chosen))
    elif isinstance(request, (Put, Range, Delete)):
        body = _one(after, revision, request, events)
    return after, events, body


def _one(state: State, revision: int, request: Put | Range | Delete, events: list[Event]) -> PutBody | RangeBody | DeleteBody:
    if isinstance(request, Range):
        return read(state, request)
    if isinstance(request, Put):
        old = state.get(request.key)
        new = KV(
            request.key,
            request.value,
            old.create if old else revision + 1,
            revision + 1,
            old.version + 1 if old else 1,
            request.lease,
        )
        state[request.key] = new
        events.append(Event(request.key, revision + 1, new))
        return PutBody(old)
    gone = tuple(kv for key, kv in sorted(state.items()) if covers(key, request.key, request.end))
    remove(state, revision, gone, events)
    return DeleteBody(len(gone), gone)


def remove(state: State, revision: int, gone: Iterable[KV], events: list[Event]) -> None:
    """Take these keys out of `state`, as revision + 1."""
    for kv in gone:
        del state[kv.key]
        events.append(Event(kv.key, revision + 1, None))


def lease_gone(state: State, revision: int, lease: int) -> tuple[State, list[Event]]:
    """What the end of a lease makes of `state`."""
    after = dict(state)
    events: list[Event] = []
    remove(after, revision, [kv for _, kv in sorted(state.items()) if kv.lease == lease], events)
    return after, events


def read(state: State, request: Range) -> RangeBody:
    """The answer to a read of `state`."""
    found = tuple(kv for key, kv in sorted(state.items()) if covers(key, request.key, request.end))
    limited = found[: request.limit] if request.limit else found
    return RangeBody(limited, len(found), len(limited) < len(found))


def holds(compare: Compare, state: State) -> bool:
    """Whether a comparison is true of `state`; a key that is not there has zeros, and a comparison of its value is false."""
    kv = state.get(compare.key)
    if compare.target == "value" and kv is None:
        return False
    have: str | int = 0
    if kv is not None:
        have = {"value": kv.value, "version": kv.version, "create": kv.create, "mod": kv.mod}[compare.target]
    want = compare.operand
    if compare.operator == "=":
        return have == want
    if compare.operator == "!=":
        return have != want
    if compare.operator == "<":
        return have < want  # type: ignore[operator]
    return have > want  # type: ignore[operator]


def has_effect(request: Request, body: Body) -> bool:
    """Whether a request that was answered with `body` made a new revision."""
    if isinstance(request, Put):
        return True
    if isinstance(body, DeleteBody):
        return body.deleted > 0
    if isinstance(body, TxnBody):
        return any(isinstance(one, PutBody) or (isinstance(one, DeleteBody) and one.deleted > 0) for one in body.bodies)
    return False
