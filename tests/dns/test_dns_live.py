"""The DNS daemon beside a real apiserver: it is up before that, knows every name of the specification as dig sees it, and goes on when the apiserver is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from kubeling.client.rest import Client
from kubeling.tests.plane import Plane, running_plane, stop, wait_for_port
from kubeling.tests.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.skipif(shutil.which("dig") is None, reason="needs dig")]

Obj = dict[str, Any]


def dig(port: int, *words: str) -> tuple[str, list[str]]:
    """The status, and the answers without their names."""
    command = ["dig", "@127.0.0.1", "-p", str(port), "+time=5", "+tries=1", "+noall", "+comments", "+answer", *words]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    status = said.partition("status: ")[2].partition(",")[0]
    records = [line.split() for line in said.splitlines() if line and not line.startswith(";")]
    assert all(int(each[1]) <= 30 for each in records), said
    return status, sorted(" ".join(each[3:]) for each in records)


async def fill(client: Client) -> dict[str, str]:
    """Services of every kind; returns their addresses."""
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    specs: dict[str, Obj] = {
        "web": {"ports": ports},
        "db": {"ports": [{"name": "sql", "port": 5432}], "clusterIP": "None"},
        "eager": {"ports": [{"name": "sql", "port": 5432}], "clusterIP": "None", "publishNotReadyAddresses": True},
        "empty": {"ports": ports, "clusterIP": "None"},
        "alias": {"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"},
    }
    found = {}
    for name, spec in specs.items():
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        found[name] = (await client.create(SERVICES, body, "shop"))["spec"].get("clusterIP", "")
    for name in ("db", "eager"):
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["10.244.1.6"], "conditions": {"ready": True}},
                {"addresses": ["10.244.1.7"], "hostname": "db-2", "conditions": {"ready": False}},
            ],
        }
        await client.create(ENDPOINT_SLICES, body, "shop")
    return found


def expected(addresses: dict[str, str]) -> dict[tuple[str, ...], tuple[str, list[str]]]:
    shop, web = "shop.svc.cluster.local", addresses["web"]
    reverse = ".".join(reversed(web.split("."))) + ".in-addr.arpa"
    plain = ("db-0", "10-244-1-6")
    return {
        (f"web.{shop}", "A"): ("NOERROR", [f"A {web}"]),
        (f"web.{shop}", "A", "+tcp"): ("NOERROR", [f"A {web}"]),
        (f"WEB.{shop}", "A", "+noedns"): ("NOERROR", [f"A {web}"]),
        (f"web.{shop}", "AAAA"): ("NOERROR", []),
        (f"web.{shop}", "MX"): ("NOERROR", []),
        (f"_http._tcp.web.{shop}", "SRV"): ("NOERROR", [f"SRV 0 100 80 web.{shop}."]),
        (f"_dns._udp.web.{shop}", "SRV"): ("NOERROR", [f"SRV 0 100 53 web.{shop}."]),
        (f"_dns._tcp.web.{shop}", "SRV"): ("NXDOMAIN", []),
        (f"_tcp.web.{shop}", "A"): ("NOERROR", []),
        (reverse, "PTR"): ("NOERROR", [f"PTR web.{shop}."]),
        (f"db.{shop}", "A"): ("NOERROR", ["A 10.244.1.5", "A 10.244.1.6"]),
        (f"db-0.db.{shop}", "A"): ("NOERROR", ["A 10.244.1.5"]),
        (f"db-0.db.{shop}", "AAAA"): ("NOERROR", []),
        (f"db-2.db.{shop}", "A"): ("NXDOMAIN", []),
        (f"db-2.eager.{shop}", "A"): ("NOERROR", ["A 10.244.1.7"]),
        (f"eager.{shop}", "A"): ("NOERROR", [f"A 10.244.1.{number}" for number in (5, 6, 7)]),
        (f"_sql._tcp.db.{shop}", "SRV"): ("NOERROR", sorted(f"SRV 0 50 5432 {name}.db.{shop}." for name in plain)),
        ("5.1.244.10.in-addr.arpa", "PTR"): ("NOERROR", [f"PTR db-0.db.{shop}.", f"PTR db-0.eager.{shop}."]),
        (f"empty.{shop}", "A"): ("NOERROR", []),
        (f"alias.{shop}", "A"): ("NOERROR", [f"A {web}", f"CNAME web.{shop}."]),
        (f"alias.{shop}", "CNAME"): ("NOERROR", [f"CNAME web.{shop}."]),
        ("10-244-1-5.shop.pod.cluster.local", "A"): ("NOERROR", ["A 10.244.1.5"]),
        ("not-an-address.shop.pod.cluster.local", "A"): ("NXDOMAIN", []),
        (shop, "A"): ("NOERROR", []),
        (f"nothing.{shop}", "A"): ("NXDOMAIN", []),
        ("web.nowhere.svc.cluster.local", "A"): ("NXDOMAIN", []),
        ("web", "A", f"+domain={shop}", "+search"): ("NOERROR", [f"A {web}"]),
        ("dns-version.cluster.local", "TXT"): ("NOERROR", ['TXT "1.1.0"']),
        ("elsewhere.example", "A"): ("REFUSED", []),
    }


def until(port: int, status: str, *words: str) -> None:
    deadline = time.monotonic() + 60
    while (said := dig(port, *words)[0]) != status:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


@pytest.fixture
def plane(tmp_path: Path) -> Any:
    with running_plane(tmp_path) as made:
        yield made


def test_the_names_of_a_cluster_before_with_and_without_its_apiserver(plane: Plane) -> None:
    async def work() -> dict[str, str]:
        async with Client(plane.config()) as client:
            return await fill(client)

    addresses = asyncio.run(work())
    apiserver = plane.processes[1]
    apiserver.send_signal(signal.SIGSTOP)
    port = free_port()
    flags = [f"--listen=127.0.0.1:{port}", "--forward=none", "--healthz-bind-address=", "--endpoint-name=here"]
    server = plane.daemon("dns", f"--kubeconfig={plane.kubeconfig()}", *flags)
    try:
        wait_for_port(port, server)
        # Not known yet is not the same as not there.
        assert dig(port, "web.shop.svc.cluster.local", "A") == ("SERVFAIL", [])
        assert dig(port, "elsewhere.example", "A") == ("REFUSED", [])
    finally:
        apiserver.send_signal(signal.SIGCONT)
    until(port, "NOERROR", "web.shop.svc.cluster.local")
    wanted = expected(addresses)
    assert {words: dig(port, *words) for words in wanted} == wanted
    stop(apiserver, how=signal.SIGKILL)
    assert {words: dig(port, *words) for words in list(wanted)[:4]} == dict(list(wanted.items())[:4])
    # Many at once, over one connection too.
    with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
        question = b"\0\7\1\0\0\1\0\0\0\0\0\0\3web\4shop\3svc\7cluster\5local\0\0\1\0\1"
        for _ in range(20):
            one.sendall(len(question).to_bytes(2, "big") + question)
        stream = one.makefile("rb")
        for _ in range(20):
            answer = stream.read(int.from_bytes(stream.read(2), "big"))
            assert answer[:2] == b"\0\7"
            assert socket.inet_ntoa(answer[-4:]) == addresses["web"]
    assert os.waitpid(server.pid, os.WNOHANG) == (0, 0)
