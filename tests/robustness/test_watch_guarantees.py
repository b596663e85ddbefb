"""Each guarantee of a watch has a validator that lets pass a watch that was served well, and finds one that was not."""

from __future__ import annotations

import pytest

from .linearize import Verdict, linearize
from .operations import KV, OK, Compact, Event, Operation, Put, PutBody, Txn, TxnBody, Watching, WatchOpen, WatchResponse
from .watch_guarantees import GUARANTEES, judge


def history() -> tuple[list[Operation], Verdict]:
    """Revisions 2 to 5: a, then a and b in one, then a, then b."""
    a2, a3, b3, a4 = KV("a", "1", 2, 2, 1), KV("a", "2", 2, 3, 2), KV("b", "2", 3, 3, 1), KV("a", "3", 2, 4, 3)
    both = Txn((), (Put("a", "2"), Put("b", "2")))
    operations = [
        Operation(1, "c", "m", Put("a", "1"), 0, 10, OK, 2, PutBody(None)),
        Operation(2, "c", "m", both, 20, 30, OK, 3, TxnBody(True, (PutBody(a2), PutBody(None)))),
        Operation(3, "c", "m", Put("a", "3"), 40, 50, OK, 4, PutBody(a3)),
        Operation(4, "c", "m", Put("b", "4"), 60, 70, OK, 5, PutBody(b3)),
    ]
    verdict = linearize(operations)
    assert not verdict.violations
    assert a4 in verdict.state(5).values()
    return operations, verdict


OPERATIONS, TRUTH = history()
E = {(event.key, event.revision): event for events in TRUTH.events.values() for event in events}


def message(at: int, *names: tuple[str, int], revision: int = 0) -> WatchResponse:
    events = tuple((E[name], TRUTH.state(name[1] - 1).get(name[0])) for name in names)
    return WatchResponse(at, revision or max((name[1] for name in names), default=0), events)


def watching(
    *responses: WatchResponse, start: int = 1, expected: int = 0, key: str = "a", end: str = "c", **more: object
) -> Watching:
    opened = WatchOpen(key, end, start, previous=True, **more)  # type: ignore[arg-type]
    return Watching(0, "w", "m", 0, opened, [WatchResponse(1, 1, created=True), *responses], 200, expected=expected)


ALL = (message(100, ("a", 2)), message(101, ("a", 3), ("b", 3), ("a", 4)), message(102, ("b", 5)))
GOOD = {
    "everything": watching(*ALL, expected=5),
    "a late start": watching(*ALL[1:], start=3, expected=5),
    "from now on": watching(*ALL, start=0, expected=5),
    "bookmarks": watching(
        ALL[0], WatchResponse(100, 2), ALL[1], WatchResponse(101, 4), ALL[2], WatchResponse(103, 5), expected=5
    ),
    "one key": watching(message(101, ("b", 3)), message(102, ("b", 5)), key="b", end="", expected=5),
    "cut off": watching(*ALL[:2]),
    "a future start": watching(start=9),
    "no puts": watching(filters=("noput",), expected=5),
}
BAD = {
    "ordered": watching(ALL[1], ALL[0], ALL[2]),
    "unique": watching(ALL[0], ALL[0], *ALL[1:]),
    "atomic": watching(ALL[0], message(101, ("a", 3)), message(101, ("b", 3), ("a", 4)), ALL[2]),
    "reliable": watching(ALL[0], message(101, ("a", 3), ("b", 3)), ALL[2]),
    "resumable": watching(*ALL[1:], start=2),
    "bookmarkable": watching(ALL[0], WatchResponse(101, 4)),
    "truthful": watching(WatchResponse(101, 2, ((Event("a", 2, KV("a", "other", 2, 2, 1)), None),))),
}
MORE_BAD = {
    "reliable": watching(*ALL[:2], expected=5),
    "resumable": watching(ALL[0], *ALL[1:], start=3),
    "bookmarkable": watching(ALL[0], WatchResponse(100, 4), ALL[1], ALL[2]),
    "truthful": watching(*ALL, key="a", end=""),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_watch_that_is_served_well_passes(name: str) -> None:
    assert judge([GOOD[name]], OPERATIONS, TRUTH) == []


@pytest.mark.parametrize("name", GUARANTEES)
def test_the_validator_finds_a_watch_that_is_not(name: str) -> None:
    assert any(f"watch is not {name}" in one for one in judge([BAD[name]], OPERATIONS, TRUTH))


@pytest.mark.parametrize("name", MORE_BAD)
def test_and_one_that_fails_otherwise(name: str) -> None:
    assert any(f"watch is not {name}" in one for one in judge([MORE_BAD[name]], OPERATIONS, TRUTH))


def test_an_event_before_its_write_was_asked_for() -> None:
    assert "came before it was asked for" in judge([watching(message(15, ("a", 2), ("a", 3), ("b", 3)))], OPERATIONS, TRUTH)[0]


def test_a_refusal_as_compacted_needs_a_compaction() -> None:
    refused = watching(WatchResponse(100, 5, canceled=True, compact_revision=4), start=2)
    assert "which nobody had asked for" in judge([refused], OPERATIONS, TRUTH)[0]
    compact = Operation(9, "c", "m", Compact(4), 80, 90, OK)
    assert judge([refused], [*OPERATIONS, compact], TRUTH) == []
    ahead = watching(WatchResponse(100, 5, canceled=True, compact_revision=4), start=4)
    assert "though it had all before that" in judge([ahead], [*OPERATIONS, compact], TRUTH)[0]
