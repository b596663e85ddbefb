"""`python -m kubeling.tests.churn`: a cluster of its own with three control planes and three workers, or one of each; needs root and nft."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from kubeling.api.resources import NAMESPACES
from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.tests.churn.run import Churn, Report
from kubeling.tests.churn.world import World


async def once(cluster: ClusterHandle, seed: str, seconds: float, menu: list[str]) -> Report:
    """One run in a namespace of its own."""
    namespace = f"churn-{random.SystemRandom().randrange(1 << 30)}"
    async with cluster.client() as client:
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        world = World(cluster, client, namespace)
        try:
            await world.build()
            *staying, spare = world.nodes()
            say = lambda line: print(line, flush=True)  # noqa: E731
            return await Churn(world, seed, staying=staying[:2], spare=spare, say=say).run(seconds, menu)
        finally:
            await client.delete(NAMESPACES, namespace)


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m kubeling.tests.churn", description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--seed", default="")
    flags.add_argument("--seconds", type=float, default=600)
    flags.add_argument("--control-planes", type=int, default=3)
    flags.add_argument("--ip-families", default="IPv4", help="of the cluster; the first one's addresses are used")
    flags.add_argument("--use", metavar="HOME/NAME", help="a running cluster with three workers, instead of one of its own")
    flags.add_argument(
        "--only", default="", help="these things in this order, separated by commas, instead of what the seed says"
    )
    args = flags.parse_args()
    seed = args.seed or str(random.SystemRandom().randrange(1 << 30))
    print(f"seed {seed}", flush=True)
    menu = [each for each in args.only.split(",") if each]
    if args.use:
        used = Path(args.use)
        cluster = ClusterHandle(used.name, used.parent, used / "kubeconfig" / "admin.conf")
        report = asyncio.run(once(cluster, seed, args.seconds, menu))
    else:
        with tempfile.TemporaryDirectory(prefix="kl-churn-") as folder:
            cluster = ClusterHandle("churn", Path(folder) / "home", Path(folder) / "kubeconfig")
            try:
                cluster.up(
                    f"--control-planes={args.control_planes}",
                    "--workers=3",
                    f"--ip-families={args.ip_families}",
                    f"--owner={os.getpid()}",
                )
                report = asyncio.run(once(cluster, seed, args.seconds, menu))
            finally:
                cluster.down()
    print(report)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
