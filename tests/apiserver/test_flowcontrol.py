"""Fair queuing: turns, queues, lending; and which schema a request belongs to."""

from __future__ import annotations

from collections import Counter

import pytest

from kubeling.apiserver.authn.user import User
from kubeling.apiserver.flowcontrol import objects
from kubeling.apiserver.flowcontrol.gate import Gate
from kubeling.apiserver.flowcontrol.matching import Asked
from kubeling.apiserver.flowcontrol.queues import Level, Levels, Refused, Ticket, deal
from kubeling.daemon.clock import SystemClock


def test_a_flow_is_dealt_different_queues_always_the_same() -> None:
    for flow in map(str, range(200)):
        hand = deal(flow, 64, 6)
        assert len(set(hand)) == 6
        assert all(0 <= each < 64 for each in hand)
        assert hand == deal(flow, 64, 6)
    spread = Counter(card for flow in map(str, range(5000)) for card in deal(flow, 64, 6))
    assert len(spread) == 64
    assert max(spread.values()) < 1.4 * min(spread.values())


def test_a_level_without_queues_refuses() -> None:
    level = Level("catch-all", 2)
    levels = Levels([level])
    tickets = [levels.enter(level, "a", 1, 0.0) for _ in range(2)]
    with pytest.raises(Refused, match="concurrency-limit"):
        levels.enter(level, "a", 1, 0.0)
    levels.leave(tickets[0], 0.1)
    assert levels.enter(level, "a", 1, 0.2).seated


def test_queues_are_bounded() -> None:
    level = Level("l", 1, queues=1, hand=1, length=3)
    levels = Levels([level])
    for _ in range(4):
        levels.enter(level, "a", 1, 0.0)
    with pytest.raises(Refused, match="queue-full"):
        levels.enter(level, "a", 1, 0.0)


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    level = Level("l", 1, queues=4, hand=2, length=3)
    levels = Levels([level])
    first, second, third = (levels.enter(level, "a", 1, 0.0) for _ in range(3))
    levels.leave(second, 0.1)
    assert level.waiting == 1
    levels.leave(first, 0.2)
    assert third.seated
    levels.leave(third, 0.3)
    assert (level.seats, level.waiting) == (0, 0)


def simulate(level: Level, demand: dict[str, int], took: float, turns: int) -> Counter[str]:
    """Flows that always want so many more requests at a time; how many of each were served in so many turns."""
    levels, now = Levels([level]), 0.0
    running: list[tuple[Ticket, str]] = []
    waiting: list[tuple[Ticket, str]] = []
    served: Counter[str] = Counter()
    for _ in range(turns):
        for flow, count in demand.items():
            present = sum(each == flow for _, each in [*running, *waiting])
            for _ in range(count - present):
                try:
                    waiting.append((levels.enter(level, flow, 1, now), flow))
                except Refused:
                    break
        running += [each for each in waiting if each[0].seated]
        waiting = [each for each in waiting if not each[0].seated]
        now += took
        for ticket, flow in running[: level.nominal]:
            levels.leave(ticket, now)
            served[flow] += 1
        running = running[level.nominal :]
    return served


def test_a_greedy_flow_gets_no_more_than_the_others() -> None:
    level = Level("l", 4, queues=64, hand=6, length=50)
    served = simulate(level, {"greedy": 200, "a": 2, "b": 2}, 0.01, 400)
    # A hundred times the demand; but it waits in six queues at most, and they in one or two each.
    assert served["a"] > 0.7 * 400
    assert served["b"] > 0.7 * 400
    assert served["greedy"] < 4 * served["a"]


def test_seats_are_lent_and_wanted_back() -> None:
    busy, idle = Level("busy", 2, queues=1, hand=1, length=100), Level("idle", 10, lendable=5, queues=1, hand=1, length=100)
    levels = Levels([busy, idle])
    tickets = [levels.enter(busy, "a", 1, 0.0) for _ in range(20)]
    assert sum(each.seated for each in tickets) == 7
    # The lender has its own back at once, and what was borrowed is not taken again.
    for _ in range(10):
        assert levels.enter(idle, "b", 1, 0.0).seated
    levels.leave(tickets[0], 0.1)
    assert sum(each.seated for each in tickets[1:]) == 6


def test_a_limit_to_borrowing() -> None:
    busy, idle = Level("busy", 2, borrowable=1, queues=1, hand=1, length=100), Level("idle", 10, lendable=10)
    levels = Levels([busy, idle])
    assert sum(levels.enter(busy, "a", 1, 0.0).seated for _ in range(5)) == 3


def test_a_wide_request_takes_its_turn() -> None:
    level = Level("l", 3, queues=4, hand=1, length=10)
    levels = Levels([level])
    first = levels.enter(level, "a", 1, 0.0)
    wide = levels.enter(level, "b", 10, 0.0)
    assert (wide.width, wide.seated) == (3, False)
    assert not levels.enter(level, "c", 1, 0.0).seated, "nobody overtakes"
    levels.leave(first, 0.1)
    assert wide.seated


AUTHENTICATED = "system:authenticated"


@pytest.mark.parametrize(
    ("user", "asked", "schema", "level"),
    [
        (User("root", ("system:masters", AUTHENTICATED)), Asked("get", "", "pods", "n"), "exempt", None),
        (User("bob", (AUTHENTICATED,)), Asked("get", path="/readyz"), "probes", None),
        (User("bob", (AUTHENTICATED,)), Asked("list", "", "pods", ""), "global-default", "global-default"),
        (
            User("system:node:n1", ("system:nodes", AUTHENTICATED)),
            Asked("update", "", "nodes/status", ""),
            "system-node-high",
            "node-high",
        ),
        (User("system:node:n1", ("system:nodes", AUTHENTICATED)), Asked("get", "", "pods", "n"), "system-nodes", "system"),
        (
            User("system:kube-scheduler", (AUTHENTICATED,)),
            Asked("update", "coordination.k8s.io", "leases", "kube-system"),
            "system-leader-election",
            "leader-election",
        ),
        (
            User("system:kube-scheduler", (AUTHENTICATED,)),
            Asked("create", "", "pods/binding", "n"),
            "kube-scheduler",
            "workload-high",
        ),
        (
            User("system:serviceaccount:kube-system:x", ("system:serviceaccounts", AUTHENTICATED)),
            Asked("list", "", "pods"),
            "kube-system-service-accounts",
            "workload-high",
        ),
        (
            User("system:serviceaccount:n:x", ("system:serviceaccounts", AUTHENTICATED)),
            Asked("list", "", "pods"),
            "service-accounts",
            "workload-low",
        ),
    ],
)
def test_where_requests_go(user: User, asked: Asked, schema: str, level: str | None) -> None:
    found = Gate(SystemClock(), 100, 50, 15, fair=True)._classify(user, asked)
    assert (found.schema, found.level.name if found.level else None) == (schema, level)


def test_the_shares_of_the_seats() -> None:
    levels = Gate(SystemClock(), 400, 200, 15, fair=True).levels
    # As upstream's documentation has them for a total of 600.
    expected = {
        "leader-election": 25,
        "node-high": 98,
        "system": 74,
        "workload-high": 98,
        "workload-low": 245,
        "global-default": 49,
        "catch-all": 13,
    }
    assert {name: level.nominal for name, level in levels.items() if level} == expected
    assert {each["metadata"]["name"] for each in objects.priority_levels()} == set(levels)
