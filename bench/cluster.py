"""A whole cluster: how fast it is there, how fast a pod runs, what it costs when idle, how many requests it takes."""

from __future__ import annotations

import asyncio
import compileall
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import kubeling
from kubeling.api.resources import CONFIG_MAPS, PODS
from kubeling.bench.report import Figure, percentile
from kubeling.client import kubeconfig
from kubeling.client.rest import Client
from kubeling.cluster.pytest_plugin import ClusterHandle

Obj = dict[str, Any]


def compile_all() -> None:
    """Have bytecode for every module, as pip leaves it: a working tree whose user lets none be written would be compiled at every start."""
    for room in Path(kubeling.__path__[0]).iterdir():
        if (room / "__init__.py").exists():
            compileall.compile_dir(room, quiet=2)


def cold_starts(rounds: int) -> list[Figure]:
    """From the command to all Ready, one control plane and one worker."""
    compile_all()
    seconds = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="kubeling-bench-") as folder:
            handle = ClusterHandle(f"bench-start-{number}", Path(folder) / "home", Path(folder) / "kubeconfig")
            began = time.monotonic()
            handle.up("--workers=1")
            seconds.append(time.monotonic() - began)
            handle.down()
    return [
        Figure(
            "cold start, command to all Ready (median)",
            statistics.median(seconds),
            "s",
            "1 s",
            f"of {rounds}, best {min(seconds):.2f} s",
        )
    ]


async def pod_starts(config: kubeconfig.ClientConfig, count: int) -> list[Figure]:
    """Create one pod after the other; the clock stops when the watch shows it Running."""
    async with Client(config) as client:
        running: dict[str, asyncio.Future[float]] = {}
        listed = await client.list(PODS, "default")

        async def follow() -> None:
            async for _, pod in client.watch(PODS, "default", resource_version=listed["metadata"]["resourceVersion"]):
                waiting = running.get(pod["metadata"].get("name", ""))
                if waiting is not None and not waiting.done() and (pod.get("status") or {}).get("phase") == "Running":
                    waiting.set_result(time.monotonic())

        follower = asyncio.ensure_future(follow())
        took = []
        for number in range(count):
            name = f"bench-{number}"
            running[name] = asyncio.get_running_loop().create_future()
            spec = {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {"name": "c", "image": "kubeling.local/host", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "1000"]}
                ],
            }
            began = time.monotonic()
            await client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, "default")
            took.append((await asyncio.wait_for(running[name], 30) - began) * 1000)
        follower.cancel()
        for number in range(count):
            await client.delete(PODS, f"bench-{number}", "default", grace_period_seconds=0)
    return [
        Figure("pod create to Running, p50", percentile(took, 0.5), "ms", "150 ms", f"{count} pods, one after the other"),
        Figure("pod create to Running, p99", percentile(took, 0.99), "ms"),
    ]


def idle_costs(handle: ClusterHandle, seconds: float) -> list[Figure]:
    """Memory and CPU of every process of the cluster while nothing is asked of it."""

    def look() -> dict[str, tuple[float, float]]:
        found: dict[str, tuple[float, float]] = {}
        state = handle.status()
        for part in ("own", "nodes", "daemons"):
            for entry in state[part]:
                name = f"{entry['daemon']} on {entry['node']}" if "daemon" in entry else entry["name"]
                found[name] = (entry.get("pss_kib", 0) / 1024, entry.get("cpu_seconds", 0.0))
        return found

    before, began = look(), time.monotonic()
    time.sleep(seconds)  # The measured time itself: nothing is waited for.
    after, elapsed = look(), time.monotonic() - began
    figures = []
    for name, (pss, cpu) in sorted(after.items(), key=lambda item: -item[1][0]):
        share = (cpu - before.get(name, (0, cpu))[1]) / elapsed * 100
        figures.append(Figure(f"idle {name}: memory (PSS)", pss, "MiB", "", f"{share:.2f} % of a core"))
    total_cpu = sum(cpu - before.get(name, (0, cpu))[1] for name, (_, cpu) in after.items()) / elapsed * 100
    return [
        Figure("idle cluster: memory (PSS)", sum(pss for pss, _ in after.values()), "MiB", "250 MiB"),
        Figure("idle cluster: CPU", total_cpu, "% of a core", "2 %", f"over {elapsed:.0f} s"),
        *figures,
    ]


async def _load(config: kubeconfig.ClientConfig, kind: str, clients: int, each: int, prefix: str) -> list[float]:
    """Requests over keep-alive connections, as lean as they can be: the load generator shares the cores with what it measures."""
    host, _, port = config.servers[0].removeprefix("https://").rpartition(":")
    context = config.ssl_context()
    path = CONFIG_MAPS.path("default")
    latencies: list[float] = []

    def request(number: int) -> bytes:
        if kind == "get":
            return f"GET {path}/bench-target HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode()
        body = json.dumps(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{prefix}-{number}"}, "data": {"text": "x" * 500}}
        ).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def one(worker: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        for number in range(each):
            sent = request(worker * each + number)
            began = time.monotonic()
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                raise RuntimeError(f"the server refused: {head[:200]!r}")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.monotonic() - began)
        writer.close()

    await asyncio.gather(*(one(worker) for worker in range(clients)))
    return latencies


def load_process(path: str, kind: str, clients: int, each: int, prefix: str) -> tuple[float, float, list[float]]:
    """One load generator: (start, end, latencies), on the machine's monotonic clock."""
    config = kubeconfig.load(path)
    began = time.monotonic()
    latencies = asyncio.run(_load(config, kind, clients, each, prefix))
    return began, time.monotonic(), latencies


def api_load(path: Path, kind: str, clients: int, each: int) -> list[Figure]:
    """`kind` is create or get; `clients` at once, `each` requests a client, from another process."""
    with ProcessPoolExecutor(1) as pool:
        began, ended, latencies = pool.submit(load_process, str(path), kind, clients, each, f"bench-{clients}").result()
    span = ended - began
    aim = {("create", 64): "1,000/s", ("get", 16): "1,000/s"}.get((kind, clients), "")
    return [
        Figure(
            f"{kind}s a second, {clients} client{'s' if clients > 1 else ''}",
            len(latencies) / span,
            "/s",
            aim,
            "load generator on the same cores",
        ),
        Figure(f"{kind} latency p50, {clients} client{'s' if clients > 1 else ''}", percentile(latencies, 0.5) * 1000, "ms"),
        Figure(f"{kind} latency p99, {clients} client{'s' if clients > 1 else ''}", percentile(latencies, 0.99) * 1000, "ms"),
    ]


def run(*, rounds: int = 3, pods: int = 40, idle_seconds: float = 20) -> list[Figure]:
    """All of it."""
    figures = cold_starts(rounds)
    with tempfile.TemporaryDirectory(prefix="kubeling-bench-") as folder:
        handle = ClusterHandle("bench", Path(folder) / "home", Path(folder) / "kubeconfig")
        handle.up("--workers=1")
        try:
            path = handle.root / "kubeconfig" / "admin.conf"
            config = kubeconfig.load(path)
            time.sleep(3)  # Start-up's last work is not idleness.
            figures += idle_costs(handle, idle_seconds)
            figures += asyncio.run(pod_starts(config, pods))
            target = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench-target"}, "data": {"text": "x" * 500}}
            asyncio.run(_once(config, target))
            for kind, clients, each in (
                ("get", 1, 500),
                ("get", 16, 200),
                ("create", 1, 300),
                ("create", 16, 100),
                ("create", 64, 50),
            ):
                figures += api_load(path, kind, clients, each)
        finally:
            handle.down()
    return figures


async def _once(config: kubeconfig.ClientConfig, obj: Obj) -> None:
    async with Client(config) as client:
        await client.create(CONFIG_MAPS, obj, "default")
