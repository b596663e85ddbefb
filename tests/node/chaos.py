"""Pods come and go on a node while its kubelet, its runtime, the keeper of its containers and the containers themselves are killed with SIGKILL, at moments
that follow from a seed. Afterwards the API, the runtime and the disk must agree; and when the pods have gone, nothing may be left of them.

`python -m tests.node.chaos --seed N --rounds N` brings up a cluster of its own; a round is one kill. `make chaos` does that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.pods import container_status, is_ready
from kubeling.api.resources import NAMESPACES, PODS
from kubeling.client.rest import ConnectionFailed
from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.cluster.state import ClusterError
from tests.kubelet.conftest import FOREVER, Pods, shell
from tests.node.leaks import Node

#: What is killed, and how often in comparison.
VICTIMS = {"kubelet": 3, "crilite": 3, "keeper": 2, "container": 4}
MOST_PODS = 10
SETTLE_SECONDS = 120.0
#: The node's init restarts a daemon with a back-off, and begins anew after one that has lived for ten seconds. More kills than these in a row would be a
#: test of the back-off.
KILLS_IN_A_ROW, CALM_SECONDS = 4, 13.0


class Chaos:
    """One run. `report` gets a line now and then."""

    def __init__(self, pods: Pods, node: str, seed: str) -> None:
        self.pods = pods
        self.node = Node(pods.cluster, node)
        self.source = random.Random(seed)
        self.wanted: dict[str, str] = {}
        self.made = 0
        self.began = time.monotonic()
        self.kills = dict.fromkeys(VICTIMS, 0)
        self._row: dict[str, tuple[int, float]] = {}
        #: Pods of which a container was killed, or may have ended unseen: those may have restarts.
        self.hurt: set[str] = set()

    async def run(self, rounds: int, seconds: float = 3600.0) -> None:
        """Do and kill until `rounds` kills are done or the time is over, and see that all agrees."""
        end = time.monotonic() + seconds
        names, weights = list(VICTIMS), list(VICTIMS.values())
        next_kill = time.monotonic() + 0.5
        while sum(self.kills.values()) < rounds and time.monotonic() < end:
            await asyncio.sleep(self.source.random() * 0.12)
            await self._live()
            if time.monotonic() > next_kill:
                next_kill = time.monotonic() + 0.1 + self.source.random()
                await self._kill(self.source.choices(names, weights)[0])
                if sum(self.kills.values()) % 100 == 99:
                    self._report("on the way")
        self._report("all pods are made and deleted")
        await self.settle()
        self._report("what there is agrees")
        for name in list(self.wanted):
            await self.pods.delete(name, grace=self.source.choice([0, 1]))
            self.wanted.pop(name)
        await self.settle(empty=True)

    def _report(self, words: str) -> None:
        print(f"{time.monotonic() - self.began:.0f} s: {self.made} pods made, kills {self.kills}: {words}", flush=True)

    async def _live(self) -> None:
        """A pod is made or deleted, as it happens."""
        listed = await self.pods.client.list(PODS, self.pods.namespace)
        # A kubelet that is not there ends no pods: they must not become more than a node takes.
        if self.source.random() < 0.55 and len(self.wanted) < MOST_PODS and len(listed["items"]) < 4 * MOST_PODS:
            self.made += 1
            name = f"p{self.made}"
            init = [shell("sleep 0.1", "i")] if self.source.random() < 0.3 else []
            mounts = [{"name": "m", "mountPath": "/m"}, {"name": "d", "mountPath": "/d", "subPath": "sub"}]
            volumes = [{"name": "m", "emptyDir": {"medium": "Memory"}}, {"name": "d", "emptyDir": {}}]
            shared = {"shareProcessNamespace": True} if self.source.random() < 0.2 else {}
            made = await self.pods.run(
                name,
                shell(FOREVER, volumeMounts=mounts, resources={"limits": {"memory": "64Mi"}}),
                initContainers=init,
                nodeName=self.node.name,
                volumes=volumes,
                terminationGracePeriodSeconds=1,
                **shared,
            )
            self.wanted[name] = made["metadata"]["uid"]
        elif self.wanted:
            name = self.source.choice(sorted(self.wanted))
            await self.pods.delete(name, grace=self.source.choice([None, 0, 1]))
            del self.wanted[name]

    async def _kill(self, victim: str) -> None:
        if victim in ("kubelet", "crilite"):
            count, last = self._row.get(victim, (0, 0.0))
            if time.monotonic() - last > CALM_SECONDS:
                count = 0
            if count == KILLS_IN_A_ROW:
                return
            with contextlib.suppress(ClusterError):  # It has not come back from the last time yet.
                self._row[victim] = (count + 1, time.monotonic())
                await asyncio.to_thread(self.pods.cluster.faults.kill, self.node.name, victim)
                self.kills[victim] += 1
        elif victim == "keeper":
            for pid in self.node.processes("crilite-keeper")[:1]:
                self.hurt.update(self.wanted)  # What ends while there is no keeper cannot be told from a crash.
                self._signal(pid, victim)
        elif self.wanted:
            name = self.source.choice(sorted(self.wanted))
            if pids := self.node.container_processes(self.wanted[name]):
                self.hurt.add(name)
                self._signal(self.source.choice(pids), victim)

    def _signal(self, pid: int, victim: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[victim] += 1

    async def settle(self, *, empty: bool = False) -> None:
        """Wait until everything agrees. AssertionError says what does not."""
        deadline, left = time.monotonic() + SETTLE_SECONDS, "nothing was looked at"
        while left:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.3)
            try:
                left = await self._disagreement(empty=empty)
            except (ConnectionFailed, TimeoutError) as error:
                left = str(error)

    async def _disagreement(self, *, empty: bool) -> str:
        """What is not as it should be; empty when all is."""
        listed = (await self.pods.client.list(PODS, self.pods.namespace))["items"]
        found: dict[str, dict[str, Any]] = {each["metadata"]["name"]: each for each in listed}
        if set(found) != set(self.wanted):
            return f"wanted {sorted(self.wanted)}, there are {sorted(found)}"
        unready = {name: pod.get("status") for name, pod in found.items() if not is_ready(pod)}
        if unready:
            return f"not ready: {unready}"
        restarted = [
            name for name, pod in found.items() if (container_status(pod, "c") or {})["restartCount"] and name not in self.hurt
        ]
        if restarted:
            return f"restarted for no reason: {restarted}"
        addresses = [pod["status"]["podIP"] for pod in found.values()]
        if len(set(addresses)) != len(addresses):
            return f"one address twice: {addresses}"
        everything = await self.pods.client.list(PODS, field_selector=f"spec.nodeName={self.node.name}")
        known = {each["metadata"]["uid"] for each in everything["items"]}
        left = await asyncio.to_thread(self.node.left)
        if empty and not known:
            more = {sort: names for sort, names in left.items() if names}
            return f"left behind: {more}" if more else ""
        strangers = {
            sort: [name for name in left[sort] if not any(uid in name for uid in known)]
            for sort in ("volumes", "logs", "mounts", "cgroups")
        }
        strangers["mounts"] = [name for name in strangers["mounts"] if "/kubelet/pods/" in name]
        strangers = {sort: names for sort, names in strangers.items() if names}
        if strangers:
            return f"of no pod: {strangers}"
        many = {sort: len(left[sort]) for sort in ("sandboxes", "namespaces") if len(left[sort]) > len(known) * 2}
        return f"too many for {len(known)} pods: {many}" if many else ""


async def _alone(seed: str, rounds: int, seconds: float, hold: float) -> None:
    with tempfile.TemporaryDirectory(prefix="kl-chaos-") as folder:
        cluster = ClusterHandle("chaos", Path(folder) / "home", Path(folder) / "kubeconfig")
        try:
            await asyncio.to_thread(cluster.up, "--workers=1", f"--owner={os.getpid()}")
            async with cluster.client() as client:
                with contextlib.suppress(ApiError):
                    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "chaos"}})
                chaos = Chaos(Pods(cluster, client, "chaos"), "worker-1", seed)
                began = time.monotonic()
                try:
                    await chaos.run(rounds, seconds)
                except AssertionError as error:
                    if not hold:
                        raise
                    print(f"{error}\nThe cluster stays for {hold:.0f} s: KUBECONFIG={cluster.kubeconfig}", flush=True)
                    await asyncio.sleep(hold)
                    raise
                print(
                    f"seed {seed}: {chaos.made} pods, kills {chaos.kills}, {time.monotonic() - began:.0f} s: all agrees, nothing is left"
                )
        finally:
            await asyncio.to_thread(cluster.down)


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m tests.node.chaos", description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--seed", default="")
    flags.add_argument("--rounds", type=int, default=1000, help="kills")
    flags.add_argument("--seconds", type=float, default=7200)
    flags.add_argument(
        "--hold", type=float, default=0, help="seconds that the cluster stays when something does not agree, to be looked at"
    )
    args = flags.parse_args()
    seed = args.seed or str(random.SystemRandom().randrange(1 << 30))
    print(f"seed {seed}", flush=True)
    asyncio.run(_alone(seed, args.rounds, args.seconds, args.hold))
    return 0


if __name__ == "__main__":
    sys.exit(main())
