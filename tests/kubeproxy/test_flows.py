"""What the kernel remembers of flows and clients: it forgets what leads wrong, and keeps what is to stay, also when the proxy starts anew."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys

import pytest

from kubeling.kubeproxy import flows
from kubeling.kubeproxy.flows import Flow
from kubeling.kubeproxy.model import Endpoint, ServicePort
from kubeling.kubeproxy.nfnetlink import attribute

A, B = ("10.244.0.1", 53), ("10.244.0.2", 53)
DIALLED = ("10.96.0.1", 53)


def port(*endpoints: tuple[str, int], protocol: str = "UDP", **more: object) -> ServicePort:
    found = tuple(Endpoint(*each) for each in endpoints)
    given = {"cluster_ips": ("10.96.0.1",), "internal": found, "external": found, "everywhere": found, **more}
    return ServicePort("x", "s", "", protocol, 53, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("protocol", "answers", "endpoints", "stale"),
    [
        # Its first packet will be sent again.
        ("TCP unanswered", A, [B], True),
        ("TCP unanswered", A, [A, B], False),
        ("UDP", A, [A, B], False),
        ("UDP", A, [B], True),
        ("UDP", A, [], True),
        # No rule had touched it: it began before there were endpoints.
        ("UDP", DIALLED, [A], True),
        ("UDP", DIALLED, [], False),
        ("TCP", DIALLED, [A], True),
        # An established connection lives for as long as its pod.
        ("TCP", A, [B], False),
    ],
)
def test_which_flows_are_stale(protocol: str, answers: tuple[str, int], endpoints: list[tuple[str, int]], stale: bool) -> None:
    protocol, _, unanswered = protocol.partition(" ")
    flow = Flow({"TCP": 6, "UDP": 17}[protocol], DIALLED, answers, not unanswered)
    assert flows.is_stale(flow, flows.expected([port(*endpoints, protocol=protocol)], [])) is stale


def test_flows_of_others_and_of_node_ports() -> None:
    ports = flows.expected([port(A, node_port=30053, external_ips=("192.0.2.1",), external=(), everywhere=())], ["172.30.0.21"])
    assert not flows.is_stale(Flow(17, ("8.8.8.8", 53), B), ports)
    assert not flows.is_stale(Flow(6, DIALLED, B), ports)
    # From outside nobody is led to anything now.
    assert flows.is_stale(Flow(17, ("172.30.0.21", 30053), A), ports)
    assert flows.is_stale(Flow(17, ("192.0.2.1", 53), A), ports)
    assert not flows.is_stale(Flow(17, DIALLED, A), ports)


def _tuple(number: int, source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    base = 3 if ":" in source[0] else 1
    family = socket.AF_INET6 if base == 3 else socket.AF_INET
    ips = attribute(base, socket.inet_pton(family, source[0])) + attribute(base + 1, socket.inet_pton(family, destination[0]))
    proto = (
        attribute(1, bytes([number]))
        + attribute(2, struct.pack("!H", source[1]))
        + attribute(3, struct.pack("!H", destination[1]))
    )
    return attribute(0x8001, ips) + attribute(0x8002, proto)


@pytest.mark.parametrize("client", [("10.244.0.9", 4000), ("fd00::9", 4000)])
def test_an_entry_as_the_kernel_writes_it(client: tuple[str, int]) -> None:
    there = ("fd96::1", 53) if ":" in client[0] else DIALLED
    pod = ("fd00::1", 53) if ":" in client[0] else A
    body = (
        b"\2\0\0\0"
        + attribute(0x8001, _tuple(17, client, there))
        + attribute(0x8002, _tuple(17, pod, client))
        + attribute(12, b"\0\0\0\7")
    )
    flow = flows.parse(body)
    assert flow is not None
    assert (flow.protocol, flow.dialled, flow.answers) == (17, there, pod)
    assert flow.handle == attribute(0x8001, _tuple(17, client, there)) + attribute(12, b"\0\0\0\7")
    assert flows.parse(b"\2\0\0\0" + attribute(0x8001, _tuple(1, client, there))) is None


#: In a network namespace of its own, whose loopback has the addresses of two pods that say who they are.
PROGRAM = """
import asyncio, socket, subprocess, threading
from kubeling.kubeproxy.backend import NftBackend
from kubeling.kubeproxy.model import Endpoint, ServicePort

PODS = ("10.244.0.1", "10.244.0.2")
for line in ("link set lo up", *(f"addr add {ip}/32 dev lo" for ip in PODS), "route add default dev lo"):
    subprocess.run(["ip", *line.split()], check=True)

def datagrams(ip):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ip, 53))
        while True:
            _, who = sock.recvfrom(99)
            sock.sendto(ip.encode(), who)

def connections(ip):
    with socket.create_server((ip, 80)) as listener:
        while True:
            with listener.accept()[0] as connection:
                connection.sendall(ip.encode())

for ip in PODS:
    for work in (datagrams, connections):
        threading.Thread(target=work, args=(ip,), daemon=True).start()

def ports(*pods, affinity=10800):
    udp, tcp = (tuple(Endpoint(ip, number) for ip in pods) for number in (53, 80))
    made = [
        ServicePort("x", "u", "", "UDP", 53, ("10.96.0.1",), internal=udp, everywhere=udp),
        ServicePort("x", "t", "", "TCP", 80, ("10.96.0.2",), internal=tcp, everywhere=tcp, affinity_seconds=affinity),
    ]
    return {each.key: each for each in made}

def backend():
    return NftBackend(cluster_cidrs=["10.0.0.0/8"], node_ips=["127.0.0.1"])

def ask(sock):
    for _ in range(3):
        sock.send(b"?")
        try:
            return sock.recv(99).decode()
        except (TimeoutError, ConnectionRefusedError):
            pass

def connect():
    with socket.create_connection(("10.96.0.2", 80), timeout=10) as connection:
        return connection.recv(99).decode()

async def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect(("10.96.0.1", 53))
        first = backend()
        await first.sync({})
        sock.send(b"before there is a rule")
        await first.sync(ports(PODS[0]))
        print("begun too early:", ask(sock))
        await first.sync(ports(PODS[1]))
        print("moved:", ask(sock))
        # The endpoint changed while no proxy was there.
        second = backend()
        await second.sync(ports(PODS[0]))
        print("moved at a start:", ask(sock))
    # One pod is dead, and what it is sent is lost: the connection that begins now is led elsewhere when its endpoint has gone.
    subprocess.run(["nft", "add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i ip daddr 10.244.0.2 drop"], check=True)
    await second.sync(ports(PODS[1]))
    with socket.socket() as sock:
        sock.settimeout(20)
        calling = asyncio.ensure_future(asyncio.to_thread(sock.connect, ("10.96.0.2", 80)))
        await asyncio.sleep(0.5)
        await second.sync(ports(PODS[0]))
        await calling
        print("called again:", sock.recv(99).decode())
    subprocess.run(["nft", "delete table ip t"], check=True)
    await second.sync(ports(*PODS))
    stays = connect()
    for _ in range(6):
        again = backend()
        await again.sync(ports(*PODS))
        assert connect() == stays, "the client was sent elsewhere"
    print("stays")

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
def test_flows_move_and_clients_stay() -> None:
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-P", "-c", PROGRAM], text=True, capture_output=True, check=False, timeout=120
    )
    assert done.stdout.splitlines() == [
        "begun too early: 10.244.0.1",
        "moved: 10.244.0.2",
        "moved at a start: 10.244.0.1",
        "called again: 10.244.0.1",
        "stays",
    ], done.stderr


REUSED = """
import asyncio, socket, struct, subprocess, sys
from kubeling.kubeproxy.backend import NftBackend
from kubeling.kubeproxy.model import Endpoint, ServicePort
from kubeling.kubeproxy.reuse import ReuseWatch

def run(*lines):
    for line in lines:
        subprocess.run(line.split(), check=True)

HERE, GONE, THERE, DIALLED, CLIENT = sys.argv[1:]
BITS = 128 if ":" in HERE else 32

def port(ip):
    return ServicePort("x", "s", "", "TCP", 80, (DIALLED,), internal=(Endpoint(ip, 80),))

def call():
    sock = socket.socket(socket.AF_INET6 if BITS == 128 else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(10 if WATCHED else 3)
    sock.bind((CLIENT, 4000))
    sock.connect((DIALLED, 80))
    return sock, sock.recv(99).decode()

async def main():
    watch = ReuseWatch()
    noticing = WATCHED and watch.open()
    family = "-6" if BITS == 128 else "-4"
    run("ip link set lo up", *(f"ip addr add {each}/{BITS} dev lo" for each in (GONE, THERE, CLIENT)), f"ip {family} route add default dev lo")
    backend = NftBackend(cluster_cidrs=[], node_ips=[], reuse=noticing)
    servers = [await asyncio.start_server(lambda r, w, ip=ip: w.write(ip.encode()), ip, 80) for ip in (GONE, THERE)]
    await backend.sync({"p": port(GONE)})
    following = asyncio.ensure_future(watch.run()) if noticing else None
    old, answer = await asyncio.to_thread(call)
    print("first:", answer)
    # The endpoint's machine loses its power, and the client's says nothing that the kernel would hear of.
    await backend.sync({"p": port(THERE)})
    subprocess.run(["nft", "add table inet t; add chain inet t o { type filter hook output priority -400; }; add rule inet t o tcp sport 4000 drop; add rule inet t o tcp dport 4000 drop"], check=True)
    run(f"ip addr del {GONE}/{BITS} dev lo")
    old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    old.close()
    subprocess.run(["nft", "delete table inet t"], check=True)
    run(f"ip {family} route add unreachable {GONE}/{BITS}")
    try:
        print("again:", (await asyncio.to_thread(call))[1])
    except OSError as error:
        print("again:", type(error).__name__)
    if following is not None:
        following.cancel()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
@pytest.mark.parametrize(
    "addresses",
    [
        ("10.244.0.9", "10.244.0.1", "10.244.0.2", "10.96.0.1", "10.244.0.9"),
        ("fd00::9", "fd00::1", "fd00::2", "fd96::1", "fd00::9"),
    ],
)
@pytest.mark.parametrize("watched", [True, False])
def test_an_old_connection_is_not_in_the_way_of_a_new_one(addresses: tuple[str, ...], watched: bool) -> None:
    """From the same port, after the endpoint of the old one has gone without a word."""
    command = ["unshare", "-n", sys.executable, "-P", "-c", REUSED.replace("WATCHED", str(watched)), *addresses]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=60)
    first, again = done.stdout.splitlines() or ["", done.stderr]
    assert first == f"first: {addresses[1]}"
    # Without the watch this test would show nothing, did it not fail.
    assert (again == f"again: {addresses[2]}") is watched, again
