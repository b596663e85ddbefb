"""DNS: answers a second and their latencies, ours beside dnsmasq and unbound where they are installed, all with the same names and the same questions."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dnslib

from kubeling.api.resources import SERVICES
from kubeling.bench.net.services import service
from kubeling.bench.report import Figure, percentile
from kubeling.bench.scheduler.plane import Plane, stop

_NAMES = 200
_RATE = 2000
_SECONDS = 5.0
_WINDOW = 64


def measure(folder: Path) -> list[Figure]:
    """At 2,000 questions a second, and as many as 64 at a time allow."""
    with Plane(folder) as plane:
        addresses = asyncio.run(_fill(plane))
        figures: list[Figure] = []
        for name, port, command in _servers(folder, plane.kubeconfig, addresses):
            if command is not None:
                with _running(command, folder / f"{name}.log"):
                    figures += asyncio.run(_load(name, port, addresses))
    return figures


async def _fill(plane: Plane) -> dict[str, str]:
    """Name → address."""
    async with plane.client() as client:
        await plane.namespace(client, "default")
        found = {}
        for number in range(_NAMES):
            made = await client.create(SERVICES, service(f"s{number}"), "default")
            found[f"s{number}.default.svc.cluster.local"] = made["spec"]["clusterIP"]
    return found


def _servers(folder: Path, config: Path, addresses: dict[str, str]) -> Iterator[tuple[str, int, list[str] | None]]:
    flags = [f"--kubeconfig={config}", "--listen=127.0.0.1:5301", "--forward=none", "--healthz-bind-address="]
    yield "kubeling", 5301, [sys.executable, "-P", "-m", "kubeling.dns", *flags]
    hosts = folder / "dnsmasq.conf"
    lines = [f"host-record={name},{ip}" for name, ip in addresses.items()]
    hosts.write_text(
        "\n".join(["no-resolv", "no-hosts", "port=5302", "listen-address=127.0.0.1", "bind-interfaces", "user=root", *lines])
        + "\n"
    )
    yield "dnsmasq", 5302, [shutil.which("dnsmasq") or "", "-k", "-C", str(hosts)] if shutil.which("dnsmasq") else None
    conf = folder / "unbound.conf"
    data = "\n".join(f'  local-data: "{name}. IN A {ip}"' for name, ip in addresses.items())
    conf.write_text(
        'server:\n  interface: 127.0.0.1@5303\n  do-daemonize: no\n  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\n'
        f'  num-threads: 1\n  local-zone: "cluster.local." static\n{data}\nremote-control:\n  control-enable: no\n'
    )
    yield "unbound", 5303, [shutil.which("unbound") or "", "-d", "-c", str(conf)] if shutil.which("unbound") else None


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield
    finally:
        stop(process)


class _Client(asyncio.DatagramProtocol):
    """Questions by their number; the answer's future gets the time that it took."""

    def __init__(self) -> None:
        self.waiting: dict[int, tuple[float, asyncio.Future[float]]] = {}

    def datagram_received(self, data: bytes, _: object) -> None:
        asked = self.waiting.pop(int.from_bytes(data[:2], "big"), None)
        if asked is not None and not asked[1].done() and data[3] & 0xF == 0:
            asked[1].set_result(time.perf_counter() - asked[0])

    def error_received(self, _: Exception) -> None:
        pass


async def _load(name: str, port: int, addresses: dict[str, str]) -> list[Figure]:
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(_Client, remote_addr=("127.0.0.1", port))
    questions = [dnslib.DNSRecord.question(each).pack()[2:] for each in addresses]
    numbers = iter(range(1 << 40))

    async def ask() -> float:
        number = next(numbers)
        future: asyncio.Future[float] = loop.create_future()
        client.waiting[number & 0xFFFF] = (time.perf_counter(), future)
        transport.sendto((number & 0xFFFF).to_bytes(2, "big") + questions[number % len(questions)])
        return await asyncio.wait_for(future, 5)

    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ask(), 0.2)
                break
    paced: list[asyncio.Task[float]] = []
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < _SECONDS:
        while len(paced) < elapsed * _RATE:
            paced.append(asyncio.ensure_future(ask()))
        await asyncio.sleep(0.001)
    times = [each for each in await asyncio.gather(*paced, return_exceptions=True) if isinstance(each, float)]
    lost = len(paced) - len(times)
    done = 0
    until = time.perf_counter() + _SECONDS

    async def hammer() -> None:
        nonlocal done
        while time.perf_counter() < until:
            with contextlib.suppress(TimeoutError):
                await ask()
                done += 1

    await asyncio.gather(*(hammer() for _ in range(_WINDOW)))
    transport.close()
    return [
        Figure(f"DNS, {name}: p50 at {_RATE:,} questions a second", percentile(times, 0.5) * 1000, "ms"),
        Figure(
            f"DNS, {name}: p99",
            percentile(times, 0.99) * 1000,
            "ms",
            "5 ms" if name == "kubeling" else "",
            f"{lost} lost" if lost else "",
        ),
        Figure(
            f"DNS, {name}: answers a second, {_WINDOW} at a time",
            done / _SECONDS,
            "/s",
            note="load generator on the same cores, in Python",
        ),
    ]
