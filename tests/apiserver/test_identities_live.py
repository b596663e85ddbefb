"""The ways to be known: bootstrap tokens, tokens in Secrets, OIDC, webhooks, an authenticating proxy, impersonation, and nobody."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import Authority, Obj, Server, World, pod, wait_until
from tests.apiserver.provider import Provider, provider

pytestmark = pytest.mark.live

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def who(client: httpx.Client, headers: Any = None) -> Obj | int:
    """The user that a client is, or the status of the refusal."""
    answer = client.post(WHO, json={}, headers=headers)
    return answer.json()["status"]["userInfo"] if answer.status_code == 201 else answer.status_code


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@dataclass
class Outside:
    """What the server of this module believes in, besides its own."""

    server: Server
    oidc: Provider
    webhook: Provider
    key: ec.EllipticCurvePrivateKey
    proxies: Authority
    tokens: dict[str, Obj]
    verdicts: dict[str, Obj]

    def token(self, **claims: Any) -> str:
        """A token of the OIDC provider."""
        base = {"iss": self.oidc.url, "aud": "kubeling", "sub": "1", "name": "olga", "exp": int(time.time()) + 60, "team": "a"}
        return jwt.encode({**base, **claims}, self.key, algorithm="ES256", headers={"kid": "k1"})


@pytest.fixture(scope="module")
def outside(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    key = ec.generate_private_key(ec.SECP256R1())
    proxies = Authority(folder, "proxies")
    tokens: dict[str, Obj] = {}
    verdicts: dict[str, Obj] = {}

    def identity(path: str, body: Obj | None) -> Any:
        if path == "/.well-known/openid-configuration":
            return {"issuer": oidc.url, "jwks_uri": oidc.url + "/keys"}
        public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
        return {"keys": [{**public, "kid": "k1", "use": "sig", "alg": "ES256"}]} if path == "/keys" else None

    def review(path: str, body: Obj | None) -> Any:
        assert body is not None
        if body["kind"] == "TokenReview":
            return {"status": tokens.get(body["spec"]["token"], {"authenticated": False})}
        return {"status": verdicts.get(body["spec"]["user"], {"allowed": False})}

    with provider(world.authority, identity) as oidc, provider(world.authority, review) as webhook:
        config = kubeconfig(folder / "webhook.conf", webhook.url, world.authority)
        server = world.start_server(
            "--enable-bootstrap-token-auth",
            f"--oidc-issuer-url={oidc.url}",
            "--oidc-client-id=kubeling",
            "--oidc-username-claim=name",
            "--oidc-username-prefix=oidc:",
            "--oidc-groups-claim=groups",
            "--oidc-groups-prefix=oidc:",
            "--oidc-required-claim=team=a",
            "--oidc-signing-algs=ES256",
            f"--oidc-ca-file={world.authority.path}",
            f"--authentication-token-webhook-config-file={config}",
            "--authentication-token-webhook-version=v1",
            f"--requestheader-client-ca-file={proxies.path}",
            "--requestheader-allowed-names=front",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--authorization-mode=RBAC,Webhook",
            f"--authorization-webhook-config-file={config}",
            "--authorization-webhook-version=v1",
            "--authorization-webhook-cache-authorized-ttl=0s",
            "--authorization-webhook-cache-unauthorized-ttl=0s",
        )
        yield Outside(server, oidc, webhook, key, proxies, tokens, verdicts)
        server.daemon.stop()


def kubeconfig(path: Path, url: str, authority: Authority) -> Path:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(authority.path)}}],
        "users": [{"name": "u", "user": {"token": "let-me-in"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def nobody(outside: Outside) -> Iterator[httpx.Client]:
    with outside.server.client("") as client:
        yield client


@pytest.fixture
def admin(outside: Outside) -> Iterator[httpx.Client]:
    with outside.server.client() as client:
        yield client


def bootstrap_token(identity: str, secret: str, **data: str) -> Obj:
    base = {"token-id": identity, "token-secret": secret, "usage-bootstrap-authentication": "true", **data}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in base.items()}
    return {"metadata": {"name": f"bootstrap-token-{identity}"}, "type": "bootstrap.kubernetes.io/token", "data": encoded}


def test_a_browser_shows_its_token_as_a_subprotocol(ns: Namespace, server: Server) -> None:
    """Browsers cannot set a header on a WebSocket (kubernetes/kubernetes#47740)."""
    ns.create("pods", pod("p"))
    encoded = base64.urlsafe_b64encode(b"admin-token").decode().rstrip("=")
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "eHh4eHh4eHh4eHh4eHh4eA==",
    }
    prefix = "base64url.bearer.authorization.k8s.io."
    path = ns.path("pods", "p/log")
    with server.client("") as nobody:

        def ask(protocols: str) -> int:
            return nobody.get(path, headers={**upgrade, "sec-websocket-protocol": protocols}).status_code

        assert ask("v4.channel.k8s.io") == 403
        assert ask(f"{prefix}{encoded}, v4.channel.k8s.io") not in (401, 403)
        assert ask(f"v4.channel.k8s.io, {prefix}{encoded[:-2]}") == 401
        assert ask(f"{prefix}!!, v4.channel.k8s.io") == 401
        # It needs another to be chosen.
        assert ask(f"{prefix}{encoded}") == 401


def test_bootstrap_tokens(admin: httpx.Client, nobody: httpx.Client) -> None:
    path = "/api/v1/namespaces/kube-system/secrets"
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    good = bootstrap_token("abcdef", "0123456789abcdef", expiration=later, **{"auth-extra-groups": "system:bootstrappers:node"})
    bad = {
        "aaaaaa": bootstrap_token("aaaaaa", "0123456789abcdef", expiration="2020-01-01T00:00:00Z"),
        "bbbbbb": bootstrap_token("bbbbbb", "0123456789abcdef", **{"usage-bootstrap-authentication": "false"}),
        "cccccc": bootstrap_token("cccccc", "0123456789abcdef", **{"auth-extra-groups": "system:masters"}),
        "dddddd": {**bootstrap_token("dddddd", "0123456789abcdef"), "type": "Opaque"},
        "eeeeee": bootstrap_token("eeeeee", "0123456789abcdee"),
    }
    for each in (good, *bad.values()):
        assert admin.post(path, json=each).status_code == 201
    wait_until("the token is known", lambda: who(nobody, bearer("abcdef.0123456789abcdef")) != 401)
    assert who(nobody, bearer("abcdef.0123456789abcdef")) == {
        "username": "system:bootstrap:abcdef",
        "groups": ["system:bootstrappers", "system:bootstrappers:node", "system:authenticated"],
    }
    assert [who(nobody, bearer(f"{each}.0123456789abcdef")) for each in bad] == [401] * len(bad)
    assert admin.delete(f"{path}/bootstrap-token-abcdef").is_success
    wait_until("the token is worth nothing", lambda: who(nobody, bearer("abcdef.0123456789abcdef")) == 401)


def test_a_token_in_a_secret_is_good_for_as_long_as_the_secret(
    outside: Outside, admin: httpx.Client, nobody: httpx.Client
) -> None:
    ns = make_namespace(admin)
    account = ns.get("serviceaccounts", "default")
    key = (outside.server.world.folder / "sa.key").read_bytes()
    prefix = "kubernetes.io/serviceaccount/"
    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": f"system:serviceaccount:{ns.name}:default",
        f"{prefix}namespace": ns.name,
        f"{prefix}secret.name": "t",
        f"{prefix}service-account.name": "default",
        f"{prefix}service-account.uid": account["metadata"]["uid"],
    }
    own = ns.http.post(ns.path("serviceaccounts", "default/token"), json={}).json()["status"]["token"]
    private: Any = serialization.load_pem_private_key(key, None)
    token = jwt.encode(claims, private, algorithm="ES256", headers={"kid": jwt.get_unverified_header(own)["kid"]})
    assert who(nobody, bearer(token)) == 401
    annotations = {"kubernetes.io/service-account.name": "default"}
    data = {"token": base64.b64encode(token.encode()).decode()}
    secret = {"metadata": {"name": "t", "annotations": annotations}, "type": "kubernetes.io/service-account-token", "data": data}
    ns.create("secrets", secret)
    found = who(nobody, bearer(token))
    assert isinstance(found, dict)
    assert found["username"] == f"system:serviceaccount:{ns.name}:default"
    assert f"system:serviceaccounts:{ns.name}" in found["groups"]
    day = r"\d{4}-\d\d-\d\d"
    used = ns.get("secrets", "t")["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"]
    assert re.fullmatch(day, used)
    tracking = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking"
    assert re.fullmatch(day, admin.get(tracking).json()["data"]["since"])

    def mark(value: str | None) -> None:
        ns.http.patch(
            ns.path("secrets", "t"),
            json={"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": value}}},
            headers={"content-type": "application/merge-patch+json"},
        ).raise_for_status()

    mark(used)
    wait_until("it is refused as marked", lambda: who(nobody, bearer(token)) == 401)
    mark(None)
    wait_until("and good again without the mark", lambda: who(nobody, bearer(token)) != 401)
    assert admin.delete(ns.path("secrets", "t")).is_success
    wait_until("the token is worth nothing", lambda: who(nobody, bearer(token)) == 401)


def test_a_token_dies_with_its_account_secret_and_node(outside: Outside, admin: httpx.Client, nobody: httpx.Client) -> None:
    ns = make_namespace(admin)
    ns.create("secrets", {"metadata": {"name": "s"}})
    assert admin.post("/api/v1/nodes", json={"metadata": {"name": ns.name}}).status_code == 201
    for kind, name, path in (
        ("Secret", "s", ns.path("secrets", "s")),
        ("Node", ns.name, f"/api/v1/nodes/{ns.name}"),
        ("", "", ""),
    ):
        ns.http.post(ns.path("serviceaccounts"), json={"metadata": {"name": "robot"}})
        reference = {"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}} if kind else {}
        answer = admin.post(ns.path("serviceaccounts", "robot/token"), json={"spec": reference})
        token = answer.json()["status"]["token"]
        assert isinstance(who(nobody, bearer(token)), dict)
        assert admin.delete(path or ns.path("serviceaccounts", "robot")).is_success
        wait_until(f"the token dies with its {kind or 'account'}", lambda token=token: who(nobody, bearer(token)) == 401)


def test_the_token_of_an_account_of_the_same_name_is_not_the_old_ones(admin: httpx.Client, nobody: httpx.Client) -> None:
    ns = make_namespace(admin)
    token = admin.post(ns.path("serviceaccounts", "default/token"), json={}).json()["status"]["token"]
    assert admin.delete(ns.path("serviceaccounts", "default")).is_success
    ns.create("serviceaccounts", {"metadata": {"name": "default"}})
    wait_until("the new account is seen", lambda: who(nobody, bearer(token)) == 401)


def test_a_token_for_somebody_else_is_none_of_ours(ns: Namespace, server: Server) -> None:
    answer = ns.http.post(ns.path("serviceaccounts", "default/token"), json={"spec": {"audiences": ["vault"]}})
    token = answer.json()["status"]["token"]
    with server.client("") as client:
        assert who(client, bearer(token)) == 401
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    review = ns.http.post(path, json={"spec": {"token": token, "audiences": ["vault", "other"]}}).json()["status"]
    assert review["authenticated"] is True
    assert review["audiences"] == ["vault"]
    assert ns.http.post(path, json={"spec": {"token": token}}).json()["status"]["authenticated"] is False
    admins = ns.http.post(path, json={"spec": {"token": "admin-token", "audiences": ["vault"]}}).json()["status"]
    assert admins["authenticated"] is False


def test_oidc(outside: Outside, nobody: httpx.Client) -> None:
    found = who(nobody, bearer(outside.token(groups=["ops", "dev"], jti="7")))
    assert isinstance(found, dict)
    assert found["username"] == "oidc:olga"
    assert found["groups"] == ["oidc:ops", "oidc:dev", "system:authenticated"]
    assert found["extra"] == {"authentication.kubernetes.io/credential-id": ["JTI=7"]}
    other = ec.generate_private_key(ec.SECP256R1())
    bad = [
        outside.token(aud="somebody-else"),
        outside.token(exp=int(time.time()) - 1),
        outside.token(nbf=int(time.time()) + 60),
        outside.token(team="b"),
        outside.token(name=None),
        outside.token(name=["olga"]),
        outside.token(groups={"a": 1}),
        outside.token(iss="https://example.com"),
        jwt.encode(
            jwt.decode(outside.token(), options={"verify_signature": False}), other, algorithm="ES256", headers={"kid": "k1"}
        ),
        jwt.encode(
            jwt.decode(outside.token(), options={"verify_signature": False}), "x" * 32, algorithm="HS256", headers={"kid": "k1"}
        ),
        jwt.encode(jwt.decode(outside.token(), options={"verify_signature": False}), None, algorithm="none"),
    ]
    assert [who(nobody, bearer(each)) for each in bad] == [401] * len(bad)
    before = len(outside.oidc.asked)
    for at in range(5):
        token = jwt.encode(
            jwt.decode(outside.token(), options={"verify_signature": False}),
            other,
            algorithm="ES256",
            headers={"kid": f"new{at}"},
        )
        assert who(nobody, bearer(token)) == 401
    assert len(outside.oidc.asked) <= before + 2


def test_the_token_webhook_is_asked_once(outside: Outside, nobody: httpx.Client) -> None:
    user = {"username": "wanda", "uid": "9", "groups": ["w"], "extra": {"Scopes": ["a"]}}
    outside.tokens["hook"] = {"authenticated": True, "user": user}
    before = len(outside.webhook.asked)
    for _ in range(5):
        found = who(nobody, bearer("hook"))
        assert isinstance(found, dict)
        assert (found["username"], found["uid"], found["extra"]) == ("wanda", "9", {"scopes": ["a"]})
    asked = [body for _, body in outside.webhook.asked[before:] if body and body["kind"] == "TokenReview"]
    assert len(asked) == 1
    assert asked[0]["apiVersion"] == "authentication.k8s.io/v1"
    assert outside.webhook.headers[-1]["authorization"] == "Bearer let-me-in"
    assert who(nobody, bearer("unknown")) == 401


def test_the_authorization_webhook_has_the_last_word(outside: Outside, admin: httpx.Client) -> None:
    as_walt = {"impersonate-user": "walt"}
    assert admin.get("/api/v1/nodes", headers=as_walt).status_code == 403
    outside.verdicts["walt"] = {"allowed": True, "reason": "because"}
    assert admin.get("/api/v1/nodes", headers=as_walt).status_code == 200
    assert admin.get("/metrics", headers=as_walt).status_code == 200
    _, body = outside.webhook.asked[-2]
    assert body is not None
    assert body["spec"]["resourceAttributes"] == {"verb": "list", "version": "v1", "resource": "nodes"}
    outside.verdicts["walt"] = {"allowed": False, "denied": True, "reason": "no more"}
    assert admin.get("/api/v1/nodes", headers=as_walt).json()["message"].endswith(": no more")


def test_a_front_proxy_speaks_for_others(outside: Outside) -> None:
    world = outside.server.world
    world.users["front"] = outside.proxies.issue("front", file="front")
    world.users["rear"] = outside.proxies.issue("rear", file="rear")
    headers = [("x-remote-user", "fritz"), ("x-remote-group", "a"), ("X-Remote-Group", "b"), ("x-remote-extra-scopes%2fx", "s")]
    with outside.server.client("front") as front, outside.server.client("rear") as rear:
        assert who(front, headers) == {
            "username": "fritz",
            "groups": ["a", "b", "system:authenticated"],
            "extra": {"scopes/x": ["s"]},
        }
        assert who(front) == 401
        assert who(rear, headers) == 401
    with outside.server.client("bob") as bob, outside.server.client("") as nobody:
        found = who(bob, headers)
        assert isinstance(found, dict)
        assert found["username"] == "bob"
        assert who(nobody, headers) == 403


def test_impersonation_takes_a_right_for_each_part(ns: Namespace, server: Server) -> None:
    def grant(name: str, rules: list[Obj]) -> None:
        assert ns.http.post(f"{RBAC}/clusterroles", json={"metadata": {"name": name}, "rules": rules}).status_code == 201
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        assert ns.http.post(f"{RBAC}/clusterrolebindings", json=binding).status_code == 201

    def rule(group: str, resource: str, *names: str) -> Obj:
        found: Obj = {"verbs": ["impersonate"], "apiGroups": [group], "resources": [resource]}
        return {**found, "resourceNames": list(names)} if names else found

    with server.client("bob") as bob:
        assert who(bob, {"impersonate-user": "carl"}) == 403
        grant(f"{ns.name}-users", [rule("", "users", "carl"), rule("", "serviceaccounts")])
        wait_until("bob may be carl", lambda: isinstance(who(bob, {"impersonate-user": "carl"}), dict))
        assert who(bob, {"impersonate-user": "dave"}) == 403
        account = who(bob, {"impersonate-user": "system:serviceaccount:x:robot"})
        assert isinstance(account, dict)
        assert account["groups"] == ["system:serviceaccounts", "system:serviceaccounts:x", "system:authenticated"]
        whole = [
            ("impersonate-user", "carl"),
            ("impersonate-group", "devs"),
            ("impersonate-uid", "u1"),
            ("impersonate-extra-scopes%2fa", "s1"),
        ]
        refused = bob.post(WHO, json={}, headers=whole[:2]).json()["message"]
        assert (
            refused
            == 'groups "devs" is forbidden: User "bob" cannot impersonate resource "groups" in API group "" at the cluster scope'
        )
        rules = [rule("", "groups", "devs"), rule("authentication.k8s.io", "uids", "u1")]
        grant(f"{ns.name}-more", [*rules, rule("authentication.k8s.io", "userextras/scopes/a", "s1")])
        wait_until("bob may be all of it", lambda: isinstance(who(bob, whole), dict))
        assert who(bob, whole) == {
            "username": "carl",
            "uid": "u1",
            "groups": ["devs", "system:authenticated"],
            "extra": {"scopes/a": ["s1"]},
        }
        assert who(bob, [*whole, ("impersonate-group", "system:masters")]) == 403
        assert who(bob, [*whole, ("impersonate-extra-scopes%2fa", "s2")]) == 403
        assert who(bob, {"impersonate-group": "devs"}) == 500
    with server.client("") as nobody:
        assert who(nobody, {"impersonate-user": "carl"}) == 403


def test_nobody_at_all(world: World) -> None:
    server = world.start_server("--anonymous-auth=false")
    with server.client("") as nobody, server.client() as admin:
        assert nobody.get("/api/v1/nodes").status_code == 401
        assert nobody.get("/version").status_code == 401
        assert admin.get("/version").status_code == 200
        found = who(admin)
        assert isinstance(found, dict)
        assert found["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")
    server.daemon.stop()


def test_everybody(world: World) -> None:
    server = world.start_server("--authorization-mode=AlwaysAllow")
    with server.client("bob") as bob, server.client("") as nobody:
        assert bob.get("/api/v1/nodes").status_code == 200
        assert nobody.get("/api/v1/nodes").status_code == 200
    server.daemon.stop()
