"""The audit log: who asked for what, and how much is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kubeling.apiserver.audit.log import AuditLog
from kubeling.apiserver.audit.policy import Policy, Subject, load
from kubeling.apiserver.authn.user import User
from kubeling.daemon.clock import VirtualClock
from kubeling.daemon.main import UsageError
from tests.apiserver.conftest import make_namespace
from tests.apiserver.harness import Obj, Server, World, config_map, wait_until

_POLICY: Obj = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
        {"level": "RequestResponse", "resources": [{"group": "", "resources": ["configmaps"]}], "verbs": ["create"]},
        {"level": "Request", "resources": [{"group": "", "resources": ["configmaps"]}]},
        {"level": "Metadata", "userGroups": ["system:authenticated"]},
    ],
}


def test_the_first_rule_that_matches_counts():
    policy = Policy(_POLICY)
    user = User("bob", ("system:authenticated",))

    def level(verb: str, path: str, **more: str) -> str:
        return policy.decide(Subject(user, verb, path, **more)).level

    assert level("get", "/healthz/etcd") == "None"
    assert level("get", "/version") == "Metadata"
    assert level("create", "/x", resource="secrets") == "Metadata"
    assert level("create", "/x", resource="serviceaccounts", subresource="token") == "Metadata"
    assert level("create", "/x", resource="configmaps") == "RequestResponse"
    assert level("delete", "/x", resource="configmaps") == "Request"
    assert policy.decide(Subject(User("nobody"), "get", "/version")).level == "None"
    only = Policy(
        {"rules": [{"level": "Request", "namespaces": ["a"], "resources": [{"group": "apps", "resources": ["*/scale"]}]}]}
    )
    asked = Subject(user, "update", "/x", "apps", "deployments", "scale", "a")
    assert only.decide(asked).level == "Request"
    assert only.decide(Subject(user, "update", "/x", "apps", "deployments", "scale", "b")).level == "None"
    assert only.decide(Subject(user, "update", "/x", "apps", "deployments", "", "a")).level == "None"


def test_a_policy_that_is_none_is_refused(tmp_path: Path):
    for text, words in (
        ("[]", "has to be a Policy"),
        ("kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: All}]", "level"),
    ):
        (tmp_path / "policy.yaml").write_text(text)
        with pytest.raises(UsageError, match=words):
            load(str(tmp_path / "policy.yaml"))


def test_a_file_that_has_grown_is_put_away(tmp_path: Path):
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    path = tmp_path / "audit.log"
    log = AuditLog(str(path), clock, max_size=1, max_age=3, max_backups=2)
    line = b"x" * (600 * 1024) + b"\n"
    for _ in range(5):
        log.write(line)
        clock._elapsed += timedelta(days=1).total_seconds()
    log.close()
    backups = sorted(each.name for each in tmp_path.glob("audit-*.log"))
    assert backups == ["audit-2026-01-04T00-00-00.000.log", "audit-2026-01-05T00-00-00.000.log"]
    assert path.stat().st_size == len(line)


@pytest.fixture(scope="module")
def audited(world: World) -> Iterator[tuple[Server, Path]]:
    policy, path = world.folder / "policy.yaml", world.folder / "audit.log"
    policy.write_text(json.dumps(_POLICY))
    server = world.start_server(f"--audit-policy-file={policy}", f"--audit-log-path={path}")
    yield server, path
    server.daemon.stop()


def events(path: Path, **wanted: Any) -> list[Obj]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [each for each in found if all(each.get(key) == value for key, value in wanted.items())]


@pytest.mark.live
def test_what_is_said_of_a_request(audited):
    server, path = audited
    with server.client() as http:
        ns = make_namespace(http)
        answer = http.post(ns.path("configmaps"), json=config_map("x", a="b"), headers={"user-agent": "me/1"})
        (event,) = wait_until("the event is there", lambda: events(path, auditID=answer.headers["audit-id"]))
        assert {key: event[key] for key in ("kind", "apiVersion", "level", "stage", "verb", "userAgent")} == {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "RequestResponse",
            "stage": "ResponseComplete",
            "verb": "create",
            "userAgent": "me/1",
        }
        assert event["requestURI"] == ns.path("configmaps")
        assert event["user"]["username"] == "kubernetes-admin"
        assert event["sourceIPs"] == ["127.0.0.1"]
        assert event["objectRef"] == {"resource": "configmaps", "namespace": ns.name, "name": "x", "apiVersion": "v1"}
        assert event["responseStatus"] == {"metadata": {}, "code": 201}
        assert event["requestObject"]["data"] == event["responseObject"]["data"] == {"a": "b"}
        assert "managedFields" not in event["responseObject"]["metadata"]
        assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
        assert event["requestReceivedTimestamp"] <= event["stageTimestamp"]
        # Of secrets nothing but that they were asked for.
        answer = http.post(ns.path("secrets"), json={"metadata": {"name": "s"}, "stringData": {"a": "hush"}})
        (event,) = wait_until("the event is there", lambda: events(path, auditID=answer.headers["audit-id"]))
        assert event["level"] == "Metadata"
        assert "hush" not in json.dumps(event)
        # A watch is told of when it begins and when it ends; a refusal with its reason; somebody else's name with the own.
        with http.stream("GET", ns.path("configmaps"), params={"watch": "1", "timeoutSeconds": "1"}) as watch:
            watch.read()
        begun, ended = wait_until(
            "both events are there", lambda: len(found := events(path, auditID=watch.headers["audit-id"])) == 2 and found
        )
        assert (begun["stage"], ended["stage"]) == ("ResponseStarted", "ResponseComplete")
        answer = http.get(ns.path("secrets"), headers={"impersonate-user": "eve", "audit-id": "mine"})
        assert answer.status_code == 403
        (event,) = wait_until("the event is there", lambda: events(path, auditID="mine"))
        assert event["impersonatedUser"]["username"] == "eve"
        assert event["user"]["username"] == "kubernetes-admin"
        assert event["responseStatus"]["reason"] == "Forbidden"
        assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    with server.client("") as nobody:
        answer = nobody.get("/api/v1/pods", headers={"authorization": "Bearer nonsense"})
        assert answer.status_code == 401
        wait_until("even nobody is noted", lambda: [each for each in events(path) if each["responseStatus"].get("code") == 401])
