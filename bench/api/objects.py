"""What is sent: pods of the usual size (2.4 KB as stored), and small requests that change them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kubeling.bench.api.wire import request

Make = Callable[[int], bytes]
NAMESPACE = "bench"
_NUMBER = "@@@@@@@@"


def namespace(name: str) -> bytes:
    """Create a namespace."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    return request("POST", "/api/v1/namespaces", json.dumps(body).encode())


def account(name: str) -> bytes:
    """The default service account, without which no pod may be created in a namespace."""
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    return request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", json.dumps(body).encode())


def pod(name: str, **labels: str) -> dict[str, Any]:
    """A Pod as a Deployment makes it."""
    environment = [{"name": f"SETTING_{at}", "value": f"value-{at}"} for at in range(6)]
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    container = {
        "name": "app",
        "image": "registry.example/team/app:1.2.3",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": environment,
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": probe,
        "livenessProbe": probe,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}],
    }
    metadata = {"name": name, "labels": {"app": "web", "tier": "front", "pod-template-hash": "5d4f8c7b9", **labels}}
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "app"}}],
        "nodeName": "node-1",
    }
    # The volume of the token has a random name, and no two pods could be updated with the same spec.
    spec["automountServiceAccountToken"] = False
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def numbered(method: str, path: str, body: Any = None, kind: str = "application/json") -> Make:
    """Requests that differ by a number of eight digits wherever :data:`_NUMBER` stands in the path or the body."""
    raw = json.dumps(body).encode() if body is not None else b""
    made = request(method, path, raw, kind)
    mark = _NUMBER.encode()
    if mark not in made:
        return lambda number: made
    return lambda number: made.replace(mark, b"%08d" % number)


def creates(where: str, prefix: str) -> Make:
    """POST of a new pod."""
    return numbered("POST", f"/api/v1/namespaces/{where}/pods", pod(f"{prefix}-{_NUMBER}"))


def _among(count: int, make: Callable[[str], Make]) -> Make:
    """Each number picks one of `count` objects."""
    made = [make(f"p-{at:08d}") for at in range(count)]
    return lambda number: made[number % count](number)


def gets(count: int) -> Make:
    """GET of one of the first pods."""
    return _among(count, lambda name: numbered("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"))


def updates(count: int, stored: dict[str, Any]) -> Make:
    """PUT of a pod with another label: whole, as it was read (`stored`, one of them), and without a condition."""
    metadata = {"labels": {**stored["metadata"]["labels"], "turn": _NUMBER}}

    def one(name: str) -> Make:
        body = {**stored, "metadata": {**metadata, "name": name}}
        return numbered("PUT", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}", body)

    return _among(count, one)


def patches(count: int) -> Make:
    """Strategic merge patch of a label, what kubectl and most controllers send."""
    body = {"metadata": {"labels": {"turn": _NUMBER}}}
    kind = "application/strategic-merge-patch+json"
    return _among(count, lambda name: numbered("PATCH", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}", body, kind))


def applies(count: int) -> Make:
    """Server-side apply of a whole pod."""
    kind, query = "application/apply-patch+yaml", "fieldManager=bench&force=true"
    return _among(
        count,
        lambda name: numbered("PATCH", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}?{query}", pod(name, turn=_NUMBER), kind),
    )


def lists(where: str, query: str = "", accept: str = "application/json") -> Make:
    """GET of all pods of a namespace, or of a page of them, in the form asked for."""
    made = request("GET", f"/api/v1/namespaces/{where}/pods{query and '?' + query}", accept=accept)
    return lambda number: made


#: The forms in which the same 5,000 pods are asked for: what kubectl, Go's clients and the garbage collector want.
FORMS = {
    "as Table": "application/json;as=Table;v=v1;g=meta.k8s.io",
    "as protobuf": "application/vnd.kubernetes.protobuf",
    "of metadata": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
}
