"""What our daemons may do beyond the bootstrap policy: roles and bindings that upstream does not have, for upstream's identities and our own.

The apiserver reconciles them with its own policy before it says that it is ready (`--rbac-bootstrap-file`), so no daemon is ever refused for the lack of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeling.cluster import pki
from kubeling.cluster.topology import HOLLOW_USER

_GROUP = "rbac.authorization.k8s.io"
_READ = ("get", "list", "watch")
_LEASE = ("get", "create", "update", "patch")

#: Our controllers share one identity, so it has the roles of all of them (upstream: --use-service-account-credentials=false).
_CONTROLLERS = (
    "attachdetach-controller",
    "certificate-controller",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "ephemeral-volume-controller",
    "expand-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "legacy-service-account-token-cleaner",
    "namespace-controller",
    "node-controller",
    "persistent-volume-binder",
    "pod-garbage-collector",
    "pv-protection-controller",
    "pvc-protection-controller",
    "replicaset-controller",
    "replication-controller",
    "resourcequota-controller",
    "root-ca-cert-publisher",
    "route-controller",
    "service-account-controller",
    "service-cidrs-controller",
    "service-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
)


def objects(*, hollow: bool = False) -> list[dict[str, Any]]:
    """All of them; those of hollow nodes only where there are such, since they are wide."""
    found = [
        _binding(f"kubeling:kube-controller-manager:{each}", f"system:controller:{each}", "system:kube-controller-manager")
        for each in _CONTROLLERS
    ]
    found += [
        _binding(f"kubeling:kube-controller-manager:{each}", f"system:controller:{each}", "system:kube-controller-manager", where)
        for each, where in (
            ("bootstrap-signer", "kube-system"),
            ("bootstrap-signer", "kube-public"),
            ("token-cleaner", "kube-system"),
        )
    ]
    # Upstream's apiserver keeps the Service `kubernetes` itself.
    found += _role(
        "kubeling:kubernetes-service",
        "system:kube-controller-manager",
        _rule(("create",), "", "services"),
        namespace="default",
    )
    found.append(_metrics_reader())
    # The apiserver's own identity towards kubelets, which ask it in turn what that may do.
    found.append(_binding("kubeling:kubelet-api-admin", "system:kubelet-api-admin", pki.KUBELET_CLIENT))
    found += _role(
        "kubeling:kube-dns",
        "system:kube-dns",
        _rule(("list", "watch"), "", "services", "namespaces"),
        _rule((*_READ, "create", "update", "delete"), "discovery.k8s.io", "endpointslices"),
    )
    # By which its instances know of each other.
    found += _role(
        "kubeling:kube-dns",
        "system:kube-dns",
        _rule((*_READ, "create", "patch", "delete"), "coordination.k8s.io", "leases"),
        namespace="kube-system",
    )
    # Upstream's proxy leaves policies to a network plugin.
    found += _role(
        "kubeling:network-policy",
        "system:kube-proxy",
        _rule(("list", "watch"), "networking.k8s.io", "networkpolicies"),
        _rule(("list", "watch"), "", "pods", "namespaces"),
    )
    found += _role(
        "system:cloud-controller-manager",
        "system:cloud-controller-manager",
        _rule(_LEASE, "coordination.k8s.io", "leases"),
        _rule(("create", "patch", "update"), "", "events"),
        _rule((*_READ, "update", "patch", "delete"), "", "nodes"),
        _rule(("patch", "update"), "", "nodes/status"),
        _rule((*_READ, "update", "patch"), "", "services"),
        _rule(("patch", "update"), "", "services/status"),
        _rule(("list", "watch"), "discovery.k8s.io", "endpointslices"),
    )
    # The cluster autoscaler is one of its controllers.
    found += _role(
        "kubeling:cluster-autoscaler",
        "system:cloud-controller-manager",
        _rule(_READ, "", "pods"),
        _rule(("create",), "", "pods/eviction"),
        _rule(("list", "watch"), "apps", "daemonsets"),
        _rule(("list", "watch"), "policy", "poddisruptionbudgets"),
    )
    found += _role(
        "kubeling:cluster-autoscaler",
        "system:cloud-controller-manager",
        _rule(("get", "create", "update"), "", "configmaps"),
        # Where the scheduler that is asked what would fit is to be found.
        _rule(("list",), "coordination.k8s.io", "leases"),
        namespace="kube-system",
    )
    return found + (_hollow() if hollow else [])


def _hollow() -> list[dict[str, Any]]:
    """One identity for very many nodes (a certificate for each would be dear): what system:nodes may do to themselves, to all."""
    return _role(
        "kubeling:hollow-nodes",
        HOLLOW_USER,
        _rule((*_READ, "create", "update", "patch"), "", "nodes"),
        _rule(("update", "patch"), "", "nodes/status"),
        _rule((*_READ, "update", "patch", "delete"), "", "pods"),
        _rule(("update", "patch"), "", "pods/status"),
        _rule(_LEASE, "coordination.k8s.io", "leases"),
        _rule(("create", "patch", "update"), "", "events"),
        _rule(("create",), "authorization.k8s.io", "subjectaccessreviews"),
    )


def _metrics_reader() -> dict[str, Any]:
    """As metrics-server brings it: who may view a namespace may see what its pods use."""
    name = "system:aggregated-metrics-reader"
    role = _role(name, "", _rule(_READ, "metrics.k8s.io", "pods", "nodes"))[0]
    for each in ("view", "edit", "admin"):
        role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{each}"] = "true"
    return role


def _metadata(name: str, namespace: str = "") -> dict[str, Any]:
    where = {"namespace": namespace} if namespace else {}
    return {"name": name, **where, "labels": {"kubeling.dev/addon": "rbac"}}


def _rule(verbs: Sequence[str], group: str, *resources: str) -> dict[str, Any]:
    return {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources)}


def _role(name: str, user: str, *rules: dict[str, Any], namespace: str = "") -> list[dict[str, Any]]:
    kind = "Role" if namespace else "ClusterRole"
    role = {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": _metadata(name, namespace), "rules": list(rules)}
    return [role, _binding(name, name, user, namespace)]


def _binding(name: str, role: str, user: str, namespace: str = "") -> dict[str, Any]:
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": _GROUP, "kind": "Role" if namespace else "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _GROUP, "kind": "User", "name": user}],
    }


def write(path: Path, *, hollow: bool = False) -> None:
    """Write the file for the apiserver, anew at every start: it belongs to the version of kubeling that runs."""
    pki.write_private(path, json.dumps(objects(hollow=hollow), indent=1).encode() + b"\n")
