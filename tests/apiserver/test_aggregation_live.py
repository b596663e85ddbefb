"""Groups that another server serves: the server is in this test, behind a Service, and says what it was asked and by whom."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import Authority, Kubectl, Server, World, wait_until
from tests.kubectls import newest

pytestmark = pytest.mark.live
GROUP = "wardle.example.com"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
SCHEMA = {"openapi": "3.0.0", "info": {"title": "wardle", "version": "1"}, "paths": {}, "components": {"schemas": {}}}

FLUNDER = "com.example.wardle.v1.Flunder"
SWAGGER = {
    "swagger": "2.0",
    "info": {"title": "wardle", "version": "1"},
    "paths": {
        f"/apis/{GROUP}/v1/namespaces/{{namespace}}/flunders": {
            "get": {"responses": {"200": {"description": "OK", "schema": {"$ref": f"#/definitions/{FLUNDER}"}}}},
        },
        "/api/v1/pods": {"get": {"responses": {"200": {"description": "not for it to say"}}}},
    },
    "definitions": {
        FLUNDER: {
            "type": "object",
            "properties": {"metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}},
        },
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "description": "Another one."},
        "Unused": {"type": "string"},
    },
}


class Wardle(http.server.BaseHTTPRequestHandler):
    """A small API server: flunders, a schema, and `/echo`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, body: Any, status: int = 200, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _any(self) -> None:
        version = self.path.split("/")[3] if self.path.startswith(f"/apis/{GROUP}/") else ""
        base = f"/apis/{GROUP}/{version}"
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        path = self.path.partition("?")[0]
        flunder = {"kind": "Flunder", "apiVersion": f"{GROUP}/{version}", "metadata": {"name": "f", "namespace": "default"}}
        if path == base:
            verbs = ["get", "list", "watch", "create"]
            resource = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": verbs}
            resource["shortNames"] = ["fl"]
            status = {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]}
            found = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{version}"}
            self._answer({**found, "resources": [resource, status]})
        elif path == "/openapi/v2":
            self._answer(SWAGGER)
        elif path == "/openapi/v3":
            paths = {
                f"apis/{GROUP}/{each}": {"serverRelativeURL": f"/openapi/v3/apis/{GROUP}/{each}?hash=1"} for each in ("v1", "v2")
            }
            self._answer({"paths": paths})
        elif path.startswith("/openapi/v3/"):
            self._answer(SCHEMA)
        elif path == f"{base}/namespaces/default/flunders":
            if "watch=" in self.path:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                line = json.dumps({"type": "ADDED", "object": flunder}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                self.wfile.flush()
                self.connection.recv(1)
                self.close_connection = True
            else:
                self._answer({"kind": "FlunderList", "apiVersion": f"{GROUP}/{version}", "metadata": {}, "items": [flunder]})
        elif path.endswith("/away"):
            self._answer({}, 302, location="https://evil.example/")
        else:
            peer = self.connection.getpeercert() or {}  # type: ignore[attr-defined]
            names = [value for rdn in peer.get("subject", ()) for key, value in rdn if key == "commonName"]
            headers = [[name.lower(), value] for name, value in self.headers.items()]
            self._answer({"method": self.command, "path": self.path, "headers": headers, "body": body, "peer": names})

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _any  # noqa: N815


@pytest.fixture(scope="module")
def proxy_authority(world: World) -> Authority:
    return Authority(world.folder, "proxy-ca")


@pytest.fixture(scope="module")
def server(world: World, proxy_authority: Authority) -> Server:
    cert, key = proxy_authority.issue("front-proxy-client")
    flags = ["--proxy-client-cert-file", cert, "--proxy-client-key-file", key]
    flags += ["--requestheader-client-ca-file", str(proxy_authority.path), "--requestheader-allowed-names", "front-proxy-client"]
    flags += ["--requestheader-username-headers", "X-Remote-User", "--requestheader-group-headers", "X-Remote-Group"]
    return world.start_server(*flags, "--requestheader-extra-headers-prefix", "X-Remote-Extra-")


class Behind:
    """A namespace with a Service `api`, and the server behind it."""

    def __init__(self, ns: Namespace, port: int, bundle: str) -> None:
        self.ns, self.port, self.bundle = ns, port, bundle

    def api_service(self, version: str = "v1", **spec: Any) -> dict[str, Any]:
        service = {"namespace": self.ns.name, "name": "api"}
        base = {"group": GROUP, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 15, "service": service}
        return {"metadata": {"name": f"{version}.{GROUP}"}, "spec": {**base, "caBundle": self.bundle, **spec}}

    def condition(self, version: str = "v1") -> dict[str, Any]:
        found = self.ns.http.get(f"{SERVICES}/{version}.{GROUP}").json().get("status") or {}
        return next((each for each in found.get("conditions") or () if each["type"] == "Available"), {})

    def wait(self, reason: str, version: str = "v1") -> dict[str, Any]:
        wait_until(f"the condition is {reason}", lambda: self.condition(version).get("reason") == reason, 30)
        return self.condition(version)

    def endpoints(self, *addresses: str) -> None:
        self.ns.http.delete(self.ns.path("endpointslices", "api-1", "discovery.k8s.io/v1"))
        slice_ = {"metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}}, "addressType": "IPv4"}
        slice_ |= {"ports": [{"name": "", "port": self.port}], "endpoints": [{"addresses": [each]} for each in addresses]}
        self.ns.create("endpointslices", slice_, "discovery.k8s.io/v1")


@pytest.fixture
def behind(world: World, server: Server, proxy_authority: Authority) -> Iterator[Behind]:
    with server.client() as client:
        ns = make_namespace(client)
        cert, key = world.authority.issue(f"api-{ns.name}", addresses=(f"api.{ns.name}.svc",))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(proxy_authority.path))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(cert, key)
        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wardle)
        made.socket = context.wrap_socket(made.socket, server_side=True)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        bundle = base64.b64encode(world.authority.path.read_bytes()).decode()
        ns.create("services", {"metadata": {"name": "api"}, "spec": {"ports": [{"port": 443}]}})
        found = Behind(ns, made.server_address[1], bundle)
        yield found
        for version in ("v1", "v2"):
            client.delete(f"{SERVICES}/{version}.{GROUP}")
        made.shutdown()


@pytest.fixture
def served(behind: Behind) -> Behind:
    behind.endpoints("127.0.0.1")
    assert behind.ns.http.post(SERVICES, json=behind.api_service()).status_code == 201
    behind.wait("Passed")
    return behind


def test_a_request_goes_on_with_the_name_of_who_asks(served: Behind, server: Server) -> None:
    headers = {
        "x-remote-user": "evil",
        "x-remote-group": "system:masters",
        "x-remote-extra-scopes": "all",
        "authorization": "Bearer admin-token",
    }
    with server.client("") as client:
        answer = client.post(f"/apis/{GROUP}/v1/namespaces/default/echo/a%20b?x=1", content=b"text", headers=headers).json()
    assert (answer["method"], answer["path"], answer["body"]) == (
        "POST",
        f"/apis/{GROUP}/v1/namespaces/default/echo/a%20b?x=1",
        "text",
    )
    assert answer["peer"] == ["front-proxy-client"]
    seen = [(name, value) for name, value in answer["headers"] if name.startswith("x-remote-")]
    groups = [value for name, value in seen if name == "x-remote-group"]
    assert ("x-remote-user", "tina") in seen
    assert groups == ["system:masters", "ops", "system:authenticated"]
    assert not [name for name, _ in seen if name.startswith("x-remote-extra")]
    assert "authorization" not in dict(answer["headers"])


def test_rights_are_checked_here_first(served: Behind, server: Server) -> None:
    with server.client("bob") as bob:
        answer = bob.get(f"/apis/{GROUP}/v1/namespaces/default/flunders")
        assert answer.status_code == 403
        assert f'cannot list resource "flunders" in API group "{GROUP}"' in answer.json()["message"]


def test_redirects_are_not_followed_and_not_passed_on(served: Behind) -> None:
    answer = served.ns.http.get(f"/apis/{GROUP}/v1/namespaces/default/away")
    assert answer.status_code == 502
    assert "location" not in answer.headers


def test_discovery_and_openapi_show_the_group(served: Behind) -> None:
    client = served.ns.http
    groups = {each["name"]: each for each in client.get("/apis").json()["groups"]}
    assert groups[GROUP]["preferredVersion"]["version"] == "v1"
    assert client.get(f"/apis/{GROUP}").json()["versions"] == [{"groupVersion": f"{GROUP}/v1", "version": "v1"}]
    accept = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}

    def entry() -> dict[str, Any]:
        items = client.get("/apis", headers=accept).json()["items"]
        found: dict[str, Any] = next(each for each in items if each["metadata"].get("name") == GROUP)["versions"][0]
        return found

    assert entry()["freshness"] == "Current"
    resource = entry()["resources"][0]
    assert (resource["resource"], resource["shortNames"], resource["scope"]) == ("flunders", ["fl"], "Namespaced")
    assert resource["subresources"][0]["subresource"] == "status"
    place = client.get("/openapi/v3").json()["paths"][f"apis/{GROUP}/v1"]["serverRelativeURL"]
    assert client.get(place).json() == SCHEMA
    everything = client.get("/openapi/v2").json()
    assert f"/apis/{GROUP}/v1/namespaces/{{namespace}}/flunders" in everything["paths"]
    assert "patch" in everything["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]
    definitions = everything["definitions"]
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert definitions[FLUNDER]["properties"]["metadata"]["$ref"] == f"#/definitions/{meta}_v2"
    assert (len(definitions[meta]["properties"]), definitions[f"{meta}_v2"]["description"]) == (15, "Another one.")
    assert "Unused" not in definitions
    proto = {"accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    assert FLUNDER.encode() in client.get("/openapi/v2", headers=proto).content


def test_kubectl_cannot_tell_whose_kind_it_is(served: Behind, server: Server, tmp_path: Path) -> None:
    kubectl = Kubectl(newest()[0], server.kubeconfig(tmp_path / "config"), tmp_path / "cache")
    assert kubectl("get", "fl", "-n", "default", "-o", "name").split() == [f"flunder.{GROUP}/f"]
    lines = kubectl("get", "apiservices", f"v1.{GROUP}", "v1.apps", "v1.", "--no-headers").splitlines()
    assert [line.split()[:3] for line in lines] == [
        [f"v1.{GROUP}", f"{served.ns.name}/api", "True"],
        ["v1.apps", "Local", "True"],
        ["v1.", "Local", "True"],
    ]


def test_a_watch_comes_through_as_it_happens(served: Behind) -> None:
    path, as_somebody = (
        f"/apis/{GROUP}/v1/namespaces/default/flunders",
        {"impersonate-user": "w", "impersonate-group": "watchers"},
    )
    rule = {"apiGroups": [GROUP], "resources": ["*"], "verbs": ["*"]}
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    name = f"w-{served.ns.name}"
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "watchers"}
    served.ns.http.post(f"{rbac}/clusterroles", json={"metadata": {"name": name}, "rules": [rule]})
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    served.ns.http.post(f"{rbac}/clusterrolebindings", json=binding)
    wait_until("the right is there", lambda: served.ns.http.get(path, headers=as_somebody).status_code == 200)
    with served.ns.http.stream("GET", path, params={"watch": "1"}, headers=as_somebody) as answer:
        assert json.loads(next(answer.iter_lines()))["type"] == "ADDED"
        seats = 'apiserver_flowcontrol_current_executing_seats{priority_level="global-default"} 0.0'
        assert seats in served.ns.http.get("/metrics").text


def test_why_a_server_is_not_available(behind: Behind) -> None:
    client = behind.ns.http
    client.post(SERVICES, json=behind.api_service(service={"namespace": behind.ns.name, "name": "nobody"}))
    where = f'in "{behind.ns.name}"'
    assert behind.wait("ServiceNotFound")["message"] == f"service/nobody {where} is not present"
    answer = client.get(f"/apis/{GROUP}/v1/namespaces/default/flunders")
    assert (answer.status_code, answer.json()["reason"]) == (503, "ServiceUnavailable")
    merge = {"content-type": "application/merge-patch+json"}

    def point(**service: Any) -> None:
        assert client.patch(f"{SERVICES}/v1.{GROUP}", json={"spec": {"service": service}}, headers=merge).status_code == 200

    point(name="api", port=444)
    assert behind.wait("ServicePortError")["message"] == f"service/api {where} is not listening on port 444"
    point(port=443)
    behind.wait("EndpointsNotFound")
    behind.endpoints()
    assert (
        behind.wait("MissingEndpoints")["message"]
        == f'endpointslices for service/api {where} have no addresses with port name ""'
    )
    behind.endpoints("127.0.0.99")
    assert "failing or missing response from https://api." in behind.wait("FailedDiscoveryCheck")["message"]
    behind.endpoints("127.0.0.1")
    assert behind.wait("Passed")["status"] == "True"
    assert client.get(f"/apis/{GROUP}/v1/namespaces/default/flunders").status_code == 200


def test_a_server_with_a_strange_certificate_is_not_believed(behind: Behind, proxy_authority: Authority) -> None:
    behind.endpoints("127.0.0.1")
    bundle = base64.b64encode(proxy_authority.path.read_bytes()).decode()
    behind.ns.http.post(SERVICES, json=behind.api_service(caBundle=bundle))
    assert "failed to verify certificate" in behind.wait("FailedDiscoveryCheck")["message"]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"groupPriorityMinimum": 20001}, "spec.groupPriorityMinimum", "must be positive and less than 20000"),
        ({"versionPriority": 0}, "spec.versionPriority", "must be positive and less than 1000"),
        ({"insecureSkipTLSVerify": True}, "spec.insecureSkipTLSVerify", "may not be true if caBundle is present"),
        ({"service": None}, "spec.caBundle", "local APIServices may not have a caBundle"),
        ({"version": "v3"}, "metadata.name", f'must be `spec.version+"."+spec.group`: "v3.{GROUP}"'),
    ],
)
def test_what_is_refused(behind: Behind, change: dict[str, Any], field: str, message: str) -> None:
    made = behind.api_service()
    made["spec"] |= change
    answer = behind.ns.http.post(SERVICES, json=made)
    assert answer.status_code == 422, answer.text
    causes = {each["field"]: each["message"] for each in answer.json()["details"]["causes"]}
    assert message in causes[field]


def test_local_ones_come_with_the_kinds(behind: Behind) -> None:
    client = behind.ns.http
    group = "things.example.com"
    definition = {
        "metadata": {"name": f"gizmos.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert client.post(path, json=definition).status_code == 201
    wait_until("the APIService is there", lambda: client.get(f"{SERVICES}/v1.{group}").status_code == 200)
    client.delete(f"{path}/gizmos.{group}")
    wait_until("the APIService is gone", lambda: client.get(f"{SERVICES}/v1.{group}").status_code == 404)
    found = client.get(f"{SERVICES}/v1.apps").json()
    assert found["status"]["conditions"][0]["reason"] == "Local"
    assert found["spec"]["groupPriorityMinimum"] == 17800


def test_servers_learn_whom_to_believe(behind: Behind, proxy_authority: Authority) -> None:
    answer: httpx.Response = behind.ns.http.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
    data = answer.json()["data"]
    assert data["requestheader-client-ca-file"] == proxy_authority.path.read_text()
    assert data["requestheader-allowed-names"] == '["front-proxy-client"]'
    assert data["requestheader-username-headers"] == '["X-Remote-User"]'
    assert "client-ca-file" in data
