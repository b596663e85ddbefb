"""Which function fills in which kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeling.api.defaults import others, pod, workloads

_DEFAULTS: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
    ("v1", "Pod"): pod.pod,
    ("v1", "PodTemplate"): workloads.pod_template,
    ("v1", "ReplicationController"): workloads.replication_controller,
    ("v1", "Service"): others.service,
    ("v1", "Endpoints"): others.endpoints,
    ("v1", "Secret"): others.secret,
    ("v1", "Namespace"): others.namespace,
    ("v1", "Node"): others.node,
    ("v1", "PersistentVolume"): others.persistent_volume,
    ("v1", "PersistentVolumeClaim"): others.persistent_volume_claim,
    ("v1", "LimitRange"): others.limit_range,
    ("v1", "ResourceQuota"): others.resource_quota,
    ("apps/v1", "Deployment"): workloads.deployment,
    ("apps/v1", "ReplicaSet"): workloads.replica_set,
    ("apps/v1", "DaemonSet"): workloads.daemon_set,
    ("apps/v1", "StatefulSet"): workloads.stateful_set,
    ("batch/v1", "Job"): workloads.job,
    ("batch/v1", "CronJob"): workloads.cron_job,
    ("autoscaling/v1", "HorizontalPodAutoscaler"): workloads.autoscaler_v1,
    ("autoscaling/v2", "HorizontalPodAutoscaler"): workloads.autoscaler,
    ("networking.k8s.io/v1", "NetworkPolicy"): others.network_policy,
    ("networking.k8s.io/v1", "IngressClass"): others.ingress_class,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): others.binding,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): others.binding,
    ("storage.k8s.io/v1", "StorageClass"): others.storage_class,
    ("storage.k8s.io/v1", "CSIDriver"): others.csi_driver,
    ("storage.k8s.io/v1", "CSIStorageCapacity"): others.csi_storage_capacity,
    ("scheduling.k8s.io/v1", "PriorityClass"): others.priority_class,
    ("discovery.k8s.io/v1", "EndpointSlice"): others.endpoint_slice,
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"): others.mutating_webhooks,
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"): others.validating_webhooks,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"): others.admission_policy,
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"): others.admission_policy_binding,
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"): others.flow_schema,
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"): others.priority_level,
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): others.custom_resource_definition,
    ("apiregistration.k8s.io/v1", "APIService"): others.api_service,
    ("authentication.k8s.io/v1", "TokenRequest"): others.token_request,
}


def apply_defaults(obj: dict[str, Any], api_version: str = "", kind: str = "") -> None:
    """Fill the object in, in place. apiVersion and kind are the object's own where they are not given; kinds without defaults stay as they are."""
    found = _DEFAULTS.get((api_version or obj.get("apiVersion", ""), kind or obj.get("kind", "")))
    if found is not None:
        found(obj)
