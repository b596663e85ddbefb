"""The objects that run the controller in a cluster: `python -m kubeling.deploy.ingress --print-manifest | kubeling apply -f -`.

The pods use the image that is the node's own system, so haproxy has to be installed on the nodes' machine; this very Python and package are mounted into them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from kubeling.deploy.ingress.routes import CONTROLLER

NAMESPACE = "ingress"
_CODE = "/opt/kubeling"
Obj = dict[str, Any]


def objects(replicas: int = 2) -> list[Obj]:
    """All of them."""
    labels = {"app": "haproxy-ingress"}
    here = {"name": "haproxy", "namespace": NAMESPACE}
    networking = "networking.k8s.io"
    rules = [
        {"apiGroups": [networking], "resources": ["ingresses", "ingressclasses"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [networking], "resources": ["ingresses/status"], "verbs": ["update", "patch"]},
        {"apiGroups": [""], "resources": ["services", "secrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
    ]
    container = {
        "name": "haproxy",
        "image": "kubeling.local/host",
        "command": [sys.executable, "-P", "-m", "kubeling.deploy.ingress"],
        "env": [{"name": "PYTHONPATH", "value": _CODE}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "ports": [
            {"name": "http", "containerPort": 8080},
            {"name": "https", "containerPort": 8443},
            {"name": "health", "containerPort": 10254},
        ],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "health"}, "periodSeconds": 2},
        # Endpoints that go are still asked for a moment.
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "run", "mountPath": "/run/ingress"},
            {"name": "code", "mountPath": f"{_CODE}/kubeling", "readOnly": True},
            {"name": "python", "mountPath": sys.prefix, "readOnly": True},
        ],
    }
    pod = {
        "serviceAccountName": "haproxy",
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [
            {"name": "run", "emptyDir": {"medium": "Memory"}},
            {"name": "code", "hostPath": {"path": str(Path(__file__).parents[2])}},
            {"name": "python", "hostPath": {"path": sys.prefix}},
        ],
    }
    rbac = "rbac.authorization.k8s.io"
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": "haproxy-ingress"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "haproxy-ingress"}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "haproxy-ingress"},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **here}],
        },
        {
            "apiVersion": f"{networking}/v1",
            "kind": "IngressClass",
            "metadata": {"name": "haproxy", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": CONTROLLER},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": here,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": here,
            "spec": {
                "type": "LoadBalancer",
                "selector": labels,
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http"},
                    {"name": "https", "port": 443, "targetPort": "https"},
                ],
            },
        },
    ]


def text() -> str:
    """As YAML."""
    return yaml.safe_dump_all(objects(), sort_keys=False)
