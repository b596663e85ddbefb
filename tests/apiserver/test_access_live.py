"""Who may come in, and how far."""

from __future__ import annotations

import time

import httpx
import jwt
import pytest

from tests.apiserver import harness
from tests.apiserver.harness import Authority, Kubectl, pod
from tests.kubectls import newest

pytestmark = pytest.mark.live


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_health_and_version_are_public_and_nothing_else(server):
    with server.client("") as nobody:
        for path in ("/healthz", "/livez", "/readyz", "/readyz?verbose", "/version", "/version/"):
            assert nobody.get(path).status_code == 200, path
        for path in ("/api", "/apis", "/api/v1/pods", "/metrics", "/openapi/v3", "/nowhere", "/livez/etcd"):
            answer = nobody.get(path)
            assert (answer.status_code, answer.json()["reason"]) == (403, "Forbidden"), path
            assert 'User "system:anonymous" cannot' in answer.json()["message"]


def test_certificates_name_user_and_groups(server):
    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    with server.client("node") as node:
        who = node.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json=review).json()["status"]["userInfo"]
    assert who["username"] == "system:node:n1"
    assert who["groups"] == ["system:nodes", "system:authenticated"]


def test_foreign_and_expired_certificates_are_not_believed(server, tmp_path):
    foreign = Authority(tmp_path, "other").issue("kubernetes-admin", "system:masters", file="foreign")
    expired = server.world.authority.issue("kubernetes-admin", "system:masters", file="expired", days=-1)
    for pair in (foreign, expired):
        server.world.users["tmp"] = pair
        with server.client("tmp") as client:
            answer = client.get("/api/v1/nodes")
            assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")
        if newest():
            kubectl = Kubectl(newest()[0], server.kubeconfig(tmp_path / "config", "tmp"), tmp_path / "cache")
            done = kubectl.run("get", "nodes")
            assert "You must be logged in to the server" in done.stderr
    with server.client() as admin:
        assert admin.get("/livez").status_code == 200


def test_a_stranger_is_told_what_he_may_not_do(server):
    with server.client("bob") as bob:
        listed = bob.get("/api/v1/namespaces/default/pods").json()
        assert listed["message"] == (
            'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default"'
        )
        scaled = bob.put("/apis/apps/v1/namespaces/default/deployments/x/scale", json={}).json()
        assert scaled["message"] == (
            'deployments.apps "x" is forbidden: User "bob" cannot update resource "deployments/scale" '
            'in API group "apps" in the namespace "default"'
        )
        assert bob.get("/api/v1/nodes").json()["message"].endswith("at the cluster scope")
        assert bob.get("/metrics").json()["message"] == 'forbidden: User "bob" cannot get path "/metrics"'
        assert bob.get("/apis").status_code == 200
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        answer = bob.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=review)
        assert answer.json()["status"]["allowed"] is False


def test_nodes_and_components(server):
    with server.client("node") as node, server.client("scheduler") as scheduler:
        assert node.get("/api/v1/pods", params={"fieldSelector": "spec.nodeName=n1"}).status_code == 200
        assert node.get("/api/v1/pods").status_code == 403
        assert node.post("/api/v1/nodes", json={"metadata": {"name": "n1"}}).status_code == 201
        assert node.delete("/api/v1/nodes/n1").status_code == 403
        assert node.get("/apis/apps/v1/deployments").status_code == 403
        assert scheduler.get("/api/v1/nodes").status_code == 200
    with server.client() as admin:
        admin.delete("/api/v1/nodes/n1")


def test_static_tokens(server):
    with server.client("") as client:
        assert client.get("/api/v1/nodes", headers=bearer("admin-token")).status_code == 200
        for headers in (
            bearer("wrong"),
            bearer("a.b.c"),
            {"authorization": "Basic YTpi"},
            {"authorization": "nonsense"},
            {"authorization": "Bearer"},
        ):
            assert client.get("/api/v1/nodes", headers=headers).status_code == 401, headers
            assert client.get("/version", headers=headers).status_code == 401


def test_impersonation_is_for_administrators(server):
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    with server.client() as admin, server.client("bob") as bob:
        answer = admin.post(path, json=review, headers={"impersonate-user": "bob"})
        assert answer.json()["status"]["allowed"] is False
        assert admin.get("/api/v1/nodes", headers={"impersonate-user": "bob"}).status_code == 403
        assert (
            bob.get("/api/v1/nodes", headers={"impersonate-user": "bob", "impersonate-group": "system:masters"}).status_code
            == 403
        )


def test_account_tokens_live_as_long_as_what_they_are_bound_to(ns, server):
    ns.create("pods", pod("p"))
    uid = ns.get("pods", "p")["metadata"]["uid"]
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    request = {"spec": {"expirationSeconds": 700, "boundObjectRef": reference}}
    answer = ns.http.post(ns.path("serviceaccounts", "default/token"), json=request).json()
    token = answer["status"]["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 700
    assert claims["kubernetes.io"]["pod"]["uid"] == uid

    review = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    status = ns.http.post(path, json=review).json()["status"]
    assert status["user"]["username"] == f"system:serviceaccount:{ns.name}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    with server.client("") as pod_client:
        assert pod_client.get("/apis", headers=bearer(token)).status_code == 200
        assert pod_client.get("/api/v1/nodes", headers=bearer(token)).status_code == 403
        forged = token[:-8] + ("A" * 8 if token[-8:] != "A" * 8 else "B" * 8)
        assert pod_client.get("/apis", headers=bearer(forged)).status_code == 401
        ns.http.delete(ns.path("pods", "p"))
        harness.wait_until(
            "the token dies with its pod", lambda: pod_client.get("/apis", headers=bearer(token)).status_code == 401
        )
    assert ns.http.post(ns.path("serviceaccounts", "default/token"), json={"spec": {"expirationSeconds": 60}}).status_code == 422


def test_keys_for_others_to_verify_with(ns, server):
    token = ns.http.post(ns.path("serviceaccounts", "default/token"), json={}).json()["status"]["token"]
    configuration = ns.http.get("/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(ns.http.get("/openid/v1/jwks").json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    issuer = configuration["issuer"]
    assert jwt.decode(token, key, algorithms=["ES256"], audience=issuer, issuer=issuer)["sub"].endswith(":default")


def test_a_slow_client_does_not_hold_up_the_others(server):
    """Half a request, and then silence."""
    with server.client() as client:
        began = time.monotonic()
        with httpx.Client(base_url=server.url, verify=False) as other:
            assert other.get("/livez").status_code == 200
        assert client.get("/livez").status_code == 200
        assert time.monotonic() - began < 5
