"""A run: traffic all the time, and one thing after another happens to the cluster, out of a seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.meta import name_of
from kubeling.api.pods import is_ready
from kubeling.api.resources import DEPLOYMENTS, ENDPOINT_SLICES, NODES, PODS
from kubeling.client.informer import Informer
from kubeling.client.rest import ApiError, ConnectionFailed
from kubeling.tests.churn.judge import Done, History, judge
from kubeling.tests.churn.world import LABELS, Node, World, until

Obj = dict[str, Any]

#: Rather often what users do, now and then what fails.
MENU = {
    "roll": 4,
    "pod deleted": 3,
    "scaled": 2,
    "proxy killed": 3,
    "rules flushed": 2,
    "dns killed": 2,
    "apiserver killed": 2,
    "node lost": 1,
}
_READY_AGAIN_SECONDS = 180


@dataclass
class Report:
    """What came of a run."""

    wrong: list[str]
    excused: Counter[str]
    faults: Counter[str]
    served: int
    lost: int
    slowest: dict[str, float] = field(default_factory=dict)
    #: Pod, node, and when it was ready.
    endpoints: list[tuple[str, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.served:,} requests served, {self.lost} lost, {len(self.wrong)} without an excuse"]
        lines.append("done: " + ", ".join(f"{what} {count}" for what, count in sorted(self.faults.items())))
        lines.append("excused: " + (", ".join(f"{what} {count}" for what, count in sorted(self.excused.items())) or "nothing"))
        lines.append("slowest: " + ", ".join(f"{job} {seconds:.2f} s" for job, seconds in sorted(self.slowest.items())))
        if self.wrong:
            lines += [f"  {pod} on {node}: ready {spans}" for pod, node, spans in self.endpoints]
        return "\n".join([*lines, *(f"  {each}" for each in self.wrong)])


class Churn:
    """`spare`: the node that may lose its power; nothing of the clients is on it."""

    def __init__(
        self, world: World, seed: str, *, staying: list[Node], spare: Node | None = None, say: Callable[[str], None] = print
    ) -> None:
        self._world, self._random, self._staying, self._spare, self._say = world, random.Random(seed), staying, spare, say
        self._history = History()
        self._counts: Counter[str] = Counter()
        self._slices = Informer(
            world.client, ENDPOINT_SLICES, namespace=world.namespace, label_selector="kubernetes.io/service-name=cluster"
        )
        self._slices.add_handler(lambda _change: self._history.see(time.monotonic(), self._ready()))

    def _ready(self) -> dict[str, str]:
        return {
            endpoint["targetRef"]["name"]: endpoint.get("nodeName", "")
            for each in self._slices.store
            for endpoint in each.get("endpoints") or ()
            if endpoint["conditions"].get("ready")
        }

    async def run(self, seconds: float, menu: Sequence[str] = ()) -> Report:
        """Traffic for so many seconds; `menu`: just these things in this order, instead of what the seed says."""
        following = asyncio.ensure_future(self._slices.run())
        try:
            await self._slices.synced.wait()
            began = time.monotonic()
            await self._world.start_clients(self._staying, seconds)
            await self._happen(began + seconds - 5, list(menu))
            lines = await self._world.results()
        finally:
            following.cancel()
            await self._world.close()
        wrong, excused = judge(lines, self._history)
        totals = [each for each in lines if each["event"] == "total"]
        slowest: dict[str, float] = {}
        for each in totals:
            way = each["job"].partition("/")[2]
            slowest[way] = max(slowest.get(way, 0), each["slowest"])
        expected = len(self._staying) * 11 + 14
        if len(totals) != expected:
            wrong.append(f"{len(totals)} clients ended well instead of {expected}")
        wrong += [f"{each['job']} was never served" for each in totals if not each["served"]]
        served, lost = (sum(each[key] for each in totals) for key in ("served", "lost"))
        endpoints = [
            (pod, self._history.node_of[pod], ", ".join(f"{begin:.2f}-{end:.2f}" for begin, end in spans))
            for pod, spans in self._history.ready.items()
        ]
        return Report(wrong, excused, self._counts, served, lost, slowest, endpoints)

    async def _happen(self, until_: float, menu: list[str]) -> None:
        given = bool(menu)
        names = [name for name in MENU if name != "node lost" or self._spare]
        while time.monotonic() < until_ and (menu or not given):
            what = menu.pop(0) if given else self._random.choices(names, [MENU[name] for name in names])[0]
            self._counts[what] += 1
            self._say(f"{time.monotonic():.1f} {what}")
            work: Callable[[], Awaitable[None]] = getattr(self, "_" + what.replace(" ", "_"))
            await self._patiently(work)
            await asyncio.sleep(self._random.uniform(0.5, 4))

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """What was asked of an apiserver that has just been killed is asked again."""
        for attempt in range(10):
            try:
                await work()
            except (ApiError, ConnectionFailed):
                if attempt == 9:
                    raise
                await asyncio.sleep(1)
            else:
                return

    # -- what happens --------------------------------------------------------------------------------------------------------------

    async def _roll(self) -> None:
        """Begun, and not waited for: what comes next comes while it goes on."""
        mark = {"churn": str(self._random.randrange(1 << 30))}
        body = {"spec": {"template": {"metadata": {"annotations": mark}}}}
        await self._world.client.patch(DEPLOYMENTS, "web", body, self._world.namespace)

    async def _pod_deleted(self) -> None:
        selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
        pods = (await self._world.client.list(PODS, self._world.namespace, label_selector=selector))["items"]
        there = sorted(name_of(each) for each in pods if "deletionTimestamp" not in each["metadata"])
        # The documentation's promise needs another pod to take over.
        if len(self._ready()) >= 2 and there:
            await self._world.client.delete(PODS, self._random.choice(there), self._world.namespace)

    async def _scaled(self) -> None:
        body = {"spec": {"replicas": self._random.randint(2, 6)}}
        await self._world.client.patch(DEPLOYMENTS, "web", body, self._world.namespace)

    async def _kill(self, nodes: list[Node], daemon: str) -> None:
        node = self._random.choice(nodes)
        await asyncio.to_thread(self._world.cluster.faults.kill, node.name, daemon)

    async def _proxy_killed(self) -> None:
        await self._kill(self._staying, "kubeproxy")

    async def _dns_killed(self) -> None:
        await self._kill(self._world.nodes("control-plane"), "dns")

    async def _apiserver_killed(self) -> None:
        await self._kill(self._world.nodes("control-plane"), "apiserver")

    async def _rules_flushed(self) -> None:
        node = self._random.choice(self._staying)
        self._history.faults.append(Done("rules flushed", time.monotonic(), node=node.name))
        command = ["nsenter", f"--net=/proc/{node.pid}/ns/net", "--", "nft", "flush", "ruleset"]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0

    async def _node_lost(self) -> None:
        """The plug of the spare node is pulled; when its pods run elsewhere it is started again."""
        assert self._spare is not None
        spare = self._spare
        done = Done("node lost", time.monotonic(), node=spare.name)
        self._history.faults.append(done)
        await asyncio.to_thread(self._world.cluster.faults.stop_node, spare.name)

        async def taken_away() -> bool:
            if spare.name in self._ready().values():
                return False
            # What its kubelet said with its last breath is an endpoint a moment later.
            here = await self._world.client.list(PODS, self._world.namespace, field_selector=f"spec.nodeName={spare.name}")
            return not any(is_ready(each) for each in here["items"])

        await until("its endpoints are taken away", taken_away, _READY_AGAIN_SECONDS)
        done.ended = time.monotonic()
        self._say(f"  its endpoints are away after {done.ended - done.began:.1f} s")
        await asyncio.sleep(5)
        await asyncio.to_thread(self._world.cluster.faults.start_node, spare.name)

        async def back() -> bool:
            conditions = (await self._world.client.get(NODES, spare.name)).get("status", {}).get("conditions") or ()
            return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

        await until("the node is back", back, _READY_AGAIN_SECONDS)
