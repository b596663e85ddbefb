"""How a sandbox gets its address.

:class:`PodNetwork` is the seam. The built-in network is a point-to-point veth for each pod: the pod has a /32 address and sends everything to
169.254.1.1, which nobody owns; permanent neighbour entries on both sides say whose MAC to use, so nobody ever asks by ARP. The node has one
/32 route for each pod. There is no bridge, so Services and policies need no bridge netfilter.

Which addresses are taken is not written down anywhere but in the sandboxes' own records, so an address cannot leak.

Host ports and bandwidth limits are in :mod:`hostports` and :mod:`bandwidth`; networks of others, made by CNI plugins, in :mod:`cni_network`.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
from collections.abc import Collection, Sequence
from typing import Protocol

from kubeling.crilite import bandwidth
from kubeling.crilite.attachment import Attachment
from kubeling.crilite.errors import FailedPrecondition
from kubeling.crilite.hostports import HostPorts
from kubeling.linux import netlink
from kubeling.linux.netns import inside

GATEWAY = "169.254.1.1"
_HOST_MAC = "ee:ee:ee:ee:ee:ee"
POD_LINK = "eth0"


class PodNetwork(Protocol):
    """A pod network: the built-in one, or CNI plugins. All but `problem` may be called from any thread."""

    def configure(self, cidr: str) -> None:
        """The node's pod CIDR. A ValueError if it is none."""

    def problem(self) -> str:
        """Why no pod can be connected now; empty when all is well."""

    def allocate(self, taken: Collection[str]) -> str:
        """An address for a new sandbox, or empty where the plugin chooses one in `attach`."""

    def attach(self, one: Attachment) -> list[str]:
        """Connect a new network namespace, whose loopback is up; the addresses that it has then, the main one first."""

    def detach(self, one: Attachment) -> None:
        """Take away what `attach` made; no error if some or all of it is gone."""

    def retain(self, those: Sequence[Attachment]) -> None:
        """After a restart: `those` are connected, and whatever is left over of others goes."""


class AddressRange:
    """Hands out the host addresses of a subnet in turn, so that a freed one rests before it is used again."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.IPv4Network(cidr, strict=False)
        # The subnet's own address and the first, by custom the node's, stay free; so does broadcast.
        self._first, self._last = 2, self.network.num_addresses - 2
        if self._last < self._first:
            raise ValueError(f"{cidr} is too small for pods: use /29 or larger")
        self._next = self._first

    def allocate(self, taken: Collection[str]) -> str:
        """An address that is not in `taken`."""
        for _ in range(self._first, self._last + 1):
            ip = str(self.network[self._next])
            self._next = self._next + 1 if self._next < self._last else self._first
            if ip not in taken:
                return ip
        raise FailedPrecondition(f"no free pod address in {self.network}: {len(taken)} are in use")


class PtpNetwork:
    """The built-in network; usable once the node has its pod CIDR."""

    def __init__(self, cidr: str = "") -> None:
        self._range: AddressRange | None = None
        self._prepared = ""
        self._host_ports = HostPorts()
        if cidr:
            self.configure(cidr)

    def configure(self, cidr: str) -> None:
        """Use `cidr` for new sandboxes. Those that run keep their addresses."""
        if self._range is None or str(self._range.network) != cidr:
            self._range = AddressRange(cidr)
        self._prepared = _prepare_node()

    def problem(self) -> str:
        if self._range is None:
            return "the node has no pod CIDR yet"
        return self._prepared

    def allocate(self, taken: Collection[str]) -> str:
        if self._range is None:
            raise FailedPrecondition("the node has no pod CIDR yet: UpdateRuntimeConfig has not been called")
        return self._range.allocate(taken)

    def attach(self, one: Attachment) -> list[str]:
        name, mac = link_name(one.id), pod_mac(one.ip)
        fd = os.open(one.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netlink.Netlink() as link:
                link.send(netlink.veth(name, _HOST_MAC, POD_LINK, mac, fd))
                index = socket.if_nametoindex(name)
                # What comes out of a pod with another's address as its source is dropped: the way back would not be this one.
                for setting in ("ipv6/conf/{}/disable_ipv6", "ipv4/conf/{}/rp_filter"):
                    with contextlib.suppress(OSError), open(f"/proc/sys/net/{setting.format(name)}", "w") as file:
                        file.write("1")
                link.send(netlink.neighbour(index, one.ip, mac), netlink.route(index, one.ip, 32))
        finally:
            os.close(fd)
        if one.ingress or one.egress:
            bandwidth.shape(one, name)
        self._host_ports.add(one, name)
        inside(one.netns, lambda: _inside_pod(one.ip))
        return [one.ip]

    def detach(self, one: Attachment) -> None:
        self._host_ports.remove(one.id)
        if one.egress:
            bandwidth.release(one.id)
        # The other end, the routes and the neighbours go with it.
        with netlink.Netlink() as link:
            link.delete_link(link_name(one.id))

    def retain(self, those: Sequence[Attachment]) -> None:
        self._host_ports.retain(those)
        bandwidth.retain(those)


class LoopbackNetwork:
    """For pods that are plain processes: an address of 127/8 is one's own without anybody's doing."""

    def __init__(self, cidr: str) -> None:
        self._range = AddressRange(cidr)

    def problem(self) -> str:
        return ""

    def allocate(self, taken: Collection[str]) -> str:
        return self._range.allocate(taken)

    def configure(self, cidr: str) -> None:
        return None

    def attach(self, one: Attachment) -> list[str]:
        return [one.ip]

    def detach(self, one: Attachment) -> None:
        return None

    def retain(self, those: Sequence[Attachment]) -> None:
        return None


def link_name(sandbox: str) -> str:
    """The node's end of a sandbox's veth."""
    return "veth" + hashlib.sha256(sandbox.encode()).hexdigest()[:10]


def pod_mac(ip: str) -> str:
    """A locally administered MAC that follows from the address."""
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + socket.inet_aton(ip))


def bring_up_loopback() -> None:
    """In the network namespace of the calling thread."""
    with netlink.Netlink() as link:
        link.send(netlink.link_up(socket.if_nametoindex("lo")))


def _inside_pod(ip: str) -> None:
    index = socket.if_nametoindex(POD_LINK)
    with netlink.Netlink() as link:
        link.send(
            netlink.address(index, ip, 32),
            netlink.link_up(index),
            netlink.neighbour(index, GATEWAY, _HOST_MAC),
            netlink.route(index, GATEWAY, 32),
            netlink.route(index, gateway=GATEWAY, scope=netlink.SCOPE_UNIVERSE),
        )


def _prepare_node() -> str:
    """Make this network namespace a router; what is wrong when that fails."""
    try:
        with open("/proc/sys/net/ipv4/ip_forward") as file:
            if file.read().strip() == "1":
                return ""
        with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
            file.write("1")
    except OSError as error:
        return f"cannot forward packets: {error}"
    return ""
