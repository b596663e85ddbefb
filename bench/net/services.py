"""Services by the real proxy process, fed by a real apiserver: how long until a change is in the kernel, and what a connection costs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from kubeling.api.resources import ENDPOINT_SLICES, SERVICES
from kubeling.bench.report import Figure, percentile
from kubeling.bench.scheduler.plane import Plane, stop
from kubeling.client.rest import Client
from kubeling.kubeproxy.nftwatch import NftWatch

Obj = dict[str, Any]
#: Two addresses of the namespace's loopback stand for pods.
ENDPOINTS = ("10.244.0.1", "10.244.0.2")
TARGET = "target"
#: What the proxy takes its node's name to be.
NODE = "bench"
_PORT = 8080
_CONNECTIONS = 3000
_BYTES = 1 << 30
_PARALLEL = 32
_SILENCE_SECONDS = 3.0
_RATE_SECONDS, _RATE_ROUNDS, _RATE_CLIENTS = 1.0, 4, 2
#: A client that opens connections, one after another, for so many seconds, and says how many there were. None of them stays behind waiting for its end.
_CLIENT = """
import socket, struct, sys, time
place, until, done = (sys.argv[1], int(sys.argv[2])), time.monotonic() + float(sys.argv[3]), 0
while time.monotonic() < until:
    with socket.create_connection(place) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.recv(1)
    done += 1
print(done)
"""


def service(name: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80, "targetPort": _PORT}]},
    }


def slice_of(name: str, *addresses: str) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": _PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
    }


def measure(folder: Path, count: int, changes: int) -> list[Figure]:
    """With `count` Services of three endpoints each."""
    for line in ("link set lo up", *(f"addr replace {ip}/32 dev lo" for ip in ENDPOINTS), "route replace default dev lo"):
        subprocess.run(["ip", *line.split()], check=True)
    words = f"{count:,} Services"
    listeners = [_Echo(ip) for ip in ENDPOINTS]
    try:
        with Plane(folder) as plane:
            address = asyncio.run(_fill(plane, count))
            started = time.monotonic()
            proxy = start_proxy(plane)
            try:
                asyncio.run(_answers(address))
                figures = [Figure(f"{words}: proxy started until all are served", time.monotonic() - started, "s")]
                figures += asyncio.run(_changes(plane, words, changes))
                figures += _traffic(words, address)
                figures += asyncio.run(_rest(plane, words, proxy.pid))
            finally:
                stop(proxy)
    finally:
        for each in listeners:
            each.close()
        subprocess.run(["nft", "flush", "ruleset"], check=True)
    return figures


def start_proxy(plane: Plane) -> subprocess.Popen[bytes]:
    flags = [f"--kubeconfig={plane.kubeconfig}", "--proxy-mode=nftables", f"--hostname-override={NODE}", "--node-ip=127.0.0.1"]
    with open(plane.folder / "kubeproxy.log", "wb") as log:
        return subprocess.Popen([sys.executable, "-P", "-m", "kubeling.kubeproxy", *flags], stdout=log, stderr=log)


async def _fill(plane: Plane, count: int) -> str:
    """Make the Services; returns the address of the one that is used."""
    gate = asyncio.Semaphore(_PARALLEL)
    async with plane.client() as client:
        await plane.namespace(client, "default")

        async def make(name: str, *addresses: str) -> None:
            async with gate:
                await client.create(SERVICES, service(name), "default")
                await client.create(ENDPOINT_SLICES, slice_of(name, *addresses), "default")

        others = (
            make(f"s{each}", *(f"10.{200 + each // 16384}.{each // 64 % 256}.{each % 64 * 3 + part + 1}" for part in range(3)))
            for each in range(count - 1)
        )
        await asyncio.gather(make(TARGET, ENDPOINTS[0]), *others)
        address: str = (await client.get(SERVICES, TARGET, "default"))["spec"]["clusterIP"]
        return address


async def _answers(address: str) -> None:
    async with asyncio.timeout(300):
        while True:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, 80), 0.5)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@contextlib.asynccontextmanager
async def changes_of(table: str) -> AsyncIterator[asyncio.Queue[float]]:
    """When a table of the kernel's is changed, as the kernel itself tells."""
    seen: asyncio.Queue[float] = asyncio.Queue()
    watch = NftWatch()
    watch.listen(table, lambda: seen.put_nowait(time.monotonic()))
    watching = asyncio.ensure_future(watch.run())
    try:
        async with asyncio.timeout(10):
            await watch.listening.wait()
        yield seen
    finally:
        watching.cancel()


async def timed(seen: asyncio.Queue[float], change: Callable[[int], Awaitable[float]], changes: int) -> list[float]:
    """How long it takes, in seconds, until what `change` does (it returns when it began) is in the table."""
    times = []
    for number in range(changes):
        while not seen.empty():
            seen.get_nowait()
        began = await change(number)
        times.append(await asyncio.wait_for(seen.get(), 60) - began)
        await asyncio.sleep(0.05)
    return times


async def _changes(plane: Plane, words: str, changes: int) -> list[Figure]:
    """From the apiserver's acknowledgement of a changed slice to the transaction in the kernel, which the kernel itself tells."""
    async with plane.client() as client, changes_of("kubeling-proxy") as seen:
        await _silence(seen)
        times = await timed(seen, lambda number: _flip(client, number), changes)
    aim = "100 ms" if "10,000" not in words else "1,000 ms"
    return [
        Figure(f"{words}: endpoints written until the rule is in force, p50", percentile(times, 0.5) * 1000, "ms", aim),
        Figure(f"{words}: the same, p99", percentile(times, 0.99) * 1000, "ms"),
    ]


async def _silence(seen: asyncio.Queue[float]) -> None:
    """Until nothing has been changed for a while. An address answers before the kernel is done with the first transaction of 10,000 Services, and changes that
    come meanwhile are made at once: one that takes the other back is none."""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await seen.get()


async def _flip(client: Client, number: int) -> float:
    """One endpoint more, or one less; returns when it was begun."""
    wanted = ENDPOINTS if number % 2 == 0 else ENDPOINTS[:1]
    current = await client.get(ENDPOINT_SLICES, TARGET, "default")
    began = time.monotonic()
    await client.update(ENDPOINT_SLICES, {**current, "endpoints": slice_of(TARGET, *wanted)["endpoints"]})
    return began


class _Echo(threading.Thread):
    """Takes connections; reads what comes and sends one byte at the start."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_server((address, _PORT), backlog=1024)
        self.start()

    def run(self) -> None:
        buffer = bytearray(1 << 20)
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"x")
                try:
                    while connection.recv_into(buffer):
                        pass
                except OSError:
                    continue

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _traffic(words: str, address: str) -> list[Figure]:
    direct, through = (ENDPOINTS[0], _PORT), (address, 80)
    found = {}
    # Alternately, so that what else the machine does meets both.
    costs: dict[tuple[str, int], list[float]] = {direct: [], through: []}
    for _ in range(_CONNECTIONS):
        for place, times in costs.items():
            began = time.perf_counter()
            with socket.create_connection(place) as connection:
                connection.recv(1)
            times.append(time.perf_counter() - began)
    rates: dict[tuple[str, int], list[float]] = {direct: [], through: []}
    for _ in range(_RATE_ROUNDS):
        for place, each in rates.items():
            each.append(_rate(place))
    for place in costs:
        found[place] = _throughput(place)
    return [
        Figure(f"{words}: connection and first byte through the ClusterIP, p50", percentile(costs[through], 0.5) * 1e6, "µs"),
        Figure(f"{words}: the same directly", percentile(costs[direct], 0.5) * 1e6, "µs"),
        Figure(
            f"{words}: connections a second through the ClusterIP, {_RATE_CLIENTS} clients",
            percentile(rates[through], 0.5),
            "/s",
            note=f"directly {percentile(rates[direct], 0.5):,.0f}",
        ),
        Figure(
            f"{words}: throughput through the ClusterIP", found[through] / 1e9, "GB/s", note=f"directly {found[direct] / 1e9:.2f}"
        ),
    ]


def _rate(place: tuple[str, int]) -> float:
    """Connections a second, of some clients at once."""
    argv = [sys.executable, "-c", _CLIENT, place[0], str(place[1]), str(_RATE_SECONDS)]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(_RATE_CLIENTS)]
    return sum(int(each.communicate()[0]) for each in clients) / _RATE_SECONDS


def _throughput(place: tuple[str, int]) -> float:
    block = bytes(1 << 20)
    with socket.create_connection(place) as connection:
        connection.recv(1)
        began = time.perf_counter()
        for _ in range(_BYTES // len(block)):
            connection.sendall(block)
        return _BYTES / (time.perf_counter() - began)


async def _rest(plane: Plane, words: str, pid: int) -> list[Figure]:
    """The proxy's share of a core, alone and while fifty endpoints change in a second."""

    async def nothing() -> None:
        await asyncio.sleep(10)

    async def churn() -> None:
        until, number = time.monotonic() + 10, 0
        async with plane.client() as client:
            while time.monotonic() < until:
                began = time.monotonic()
                await _flip(client, number)
                number += 1
                await asyncio.sleep(max(0.0, 0.02 - (time.monotonic() - began)))

    return [
        Figure(f"{words}: the proxy at rest", await share_of(pid, nothing), "% of a core"),
        Figure(
            f"{words}: the proxy while endpoints change 50 times a second",
            await share_of(pid, churn),
            "% of a core",
            note="with the nft processes",
        ),
        Figure(f"{words}: the proxy's memory (PSS)", _pss(pid) / 1024, "MiB"),
    ]


async def share_of(pid: int, work: Callable[[], Awaitable[None]]) -> float:
    """The share of a core that a process uses meanwhile, in percent."""
    before, began = _cpu(pid), time.monotonic()
    await work()
    return (_cpu(pid) - before) / (time.monotonic() - began) * 100


def _cpu(pid: int) -> float:
    """Seconds, with those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(each) for each in fields[11:15]) / 100


def _pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))
