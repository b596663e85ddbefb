"""The roles and bindings that every cluster has, as data: upstream's of 1.33 with its default feature gates.

A rule is written as one line, `verbs | groups | resources | names`, or `verbs | /paths`; words are separated by spaces, the core group is `core`. The
controllers' roles are in :mod:`.policy_controllers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubeling.apiserver.authz import policy_controllers

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
VERSION = f"{GROUP}/v1"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

_SHORT = {
    "READ": "get list watch",
    "WRITE": "create delete deletecollection patch update",
    "ALL": "create delete deletecollection get list patch update watch",
    "EVENTS": "create patch update",
}
_EVENTS = "EVENTS | core events.k8s.io | events"
_HEALTH = "/healthz /livez /readyz /version /version/"
_SIGNER = "approve | certificates.k8s.io | signers | kubernetes.io/"

_CLUSTER_ROLES: dict[str, tuple[str, ...]] = {
    "cluster-admin": ("* | * | *", "* | *"),
    "system:discovery": (f"get | /api /api/* /apis /apis/* /openapi /openapi/* {_HEALTH}",),
    "system:monitoring": ("get | /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",),
    "system:basic-user": (
        "create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews",
        "create | authentication.k8s.io | selfsubjectreviews",
    ),
    "system:public-info-viewer": (f"get | {_HEALTH}",),
    # Upstream has it with its metrics server.
    "system:aggregated-metrics-reader": ("READ | metrics.k8s.io | nodes pods",),
    "system:aggregate-to-admin": (
        "create | authorization.k8s.io | localsubjectaccessreviews",
        f"ALL | {GROUP} | rolebindings roles",
    ),
    "system:aggregate-to-edit": (
        "READ | core | pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
        "impersonate | core | serviceaccounts",
        "WRITE | core | pods pods/attach pods/exec pods/portforward pods/proxy",
        "create | core | pods/eviction",
        "patch update | core | pods/resize",
        (
            "WRITE | core | configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets"
            " serviceaccounts services services/proxy"
        ),
        "create | core | serviceaccounts/token",
        (
            "WRITE | apps | daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets"
            " statefulsets/scale"
        ),
        "WRITE | autoscaling | horizontalpodautoscalers",
        "WRITE | batch | cronjobs jobs",
        (
            "WRITE | extensions | daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets"
            " replicasets/scale replicationcontrollers/scale"
        ),
        "WRITE | policy | poddisruptionbudgets",
        "WRITE | networking.k8s.io | ingresses networkpolicies",
        "ALL | coordination.k8s.io | leases",
    ),
    "system:aggregate-to-view": (
        (
            "READ | core | configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers"
            " replicationcontrollers/scale serviceaccounts services services/status"
        ),
        (
            "READ | core | bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas"
            " resourcequotas/status"
        ),
        "READ | core | namespaces",
        "READ | discovery.k8s.io | endpointslices",
        (
            "READ | apps | controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets"
            " replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"
        ),
        "READ | autoscaling | horizontalpodautoscalers horizontalpodautoscalers/status",
        "READ | batch | cronjobs cronjobs/status jobs jobs/status",
        (
            "READ | extensions | daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status"
            " networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale"
        ),
        "READ | policy | poddisruptionbudgets poddisruptionbudgets/status",
        "READ | networking.k8s.io | ingresses ingresses/status networkpolicies",
    ),
    "system:heapster": ("READ | core | events namespaces nodes pods", "READ | extensions | deployments"),
    "system:node": (
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | localsubjectaccessreviews subjectaccessreviews",
        "READ | core | services",
        "create get list watch | core | nodes",
        "patch update | core | nodes/status",
        "patch update | core | nodes",
        "READ | core | pods",
        "create delete | core | pods",
        "patch update | core | pods/status",
        "create | core | pods/eviction",
        "READ | core | configmaps secrets",
        "get | core | persistentvolumeclaims persistentvolumes",
        "get | core | endpoints",
        "create get list watch | certificates.k8s.io | certificatesigningrequests",
        "create delete get patch update | coordination.k8s.io | leases",
        "get | storage.k8s.io | volumeattachments",
        "get patch update | core | persistentvolumeclaims/status",
        "create | core | serviceaccounts/token",
        "READ | storage.k8s.io | csidrivers",
        "create delete get patch update | storage.k8s.io | csinodes",
        "READ | node.k8s.io | runtimeclasses",
        _EVENTS,
    ),
    "system:node-problem-detector": ("get | core | nodes", "patch | core | nodes/status", _EVENTS),
    "system:kubelet-api-admin": (
        "READ | core | nodes",
        "proxy | core | nodes",
        "* | core | nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec nodes/stats",
    ),
    "system:node-bootstrapper": ("create get list watch | certificates.k8s.io | certificatesigningrequests",),
    "system:auth-delegator": (
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
    ),
    "system:kube-aggregator": ("READ | core | endpoints services",),
    "system:kube-controller-manager": (
        _EVENTS,
        "create | coordination.k8s.io | leases",
        "get update | coordination.k8s.io | leases | kube-controller-manager",
        "create | core | secrets serviceaccounts",
        "delete | core | secrets",
        "get | core | configmaps namespaces secrets serviceaccounts",
        "update | core | secrets serviceaccounts",
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
        "list watch | * | *",
        "create | core | serviceaccounts/token",
    ),
    "system:kube-dns": ("list watch | core | endpoints services",),
    "system:persistent-volume-provisioner": (
        "create delete get list watch | core | persistentvolumes",
        "get list update watch | core | persistentvolumeclaims",
        "READ | storage.k8s.io | storageclasses",
        "watch | core | events",
        _EVENTS,
    ),
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": (
        "create | certificates.k8s.io | certificatesigningrequests/nodeclient",
    ),
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": (
        "create | certificates.k8s.io | certificatesigningrequests/selfnodeclient",
    ),
    "system:volume-scheduler": (
        "get list patch update watch | core | persistentvolumes",
        "READ | storage.k8s.io | storageclasses",
        "get list patch update watch | core | persistentvolumeclaims",
    ),
    "system:certificates.k8s.io:legacy-unknown-approver": (_SIGNER + "legacy-unknown",),
    "system:certificates.k8s.io:kubelet-serving-approver": (_SIGNER + "kubelet-serving",),
    "system:certificates.k8s.io:kube-apiserver-client-approver": (_SIGNER + "kube-apiserver-client",),
    "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver": (_SIGNER + "kube-apiserver-client-kubelet",),
    "system:service-account-issuer-discovery": (
        "get | /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
    ),
    "system:node-proxier": (
        "list watch | core | endpoints services",
        "READ | core | nodes",
        _EVENTS,
        "list watch | discovery.k8s.io | endpointslices",
        "list watch | networking.k8s.io | servicecidrs",
    ),
    "system:kube-scheduler": (
        _EVENTS,
        "create | coordination.k8s.io | leases",
        "get list update watch | coordination.k8s.io | leases | kube-scheduler",
        "READ | core | nodes",
        "delete get list watch | core | pods",
        "create | core | bindings pods/binding",
        "patch update | core | pods/status",
        "READ | core | replicationcontrollers services",
        "READ | apps extensions | replicasets",
        "READ | apps | statefulsets",
        "READ | policy | poddisruptionbudgets",
        "READ | core | persistentvolumeclaims persistentvolumes",
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
        "READ | storage.k8s.io | csinodes",
        "READ | core | namespaces",
        "READ | storage.k8s.io | csidrivers",
        "READ | storage.k8s.io | csistoragecapacities",
        "READ | storage.k8s.io | volumeattachments",
    ),
}
#: They take in the rules of ClusterRoles with a label; `view` is in `edit`, and `edit` in `admin`.
_AGGREGATED = ("view", "edit", "admin")
_AGGREGATED_INTO = {
    "edit": "admin",
    "view": "edit",
    "system:aggregate-to-admin": "admin",
    "system:aggregate-to-edit": "edit",
    "system:aggregate-to-view": "view",
    "system:aggregated-metrics-reader": "view",
}
#: ClusterRole → subjects: `group:`, `user:` or `account:` (in kube-system).
_CLUSTER_BINDINGS: dict[str, tuple[str, ...]] = {
    "cluster-admin": ("group:system:masters",),
    "system:monitoring": ("group:system:monitoring",),
    "system:discovery": ("group:system:authenticated",),
    "system:basic-user": ("group:system:authenticated",),
    "system:public-info-viewer": ("group:system:authenticated", "group:system:unauthenticated"),
    "system:node-proxier": ("user:system:kube-proxy",),
    "system:kube-controller-manager": ("user:system:kube-controller-manager",),
    "system:kube-dns": ("account:kube-dns",),
    "system:kube-scheduler": ("user:system:kube-scheduler",),
    "system:volume-scheduler": ("user:system:kube-scheduler",),
    # The node authorizer has taken its place.
    "system:node": (),
    "system:service-account-issuer-discovery": ("group:system:serviceaccounts",),
}
_READER = "extension-apiserver-authentication-reader"
_LOCKING = "system::leader-locking-"
_SIGNER_ROLE = "system:controller:bootstrap-signer"
#: Namespace → Role → rules.
_ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "kube-system": {
        _READER: ("READ | core | configmaps | extension-apiserver-authentication",),
        _SIGNER_ROLE: ("READ | core | secrets",),
        "system:controller:cloud-provider": ("create get list watch | core | configmaps",),
        "system:controller:token-cleaner": ("delete get list watch | core | secrets", _EVENTS),
        _LOCKING + "kube-controller-manager": (
            "watch | core | configmaps",
            "get update | core | configmaps | kube-controller-manager",
        ),
        _LOCKING + "kube-scheduler": ("watch | core | configmaps", "get update | core | configmaps | kube-scheduler"),
    },
    "kube-public": {
        _SIGNER_ROLE: ("READ | core | configmaps", "update | core | configmaps | cluster-info", _EVENTS),
    },
}
#: Namespace → RoleBinding → its Role and the subjects.
_BINDINGS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "kube-system": {
        f"system::{_READER}": (_READER, ("user:system:kube-controller-manager", "user:system:kube-scheduler")),
        _LOCKING + "kube-controller-manager": (
            _LOCKING + "kube-controller-manager",
            ("user:system:kube-controller-manager", "account:kube-controller-manager"),
        ),
        _LOCKING + "kube-scheduler": (_LOCKING + "kube-scheduler", ("user:system:kube-scheduler", "account:kube-scheduler")),
        _SIGNER_ROLE: (_SIGNER_ROLE, ("account:bootstrap-signer",)),
        "system:controller:cloud-provider": ("system:controller:cloud-provider", ("account:cloud-provider",)),
        "system:controller:token-cleaner": ("system:controller:token-cleaner", ("account:token-cleaner",)),
    },
    "kube-public": {_SIGNER_ROLE: (_SIGNER_ROLE, ("account:bootstrap-signer",))},
}


def parse_rule(line: str) -> Object:
    """A rule as it is stored."""
    verbs, *parts = [each.strip() for each in line.split("|")]
    rule: Object = {"verbs": sorted(_SHORT.get(verbs, verbs).split())}
    if len(parts) == 1:
        rule["nonResourceURLs"] = sorted(parts[0].split())
        return rule
    rule["apiGroups"] = sorted("" if each == "core" else each for each in parts[0].split())
    rule["resources"] = sorted(parts[1].split())
    if len(parts) > 2:
        rule["resourceNames"] = sorted(parts[2].split())
    return rule


def _object(kind: str, name: str, namespace: str = "", labels: dict[str, str] | None = None, **more: Any) -> Object:
    metadata: Object = {"name": name, "labels": {**_LABELS, **(labels or {})}, "annotations": {AUTOUPDATE: "true"}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, **more}


def _binding(kind: str, name: str, namespace: str, role_kind: str, role: str, subjects: tuple[str, ...]) -> Object:
    found: Object = {}
    if subjects:
        found["subjects"] = [_subject(each) for each in subjects]
    return _object(kind, name, namespace, roleRef={"apiGroup": GROUP, "kind": role_kind, "name": role}, **found)


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "account":
        return {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
    return {"apiGroup": GROUP, "kind": kind.capitalize(), "name": name}


def cluster_roles() -> Iterator[Object]:
    """All ClusterRoles."""
    for name, lines in {**_CLUSTER_ROLES, **policy_controllers.ROLES}.items():
        into = _AGGREGATED_INTO.get(name)
        labels = {_AGGREGATE + into: "true"} if into else {}
        yield _object("ClusterRole", name, labels=labels, rules=[parse_rule(each) for each in lines])
    rules: list[Object] = []
    # Their rules are there from the start, as the aggregation controller would fill them in: a server without one has usable roles as well.
    for name in _AGGREGATED:
        into = _AGGREGATED_INTO.get(name)
        selectors = [{"matchLabels": {_AGGREGATE + name: "true"}}]
        labels = {_AGGREGATE + into: "true"} if into else {}
        own = [parse_rule(each) for each in _CLUSTER_ROLES[f"system:aggregate-to-{name}"]]
        # In the order of the roles' names: `edit` comes before `system:…`, and `view` after it.
        rules = [*rules, *own] if name == "admin" else [*own, *rules]
        yield _object("ClusterRole", name, labels=labels, aggregationRule={"clusterRoleSelectors": selectors}, rules=rules)


def cluster_role_bindings() -> Iterator[Object]:
    """All ClusterRoleBindings."""
    for name, subjects in _CLUSTER_BINDINGS.items():
        yield _binding("ClusterRoleBinding", name, "", "ClusterRole", name, subjects)
    for name in policy_controllers.ROLES:
        account = name.removeprefix(policy_controllers.PREFIX)
        yield _binding("ClusterRoleBinding", name, "", "ClusterRole", name, (f"account:{account}",))


def roles() -> Iterator[Object]:
    """All Roles."""
    for namespace, found in _ROLES.items():
        for name, lines in found.items():
            yield _object("Role", name, namespace, rules=[parse_rule(each) for each in lines])


def role_bindings() -> Iterator[Object]:
    """All RoleBindings."""
    for namespace, found in _BINDINGS.items():
        for name, (role, subjects) in found.items():
            yield _binding("RoleBinding", name, namespace, "Role", role, subjects)


def node_rules() -> list[Object]:
    """The rules of `system:node`, which the node authorizer applies itself."""
    return [parse_rule(each) for each in _CLUSTER_ROLES["system:node"]]
