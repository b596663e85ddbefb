"""What is refused of the kinds that few write by hand: fields, and the wording."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubeling.api import resources as r
from kubeling.api.defaults import apply_defaults
from kubeling.api.meta import Object
from kubeling.api.resources import Resource
from kubeling.api.validation import validate_create, validate_status_update, validate_update


def request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


RULE = {
    "subjects": [{"kind": "User", "user": {"name": "u"}}],
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
}
GOOD: dict[Resource, Object] = {
    r.FLOW_SCHEMAS: {"spec": {"matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "l"}, "rules": [RULE]}},
    r.PRIORITY_LEVEL_CONFIGURATIONS: {
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 8, "handSize": 2}}}}
    },
    r.CSI_DRIVERS: {"spec": {}},
    r.CSI_NODES: {"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n"}]}},
    r.CSI_STORAGE_CAPACITIES: {"metadata": {"namespace": "n"}, "storageClassName": "fast", "capacity": "1Gi"},
    r.VOLUME_ATTACHMENTS: {"spec": {"attacher": "d.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
    r.STORAGE_CLASSES: {"provisioner": "example.com/p"},
    r.RUNTIME_CLASSES: {"handler": "runc"},
    r.CERTIFICATE_SIGNING_REQUESTS: {
        "spec": {"request": request(), "signerName": "example.com/signer", "usages": ["client auth"]},
    },
    r.INGRESS_CLASSES: {"spec": {"controller": "example.com/c", "parameters": {"kind": "P", "name": "p"}}},
    r.NETWORK_POLICIES: {
        "metadata": {"namespace": "n"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]},
    },
    r.RESOURCE_QUOTAS: {"metadata": {"namespace": "n"}, "spec": {"hard": {"pods": "1", "count/jobs.batch": "2"}}},
    r.LIMIT_RANGES: {
        "metadata": {"namespace": "n"},
        "spec": {
            "limits": [{"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "4"}}, {"type": "Pod", "max": {"cpu": "8"}}]
        },
    },
    r.PERSISTENT_VOLUMES: {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"}}},
    r.CONTROLLER_REVISIONS: {"metadata": {"namespace": "n"}, "data": {"a": 1}, "revision": 1},
    r.SERVICE_CIDRS: {"spec": {"cidrs": ["10.0.0.0/16"]}},
    r.HORIZONTAL_POD_AUTOSCALERS: {
        "metadata": {"namespace": "n"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
            ],
        },
    },
}


def made(resource: Resource, change: dict[str, Any] | None = None) -> Object:
    """A good object, with values put at paths; None takes one away."""
    obj = deepcopy(GOOD[resource])
    metadata = obj.setdefault("metadata", {})
    metadata.setdefault("name", "d.example.com" if resource == r.CSI_DRIVERS else "x")
    metadata.setdefault("uid", "u")
    obj |= {"apiVersion": resource.group_version, "kind": resource.kind}
    for path, value in (change or {}).items():
        *parents, last = (int(each) if each.isdigit() else each for each in path.split("."))
        at: Any = obj
        for each in parents:
            at = at[each] if isinstance(each, int) else at.setdefault(each, {})
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value
    apply_defaults(obj)
    return obj


def shown(errors: Any) -> list[str]:
    return [f"{each.field}: {each.detail}" for each in errors]


@pytest.mark.parametrize("resource", list(GOOD), ids=lambda each: each.plural)
def test_what_is_right_passes(resource: Resource) -> None:
    obj = made(resource)
    assert shown(validate_create(obj, resource)) == []
    assert shown(validate_update(deepcopy(obj), obj, resource)) == []


Q = "spec.limited.limitResponse.queuing"
M = "spec.metrics.0.resource.target"


@pytest.mark.parametrize(
    ("resource", "change", "error"),
    [
        (
            r.FLOW_SCHEMAS,
            {"spec.matchingPrecedence": 1},
            "spec.matchingPrecedence: only the schema named 'exempt' may have matchingPrecedence 1",
        ),
        (r.FLOW_SCHEMAS, {"spec.matchingPrecedence": 10001}, "spec.matchingPrecedence: must not be greater than 10000"),
        (
            r.FLOW_SCHEMAS,
            {"spec.priorityLevelConfiguration.name": ""},
            "spec.priorityLevelConfiguration.name: must reference a priority level",
        ),
        (r.FLOW_SCHEMAS, {"spec.rules.0.subjects": []}, "spec.rules[0].subjects: subjects must contain at least one value"),
        (
            r.FLOW_SCHEMAS,
            {"spec.rules.0.subjects": [{"kind": "Group", "user": {"name": "u"}, "group": {"name": "g"}}]},
            "spec.rules[0].subjects[0].user: user is forbidden when subject kind is not 'User'",
        ),
        (
            r.FLOW_SCHEMAS,
            {"spec.rules.0.resourceRules.0.namespaces": []},
            "spec.rules[0].resourceRules[0].namespaces: resource rules that are not cluster scoped must supply at least one namespace",
        ),
        (
            r.FLOW_SCHEMAS,
            {"spec.rules.0.resourceRules.0.verbs": ["*", "get"]},
            "spec.rules[0].resourceRules[0].verbs: if '*' is present, must not specify other verbs",
        ),
        (r.PRIORITY_LEVEL_CONFIGURATIONS, {f"{Q}.handSize": 9}, f"{Q}.handSize: should not be greater than queues (8)"),
        (
            r.PRIORITY_LEVEL_CONFIGURATIONS,
            {f"{Q}.handSize": 8, f"{Q}.queues": 1000},
            f"{Q}.handSize: required entropy bits of deckSize 1000 and handSize 8 should not be greater than 60, is 80",
        ),
        (
            r.PRIORITY_LEVEL_CONFIGURATIONS,
            {"spec.limited.limitResponse.type": "Reject"},
            f"{Q}: must be nil if limited.limitResponse.type is not Limited",
        ),
        (
            r.PRIORITY_LEVEL_CONFIGURATIONS,
            {"spec.limited.lendablePercent": 101},
            "spec.limited.lendablePercent: must be between 0 and 100, inclusive",
        ),
        (
            r.CSI_DRIVERS,
            {"spec.tokenRequests": [{"audience": "a", "expirationSeconds": 5}]},
            "spec.tokenRequests[0].expirationSeconds: may not specify a duration less than 10 minutes",
        ),
        (r.CSI_NODES, {"spec.drivers.0.nodeID": ""}, "spec.drivers[0].nodeID: "),
        (
            r.CSI_NODES,
            {"spec.drivers.0.allocatable": {"count": -1}},
            "spec.drivers[0].allocatable.count: must be greater than or equal to 0",
        ),
        (r.CSI_STORAGE_CAPACITIES, {"storageClassName": ""}, "storageClassName: "),
        (r.CSI_STORAGE_CAPACITIES, {"capacity": "-1"}, "capacity: must be greater than or equal to 0"),
        (
            r.VOLUME_ATTACHMENTS,
            {"spec.source": {}},
            "spec.source: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (r.STORAGE_CLASSES, {"parameters": {"": "x"}}, "parameters: field can not be empty."),
        (
            r.RUNTIME_CLASSES,
            {"overhead": {"podFixed": {"cpu": "-1"}}},
            "overhead.limits[cpu]: must be greater than or equal to 0",
        ),
        (
            r.CERTIFICATE_SIGNING_REQUESTS,
            {"spec.request": "aGFsbG8="},
            "spec.request: PEM block type must be CERTIFICATE REQUEST",
        ),
        (r.CERTIFICATE_SIGNING_REQUESTS, {"spec.usages": ["client auth", "client auth"]}, "spec.usages[1]: "),
        (
            r.CERTIFICATE_SIGNING_REQUESTS,
            {"spec.signerName": "signer"},
            "spec.signerName: must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            r.CERTIFICATE_SIGNING_REQUESTS,
            {"spec.signerName": "example/signer"},
            "spec.signerName: should be a domain with at least two segments separated by dots",
        ),
        (
            r.INGRESS_CLASSES,
            {"spec.parameters.namespace": "n"},
            "spec.parameters.namespace: `parameters.scope` is set to 'Cluster'",
        ),
        (
            r.NETWORK_POLICIES,
            {"spec.ingress.0.from.0.ipBlock.except": ["11.0.0.0/16"]},
            "spec.ingress[0].from[0].ipBlock.except[0]: must be a strict subset of `cidr`",
        ),
        (r.RESOURCE_QUOTAS, {"spec.hard.things": "1"}, "spec.hard[things]: must be a standard resource for quota"),
        (r.RESOURCE_QUOTAS, {"spec.scopes": ["Odd"]}, "spec.scopes: unsupported scope"),
        (r.RESOURCE_QUOTAS, {"spec.scopes": ["BestEffort", "NotBestEffort"]}, "spec.scopes: conflicting scopes"),
        (
            r.RESOURCE_QUOTAS,
            {"spec.scopes": ["BestEffort"], "spec.hard.cpu": "1"},
            "spec.scopes: unsupported scope applied to resource",
        ),
        (r.RESOURCE_QUOTAS, {"spec.hard.pods": "1.5"}, "spec.hard[pods]: must be an integer"),
        (
            r.LIMIT_RANGES,
            {"spec.limits.0.min": {"cpu": "5"}, "spec.limits.0.default": {"cpu": "2"}},
            "spec.limits[0].min[cpu]: min value 5 is greater than max value 4",
        ),
        (
            r.LIMIT_RANGES,
            {"spec.limits.0.maxLimitRequestRatio": {"cpu": "5"}},
            "spec.limits[0].maxLimitRequestRatio[cpu]: ratio 5 is greater than max/min = 4.000000",
        ),
        (
            r.LIMIT_RANGES,
            {"spec.limits.0.max": {"things": "1"}},
            "spec.limits[0].max[things]: must be a standard resource for containers",
        ),
        (
            r.LIMIT_RANGES,
            {"spec.limits.0.type": "PersistentVolumeClaim"},
            "spec.limits[0].limits: either minimum or maximum storage value is required, but neither was provided",
        ),
        (r.PERSISTENT_VOLUMES, {"spec.capacity": {"storage": "0"}}, "spec.capacity[storage]: must be greater than zero"),
        (
            r.PERSISTENT_VOLUMES,
            {"spec.persistentVolumeReclaimPolicy": "Recycle"},
            "spec.persistentVolumeReclaimPolicy: may not be 'recycle' for a hostPath mount of '/'",
        ),
        (r.CONTROLLER_REVISIONS, {"data": None}, "data: data is mandatory"),
        (r.SERVICE_CIDRS, {"spec.cidrs": []}, "spec.cidrs: at least one CIDR required"),
        (
            r.HORIZONTAL_POD_AUTOSCALERS,
            {M: {"type": "Utilization"}},
            "spec.metrics[0].resource.target.averageUtilization: must set either a target raw value or a target utilization",
        ),
        (
            r.HORIZONTAL_POD_AUTOSCALERS,
            {f"{M}.type": "Odd"},
            "spec.metrics[0].resource.target.type: must be either Utilization, Value, or AverageValue",
        ),
        (
            r.HORIZONTAL_POD_AUTOSCALERS,
            {
                "spec.behavior": {
                    "scaleUp": {
                        "stabilizationWindowSeconds": 4000,
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}],
                    }
                }
            },
            "spec.behavior.scaleUp.stabilizationWindowSeconds: must be less than or equal to 3600",
        ),
    ],
)
def test_what_is_wrong_is_refused(resource: Resource, change: dict[str, Any], error: str) -> None:
    found = shown(validate_create(made(resource, change), resource))
    assert any(each.startswith(error) for each in found), found


@pytest.mark.parametrize(
    ("resource", "change", "field"),
    [
        (r.CSI_DRIVERS, {"spec.attachRequired": False}, "spec.attachedRequired"),
        (r.CSI_NODES, {"spec.drivers.0.nodeID": "other"}, "CSINodeDriver"),
        (r.CSI_STORAGE_CAPACITIES, {"storageClassName": "slow"}, "storageClassName"),
        (r.VOLUME_ATTACHMENTS, {"spec.nodeName": "other"}, "spec"),
        (r.CONTROLLER_REVISIONS, {"data": {"a": 2}}, "data"),
        (r.SERVICE_CIDRS, {"spec.cidrs": ["10.1.0.0/16"]}, "spec.cidrs"),
        (r.INGRESS_CLASSES, {"spec.controller": "example.com/other"}, "spec.controller"),
        (r.RUNTIME_CLASSES, {"handler": "other"}, "handler"),
    ],
)
def test_what_stays(resource: Resource, change: dict[str, Any], field: str) -> None:
    found = shown(validate_update(made(resource, change), made(resource), resource))
    assert any(each.startswith(f"{field}: field is immutable") for each in found), found


def test_verdicts_on_a_request_are_final() -> None:
    approved = {"type": "Approved", "status": "True"}
    old, new = made(r.CERTIFICATE_SIGNING_REQUESTS), made(r.CERTIFICATE_SIGNING_REQUESTS)
    old["status"] = {"conditions": [approved], "certificate": "YQ=="}
    new["status"] = {"conditions": [], "certificate": "Yg=="}
    assert shown(validate_status_update(new, old, r.CERTIFICATE_SIGNING_REQUESTS)) == [
        'status.conditions: updates may not remove a condition of type "Approved"',
        "status.certificate: updates may not modify existing certificate content",
    ]
    new["status"] = {"conditions": [approved, {"type": "Denied", "status": "True"}], "certificate": "YQ=="}
    wanted = ["status.conditions[1].type: Approved and Denied conditions are mutually exclusive"]
    assert shown(validate_status_update(new, old, r.CERTIFICATE_SIGNING_REQUESTS)) == wanted
