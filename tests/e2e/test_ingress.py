"""The ingress controller of deploy/ingress in a cluster: rules come into effect, addresses are told, and a rollout behind it loses no request."""

from __future__ import annotations

import shutil
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest

from kubeling.deploy.ingress import manifest
from kubeling.tests.e2e.support import EXAMPLES, Bench

pytestmark = [pytest.mark.live, pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")]


@pytest.fixture
def controller(bench: Bench) -> Iterator[str]:
    """The proxy's address."""
    printed = manifest.text()
    bench.cluster.cli("apply", "-f", "-", input=printed)
    bench.cluster.cli("-n", manifest.NAMESPACE, "rollout", "status", "deployment/haproxy", "--timeout=90s")
    asked = ("-n", manifest.NAMESPACE, "get", "service", "haproxy", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")

    def address() -> str:
        return bench.cluster.cli(*asked).stdout.strip()

    yield bench.until("the proxy has an address", address, 30)
    bench.cluster.cli("delete", "-f", "-", input=printed)


def fetch(address: str, host: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}/", headers={"Host": host}), timeout=20) as answer:
        body: bytes = answer.read()
        return body.decode()


@pytest.mark.xdist_group("cluster")  # As in test_web: not while others kill what it is served by.
def test_an_ingress_is_served_and_a_rollout_behind_it_loses_nothing(bench: Bench, controller: str) -> None:
    bench.cli("apply", "-f", str(EXAMPLES / "web.yaml"))
    bench.cli("rollout", "status", "deployment/web", "--timeout=90s")
    rule = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}
    bench.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "web"},
            "spec": {"ingressClassName": "haproxy", "rules": [{"host": "web.example", "http": {"paths": [rule]}}]},
        }
    )

    def works() -> bool:
        try:
            return fetch(controller, "web.example").startswith("hello from web-")
        except OSError:
            return False

    bench.until("the Ingress is served", works, 30)
    asked = ("get", "ingress", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    bench.until("the Ingress knows its address", lambda: bench.cli(*asked).strip() == controller, 30)
    seen: Counter[str] = Counter()
    lost: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                seen[fetch(controller, "web.example").split()[2]] += 1
            except OSError as error:
                lost.append(str(error))

    clients = [threading.Thread(target=load) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        bench.cli("rollout", "restart", "deployment/web")
        bench.cli("rollout", "status", "deployment/web", "--timeout=120s")
    finally:
        stop.set()
        for each in clients:
            each.join()
    assert not lost, lost[:5]
    assert len(seen) > 3, "pods from before and after have answered"
