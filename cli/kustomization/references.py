"""Who names whom: names in objects that follow the objects that they mean, through prefixes, suffixes, hashes and namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kubeling.cli.kustomization import fields
from kubeling.cli.kustomization.resource import Gvk, Resource

_WORKLOADS = ("ReplicationController", "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job")
_POD_SPECS = (
    ("Pod", "spec"),
    *((kind, "spec/template/spec") for kind in _WORKLOADS),
    ("CronJob", "spec/jobTemplate/spec/template/spec"),
)
_CONTAINERS = ("containers", "initContainers")


class Reference(NamedTuple):
    """Fields that name objects of a kind."""

    target: Gvk
    specs: tuple[fields.Spec, ...]


def _pods(*paths: str) -> tuple[str, ...]:
    """Lines for paths below a pod's spec, in every kind that has one."""
    return tuple(f"*/{kind} {prefix}/{path}" for kind, prefix in _POD_SPECS for path in paths)


def _in_containers(*paths: str) -> tuple[str, ...]:
    return tuple(f"{containers}/{path}" for containers in _CONTAINERS for path in paths)


def _to(kind: str, *lines: str, group: str = "", version: str = "") -> Reference:
    return Reference(Gvk(group, version, kind), fields.specs(False, *lines))


_WEBHOOKS = ("*/MutatingWebhookConfiguration", "*/ValidatingWebhookConfiguration")
REFERENCES = (
    *(
        _to(kind, "*/HorizontalPodAutoscaler spec/scaleTargetRef/name")
        for kind in ("Deployment", "ReplicationController", "ReplicaSet", "StatefulSet")
    ),
    _to(
        "ConfigMap",
        *_pods(
            "volumes/configMap/name",
            *_in_containers("env/valueFrom/configMapKeyRef/name", "envFrom/configMapRef/name"),
            "volumes/projected/sources/configMap/name",
        ),
        "*/Node spec/configSource/configMap/name",
        "rbac.authorization.k8s.io/Role rules/resourceNames",
        "rbac.authorization.k8s.io/ClusterRole rules/resourceNames",
        version="v1",
    ),
    _to(
        "Secret",
        *_pods(
            "volumes/secret/secretName",
            *_in_containers("env/valueFrom/secretKeyRef/name", "envFrom/secretRef/name"),
            "imagePullSecrets/name",
            "volumes/projected/sources/secret/name",
        ),
        "*/ServiceAccount imagePullSecrets/name",
        "*/ServiceAccount secrets/name",
        "*/Ingress spec/tls/secretName",
        "*/Ingress metadata/annotations/ingress.kubernetes.io~1auth-secret",
        "*/Ingress metadata/annotations/nginx.ingress.kubernetes.io~1auth-secret",
        "*/Ingress metadata/annotations/nginx.ingress.kubernetes.io~1auth-tls-secret",
        "storage.k8s.io/StorageClass parameters/secretName",
        "*/PersistentVolume spec/csi/nodePublishSecretRef/name",
        "*/PersistentVolume spec/csi/nodeStageSecretRef/name",
        "*/PersistentVolume spec/csi/controllerPublishSecretRef/name",
        "rbac.authorization.k8s.io/Role rules/resourceNames",
        "rbac.authorization.k8s.io/ClusterRole rules/resourceNames",
        version="v1",
    ),
    _to(
        "Service",
        "apps/StatefulSet spec/serviceName",
        "*/Ingress spec/rules/http/paths/backend/serviceName",
        "*/Ingress spec/backend/serviceName",
        "networking.k8s.io/Ingress spec/rules/http/paths/backend/service/name",
        "networking.k8s.io/Ingress spec/defaultBackend/service/name",
        "apiregistration.k8s.io/APIService spec/service/name",
        "apiextensions.k8s.io/CustomResourceDefinition spec/conversion/webhook/clientConfig/service",
        *(f"{each} webhooks/clientConfig/service" for each in _WEBHOOKS),
        version="v1",
    ),
    _to(
        "Role",
        "rbac.authorization.k8s.io/RoleBinding roleRef/name",
        group="rbac.authorization.k8s.io",
    ),
    _to(
        "ClusterRole",
        "rbac.authorization.k8s.io/RoleBinding roleRef/name",
        "rbac.authorization.k8s.io/ClusterRoleBinding roleRef/name",
        group="rbac.authorization.k8s.io",
    ),
    _to(
        "ServiceAccount",
        "rbac.authorization.k8s.io/RoleBinding subjects",
        "rbac.authorization.k8s.io/ClusterRoleBinding subjects",
        *_pods("serviceAccountName"),
        version="v1",
    ),
    _to("PersistentVolumeClaim", *_pods("volumes/persistentVolumeClaim/claimName"), version="v1"),
    _to(
        "PersistentVolume",
        "*/PersistentVolumeClaim spec/volumeName",
        "rbac.authorization.k8s.io/ClusterRole rules/resourceNames",
        version="v1",
    ),
    _to(
        "StorageClass",
        "*/PersistentVolume spec/storageClassName",
        "*/PersistentVolumeClaim spec/storageClassName",
        "*/StatefulSet spec/volumeClaimTemplates/spec/storageClassName",
        group="storage.k8s.io",
    ),
    _to("PriorityClass", *_pods("priorityClassName"), group="scheduling.k8s.io"),
    _to(
        "ValidatingAdmissionPolicy",
        "admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding spec/policyName",
        group="admissionregistration.k8s.io",
    ),
)


def follow(resources: Sequence[Resource]) -> None:
    """Put the present names of objects where others name them by former ones."""
    for referrer in resources:
        for target, specs in REFERENCES:
            candidates = [each for each in resources if each.former and any(target.selects(one.gvk) for one in each.ids)]
            for spec in specs if candidates else ():
                if spec.gvk.selects(referrer.gvk):
                    path = [each.replace("~1", "/") for each in spec.path.split("/")]
                    _follow(referrer, referrer.obj, path, candidates)


def _follow(referrer: Resource, node: Any, path: list[str], candidates: list[Resource]) -> None:
    if isinstance(node, list):
        for each in node:
            _follow(referrer, each, path, candidates)
        return
    if not isinstance(node, dict) or node.get(path[0]) is None:
        return
    name, rest = path[0], path[1:]
    if rest:
        if rest == ["name"] and name == "roleRef" and not _role_fits(node[name], candidates):
            return
        _follow(referrer, node[name], rest, candidates)
        return
    value = node[name]
    if isinstance(value, str):
        node[name] = _present(referrer, value, candidates)
    elif isinstance(value, list):
        node[name] = [_present(referrer, each, candidates) if isinstance(each, str) else each for each in value]
        for each in _maps(value):
            _follow_map(referrer, each, candidates)
    elif isinstance(value, dict):
        _follow_map(referrer, value, candidates)


def _role_fits(reference: Any, candidates: list[Resource]) -> bool:
    """A roleRef says of which kind it is."""
    return isinstance(reference, dict) and any(reference.get("kind") == each.gvk.kind for each in candidates)


def _maps(values: list[Any]) -> Iterator[dict[str, Any]]:
    yield from (each for each in values if isinstance(each, dict))


def _follow_map(referrer: Resource, node: dict[str, Any], candidates: list[Resource]) -> None:
    """A reference with name and namespace: both follow."""
    name, namespace = node.get("name"), node.get("namespace")
    if not isinstance(name, str) or (node.get("kind") and not any(node["kind"] == each.gvk.kind for each in candidates)):
        return
    if namespace:
        candidates = [
            each
            for each in candidates
            if any(one.name == name and one.effective_namespace == namespace for one in each.ids) or each.namespace == namespace
        ]
    found = _referral(referrer, name, candidates, anywhere=True)
    if found is not None:
        node["name"] = found.name
        if found.namespace:
            node["namespace"] = found.namespace


def _present(referrer: Resource, name: str, candidates: list[Resource]) -> str:
    found = _referral(referrer, name, candidates)
    return found.name if found is not None else name


def _referral(referrer: Resource, name: str, candidates: list[Resource], anywhere: bool = False) -> Resource | None:
    """The object that is meant: one that had the name, in the referrer's namespace, and of its prefixes and suffixes where that does not decide."""
    found = [each for each in candidates if any(one.name == name for one in each.ids)]
    if not anywhere and not referrer.id.cluster_scoped:
        place = referrer.id.effective_namespace
        found = [each for each in found if each.id.cluster_scoped or each.id.effective_namespace == place]
    if len(found) > 1:
        mine = (referrer.prefixes, referrer.suffixes)
        found = [each for each in found if (each.prefixes, each.suffixes) == mine]
    return found[0] if len(found) == 1 else None
