"""Mutating and validating webhooks: a server with TLS, called by url and by Service, and what a client then sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.apiserver import harness
from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Kubectl, Obj, World, config_map, deployment, pod
from tests.apiserver.webhook_server import Webhooks, deny, patch, serving
from tests.kubectls import oldest_and_newest

pytestmark = pytest.mark.live
_GROUP = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture(scope="module")
def hooks(world: World) -> Iterator[Webhooks]:
    with serving(world.authority, "hook.infra.svc") as made:
        yield made


class Configured:
    """Makes configurations that are for one namespace only, and takes them away."""

    def __init__(self, http: httpx.Client, hooks: Webhooks, ns: Namespace) -> None:
        self.http, self.hooks, self.ns = http, hooks, ns
        self.made: list[str] = []

    def __call__(self, kind: str, *webhooks: Obj) -> str:
        plural = f"{kind.lower()}webhookconfigurations"
        name = f"{self.ns.name}-{len(self.made)}"
        obj = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": list(webhooks),
        }
        answer = self.http.post(f"{_GROUP}/{plural}", json=obj)
        assert answer.status_code == 201, answer.text
        self.made.append(f"{_GROUP}/{plural}/{name}")
        return name

    def hook(self, path: str, plural: str = "configmaps", **more: Any) -> Obj:
        base = {
            "name": f"{path}.example.com",
            "clientConfig": {"url": self.hooks.url(path), "caBundle": self.hooks.ca_bundle},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [plural]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.ns.name}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 5,
        }
        return {**base, **more}


@pytest.fixture
def configure(http: httpx.Client, hooks: Webhooks, ns: Namespace) -> Iterator[Configured]:
    made = Configured(http, hooks, ns)
    yield made
    for path in made.made:
        http.delete(path)


def put(ns: Namespace, name: str, **query: str) -> httpx.Response:
    return ns.http.post(ns.path("configmaps"), json=config_map(name, a="1"), params=query)


def test_a_mutating_webhook_changes_what_is_stored(ns, hooks, configure):
    hooks.on("mutate", lambda request: patch({"op": "add", "path": "/data/b", "value": "2"}, warnings=["mind the gap"]))
    configure("Mutating", configure.hook("mutate"))
    answer = put(ns, "x", fieldManager="me")
    assert answer.status_code == 201, answer.text
    assert answer.json()["data"] == {"a": "1", "b": "2"}
    assert '299 - "mind the gap"' in answer.headers["warning"]
    request = hooks.requests("mutate")[-1]
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["name"], request["namespace"], request["operation"]) == ("x", ns.name, "CREATE")
    assert request["userInfo"]["username"] == "kubernetes-admin"
    assert request["object"]["data"] == {"a": "1"}
    assert request["oldObject"] is None
    assert request["dryRun"] is False
    assert request["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"}


def test_a_validating_webhook_refuses_in_its_own_words(ns, hooks, configure):
    hooks.on(
        "validate", lambda request: deny("no q", code=403, reason="Forbidden") if request["name"] == "q" else {"allowed": True}
    )
    hooks.on("mute", lambda request: deny() if request["name"] == "mute" else {"allowed": True})
    configure("Validating", configure.hook("validate"), configure.hook("mute"))
    answer = put(ns, "q")
    assert answer.status_code == 403
    assert answer.json()["message"] == 'admission webhook "validate.example.com" denied the request: no q'
    assert answer.json()["reason"] == "Forbidden"
    answer = put(ns, "mute")
    assert answer.status_code == 400
    assert answer.json()["message"] == 'admission webhook "mute.example.com" denied the request without explanation'
    assert put(ns, "fine").status_code == 201
    ns.get("configmaps", "q", status=404)
    # Each in its turn: update and deletion show the object as it was; a refusal is asked for once.
    hooks.on("validate", lambda request: deny("kept") if request["operation"] == "DELETE" else {"allowed": True})
    ns.http.put(ns.path("configmaps", "fine"), json=config_map("fine", a="2"))
    assert hooks.requests("validate")[-1]["oldObject"]["data"] == {"a": "1"}
    before = len(hooks.requests("validate"))
    assert ns.http.delete(ns.path("configmaps", "fine")).status_code == 400
    assert len(hooks.requests("validate")) == before + 1
    request = hooks.requests("validate")[-1]
    assert request["object"] is None
    assert request["oldObject"]["data"] == {"a": "2"}
    assert request["options"]["kind"] == "DeleteOptions"


def test_what_fails_is_refused_or_passed_over(ns, hooks, configure):
    hooks.on("slow", lambda request: time.sleep(1.5) or {"allowed": True})
    hooks.on("broken", lambda request: b"{}")
    hooks.on("crash", lambda request: (500, b"oops"))
    cases = {
        "slow": f'failed to call webhook: Post "{hooks.url("slow")}?timeout=1s": context deadline exceeded',
        "broken": "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got , Kind=",
        "crash": 'failed to call webhook: an error on the server ("oops") has prevented the request from succeeding',
        "nowhere": "failed to call webhook: the server could not find the requested resource",
    }
    for path, why in cases.items():
        name = configure("Validating", configure.hook(path, timeoutSeconds=1))
        answer = put(ns, path)
        assert answer.status_code == 500
        assert answer.json()["message"] == f'Internal error occurred: failed calling webhook "{path}.example.com": {why}'
        answer = ns.http.patch(
            f"{_GROUP}/validatingwebhookconfigurations/{name}",
            json=[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}],
            headers={"content-type": "application/json-patch+json"},
        )
        assert answer.status_code == 200, answer.text
        assert put(ns, path).status_code == 201
    distrusted = configure.hook("mute", clientConfig={"url": hooks.url("mute")}, name="distrusted.example.com")
    configure("Validating", distrusted)
    message = put(ns, "distrusted").json()["message"]
    assert message.endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")


def test_reinvocation_lets_an_earlier_webhook_see_what_a_later_one_did(ns, hooks, configure):
    def first(request: Obj) -> Obj:
        return patch({"op": "add", "path": "/data/first", "value": ",".join(sorted(request["object"]["data"]))})

    hooks.on("first", first)
    hooks.on("second", lambda request: patch({"op": "add", "path": "/data/second", "value": "x"}))
    configure("Mutating", configure.hook("first", reinvocationPolicy="IfNeeded"), configure.hook("second"))
    assert put(ns, "x").json()["data"] == {"a": "1", "first": "a,first,second", "second": "x"}
    assert [len(hooks.requests(each)) for each in ("first", "second")] == [2, 1]


def test_dry_run_is_shown_only_to_webhooks_without_side_effects(ns, hooks, configure):
    hooks.on("dry", lambda request: {"allowed": True})
    configure("Validating", configure.hook("dry"))
    assert put(ns, "x", dryRun="All").status_code == 201
    assert hooks.requests("dry")[-1]["dryRun"] is True
    hook = configure.hook("dry", name="old.example.com", sideEffects="Some", admissionReviewVersions=["v1beta1"])
    http = ns.http
    obj = {"metadata": {"name": f"{ns.name}-some"}, "webhooks": [hook]}
    answer = http.post(f"{_GROUP}/validatingwebhookconfigurations", json=obj)
    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["field"] == "webhooks[0].sideEffects"


def test_by_service_over_kept_connections(ns, hooks, configure, http):
    """The certificate is for the Service; the endpoint's address is what is dialled. Calls share a connection."""
    http.post("/api/v1/namespaces", json={"metadata": {"name": "infra"}})
    service = {"metadata": {"name": "hook"}, "spec": {"clusterIP": "None", "ports": [{"port": 8443, "name": "https"}]}}
    assert http.post("/api/v1/namespaces/infra/services", json=service).status_code == 201
    config = {"service": {"namespace": "infra", "name": "hook", "path": "/svc", "port": 8443}, "caBundle": hooks.ca_bundle}
    configure("Validating", configure.hook("svc", clientConfig=config))
    hooks.on("svc", lambda request: {"allowed": True})
    assert 'no endpoints available for service "hook"' in put(ns, "x").json()["message"]
    endpoints = {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": hooks.port, "protocol": "TCP"}],
    }
    answer = http.post("/apis/discovery.k8s.io/v1/namespaces/infra/endpointslices", json=endpoints)
    assert answer.status_code == 201, answer.text
    assert put(ns, "first").status_code == 201
    before = hooks.connections
    for at in range(20):
        assert put(ns, f"x{at}").status_code == 201
    assert hooks.connections - before <= 1
    assert len(hooks.requests("svc")) == 21


def test_rules_and_selectors_choose_what_a_webhook_sees(ns, hooks, configure):
    hooks.on("scale", lambda request: {"allowed": True})
    hooks.on("labelled", lambda request: deny("labelled"))
    hooks.on("equivalent", lambda request: {"allowed": True})
    rules = [{"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]}]
    hpa = [
        {"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"]}
    ]
    configure(
        "Validating",
        configure.hook("scale", rules=rules),
        configure.hook("labelled", objectSelector={"matchLabels": {"no": "thanks"}}),
        configure.hook("equivalent", rules=hpa),
        configure.hook("exact", rules=hpa, matchPolicy="Exact"),
    )
    assert put(ns, "x").status_code == 201
    obj = config_map("y")
    obj["metadata"]["labels"] = {"no": "thanks"}
    assert ns.http.post(ns.path("configmaps"), json=obj).status_code == 400
    ns.create("deployments", deployment("d"), "apps/v1")
    body = {"metadata": {"name": "d"}, "spec": {"replicas": 3}}
    answer = ns.http.put(ns.path("deployments", "d", "apps/v1") + "/scale", json=body)
    assert answer.status_code == 200, answer.text
    request = hooks.requests("scale")[-1]
    assert request["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (request["subResource"], request["object"]["spec"]) == ("scale", {"replicas": 3})
    scaler = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}
    ns.create("horizontalpodautoscalers", scaler, "autoscaling/v2")
    request = hooks.requests("equivalent")[-1]
    assert request["kind"]["version"] == request["resource"]["version"] == "v1"
    assert request["requestKind"]["version"] == "v2"
    assert request["object"]["apiVersion"] == "autoscaling/v1"
    assert not hooks.requests("exact")


def test_kubectl_shows_what_a_webhook_says(ns, hooks, configure, server, tmp_path):
    hooks.on(
        "ctl", lambda request: deny("pods need an owner", code=403) if request["operation"] == "CREATE" else {"allowed": True}
    )
    configure("Validating", configure.hook("ctl", plural="pods"))
    for at, binary in enumerate(oldest_and_newest()):
        run = Kubectl(binary, server.kubeconfig(tmp_path / f"config{at}"), tmp_path / "cache")
        done = run.run("run", "x", "--image=i", "-n", ns.name)
        assert done.returncode == 1
        assert (
            done.stderr.strip() == 'Error from server: admission webhook "ctl.example.com" denied the request: pods need an owner'
        )
        assert run("get", "pods", "-n", ns.name) == ""


def test_a_pod_with_a_sidecar_from_a_webhook_has_defaults(ns, hooks, configure):
    sidecar = {"name": "side", "image": "proxy:1"}
    hooks.on("inject", lambda request: patch({"op": "add", "path": "/spec/containers/-", "value": sidecar}))
    configure("Mutating", configure.hook("inject", plural="pods"))
    made = ns.create("pods", pod("p"))
    assert made["spec"]["containers"][1]["imagePullPolicy"] == "IfNotPresent"
    assert made["spec"]["containers"][1]["terminationMessagePath"] == "/dev/termination-log"
    # Every plug-in has had a second look at it.
    assert [len(each.get("volumeMounts") or ()) for each in made["spec"]["containers"]] == [1, 1]


def test_the_doors_of_a_pod(ns, hooks, configure, server):
    """Bindings, evictions and connections are shown as what they are."""
    hooks.on("doors", lambda request: deny("closed") if request["operation"] == "CONNECT" else {"allowed": True})
    doors = ["pods/binding", "pods/eviction", "pods/exec", "services/proxy"]
    operations = {"operations": ["CREATE", "CONNECT"], "apiGroups": ["", "policy"], "apiVersions": ["v1"]}
    configure("Validating", configure.hook("doors", rules=[{**operations, "resources": doors}]))
    ns.create("pods", pod("p"))
    assert not hooks.requests("doors")
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    assert ns.http.post(ns.path("pods", "p") + "/binding", json=binding).status_code == 201
    request = hooks.requests("doors")[-1]
    assert (request["subResource"], request["kind"]["kind"], request["name"]) == ("binding", "Binding", "p")
    assert request["object"]["target"]["name"] == "n1"
    upgrade = {"upgrade": "SPDY/3.1", "connection": "Upgrade"}
    query = {"command": ["ls", "-l"], "stdout": "true"}
    with server.client() as other:
        answer = other.post(ns.path("pods", "p") + "/exec", params=query, headers=upgrade)
    assert answer.status_code == 400
    assert answer.json()["message"] == 'admission webhook "doors.example.com" denied the request: closed'
    request = hooks.requests("doors")[-1]
    assert request["operation"] == "CONNECT"
    assert request["object"] == {"apiVersion": "v1", "kind": "PodExecOptions", "stdout": True, "command": ["ls", "-l"]}
    answer = ns.http.get(ns.path("services", "s") + "/proxy/x")
    assert answer.json()["message"].endswith("closed")
    answer = ns.http.post(ns.path("pods", "p") + "/eviction", json={"metadata": {"name": "p"}})
    assert answer.status_code == 201
    request = hooks.requests("doors")[-1]
    assert request["kind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}


def test_custom_resources_in_the_version_that_a_rule_names(ns, hooks, configure, http):
    """A webhook for v1 sees an object that was sent as v2 as v1; what it adds goes through the schema."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}, "mood": {"type": "string", "default": "calm"}}}
        },
    }
    versions = [
        {"name": each, "served": True, "storage": each == "v1", "schema": {"openAPIV3Schema": schema}} for each in ("v1", "v2")
    ]
    names = {"plural": "hooks", "singular": "hook", "kind": "Hook", "listKind": "HookList"}
    group = f"{ns.name}.example.com"
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert http.post(crds, json={"metadata": {"name": f"hooks.{group}"}, "spec": spec}).status_code == 201
    harness.wait_until("it is served", lambda: http.get(f"/apis/{group}/v2/hooks").status_code == 200)
    try:
        add = [{"op": "add", "path": "/spec/size", "value": 3}, {"op": "add", "path": "/spec/unknown", "value": 1}]
        hooks.on("custom", lambda request: patch(*add))
        hooks.on("check", lambda request: {"allowed": True})
        rules = [{"operations": ["CREATE", "DELETE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": ["hooks"]}]
        configure("Mutating", configure.hook("custom", rules=rules[:1]))
        configure("Validating", configure.hook("check", rules=rules))
        obj = {"apiVersion": f"{group}/v2", "kind": "Hook", "metadata": {"name": "h"}, "spec": {}}
        answer = http.post(ns.path("hooks", group=f"{group}/v2"), json=obj)
        assert answer.status_code == 201, answer.text
        assert answer.json()["spec"] == {"mood": "calm", "size": 3}
        assert answer.json()["apiVersion"] == f"{group}/v2"
        for path in ("custom", "check"):
            request = hooks.requests(path)[-1]
            assert request["kind"]["version"] == request["resource"]["version"] == "v1"
            assert request["requestKind"]["version"] == "v2"
            assert request["object"]["apiVersion"] == f"{group}/v1"
        assert hooks.requests("check")[-1]["object"]["spec"] == {"mood": "calm", "size": 3}
        assert http.delete(ns.path("hooks", "h", group=f"{group}/v2")).status_code == 200
        assert hooks.requests("check")[-1]["oldObject"]["apiVersion"] == f"{group}/v1"
    finally:
        http.delete(f"{crds}/hooks.{group}")
