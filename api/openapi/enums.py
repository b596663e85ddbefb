"""Which values a field may have, where it is one of a few words. The rules themselves are in :mod:`kubeling.api.validation`; this is what `explain` and code
generators are told."""

from __future__ import annotations

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL = ("Always", "IfNotPresent", "Never")
_TERMINATION = ("FallbackToLogsOnError", "File")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_PREEMPTION = ("Never", "PreemptLowerPriority")
_POLICIES = ("Honor", "Ignore")
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_FAILURE = ("Fail", "Ignore")
_MATCH = ("Equivalent", "Exact")
_SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")

#: Message → field → values.
ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "core.v1.PodSpec": {
        "restartPolicy": ("Always", "Never", "OnFailure"),
        "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
        "preemptionPolicy": _PREEMPTION,
    },
    "core.v1.PodStatus": {
        "phase": ("Failed", "Pending", "Running", "Succeeded", "Unknown"),
        "qosClass": ("BestEffort", "Burstable", "Guaranteed"),
    },
    "core.v1.Container": {"imagePullPolicy": _PULL, "terminationMessagePolicy": _TERMINATION},
    "core.v1.EphemeralContainer": {"imagePullPolicy": _PULL, "terminationMessagePolicy": _TERMINATION},
    "core.v1.ContainerPort": {"protocol": _PROTOCOLS},
    "core.v1.HTTPGetAction": {"scheme": ("HTTP", "HTTPS")},
    "core.v1.SeccompProfile": {"type": _PROFILES},
    "core.v1.AppArmorProfile": {"type": _PROFILES},
    "core.v1.Toleration": {"effect": _EFFECTS, "operator": ("Equal", "Exists")},
    "core.v1.Taint": {"effect": _EFFECTS},
    "core.v1.NodeSelectorRequirement": {"operator": ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")},
    "core.v1.TopologySpreadConstraint": {
        "whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
        "nodeAffinityPolicy": _POLICIES,
        "nodeTaintsPolicy": _POLICIES,
    },
    "core.v1.ServiceSpec": {
        "type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
        "sessionAffinity": ("ClientIP", "None"),
        "externalTrafficPolicy": ("Cluster", "Local"),
        "internalTrafficPolicy": ("Cluster", "Local"),
        "ipFamilyPolicy": ("PreferDualStack", "RequireDualStack", "SingleStack"),
    },
    "core.v1.ServicePort": {"protocol": _PROTOCOLS},
    "core.v1.EndpointPort": {"protocol": _PROTOCOLS},
    "core.v1.PersistentVolumeClaimSpec": {"volumeMode": _MODES},
    "core.v1.PersistentVolumeClaimStatus": {"phase": ("Bound", "Lost", "Pending")},
    "core.v1.PersistentVolumeSpec": {"volumeMode": _MODES, "persistentVolumeReclaimPolicy": _RECLAIM},
    "core.v1.PersistentVolumeStatus": {"phase": ("Available", "Bound", "Failed", "Pending", "Released")},
    "core.v1.NamespaceStatus": {"phase": ("Active", "Terminating")},
    "core.v1.HostPathVolumeSource": {
        "type": ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
    },
    "apps.v1.DeploymentStrategy": {"type": ("Recreate", "RollingUpdate")},
    "apps.v1.DaemonSetUpdateStrategy": {"type": ("OnDelete", "RollingUpdate")},
    "apps.v1.StatefulSetUpdateStrategy": {"type": ("OnDelete", "RollingUpdate")},
    "apps.v1.StatefulSetSpec": {"podManagementPolicy": ("OrderedReady", "Parallel")},
    "batch.v1.JobSpec": {"completionMode": ("Indexed", "NonIndexed"), "podReplacementPolicy": ("Failed", "TerminatingOrFailed")},
    "batch.v1.CronJobSpec": {"concurrencyPolicy": ("Allow", "Forbid", "Replace")},
    "batch.v1.PodFailurePolicyRule": {"action": ("Count", "FailIndex", "FailJob", "Ignore")},
    "batch.v1.PodFailurePolicyOnExitCodesRequirement": {"operator": ("In", "NotIn")},
    "networking.v1.HTTPIngressPath": {"pathType": ("Exact", "ImplementationSpecific", "Prefix")},
    "networking.v1.NetworkPolicyPort": {"protocol": _PROTOCOLS},
    "policy.v1.PodDisruptionBudgetSpec": {"unhealthyPodEvictionPolicy": ("AlwaysAllow", "IfHealthyBudget")},
    "discovery.v1.EndpointSlice": {"addressType": ("FQDN", "IPv4", "IPv6")},
    "discovery.v1.EndpointPort": {"protocol": _PROTOCOLS},
    "storage.v1.StorageClass": {"volumeBindingMode": ("Immediate", "WaitForFirstConsumer"), "reclaimPolicy": _RECLAIM},
    "scheduling.v1.PriorityClass": {"preemptionPolicy": _PREEMPTION},
    "admissionregistration.v1.ValidatingWebhook": {
        "failurePolicy": _FAILURE,
        "matchPolicy": _MATCH,
        "sideEffects": _SIDE_EFFECTS,
    },
    "admissionregistration.v1.MutatingWebhook": {
        "failurePolicy": _FAILURE,
        "matchPolicy": _MATCH,
        "sideEffects": _SIDE_EFFECTS,
        "reinvocationPolicy": ("IfNeeded", "Never"),
    },
    "admissionregistration.v1.ValidatingAdmissionPolicySpec": {"failurePolicy": _FAILURE},
}
