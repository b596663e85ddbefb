"""The official Python client's harder parts: leader election, watches that go on, exec and port-forward through WebSocket, apply by the dynamic client."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request, TextMessage

from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import Server, World, config_map, pod, wait_until
from tests.apiserver.plain import MERGE
from tests.apiserver.test_streams_live import Peer

pytestmark = pytest.mark.live


@pytest.fixture
def api(server: Server, tmp_path: Path) -> Iterator[Any]:
    from kubernetes import config

    with config.new_client_from_config(str(server.kubeconfig(tmp_path / "config"))) as made:
        yield made


# Leader election


def _elector(config: Any, namespace: str, name: str, log: list[str], stop: threading.Event) -> threading.Thread:
    from kubernetes.leaderelection import electionconfig, leaderelection
    from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

    def lead() -> None:
        log.append(f"+{name}")
        stop.wait(30)

    config.load()
    election = electionconfig.Config(
        ConfigMapLock("lock", namespace, name),
        lease_duration=3,
        renew_deadline=2,
        retry_period=1,
        onstarted_leading=lead,
        onstopped_leading=lambda: log.append(f"-{name}"),
    )
    thread = threading.Thread(target=leaderelection.LeaderElection(election).run, daemon=True)
    thread.start()
    return thread


def test_one_of_two_leads_and_the_other_follows_it(ns: Namespace, server: Server, tmp_path: Path):
    """The client keeps its lock in the annotation of a ConfigMap, by compare-and-set on its resourceVersion."""
    from kubernetes import config

    class Loader:
        def load(self) -> None:
            config.load_kube_config(str(server.kubeconfig(tmp_path / "config")))

    log: list[str] = []
    stop = threading.Event()
    path = ns.path("configmaps", "lock")

    def take_from(name: str) -> None:
        """Somebody writes himself into the lock."""
        record = ns.http.get(path).json()["metadata"]["annotations"]
        taken = {key: value.replace(f'"{name}"', '"three"') for key, value in record.items()}
        ns.http.patch(path, json={"metadata": {"annotations": taken}}, headers={"content-type": MERGE})

    try:
        _elector(Loader(), ns.name, "one", log, stop)
        wait_until("one leads", lambda: log == ["+one"])
        _elector(Loader(), ns.name, "two", log, stop)
        time.sleep(2.5)  # Longer than two renewals: two must have tried, and have been refused.
        assert log == ["+one"]
        take_from("one")
        wait_until("one has stopped", lambda: "-one" in log)
        wait_until("two leads when three's lease is over", lambda: "+two" in log, 20)
        take_from("two")
        wait_until("two has stopped", lambda: "-two" in log)
    finally:
        stop.set()


# Watches


def test_a_watch_that_ends_goes_on_where_it_was(ns: Namespace, api: Any):
    """`Watch` comes back by itself with the last resourceVersion when the server's timeout ends it: every change is told once, in order."""
    from kubernetes import client, watch

    core = client.CoreV1Api(api)
    follower = watch.Watch()
    seen: list[tuple[str, str]] = []

    def follow() -> None:
        # timeoutSeconds of one: it has to come back several times.
        version = core.list_namespaced_config_map(ns.name).metadata.resource_version
        ready.set()
        while len(seen) < 9:
            stream = follower.stream(core.list_namespaced_config_map, ns.name, resource_version=version, timeout_seconds=1)
            for event in stream:
                seen.append((event["type"], event["object"].metadata.name))
                version = event["object"].metadata.resource_version

    ready = threading.Event()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    assert ready.wait(10)
    for at in range(3):
        ns.create("configmaps", config_map(f"c{at}"))
        core.patch_namespaced_config_map(f"c{at}", ns.name, {"data": {"a": "b"}})
        time.sleep(0.7)
        core.delete_namespaced_config_map(f"c{at}", ns.name)
    thread.join(20)
    assert seen == [(kind, f"c{at}") for at in range(3) for kind in ("ADDED", "MODIFIED", "DELETED")]


# The dynamic client


def test_apply_with_the_dynamic_client(ns: Namespace, api: Any):
    from kubernetes import dynamic
    from kubernetes.dynamic.exceptions import ConflictError

    found = dynamic.DynamicClient(api).resources.get(api_version="apps/v1", kind="Deployment")
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": ns.name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    }
    made = found.server_side_apply(body=body, name="d", namespace=ns.name, field_manager="one")
    assert made.metadata.managedFields[0].manager == "one"
    body["spec"]["replicas"] = 3
    with pytest.raises(ConflictError):
        found.server_side_apply(body=body, name="d", namespace=ns.name, field_manager="two")
    forced = found.server_side_apply(body=body, name="d", namespace=ns.name, field_manager="two", force_conflicts=True)
    assert forced.spec.replicas == 3
    assert [
        each.metadata.name for each in found.get(namespace=ns.name, label_selector="", field_selector="metadata.name=d").items
    ] == ["d"]
    found.status.patch(
        name="d", namespace=ns.name, body={"status": {"observedGeneration": 1}}, content_type="application/merge-patch+json"
    )
    assert found.get(name="d", namespace=ns.name).status.observedGeneration == 1
    found.delete(name="d", namespace=ns.name)


# Streams


class WebSocketPeer(Peer):
    """A kubelet's end in WebSocket: it sends back on channel 1 (exec) or on the same channel (port-forward) what comes in, in capitals."""

    def _serve(self, tls: ssl.SSLSocket) -> None:
        connection = WSConnection(ConnectionType.SERVER)
        forward = False
        try:
            while data := tls.recv(65536):
                connection.receive_data(data)
                for event in connection.events():
                    if isinstance(event, Request):
                        self.heads.append(event.target.encode())
                        forward = "/portForward/" in event.target
                        tls.sendall(connection.send(AcceptConnection(subprotocol=event.subprotocols[0])))
                        if forward:
                            for channel in (0, 1):
                                tls.sendall(connection.send(BytesMessage(bytes([channel]) + (80).to_bytes(2, "little"))))
                    elif isinstance(event, BytesMessage | TextMessage):
                        raw = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
                        answer = raw[:1] if forward else b"\1"
                        tls.sendall(connection.send(BytesMessage(answer + raw[1:].upper())))
                        if raw[1:] == b"exit\n":
                            status = b'{"metadata":{},"status":"Success"}'
                            tls.sendall(connection.send(BytesMessage(b"\3" + status)))
                            tls.sendall(connection.send(CloseConnection(code=1000)))
                    elif isinstance(event, Ping):
                        tls.sendall(connection.send(event.response()))
                    elif isinstance(event, CloseConnection):
                        return
        except OSError:
            return
        finally:
            tls.close()


@pytest.fixture(scope="module")
def placed(world: World) -> Namespace:
    """A namespace with a pod on a node whose kubelet is the peer, at a server that has a kubelet's certificate."""
    cert, key = world.authority.issue("kube-apiserver-kubelet-client", "system:masters", file="kubelet-client")
    flags = ("--kubelet-client-certificate", cert, "--kubelet-client-key", key)
    streaming = world.start_server(*flags, "--kubelet-certificate-authority", str(world.authority.path))
    peer = WebSocketPeer()
    peer.start(world)
    client = streaming.client()
    found = make_namespace(client)
    node = f"node-{found.name}"
    client.post("/api/v1/nodes", json={"metadata": {"name": node}})
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": peer.port}}}
    client.patch(f"/api/v1/nodes/{node}/status", json={"status": status}, headers={"content-type": MERGE})
    found.create("pods", pod("p"))
    client.post(found.path("pods", "p/binding"), json={"target": {"name": node}})
    client.patch(found.path("pods", "p/status"), json={"status": {"phase": "Running"}}, headers={"content-type": MERGE})
    return found


@pytest.fixture
def streams(placed: Namespace, world: World, tmp_path: Path) -> Iterator[Any]:
    from kubernetes import client, config

    made = config.new_client_from_config(str(world.servers[-1].kubeconfig(tmp_path / "config")))
    yield client.CoreV1Api(made)
    made.close()


def test_exec(placed: Namespace, streams: Any):
    from kubernetes.stream import stream

    flags = {"command": ["cat"], "stdin": True, "stdout": True, "stderr": True, "tty": False}
    session = stream(streams.connect_get_namespaced_pod_exec, "p", placed.name, **flags, _preload_content=False)
    session.write_stdin("hello\n")
    assert session.readline_stdout(timeout=10) == "HELLO"
    session.write_stdin("exit\n")
    session.run_forever(timeout=10)
    assert session.returncode == 0
    session.close()


def test_port_forward(placed: Namespace, streams: Any):
    from kubernetes.stream import portforward

    forward = portforward(streams.connect_get_namespaced_pod_portforward, "p", placed.name, ports="80")
    sock = forward.socket(80)
    sock.setblocking(True)
    sock.sendall(b"ping")
    assert sock.recv(100) == b"PING"
    sock.close()
    assert forward.error(80) is None
