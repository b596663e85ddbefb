"""Attempts: every class of request without a right to it, foreign credentials, ways up through roles, bindings, impersonation, and tricks with paths and headers."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Authority, Obj, Server, config_map, pod, wait_until

pytestmark = pytest.mark.live

GROUP = "rbac.authorization.k8s.io"
RBAC = f"/apis/{GROUP}/v1"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def bob(server: Server) -> Iterator[httpx.Client]:
    with server.client("bob") as client:
        yield client


def grant(ns: Namespace, name: str, *rules: Obj, user: str = "bob") -> None:
    """A Role and its binding."""
    ns.create("roles", {"metadata": {"name": name}, "rules": list(rules)}, f"{GROUP}/v1")
    ns.create("rolebindings", binding(name, "Role", name, user), f"{GROUP}/v1")


def rule(verbs: str, group: str, resources: str, *names: str) -> Obj:
    found: Obj = {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split()}
    return {**found, "resourceNames": list(names)} if names else found


def binding(name: str, kind: str, role: str, user: str) -> Obj:
    subject = {"apiGroup": GROUP, "kind": "User", "name": user}
    return {"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": [subject]}


def until_allowed(client: httpx.Client, ns: Namespace, verb: str, group: str, resource: str) -> None:
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": ns.name}

    def allowed() -> bool:
        review = {"spec": {"resourceAttributes": attributes}}
        answer = client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=review)
        return bool(answer.json()["status"]["allowed"])

    wait_until(f"{verb} {resource} is allowed", allowed)


def test_no_class_of_request_is_open(ns: Namespace, bob: httpx.Client, server: Server) -> None:
    ns.create("configmaps", config_map("c", k="v"))
    ns.create("pods", pod("p"))
    ns.create("services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    core, apps = f"/api/v1/namespaces/{ns.name}", f"/apis/apps/v1/namespaces/{ns.name}"
    asked = [
        ("GET", f"{core}/configmaps/c"),
        ("GET", f"{core}/configmaps"),
        ("GET", f"{core}/configmaps?watch=true"),
        ("GET", f"/api/v1/watch/namespaces/{ns.name}/configmaps"),
        ("GET", f"/api/v1/watch/namespaces/{ns.name}/configmaps/c"),
        ("POST", f"{core}/configmaps"),
        ("POST", f"{core}/configmaps?dryRun=All"),
        ("PUT", f"{core}/configmaps/c"),
        ("PATCH", f"{core}/configmaps/c"),
        ("PATCH", f"{core}/configmaps/new?fieldManager=x&force=true"),
        ("DELETE", f"{core}/configmaps/c"),
        ("DELETE", f"{core}/configmaps"),
        ("HEAD", f"{core}/configmaps/c"),
        ("GET", f"{core}/pods/p/log"),
        ("GET", f"{core}/pods/p/exec?command=sh"),
        ("POST", f"{core}/pods/p/exec?command=sh"),
        ("POST", f"{core}/pods/p/attach"),
        ("POST", f"{core}/pods/p/portforward"),
        ("GET", f"{core}/pods/p/proxy/x"),
        ("GET", f"{core}/services/s/proxy/"),
        ("GET", f"{core}/services/https:s:80/proxy/a/b"),
        ("GET", "/api/v1/nodes/n/proxy/exec/a/b/c?command=sh"),
        ("POST", f"{core}/pods/p/eviction"),
        ("POST", f"{core}/pods/p/binding"),
        ("POST", f"{core}/bindings"),
        ("PATCH", f"{core}/pods/p/status"),
        ("PATCH", f"{core}/pods/p/ephemeralcontainers"),
        ("PATCH", f"{core}/pods/p/resize"),
        ("POST", f"{core}/serviceaccounts/default/token"),
        ("PUT", f"{apps}/deployments/d/scale"),
        ("PUT", f"/api/v1/namespaces/{ns.name}/finalize"),
        ("DELETE", f"/api/v1/namespaces/{ns.name}"),
        ("GET", f"/api/v1/namespaces/{ns.name}"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("POST", f"/apis/authorization.k8s.io/v1/namespaces/{ns.name}/localsubjectaccessreviews"),
        ("GET", "/apis/no.such.group/v1/things"),
        ("GET", f"{core}/nosuchthings"),
        ("GET", "/metrics"),
        ("GET", "/metrics/slis"),
        ("GET", "/debug/pprof/"),
        ("GET", "/logs/"),
        ("GET", "/livez/etcd"),
        ("GET", "/openid/v1/jwks"),
        ("POST", "/apis"),
        ("PUT", "/version"),
    ]
    with server.client("") as nobody:
        for client, name in ((bob, "bob"), (nobody, "system:anonymous")):
            for method, path in asked:
                answer = client.request(method, path)
                assert answer.status_code == 403, (name, method, path, answer.status_code)
                if method != "HEAD":
                    assert f'User "{name}" cannot' in answer.json()["message"]
    assert ns.get("configmaps", "c")["data"] == {"k": "v"}


def test_foreign_credentials(ns: Namespace, server: Server, tmp_path: Any) -> None:
    token = ns.http.post(ns.path("serviceaccounts", "default/token"), json={}).json()["status"]["token"]
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    own_key = ec.generate_private_key(ec.SECP256R1())
    root = {**claims, "sub": "system:serviceaccount:kube-system:root"}
    signature = token.rpartition(".")[2]
    swapped = jwt.encode(root, own_key, algorithm="ES256", headers=header).rpartition(".")[0] + "." + signature
    public = server.world.authority.path.read_text()
    forged = [
        jwt.encode(claims, own_key, algorithm="ES256", headers={"kid": header["kid"]}),
        jwt.encode(claims, own_key, algorithm="ES256"),
        jwt.encode(claims, None, algorithm="none", headers={"kid": header["kid"]}),
        jwt.encode(claims, "secret" * 8, algorithm="HS256", headers={"kid": header["kid"]}),
        swapped,
        token[:-1],
        token + "x",
        token.replace(".", "", 1),
        "." * 10,
        base64.b64encode(public.encode()).decode(),
        "admin-token x",
        "a" * 60_000,
    ]
    with server.client("") as client:
        for each in forged:
            answer = client.get("/api", headers={"authorization": f"Bearer {each}"})
            assert answer.status_code == 401, each[:80]
        assert client.get("/api", headers={"authorization": f"bearer {token}"}).status_code == 200
        assert client.get("/api", headers={"authorization": token}).status_code == 401
    foreign = Authority(tmp_path, "ca")
    server.world.users["false"] = foreign.issue("kubernetes-admin", "system:masters", file="false")
    with server.client("false") as client:
        assert client.get("/api").status_code == 401
        # Another credential may still be good.
        assert client.get("/api", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_nobody_gives_himself_more_through_a_role(ns: Namespace, bob: httpx.Client) -> None:
    grant(ns, "own", rule("get create update patch", GROUP, "roles rolebindings"), rule("get list", "", "pods"))
    until_allowed(bob, ns, "create", GROUP, "roles")
    path = ns.path("roles", group=f"{GROUP}/v1")
    small = {"metadata": {"name": "small"}, "rules": [rule("get", "", "pods")]}
    assert bob.post(path, json=small).status_code == 201
    for bad in (
        rule("delete", "", "pods"),
        rule("get", "", "secrets"),
        rule("get", "", "*"),
        rule("*", "*", "*"),
        rule("get", "", "pods/exec"),
    ):
        answer = bob.post(path, json={"metadata": {"name": "big"}, "rules": [bad]})
        assert answer.status_code == 403, bad
        assert (
            'user "bob" (groups=["devs" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:'
            in answer.json()["message"]
        )
        assert bob.patch(f"{path}/small", json={"rules": [bad]}, headers=MERGE).status_code == 403
        assert bob.patch(f"{path}/own", json={"rules": [bad]}, headers=MERGE).status_code == 403
        apply = {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": "big"}, "rules": [bad]}
        applied = bob.patch(
            f"{path}/big?fieldManager=x&force=true", json=apply, headers={"content-type": "application/apply-patch+yaml"}
        )
        assert applied.status_code == 403
    message = bob.post(path, json={"metadata": {"name": "big"}, "rules": [rule("delete watch", "", "pods")]}).json()["message"]
    assert message == (
        'roles.rbac.authorization.k8s.io "big" is forbidden: user "bob" (groups=["devs" "system:authenticated"]) is attempting to grant RBAC '
        'permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete" "watch"]}'
    )
    ns.http.patch(f"{path}/own", json={"rules": [rule("* escalate", GROUP, "roles")]}, headers=MERGE)
    until_allowed(bob, ns, "escalate", GROUP, "roles")
    assert bob.post(path, json={"metadata": {"name": "big"}, "rules": [rule("*", "*", "*")]}).status_code == 201


def test_nobody_gives_himself_more_through_a_binding(ns: Namespace, bob: httpx.Client) -> None:
    grant(ns, "own", rule("get create update patch delete", GROUP, "rolebindings"), rule("get", "", "pods"))
    until_allowed(bob, ns, "create", GROUP, "rolebindings")
    path = ns.path("rolebindings", group=f"{GROUP}/v1")
    ns.create("roles", {"metadata": {"name": "small"}, "rules": [rule("get", "", "pods")]}, f"{GROUP}/v1")
    assert bob.post(path, json=binding("ok", "Role", "small", "eve")).status_code == 201
    for role in ("cluster-admin", "admin", "edit", "view"):
        assert bob.post(path, json=binding("bad", "ClusterRole", role, "bob")).status_code == 403
    missing = bob.post(path, json=binding("bad", "Role", "missing", "bob"))
    assert (missing.status_code, missing.json()["message"]) == (404, 'roles.rbac.authorization.k8s.io "missing" not found')
    # What a binding is of cannot be changed, also not to what one may bind.
    changed = ns.http.put(f"{path}/ok", json=binding("ok", "ClusterRole", "view", "bob"))
    assert changed.status_code == 422
    assert "cannot change roleRef" in changed.json()["message"]
    ns.create("roles", {"metadata": {"name": "big"}, "rules": [rule("*", "", "secrets")]}, f"{GROUP}/v1")
    ns.create("rolebindings", binding("big", "Role", "big", "root"), f"{GROUP}/v1")
    more = {"subjects": [{"apiGroup": GROUP, "kind": "User", "name": "bob"}]}
    assert bob.patch(f"{path}/big", json=more, headers=MERGE).status_code == 403
    assert bob.patch(f"{path}/big", json={"metadata": {"finalizers": ["a.b/c"]}}, headers=MERGE).status_code == 200
    assert ns.http.patch(f"{path}/big", json={"metadata": {"finalizers": None}}, headers=MERGE).is_success
    own = ns.path("roles", "own", group=f"{GROUP}/v1")
    ns.http.patch(
        own, json={"rules": [rule("create", GROUP, "rolebindings"), rule("bind", GROUP, "clusterroles", "view")]}, headers=MERGE
    )
    until_allowed(bob, ns, "create", GROUP, "rolebindings")
    wait_until("bob may bind view", lambda: bob.post(path, json=binding("v", "ClusterRole", "view", "bob")).status_code == 201)
    assert bob.post(path, json=binding("e", "ClusterRole", "edit", "bob")).status_code == 403


def test_an_aggregated_role_takes_everything(ns: Namespace, bob: httpx.Client) -> None:
    rules = [rule("create get", GROUP, "clusterroles")]
    name = f"{ns.name}-maker"
    assert ns.http.post(f"{RBAC}/clusterroles", json={"metadata": {"name": name}, "rules": rules}).status_code == 201
    assert ns.http.post(f"{RBAC}/clusterrolebindings", json=binding(name, "ClusterRole", name, "bob")).status_code == 201
    until_allowed(bob, ns, "create", GROUP, "clusterroles")
    aggregate = {"clusterRoleSelectors": [{"matchLabels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}]}
    answer = bob.post(f"{RBAC}/clusterroles", json={"metadata": {"name": f"{ns.name}-all"}, "aggregationRule": aggregate})
    assert answer.status_code == 403
    assert "must have cluster-admin privileges to use the aggregationRule" in answer.json()["message"]
    ns.http.delete(f"{RBAC}/clusterrolebindings/{name}")
    ns.http.delete(f"{RBAC}/clusterroles/{name}")


def test_one_right_does_not_open_its_neighbours(ns: Namespace, bob: httpx.Client, server: Server) -> None:
    ns.create("pods", pod("p"))
    ns.create("secrets", {"metadata": {"name": "s"}})
    ns.create("secrets", {"metadata": {"name": "t"}})
    grant(ns, "own", rule("get list watch create update patch delete", "", "pods"), rule("get", "", "secrets", "s"))
    until_allowed(bob, ns, "create", "", "pods")
    for path in ("p/log", "p/exec?command=sh", "p/attach", "p/portforward", "p/proxy/"):
        assert bob.get(ns.path("pods", path)).status_code == 403
    for path in ("p/status", "p/ephemeralcontainers", "p/resize"):
        assert bob.patch(ns.path("pods", path), json={}, headers=MERGE).status_code == 403
    assert bob.delete(ns.path("pods")).status_code == 403
    assert bob.get("/api/v1/pods").status_code == 403
    assert bob.get(ns.path("secrets", "s")).status_code == 200
    for query in ({}, {"fieldSelector": "metadata.name=t"}, {"fieldSelector": "metadata.name=s"}, {"watch": "1"}):
        assert bob.get(ns.path("secrets"), params=query).status_code == 403
    assert bob.get(ns.path("secrets", "t")).status_code == 403
    assert bob.get(ns.path("secrets", "s"), params={"watch": "1"}).status_code == 403


def test_the_right_to_change_is_not_that_to_create(ns: Namespace, bob: httpx.Client) -> None:
    grant(
        ns, "own", rule("get patch update", "", "configmaps endpoints"), rule("get update patch", "coordination.k8s.io", "leases")
    )
    until_allowed(bob, ns, "patch", "", "configmaps")
    apply = {"content-type": "application/apply-patch+yaml"}
    body = {"apiVersion": "v1", **config_map("new", k="v")}
    refused = bob.patch(ns.path("configmaps", "new"), json=body, headers=apply, params={"fieldManager": "x"})
    assert (refused.status_code, 'cannot create resource "configmaps"' in refused.json()["message"]) == (403, True)
    assert bob.put(ns.path("endpoints", "new"), json={"metadata": {"name": "new"}}).status_code == 403
    assert (
        bob.put(ns.path("leases", "new", "coordination.k8s.io/v1"), json={"metadata": {"name": "new"}, "spec": {}}).status_code
        == 403
    )
    ns.create("configmaps", config_map("new", k="v"))
    changed = bob.patch(ns.path("configmaps", "new"), json=body, headers=apply, params={"fieldManager": "x", "force": "true"})
    assert changed.status_code == 200


def test_tricks_with_paths(ns: Namespace, bob: httpx.Client, server: Server) -> None:
    ns.create("secrets", {"metadata": {"name": "s"}})
    ns.create("configmaps", config_map("c", k="v"))
    grant(ns, "own", rule("get list", "", "configmaps"))
    until_allowed(bob, ns, "get", "", "configmaps")
    core = f"/api/v1/namespaces/{ns.name}"
    tricks = [
        f"{core}/configmaps/../secrets/s",
        f"{core}/configmaps/..%2fsecrets%2fs",
        f"{core}/configmaps/%2e%2e/secrets/s",
        f"{core}//secrets/s",
        f"//api/v1/namespaces/{ns.name}/secrets/s",
        f"/healthz/../api/v1/namespaces/{ns.name}/secrets/s",
        f"/version/..{core}/secrets/s",
        f"{core}/secrets/s/",
        f"{core}/secrets//s",
        f"{core}/./secrets/s",
        f"{core}/%73ecrets/s",
        f"{core}/secrets%2fs",
        f"{core}/SECRETS/s",
        f"{core}/configmaps;/secrets/s",
        f"{core}/secrets/s?x=/healthz",
        f"{core}/secrets/s%00",
        f"/api/v1/namespaces/{ns.name}%2fsecrets%2fs",
        f"/api/v1/namespaces//secrets/s?namespace={ns.name}",
        f"/apis//v1/namespaces/{ns.name}/secrets/s",
        f"/api/v1/watch/watch/namespaces/{ns.name}/secrets/s",
        f"/openapi/..{core}/secrets/s",
        f"/api/v1/namespaces/{ns.name}/status/../secrets/s",
    ]
    for path in tricks:
        status, body = raw(server, "bob", f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert status in (400, 403, 404, 301), (path, status, body)
        assert b'"kind":"Secret"' not in body


def raw(server: Server, user: str, request: str) -> tuple[int, bytes]:
    """Send exactly these bytes; the status and everything that came back."""
    context = ssl.create_default_context(cafile=str(server.world.authority.path))
    context.load_cert_chain(*server.world.users[user])
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
        sock.settimeout(10)
        sock.sendall(request.encode("latin-1"))
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return int(answer.split(b" ", 2)[1]), answer


def test_tricks_with_headers(ns: Namespace, bob: httpx.Client, server: Server) -> None:
    attempts: list[list[tuple[str, str]]] = [
        [("x-remote-user", "kubernetes-admin"), ("x-remote-group", "system:masters")],
        [("x-forwarded-user", "kubernetes-admin")],
        [("impersonate-user", "kubernetes-admin"), ("impersonate-group", "system:masters")],
        [("Impersonate_User", "kubernetes-admin")],
        [("impersonate-user", "bob"), ("impersonate-group", "system:masters")],
        [("impersonate-user", "")],
        [("impersonate-uid", "0")],
        [("authorization", "Bearer nonsense")],
        [("x-http-method-override", "GET")],
        [("x-original-url", "/healthz")],
        [("x-rewrite-url", "/healthz")],
        [("transfer-encoding", "chunked"), ("content-length", "0")],
    ]
    for headers in attempts:
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers)
        status, body = raw(server, "bob", f"GET {ns.path('secrets')} HTTP/1.1\r\nhost: x\r\n{lines}connection: close\r\n\r\n")
        assert status in (400, 401, 403, 500), (headers, status, body)
        assert b"SecretList" not in body
    # A request that is hidden in another's body is not looked at.
    hidden = f"GET {ns.path('secrets')} HTTP/1.1\r\nhost: x\r\nimpersonate-user: kubernetes-admin\r\n\r\n"
    smuggled = f"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: {len(hidden)}\r\nconnection: close\r\n\r\n{hidden}"
    _, body = raw(server, "bob", smuggled)
    assert b"SecretList" not in body
    assert body.count(b"HTTP/1.1 ") == 1


def test_a_pod_is_no_way_to_another_account(ns: Namespace, server: Server) -> None:
    """Who may create pods may use the namespace's accounts, as upstream; not their tokens, and not those of other namespaces."""
    grant(ns, "own", rule("create", "", "pods"))
    ns.create("serviceaccounts", {"metadata": {"name": "strong"}})
    with server.client("bob") as bob:
        until_allowed(bob, ns, "create", "", "pods")
        assert bob.post(ns.path("pods"), json=pod("x", serviceAccountName="strong")).status_code == 201
        assert bob.post(ns.path("serviceaccounts", "strong/token"), json={}).status_code == 403
        other = pod("y")
        other["metadata"]["namespace"] = "kube-system"
        assert bob.post(ns.path("pods"), json=other).status_code == 400
        assert bob.post("/api/v1/namespaces/kube-system/pods", json=pod("y")).status_code == 403


def test_answers_do_not_tell_what_exists(ns: Namespace, bob: httpx.Client) -> None:
    ns.create("secrets", {"metadata": {"name": "there"}})
    there, missing = (bob.get(ns.path("secrets", name)) for name in ("there", "missing"))
    assert there.status_code == missing.status_code == 403
    assert there.json()["message"].replace("there", "missing") == missing.json()["message"]
    assert bob.get("/api/v1/namespaces/nowhere/secrets").status_code == 403
