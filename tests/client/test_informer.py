"""The informer's copy, by what a server says: all of it at first, what was missed, and servers that want to be asked for a list."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from kubeling.api.errors import expired, invalid
from kubeling.api.resources import CONFIG_MAPS
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import ConnectionFailed
from kubeling.daemon.clock import VirtualClock

Event = tuple[str, dict[str, Any]]


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": str(version)}}


def bookmark(version: int, *, end: bool = False) -> Event:
    annotations = {"annotations": {"k8s.io/initial-events-end": "true"}} if end else {}
    return "BOOKMARK", {"metadata": {"resourceVersion": str(version), **annotations}}


class Script:
    """A client whose watches say, one after the other, what `streams` hold; an exception in one of them is raised. The last stays open."""

    def __init__(self, *streams: list[Event | Exception], listed: dict[str, Any] | None = None) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.lists = 0
        self._streams = list(streams)
        self._listed = listed
        self.done = asyncio.Event()

    async def list(self, resource: Any, **_: Any) -> dict[str, Any]:
        assert self._listed is not None
        self.lists += 1
        return self._listed

    async def watch(self, resource: Any, *, resource_version: str, params: Any = None, **_: Any) -> AsyncIterator[Event]:
        self.asked.append((resource_version, bool(params and params["sendInitialEvents"])))
        for each in self._streams.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each
        if not self._streams:
            self.done.set()
            await asyncio.Event().wait()


async def follow(script: Script) -> tuple[Informer, list[tuple[str, str]]]:
    """The informer and what it told, once the script has been played."""
    clock = VirtualClock()
    informer = Informer(script, CONFIG_MAPS, clock=clock)  # type: ignore[arg-type]
    told: list[tuple[str, str]] = []

    def note(change: Change) -> None:
        told.append((change.type, change.obj["metadata"]["name"]))

    informer.add_handler(note)
    running = asyncio.ensure_future(informer.run())
    while not script.done.is_set():
        await clock.advance(0.5)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return informer, told


async def test_it_is_synced_when_all_was_said():
    script = Script([("ADDED", thing("a", 3)), ("ADDED", thing("b", 5)), bookmark(7, end=True), ("MODIFIED", thing("a", 9))])
    informer, told = await follow(script)
    assert informer.synced.is_set()
    assert told == [("add", "a"), ("add", "b"), ("update", "a")]
    assert informer.resource_version == "9"
    assert script.asked == [(None, True)]


async def test_half_of_what_is_there_is_shown_to_nobody():
    broken = [("ADDED", thing("a", 3)), ConnectionFailed("gone")]
    script = Script(
        broken, [("ADDED", thing("b", 5)), ("DELETED", thing("b", 6)), ("ADDED", thing("c", 6)), bookmark(7, end=True)]
    )
    informer, told = await follow(script)
    assert told == [("add", "c")]
    assert script.asked == [(None, True), (None, True)]
    assert len(list(informer.store)) == 1


async def test_it_goes_on_where_it_was_and_begins_anew_where_that_is_gone():
    first = [("ADDED", thing("a", 3)), ("ADDED", thing("b", 4)), bookmark(4, end=True), bookmark(8), ConnectionFailed("gone")]
    script = Script(first, [expired("too old")], [("ADDED", thing("b", 9)), ("ADDED", thing("c", 11)), bookmark(12, end=True)])
    informer, told = await follow(script)
    assert script.asked == [(None, True), ("8", False), (None, True)]
    assert told == [("add", "a"), ("add", "b"), ("delete", "a"), ("update", "b"), ("add", "c")]
    assert informer.resource_version == "12"


async def test_a_server_that_refuses_is_asked_for_a_list():
    refusal = invalid("ListOptions", "meta.k8s.io", "", [])
    listed = {"metadata": {"resourceVersion": "5"}, "items": [thing("a", 3)]}
    script = Script([refusal], [("ADDED", thing("b", 6))], listed=listed)
    informer, told = await follow(script)
    assert script.asked == [(None, True), ("5", False)]
    assert script.lists == 1
    assert told == [("add", "a"), ("add", "b")]
    assert informer.synced.is_set()
