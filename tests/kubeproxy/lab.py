"""A small network of real namespaces on which rules are tried: two nodes, three pods on each, both families, a listener on every port of every pod.

And an oracle for policies: what should get through, straight from the words of the API's documentation, over the raw objects and without the code under
test.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from kubeling.linux.netns import inside, ip_batch

Obj = dict[str, Any]
PORTS = (("TCP", 80), ("TCP", 81), ("TCP", 8080), ("UDP", 53))
#: Long enough for a loaded machine to bring a packet through, since only what is dropped takes it whole.
PATIENCE = 0.6


@dataclass(frozen=True)
class LabPod:
    name: str
    node: str
    netns: str
    ips: tuple[str, str]


@dataclass(frozen=True)
class Probe:
    """One packet's journey: from a pod to an address and port of another."""

    source: str
    target: str
    family: int
    protocol: str
    port: int


@dataclass(eq=False)
class Question:
    """A connection from a namespace to an address."""

    netns: str
    ip: str
    protocol: str
    port: int


class Lab:
    """`nodes`: name → path of its namespace."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex[:8]
        self.nodes: dict[str, str] = {}
        self.pods: dict[str, LabPod] = {}
        self._listeners: list[tuple[str, socket.socket]] = []
        self._names: list[str] = []
        self._answers: _Answers | None = None

    def _namespace(self, name: str) -> str:
        full = f"kl{self._id}{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        self._names.append(full)
        path = f"/run/netns/{full}"
        # Addresses are good at once: neighbours are not asked for a second whether somebody has them.
        _write(path, "ipv6/conf/default/accept_dad", "0")
        return path

    def build(self) -> None:
        for number in (1, 2):
            self.nodes[f"n{number}"] = self._namespace(f"n{number}")
        one, two = self.nodes.values()
        ip_batch([f"link add wire type veth peer name wire netns {self._names[1]}"], one)
        for number, path in enumerate((one, two), 1):
            other = 3 - number
            _write(path, "ipv4/ip_forward", "1")
            _write(path, "ipv6/conf/all/forwarding", "1")
            ip_batch(
                [
                    "link set lo up",
                    "link set wire up",
                    f"addr add 172.31.0.{number}/24 dev wire",
                    f"addr add fd31::{number}/64 dev wire nodad",
                    f"route add 10.44.{other}.0/24 via 172.31.0.{other}",
                    f"route add fd44:0:0:{other}::/64 via fd31::{other}",
                    # Only so that there is a way at all: Services' addresses are looked up before.
                    f"route add default via 172.31.0.{other}",
                    f"route add default via fd31::{other}",
                ],
                path,
            )
            for pod in (1, 2, 3):
                self._pod(number, pod)
        for pod_ in self.pods.values():
            self._listeners += [(pod_.name, each) for each in inside(pod_.netns, _listen)]
        self._answers = _Answers(self._listeners)
        self._answers.start()

    def _pod(self, node: int, number: int) -> None:
        name = f"p{node}{number}"
        path = self._namespace(name)
        four, six = f"10.44.{node}.{number}", f"fd44:0:0:{node}::{number}"
        ip_batch([f"link add v{number} type veth peer name eth0 netns {self._names[-1]}"], self.nodes[f"n{node}"])
        ip_batch(
            [
                "link set lo up",
                "link set eth0 up",
                f"addr add {four}/32 dev eth0",
                f"addr add {six}/128 dev eth0 nodad",
                "route add 169.254.1.1 dev eth0",
                "route add default via 169.254.1.1 dev eth0",
            ],
            path,
        )
        ip_batch(
            [
                f"link set v{number} up",
                f"addr add 169.254.1.1/32 dev v{number}",
                f"addr add fe80::1/64 dev v{number} nodad",
                f"route add {four} dev v{number}",
                f"route add {six} dev v{number}",
            ],
            self.nodes[f"n{node}"],
        )
        ip_batch(["route add default via fe80::1 dev eth0"], path)
        self.pods[name] = LabPod(name, f"n{node}", path, (four, six))

    def nft(self, node: str, script: str) -> None:
        done = subprocess.run(
            ["nsenter", f"--net={self.nodes[node]}", "nft", "-f", "-"], input=script, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{done.stderr}\n{script}"

    def forget_flows(self) -> None:
        """What the kernel remembers of connections that are over: a port number that is used again would follow them."""
        program = shutil.which("conntrack")
        for path in self.nodes.values() if program else ():
            subprocess.run(["nsenter", f"--net={path}", str(program), "-F"], check=False, capture_output=True)

    def reached(self) -> set[Probe]:
        """All that gets through: every pod to every other, every port, both families."""
        waiting: dict[socket.socket, Probe] = {}
        for pod in self.pods.values():
            waiting.update(inside(pod.netns, lambda pod=pod: dict(self._probes(pod))))
        found: set[Probe] = set()
        poll = select.poll()
        by_number = {each.fileno(): each for each in waiting}
        for sock, probe in waiting.items():
            poll.register(sock, select.POLLOUT if probe.protocol == "TCP" else select.POLLIN)
        try:
            while ready := poll.poll(PATIENCE * 1000):
                for number, _ in ready:
                    sock = by_number[number]
                    poll.unregister(number)
                    if waiting[sock].protocol == "UDP" or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                        found.add(waiting[sock])
        finally:
            for sock in waiting:
                sock.close()
        return found

    def ask(self, questions: list[Question]) -> list[str]:
        """For each question the answer, "refused", or "" where nothing comes."""
        sockets: list[socket.socket] = []
        for where in dict.fromkeys(each.netns for each in questions):
            mine = [each for each in questions if each.netns == where]
            made = iter(inside(where, lambda mine=mine: [_begin(each) for each in mine]))
            sockets += made
        order = [each for where in dict.fromkeys(each.netns for each in questions) for each in questions if each.netns == where]
        found = dict.fromkeys(range(len(order)), "")
        poll = select.poll()
        places = {sock.fileno(): number for number, sock in enumerate(sockets)}
        for sock in sockets:
            poll.register(sock, select.POLLIN)
        try:
            while places and (ready := poll.poll(PATIENCE * 1000)):
                for number, _ in ready:
                    poll.unregister(number)
                    place = places.pop(number)
                    try:
                        found[place] = sockets[place].recv(200).decode()
                    except OSError:
                        found[place] = "refused"
        finally:
            for sock in sockets:
                sock.close()
        by_question = {id(question): found[number] for number, question in enumerate(order)}
        return [by_question[id(each)] for each in questions]

    def _probes(self, source: LabPod) -> Iterator[tuple[socket.socket, Probe]]:
        for target in self.pods.values():
            if target is source:
                continue
            for family, ip in zip((4, 6), target.ips, strict=True):
                for protocol, port in PORTS:
                    sock = _socket(protocol, family)
                    sock.connect_ex((ip, port))
                    if protocol == "UDP":
                        sock.send(b"?")
                    yield sock, Probe(source.name, target.name, family, protocol, port)

    def close(self) -> None:
        if self._answers is not None:
            self._answers.stop()
        for _, each in self._listeners:
            each.close()
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def _begin(question: Question) -> socket.socket:
    sock = _socket(question.protocol, 6 if ":" in question.ip else 4)
    sock.connect_ex((question.ip, question.port))
    if question.protocol == "UDP":
        # What is dropped on its way out is an error at once; then nothing will come.
        with contextlib.suppress(OSError):
            sock.send(b"?")
    return sock


def _write(netns: str, key: str, value: str) -> None:
    """A kernel setting of a network namespace."""
    inside(netns, lambda: Path(f"/proc/sys/net/{key}").write_text(value))


def _socket(protocol: str, family: int) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    made.setblocking(False)
    return made


def _listen() -> list[socket.socket]:
    made = []
    for protocol, port in PORTS:
        for family in (4, 6):
            sock = _socket(protocol, family)
            if family == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("0.0.0.0" if family == 4 else "::", port))
            if protocol == "TCP":
                sock.listen(64)
            made.append(sock)
    return made


class _Answers(threading.Thread):
    """Takes what comes to the listeners: accepts and closes, and sends datagrams back."""

    def __init__(self, listeners: list[tuple[str, socket.socket]]) -> None:
        super().__init__(name="answers", daemon=True)
        self._listeners = [each for _, each in listeners]
        self._names = {each.fileno(): name for name, each in listeners}
        self._stopper, self._stopped = socket.socketpair()

    def run(self) -> None:
        poll = select.poll()
        by_number = {each.fileno(): each for each in self._listeners}
        for number in [*by_number, self._stopped.fileno()]:
            poll.register(number, select.POLLIN)
        while True:
            for number, _ in poll.poll():
                if number not in by_number:
                    return
                sock = by_number[number]
                try:
                    # Who answers, and whom it takes the client for.
                    if sock.type == socket.SOCK_STREAM:
                        connection, address = sock.accept()
                        with connection:
                            connection.sendall(f"{self._names[number]} {address[0]}".encode())
                    else:
                        _, address = sock.recvfrom(100)
                        sock.sendto(f"{self._names[number]} {address[0]}".encode(), address)
                except OSError:
                    continue

    def stop(self) -> None:
        self._stopper.close()
        self.join()
        self._stopped.close()


@contextmanager
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        made.build()
        yield made
    finally:
        made.close()


# -- the oracle ----------------------------------------------------------------------------------------------------------------------------


def allowed(pods: dict[str, Obj], namespaces: dict[str, Obj], policies: list[Obj], probe: Probe) -> bool:
    """Whether the policies let this through. `pods` by the lab's names."""
    source, target = pods[probe.source], pods[probe.target]
    return _direction("Egress", source, target, namespaces, policies, probe) and _direction(
        "Ingress", target, source, namespaces, policies, probe
    )


def _direction(direction: str, subject: Obj, peer: Obj, namespaces: dict[str, Obj], policies: list[Obj], probe: Probe) -> bool:
    isolated = False
    for policy in policies:
        spec = policy["spec"]
        if policy["metadata"]["namespace"] != subject["metadata"]["namespace"]:
            continue
        if not _matches(spec.get("podSelector", {}), subject["metadata"]["labels"]):
            continue
        types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
        if direction not in types:
            continue
        isolated = True
        for rule in spec.get(direction.lower()) or []:
            peers = rule.get("from" if direction == "Ingress" else "to")
            fits = not peers or any(_is_peer(each, policy, peer, namespaces, probe) for each in peers)
            target = subject if direction == "Ingress" else peer
            # A name means nothing for a range of addresses when it is the range that fits.
            by_range = (
                direction == "Egress"
                and bool(peers)
                and not any(_is_peer(each, policy, peer, namespaces, probe) for each in peers if "ipBlock" not in each)
            )
            if fits and _port_fits(rule.get("ports"), target, probe, names=not by_range):
                return True
    return not isolated


def _is_peer(peer: Obj, policy: Obj, pod: Obj, namespaces: dict[str, Obj], probe: Probe) -> bool:
    block = peer.get("ipBlock")
    if block:
        ip = ip_address(next(each["ip"] for each in pod["status"]["podIPs"] if (":" in each["ip"]) == (probe.family == 6)))

        def inside_of(cidr: str) -> bool:
            network = ip_network(cidr)
            return network.version == ip.version and ip in network

        return inside_of(block["cidr"]) and not any(inside_of(each) for each in block.get("except") or [])
    if "namespaceSelector" in peer:
        labels = namespaces[pod["metadata"]["namespace"]]["metadata"]["labels"]
        if not _matches(peer["namespaceSelector"], labels):
            return False
    elif pod["metadata"]["namespace"] != policy["metadata"]["namespace"]:
        return False
    return _matches(peer.get("podSelector", {}), pod["metadata"]["labels"])


def _port_fits(ports: list[Obj] | None, target: Obj, probe: Probe, *, names: bool) -> bool:
    if not ports:
        return True
    for each in ports:
        if each.get("protocol", "TCP") != probe.protocol:
            continue
        number = each.get("port")
        if isinstance(number, str):
            named = [
                port["containerPort"]
                for container in target["spec"]["containers"]
                for port in container["ports"]
                if port["name"] == number and port.get("protocol", "TCP") == probe.protocol
            ]
            if names and probe.port in named:
                return True
        elif number is None or number <= probe.port <= each.get("endPort", number):
            return True
    return False


def _matches(selector: Obj, labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        value = labels.get(each["key"])
        fits = {
            "In": value in each.get("values", []),
            "NotIn": value not in each.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[each["operator"]]
        if not fits:
            return False
    return True
