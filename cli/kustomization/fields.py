"""Paths to the fields that a change is for, such as `spec/template/spec/containers[]/image` of Deployments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from kubeling.cli.kustomization.problems import KustomizationError
from kubeling.cli.kustomization.resource import Gvk, Resource

Change = Callable[[Any], Any]


class Spec(NamedTuple):
    """One path. `create` makes what is missing on the way; an empty kind is any."""

    path: str
    kind: str = ""
    group: str = ""
    version: str = ""
    create: bool = False

    @property
    def gvk(self) -> Gvk:
        return Gvk(self.group, self.version, self.kind)


def change(resource: Resource, specs: Iterable[Spec], made: Change, empty: Callable[[], Any] = dict) -> None:
    """Put `made(value)` in place of the value at each path that is for this kind; `empty` is what is made where it is missing."""
    for spec in specs:
        if spec.gvk.selects(resource.gvk):
            _walk(resource.obj, spec.path.split("/"), spec.create, made, empty)


def _walk(node: Any, path: list[str], create: bool, made: Change, empty: Callable[[], Any]) -> None:
    name, rest = path[0], path[1:]
    in_list = name.endswith("[]")
    name = name.removesuffix("[]")
    if isinstance(node, list):
        for each in node:
            _walk(each, path, create, made, empty)
        return
    if not isinstance(node, dict):
        if node is None:
            return
        raise KustomizationError(f"expected sequence or mapping node at {'/'.join(path)}")
    if node.get(name) is None:
        if not create or in_list:
            return
        node[name] = {} if rest else empty()
    if rest:
        _walk(node[name], rest, create, made, empty)
    elif in_list and isinstance(node[name], list):
        node[name] = [made(each) for each in node[name]]
    else:
        node[name] = made(node[name])


def specs(create: bool, *lines: str) -> tuple[Spec, ...]:
    """`group/Kind path` each; a group `*` is any, `core` the one without a name."""
    found = []
    for line in lines:
        about, path = line.split()
        group, _, kind = about.rpartition("/")
        version = "v1" if group == "core" else ""
        found.append(Spec(path, kind, "" if group in ("*", "core") else group, version, create))
    return tuple(found)


_AFFINITIES = tuple(
    f"{prefix}/{kind}/{rest}/labelSelector/matchLabels"
    for prefix in ("spec/template/spec/affinity",)
    for kind in ("podAffinity", "podAntiAffinity")
    for rest in (
        "preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm",
        "requiredDuringSchedulingIgnoredDuringExecution",
    )
)
_SPREAD = "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels"

LABELS = (Spec("metadata/labels", create=True),)
TEMPLATE_LABELS = specs(
    True,
    "core/ReplicationController spec/template/metadata/labels",
    "apps/Deployment spec/template/metadata/labels",
    "apps/ReplicaSet spec/template/metadata/labels",
    "apps/DaemonSet spec/template/metadata/labels",
    "apps/StatefulSet spec/template/metadata/labels",
    "apps/StatefulSet spec/volumeClaimTemplates[]/metadata/labels",
    "batch/Job spec/template/metadata/labels",
    "batch/CronJob spec/jobTemplate/metadata/labels",
    "batch/CronJob spec/jobTemplate/spec/template/metadata/labels",
)
SELECTORS = specs(
    True,
    "core/Service spec/selector",
    "core/ReplicationController spec/selector",
    "apps/Deployment spec/selector/matchLabels",
    "apps/ReplicaSet spec/selector/matchLabels",
    "apps/DaemonSet spec/selector/matchLabels",
    "apps/StatefulSet spec/selector/matchLabels",
) + specs(
    False,
    *(f"apps/{kind} {path}" for kind in ("Deployment", "StatefulSet") for path in (*_AFFINITIES, _SPREAD)),
    "batch/Job spec/selector/matchLabels",
    "batch/CronJob spec/jobTemplate/spec/selector/matchLabels",
    "policy/PodDisruptionBudget spec/selector/matchLabels",
    "networking.k8s.io/NetworkPolicy spec/podSelector/matchLabels",
    "networking.k8s.io/NetworkPolicy spec/ingress/from/podSelector/matchLabels",
    "networking.k8s.io/NetworkPolicy spec/egress/to/podSelector/matchLabels",
)
ANNOTATIONS = (
    Spec("metadata/annotations", create=True),
    *specs(
        True,
        "core/ReplicationController spec/template/metadata/annotations",
        "*/Deployment spec/template/metadata/annotations",
        "*/ReplicaSet spec/template/metadata/annotations",
        "*/DaemonSet spec/template/metadata/annotations",
        "*/StatefulSet spec/template/metadata/annotations",
        "batch/Job spec/template/metadata/annotations",
        "batch/CronJob spec/jobTemplate/metadata/annotations",
        "batch/CronJob spec/jobTemplate/spec/template/metadata/annotations",
    ),
)
REPLICAS = specs(
    True,
    "*/Deployment spec/replicas",
    "*/ReplicationController spec/replicas",
    "*/ReplicaSet spec/replicas",
    "*/StatefulSet spec/replicas",
)
NAMESPACES = (
    Spec("metadata/name", "Namespace", create=True),
    *specs(True, "apiregistration.k8s.io/APIService spec/service/namespace"),
    *specs(False, "apiextensions.k8s.io/CustomResourceDefinition spec/conversion/webhook/clientConfig/service/namespace"),
)
#: Kinds whose names are never prefixed.
UNPREFIXED = (Gvk("", "", "CustomResourceDefinition"), Gvk("apiregistration.k8s.io", "", "APIService"), Gvk("", "", "Namespace"))
