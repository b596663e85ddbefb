"""Histories made up for the checker's own tests: right ones by playing a correct store, wrong ones by changing them; and the judge that tries all orders."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Sequence

from .linearize import FIRST_REVISION
from .model import State, apply, has_effect
from .operations import (
    FAILED,
    KV,
    OK,
    UNKNOWN,
    Body,
    Compare,
    Delete,
    DeleteBody,
    Operation,
    Put,
    PutBody,
    Range,
    RangeBody,
    Request,
    Txn,
    TxnBody,
)

_KEYS = ("a", "b")


def write(
    number: int, called: int, returned: int, revision: int, key: str = "a", value: str = "", previous: KV | None = None
) -> Operation:
    """An acknowledged put."""
    return Operation(number, "c", "m", Put(key, value or f"v{number}"), called, returned, OK, revision, PutBody(previous))


def lost(number: int, called: int, request: Request) -> Operation:
    """A request whose outcome nobody knows."""
    return Operation(number, "c", "m", request, called, called + 1_000, UNKNOWN)


def get(
    number: int, called: int, returned: int, revision: int, *kvs: KV, key: str = "a", serializable: bool = False
) -> Operation:
    """A read of one key."""
    return Operation(
        number, "c", "m", Range(key, serializable=serializable), called, returned, OK, revision, RangeBody(tuple(kvs), len(kvs))
    )


def random_request(rng: random.Random, value: str) -> Request:
    key, other = rng.sample(_KEYS, 2)
    choice = rng.randrange(7)
    if choice <= 1:
        return Put(key, value)
    if choice == 2:
        return Delete(key)
    if choice == 3:
        return Range(key, serializable=rng.random() < 0.3)
    if choice == 4:
        return Range("a", "c")
    compare = Compare(key, "version", rng.choice("=<>"), rng.randrange(3))
    if choice == 5:
        return Txn((compare,), (Put(key, value), Put(other, value + "'")), (Delete(other), Range(key)))
    return Txn((compare,), (Delete(key),), (Range(other),))


def random_history(rng: random.Random, count: int) -> list[Operation]:
    """What clients of a correct store might have seen: each request takes effect at some moment between its call and its answer, or is lost on the way."""
    moments = sorted(rng.sample(range(0, 10_000, 10), count))
    state: State = {}
    revision = FIRST_REVISION
    found = []
    for number, moment in enumerate(moments):
        op = Operation(
            number,
            "c",
            "m",
            random_request(rng, f"v{number}"),
            max(0, moment - rng.randrange(400)),
            moment + 1 + rng.randrange(400),
        )
        fate = rng.random()
        if fate < 0.1:
            op.outcome = UNKNOWN if not isinstance(op.request, Range) else FAILED
        else:
            state, events, body = apply(state, revision, op.request)
            revision += bool(events)
            if fate < 0.85 or isinstance(op.request, Range):
                op.outcome, op.revision, op.body = OK, revision, body
        found.append(op)
    rng.shuffle(found)
    return found


def spoiled(rng: random.Random, operations: Sequence[Operation]) -> list[Operation]:
    """The same with one thing changed, which usually makes it wrong."""
    found = [copy.copy(op) for op in operations]
    op = rng.choice([op for op in found if op.outcome == OK] or found)
    match rng.randrange(5):
        case 0:
            op.revision = max(1, op.revision + rng.choice((-1, 1)))
        case 1:
            found.remove(op)
        case 2:
            length = op.returned - op.called
            op.called = max(0, op.called + rng.choice((-2000, -500, 500, 2000)))
            op.returned = op.called + length
        case 3:
            op.body = _changed(op.body)
        case _:
            op.outcome, op.body, op.revision = UNKNOWN if not isinstance(op.request, Range) else FAILED, None, 0
    return found


def _changed(body: Body) -> Body:
    if isinstance(body, PutBody):
        return PutBody(None if body.previous else KV("a", "never", 2, 2, 1))
    if isinstance(body, RangeBody):
        return RangeBody(body.kvs[1:], max(0, len(body.kvs) - 1)) if body.kvs else RangeBody((KV("a", "never", 2, 2, 1),), 1)
    if isinstance(body, DeleteBody):
        return DeleteBody(0, ())
    if isinstance(body, TxnBody):
        return TxnBody(not body.succeeded, body.bodies)
    return body


def any_order_explains(operations: Sequence[Operation]) -> bool:
    """The definition, tried out: some order of all answered and some of the unknown requests agrees with real time and with the model."""
    answered = [op for op in operations if op.outcome == OK]
    unknown = [op for op in operations if op.outcome == UNKNOWN]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            if _extend([*answered, *chosen], {}, FIRST_REVISION, {FIRST_REVISION: {}}):
                return True
    return False


def _extend(left: list[Operation], state: State, revision: int, states: dict[int, State]) -> bool:
    if not left:
        return True
    for op in left:
        # Nothing that had returned before this one was called may come after it. A serializable read only looks at some state of before its return:
        # it does not wait for others, but others wait for it.
        stale = isinstance(op.request, Range) and op.request.serializable
        if not stale and any(other is not op and other.outcome == OK and other.returned < op.called for other in left):
            continue
        after, events, body = apply(state, revision, op.request)
        at = revision + bool(events)
        if op.outcome == OK and (op.revision != at or op.body != body):
            continue
        if op.outcome == UNKNOWN and not (events and has_effect(op.request, body)):
            continue
        if _extend([one for one in left if one is not op], after, at, states):
            return True
    return False
