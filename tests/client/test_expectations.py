"""Expectations hold a controller back until its copy shows what it wrote."""

from __future__ import annotations

from kubeling.client.expectations import Expectations
from kubeling.client.informer import Change
from kubeling.daemon.clock import VirtualClock


async def test_what_was_written_is_waited_for_but_not_for_ever() -> None:
    clock = VirtualClock()
    expected = Expectations(clock, timeout=60)
    assert expected.remaining("d/rs") == 0
    expected.creating("d/rs", "d/p1")
    expected.creating("d/rs", "d/p2")
    expected.deleting("d/rs", "uid-3")
    pod = {"metadata": {"name": "p1", "namespace": "d", "uid": "uid-1"}}
    expected.observe(Change("add", None, pod))
    expected.settled("d/p2")  # It was refused.
    assert expected.remaining("d/rs") == 60
    leaving = {"metadata": {"name": "p3", "namespace": "d", "uid": "uid-3", "deletionTimestamp": "t"}}
    expected.observe(Change("update", leaving, leaving))
    assert expected.remaining("d/rs") == 0
    expected.creating("d/rs", "d/p4")
    await clock.advance(61)
    assert expected.remaining("d/rs") == 0, "it may have come and gone while nobody watched"


async def test_owners_do_not_wait_for_each_other() -> None:
    expected = Expectations(VirtualClock())
    expected.creating("d/a", "d/p")
    assert expected.remaining("d/b") == 0
    expected.forget("d/a")
    assert expected.remaining("d/a") == 0
