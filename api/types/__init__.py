"""The vocabulary: every kind and message as a `TypedDict`, one module a group (core/v1 has several, by theme).

`PACKAGES` says in which modules a package's messages are and `GROUP_VERSIONS` which package belongs to an apiVersion. Nothing is imported here.
"""

PACKAGES: dict[str, tuple[str, ...]] = {
    "meta.v1": ("meta_v1", "meta_options_v1", "meta_discovery_v1"),
    "core.v1": (
        "core_pod_status",
        "core_pod",
        "core_container",
        "core_reference",
        "core_persistent",
        "core_volume",
        "core_volume_vendor",
        "core_service",
        "core_node",
        "core_config",
        "core_namespace",
        "core_event",
        "core_workload",
        "core_options",
    ),
    "apps.v1": ("apps_v1",),
    "batch.v1": ("batch_v1",),
    "autoscaling.v1": ("autoscaling_v1",),
    "autoscaling.v2": ("autoscaling_v2",),
    "policy.v1": ("policy_v1",),
    "networking.v1": ("networking_v1",),
    "rbac.v1": ("rbac_v1",),
    "storage.v1": ("storage_v1",),
    "scheduling.v1": ("scheduling_v1",),
    "node.v1": ("node_v1",),
    "discovery.v1": ("discovery_v1",),
    "events.v1": ("events_v1",),
    "coordination.v1": ("coordination_v1",),
    "certificates.v1": ("certificates_v1",),
    "admissionregistration.v1": ("admissionregistration_v1",),
    "admissionregistration.v1beta1": ("admissionregistration_v1beta1",),
    "admission.v1": ("admission_v1",),
    "authentication.v1": ("authentication_v1",),
    "authorization.v1": ("authorization_v1",),
    "flowcontrol.v1": ("flowcontrol_v1",),
    "apidiscovery.v2": ("apidiscovery_v2",),
    "resource.v1beta1": ("resource_v1beta1",),
    "metrics.v1beta1": ("metrics_v1beta1",),
    "apiextensions.v1": ("apiextensions_v1", "apiextensions_schema_v1"),
    "apiregistration.v1": ("apiregistration_v1",),
    "apiserverinternal.v1alpha1": ("apiserverinternal_v1alpha1",),
    "storagemigration.v1alpha1": ("storagemigration_v1alpha1",),
}

_LONG_GROUPS = {
    "networking": "networking.k8s.io",
    "rbac": "rbac.authorization.k8s.io",
    "storage": "storage.k8s.io",
    "scheduling": "scheduling.k8s.io",
    "node": "node.k8s.io",
    "discovery": "discovery.k8s.io",
    "events": "events.k8s.io",
    "coordination": "coordination.k8s.io",
    "certificates": "certificates.k8s.io",
    "admissionregistration": "admissionregistration.k8s.io",
    "admission": "admission.k8s.io",
    "authentication": "authentication.k8s.io",
    "authorization": "authorization.k8s.io",
    "flowcontrol": "flowcontrol.apiserver.k8s.io",
    "apidiscovery": "apidiscovery.k8s.io",
    "resource": "resource.k8s.io",
    "metrics": "metrics.k8s.io",
    "apiextensions": "apiextensions.k8s.io",
    "apiregistration": "apiregistration.k8s.io",
    "apiserverinternal": "internal.apiserver.k8s.io",
    "storagemigration": "storagemigration.k8s.io",
    "meta": "meta.k8s.io",
}


def _group_version(package: str) -> str:
    group, version = package.split(".")
    return version if group == "core" else f"{_LONG_GROUPS.get(group, group)}/{version}"


#: apiVersion → package: "v1" → "core.v1", "rbac.authorization.k8s.io/v1" → "rbac.v1".
GROUP_VERSIONS: dict[str, str] = {_group_version(package): package for package in PACKAGES}
#: Older versions of a group that are served with the messages of its v1.
OLDER_VERSIONS = {
    "authentication.k8s.io/v1beta1": "authentication.v1",
    "authentication.k8s.io/v1alpha1": "authentication.v1",
}
