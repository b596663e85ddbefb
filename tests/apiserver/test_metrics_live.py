"""metrics.k8s.io and `kubectl top`, out of what a kubelet of the test's own counts."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Kubectl, Server, World, pod
from tests.kubectls import oldest_and_newest

pytestmark = pytest.mark.live
MERGE = {"content-type": "application/merge-patch+json"}


class Kubelet(http.server.BaseHTTPRequestHandler):
    """A node with a pod `p` in each namespace that is asked for; it uses half a core."""

    namespaces: ClassVar[list[str]] = []

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        now = time.time()
        lines = [
            f"node_cpu_usage_seconds_total {now / 2:.6f} {now * 1000:.0f}",
            f"node_memory_working_set_bytes 104857600 {now * 1000:.0f}",
        ]
        for each in self.namespaces:
            where = f'{{container="c",namespace="{each}",pod="p"}}'
            lines.append(f"container_cpu_usage_seconds_total{where} {now / 4:.6f} {now * 1000:.0f}")
            lines.append(f"container_memory_working_set_bytes{where} 10485760 {now * 1000:.0f}")
            lines.append(f"container_start_time_seconds{where} 1.0")
        body = "\n".join([*lines, ""]).encode()
        self.send_response(200 if self.path.partition("?")[0] == "/metrics/resource" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def kubelet(world: World) -> Iterator[int]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*world.users["server"])
    made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1]
    made.shutdown()


@pytest.fixture
def placed(ns: Namespace, kubelet: int) -> Iterator[Namespace]:
    name = f"n-{ns.name}"
    ns.http.post("/api/v1/nodes", json={"metadata": {"name": name, "labels": {"own": ns.name}}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
        "capacity": {"cpu": "2", "memory": "1Gi"},
        "allocatable": {"cpu": "2", "memory": "1Gi"},
    }
    ns.http.patch(f"/api/v1/nodes/{name}/status", json={"status": status}, headers=MERGE)
    ns.create("pods", pod("p"))
    ns.create("pods", pod("waiting"))
    ns.http.post(ns.path("pods", "p/binding"), json={"target": {"name": name}})
    ns.http.patch(ns.path("pods", "p/status"), json={"status": {"phase": "Running"}}, headers=MERGE)
    Kubelet.namespaces.append(ns.name)
    yield ns
    Kubelet.namespaces.remove(ns.name)
    ns.http.delete(f"/api/v1/nodes/{name}")


def test_use_of_pods_and_nodes(placed: Namespace) -> None:
    group = "metrics.k8s.io/v1beta1"
    found = placed.get("pods", "", group)
    assert (found["kind"], [each["metadata"]["name"] for each in found["items"]]) == ("PodMetricsList", ["p"])
    container = found["items"][0]["containers"][0]
    assert container["name"] == "c"
    assert container["usage"]["memory"] == "10240Ki"
    assert 240_000_000 < int(container["usage"]["cpu"].removesuffix("n")) < 260_000_000
    node = placed.http.get(f"/apis/{group}/nodes", params={"labelSelector": f"own={placed.name}"}).json()["items"]
    assert [each["metadata"]["name"] for each in node] == [f"n-{placed.name}"]
    assert node[0]["usage"]["memory"] == "102400Ki"
    assert placed.get("pods", "waiting", group, status=404)["message"] == 'pods.metrics.k8s.io "waiting" not found'
    assert placed.http.delete(placed.path("pods", "p", group)).status_code == 405


@pytest.mark.parametrize("binary", oldest_and_newest(), ids=lambda each: Path(each).name)
def test_top(placed: Namespace, server: Server, tmp_path: Path, binary: str) -> None:
    kubectl = Kubectl(binary, server.kubeconfig(tmp_path / "config"), tmp_path / "cache")
    line = kubectl("top", "pods", "-n", placed.name, "--no-headers").split()
    assert (line[0], line[2]) == ("p", "10Mi")
    assert 240 < int(line[1].removesuffix("m")) < 260
    node = kubectl("top", "nodes", "-l", f"own={placed.name}", "--no-headers").split()
    assert (node[0], node[2], node[3], node[4]) == (f"n-{placed.name}", "25%", "100Mi", "9%")
