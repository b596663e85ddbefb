"""Host ports of the built-in network: an nftables table for each family in the node, written as a whole at every change.

What belongs into it follows from the sandboxes, so nothing of one that is gone can stay. A connection to the port of the node is translated to the pod,
whether it comes from outside, from the node itself (127.0.0.1 too) or from a pod. Two cases need the source translated as well, lest the answer goes
another way: a pod that reaches itself, and the node's loopback. For the latter the kernel is told to route 127/8 on the pod's link, and the first rule
closes again what that opens: nothing from outside may name a loopback address. IPv6 has no such way out of the node's loopback: there, [::1] leads
nowhere, as in other implementations.
"""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence

from kubeling.crilite.attachment import Attachment, HostPort
from kubeling.crilite.errors import CriError, FailedPrecondition

TABLE = "crilite_hostports"
_SECONDS = 30


class HostPorts:
    """The table of this network namespace. Callable from any thread."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[tuple[str, ...], tuple[HostPort, ...]]] = {}
        self._lock = threading.Lock()

    def add(self, one: Attachment, link: str) -> None:
        """Open the ports of `one`, whose node side is `link`. A FailedPrecondition if another pod has one of them."""
        if not one.ports:
            return
        with self._lock:
            for name, (_, ports) in self._pods.items():
                for theirs in ports:
                    for ours in one.ports:
                        if name != one.id and _overlap(ours, theirs):
                            raise FailedPrecondition(f"host port {ours.host_port}/{ours.protocol} is taken by sandbox {name!r}")
            if any(_is_loopback(port.host_ip) for port in one.ports):
                with open(f"/proc/sys/net/ipv4/conf/{link}/route_localnet", "w") as file:
                    file.write("1")
            self._pods[one.id] = (one.ips, one.ports)
            try:
                self._write()
            except CriError:
                del self._pods[one.id]
                raise

    def remove(self, name: str) -> None:
        with self._lock:
            if self._pods.pop(name, None) is not None:
                self._write()

    def retain(self, those: Iterable[Attachment]) -> None:
        """After a restart: exactly `those` are there."""
        with self._lock:
            self._pods = {one.id: (one.ips, one.ports) for one in those if one.ports}
            there = ""
            with contextlib.suppress(CriError):
                there = nft("list", "tables")
            if self._pods or f" {TABLE}\n" in there:
                self._write()

    def _write(self) -> None:
        text = "".join(f"table {family} {TABLE}\ndelete table {family} {TABLE}\n" for family in ("ip", "ip6"))
        nft("-f", "-", text=text + rules(self._pods))


def rules(pods: Mapping[str, tuple[Sequence[str], Sequence[HostPort]]]) -> str:
    """The tables for `pods`: sandbox to addresses and ports."""
    found = ((ip, port) for ips, ports in pods.values() for ip in ips for port in ports)
    # A port of one address before the same port of all of them.
    entries = sorted(found, key=lambda entry: (not entry[1].host_ip, entry[1].host_port))
    return "".join(_table(family, [(ip, port) for ip, port in entries if family == _family(ip)]) for family in ("ip", "ip6"))


def _table(family: str, entries: Sequence[tuple[str, HostPort]]) -> str:
    lines = []
    for ip, port in entries:
        if port.host_ip and _family(port.host_ip) != family:
            continue
        where = f"{family} daddr {port.host_ip} " if port.host_ip else ""
        to = f"[{ip}]" if family == "ip6" else ip
        lines.append(f"    {where}{port.protocol} dport {port.host_port} dnat to {to}:{port.container_port}")
    if not lines:
        return ""
    hairpins = [f"    {family} saddr {ip} {family} daddr {ip} masquerade" for ip in sorted({ip for ip, _ in entries})]
    guard = [
        "  chain guard {",
        "    type filter hook prerouting priority raw; policy accept;",
        '    iifname != "lo" ip daddr 127.0.0.0/8 drop',
        "  }",
    ]
    return "\n".join(
        [
            f"table {family} {TABLE} {{",
            *(guard if family == "ip" else ()),
            "  chain prerouting {",
            "    type nat hook prerouting priority -105; policy accept;",
            "    fib daddr type local jump ports",
            "  }",
            "  chain output {",
            "    type nat hook output priority -105; policy accept;",
            "    fib daddr type local jump ports",
            "  }",
            "  chain postrouting {",
            "    type nat hook postrouting priority 95; policy accept;",
            *(('    oifname != "lo" ip saddr 127.0.0.0/8 masquerade',) if family == "ip" else ()),
            *hairpins,
            "  }",
            "  chain ports {",
            *lines,
            "  }",
            "}",
            "",
        ]
    )


def _family(ip: str) -> str:
    return "ip6" if ":" in ip else "ip"


def _is_loopback(host_ip: str) -> bool:
    return not host_ip or ipaddress.ip_address(host_ip).is_loopback


def _overlap(one: HostPort, other: HostPort) -> bool:
    return (one.protocol, one.host_port) == (other.protocol, other.host_port) and (
        not one.host_ip or not other.host_ip or one.host_ip == other.host_ip
    )


def nft(*words: str, text: str = "") -> str:
    """Run nft in the network namespace of this process. Raises CriError."""
    try:
        done = subprocess.run(["nft", *words], input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        raise CriError("the program nft is missing: install nftables") from None
    except subprocess.TimeoutExpired as error:
        raise CriError(f"nft has not ended after {_SECONDS} s") from error
    if done.returncode != 0:
        raise CriError(f"nft: {' '.join(done.stderr.split())[:500]}")
    return done.stdout
