"""What a kubelet can get hold of with its certificate, and what it can change: its own, and no more."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Obj, Server, config_map, pod, wait_until

pytestmark = pytest.mark.live

MERGE = {"content-type": "application/merge-patch+json"}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
CSI_NODES = "/apis/storage.k8s.io/v1/csinodes"


@pytest.fixture(scope="module")
def nodes(server: Server) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two kubelets that have registered."""
    world = server.world
    world.users["other-node"] = world.authority.issue("system:node:n2", "system:nodes", file="node2")
    with server.client("node") as one, server.client("other-node") as two:
        for client, name in ((one, "n1"), (two, "n2")):
            assert client.post("/api/v1/nodes", json={"metadata": {"name": name}}).status_code == 201
        yield one, two
    with server.client() as admin:
        for name in ("n1", "n2"):
            admin.delete(f"/api/v1/nodes/{name}")


@pytest.fixture
def one(nodes: tuple[httpx.Client, httpx.Client]) -> httpx.Client:
    return nodes[0]


@pytest.fixture
def two(nodes: tuple[httpx.Client, httpx.Client]) -> httpx.Client:
    return nodes[1]


@pytest.fixture
def pods(ns: Namespace) -> Namespace:
    """A pod on each node, each with a Secret of its own."""
    for number in (1, 2):
        data = {"k": base64.b64encode(b"v").decode()}
        ns.create("secrets", {"metadata": {"name": f"s{number}"}, "data": data})
        ns.create("configmaps", config_map(f"m{number}", k="v"))
        ns.create("serviceaccounts", {"metadata": {"name": f"a{number}"}})
        volumes = [{"name": "s", "secret": {"secretName": f"s{number}"}}, {"name": "m", "configMap": {"name": f"m{number}"}}]
        ns.create("pods", pod(f"p{number}", nodeName=f"n{number}", serviceAccountName=f"a{number}", volumes=volumes))
    return ns


def statuses(*answers: httpx.Response) -> list[int]:
    return [each.status_code for each in answers]


def test_a_node_reads_what_its_pods_use_and_nothing_else(pods: Namespace, one: httpx.Client) -> None:
    for kind, prefix in (("secrets", "s"), ("configmaps", "m")):
        assert one.get(pods.path(kind, f"{prefix}1")).status_code == 200
        assert one.get(pods.path(kind), params={"fieldSelector": f"metadata.name={prefix}1"}).status_code == 200
        forbidden = [
            one.get(pods.path(kind, f"{prefix}2")),
            one.get(pods.path(kind)),
            one.get(f"/api/v1/{kind}"),
            one.get(pods.path(kind), params={"fieldSelector": f"metadata.name!={prefix}1"}),
            one.get(pods.path(kind), params={"fieldSelector": f"metadata.name={prefix}2", "watch": "1"}),
            one.get(pods.path(kind, f"{prefix}2"), params={"watch": "true"}),
            one.get(f"/api/v1/watch/namespaces/{pods.name}/{kind}/{prefix}2"),
            one.put(pods.path(kind, f"{prefix}1"), json={}),
            one.delete(pods.path(kind, f"{prefix}1")),
            one.delete(pods.path(kind), params={"fieldSelector": f"metadata.name={prefix}1"}),
            one.post(pods.path(kind), json={"metadata": {"name": "new"}}),
        ]
        assert statuses(*forbidden) == [403] * len(forbidden)
    message = one.get(pods.path("secrets", "s2")).json()["message"]
    assert message == (
        f'secrets "s2" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "{pods.name}": '
        "no relationship found between node 'n1' and this object"
    )


def test_a_review_sees_the_selector(http: httpx.Client) -> None:
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    def allowed(selector: Obj) -> bool:
        attributes = {"verb": "list", "version": "v1", "resource": "pods", "fieldSelector": selector}
        spec = {"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": attributes}
        return bool(http.post(path, json={"spec": spec}).json()["status"]["allowed"])

    assert allowed({"rawSelector": "spec.nodeName=n1"})
    assert allowed({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]})
    assert not allowed({"requirements": [{"key": "spec.nodeName", "operator": "NotIn", "values": ["n1"]}]})
    assert not allowed({"rawSelector": "spec.nodeName=n2"})
    attributes = {"verb": "list", "resource": "pods", "fieldSelector": {"rawSelector": "spec.nodeName"}}
    review = {"spec": {"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": attributes}}
    assert http.post(path, json=review).json()["status"] == {
        "allowed": False,
        "reason": "can only list/watch pods with spec.nodeName field selector",
        "evaluationError": "spec.resourceAttributes.fieldSelector ignored due to parse error",
    }
    attributes["fieldSelector"] = {}
    assert http.post(path, json=review).status_code == 422


def test_a_right_ends_with_the_pod(pods: Namespace, one: httpx.Client) -> None:
    assert one.get(pods.path("secrets", "s1")).status_code == 200
    assert one.delete(pods.path("pods", "p1"), params={"gracePeriodSeconds": "0"}).status_code == 200
    wait_until("the right has ended", lambda: one.get(pods.path("secrets", "s1")).status_code == 403)


def test_a_pod_that_was_bound_just_now_counts(pods: Namespace, one: httpx.Client) -> None:
    for at in range(10):
        pods.create("secrets", {"metadata": {"name": f"new{at}"}})
        volumes = [{"name": "s", "secret": {"secretName": f"new{at}"}}]
        pods.create("pods", pod(f"new{at}", nodeName="n1", volumes=volumes))
        assert one.get(pods.path("secrets", f"new{at}")).status_code == 200


def token_request(name: str, uid: str, audience: str = "") -> Obj:
    spec: Obj = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}
    if audience:
        spec["audiences"] = [audience]
    return {"spec": spec}


def test_tokens_are_for_the_nodes_own_pods(pods: Namespace, one: httpx.Client) -> None:
    uids = {name: pods.get("pods", name)["metadata"]["uid"] for name in ("p1", "p2")}

    def ask(account: str, request: Obj) -> httpx.Response:
        return one.post(pods.path("serviceaccounts", f"{account}/token"), json=request)

    good = ask("a1", token_request("p1", uids["p1"]))
    assert good.status_code == 201, good.text
    claims = jwt.decode(good.json()["status"]["token"], options={"verify_signature": False})["kubernetes.io"]
    assert claims["node"]["name"] == "n1"
    refused = {
        "another account": ask("default", token_request("p1", uids["p1"])),
        "another node's account": ask("a2", token_request("p2", uids["p2"])),
        "another node's pod": ask("a1", token_request("p2", uids["p2"])),
        "no pod": ask("a1", {"spec": {}}),
        "a pod without uid": ask("a1", token_request("p1", "")),
        "a wrong uid": ask("a1", token_request("p1", "1-2-3")),
        "another audience": ask("a1", token_request("p1", uids["p1"], "vault")),
    }
    assert {what: answer.status_code for what, answer in refused.items()} == dict.fromkeys(refused, 403)
    pods.create("serviceaccounts", {"metadata": {"name": "a3"}})
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}}
    pods.create("pods", pod("p3", nodeName="n1", serviceAccountName="a3", volumes=[volume]))
    uid = pods.get("pods", "p3")["metadata"]["uid"]
    assert ask("a3", token_request("p3", uid, "vault")).status_code == 201


def test_a_node_changes_only_itself(one: httpx.Client, http: httpx.Client) -> None:
    def patch(path: str, body: Obj) -> httpx.Response:
        return one.patch(f"/api/v1/nodes/{path}", json=body, headers=MERGE)

    allowed = [
        patch("n1/status", {"status": {"nodeInfo": {"kubeletVersion": "v"}}}),
        patch("n1", {"metadata": {"labels": {"mine": "1", "topology.kubernetes.io/zone": "z", "kubelet.kubernetes.io/x": "1"}}}),
        patch("n1", {"spec": {"unschedulable": True}}),
        one.get("/api/v1/nodes/n1"),
        one.get("/api/v1/nodes", params={"fieldSelector": "metadata.name=n1"}),
    ]
    assert statuses(*allowed) == [200] * len(allowed)
    forbidden = [
        patch("n2/status", {"status": {"nodeInfo": {"kubeletVersion": "v"}}}),
        patch("n2", {"metadata": {"labels": {"mine": "1"}}}),
        patch("n1", {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        patch("n1", {"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "high"}}}),
        patch("n1", {"metadata": {"labels": {"a.node-restriction.kubernetes.io/tier": "high"}}}),
        patch("n1", {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
        patch("n1/status", {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
        one.post("/api/v1/nodes", json={"metadata": {"name": "n3"}}),
        one.delete("/api/v1/nodes/n1"),
        one.get("/api/v1/nodes/n2"),
        one.get("/api/v1/nodes"),
        one.get("/api/v1/nodes/n1/proxy/pods"),
    ]
    assert statuses(*forbidden) == [403] * len(forbidden)
    assert "is not allowed to modify taints" in forbidden[2].json()["message"]
    assert http.patch(
        "/api/v1/nodes/n1", json={"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, headers=MERGE
    ).is_success
    assert patch("n1", {"spec": {"taints": None}}).status_code == 403


def mirror(node: str, uid: str, name: str = "m", **spec: Any) -> Obj:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
    found = pod(name, nodeName=node, **spec)
    found["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "h"}, "ownerReferences": [owner]}
    return found


def test_a_node_changes_only_its_own_pods(pods: Namespace, one: httpx.Client) -> None:
    status = {"status": {"phase": "Running"}}

    def patch(path: str, body: Obj) -> httpx.Response:
        return one.patch(pods.path("pods", path), json=body, headers=MERGE)

    uid = one.get("/api/v1/nodes/n1").json()["metadata"]["uid"]
    own = {"fieldSelector": "spec.nodeName=n1"}
    good = [
        one.get(pods.path("pods", "p1")),
        one.get("/api/v1/pods", params=own),
        patch("p1/status", status),
        one.post(pods.path("pods"), json=mirror("n1", uid)),
        one.delete(pods.path("pods", "m"), params={"gracePeriodSeconds": "0"}),
    ]
    assert statuses(*good) == [200, 200, 200, 201, 200], [each.text for each in good]
    secret = [{"name": "s", "secret": {"secretName": "s2"}}]
    alone = mirror("n1", uid)
    del alone["metadata"]["ownerReferences"]
    plain = mirror("n1", uid)
    del plain["metadata"]["annotations"]
    bad = [
        one.get("/api/v1/pods"),
        one.get("/api/v1/pods", params={"fieldSelector": "spec.nodeName=n2"}),
        one.get("/api/v1/pods", params={"fieldSelector": "spec.nodeName!=n2"}),
        one.get(pods.path("pods", "p2")),
        patch("p2/status", status),
        patch("p1/status", {"metadata": {"labels": {"app": "web"}}}),
        patch("p1", {"metadata": {"labels": {"app": "web"}}}),
        one.post(pods.path("pods"), json=pod("x", nodeName="n1")),
        one.post(pods.path("pods"), json=plain),
        one.post(pods.path("pods"), json=alone),
        one.post(pods.path("pods"), json=mirror("n1", "wrong")),
        one.post(pods.path("pods"), json=mirror("n2", uid)),
        one.post(pods.path("pods"), json=mirror("n1", uid, volumes=secret)),
        one.post(pods.path("pods"), json=mirror("n1", uid, serviceAccountName="a2")),
        one.delete(pods.path("pods", "p2")),
        one.post(pods.path("pods", "p2/eviction"), json={"metadata": {"name": "p2"}}),
        one.post(pods.path("pods", "p2/binding"), json={"metadata": {"name": "p2"}, "target": {"kind": "Node", "name": "n1"}}),
        one.get(pods.path("pods", "p1/log")),
        one.post(pods.path("pods", "p1/exec"), params={"command": "sh", "stdout": "1"}),
    ]
    assert statuses(*bad) == [403] * len(bad)


def test_leases_and_csi_nodes_are_by_name(one: httpx.Client) -> None:
    for path in (LEASES, CSI_NODES):
        body: Obj = {"metadata": {"name": "n1"}, "spec": {"drivers": []} if path == CSI_NODES else {}}
        assert one.post(path, json=body).status_code == 201
        assert one.patch(f"{path}/n1", json={"metadata": {"labels": {"a": "1"}}}, headers=MERGE).status_code == 200
        other = {**body, "metadata": {"name": "n2"}}
        bad = [
            one.post(path, json=other),
            one.get(f"{path}/n2"),
            one.get(path),
            one.patch(f"{path}/n2", json={"metadata": {}}, headers=MERGE),
            one.delete(f"{path}/n2"),
        ]
        assert statuses(*bad) == [403] * len(bad)
        assert one.delete(f"{path}/n1").status_code == 200
    elsewhere = LEASES.replace("kube-node-lease", "kube-system")
    assert one.post(elsewhere, json={"metadata": {"name": "n1"}, "spec": {}}).status_code == 403


def request_for(name: str) -> Obj:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
        ]
    )
    pem = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    usages = ["digital signature", "client auth"]
    signer = "kubernetes.io/kube-apiserver-client-kubelet"
    spec = {"request": base64.b64encode(pem).decode(), "signerName": signer, "usages": usages}
    return {"metadata": {"generateName": "csr-"}, "spec": spec}


def test_a_node_asks_for_certificates_of_its_own_name(one: httpx.Client, http: httpx.Client) -> None:
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    made = one.post(path, json=request_for("n1"))
    assert made.status_code == 201, made.text
    assert one.post(path, json=request_for("n2")).status_code == 403
    approve = {"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "x", "message": "x"}]}}
    name = made.json()["metadata"]["name"]
    assert one.patch(f"{path}/{name}/approval", json=approve, headers=MERGE).status_code == 403
    assert http.delete(f"{path}/{name}").is_success


def test_the_name_alone_makes_no_node_and_the_group_alone_neither(pods: Namespace, http: httpx.Client) -> None:
    path = pods.path("secrets", "s1")
    assert http.get(path, headers={"impersonate-user": "system:node:n1"}).status_code == 403
    assert http.get(path, headers={"impersonate-user": "n1", "impersonate-group": "system:nodes"}).status_code == 403
    assert http.get(path, headers={"impersonate-user": "system:node:", "impersonate-group": "system:nodes"}).status_code == 403
    assert http.get(path, headers={"impersonate-user": "system:node:n1", "impersonate-group": "system:nodes"}).status_code == 200
