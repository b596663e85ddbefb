"""A valid object of each kind that chance alone hardly ever makes: what fuzzing starts from."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]
_POD: Obj = {
    "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "1"}}}],
    "volumes": [{"name": "v", "emptyDir": {}}],
}
_TEMPLATE: Obj = {"metadata": {"labels": {"app": "x"}}, "spec": _POD}
_SELECTOR: Obj = {"matchLabels": {"app": "x"}}
_ONCE: Obj = {"template": {"spec": {**_POD, "restartPolicy": "Never"}}}
_CLAIM: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
_ROLE: Obj = {"apiGroup": "rbac.authorization.k8s.io", "name": "view"}
_SUBJECT: Obj = {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}
_TARGET: Obj = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
_CSR = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIT01IWUNBUUF3RkRFU01CQUdBMVVFQXd3SlkyeHBaVzUwTFRFd1dUQVRCZ2NxaGtqT1BRSUJCZ2dxaGtqTwpQUU1CQndOQ0FB"
#: By kind; `spec` unless another part is named.
SPECS: dict[str, Obj] = {
    "Pod": _POD,
    "ReplicationController": {"replicas": 1, "selector": {"app": "x"}, "template": _TEMPLATE},
    "Deployment": {"replicas": 1, "selector": _SELECTOR, "template": _TEMPLATE, "strategy": {"type": "RollingUpdate"}},
    "ReplicaSet": {"replicas": 1, "selector": _SELECTOR, "template": _TEMPLATE},
    "StatefulSet": {"serviceName": "s", "selector": _SELECTOR, "template": _TEMPLATE, "volumeClaimTemplates": []},
    "DaemonSet": {"selector": _SELECTOR, "template": _TEMPLATE},
    "Job": _ONCE,
    "CronJob": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": _ONCE}},
    "Service": {"selector": {"app": "x"}, "ports": [{"port": 80, "name": "a"}, {"port": 53, "protocol": "UDP", "name": "b"}]},
    "Ingress": {
        "rules": [
            {
                "host": "a.example",
                "http": {
                    "paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]
                },
            }
        ]
    },
    "IngressClass": {"controller": "example.com/c"},
    "NetworkPolicy": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80}]}]},
    "ServiceCIDR": {"cidrs": ["10.200.0.0/16"]},
    "IPAddress": {"parentRef": {"resource": "services", "namespace": "default", "name": "x"}},
    "HorizontalPodAutoscaler": {"scaleTargetRef": _TARGET, "maxReplicas": 3},
    "PodDisruptionBudget": {"minAvailable": 1, "selector": _SELECTOR},
    "PersistentVolumeClaim": _CLAIM,
    "PersistentVolume": {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"},
        "claimRef": {"namespace": "default", "name": "x"},
    },
    "VolumeAttachment": {"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "x"}},
    "CSINode": {"drivers": [{"name": "example.com", "nodeID": "n"}]},
    "APIService": {
        "group": "x.example",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 10,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": "default", "name": "x"},
    },
    "CertificateSigningRequest": {"request": _CSR, "signerName": "example.com/x", "usages": ["client auth"]},
    "FlowSchema": {
        "priorityLevelConfiguration": {"name": "exempt"},
        "matchingPrecedence": 100,
        "rules": [
            {
                "subjects": [{"kind": "User", "user": {"name": "u"}}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}],
            }
        ],
    },
    "PriorityLevelConfiguration": {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}},
    },
    "ResourceQuota": {"hard": {"pods": "1000"}},
    "LimitRange": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]},
    "ValidatingAdmissionPolicy": {
        "matchConstraints": {
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
        },
        "validations": [{"expression": "object.metadata.name != 'x'"}],
    },
    "ValidatingAdmissionPolicyBinding": {"policyName": "x", "validationActions": ["Deny"]},
    "LocalSubjectAccessReview": {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}},
}
OTHERS: dict[str, Obj] = {
    "PodTemplate": {"template": _TEMPLATE},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 80, "name": "a"}]},
    "Endpoints": {"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]},
    "RoleBinding": {"roleRef": {**_ROLE, "kind": "ClusterRole"}, "subjects": [_SUBJECT]},
    "ClusterRoleBinding": {"roleRef": {**_ROLE, "kind": "ClusterRole"}, "subjects": [_SUBJECT]},
    "StorageClass": {"provisioner": "example.com/p"},
    "RuntimeClass": {"handler": "h"},
    "PriorityClass": {"value": 5},
    "Binding": {"target": {"kind": "Node", "name": "n"}},
    "ControllerRevision": {"revision": 1, "data": {"a": "b"}},
    "Event": {"involvedObject": {"kind": "Pod", "name": "x"}, "reason": "R", "type": "Normal"},
}


def base(kind: str) -> Obj | None:
    """The parts of a valid object beside its identity; None where chance has to do."""
    if kind in SPECS:
        return {"spec": SPECS[kind]}
    return OTHERS.get(kind)
