"""What somebody else does to our rules is noticed and mended at once; what we do ourselves is no cause for alarm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")

#: In a network namespace of its own: a backend with two Services, and a vandal.
PROGRAM = """
import asyncio, subprocess
from kubeling.kubeproxy.backend import NftBackend
from kubeling.kubeproxy.model import Endpoint, ServicePort
from kubeling.kubeproxy.nftwatch import NftWatch

def table():
    done = subprocess.run(["nft", "list", "table", "inet", "kubeling-proxy"], text=True, capture_output=True)
    return done.stdout

def ports(count):
    made = [ServicePort("x", f"s{n}", "", "TCP", 80, (f"10.96.{n // 250}.{n % 250 + 1}",), internal=(Endpoint("10.0.0.9", 80),)) for n in range(count)]
    return {each.key: each for each in made}

async def main():
    watch, alarms, wanted = NftWatch(), asyncio.Queue(), ports(2)
    backend = NftBackend(cluster_cidrs=["10.0.0.0/16"], node_ips=["127.0.0.1"], watch=watch)
    backend.on_tampered = lambda: alarms.put_nowait(None)
    watching = asyncio.ensure_future(watch.run())
    await watch.listening.wait()
    # Our own doing, small and large, the latter more than the socket holds.
    await backend.sync(wanted)
    await backend.sync(ports(4000))
    await backend.sync(wanted)
    # Other tables are not our business.
    subprocess.run(["nft", "add table ip other; add chain ip other c"], check=True)
    for vandal in ("flush ruleset", "delete element inet kubeling-proxy services4 { 10.96.0.1 . tcp . 80 }", "flush chain inet kubeling-proxy dispatch"):
        good = table()
        while not alarms.empty():
            raise SystemExit("alarmed without a cause")
        subprocess.run(["nft", vandal], check=True)
        assert table() != good, vandal
        await asyncio.wait_for(alarms.get(), 10)
        await backend.sync(wanted)
        assert table() == good, (vandal, table(), good)
    assert not watching.done()
    print("well")

asyncio.run(main())
"""


def test_what_others_do_to_our_rules_is_mended() -> None:
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-P", "-c", PROGRAM], text=True, capture_output=True, check=False, timeout=120
    )
    assert done.stdout == "well\n", done.stderr
