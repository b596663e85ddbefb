"""What was there at a past revision, out of the cache's history; and encodings that are kept."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import orjson

from kubeling.apiserver.cache import cache as caches
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.encodings import Encodings
from kubeling.apiserver.cache.entry import Entry
from kubeling.daemon.clock import VirtualClock

PREFIX = "/registry/configmaps/"


class _Hub:
    revision = 0


class _Store:
    """Neither read nor written here: values come as they are."""

    def open(self, key: str, value: bytes) -> Any:
        return SimpleNamespace(value=value)


def _cache() -> tuple[Cache, _Hub]:
    hub = _Hub()
    cache = Cache(PREFIX, "v1", "ConfigMap", lambda obj: {}, _Store(), hub, VirtualClock())  # type: ignore[arg-type]
    cache._loaded = True
    return cache, hub


def _change(name: str, revision: int, value: str | None) -> Any:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value}}
    kv = SimpleNamespace(key=f"{PREFIX}{name}".encode(), mod_revision=revision, value=orjson.dumps(body))
    return SimpleNamespace(type=1 if value is None else 0, kv=kv)


def _seen(entries: Any) -> list[tuple[str, str]]:
    return [(each.key.removeprefix(PREFIX), each.object()["data"]["v"]) for each in entries]


def test_every_revision_of_the_history_can_be_had_again():
    choice = random.Random(4)
    cache, hub = _cache()
    state: dict[str, str] = {}
    states: dict[int, list[tuple[str, str]]] = {0: []}
    for revision in range(1, 200):
        name = f"{choice.choice('ab')}/{choice.randrange(6)}"
        if name in state and choice.random() < 0.4:
            del state[name]
            cache.apply([_change(name, revision, None)])
        else:
            state[name] = str(revision)
            cache.apply([_change(name, revision, str(revision))])
        hub.revision = revision
        states[revision] = sorted(state.items())
    for revision in range(199 - caches.HISTORY_MIN + 1, 200):
        found = cache.past(revision, PREFIX)
        assert found is not None
        assert _seen(found) == states[revision]
        found = cache.past(revision, f"{PREFIX}b/", f"{PREFIX}b/2\0")
        assert found is not None
        assert _seen(found) == [each for each in states[revision] if each[0] > "b/2"]


async def test_what_the_history_does_not_reach_is_not_answered():
    cache, hub = _cache()
    assert cache.past(1, PREFIX) is None
    clock = cache._clock
    for revision in range(1, 400):
        await clock.advance(1)  # type: ignore[attr-defined]
        cache.apply([_change(f"a/{revision % 5}", revision, "x")])
        hub.revision = revision
    assert cache.past(399 - caches.HISTORY_MIN - 1, PREFIX) is None
    assert cache.past(399 - caches.HISTORY_MIN, PREFIX) is not None
    assert cache.past(399, PREFIX) is not None
    assert cache.past(400, PREFIX) is None


def _entry(name: str, revision: int) -> Entry:
    return Entry(f"{PREFIX}{name}", b"{}", revision, {}, {})


def test_an_encoding_is_of_one_state_and_one_form():
    kept = Encodings()
    kept.put("v1", _entry("a", 5), b"five")
    assert kept.get("v1", _entry("a", 5)) == b"five"
    assert kept.get("v1", _entry("a", 6)) is None
    assert kept.get("v2", _entry("a", 5)) is None
    kept.put("v1", _entry("a", 6), b"six")
    assert kept.get("v1", _entry("a", 5)) is None


def test_encodings_are_bounded_and_go_when_nobody_asks():
    kept = Encodings()
    for at in range(40):
        kept.put("v1", _entry(f"n{at}", 1), bytes(1024 * 1024))
    assert kept.get("v1", _entry("n39", 1)) is not None
    assert kept.get("v1", _entry("n0", 1)) is None
    assert sum(len(raw) for _, raw in kept._found.values()) == kept._bytes <= 16 * 1024 * 1024
    kept.age()
    assert kept.get("v1", _entry("n39", 1)) is not None
    kept.age()
    kept.age()
    assert not kept._found
    assert not kept._bytes
