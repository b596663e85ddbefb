"""One client that holds all it can get: the others, the nodes and the administrator go on."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import Server, World, config_map, wait_until

pytestmark = pytest.mark.live
GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"


@pytest.fixture(scope="module")
def small(world: World) -> Server:
    """A server with few seats."""
    return world.start_server("--max-requests-inflight", "8", "--max-mutating-requests-inflight", "4")


def allow(client: httpx.Client, name: str) -> Namespace:
    """A namespace in which a user may do everything."""
    ns = make_namespace(client)
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
    binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]}
    ns.create("rolebindings", binding, "rbac.authorization.k8s.io/v1")
    path, as_them = ns.path("configmaps"), {"impersonate-user": name}
    wait_until("the right is there", lambda: client.get(path, headers=as_them).status_code == 200)
    return ns


@contextlib.contextmanager
def held(server: Server, ns: Namespace, count: int, user: str = "bob") -> Iterator[list[ssl.SSLSocket]]:
    """So many requests of a user whose bodies do not come."""
    host, port = server.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(server.world.authority.path))
    context.load_cert_chain(*server.world.users[user])
    sockets = []
    head = f"POST {ns.path('configmaps')} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    for _ in range(count):
        tls = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=host)
        tls.sendall(head.encode())
        sockets.append(tls)
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def test_the_greedy_waits_and_nobody_else(small: Server) -> None:
    with small.client() as admin, small.client("node") as node, small.client("bob") as bob:
        ns = allow(admin, "bob")
        answers: list[int] = []
        with held(small, ns, 40):
            waiting = threading.Thread(target=lambda: answers.append(bob.get(ns.path("configmaps")).status_code))
            waiting.start()
            for _ in range(20):
                assert node.get("/api/v1/services").status_code == 200
                assert admin.post(ns.path("configmaps"), json={"metadata": {"generateName": "a-"}}).status_code == 201
            assert bob.get("/readyz").status_code == 200, "health is exempt"
            assert not answers, "all seats of its level are held by itself"
        waiting.join(20)
        assert answers == [200]
        for _ in range(5):
            assert bob.get(ns.path("configmaps")).status_code == 200


def test_a_watch_does_not_keep_its_seat(small: Server) -> None:
    with small.client() as admin, small.client("bob") as bob, contextlib.ExitStack() as stack:
        ns = allow(admin, "bob")
        for _ in range(30):
            answer = stack.enter_context(bob.stream("GET", ns.path("configmaps"), params={"watch": "1"}))
            assert answer.status_code == 200
        assert bob.get(ns.path("configmaps")).status_code == 200


def test_answers_say_where_they_waited(small: Server) -> None:
    with small.client() as admin, small.client("bob") as bob:
        ns = allow(admin, "bob")
        schema = admin.get(f"{GROUP}/flowschemas/global-default").json()["metadata"]["uid"]
        level = admin.get(f"{GROUP}/prioritylevelconfigurations/global-default").json()["metadata"]["uid"]
        wait_until("the objects count", lambda: "x-kubernetes-pf-flowschema-uid" in bob.get(ns.path("configmaps")).headers)
        for answer in (bob.get(ns.path("configmaps")), bob.get("/version"), bob.get(ns.path("configmaps", "absent"))):
            assert answer.headers["x-kubernetes-pf-flowschema-uid"] == schema
            assert answer.headers["x-kubernetes-pf-prioritylevel-uid"] == level


def test_a_level_of_ones_own_is_used_and_refuses(small: Server) -> None:
    with small.client() as admin, small.client("bob") as bob:
        ns = allow(admin, "bob")
        level = {
            "metadata": {"name": "narrow"},
            "spec": {
                "type": "Limited",
                "limited": {"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}},
            },
        }
        rule = {
            "subjects": [{"kind": "User", "user": {"name": "bob"}}],
            "resourceRules": [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
            ],
        }
        schema = {
            "metadata": {"name": "bobs"},
            "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "narrow"}, "rules": [rule]},
        }
        path = f"{GROUP}/flowschemas"
        made = admin.post(path, json=schema)
        assert made.status_code == 201, made.text

        def dangling() -> str:
            conditions = admin.get(f"{path}/bobs").json().get("status", {}).get("conditions") or [{}]
            return str(conditions[0].get("status"))

        try:
            wait_until("it has no level", lambda: dangling() == "True")
            level = admin.post(f"{GROUP}/prioritylevelconfigurations", json=level).json()
            wait_until("it has a level", lambda: dangling() == "False")
            used, uid = "x-kubernetes-pf-prioritylevel-uid", level["metadata"]["uid"]
            wait_until("it is used", lambda: bob.get(ns.path("configmaps")).headers.get(used) == uid)
            with held(small, ns, 1):
                wait_until("the seat is taken", lambda: bob.get(ns.path("configmaps")).status_code == 429)
                answer = bob.get(ns.path("configmaps"))
                assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
                assert answer.json()["reason"] == "TooManyRequests"
                page = admin.get("/metrics").text
                assert 'apiserver_flowcontrol_current_executing_seats{priority_level="narrow"} 1.0' in page
                refused = 'rejected_requests_total{flow_schema="bobs",priority_level="narrow",reason="concurrency-limit"}'
                assert f"apiserver_flowcontrol_{refused}" in page
            wait_until("the seat is free", lambda: bob.get(ns.path("configmaps")).status_code == 200)
        finally:
            admin.delete(f"{path}/bobs")
            admin.delete(f"{GROUP}/prioritylevelconfigurations/narrow")


def test_what_every_cluster_has_comes_back(small: Server) -> None:
    with small.client() as admin:
        uid = admin.get(f"{GROUP}/flowschemas/catch-all").json()["metadata"]["uid"]
        admin.delete(f"{GROUP}/flowschemas/catch-all")
        wait_until(
            "it is there again",
            lambda: admin.get(f"{GROUP}/flowschemas/catch-all").json()["metadata"].get("uid") not in (None, uid),
        )
        merge = {"content-type": "application/merge-patch+json"}
        own = {"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}, "spec": {"matchingPrecedence": 901}}
        path = f"{GROUP}/flowschemas/kube-system-service-accounts"
        admin.patch(path, json={"spec": {"matchingPrecedence": 902}}, headers=merge)
        wait_until("it is put back", lambda: admin.get(path).json()["spec"]["matchingPrecedence"] == 900)
        admin.patch(path, json=own, headers=merge)
        admin.delete(f"{GROUP}/flowschemas/catch-all")
        wait_until("the other one is there", lambda: admin.get(f"{GROUP}/flowschemas/catch-all").status_code == 200)
        assert admin.get(path).json()["spec"]["matchingPrecedence"] == 901, "an administrator's own stays"


def test_plain_limits_and_the_time_of_a_request(world: World) -> None:
    flags = ("--enable-priority-and-fairness=false", "--max-mutating-requests-inflight", "1", "--request-timeout", "6s")
    server = world.start_server(*flags)
    with server.client() as admin, server.client("bob") as bob:
        ns = allow(admin, "bob")
        with held(server, ns, 1) as sockets:
            made = {"metadata": {"generateName": "z-"}}
            taken = 'apiserver_current_inflight_requests{request_kind="mutating"} 1.0'
            wait_until("the seat is taken", lambda: taken in admin.get("/metrics").text)
            answer = bob.post(ns.path("configmaps"), json=made)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert bob.get(ns.path("configmaps")).status_code == 200
            assert admin.post(ns.path("configmaps"), json=config_map("x")).status_code == 201
            late = sockets[0].recv(65536)
        assert b" 504 " in late.split(b"\r\n")[0]
        assert b"Timeout: request did not complete within the allotted timeout" in late
        wait_until(
            "the seat is free",
            lambda: bob.post(ns.path("configmaps"), json={"metadata": {"generateName": "y-"}}).status_code == 201,
        )
        assert bob.get(ns.path("configmaps"), params={"timeout": "soon"}).status_code == 400
    server.daemon.stop()
