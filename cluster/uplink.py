"""The way out of a cluster: what `--uplink` says, and what it does to the switch. Without one, packets for elsewhere end at the switch.

``user``
    slirp4netns (https://github.com/rootless-containers/slirp4netns) speaks for the cluster with sockets of the host, as of any other program of the
    user's. It needs no rights, and nothing of the host's network is changed. With ``user,host-loopback`` what listens on the host's 127.0.0.1 is at
    10.0.2.2 for the cluster.
``link=NAME[,address=ADDRESS/BITS…][,gateway=ADDRESS…][,dns=ADDRESS…]``
    A network interface of the host's is plugged into the switch: a card, one end of a veth, a macvlan. What is not said is taken over from the host: the
    addresses that the interface has, its default routes, and the servers in /etc/resolv.conf.

Nodes send by way of the switch, which gives what leaves its own address (pods have been given their node's before, by kubeproxy). Nobody outside can begin
a connection.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kubeling.cluster.families import Family

#: How the interface is called at the switch, whatever it was called before.
LINK = "up0"
TABLE = "inet kubeling_uplink"
#: slirp4netns's servers of DNS.
USER_DNS = {"IPv4": "10.0.2.3", "IPv6": "fd00::3"}
PROGRAM = "slirp4netns"
_TUN = "/dev/net/tun"
_HOST_LOOPBACK = "host-loopback"
_NEEDED = {"nft": "nftables", PROGRAM: PROGRAM}


@dataclass(frozen=True, slots=True)
class Uplink:
    """`link` is empty for ``user``; addresses have their prefix lengths."""

    link: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    host_loopback: bool = False

    def __str__(self) -> str:
        """What `parse` reads."""
        if not self.link:
            return f"user,{_HOST_LOOPBACK}" if self.host_loopback else "user"
        named = (("address", self.addresses), ("gateway", self.gateways), ("dns", self.dns))
        return ",".join([f"link={self.link}", *(f"{key}={each}" for key, values in named for each in values)])


def parse(text: str) -> Uplink:
    """What `--uplink` says. Raises ValueError with what is wrong and how it is written."""
    import ipaddress

    kind, *words = text.split(",")
    if kind == "user":
        if words not in ([], [_HOST_LOOPBACK]):
            raise ValueError(f"{','.join(words)!r}: of `user` nothing can be said but {_HOST_LOOPBACK}")
        return Uplink(host_loopback=bool(words))
    key, _, link = kind.partition("=")
    if key != "link" or not link:
        raise ValueError(f"{text!r}: user, or link=NAME with address=, gateway= and dns= as needed")
    found: dict[str, list[str]] = {"address": [], "gateway": [], "dns": []}
    for word in words:
        key, _, value = word.partition("=")
        if key not in found:
            raise ValueError(f"{word!r}: address=, gateway= or dns= is expected")
        try:
            if key == "address" and "/" not in value:
                raise ValueError(f"{value} has no prefix length, such as /24")
            found[key].append(str(ipaddress.ip_interface(value) if key == "address" else ipaddress.ip_address(value)))
        except ValueError as error:
            raise ValueError(f"{word!r}: {error}") from error
    return Uplink(link, tuple(found["address"]), tuple(found["gateway"]), tuple(found["dns"]))


def complete(uplink: Uplink, *, root: bool) -> Uplink:
    """With what is not said taken over from the host as it is now. Raises ValueError where it cannot be had."""
    for program in ("nft",) if uplink.link else ("nft", PROGRAM):
        if shutil.which(program) is None:
            raise ValueError(f"`{program}` is not installed: apt-get install {_NEEDED[program]}")
    if not uplink.link:
        if not os.access(_TUN, os.R_OK | os.W_OK):
            raise ValueError(f"{_TUN} cannot be opened, which {PROGRAM} needs: `sudo modprobe tun; sudo chmod 666 {_TUN}`")
        return uplink
    if not root:
        raise ValueError(f"only root can give {uplink.link} to a cluster: `user` needs no rights")
    addresses = uplink.addresses or tuple(
        f"{each['local']}/{each['prefixlen']}"
        for link in _ask(uplink.link, "address", "show", "dev", uplink.link, "scope", "global")
        for each in link.get("addr_info", ())
        if "local" in each
    )
    if not addresses:
        raise ValueError(f"{uplink.link} has no address: say one with address=ADDRESS/BITS")
    gateways = uplink.gateways or tuple(
        each["gateway"]
        for family in ("-4", "-6")
        for each in _ask(uplink.link, family, "route", "show", "default", "dev", uplink.link)
        if "gateway" in each
    )
    return replace(uplink, addresses=addresses, gateways=gateways, dns=uplink.dns or tuple(_servers()))


def _ask(link: str, *words: str) -> list[dict[str, Any]]:
    done = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"there is no network interface {link!r} (`ip link` shows which there are)")
    return [each for each in json.loads(done.stdout or "[]") if each]


def _servers() -> list[str]:
    """Those of the host's that others than itself can reach."""
    import ipaddress

    try:
        with open("/etc/resolv.conf") as file:
            named = [words[1] for line in file if len(words := line.split()) > 1 and words[0] == "nameserver"]
        return [each for each in named if not ipaddress.ip_address(each.partition("%")[0]).is_loopback]
    except (OSError, ValueError):
        return []


def resolv_conf(uplink: Uplink, families: Sequence[Family]) -> str:
    """The servers that the cluster's DNS asks for names that are not its own."""
    servers = uplink.dns if uplink.link else [USER_DNS[each.name] for each in families]
    return "".join(f"nameserver {each}\n" for each in servers)


def inside(families: Sequence[Family]) -> list[str]:
    """The cluster's own networks, but for the Services', whose addresses are on no wire."""
    return [cidr for each in families for cidr in (each.cluster_cidr, f"{each.address(0)}/{each.bits}")]


def rules(families: Sequence[Family]) -> str:
    """For nft at the switch: what leaves has the switch's address, and fits; only answers come in, and what is for somebody inside who is not there stays."""
    ours = [*inside(families), *(each.service_cidr for each in families)]
    stays = "".join(
        f'    oifname "{LINK}" {header} daddr {{ {", ".join(chosen)} }} reject with icmpx host-unreachable\n'
        for header, chosen in (
            ("ip", [each for each in ours if ":" not in each]),
            ("ip6", [each for each in ours if ":" in each]),
        )
        if chosen
    )
    return (
        f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n"
        "  chain forward {\n"
        "    type filter hook forward priority filter; policy accept;\n"
        f"{stays}"
        f'    oifname "{LINK}" tcp flags syn tcp option maxseg size set rt mtu\n'
        f'    iifname "{LINK}" ct state established,related accept\n'
        f'    iifname "{LINK}" drop\n'
        "  }\n"
        "  chain input {\n"
        "    type filter hook input priority filter; policy accept;\n"
        f'    iifname "{LINK}" ct state new meta l4proto {{ tcp, udp }} drop\n'
        "  }\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f'    oifname "{LINK}" masquerade\n'
        "  }\n"
        "}\n"
    )
