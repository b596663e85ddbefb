"""pods/proxy, services/proxy, nodes/proxy: requests reach a server of the test's own, and its answers come back as they are seen through the proxy."""

from __future__ import annotations

import gzip
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Server, World, pod, service

pytestmark = pytest.mark.live
MERGE = {"content-type": "application/merge-patch+json"}
PAGE = b"""<html><a href="/x?y=1#z">a</a> <a href='rel'>b</a> <img src=/i.png> <a href="http://other.example/x">c</a></html>"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _any(self) -> None:
        if self.headers.get("upgrade"):
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhi ")
            while data := self.connection.recv(1024):
                self.connection.sendall(data.upper())
            self.close_connection = True
        elif self.path == "/moved":
            self._send(b"", 302, location=f"http://{self.headers['x-own']}/there/" if self.headers["x-own"] else "/there")
        elif self.path == "/page":
            self._send(PAGE, content_type="text/html; charset=utf-8", access_control_allow_origin="*")
        elif self.path == "/packed":
            self._send(gzip.compress(PAGE), content_type="text/html", content_encoding="gzip")
        elif self.path == "/cut":
            self.close_connection = True
        else:
            seen = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": self._body().decode()}
            self._send(json.dumps(seen).encode(), 207, content_type="application/json", x_more="yes")


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(Handler, f"do_{_method}", Handler._any)


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1]
    made.shutdown()


@pytest.fixture(scope="module")
def secure(world: World) -> Iterator[int]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*world.users["server"])
    made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1]
    made.shutdown()


@pytest.fixture
def placed(ns: Namespace, backend: int, secure: int) -> Namespace:
    """Pod `p` and Service `s` (80 and named `web`, 443 named `tls`) in front of the backend."""
    made = pod("p")
    made["spec"]["containers"][0]["ports"] = [{"containerPort": backend}]
    ns.create("pods", made)
    status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    assert ns.http.patch(ns.path("pods", "p/status"), json={"status": status}, headers=MERGE).status_code == 200
    ns.create(
        "services", service("s", ports=[{"name": "web", "port": 80}, {"name": "tls", "port": 443}, {"name": "none", "port": 99}])
    )
    refers = {"targetRef": {"kind": "Pod", "name": "p", "namespace": ns.name}}
    slices = {
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": backend}, {"name": "tls", "port": secure}],
        "endpoints": [{"addresses": ["127.0.0.1"], **refers}, {"addresses": ["127.0.0.9"]}],
    }
    ns.create("endpointslices", slices, "discovery.k8s.io/v1")
    return ns


@pytest.mark.parametrize("name", ["p", "http:p:{plain}", "https:p:{tls}"])
def test_a_request_reaches_a_pod_as_it_was_sent(placed: Namespace, backend: int, secure: int, name: str) -> None:
    name = name.format(plain=backend, tls=secure)
    path = placed.path("pods", f"{name}/proxy/a%2Fb/c/?x=1&y=%20")
    headers = {"x-mine": "1", "authorization": "Bearer admin-token", "x-remote-user": "evil", "cookie": "k=v"}
    answer = placed.http.request("PUT", path, content=b"payload", headers=headers)
    assert (answer.status_code, answer.headers["x-more"]) == (207, "yes")
    seen = answer.json()
    assert (seen["method"], seen["path"], seen["body"]) == ("PUT", "/a%2Fb/c/?x=1&y=%20", "payload")
    assert seen["headers"]["x-mine"] == "1"
    assert seen["headers"]["cookie"] == "k=v"
    assert seen["headers"]["x-forwarded-uri"] == path.partition("?")[0]
    assert "authorization" not in seen["headers"]
    assert "x-remote-user" not in seen["headers"]


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_passes(placed: Namespace, method: str) -> None:
    assert placed.http.request(method, placed.path("pods", "p/proxy/m")).json()["method"] == method
    head = placed.http.head(placed.path("pods", "p/proxy/m"))
    assert (head.status_code, head.content) == (207, b"")


def test_bodies_stream(placed: Namespace) -> None:
    answer = placed.http.post(placed.path("pods", "p/proxy/big"), content=(b"0123456789" * 1000 for _ in range(500)))
    assert len(answer.json()["body"]) == 5_000_000


def test_services_by_port_name_and_number(placed: Namespace) -> None:
    for name in ("s:80", "s:web", "http:s:web", "https:s:443", "https:s:tls"):
        answer = placed.http.get(placed.path("services", f"{name}/proxy/q"))
        assert answer.status_code == 207, (name, answer.text)
        assert answer.json()["path"] == "/q"


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("s:81", 503, 'no service port 81 found for service "s"'),
        ("s:99", 503, 'no endpoints available for service "s:99"'),
        ("ftp:s:80", 400, 'invalid service request "ftp:s:80"'),
        ("absent:80", 404, 'services "absent" not found'),
    ],
)
def test_services_that_cannot_be_reached(placed: Namespace, name: str, status: int, message: str) -> None:
    answer = placed.http.get(placed.path("services", f"{name}/proxy/"))
    assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_a_backend_that_is_not_there_is_a_503(placed: Namespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = placed.http.get(placed.path("pods", f"p:{port}/proxy/"))
    assert answer.status_code == 503
    assert answer.json()["message"] == f"error trying to reach service: dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert answer.json()["reason"] == "ServiceUnavailable"
    assert placed.http.get(placed.path("pods", "p/proxy/cut")).json()["message"] == "error trying to reach service: EOF"


def test_an_empty_path_is_redirected(placed: Namespace) -> None:
    answer = placed.http.get(placed.path("pods", "p/proxy?a=b"))
    assert (answer.status_code, answer.headers["location"]) == (301, placed.path("pods", "p/proxy/?a=b"))
    assert placed.http.post(placed.path("pods", "p/proxy")).json()["path"] == "/"


def test_links_lead_back_through_the_proxy(placed: Namespace, backend: int) -> None:
    base = placed.path("pods", "p/proxy")
    assert placed.http.get(f"{base}/moved").headers["location"] == f"{base}/there"
    own = placed.http.get(f"{base}/moved", headers={"x-own": f"127.0.0.1:{backend}"})
    assert own.headers["location"] == f"{base}/there/"
    assert (
        placed.http.get(f"{base}/moved", headers={"x-own": "other.example"}).headers["location"] == "http://other.example/there/"
    )
    wanted = f"""<html><a href="{base}/x?y=1#z">a</a> <a href='rel'>b</a> <img src="{base}/i.png"> """
    wanted += """<a href="http://other.example/x">c</a></html>"""
    answer = placed.http.get(f"{base}/page")
    assert answer.text == wanted
    assert "access-control-allow-origin" not in answer.headers
    assert placed.http.get(f"{base}/packed").text == wanted


def test_an_upgrade_becomes_bytes_both_ways(placed: Namespace, server: Server) -> None:
    host, port = server.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(server.world.authority.path))
    context.load_cert_chain(*server.world.users["admin"])
    with context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=host) as tls:
        path = placed.path("pods", "p/proxy/ws?q=1")
        tls.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n".encode())
        data = b""
        while not data.endswith(b"hi "):
            data += tls.recv(4096)
        assert data.startswith(b"HTTP/1.1 101 ")
        tls.sendall(b"there")
        assert tls.recv(100) == b"THERE"


def test_nodes_are_reached_at_a_port_of_theirs(ns: Namespace, backend: int) -> None:
    name = f"n-{ns.name}"
    assert ns.http.post("/api/v1/nodes", json={"metadata": {"name": name}}).status_code == 201
    status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
    assert ns.http.patch(f"/api/v1/nodes/{name}/status", json={"status": status}, headers=MERGE).status_code == 200
    try:
        assert ns.http.get(f"/api/v1/nodes/{name}:{backend}/proxy/pods/").json()["path"] == "/pods/"
        assert ns.http.get("/api/v1/nodes/absent/proxy/x").status_code == 404
    finally:
        ns.http.delete(f"/api/v1/nodes/{name}")


def test_the_right_to_get_a_pod_is_not_the_right_to_use_its_proxy(placed: Namespace, server: Server) -> None:
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]}
    placed.create("roles", role, "rbac.authorization.k8s.io/v1")
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}
    placed.create(
        "rolebindings", {"metadata": {"name": "r"}, "roleRef": reference, "subjects": [subject]}, "rbac.authorization.k8s.io/v1"
    )
    with server.client("bob") as bob:
        assert bob.get(placed.path("pods", "p")).status_code == 200
        assert bob.get(placed.path("pods", "p/proxy/x")).status_code == 403
        assert bob.request("OPTIONS", placed.path("pods", "p/proxy/x")).status_code == 403


def test_head_is_a_get_without_its_body(placed: Namespace) -> None:
    for path in ("/version", "/api/v1", "/apis", placed.path("pods", "p"), placed.path("pods"), "/healthz"):
        answer = placed.http.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert placed.http.head(placed.path("pods"), params={"watch": "1"}).status_code == 200
    assert placed.http.head(placed.path("pods", "absent")).status_code == 404
