"""How a sandbox gets its address.

:class:`PodNetwork` is the seam. The built-in network is a point-to-point veth for each pod: the pod has a /32 address and sends everything to
169.254.1.1, which nobody owns; permanent neighbour entries on both sides say whose MAC to use, so nobody ever asks by ARP. The node has one
/32 route for each pod. There is no bridge, so Services and policies need no bridge netfilter. In IPv6 it is the same with a /128 and fe80::1: there is
nobody else on the link, so no address is looked for there, none is made up from router advertisements, and no duplicate is feared.

Which addresses are taken is not written down anywhere but in the sandboxes' own records, so an address cannot leak.

Host ports and bandwidth limits are in :mod:`hostports` and :mod:`bandwidth`; networks of others, made by CNI plugins, in :mod:`cni_network`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from kubeling.crilite import antispoof, bandwidth
from kubeling.crilite.attachment import Attachment
from kubeling.crilite.errors import FailedPrecondition
from kubeling.crilite.hostports import HostPorts
from kubeling.linux import netlink
from kubeling.linux.netns import inside

GATEWAY, GATEWAY_V6 = "169.254.1.1", "fe80::1"
_HOST_MAC = "ee:ee:ee:ee:ee:ee"
POD_LINK = "eth0"
_SIOCGIFMTU = 0x8921
#: What comes out of a pod with another's address as its source is dropped: the way back would not be this one. (In IPv6: see :mod:`antispoof`.)
_NODE_END_V4 = {"ipv6/conf/{}/disable_ipv6": "1", "ipv4/conf/{}/rp_filter": "1"}
_POD_END = {"ipv6/conf/{}/accept_ra": "0", "ipv6/conf/{}/accept_dad": "0"}
#: No address of its own, so that nothing is asked or said on the link about it.
_NODE_END = {"ipv4/conf/{}/rp_filter": "1", "ipv6/conf/{}/addr_gen_mode": "1", **_POD_END}


class PodNetwork(Protocol):
    """A pod network: the built-in one, or CNI plugins. All but `problem` may be called from any thread."""

    def configure(self, cidr: str) -> None:
        """The node's pod CIDR, or two of them, one of each family, with a comma between them. A ValueError if it is none."""

    def problem(self) -> str:
        """Why no pod can be connected now; empty when all is well."""

    def allocate(self, taken: Collection[str]) -> list[str]:
        """The addresses for a new sandbox, the main one first, or none where the plugin chooses in `attach`."""

    def attach(self, one: Attachment) -> list[str]:
        """Connect a new network namespace, whose loopback is up; the addresses that it has then, the main one first."""

    def detach(self, one: Attachment) -> None:
        """Take away what `attach` made; no error if some or all of it is gone."""

    def retain(self, those: Sequence[Attachment]) -> None:
        """After a restart: `those` are connected, and whatever is left over of others goes."""


class AddressRange:
    """Hands out the host addresses of a subnet in turn, so that a freed one rests before it is used again."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr, strict=False)
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
        self._ranges: list[AddressRange] = []
        self._prepared = ""
        self._mtu = 0
        self._host_ports = HostPorts()
        if cidr:
            self.configure(cidr)

    def configure(self, cidr: str) -> None:
        """Use `cidr` for new sandboxes. Those that run keep their addresses."""
        if ",".join(str(each.network) for each in self._ranges) != cidr:
            made = [AddressRange(each) for each in cidr.split(",")]
            if len({each.network.version for each in made}) != len(made):
                raise ValueError(f"{cidr}: one pod CIDR of each family at most")
            self._ranges = made
        self._prepared = _prepare_node({each.network.version for each in self._ranges})
        self._mtu = _uplink_mtu()

    def problem(self) -> str:
        if not self._ranges:
            return "the node has no pod CIDR yet"
        return self._prepared

    def allocate(self, taken: Collection[str]) -> list[str]:
        if not self._ranges:
            raise FailedPrecondition("the node has no pod CIDR yet: UpdateRuntimeConfig has not been called")
        return [each.allocate(taken) for each in self._ranges]

    def attach(self, one: Attachment) -> list[str]:
        name, mac = link_name(one.id), pod_mac(one.ips[0])
        fd = os.open(one.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netlink.Netlink() as link:
                link.send(netlink.veth(name, _HOST_MAC, POD_LINK, mac, fd, self._mtu))
                index = socket.if_nametoindex(name)
                _settings(name, _NODE_END if any(":" in ip for ip in one.ips) else _NODE_END_V4)
                for ip in one.ips:
                    link.send(netlink.neighbour(index, ip, mac), netlink.route(index, ip, netlink.bits(ip)))
        finally:
            os.close(fd)
        if one.ingress or one.egress:
            bandwidth.shape(one, name)
        self._host_ports.add(one, name)
        inside(one.netns, lambda: _inside_pod(one.ips))
        return list(one.ips)

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

    def allocate(self, taken: Collection[str]) -> list[str]:
        return [self._range.allocate(taken)]

    def configure(self, cidr: str) -> None:
        return None

    def attach(self, one: Attachment) -> list[str]:
        return list(one.ips)

    def detach(self, one: Attachment) -> None:
        return None

    def retain(self, those: Sequence[Attachment]) -> None:
        return None


def link_name(sandbox: str) -> str:
    """The node's end of a sandbox's veth."""
    return "veth" + hashlib.sha256(sandbox.encode()).hexdigest()[:10]


def pod_mac(ip: str) -> str:
    """A locally administered MAC that follows from the address."""
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + ipaddress.ip_address(ip).packed[-4:])


def bring_up_loopback() -> None:
    """In the network namespace of the calling thread."""
    with netlink.Netlink() as link:
        link.send(netlink.link_up(socket.if_nametoindex("lo")))


def _settings(link: str, settings: Mapping[str, str]) -> None:
    """Set what there is of `settings` for a link of this network namespace; a kernel without IPv6 lacks some."""
    for setting, value in settings.items():
        with contextlib.suppress(OSError), open(f"/proc/sys/net/{setting.format(link)}", "w") as file:
            file.write(value)


def _inside_pod(ips: Sequence[str]) -> None:
    index = socket.if_nametoindex(POD_LINK)
    families = {":" in ip: GATEWAY_V6 if ":" in ip else GATEWAY for ip in ips}
    if True in families:
        _settings(POD_LINK, _POD_END)
    addresses = [netlink.address(index, ip, netlink.bits(ip)) for ip in ips]
    changes = [*addresses, netlink.link_up(index)]
    for gateway in families.values():
        changes.append(netlink.neighbour(index, gateway, _HOST_MAC))
        if gateway == GATEWAY:
            # fe80::1 needs no route of its own: it is link-local.
            changes.append(netlink.route(index, gateway, 32))
        changes.append(netlink.route(index, gateway=gateway, scope=netlink.SCOPE_UNIVERSE))
    with netlink.Netlink() as link:
        link.send(*changes)


def _prepare_node(versions: Collection[int]) -> str:
    """Make this network namespace a router for these IP versions; what is wrong when that fails."""
    for version, setting in ((4, "ipv4/ip_forward"), (6, "ipv6/conf/all/forwarding")):
        if version not in versions:
            continue
        try:
            with open(f"/proc/sys/net/{setting}") as file:
                if file.read().strip() == "1":
                    continue
            with open(f"/proc/sys/net/{setting}", "w") as file:
                file.write("1")
        except OSError as error:
            return f"cannot forward packets of IPv{version}: {error}"
    return antispoof.install() if 6 in versions else ""


def _uplink_mtu() -> int:
    """What fits through the link by which packets leave the node: what a pod sends need not be cut there. 0 where there is none, or it is not known."""
    for file, nowhere, link in (("route", (1, "00000000"), 0), ("ipv6_route", (1, "00"), -1)):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/net/{file}") as table:
            routes = [line.split() for line in table if line.strip()]
            found = next((each[link] for each in routes if each[nowhere[0]] == nowhere[1] and each[link] != "lo"), None)
            if found is not None:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16sI12x", found.encode(), 0))
                return int(struct.unpack("16xI12x", answer)[0])
    return 0
