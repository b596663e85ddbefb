"""The data centre: one network namespace with a bridge in it, the switch, into which every node's network card is plugged.

Nobody but the supervisor holds the switch (by a descriptor, nothing is mounted), so it goes when the supervisor goes, and with it every cable. The host's
own interfaces, routes and rules are never touched, but for one interface that is given as uplink. Cables can be pulled, and packets between two nodes
dropped, on the switch's side: the node notices nothing but silence.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence

from kubeling.cluster import uplink
from kubeling.cluster.families import IPV6, Family
from kubeling.cluster.state import host_pid
from kubeling.cluster.topology import MTU, Node
from kubeling.cluster.uplink import Uplink
from kubeling.linux import netlink, netns, syscalls

BRIDGE = "br0"
_TABLE = "bridge kubeling_faults"


class Switch:
    """The namespace and its bridge. Methods block for a few milliseconds each: call them in a thread from an event loop."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.fd = _new_namespace()
        self._cut: set[tuple[str, str]] = set()
        self._families, self._borrowed = tuple(families), ""
        netns.ip_batch(
            [
                "link set lo up",
                # No spanning tree and no learning delay: a card that is plugged in works at once.
                f"link add {BRIDGE} mtu {MTU} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                *(f"addr add {each.gateway}/{each.bits} dev {BRIDGE}{_at_once(each)}" for each in families),
                f"link set {BRIDGE} up",
            ],
            netns=self.path,
        )

    @property
    def path(self) -> str:
        """A path to the namespace that other processes of ours can open."""
        return f"/proc/{host_pid()}/fd/{self.fd}"

    def plug(self, node: Node, pid: int) -> None:
        """Give the network namespace of process `pid` a card `eth0`, on a new cable to the bridge."""
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        def work() -> None:
            with netlink.Netlink() as link:
                link.send(netlink.veth(node.link, _mac(node, 1), "eth0", _mac(node, 2), there, MTU))
                link.send(netlink.link_master(socket.if_nametoindex(node.link), socket.if_nametoindex(BRIDGE)))

        try:
            netns.inside(self.path, work)
        finally:
            os.close(there)

    def unplug(self, node: Node) -> None:
        """Take the cable away, both ends; one that is not there is as good."""

        def work() -> None:
            with netlink.Netlink() as link:
                link.delete_link(node.link)

        netns.inside(self.path, work)

    def lead_out(self, way: Uplink) -> None:
        """Be the cluster's router to what is behind `way`. An interface of the host's is plugged in; that of ``user`` comes when its process does."""
        netns.inside(self.path, _route)
        self._nft(uplink.rules(self._families))
        if not way.link:
            return
        netns.ip_batch([f"link set {way.link} netns {self.path}"])
        self._borrowed = way.link
        lines = [f"link set {way.link} down", f"link set {way.link} name {uplink.LINK}"]
        lines += [f"addr replace {each} dev {uplink.LINK}{' nodad' if ':' in each else ''}" for each in way.addresses]
        lines += [f"link set {uplink.LINK} up"]
        # A gateway may be outside of the interface's own network, as many providers of machines have it.
        lines += [f"route replace default via {each} dev {uplink.LINK} onlink" for each in way.gateways]
        netns.ip_batch(lines, netns=self.path)

    def isolate(self, node: Node, *, isolated: bool) -> None:
        """Cut `node` off from everybody, or let it back."""
        netns.ip_batch([f"link set {node.link} {'down' if isolated else 'up'}"], netns=self.path)

    def cut(self, left: Iterable[Node], right: Iterable[Node]) -> None:
        """Drop what goes between a node of `left` and one of `right`, in both directions, until :meth:`heal`."""
        far = list(right)
        self._cut |= {pair for a in left for b in far if a != b for pair in ((a.link, b.link), (b.link, a.link))}
        self._load()

    def heal(self) -> None:
        """Let everything pass again."""
        self._cut.clear()
        self._load()

    def _load(self) -> None:
        if shutil.which("nft") is None:
            raise OSError("nft is not installed, and links between nodes are cut with it: apt-get install nftables")
        rules = "\n".join(f'    iifname "{a}" oifname "{b}" drop' for a, b in sorted(self._cut))
        # Declared, deleted and declared anew: the table is replaced in one transaction, whether it was there or not.
        script = f"table {_TABLE}\ndelete table {_TABLE}\n"
        if rules:
            script += f"table {_TABLE} {{\n  chain forward {{\n    type filter hook forward priority 0;\n{rules}\n  }}\n}}\n"
        self._nft(script)

    def _nft(self, script: str) -> None:
        command = ["nsenter", f"--net={self.path}", "nft", "-f", "-"]
        done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise netns.CommandError(done.returncode, f"nft: {done.stderr.strip()}")

    def close(self) -> None:
        """Let go of the namespace: without nodes in it, the kernel takes it down. An interface of the host's is given back, without addresses."""
        if self._borrowed:
            back = [f"link set {uplink.LINK} down", f"link set {uplink.LINK} name {self._borrowed}"]
            back += [f"link set {self._borrowed} netns /proc/{host_pid()}/ns/net"]
            with contextlib.suppress(netns.CommandError):  # It was taken away: there is nothing to give back.
                netns.ip_batch(back, netns=self.path)
        os.close(self.fd)


#: What makes a router. slirp4netns announces its network and itself to whoever asks, so a router asks too, at once, and does not wait whether somebody else
#: has its address.
_ROUTER = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/accept_ra": "2",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/router_solicitation_delay": "0",
    "ipv6/conf/default/router_solicitation_interval": "1",
}


def _route() -> None:
    """Make this network namespace a router."""
    for setting, value in _ROUTER.items():
        with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/net/{setting}", "w") as file:
            file.write(value)


def _at_once(family: Family) -> str:
    """An address of IPv6 counts from the first moment: nobody else can have it."""
    return " nodad" if family is IPV6 else ""


def _mac(node: Node, end: int) -> str:
    """A locally administered address: the same card has the same one at every boot, as a real one has."""
    return f"02:{end:02x}:ac:1e:00:{node.place:02x}"


def _new_namespace() -> int:
    """A new network namespace, made by a thread that leaves ours for it. Returns its descriptor."""
    made: list[int] = []
    failure: list[OSError] = []

    def body() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="switch")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return made[0]
