"""In which order objects come out: what others need first, what could refuse others last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubeling.cli.kustomization.resource import Resource

FIRST = (
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
)
LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def legacy(resources: Iterable[Resource], first: Sequence[str] = FIRST, last: Sequence[str] = LAST) -> list[Resource]:
    """Kinds in that order, those without a place between, by their names; then by namespace and name."""
    places = {kind: at - len(first) for at, kind in enumerate(first)} | {kind: at + 1 for at, kind in enumerate(last)}

    def key(resource: Resource) -> tuple[int, str, str]:
        gvk = resource.gvk
        return places.get(gvk.kind, 0), "_".join((gvk.group or "~G", gvk.version or "~V", gvk.kind or "~K")), _place(resource)

    return sorted(resources, key=key)


def _place(resource: Resource) -> str:
    return "|".join((resource.namespace or "~X", resource.name or "~N"))
