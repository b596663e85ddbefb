"""The roles of the controllers, each of which has a service account of the same name in kube-system. The notation is that of :mod:`.policy`."""

from __future__ import annotations

PREFIX = "system:controller:"

_EVENTS = "EVENTS | core events.k8s.io | events"
_SLICES = "create delete get list update watch | discovery.k8s.io | endpointslices"
_PODS = "create delete list patch watch | core | pods"
_REVISIONS = "create delete get list patch update watch | apps | controllerrevisions"

_RULES: dict[str, tuple[str, ...]] = {
    "attachdetach-controller": (
        "list watch | core | persistentvolumeclaims persistentvolumes",
        "READ | core | nodes",
        "patch update | core | nodes/status",
        "list watch | core | pods",
        _EVENTS,
        "create delete get list watch | storage.k8s.io | volumeattachments",
        "READ | storage.k8s.io | csidrivers",
        "READ | storage.k8s.io | csinodes",
    ),
    "clusterrole-aggregation-controller": ("escalate get list patch update watch | rbac.authorization.k8s.io | clusterroles",),
    "cronjob-controller": (
        "get list update watch | batch | cronjobs",
        "create delete get list patch update watch | batch | jobs",
        "update | batch | cronjobs/status",
        "update | batch | cronjobs/finalizers",
        "delete list watch | core | pods",
        _EVENTS,
    ),
    "daemon-set-controller": (
        "READ | apps extensions | daemonsets",
        "update | apps extensions | daemonsets/status",
        "update | apps extensions | daemonsets/finalizers",
        "list watch | core | nodes",
        _PODS,
        "create | core | pods/binding",
        _REVISIONS,
        _EVENTS,
    ),
    "deployment-controller": (
        "get list update watch | apps extensions | deployments",
        "update | apps extensions | deployments/status",
        "update | apps extensions | deployments/finalizers",
        "create delete get list patch update watch | apps extensions | replicasets",
        "get list update watch | core | pods",
        _EVENTS,
    ),
    "disruption-controller": (
        "READ | apps extensions | deployments",
        "READ | apps extensions | replicasets",
        "READ | core | replicationcontrollers",
        "READ | policy | poddisruptionbudgets",
        "READ | apps | statefulsets",
        "update | policy | poddisruptionbudgets/status",
        "patch update | core | pods/status",
        "get | * | */scale",
        _EVENTS,
    ),
    "endpoint-controller": (
        "READ | core | pods services",
        "create delete get list update watch | core | endpoints",
        "create | core | endpoints/restricted",
        _EVENTS,
    ),
    "endpointslice-controller": ("READ | core | nodes pods services", "update | core | services/finalizers", _SLICES, _EVENTS),
    "endpointslicemirroring-controller": (
        "READ | core | endpoints services",
        "update | core | services/finalizers",
        "update | core | endpoints/finalizers",
        _SLICES,
        _EVENTS,
    ),
    "ephemeral-volume-controller": (
        "READ | core | pods",
        "update | core | pods/finalizers",
        "create get list watch | core | persistentvolumeclaims",
        _EVENTS,
    ),
    "expand-controller": (
        "get list patch update watch | core | persistentvolumes",
        "patch update | core | persistentvolumeclaims/status",
        "READ | core | persistentvolumeclaims",
        _EVENTS,
        "get | core | services",
    ),
    "generic-garbage-collector": ("delete get list patch update watch | * | *", _EVENTS),
    "horizontal-pod-autoscaler": (
        "READ | autoscaling | horizontalpodautoscalers",
        "update | autoscaling | horizontalpodautoscalers/status",
        "get update | * | */scale",
        "list watch | core | pods",
        "list | metrics.k8s.io | pods",
        "get list | custom.metrics.k8s.io | *",
        "get list | external.metrics.k8s.io | *",
        _EVENTS,
    ),
    "job-controller": (
        "get list patch update watch | batch | jobs",
        "update | batch | jobs/status",
        "update | batch | jobs/finalizers",
        _PODS,
        _EVENTS,
    ),
    "namespace-controller": (
        "delete get list watch | core | namespaces",
        "update | core | namespaces/finalize namespaces/status",
        "delete deletecollection get list watch | * | *",
    ),
    "node-controller": (
        "delete get list patch update watch | core | nodes",
        "patch update | core | nodes/status",
        "patch update | core | pods/status",
        "delete get list watch | core | pods",
        _EVENTS,
    ),
    "persistent-volume-binder": (
        "create delete get list update watch | core | persistentvolumes",
        "update | core | persistentvolumes/status",
        "get list update watch | core | persistentvolumeclaims",
        "update | core | persistentvolumeclaims/status",
        "create delete get list watch | core | pods",
        "READ | storage.k8s.io | storageclasses",
        "list watch | core | nodes",
        _EVENTS,
        "watch | core | events",
        "get | core | services",
    ),
    "pod-garbage-collector": ("delete list watch | core | pods", "READ | core | nodes", "patch | core | pods/status"),
    "replicaset-controller": (
        "get list update watch | apps extensions | replicasets",
        "update | apps extensions | replicasets/status",
        "update | apps extensions | replicasets/finalizers",
        _PODS,
        _EVENTS,
    ),
    "replication-controller": (
        "get list update watch | core | replicationcontrollers",
        "update | core | replicationcontrollers/status",
        "update | core | replicationcontrollers/finalizers",
        _PODS,
        _EVENTS,
    ),
    "resourcequota-controller": ("list watch | * | *", "update | core | resourcequotas/status", _EVENTS),
    "route-controller": ("list watch | core | nodes", "patch | core | nodes/status", _EVENTS),
    "service-account-controller": ("create | core | serviceaccounts", _EVENTS),
    "service-controller": (
        "READ | core | services",
        "patch update | core | services/status",
        "list watch | core | nodes",
        _EVENTS,
    ),
    "service-cidrs-controller": (
        "get list patch update watch | networking.k8s.io | servicecidrs",
        "patch update | networking.k8s.io | servicecidrs/finalizers",
        "patch update | networking.k8s.io | servicecidrs/status",
        "READ | networking.k8s.io | ipaddresses",
        _EVENTS,
    ),
    "statefulset-controller": (
        "list watch | core | pods",
        "READ | apps | statefulsets",
        "update | apps | statefulsets/status",
        "update | apps | statefulsets/finalizers",
        "create delete get patch update | core | pods",
        _REVISIONS,
        "create get list watch | core | persistentvolumeclaims",
        "delete update | core | persistentvolumeclaims",
        "update | core | pods/finalizers",
        _EVENTS,
    ),
    "ttl-controller": ("list patch update watch | core | nodes", _EVENTS),
    "certificate-controller": (
        "delete get list watch | certificates.k8s.io | certificatesigningrequests",
        "update | certificates.k8s.io | certificatesigningrequests/approval certificatesigningrequests/status",
        "approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client-kubelet",
        (
            "sign | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet"
            " kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown"
        ),
        "create | authorization.k8s.io | subjectaccessreviews",
        _EVENTS,
    ),
    "pvc-protection-controller": ("get list update watch | core | persistentvolumeclaims", "READ | core | pods", _EVENTS),
    "pv-protection-controller": ("get list update watch | core | persistentvolumes", _EVENTS),
    "ttl-after-finished-controller": ("delete get list watch | batch | jobs", _EVENTS),
    "root-ca-cert-publisher": ("create update | core | configmaps", _EVENTS),
    "validatingadmissionpolicy-status-controller": (
        "READ | admissionregistration.k8s.io | validatingadmissionpolicies",
        "get patch update | admissionregistration.k8s.io | validatingadmissionpolicies/status",
        _EVENTS,
    ),
    "legacy-service-account-token-cleaner": (
        "get | core | configmaps | kube-apiserver-legacy-service-account-token-tracking",
        "delete patch | core | secrets",
    ),
    "selinux-warning-controller": (
        _EVENTS,
        "READ | core | persistentvolumes",
        "READ | core | persistentvolumeclaims",
        "READ | core | pods",
        "READ | storage.k8s.io | csidrivers",
    ),
}

ROLES = {PREFIX + name: rules for name, rules in _RULES.items()}
