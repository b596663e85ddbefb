"""Extension points around the decision: gangs, extenders, plugins of other packages, explanations, expiry, and the fence before binding."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from kubeling.daemon.clock import VirtualClock
from kubeling.daemon.serving import Page
from kubeling.scheduler.algorithm import decide
from kubeling.scheduler.binding import Binder, Placement
from kubeling.scheduler.cache import ASSUMED_SECONDS, Cache
from kubeling.scheduler.config import Profile, build
from kubeling.scheduler.explain import Explanations, record, render
from kubeling.scheduler.extender import Extender, ExtenderFailed
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.handle import Handle, WaitingPod
from kubeling.scheduler.nodeinfo import NodeInfo, PodInfo
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.plugins.gang import MIN_AVAILABLE, NAME, Coscheduling
from kubeling.scheduler.queue import SchedulingQueue
from kubeling.scheduler.types import Cycle, Rejection
from kubeling.scheduler.verdicts import FitError
from tests.scheduler.test_decisions import node, pod

Obj = dict[str, Any]


class Odd(Plugin):
    """A plugin of somebody else's, with nothing but the per-node form."""

    name = "Odd"

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        return None if int(node.name[1:]) % 2 else Rejection.of("node(s) were even")

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        return int(node.name[1:])


def both(nodes: int, *plugins: tuple[Plugin, int]) -> list[tuple[Cache, Framework]]:
    """The same cluster in both forms, with the default profile and more plugins."""
    sides = []
    for vector_from in (None, 1):
        cache = Cache(vector_from=vector_from)
        for number in range(nodes):
            cache.set_node(node(f"n{number}"))
        base = build(Profile(), Handle())
        sides.append((cache, Framework([*((each, base.weights[each.name]) for each in base.plugins), *plugins])))
    return sides


@pytest.mark.parametrize("side", [0, 1])
def test_a_plugin_with_only_the_per_node_form_works_in_both(side: int) -> None:
    cache, framework = both(9, (Odd(), 5))[side]
    found = decide(framework, cache.cycle(PodInfo(pod("p"))), rand=lambda: 0.0)
    assert (found.node, sorted(each.name for each in found.feasible.nodes)) == ("n7", ["n1", "n3", "n5", "n7"])
    assert not framework.vectorised


@pytest.mark.parametrize("side", [0, 1])
def test_a_decision_explains_itself(side: int) -> None:
    cache, framework = both(5, (Odd(), 1))[side]
    cycle = cache.cycle(PodInfo(pod("p")))
    found = render(record(cycle, decide(framework, cycle, rand=lambda: 0.0), "now"), framework, recorded=True)
    assert (found["node"], found["total"], found["feasible"]) == ("n3", 5, 2)
    best, worst = found["nodes"][0], found["nodes"][-1]
    assert (best["node"], best["chosen"], best["scores"]["Odd"]) == ("n3", True, 3)
    assert best["total"] == sum(score * found["weights"][name] for name, score in best["scores"].items())
    assert (worst["rejectedBy"], worst["reasons"]) == ("Odd", ["node(s) were even"])
    cycle = cache.cycle(PodInfo(pod("big", cpu="64")))
    with pytest.raises(FitError) as error:
        decide(framework, cycle, rand=lambda: 0.0)
    found = render(record(cycle, error.value, "now"), framework, recorded=True)
    assert (found["node"], found["feasible"]) == ("", 0)
    assert all(each["rejectedBy"] == "NodeResourcesFit" for each in found["nodes"])
    assert "5 Insufficient cpu" in found["message"]


def test_explanations_keep_within_their_memory() -> None:
    kept = Explanations()
    cache, framework = both(3)[1]
    for number in range(10):
        cycle = cache.cycle(PodInfo(pod(f"p{number}")))
        made = record(cycle, decide(framework, cycle, rand=lambda: 0.0), "now")
        made.size = 1024 * 1024
        kept.put(made)
    assert len(kept) == 8
    assert kept.get("p0") is None
    assert kept.get("p9") is not None
    kept.drop("p9")
    assert kept.get("p9") is None


def test_assumed_pods_expire_when_nobody_sees_them_bound() -> None:
    cache = Cache()
    cache.set_node(node("a"))
    for name in ("bound", "on the way"):
        cache.assume(PodInfo(pod(name)), "a")
    cache.bound("bound", now=10.0)
    assert cache.expire(10.0 + ASSUMED_SECONDS - 1) == []
    assert cache.expire(10.0 + ASSUMED_SECONDS) == ["bound"]
    assert not cache.is_placed("bound")
    assert cache.is_placed("on the way")


async def test_a_gang_starts_together_or_not_at_all() -> None:
    members = [pod(f"g{n}", labels={NAME: "g", MIN_AVAILABLE: "3"}) for n in range(3)]
    placed: set[str] = set()
    handle = Handle(pods=lambda _namespace: members, is_placed=placed.__contains__)
    plugin = Coscheduling(handle, 30)
    cycles = [Cycle(PodInfo(each), {}) for each in members]
    assert plugin.pre_filter(Cycle(PodInfo(pod("alone", labels={NAME: "h", MIN_AVAILABLE: "2"})), {})) is not None
    waiting = []
    for cycle in cycles[:2]:
        assert plugin.pre_filter(cycle) is None
        assert plugin.permit(cycle, "n") == 30
        placed.add(cycle.pod.uid)
        waiting.append(WaitingPod(cycle, "n", [plugin.name]))
        handle.waiting[cycle.pod.uid] = waiting[-1]
    assert plugin.permit(cycles[2], "n") is None
    assert [await each.wait() for each in waiting] == ["", ""]
    again = handle.waiting["g1"] = WaitingPod(cycles[1], "n", [plugin.name])
    plugin.unreserve(cycles[0], "n")
    assert "did not get room" in await again.wait()


async def test_nothing_is_bound_once_the_lease_may_be_somebody_elses() -> None:
    cache = Cache()
    cache.set_node(node("a"))
    queue = SchedulingQueue(clock=VirtualClock())
    queue.add(pod("p"))
    queued = await queue.pop()
    info = PodInfo(queued.pod)
    cache.assume(info, "a")
    framework = build(Profile(), Handle())
    handle = Handle(may_bind=lambda: False)
    nobody: Any = None  # Whoever would be asked to bind or to record: reaching for it fails the test.
    binder = Binder(nobody, nobody, cache, queue, handle, asyncio.Semaphore(1), VirtualClock())
    await binder.bind(Placement(framework, cache.cycle(info), "a", queued, 0.0, {}))
    assert not cache.is_placed("p")
    assert queue.counts()["unschedulable"] == 1


Answer = Callable[[str, Obj], Any]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Callable[[Answer], Any]]:
    """An extender of the test's own: `answer` gets the verb and the body."""
    servers: list[asyncio.Server] = []

    async def start(answer: Answer) -> str:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().partition("content-length:")[2].partition("\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            found = answer(head.split()[1].rpartition("/")[2], body)
            page = found if isinstance(found, Page) else Page(json.dumps(found))
            text = page.body if isinstance(page.body, bytes) else page.body.encode()
            writer.write(f"HTTP/1.1 {page.status} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/scheduler"

    yield start
    for each in servers:
        each.close()


async def test_an_extender_filters_and_scores(serve: Callable[[Answer], Any]) -> None:
    asked: list[tuple[str, Obj]] = []

    def answer(verb: str, body: Obj) -> Any:
        asked.append((verb, body))
        if verb == "filter":
            return {"nodenames": ["b", "c"], "failedNodes": {"a": "too far"}}
        return [{"host": "b", "score": 3}, {"host": "c", "score": 10}]

    url = await serve(answer)
    extender = Extender(
        {
            "urlPrefix": url,
            "filterVerb": "filter",
            "prioritizeVerb": "rank",
            "weight": 2,
            "nodeCacheCapable": True,
            "httpTimeout": "2s",
        }
    )
    left, refused = await extender.filter(pod("p"), ["a", "b", "c"], node)
    assert (left, refused["a"].reasons) == (["b", "c"], ("too far",))
    assert await extender.prioritize(pod("p"), left, node) == {"b": 60, "c": 200}
    assert [verb for verb, _ in asked] == ["filter", "rank"]
    assert asked[0][1]["nodenames"] == ["a", "b", "c"]
    cache, framework = both(0)[0]
    for name in "abc":
        cache.set_node(node(name))
    opinion = (frozenset(left), refused)
    found = decide(framework, cache.cycle(PodInfo(pod("p"))), rand=lambda: 0.0, allowed=opinion, bonus={"b": 60, "c": 200})
    assert found.node == "c"
    with pytest.raises(FitError, match="1 too far"):
        decide(framework, cache.cycle(PodInfo(pod("p"))), rand=lambda: 0.0, allowed=(frozenset(), refused))


async def test_an_extender_that_fails_fails_the_attempt_unless_it_may_be_ignored(serve: Callable[[Answer], Any]) -> None:
    url = await serve(lambda _verb, _body: Page("broken", 500))
    flags = {"urlPrefix": url, "filterVerb": "filter"}
    with pytest.raises(ExtenderFailed, match="answered 500"):
        await Extender(flags).filter(pod("p"), ["a"], node)
    assert await Extender({**flags, "ignorable": True}).filter(pod("p"), ["a"], node) == (["a"], {})
    managed = Extender({**flags, "managedResources": [{"name": "example.com/gpu"}]})
    assert not managed.is_interested(pod("p"))
