"""Logs and Upgrades: what a kubelet's end of the wire sends comes out at the client's, and the other way round.

The other end is a TLS listener in the test, for the wire itself: the real kubelet is met in the cluster's tests.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import Server, World, pod, wait_until
from tests.ports import free_port

pytestmark = pytest.mark.live


@dataclass
class Peer:
    """Accepts one connection after the other, remembers the request's head, and answers by the path."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def start(self, world: World) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(world.authority.path))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(*world.users["server"])
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener, context), daemon=True).start()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=self._serve, args=(context.wrap_socket(raw, server_side=True),), daemon=True).start()

    def _serve(self, tls: ssl.SSLSocket) -> None:
        subject = tls.getpeercert()["subject"]
        self.names.append(next(value for rdn in subject for key, value in rdn if key == "commonName"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += tls.recv(65536)
        self.heads.append(head)
        if head.startswith(b"GET /containerLogs/"):
            tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n5\r\nline1\r\n")
            if b"follow=true" in head:
                while tls.recv(1024):
                    pass
                self.closed.set()
            else:
                tls.sendall(b"0\r\n\r\n")
        elif b"/refused/" in head:
            text = b"container not running"
            tls.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))
        else:
            tls.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: SPDY/3.1\r\nconnection: Upgrade\r\n\r\nhello")
            while data := tls.recv(65536):
                tls.sendall(data[::-1])
            self.closed.set()
        tls.close()


@pytest.fixture(scope="module")
def peer(world: World) -> Peer:
    found = Peer()
    found.start(world)
    return found


@pytest.fixture(scope="module")
def streaming(world: World) -> Server:
    cert, key = world.authority.issue("kube-apiserver-kubelet-client", "system:masters", file="kubelet-client")
    flags = ("--kubelet-client-certificate", cert, "--kubelet-client-key", key)
    return world.start_server(*flags, "--kubelet-certificate-authority", str(world.authority.path))


@pytest.fixture
def placed(streaming: Server, peer: Peer) -> Iterator[Namespace]:
    """A namespace with pods on a node whose kubelet is the peer."""
    with streaming.client() as client:
        ns = make_namespace(client)
        node = f"node-{ns.name}"
        client.post("/api/v1/nodes", json={"metadata": {"name": node}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": peer.port}},
        }
        headers = {"content-type": "application/merge-patch+json"}
        assert client.patch(f"/api/v1/nodes/{node}/status", json={"status": status}, headers=headers).status_code == 200
        for name in ("p", "refused"):
            ns.create("pods", pod(name))
            client.post(ns.path("pods", f"{name}/binding"), json={"target": {"name": node}})
            client.patch(ns.path("pods", f"{name}/status"), json={"status": {"phase": "Running"}}, headers=headers)
        yield ns
        client.delete(f"/api/v1/nodes/{node}")


def upgrade(server: Server, path: str, headers: str = "") -> ssl.SSLSocket:
    host, port = server.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(server.world.authority.path))
    context.load_cert_chain(*server.world.users["admin"])
    tls = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=host)
    tls.sendall(
        f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n{headers}content-length: 0\r\n\r\nearly".encode()
    )
    return tls


def read_until(tls: ssl.SSLSocket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        chunk = tls.recv(65536)
        assert chunk, data
        data += chunk
    return data


def test_logs_come_from_the_kubelet(placed, peer):
    answer = placed.http.get(placed.path("pods", "p/log"), params={"tailLines": "3", "pretty": "1"})
    assert (answer.status_code, answer.text) == (200, "line1")
    assert peer.heads[-1].startswith(f"GET /containerLogs/{placed.name}/p/c?tailLines=3 HTTP/1.1".encode())
    assert peer.names[-1] == "kube-apiserver-kubelet-client"
    assert placed.http.get(placed.path("pods", "p/log"), params={"container": "zz"}).status_code == 400
    assert placed.http.get(placed.path("pods", "p/log"), params={"tailLines": "-1"}).status_code == 422


def test_a_client_that_stops_following_frees_the_kubelet(placed, peer):
    peer.closed.clear()
    with placed.http.stream("GET", placed.path("pods", "p/log"), params={"follow": "true"}) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"line1"
        # While somebody holds the iterator: httpx closes the connection of one that is dropped.
        assert not peer.closed.is_set()
        del pieces
    assert peer.closed.wait(5)


def test_bytes_pass_both_ways_after_an_upgrade(placed, peer, streaming):
    peer.closed.clear()
    path = placed.path("pods", "p/exec") + "?command=sh&command=-c&stdout=true&nonsense=1"
    tls = upgrade(streaming, path, "authorization: Bearer secret\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n")
    got = read_until(tls, b"hello")
    assert got.startswith(b"HTTP/1.1 101 ")
    assert read_until(tls, b"ylrae") == b"ylrae"
    big = b"0123456789" * 100_000
    sender = threading.Thread(target=tls.sendall, args=(big,))
    sender.start()
    received = 0
    while received < len(big):
        received += len(tls.recv(65536))
    sender.join()
    assert received == len(big)
    head = peer.heads[-1].lower()
    assert head.startswith(f"post /exec/{placed.name}/p/c?command=sh&command=-c&stdout=true http/1.1".encode())
    assert b"secret" not in head
    assert b"x-stream-protocol-version: v4.channel.k8s.io" in head
    tls.close()
    assert peer.closed.wait(5)


def test_refusals_are_statuses(placed, streaming):
    for path, code in (
        ("refused/exec?command=a", 400),
        ("p/exec?stdout=1", 400),
        ("nobody/exec?command=a", 404),
        ("p/exec?command=a&container=zz", 400),
    ):
        tls = upgrade(streaming, placed.path("pods", path))
        got = read_until(tls, b'"kind":"Status"')
        assert got.startswith(b"HTTP/1.1 %d " % code), got
    plain = placed.http.post(placed.path("pods", "p/exec"), params={"command": "a"})
    assert plain.json()["message"] == "Upgrade request required"


def test_a_kubelet_that_is_away(placed, streaming):
    node = f"node-{placed.name}"
    headers = {"content-type": "application/merge-patch+json"}
    gone = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": free_port()}}}}
    placed.http.patch(f"/api/v1/nodes/{node}/status", json=gone, headers=headers)
    wait_until(
        "the apiserver knows the new port",
        lambda: "error dialing backend" in placed.http.get(placed.path("pods", "p/log")).text,
    )
    assert placed.http.get(placed.path("pods", "p/log")).json()["code"] == 500
