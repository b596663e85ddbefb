"""Configuration files of authentication and authorization: several issuers with rules in CEL, anonymous users on some paths, webhooks with conditions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from kubeling.apiserver.authn import configuration as authentication
from kubeling.apiserver.authz import configuration as authorization
from kubeling.daemon.main import UsageError
from tests.apiserver.harness import Obj, Server, World
from tests.apiserver.provider import Provider, provider
from tests.apiserver.test_identities_live import bearer, kubeconfig, who

_live = pytest.mark.live
API = "apiserver.config.k8s.io/v1beta1"


def issuer(url: str, ca: str, **more: Any) -> Obj:
    return {"issuer": {"url": url, "audiences": ["kubeling"], "certificateAuthority": ca, **more}}


@dataclass
class Outside:
    server: Server
    one: Provider
    two: Provider
    asked: list[Obj]
    key: ec.EllipticCurvePrivateKey

    def token(self, url: str, **claims: Any) -> str:
        base = {"iss": url, "aud": "kubeling", "sub": "1", "exp": int(time.time()) + 60}
        return jwt.encode({**base, **claims}, self.key, algorithm="ES256", headers={"kid": "k1"})


@pytest.fixture(scope="module")
def outside(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "k1", "use": "sig", "alg": "ES256"}
    asked: list[Obj] = []

    def first(path: str, body: Obj | None) -> Any:
        return {
            "/.well-known/openid-configuration": {"issuer": one.url, "jwks_uri": one.url + "/keys"},
            "/keys": {"keys": [public]},
        }.get(path)

    def second(path: str, body: Obj | None) -> Any:
        if body is not None:
            asked.append(body["spec"])
            return {"status": {"allowed": body["spec"]["user"] == "two:friend"}}
        # Its issuer is a name under which nothing answers; discovery is somewhere else.
        return {
            "/discovery": {"issuer": "https://issuer.invalid", "jwks_uri": two.url + "/keys"},
            "/keys": {"keys": [public]},
        }.get(path)

    with provider(world.authority, first) as one, provider(world.authority, second) as two:
        ca = world.authority.path.read_text()
        rules = {
            "apiVersion": API,
            "kind": "AuthenticationConfiguration",
            "jwt": [
                {
                    **issuer(one.url, ca, audiences=["kubeling", "other"], audienceMatchPolicy="MatchAny"),
                    "claimValidationRules": [
                        {"claim": "hd", "requiredValue": "example.com"},
                        {"expression": "claims.exp - claims.iat <= 3600", "message": "it lives too long"},
                    ],
                    "claimMappings": {
                        "username": {"expression": "'one:' + claims.sub"},
                        "groups": {"expression": "claims.roles.split(',')"},
                        "uid": {"claim": "uid"},
                        "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
                    },
                    "userValidationRules": [
                        {"expression": "!user.username.startsWith('one:system:')", "message": "reserved"},
                        {"expression": "user.groups.all(group, !group.startsWith('system:'))"},
                    ],
                },
                {
                    **issuer("https://issuer.invalid", ca, discoveryURL=two.url + "/discovery"),
                    "claimMappings": {
                        "username": {"claim": "sub", "prefix": "two:"},
                        "groups": {"claim": "groups", "prefix": ""},
                    },
                },
            ],
            "anonymous": {"enabled": True, "conditions": [{"path": "/livez"}, {"path": "/readyz"}]},
        }
        (folder / "authentication.yaml").write_text(yaml.safe_dump(rules))
        kubeconfig(folder / "webhook.conf", two.url, world.authority)
        webhook = {
            "timeout": "5s",
            "authorizedTTL": "1s",
            "unauthorizedTTL": "1s",
            "cacheAuthorizedRequests": False,
            "cacheUnauthorizedRequests": False,
            "subjectAccessReviewVersion": "v1",
            "matchConditionSubjectAccessReviewVersion": "v1",
            "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "webhook.conf"},
            "matchConditions": [
                {"expression": "has(request.resourceAttributes)"},
                {"expression": "request.resourceAttributes.namespace == 'default'"},
                {"expression": "!('system:masters' in request.groups)"},
                {
                    "expression": "!has(request.resourceAttributes.fieldSelector) || "
                    "request.resourceAttributes.fieldSelector.requirements.all(each, each.key != 'status.phase')"
                },
            ],
        }
        broken = {**webhook, "matchConditions": [{"expression": "request.user == 'two:odd' && request.nothing == 1"}]}
        modes = [
            {"type": "Webhook", "name": "second", "webhook": webhook},
            {"type": "Webhook", "name": "broken", "webhook": broken},
            {"type": "RBAC", "name": "rbac"},
        ]
        document = {"apiVersion": API, "kind": "AuthorizationConfiguration", "authorizers": modes}
        (folder / "authorization.yaml").write_text(yaml.safe_dump(document))
        server = world.start_server(
            f"--authentication-config={folder}/authentication.yaml", f"--authorization-config={folder}/authorization.yaml"
        )
        yield Outside(server, one, two, asked, key)
        server.daemon.stop()


@pytest.fixture
def nobody(outside: Outside) -> Iterator[httpx.Client]:
    with outside.server.client("") as client:
        yield client


@_live
def test_tokens_of_two_issuers(outside: Outside, nobody: httpx.Client) -> None:
    now = int(time.time())
    good = {"sub": "olga", "roles": "a,b", "uid": "7", "tenant": ["x", "y"], "hd": "example.com", "iat": now, "jti": "t1"}

    def first(**changes: Any) -> Any:
        return who(nobody, bearer(outside.token(outside.one.url, **{**good, **changes})))

    assert first() == {
        "username": "one:olga",
        "uid": "7",
        "groups": ["a", "b", "system:authenticated"],
        "extra": {"example.com/tenant": ["x", "y"], "authentication.kubernetes.io/credential-id": ["JTI=t1"]},
    }
    assert first(aud="other")["username"] == "one:olga"
    refused: list[Obj] = [
        {"aud": "third"},
        {"hd": "example.org"},
        {"iat": now - 7200},
        {"sub": "system:admin"},
        {"roles": "a,system:masters"},
        {"roles": 7},
        {"sub": 7},
        {"exp": now - 10},
    ]
    assert [first(**each) for each in refused] == [401] * len(refused)
    token = {key: value for key, value in good.items() if key != "hd"}
    assert who(nobody, bearer(outside.token(outside.one.url, **token))) == 401

    second = who(nobody, bearer(outside.token("https://issuer.invalid", sub="per", groups=["g"])))
    assert second == {"username": "two:per", "groups": ["g", "system:authenticated"]}
    assert who(nobody, bearer(outside.token("https://third.invalid"))) == 401
    with outside.server.client() as admin:
        text = admin.get("/metrics").text
    assert re.search(r'^authentication_attempts_total\{result="failure"\} [1-9]', text, re.MULTILINE)
    assert re.search(r'^authenticated_user_requests_total\{username="other"\} [1-9]', text, re.MULTILINE)
    assert re.search(r'^authorization_attempts_total\{result="allowed"\} [1-9]', text, re.MULTILINE)
    for name in ("authentication_duration_seconds", "authorization_duration_seconds"):
        assert re.search(rf"^{name}_count\{{.*\}} [1-9]", text, re.MULTILINE)


@_live
def test_anonymous_users_come_no_further_than_the_paths_that_are_open(nobody: httpx.Client) -> None:
    assert nobody.get("/livez").status_code == 200
    assert nobody.get("/readyz").status_code == 200
    assert [nobody.get(path).status_code for path in ("/healthz", "/version", "/api", "/livez/ping", "/readyz/../api")] == [
        401
    ] * 5


@_live
def test_a_webhook_is_asked_where_its_conditions_hold(outside: Outside, nobody: httpx.Client) -> None:
    def status(user: str, path: str) -> int:
        return nobody.get(path, headers=bearer(outside.token("https://issuer.invalid", sub=user))).status_code

    outside.asked.clear()
    assert status("friend", "/api/v1/namespaces/default/pods") == 200
    assert status("foe", "/api/v1/namespaces/default/pods") == 403
    assert [each["user"] for each in outside.asked] == ["two:friend", "two:foe"]
    assert "fieldSelector" not in outside.asked[0]["resourceAttributes"]
    assert status("friend", "/api/v1/namespaces/default/pods?fieldSelector=spec.nodeName%3Dn1&labelSelector=a") == 200
    attributes = outside.asked.pop()["resourceAttributes"]
    assert attributes["fieldSelector"] == {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}
    assert attributes["labelSelector"] == {"requirements": [{"key": "a", "operator": "Exists"}]}
    # One of its conditions is about the selector.
    assert status("friend", "/api/v1/namespaces/default/pods?fieldSelector=status.phase%3DFailed") == 403
    assert status("friend", "/api/v1/namespaces/kube-system/pods") == 403
    assert status("friend", "/api") == 200
    with outside.server.client() as admin:
        assert admin.get("/api/v1/namespaces/default/pods").status_code == 200
    assert len(outside.asked) == 2
    # A condition without a value: the file says that it is a refusal.
    answer = nobody.get("/api", headers=bearer(outside.token("https://issuer.invalid", sub="odd")))
    assert (answer.status_code, "the authorizer broken failed" in answer.text) == (403, True)


def _authentication(**more: Any) -> Obj:
    mapped = {"claimMappings": {"username": {"claim": "sub", "prefix": ""}}}
    return {
        "apiVersion": API,
        "kind": "AuthenticationConfiguration",
        "jwt": [{"issuer": {"url": "https://a", "audiences": ["b"]}, **mapped, **more}],
    }


BAD_AUTHENTICATION = [
    ({**_authentication(), "kind": "Other"}, "of kind AuthenticationConfiguration"),
    ({**_authentication(), "apiVersion": "v1"}, "apiVersion: Unsupported value"),
    ({**_authentication(), "jtw": []}, "unknown field 'jtw'"),
    (_authentication(issuer={"url": "http://a", "audiences": ["b"]}), "issuer.url: Invalid value"),
    (_authentication(issuer={"url": "https://a", "audiences": []}), "issuer.audiences: Required value"),
    (_authentication(issuer={"url": "https://a", "audiences": ["b", "c"]}), "audienceMatchPolicy must be MatchAny"),
    (_authentication(issuer={"url": "https://a", "discoveryURL": "https://a", "audiences": ["b"]}), "must be different from URL"),
    (_authentication(claimMappings={}), "username: Required value"),
    (_authentication(claimMappings={"username": {"claim": "sub"}}), "prefix is required when claim is set"),
    (_authentication(claimMappings={"username": {"expression": "claims.sub", "prefix": ""}}), "prefix can't be set"),
    (_authentication(claimMappings={"username": {"expression": "claims."}}), "username.expression: Invalid value"),
    (_authentication(claimMappings={"username": {"expression": "claims.email"}}), "claims.email_verified must be used"),
    (_authentication(claimValidationRules=[{"claim": "a", "expression": "true"}]), "exactly one of claim and expression"),
    (_authentication(userValidationRules=[{"expression": "'text'"}]), "must evaluate to bool"),
    ({**_authentication(), "jwt": _authentication()["jwt"] * 2}, "issuer.url: Duplicate value"),
    ({**_authentication(), "anonymous": {"enabled": False, "conditions": [{"path": "/a"}]}}, "enabled should be set to true"),
]


@pytest.mark.parametrize(("document", "words"), BAD_AUTHENTICATION, ids=[words for _, words in BAD_AUTHENTICATION])
def test_what_is_wrong_in_an_authentication_configuration_is_said(document: Obj, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError) as caught:
        authentication.read(str(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def _authorization(*authorizers: Obj) -> Obj:
    return {"apiVersion": API, "kind": "AuthorizationConfiguration", "authorizers": list(authorizers)}


_WEBHOOK = {
    "timeout": "3s",
    "subjectAccessReviewVersion": "v1",
    "failurePolicy": "NoOpinion",
    "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "x"},
}
BAD_AUTHORIZATION = [
    (_authorization(), "at least one authorization mode"),
    (_authorization({"type": "ABAC", "name": "a"}), "type: Unsupported value: 'ABAC'"),
    (_authorization({"type": "RBAC"}), "name: Required value"),
    (_authorization({"type": "RBAC", "name": "a"}, {"type": "Node", "name": "a"}), "Duplicate value: 'a'"),
    (_authorization({"type": "RBAC", "name": "a"}, {"type": "RBAC", "name": "b"}), "Duplicate value: 'RBAC'"),
    (_authorization({"type": "RBAC", "name": "a", "webhook": _WEBHOOK}), "for no other"),
    (_authorization({"type": "Webhook", "name": "a"}), "has to be there for the type Webhook"),
    (_authorization({"type": "Webhook", "name": "a", "webhook": {**_WEBHOOK, "timeout": "31s"}}), "at most 30s"),
    (
        _authorization({"type": "Webhook", "name": "a", "webhook": {**_WEBHOOK, "failurePolicy": "Ignore"}}),
        "failurePolicy: Unsupported",
    ),
    (
        _authorization({"type": "Webhook", "name": "a", "webhook": {**_WEBHOOK, "matchConditions": [{"expression": "a b"}]}}),
        "Invalid value: 'a b'",
    ),
]


@pytest.mark.parametrize(("document", "words"), BAD_AUTHORIZATION, ids=[words for _, words in BAD_AUTHORIZATION])
def test_what_is_wrong_in_an_authorization_configuration_is_said(document: Obj, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError) as caught:
        authorization.read(str(path))
    assert words in str(caught.value)


@_live
@pytest.mark.parametrize(
    "flags",
    [
        ["--authentication-config=FILE", "--anonymous-auth=false"],
        ["--authentication-config=FILE", "--oidc-issuer-url=https://a", "--oidc-client-id=b"],
        ["--authorization-config=FILE", "--authorization-mode=RBAC"],
    ],
    ids=str,
)
def test_flags_and_files_that_say_the_same_exclude_each_other(flags: list[str], world: World, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    document = (
        {**_authentication(), "anonymous": {"enabled": True}}
        if "authentication" in flags[0]
        else _authorization({"type": "RBAC", "name": "r"})
    )
    path.write_text(yaml.safe_dump(document))
    cert, key = world.users["server"]
    argv = [
        sys.executable,
        "-m",
        "kubeling.apiserver",
        "--etcd-servers",
        world.store_url,
        "--tls-cert-file",
        cert,
        "--tls-private-key-file",
        key,
    ]
    argv += ["--secure-port=0", *(each.replace("FILE", str(path)) for each in flags)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "exclude each other" in done.stderr or "cannot be given" in done.stderr, done.stderr
