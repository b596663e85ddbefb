"""The short form of `make chaos`: some dozens of kills at random points of many pods' lives, always the same."""

from __future__ import annotations

import pytest

from tests.kubelet.conftest import Pods
from tests.node.chaos import Chaos

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.slow, pytest.mark.xdist_group("cluster")]


async def test_kills_at_random_points_leave_nothing_behind(pods: Pods) -> None:
    chaos = Chaos(pods, "worker-2", "20260101")
    await chaos.run(rounds=25, seconds=25)
    assert chaos.made > 10
    assert sum(chaos.kills.values()) > 3
