"""Bad input: each gets the answer that upstream gives, and the server lives on."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

import pytest

from tests.apiserver.harness import Kubectl, config_map, deployment, pod
from tests.kubectls import newest

pytestmark = pytest.mark.live
APPS = "apps/v1"


def message(answer) -> str:
    body = answer.json()
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert body["code"] == answer.status_code
    return body["message"]


def test_an_unknown_field(ns):
    body = {**config_map("a"), "datas": {}, "metadata": {"name": "a", "lables": {}}}
    strict = ns.http.post(ns.path("configmaps"), json=body, params={"fieldValidation": "Strict"})
    assert strict.status_code == 400
    assert message(strict) == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
        'unknown field "metadata.lables", unknown field "datas"'
    ) or 'unknown field "datas"' in message(strict)
    warned = ns.http.post(ns.path("configmaps"), json=body)
    assert warned.status_code == 201
    assert '299 - "unknown field \\"datas\\""' in warned.headers.get_list("warning")
    body["metadata"]["name"] = "b"
    ignored = ns.http.post(ns.path("configmaps"), json=body, params={"fieldValidation": "Ignore"})
    assert "warning" not in ignored.headers


def test_a_duplicate_field(ns):
    raw = '{"metadata":{"name":"a"},"data":{"x":"1"},"data":{"x":"2"}}'
    answer = ns.http.post(ns.path("configmaps"), content=raw, params={"fieldValidation": "Strict"})
    assert answer.status_code == 400
    assert 'duplicate field "data"' in message(answer)


def test_a_wrong_type(ns):
    body = deployment("x")
    body["spec"]["replicas"] = "three"
    answer = ns.http.post(ns.path("deployments", group=APPS), json=body)
    assert answer.status_code == 400
    assert "cannot unmarshal string into Go struct field" in message(answer)


def test_a_missing_name(ns):
    answer = ns.http.post(ns.path("configmaps"), json={"data": {}})
    assert answer.status_code == 422
    assert "name or generateName is required" in message(answer)
    assert answer.json()["details"]["causes"][0]["field"] == "metadata.name"


def test_missing_and_forbidden_values(ns):
    answer = ns.http.post(ns.path("pods"), json={"metadata": {"name": "p"}})
    assert answer.status_code == 422
    assert "spec.containers" in message(answer)
    answer = ns.http.post(ns.path("configmaps"), json=config_map("Bad_Name"))
    assert answer.status_code == 422
    assert 'Invalid value: "Bad_Name"' in message(answer)
    ns.create("pods", pod("p"))
    changed = ns.http.patch(
        ns.path("pods", "p"),
        json={"spec": {"terminationGracePeriodSeconds": 5}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert changed.status_code == 422
    assert "pod updates may not change fields other than" in message(changed)


def test_unknown_kinds_versions_paths_and_verbs(ns):
    for path in ("/api/v1/wombats", "/apis/no.such/v1/things", "/api/v7/pods", "/apis/apps/v1/deployments/x/y", "/nowhere"):
        answer = ns.http.get(path)
        assert answer.status_code == 404, path
        assert message(answer) == "the server could not find the requested resource"
    wrong = ns.http.post(ns.path("configmaps"), json={**config_map("a"), "kind": "Wombat"})
    assert wrong.status_code == 400
    wrong = ns.http.post(ns.path("configmaps"), json={**config_map("a"), "apiVersion": "v9"})
    assert "does not match the expected API version" in message(wrong)
    assert ns.http.delete("/api/v1/namespaces").status_code == 405
    assert [ns.http.request(each, "/api/v1/namespaces", json={}).status_code for each in ("PUT", "PATCH")] == [405, 405]
    assert "resourceVersion: Invalid value" in ns.http.get("/api/v1/namespaces?resourceVersion=x").json()["message"]
    assert ns.http.put("/version").status_code == 405
    assert message(ns.http.put("/version"))


def test_a_name_that_is_taken(ns):
    ns.create("configmaps", config_map("a"))
    answer = ns.http.post(ns.path("configmaps"), json=config_map("a"))
    assert (answer.status_code, message(answer)) == (409, 'configmaps "a" already exists')


def test_a_body_that_is_too_large(ns, server):
    answer = ns.http.post(ns.path("configmaps"), json=config_map("a", x="x" * (4 << 20)))
    assert answer.status_code == 413
    assert answer.json()["reason"] == "RequestEntityTooLarge"
    large = ns.http.post(ns.path("secrets"), json={"metadata": {"name": "s"}, "stringData": {"x": "x" * (2 << 20)}})
    assert large.status_code in (413, 422)
    assert ns.http.get("/livez").text == "ok"


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("application/json", b"{"),
        ("application/json", b""),
        ("application/json", b"[1]"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"a":' * 50_000),
        ("application/json", b'{"metadata":{"name":"x"},"data":null} trailing'),
        ("application/json", b'{"metadata":7}'),
        ("application/json", b'{"metadata":{"name":"x","labels":{"a":1e999}}}'),
        ("application/yaml", b"a: b: c"),
        ("application/yaml", b"a: &a [1]\nb: *a"),
        ("application/yaml", b"[" * 5000),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x0a\xff\xff"),
        ("application/vnd.kubernetes.protobuf", b"garbage"),
        ("application/vnd.kubernetes.protobuf", b"k8s\0"),
    ],
)
def test_what_is_not_what_it_says_it_is(ns, kind, raw):
    answer = ns.http.post(ns.path("configmaps"), content=raw, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert message(answer)


def test_media_types_that_nobody_knows(ns):
    answer = ns.http.post(ns.path("configmaps"), content=b"<a/>", headers={"content-type": "application/xml"})
    assert answer.status_code == 415
    assert ns.http.get(ns.path("configmaps"), headers={"accept": "text/html"}).status_code == 406
    ns.create("configmaps", config_map("a"))
    answer = ns.http.patch(ns.path("configmaps", "a"), json={}, headers={"content-type": "application/json"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"labelSelector": "a in (", "limit": "1"}, 400),
        ({"fieldSelector": "spec.wombat=1"}, 400),
        ({"fieldSelector": "nonsense"}, 400),
        ({"continue": "nonsense"}, 400),
        ({"limit": "many"}, 400),
        ({"resourceVersion": "new"}, 400),
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"sendInitialEvents": "true"}, 422),
        ({"resourceVersion": "5", "resourceVersionMatch": "Roughly"}, 422),
        ({"watch": "1", "timeoutSeconds": "soon"}, 400),
    ],
)
def test_queries_that_make_no_sense(ns, query, code):
    answer = ns.http.get(ns.path("pods"), params=query)
    assert answer.status_code == code, answer.text
    assert message(answer)


def test_what_is_not_http(server):
    host, port = server.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(server.world.authority.path))
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        tls.sendall(b"EHLO there\r\n\r\n")
        answer = http.client.HTTPResponse(tls)
        answer.begin()
        assert answer.status == 400
        assert json.loads(answer.read())["kind"] == "Status"


@pytest.mark.skipif(not newest(), reason="kubectl is not installed")
def test_kubectl_says_what_it_would_say_of_upstream(ns, server, tmp_path):
    kubectl = Kubectl(newest()[0], server.kubeconfig(tmp_path / "config"), tmp_path / "cache")

    def error(text: str, *argv: str) -> str:
        done = kubectl.run(*argv, "-n", ns.name, "-f", "-", stdin=text)
        assert done.returncode == 1, done.stdout
        return done.stderr

    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    assert 'strict decoding error: unknown field "datas"' in error(head + "datas: {}\n", "create")
    assert "cannot unmarshal" in error(head + "data: [1]\n", "create")
    unknown = error("apiVersion: example.com/v1\nkind: Wombat\nmetadata: {name: a}\n", "apply")
    assert 'no matches for kind "Wombat" in version "example.com/v1"' in unknown
    assert "resource name may not be empty" in error("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n", "apply")
    kubectl("create", "-n", ns.name, "-f", "-", stdin=head)
    assert 'Error from server (AlreadyExists): error when creating "STDIN": configmaps "a" already exists' in error(
        head, "create"
    )
    assert "the object has been modified" in error(head.replace("name: a", 'name: a, resourceVersion: "1"'), "replace")
    too_long = error(head.replace("name: a", "name: b") + "data: {x: '" + "x" * (4 << 20) + "'}\n", "create")
    assert "Request entity" in too_long
    assert "error converting YAML to JSON" in error("a: b: c", "create")
    assert "is invalid: metadata.name: Invalid value" in error(head.replace("name: a", "name: A_b"), "create")
