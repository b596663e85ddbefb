"""ValidatingAdmissionPolicy and match conditions, in CEL, at a live apiserver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Kubectl, Obj, config_map, deployment
from tests.apiserver.webhook_server import deny, serving

pytestmark = pytest.mark.live
_GROUP = "/apis/admissionregistration.k8s.io/v1"
_RULE = {"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
Bind = Callable[..., str]


def post(http: httpx.Client, kind: str, name: str, spec: Obj) -> httpx.Response:
    plural = "validatingadmissionpolic" + ("ies" if kind == "ValidatingAdmissionPolicy" else "ybindings")
    obj = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return http.post(f"{_GROUP}/{plural}", json=obj)


@pytest.fixture
def bind(ns: Namespace, http: httpx.Client) -> Iterator[Bind]:
    """Makes a policy and binds it to the test's namespace."""
    made: list[str] = []

    def make(spec: Obj, actions: tuple[str, ...] = ("Deny",), **binding: Any) -> str:
        name = f"{ns.name}-{len(made)}.example.com"
        selector = {"matchLabels": {"kubernetes.io/metadata.name": ns.name}}
        full = {"matchConstraints": {"resourceRules": [_RULE]}, **spec}
        answer = post(http, "ValidatingAdmissionPolicy", name, full)
        assert answer.status_code == 201, answer.text
        bound = {
            "policyName": name,
            "validationActions": list(actions),
            "matchResources": {"namespaceSelector": selector},
            **binding,
        }
        answer = post(http, "ValidatingAdmissionPolicyBinding", name, bound)
        assert answer.status_code == 201, answer.text
        made.append(name)
        return name

    yield make
    for name in made:
        http.delete(f"{_GROUP}/validatingadmissionpolicybindings/{name}")
        http.delete(f"{_GROUP}/validatingadmissionpolicies/{name}")


def create(ns: Namespace, name: str, replicas: int, **more: Any) -> httpx.Response:
    return ns.http.post(ns.path("deployments", group="apps/v1"), json=deployment(name, replicas=replicas, **more))


def test_what_does_not_hold_is_refused_in_upstreams_words(ns, bind):
    rule = {
        "expression": "object.spec.replicas <= variables.most",
        "messageExpression": "'at most %d replicas, not %d'.format([variables.most, object.spec.replicas])",
    }
    name = bind({"variables": [{"name": "most", "expression": "int('5')"}], "validations": [rule]})
    assert create(ns, "few", 5).status_code == 201
    answer = create(ns, "many", 6)
    assert answer.status_code == 422
    text = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: at most 5 replicas, not 6"
    assert answer.json()["message"] == f'deployments.apps "many" is forbidden: {text}'
    assert answer.json()["reason"] == "Invalid"
    # The old object is there as well, and null at creation.
    bind(
        {
            "validations": [
                {"expression": "oldObject == null || object.spec.replicas >= oldObject.spec.replicas", "reason": "Forbidden"}
            ]
        }
    )
    patch = {"headers": {"content-type": "application/merge-patch+json"}}
    answer = ns.http.patch(ns.path("deployments", "few", "apps/v1"), json={"spec": {"replicas": 1}}, **patch)
    assert answer.status_code == 403
    assert "denied request: failed expression: oldObject == null ||" in answer.json()["message"]


def test_warnings_and_failures(ns, bind):
    bind({"validations": [{"expression": "object.metadata.name != 'bad'", "message": "a bad name"}]}, ("Warn", "Audit"))
    answer = create(ns, "bad", 1)
    assert answer.status_code == 201
    assert "with binding" in answer.headers["warning"]
    assert answer.headers["warning"].endswith(': a bad name"')
    # What cannot be evaluated is refused, unless the policy says otherwise.
    name = bind({"validations": [{"expression": "object.spec.missing == 1"}]})
    message = create(ns, "x", 1).json()["message"]
    assert message.endswith("denied request: expression 'object.spec.missing == 1' resulted in error: no such key: missing")
    ns.http.patch(
        f"{_GROUP}/validatingadmissionpolicies/{name}",
        json={"spec": {"failurePolicy": "Ignore"}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert create(ns, "x", 1).status_code == 201


def test_parameters_and_match_conditions(ns, bind):
    spec = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-mine", "expression": "object.metadata.name != 'mine'"}],
        "validations": [{"expression": "string(object.spec.replicas) == params.data.replicas"}],
    }
    bind(spec, paramRef={"name": "limits", "parameterNotFoundAction": "Deny"})
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in create(ns, "x", 3).json()["message"]
    ns.create("configmaps", config_map("limits", replicas="3"))
    assert create(ns, "x", 3).status_code == 201
    assert create(ns, "y", 4).status_code == 422
    assert create(ns, "mine", 4).status_code == 201


def test_the_request_the_namespace_and_the_authorizer(ns, bind, server):
    rules = [
        "request.operation in ['CREATE', 'UPDATE'] && request.userInfo.username == 'kubernetes-admin'",
        "namespaceObject.metadata.name == request.namespace",
        "authorizer.group('').resource('secrets').namespace(request.namespace).check('get').allowed()",
        "authorizer.requestResource.check('create').allowed()",
        "!authorizer.serviceAccount(request.namespace, 'default').group('').resource('secrets').check('get').allowed()",
        "object.spec.template.spec.containers.all(c, quantity(c.?resources.?limits.?cpu.orValue('0')).isLessThan(quantity('2')))",
    ]
    bind({"validations": [{"expression": each} for each in rules]})
    answer = create(ns, "x", 1)
    assert answer.status_code == 201, answer.text


def test_what_is_no_cel_is_not_stored(http):
    spec = {
        "matchConstraints": {"resourceRules": [_RULE]},
        "variables": [{"name": "no-name", "expression": "1"}],
        "validations": [{"expression": "object.x +"}, {"expression": "1"}, {"expression": "variables.gone == 1"}],
    }
    answer = post(http, "ValidatingAdmissionPolicy", "bad.example.com", spec)
    assert answer.status_code == 422
    causes = {each["field"]: each["message"] for each in answer.json()["details"]["causes"]}
    assert "name is not a valid CEL identifier" in causes["spec.variables[0].name"]
    assert "compilation failed: ERROR: <input>:1:" in causes["spec.validations[0].expression"]
    assert causes["spec.validations[1].expression"] == 'Invalid value: "1": must evaluate to bool'
    assert "undefined field 'gone'" in causes["spec.validations[2].expression"]
    answer = post(http, "ValidatingAdmissionPolicyBinding", "bad", {"policyName": "x", "validationActions": ["Deny", "Warn"]})
    assert "must not contain both Deny and Warn" in answer.json()["message"]


def test_match_conditions_of_webhooks(ns, world, http):
    with serving(world.authority) as hooks:
        hooks.on("x", lambda request: deny("no"))
        hook = {
            "name": "x.example.com",
            "clientConfig": {"url": hooks.url("x"), "caBundle": hooks.ca_bundle},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "matchConditions": [
                {"name": "named", "expression": "object.metadata.name.startsWith('x')"},
                {"name": "by-me", "expression": "request.userInfo.username == 'kubernetes-admin'"},
            ],
        }
        obj = {"metadata": {"name": ns.name}, "webhooks": [hook]}
        assert http.post(f"{_GROUP}/validatingwebhookconfigurations", json=obj).status_code == 201
        ns.create("configmaps", config_map("y"))
        ns.create("configmaps", config_map("x"), status=400)
        hook["matchConditions"] = [{"name": "broken", "expression": "object.data.missing == 'x'"}]
        obj["metadata"]["name"] += "-2"
        assert http.post(f"{_GROUP}/validatingwebhookconfigurations", json=obj).status_code == 201
        refused = ns.create("configmaps", config_map("z", a="b"), status=403)
        assert "expression 'object.data.missing == 'x'' resulted in error: no such key: missing" in refused["message"]
        for name in (ns.name, f"{ns.name}-2"):
            http.delete(f"{_GROUP}/validatingwebhookconfigurations/{name}")


def test_kubectl_and_a_policy(ns, bind, server, tmp_path):
    name = bind({"validations": [{"expression": "object.spec.replicas < 2", "message": "one is enough"}]})
    run = Kubectl("kubectl", server.kubeconfig(tmp_path / "config"), tmp_path / "cache")
    done = run.run("create", "deployment", "x", "--image=i", "--replicas=3", "-n", ns.name)
    assert done.returncode == 1
    text = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: one is enough"
    assert done.stderr.strip() == f'error: failed to create deployment: deployments.apps "x" is forbidden: {text}'
    run("create", "deployment", "x", "--image=i", "-n", ns.name)
