"""The ingress controller's decisions, by asking a real HAProxy that was given its files."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeling.deploy.ingress import certificates, haproxy, routes, slots
from kubeling.deploy.ingress.process import HAProxy, Refused
from kubeling.deploy.ingress.routes import Cluster
from kubeling.tests.ports import free_ports

Obj = dict[str, Any]
needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")


def rule(host: str, *paths: tuple[str, str, str]) -> Obj:
    """`paths`: path, type, service."""
    made = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": name, "port": {"number": 80}}}}
        for path, kind, name in paths
    ]
    return {**({"host": host} if host else {}), "http": {"paths": made}}


def ingress(name: str, *rules: Obj, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "x", "creationTimestamp": created}, "spec": {"rules": list(rules), **spec}}


class Backends:
    """A small server for each Service; it answers with the Service's name."""

    def __init__(self, *names: str) -> None:
        self._servers: list[http.server.ThreadingHTTPServer] = []
        services, slices = {}, {}
        for name in names:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(name))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self._servers.append(server)
            services[f"x/{name}"] = {"metadata": {"name": name, "namespace": "x"}, "spec": {"ports": [{"port": 80}]}}
            end = {"addresses": ["127.0.0.1"], "conditions": {"ready": True}}
            slices[f"x/{name}"] = [{"ports": [{"name": "", "port": server.server_address[1]}], "endpoints": [end]}]
        self.cluster = Cluster(services, lambda key: slices.get(key, []), {})

    def close(self) -> None:
        for each in self._servers:
            each.shutdown()
            each.server_close()


def _handler(name: str) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = name.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def backends() -> Iterator[Backends]:
    made = Backends("a", "b", "c", "d")
    yield made
    made.close()


def ask(port: int, host: str, path: str, *, tls: bool = False) -> str:
    """The answer's body, or its status where that is not 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname=host)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode()
        return body if answer.status == 200 else str(answer.status)
    finally:
        connection.close()


class Proxy:
    """A running HAProxy with a default certificate."""

    def __init__(self, folder: Path) -> None:
        (http_port, https_port) = free_ports(2)
        self.settings = haproxy.Settings(
            folder, http_port, https_port, max_connections=200, ipv6=Path("/proc/net/if_inet6").exists()
        )
        self.proxy = HAProxy(folder)
        self.default = certificates.self_signed("default")

    async def show(self, cluster: Cluster, *ingresses: Obj, shown: dict[str, bytes] | None = None) -> routes.Routing:
        routing = routes.route(ingresses, cluster)
        certificates_ = {"": self.default, **(shown or {})}
        await self.proxy.apply(lambda slots: haproxy.files(routing, slots, certificates_, self.settings), haproxy.wanted(routing))
        return routing

    async def get(self, host: str, path: str, *, tls: bool = False) -> str:
        port = self.settings.https_port if tls else self.settings.http_port
        until = time.monotonic() + 20
        while True:
            try:
                return await asyncio.to_thread(ask, port, host, path, tls=tls)
            except ConnectionRefusedError:  # It is just starting.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    async def becomes(self, host: str, path: str, wanted: str) -> None:
        until = time.monotonic() + 20
        while (found := await self.get(host, path)) != wanted:
            assert time.monotonic() < until, found
            await asyncio.sleep(0.05)


@pytest.fixture
async def proxy(tmp_path: Path) -> Any:
    made = Proxy(tmp_path)
    running = asyncio.ensure_future(made.proxy.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@needs_haproxy
async def test_who_gets_which_request(proxy: Proxy, backends: Backends) -> None:
    await proxy.show(
        backends.cluster,
        ingress(
            "one",
            rule(
                "one.example", ("/", "Prefix", "a"), ("/foo", "Prefix", "b"), ("/foo", "Exact", "c"), ("/foo/bar/", "Prefix", "d")
            ),
        ),
        ingress("wild", rule("*.example", ("/", "Prefix", "b"))),
        ingress("any", rule("", ("/only", "Exact", "d"))),
        ingress("gone", rule("gone.example", ("/", "Prefix", "nobody"))),
    )
    wanted = {
        ("one.example", "/"): "a",
        ("one.example", "/foo"): "c",
        ("one.example", "/foo/"): "b",
        ("one.example", "/foo/x"): "b",
        ("one.example", "/foobar"): "a",
        ("one.example", "/foo/bar"): "d",
        ("one.example", "/foo/bar/baz?q=/"): "d",
        ("ONE.example:1234", "/foo"): "c",
        ("two.example", "/foo"): "b",
        ("deep.two.example", "/only"): "d",
        ("deep.two.example", "/"): "404",
        ("other", "/only"): "d",
        ("other", "/only/"): "404",
        ("gone.example", "/"): "503",
    }
    assert {key: await proxy.get(*key) for key in wanted} == wanted


@needs_haproxy
async def test_the_older_one_has_a_path_and_the_default_takes_the_rest(proxy: Proxy, backends: Backends) -> None:
    young = ingress("young", rule("h", ("/", "Prefix", "b")), created="2026-01-02T00:00:00Z")
    old = ingress("old", rule("h", ("/", "Prefix", "a")))
    rest = {
        "metadata": {"name": "rest", "namespace": "x"},
        "spec": {"defaultBackend": {"service": {"name": "c", "port": {"number": 80}}}},
    }
    odd = ingress("odd", rule("odd", ("/a b", "Exact", "a"), ("/x\n h0|/y", "ImplementationSpecific", "a")))
    routing = await proxy.show(backends.cluster, young, old, rest, odd)
    assert await proxy.get("h", "/x") == "a"
    assert await proxy.get("elsewhere", "/x") == "c"
    assert "belongs to an older Ingress" in routes.describe(routing, young)
    assert routes.describe(routing, old) == ""
    assert "printable ASCII" in routes.describe(routing, odd)


def test_a_default_backend_takes_what_no_rule_covers_and_nothing_else(backends: Backends) -> None:
    """networking.k8s.io/v1: `defaultBackend` is for requests that match no rule, whether or not the Ingress has rules; it keeps no path from another one."""
    rest: Obj = {"defaultBackend": {"service": {"name": "c", "port": {"number": 80}}}}
    old = ingress("old", rule("h", ("/foo", "Prefix", "a")), **rest)
    young = ingress("young", rule("h", ("/", "Prefix", "b")), rule("k", ("/k", "Prefix", "b")), created="2026-01-02T00:00:00Z")
    found = routes.route([old, young], backends.cluster)
    assert found.hosts["h"].prefix == {"/foo/": "x_a_80", "/": "x_b_80"}
    assert found.hosts["k"].prefix == {"/k/": "x_b_80"}
    assert found.default == "x_c_80"
    assert found.problems == {}
    alone = routes.route([old], backends.cluster)
    assert alone.hosts["h"].prefix == {"/foo/": "x_a_80", "/": "x_c_80"}


@needs_haproxy
async def test_hosts_show_their_own_certificates_and_plain_requests_are_sent_there(proxy: Proxy, backends: Backends) -> None:
    secret = {"metadata": {"name": "t", "namespace": "x"}}
    cluster = Cluster(backends.cluster.services, backends.cluster.slices, {"x/t": secret})
    mine = certificates.self_signed("safe.example")
    safe = ingress("safe", rule("safe.example", ("/", "Prefix", "a")), tls=[{"hosts": ["safe.example"], "secretName": "t"}])
    plain = ingress("plain", rule("plain.example", ("/", "Prefix", "b")))
    await proxy.show(cluster, safe, plain, shown={"x/t": mine})
    assert await proxy.get("safe.example", "/") == "308"
    assert await proxy.get("plain.example", "/") == "b"
    assert await proxy.get("safe.example", "/", tls=True) == "a"
    place = ("127.0.0.1", proxy.settings.https_port)

    def shown(name: str) -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(place), server_hostname=name) as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")

    assert shown("safe.example").strip() in mine.decode()
    assert shown("else.example").strip() in proxy.default.decode()


@needs_haproxy
async def test_a_change_loses_no_request(proxy: Proxy, backends: Backends) -> None:
    await proxy.show(backends.cluster, ingress("i", rule("h", ("/", "Prefix", "a"))))
    await proxy.becomes("h", "/", "a")
    answers: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(ask(proxy.settings.http_port, "h", "/"))

    clients = [asyncio.ensure_future(asyncio.to_thread(load)) for _ in range(4)]
    try:
        for number in range(6):
            await proxy.show(
                backends.cluster,
                ingress("i", rule("h", ("/", "Prefix", "ab"[number % 2])), rule(f"h{number}", ("/", "Prefix", "c"))),
            )
            await proxy.becomes(f"h{number}", "/", "c")
    finally:
        stop.set()
        await asyncio.gather(*clients)
    assert set(answers) == {"a", "b"}


@needs_haproxy
async def test_endpoints_come_and_go_without_a_reload_and_without_a_lost_request(proxy: Proxy, backends: Backends) -> None:
    """Every backend of the test plays an endpoint of one Service."""
    places = {name: backends.cluster.slices(f"x/{name}")[0]["ports"][0]["port"] for name in "abcd"}  # type: ignore[index]

    async def show(names: str) -> None:
        slices = [{"ports": [{"port": places[name]}], "endpoints": [{"addresses": ["127.0.0.1"]}]} for name in names]
        cluster = Cluster(backends.cluster.services, lambda _key: slices, {})
        await proxy.show(cluster, ingress("i", rule("h", ("/", "Prefix", "a"))))

    await show("ab")
    await proxy.becomes("h", "/", "a")
    answers: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(ask(proxy.settings.http_port, "h", "/"))

    clients = [asyncio.ensure_future(asyncio.to_thread(load)) for _ in range(4)]
    reloads = proxy.proxy.reloads
    try:
        for names in ("bc", "c", "cd", "abc", "d", "ad"):
            await show(names)
            # From now on nobody else answers. The other clients take turns of the round too: each backend is met, but who knows when.
            met: set[str] = set()
            for asked in range(500):
                met.add(await proxy.get("h", "/"))
                if asked >= 11 and met >= set(names):
                    break
            assert met == set(names)
    finally:
        stop.set()
        await asyncio.gather(*clients)
    assert set(answers) == set("abcd")
    await show("")
    assert await proxy.get("h", "/") == "503"
    await show("b")
    assert await proxy.get("h", "/") == "b"
    assert (proxy.proxy.reloads, proxy.proxy.updates) == (reloads, 8)


def test_slots_stay_where_they_are() -> None:
    a, b, c, d, e = (("10.0.0.1", port) for port in range(1, 6))
    first = slots.assign({}, {"x": [a, b]})
    assert first == {"x": (a, b, None, None)}
    second = slots.assign(first, {"x": [b, c]})
    assert second == {"x": (None, b, c, None)}
    assert slots.commands(first, second) == [
        "set server x/s0 state maint",
        "set server x/s2 addr 10.0.0.1 port 3",
        "set server x/s2 state ready",
    ]
    # What suffices is kept, and what does not grows for more than what is there now.
    assert slots.assign(second, {"x": [b, c, d, e]}) == {"x": (d, b, c, e)}
    grown = slots.assign(second, {"x": [a, b, c, d, e]})["x"]
    assert (len(grown), grown[1:3], set(grown)) == (8, (b, c), {a, b, c, d, e, None})
    assert slots.assign(second, {}) == {}


@needs_haproxy
async def test_an_haproxy_that_is_killed_comes_back_with_what_it_was_told(proxy: Proxy, backends: Backends) -> None:
    await proxy.show(backends.cluster, ingress("i", rule("h", ("/", "Prefix", "a"))))
    await proxy.becomes("h", "/", "a")
    slices = backends.cluster.slices("x/b")
    moved = Cluster(backends.cluster.services, lambda _key: slices, {})
    await proxy.show(moved, ingress("i", rule("h", ("/", "Prefix", "a"))))
    assert proxy.proxy.updates == 1
    assert proxy.proxy.process is not None
    proxy.proxy.process.kill()
    # Its workers notice, and end; requests on the way are nobody's promise.
    until = time.monotonic() + 20
    while proxy.proxy.starts < 2:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    await proxy.becomes("h", "/", "b")


@needs_haproxy
async def test_what_haproxy_refuses_leaves_everything_as_it_was(proxy: Proxy, backends: Backends) -> None:
    await proxy.show(backends.cluster, ingress("i", rule("h", ("/", "Prefix", "a"))))
    await proxy.becomes("h", "/", "a")
    with pytest.raises(Refused):
        await proxy.proxy.apply(lambda _slots: {"haproxy.cfg": b"nonsense\n"}, {})
    assert b"nonsense" not in (proxy.settings.folder / "haproxy.cfg").read_bytes()
    assert await proxy.get("h", "/") == "a"


def test_whose_an_ingress_is() -> None:
    ours, theirs = (
        {"metadata": {"name": name}, "spec": {"controller": controller}}
        for name, controller in (("haproxy", routes.CONTROLLER), ("nginx", "k8s.io/nginx"))
    )
    classes = {"haproxy": ours, "nginx": theirs}
    assert routes.is_ours(ingress("i", ingressClassName="haproxy"), classes)
    assert not routes.is_ours(ingress("i", ingressClassName="nginx"), classes)
    assert not routes.is_ours(ingress("i"), classes)
    ours["metadata"]["annotations"] = {routes.DEFAULT_ANNOTATION: "true"}
    assert routes.is_ours(ingress("i"), classes)


def test_a_certificate_has_to_fit_its_key() -> None:
    one, two = certificates.self_signed("one"), certificates.self_signed("two")
    certificates.check(one, one)
    with pytest.raises(ValueError, match="is not the key of"):
        certificates.check(one, two)
    with pytest.raises(ValueError, match="not a certificate"):
        certificates.check(b"", one)
