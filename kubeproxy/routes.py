"""Routes to the pods of the other nodes: each node's pod CIDRs by way of that node's address of the same family.

The nodes share one switch, so nothing more than a route is needed ("host gateway"). What is for a pod that is not there is unreachable at once, at the node,
and does not wander off by the default route. Ours carry a protocol number of their own in the kernel's table,
by which a restart finds and corrects what an earlier run left.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Collection, Iterable
from typing import Any

from kubeling.api.meta import labels_of, name_of, spec_of
from kubeling.daemon.log import get_logger
from kubeling.linux.netns import CommandError, ip_batch

log = get_logger("kubeproxy.routes")

PROTOCOL = 73
#: The label of nodes whose pods do not run.
HOLLOW = "kubeling.dev/hollow"


def internal_ips(node: dict[str, Any]) -> list[str]:
    """By which the node's neighbours reach it."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    return [each["address"] for each in addresses if each.get("type") == "InternalIP"]


def wanted_routes(nodes: Iterable[dict[str, Any]], own_name: str, own_ips: Collection[str] = ()) -> dict[str, str]:
    """Pod CIDR → address of its node, for every node but our own."""
    routes: dict[str, str] = {}
    for node in nodes:
        # Nothing listens at the addresses of a hollow node's pods.
        if name_of(node) == own_name or HOLLOW in labels_of(node):
            continue
        ips: dict[bool, str] = {}
        for address in internal_ips(node):
            ips.setdefault(":" in address, address)
        spec = spec_of(node)
        for cidr in spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")]):
            ip = ips.get(":" in cidr)
            if ip and ip not in own_ips and not ip.startswith("127."):
                routes[cidr] = ip
    return routes


class RouteKeeper:
    """Keeps the kernel's routes as wanted; knows what it applied, and reads the kernel's table once at the start."""

    def __init__(self, cluster_cidrs: Iterable[str] = ()) -> None:
        """`cluster_cidrs`: where nothing is but the pods that there are routes to."""
        self._nowhere = dict.fromkeys(cluster_cidrs, "")
        self._applied: dict[str, str] | None = None

    async def sync(self, wanted: dict[str, str]) -> None:
        """Make the routes exactly `wanted`. Raises CommandError where the kernel refuses; the next call starts from what is there."""
        await asyncio.to_thread(self._sync, self._nowhere | wanted)

    def _sync(self, wanted: dict[str, str]) -> None:
        applied = _present() if self._applied is None else self._applied
        if applied == wanted:
            self._applied = wanted
            return
        self._applied = None
        lines = [f"route del {_words(cidr, ip)}" for cidr, ip in applied.items() if cidr not in wanted]
        lines += [f"route replace {_words(cidr, ip)}" for cidr, ip in wanted.items() if applied.get(cidr) != ip]
        ip_batch(lines)
        self._applied = wanted
        log.info("pod routes changed", routes=len(wanted))


def _words(cidr: str, ip: str) -> str:
    """As `ip` takes it; without a gateway nobody is there."""
    return f"{cidr} via {ip} proto {PROTOCOL}" if ip else f"unreachable {cidr} proto {PROTOCOL}"


def _present() -> dict[str, str]:
    found: dict[str, str] = {}
    for family in ("-4", "-6"):
        command = ["ip", family, "-j", "route", "show", "proto", str(PROTOCOL)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CommandError(done.returncode, f"ip route: {done.stderr.strip()}")
        found |= {each["dst"]: each.get("gateway", "") for each in json.loads(done.stdout or "[]")}
    return found
