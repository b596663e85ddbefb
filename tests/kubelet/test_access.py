"""Who may use the kubelet's API, and how often the apiserver is asked."""

from __future__ import annotations

from typing import Any

from kubeling.daemon.clock import VirtualClock
from kubeling.kubelet.access import ALLOWED_SECONDS, REFUSED_SECONDS, Access, subresources
from kubeling.kubelet.httpd import Identity


class Asked:
    def __init__(self, *allowed: str) -> None:
        self.allowed = set(allowed)
        self.specs: list[dict[str, Any]] = []
        self.clock = VirtualClock()
        self.access = Access("n1", self.ask, self.clock)

    async def ask(self, spec: dict[str, Any]) -> bool:
        self.specs.append(spec)
        return spec["resourceAttributes"]["subresource"] in self.allowed


ANN = Identity("ann", ("devs",))


async def test_administrators_need_no_leave() -> None:
    asked = Asked()
    assert await asked.access.refusal(Identity("root", ("system:masters",)), "POST", "/exec/a/b/c") is None
    assert asked.specs == []


async def test_the_apiserver_is_asked_about_the_node() -> None:
    asked = Asked("proxy")
    assert await asked.access.refusal(ANN, "POST", "/exec/a/b/c") is None
    place = {"verb": "create", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": "n1"}
    assert asked.specs == [{"user": "ann", "groups": ["devs", "system:authenticated"], "resourceAttributes": place}]
    why = await asked.access.refusal(ANN, "GET", "/metrics/resource")
    assert why == "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[metrics])"


async def test_one_of_several_rights_is_enough() -> None:
    assert await Asked("pods").access.refusal(ANN, "GET", "/pods") is None
    assert await Asked("proxy").access.refusal(ANN, "GET", "/pods") is None
    assert "[pods proxy]" in str(await Asked("stats").access.refusal(ANN, "GET", "/pods"))


async def test_answers_are_remembered_for_a_time() -> None:
    asked = Asked("proxy")
    for _ in range(3):
        assert await asked.access.refusal(ANN, "GET", "/containerLogs/a/b/c") is None
        assert await asked.access.refusal(ANN, "GET", "/stats/summary") is not None
    assert len(asked.specs) == 2
    await asked.clock.advance(REFUSED_SECONDS + 1)
    await asked.access.refusal(ANN, "GET", "/stats/summary")
    await asked.access.refusal(ANN, "GET", "/containerLogs/a/b/c")
    assert len(asked.specs) == 3
    asked.allowed.clear()
    await asked.clock.advance(ALLOWED_SECONDS)
    assert await asked.access.refusal(ANN, "GET", "/containerLogs/a/b/c") is not None


def test_paths() -> None:
    found = {
        path: subresources(path)
        for path in ("/stats/summary", "/metrics", "/metrics/cadvisor", "/logs/", "/exec/a", "/", "//metrics")
    }
    assert list(found.values()) == [("stats",), ("metrics",), ("metrics",), ("log",), ("proxy",), ("proxy",), ("metrics",)]
