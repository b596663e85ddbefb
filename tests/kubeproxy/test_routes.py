"""Which routes lead to the pods of other nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from kubeling.kubeproxy.routes import wanted_routes


def node(name: str, cidrs: list[str], *addresses: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs} if cidrs else {},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]},
    }


def test_each_family_goes_by_the_nodes_address_of_that_family() -> None:
    nodes = [
        node("me", ["10.0.0.0/24", "fd00::/64"], "172.30.0.21", "fd00:172::21"),
        node("other", ["10.0.1.0/24", "fd00:0:0:1::/64"], "172.30.0.22", "fd00:172::22"),
        node("six", ["fd00:0:0:2::/64"], "fd00:172::23"),
        # Of the time before the cluster had a second family; without a way; of no consequence.
        node("old", ["10.0.3.0/24"], "172.30.0.24", "fd00:172::24"),
        node("lame", ["10.0.4.0/24", "fd00:0:0:4::/64"], "172.30.0.25"),
        node("new", [], "172.30.0.26"),
        node("hollow", ["10.0.5.0/24"], "172.30.0.27", labels={"kubeling.dev/hollow": "true"}),
    ]
    assert wanted_routes(nodes, "me", ["172.30.0.21"]) == {
        "10.0.1.0/24": "172.30.0.22",
        "fd00:0:0:1::/64": "fd00:172::22",
        "fd00:0:0:2::/64": "fd00:172::23",
        "10.0.3.0/24": "172.30.0.24",
        "10.0.4.0/24": "172.30.0.25",
    }


_KEEPER = """
import asyncio, subprocess
from kubeling.kubeproxy.routes import RouteKeeper
for line in ("link add br0 type bridge", "link set br0 up", "addr add 172.30.0.21/24 dev br0", "addr add fd00:172::21/64 dev br0 nodad"):
    subprocess.run(["ip", *line.split()], check=True)
def show():
    for family in ("-4", "-6"):
        said = subprocess.run(["ip", family, "route", "show", "proto", "73"], capture_output=True, text=True, check=True).stdout
        print(*sorted(line.partition(" dev")[0].strip() for line in said.splitlines()), sep=", ")
async def main():
    cidrs = ["10.244.0.0/16", "fd00:10:244::/56"]
    first = RouteKeeper(cidrs)
    await first.sync({"10.244.1.0/24": "172.30.0.22", "fd00:10:244:1::/64": "fd00:172::22"})
    show()
    # Who comes after it finds what it left, and corrects it.
    await RouteKeeper(cidrs).sync({"10.244.2.0/24": "172.30.0.23"})
    show()
    await RouteKeeper().sync({})
    show()
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root")
def test_what_is_for_nobody_is_unreachable_and_all_of_it_goes_again() -> None:
    done = subprocess.run(["unshare", "-n", sys.executable, "-P", "-c", _KEEPER], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "10.244.1.0/24 via 172.30.0.22, unreachable 10.244.0.0/16",
        "fd00:10:244:1::/64 via fd00:172::22, unreachable fd00:10:244::/56",
        "10.244.2.0/24 via 172.30.0.23, unreachable 10.244.0.0/16",
        "unreachable fd00:10:244::/56",
        "",
        "",
    ], done.stderr
