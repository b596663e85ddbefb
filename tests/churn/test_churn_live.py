"""A short run of the churn suite; `make churn` is the long one."""

from __future__ import annotations

import os
import shutil

import pytest

from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.tests.churn.run import Churn
from kubeling.tests.churn.world import World

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.xdist_group("cluster"),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft"),
]


async def test_nobody_loses_a_request(kubeling_cluster: ClusterHandle, kubeling_namespace: str) -> None:
    async with kubeling_cluster.client() as client:
        world = World(kubeling_cluster, client, kubeling_namespace, replicas=2)
        await world.build()
        churn = Churn(world, "short", staying=world.nodes()[:1])
        report = await churn.run(10, ["proxy killed", "roll"])
    assert not report.wrong, str(report)
    assert report.served > 100
