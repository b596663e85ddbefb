"""The metrics page of a controller-manager."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kubeling.api.resources import SERVICE_ACCOUNTS
from kubeling.client.rest import Client
from tests.ports import free_port

pytestmark = pytest.mark.live


async def test_every_queue_is_there(tools: Any, client: Client, namespace: str, plane: Any) -> None:
    port = free_port()
    user = "system:kube-controller-manager"
    process = plane.daemon(
        "controllers",
        f"--kubeconfig={plane.kubeconfig(user)}",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--controllers=serviceaccount,replicaset",
    )
    try:
        await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")

        def read() -> dict[tuple[str, str], float]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            families = text_string_to_metric_families(text)
            return {(each.name, each.labels.get("name", "")): each.value for family in families for each in family.samples}

        found = await asyncio.to_thread(read)
        assert found["workqueue_adds_total", "serviceaccount"] > 0
        assert found["workqueue_depth", "replicaset"] == 0
        assert found["leader_election_master_status", "kube-controller-manager"] == 1
        assert found["process_cpu_seconds_total", ""] > 0
    finally:
        tools.stop(process)
