"""The measurements: each returns figures by name, and leaves the node as it was, but for :meth:`Lab.many`, whose pods :meth:`Lab.end` ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kubeling.api.resources import NODES, PODS
from kubeling.bench.node import busybox, processes
from kubeling.bench.node.containerd import ContainerdNode, init_of
from kubeling.bench.report import percentile
from kubeling.client.rest import Client
from kubeling.cluster.pytest_plugin import ClusterHandle

Figures = dict[str, tuple[float, str]]

NODE, NAMESPACE = "worker-1", "default"
IMAGE = "kubeling.local/host"
MIB = 1 << 20
#: How many bytes of log are written for the measurement.
LOG_BYTES = 40 * MIB


class Lab:
    """A cluster with one worker, to be measured."""

    def __init__(self, cluster: ClusterHandle, client: Client, containerd: ContainerdNode | None) -> None:
        self.cluster = cluster
        self.client = client
        self.containerd = containerd

    async def create(self, name: str, *command: str, **container: Any) -> None:
        spec = {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "c",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(command) or ["sleep", "100000"],
                    **container,
                }
            ],
        }
        await self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, NAMESPACE)

    async def _remove(self, name: str) -> None:
        async with self.phases() as phases:
            await self.client.delete(PODS, name, NAMESPACE, grace_period_seconds=1)
            await phases.wait(name, "Gone")

    @asynccontextmanager
    async def phases(self) -> AsyncIterator[Phases]:
        """A watch that knows when each pod came to be Running, and was gone."""
        listed = await self.client.list(PODS, NAMESPACE)
        phases = Phases()
        task = asyncio.ensure_future(phases.follow(self.client, listed["metadata"]["resourceVersion"]))
        try:
            yield phases
        finally:
            task.cancel()

    async def one_by_one(self, count: int) -> Figures:
        """From the request to the watch event that says Running; and from the request to delete to the event that it is gone."""
        starts, ends = [], []
        async with self.phases() as phases:
            for number in range(count + 1):
                name = f"single-{number}"
                began = time.monotonic()
                await self.create(name)
                running = await phases.wait(name, "Running")
                stopped = time.monotonic()
                # With a grace period of zero the API would forget the pod at once.
                await self.client.delete(PODS, name, NAMESPACE, grace_period_seconds=1)
                gone = await phases.wait(name, "Gone")
                if number:  # The first warms everything up.
                    starts.append((running - began) * 1000)
                    ends.append((gone - stopped) * 1000)
        return {
            "pod create to Running, p50": (percentile(starts, 0.5), "ms"),
            "pod create to Running, p99": (percentile(starts, 0.99), "ms"),
            "pod delete to gone, p50": (percentile(ends, 0.5), "ms"),
        }

    async def many(self, count: int) -> Figures:
        """All are created at once and stay."""
        async with self.phases() as phases:
            began = time.monotonic()
            gate = asyncio.Semaphore(16)

            async def one(number: int) -> None:
                async with gate:
                    await self.create(f"many-{number}")

            await asyncio.gather(*(one(number) for number in range(count)))
            accepted = time.monotonic() - began
            last = max([await phases.wait(f"many-{number}", "Running", 300) for number in range(count)]) - began
        return {f"{count} pods at once, all Running": (last, "s"), f"{count} pods at once, all accepted": (accepted, "s")}

    async def end(self, count: int) -> Figures:
        """All of them are deleted at once."""
        async with self.phases() as phases:
            began = time.monotonic()
            await asyncio.gather(
                *(self.client.delete(PODS, f"many-{number}", NAMESPACE, grace_period_seconds=1) for number in range(count))
            )
            last = max([await phases.wait(f"many-{number}", "Gone", 300) for number in range(count)]) - began
        return {f"{count} pods at once, all gone": (last, "s")}

    async def idle(self, pods: int, seconds: float) -> Figures:
        """Memory and processor time of the kubelet and all that belongs to the runtime, while nothing happens."""
        # What follows a start (the last statuses, events, garbage) is over by then.
        await asyncio.sleep(15)
        before = await asyncio.to_thread(processes.cpu_seconds, self.cluster, NODE)
        await asyncio.sleep(seconds)
        after = await asyncio.to_thread(processes.cpu_seconds, self.cluster, NODE)
        used = sum(value - before.get(pid, 0.0) for pid, value in after.items())
        memory = await asyncio.to_thread(processes.resident, self.cluster, NODE)
        return {
            f"memory of kubelet and runtime, {pods} pods": (sum(memory.values()) / 1e6, "MB"),
            f"CPU of kubelet and runtime, {pods} pods": (used / seconds * 100, "%"),
        }

    async def execs(self) -> Figures:
        """`kubectl exec` costs mostly kubectl; so the CRI's ExecSync, as exec probes use it."""
        await self.create("exec")
        async with self.phases() as phases:
            await phases.wait("exec", "Running")
        took = await asyncio.to_thread(self._exec_sync, 20)
        await self._remove("exec")
        return {"exec of `true`, p50": (percentile(took, 0.5), "ms"), "exec of `true`, p99": (percentile(took, 0.99), "ms")}

    def _exec_sync(self, count: int) -> list[float]:
        """In a process of the node's mount namespace, where the socket is."""
        socket = self.containerd.socket if self.containerd is not None else "/run/kubeling/crilite.sock"
        script = (
            "import grpc,json,time\nfrom kubeling.proto import cri_pb2 as p, cri_pb2_grpc as g\n"
            f"stub = g.RuntimeServiceStub(grpc.insecure_channel('unix://{socket}'))\n"
            "c = [x for x in stub.ListContainers(p.ListContainersRequest()).containers if x.labels['io.kubernetes.pod.name'] == 'exec'][0].id\n"
            f"took = []\nfor _ in range({count} + 1):\n    t = time.perf_counter()\n"
            "    stub.ExecSync(p.ExecSyncRequest(container_id=c, cmd=['true'], timeout=10))\n"
            "    took.append((time.perf_counter() - t) * 1000)\nprint(json.dumps(took[1:]))\n"
        )
        return [float(each) for each in json.loads(self._in_node(script))]

    def _in_node(self, script: str) -> str:
        import sys

        pid = init_of(self.cluster, NODE)
        done = subprocess.run(
            ["nsenter", f"--target={pid}", "--mount", "--net", sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    async def logs(self) -> Figures:
        """Short lines as fast as they are taken, from the container's start to its end."""
        line = "a line of sixty-three characters, as programs like to write them"
        await self.create("logs", "sh", "-c", f"yes '{line[:63]}' | head -c {LOG_BYTES}; sleep 1000", livenessProbe=None)
        async with self.phases() as phases:
            began = await phases.wait("logs", "Running")
        folder = self.cluster.root / "nodes" / NODE / "kubelet" / "log" / "pods"
        size = 0
        while size < LOG_BYTES and time.monotonic() - began < 60:
            await asyncio.sleep(0.02)
            size = sum(each.stat().st_size for each in folder.glob("*_logs_*/c/*") if each.exists())
        took = time.monotonic() - began
        await self._remove("logs")
        return {"log throughput, lines of 64 bytes": (size / took / MIB, "MiB/s")}

    async def image(self) -> Figures:
        """An archive of one layer with 64 MB in 200 files, loaded and unpacked."""
        with tempfile.TemporaryDirectory(prefix="kl-image-") as folder:
            archive = Path(folder) / "image.tar"
            names = ["bench.local/big:1"]
            await asyncio.to_thread(busybox.write, archive, *names, files=200, size=64 * MIB // 200)
            began = time.monotonic()
            if self.containerd is not None:
                command = ["ctr", "-a", str(self.containerd.socket), "-n", "k8s.io", "images", "import", str(archive)]
                await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
            else:
                await asyncio.to_thread(self.cluster.cli, "image", "load", str(archive), f"--name={self.cluster.name}")
            took = time.monotonic() - began
        nodes = await self.client.list(NODES)
        assert nodes["items"]
        return {"image of 64 MB loaded and unpacked": (took * 1000, "ms")}


class Phases:
    """When each pod was seen in a phase first, by time.monotonic()."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], asyncio.Future[float]] = {}

    def _future(self, name: str, phase: str) -> asyncio.Future[float]:
        return self._seen.setdefault((name, phase), asyncio.get_running_loop().create_future())

    async def follow(self, client: Client, version: str) -> None:
        listed = await client.list(PODS, NAMESPACE)
        for pod in listed["items"]:
            self._note(pod["metadata"]["name"], (pod.get("status") or {}).get("phase") or "")
        async for kind, pod in client.watch(PODS, NAMESPACE, resource_version=version):
            if kind in ("ADDED", "MODIFIED", "DELETED"):
                phase = "Gone" if kind == "DELETED" else (pod.get("status") or {}).get("phase") or ""
                self._note(pod["metadata"]["name"], phase, str((pod.get("status") or {}).get("message")))

    def _note(self, name: str, phase: str, message: str = "") -> None:
        future = self._future(name, phase)
        if not future.done():
            future.set_result(time.monotonic())
        waiting = self._future(name, "Running")
        if phase == "Failed" and not waiting.done():
            waiting.set_exception(RuntimeError(f"pod {name} failed: {message}"))

    async def wait(self, name: str, phase: str, seconds: float = 60.0) -> float:
        return await asyncio.wait_for(asyncio.shield(self._future(name, phase)), seconds)
