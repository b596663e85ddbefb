"""What is used, from what kubelets count."""

from __future__ import annotations

import asyncio

import pytest

from kubeling.apiserver.usage import Usage
from kubeling.daemon.clock import SystemClock


def page(at: int, node: float, **containers: tuple[float, int, float]) -> str:
    """A kubelet's page: of each container of pod `p` its seconds, bytes and start."""
    lines = ["# TYPE node_cpu_usage_seconds_total counter", f"node_cpu_usage_seconds_total {node} {at}000"]
    lines += [f"node_memory_working_set_bytes 1.048576e+06 {at}000"]
    for name, (cpu, memory, started) in containers.items():
        where = f'{{container="{name}",namespace="n",pod="p"}}'
        lines += [
            f"container_cpu_usage_seconds_total{where} {cpu} {at}000",
            f"container_memory_working_set_bytes{where} {memory} {at}000",
            f"container_start_time_seconds{where} {started}",
        ]
    return "\n".join([*lines, "resource_scrape_error 0", ""])


class Clock(SystemClock):
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self):  # type: ignore[no-untyped-def]
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.at, UTC)

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await asyncio.sleep(0)


class Kubelets:
    """Pages to be answered, in turn; and how often somebody looked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.looks: list[str] = []
        self.started = 900.0

    async def __call__(self, node: str) -> str:
        self.looks.append(node)
        if node == "gone":
            raise OSError("no route to host")
        at = int(self.clock.at)
        return page(at, at * 0.5, a=(at * 0.25, 2048, self.started), b=(at * 0.1, 1024, 900.0))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kubelets(clock: Clock) -> Kubelets:
    return Kubelets(clock)


async def test_the_first_to_ask_waits_for_a_second_look(clock: Clock, kubelets: Kubelets) -> None:
    found = (await Usage(kubelets, clock).of(["n1"]))["n1"]
    used = found.node()
    assert used is not None
    assert (used.at, used.window, used.cpu, used.memory) == (1001.0, 1.0, 500_000_000, 1_048_576)
    assert {name: each.cpu for name, each in found.pod("n", "p").items()} == {"a": 250_000_000, "b": 100_000_000}
    assert found.pod("n", "other") == {}


async def test_who_asks_regularly_gets_the_mean_since(clock: Clock, kubelets: Kubelets) -> None:
    usage = Usage(kubelets, clock)
    await usage.of(["n1"])
    clock.at += 5
    await usage.of(["n1"])
    assert len(kubelets.looks) == 2, "what is fresh is answered again"
    clock.at += 10
    used = (await usage.of(["n1"]))["n1"].node()
    assert used is not None
    assert (used.window, len(kubelets.looks)) == (15.0, 3)


async def test_those_who_ask_together_share_a_measurement(clock: Clock, kubelets: Kubelets) -> None:
    usage = Usage(kubelets, clock)
    first, second, third = await asyncio.gather(usage.of(["n1", "n1"]), usage.of(["n1"]), usage.of(["n1", "gone"]))
    assert first == second == third
    assert sorted(kubelets.looks) == ["gone", "n1", "n1"]


async def test_a_container_that_was_restarted_counts_from_its_start(clock: Clock, kubelets: Kubelets) -> None:
    usage = Usage(kubelets, clock)
    await usage.of(["n1"])
    clock.at += 20
    kubelets.started = 1011.0
    used = (await usage.of(["n1"]))["n1"].pod("n", "p")
    assert used["a"].window == 10.0
    assert used["b"].window == 20.0
