"""What may be lost, and what may not."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.tests.churn.judge import Done, History, judge

Obj = dict[str, Any]


def history() -> History:
    """Pods a and b, on the nodes 1 and 2; a stops being an endpoint at 50."""
    made = History()
    made.see(0, {"a": "1", "b": "2"})
    made.see(50, {"b": "2"})
    return made


def lost(
    began: float, ended: float, *, kind: str = "new", established: bool = False, pod: str = "a", job: str = "c/cluster"
) -> Obj:
    return {
        "job": job,
        "kind": kind,
        "event": "lost",
        "began": began,
        "ended": ended,
        "established": established,
        "error": "",
        "pod": pod,
    }


def moved(at: float, before: str) -> Obj:
    return {"job": "c/sticky", "kind": "sticky", "event": "moved", "at": at, "before": before, "after": "x"}


FLUSH, LOSS = Done("rules flushed", 30, node="1"), Done("node lost", 30, 70, node="1")


@pytest.mark.parametrize(
    ("line", "fault", "fine"),
    [
        (lost(20, 21), None, False),
        (lost(29.5, 30.5), FLUSH, True),
        (lost(33, 34), FLUSH, False),
        (lost(40, 50), LOSS, True),
        (lost(80, 81), LOSS, False),
        (lost(40, 50, established=True, pod="a"), LOSS, True),
        # Whoever talks with a pod of another node has nothing to lose.
        (lost(40, 50, established=True, pod="b"), LOSS, False),
        (lost(40, 50, established=True, pod="b", job="host/balancer/kept"), LOSS, True),
        (moved(51, "a"), None, True),
        (moved(40, "a"), None, False),
        (moved(31, "a"), FLUSH, True),
        (moved(60, "b"), FLUSH, False),
        (lost(49, 52, kind="udp"), None, True),
        (lost(20, 23, kind="udp"), None, False),
        # Word of a change may come late, but comes; and concerns nobody else.
        (lost(53, 56, kind="udp"), None, True),
        (lost(56, 59, kind="udp"), None, False),
        (lost(51, 54, kind="udp", pod="b"), None, False),
        (lost(30, 33, kind="udp", pod="b"), FLUSH, True),
    ],
)
def test_what_may_be_lost(line: Obj, fault: Done | None, fine: bool) -> None:
    past = history()
    past.faults += [fault] if fault else []
    wrong, excused = judge([line], past)
    assert (not wrong, sum(excused.values()) == 1) == (fine, fine)


def test_a_silent_flow_is_more_than_its_datagrams() -> None:
    lines = [lost(at, at + 3, kind="udp") for at in (49.0, 52.1, 55.2)]
    wrong, _ = judge(lines, history())
    assert len(wrong) == 1
    assert "silent for 9.2 s" in wrong[0]
    # Those of a node without power are, until its endpoints are away.
    past = history()
    past.faults.append(Done("node lost", 48, 55, node="1"))
    assert not judge(lines, past)[0]


def test_each_flush_may_cost_a_flow_a_datagram() -> None:
    lines = [lost(at, at + 3, kind="udp", pod="b") for at in (30.0, 33.1)]
    past = history()
    past.faults.append(FLUSH)
    assert judge(lines, past)[0]
    past.faults.append(Done("rules flushed", 33, node="1"))
    assert not judge(lines, past)[0]


def test_a_flow_that_moves_may_be_led_to_a_node_that_is_dead() -> None:
    lines = [lost(at, at + 3, kind="udp") for at in (51.0, 54.1)]
    past = history()
    past.faults.append(Done("node lost", 49, 60, node="2"))
    assert not judge(lines, past)[0]
    # While its endpoint is there, and on another node, it has no reason to be silent.
    assert judge([lost(at, at + 3, kind="udp", pod="b") for at in (20.0, 23.1)], past)[0]
    past.faults.append(Done("node lost", 19, 30, node="1"))
    assert judge([lost(at, at + 3, kind="udp", pod="b") for at in (20.0, 23.1)], past)[0]


def test_where_all_endpoints_were_on_the_lost_node_there_is_none_for_a_while() -> None:
    past = History()
    past.see(0, {"a": "1"})
    past.see(50, {})
    past.see(55, {"c": "2"})
    past.faults.append(Done("node lost", 20, 50, node="1"))
    assert not judge([lost(53, 53), lost(56, 56)], past)[0]
    assert judge([lost(58, 58)], past)[0]
    # With another one there nobody has to notice.
    past.ready["b"], past.node_of["b"] = [[0, 60]], "2"
    assert judge([lost(53, 53)], past)[0]


def test_a_flow_whose_endpoint_goes_is_led_to_a_node_that_dies_then() -> None:
    past = history()
    past.faults.append(Done("node lost", 52, 80, node="2"))
    lines = [lost(at, at + 3, kind="udp") for at in (49.0, 52.1, 55.2)]
    assert not judge(lines, past)[0]
