"""Pods as they are wished for: the spec, and what decides where they run."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_container import (
    AppArmorProfile,
    Container,
    EphemeralContainer,
    SeccompProfile,
    SELinuxOptions,
    WindowsSecurityContextOptions,
)
from kubeling.api.types.core_reference import LocalObjectReference, NodeSelector, NodeSelectorTerm, ResourceRequirements
from kubeling.api.types.core_volume import Volume
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import LabelSelector, ObjectMeta
from kubeling.api.types.scalars import Int32, Int64, Quantity


class PreferredSchedulingTerm(TypedDict, total=False):
    """A preference for nodes."""

    weight: Annotated[Required[Int32], f(1, "Points for a node that matches, 1 to 100.")]
    preference: Annotated[Required[NodeSelectorTerm], f(2, "Which nodes.")]


class NodeAffinity(TypedDict, total=False):
    """Which nodes a pod must or would like to run on."""

    requiredDuringSchedulingIgnoredDuringExecution: Annotated[
        NodeSelector, f(1, "What a node must be for the pod to be placed there.", pointer=True)
    ]
    preferredDuringSchedulingIgnoredDuringExecution: Annotated[
        list[PreferredSchedulingTerm], f(2, "Preferences; the weights of those that match are added up.", list_type="atomic")
    ]


class PodAffinityTerm(TypedDict, total=False):
    """Pods, and the domain within which they are near."""

    labelSelector: Annotated[LabelSelector, f(1, "Which pods; none where it is not given.", pointer=True)]
    namespaces: Annotated[
        list[str],
        f(2, "Namespaces of the pods, added to namespaceSelector; the own one where both are absent.", list_type="atomic"),
    ]
    topologyKey: Annotated[Required[str], f(3, "Node label whose equal values make one domain.")]
    namespaceSelector: Annotated[
        LabelSelector, f(4, "Namespaces of the pods, by their labels; an empty selector means all.", pointer=True)
    ]
    matchLabelKeys: Annotated[
        list[str], f(5, "Keys whose values of the incoming pod are demanded of the other pods too.", list_type="atomic")
    ]
    mismatchLabelKeys: Annotated[
        list[str], f(6, "Keys whose values of the incoming pod the other pods must not have.", list_type="atomic")
    ]


class WeightedPodAffinityTerm(TypedDict, total=False):
    """A preference for the nearness of pods."""

    weight: Annotated[Required[Int32], f(1, "Points for a node that matches, 1 to 100.")]
    podAffinityTerm: Annotated[Required[PodAffinityTerm], f(2, "Which pods, and what near means.")]


class PodAffinity(TypedDict, total=False):
    """Pods that a pod must or would like to be near."""

    requiredDuringSchedulingIgnoredDuringExecution: Annotated[
        list[PodAffinityTerm], f(1, "Terms that must all hold for the pod to be placed.", list_type="atomic")
    ]
    preferredDuringSchedulingIgnoredDuringExecution: Annotated[
        list[WeightedPodAffinityTerm], f(2, "Preferences; the weights of those that match are added up.", list_type="atomic")
    ]


class PodAntiAffinity(TypedDict, total=False):
    """Pods that a pod must or would like to stay away from."""

    requiredDuringSchedulingIgnoredDuringExecution: Annotated[
        list[PodAffinityTerm], f(1, "Terms of which none may hold for the pod to be placed.", list_type="atomic")
    ]
    preferredDuringSchedulingIgnoredDuringExecution: Annotated[
        list[WeightedPodAffinityTerm], f(2, "Things to avoid; the weights of those that match are taken off.", list_type="atomic")
    ]


class Affinity(TypedDict, total=False):
    """All rules of nearness."""

    nodeAffinity: Annotated[NodeAffinity, f(1, "Towards nodes.", pointer=True)]
    podAffinity: Annotated[PodAffinity, f(2, "Towards pods.", pointer=True)]
    podAntiAffinity: Annotated[PodAntiAffinity, f(3, "Away from pods.", pointer=True)]


class Toleration(TypedDict, total=False):
    """Lets a pod run in spite of a taint."""

    key: Annotated[str, f(1, "Key of the taint; empty with Exists means every taint.")]
    operator: Annotated[str, f(2, "Exists or Equal; Equal by default.")]
    value: Annotated[str, f(3, "Value of the taint; empty with Exists.")]
    effect: Annotated[str, f(4, "NoSchedule, PreferNoSchedule or NoExecute; empty means all.")]
    tolerationSeconds: Annotated[Int64, f(5, "Seconds for which NoExecute is put up with; for ever by default.", pointer=True)]


class TopologySpreadConstraint(TypedDict, total=False):
    """How evenly pods are spread over domains."""

    maxSkew: Annotated[Required[Int32], f(1, "How far the fullest and the emptiest domain may differ, 1 or more.")]
    topologyKey: Annotated[Required[str], f(2, "Node label whose equal values make one domain.")]
    whenUnsatisfiable: Annotated[Required[str], f(3, "DoNotSchedule or ScheduleAnyway.")]
    labelSelector: Annotated[LabelSelector, f(4, "Which pods are counted.", pointer=True)]
    minDomains: Annotated[
        Int32, f(5, "How many domains there must be; with fewer the smallest count is taken as 0. 1 by default.", pointer=True)
    ]
    nodeAffinityPolicy: Annotated[
        str, f(6, "Honor or Ignore the pod's node affinity when counting domains; Honor by default.", pointer=True)
    ]
    nodeTaintsPolicy: Annotated[
        str, f(7, "Honor or Ignore taints of nodes when counting domains; Ignore by default.", pointer=True)
    ]
    matchLabelKeys: Annotated[
        list[str], f(8, "Keys whose values of the incoming pod are demanded of the counted pods too.", list_type="atomic")
    ]


class Sysctl(TypedDict, total=False):
    """A kernel parameter."""

    name: Annotated[Required[str], f(1, "Name of the parameter.")]
    value: Annotated[Required[str], f(2, "Its value.")]


class PodSecurityContext(TypedDict, total=False):
    """Security of all containers of a pod."""

    seLinuxOptions: Annotated[SELinuxOptions, f(1, "SELinux context of all containers.", pointer=True)]
    windowsOptions: Annotated[WindowsSecurityContextOptions, f(8, "Settings for Windows.", pointer=True)]
    runAsUser: Annotated[Int64, f(2, "User ID of the processes; the image's by default.", pointer=True)]
    runAsGroup: Annotated[Int64, f(6, "Group ID of the processes; the runtime's by default.", pointer=True)]
    runAsNonRoot: Annotated[bool, f(3, "Refuse to start containers as user 0.", pointer=True)]
    supplementalGroups: Annotated[list[Int64], f(4, "More group IDs of the processes.", list_type="atomic")]
    supplementalGroupsPolicy: Annotated[str, f(12, "Merge with the image's groups or Strict; Merge by default.", pointer=True)]
    fsGroup: Annotated[Int64, f(5, "Group that owns the volumes, and that the processes belong to.", pointer=True)]
    sysctls: Annotated[list[Sysctl], f(7, "Kernel parameters of the pod's namespaces.", list_type="atomic")]
    fsGroupChangePolicy: Annotated[
        str, f(9, "OnRootMismatch or Always: when the owner of a volume is changed; Always by default.", pointer=True)
    ]
    seccompProfile: Annotated[SeccompProfile, f(10, "Which system calls are allowed.", pointer=True)]
    appArmorProfile: Annotated[AppArmorProfile, f(11, "Which AppArmor profile applies.", pointer=True)]
    seLinuxChangePolicy: Annotated[str, f(13, "MountOption or Recursive: how a volume gets its SELinux label.", pointer=True)]


class HostAlias(TypedDict, total=False):
    """A line of /etc/hosts."""

    ip: Annotated[Required[str], f(1, "The address.")]
    hostnames: Annotated[list[str], f(2, "Names for the address.", list_type="atomic")]


class PodDNSConfigOption(TypedDict, total=False):
    """An option of the resolver."""

    name: Annotated[str, f(1, "Name of the option.")]
    value: Annotated[str, f(2, "Its value, if it has one.", pointer=True)]


class PodDNSConfig(TypedDict, total=False):
    """What is put into /etc/resolv.conf, beyond what dnsPolicy gives."""

    nameservers: Annotated[list[str], f(1, "Addresses of name servers; put after the policy's.", list_type="atomic")]
    searches: Annotated[list[str], f(2, "Search domains; put after the policy's.", list_type="atomic")]
    options: Annotated[list[PodDNSConfigOption], f(3, "Options of the resolver; they win over the policy's.", list_type="atomic")]


class PodReadinessGate(TypedDict, total=False):
    """A condition that must be True for the pod to be ready."""

    conditionType: Annotated[Required[str], f(1, "Type of the condition in the pod's status.")]


class PodOS(TypedDict, total=False):
    """The operating system that a pod needs."""

    name: Annotated[Required[str], f(1, "linux or windows.")]


class PodSchedulingGate(TypedDict, total=False):
    """Something that must happen before the pod is scheduled."""

    name: Annotated[Required[str], f(1, "Name of the gate; whoever put it there takes it away.")]


class PodResourceClaim(TypedDict, total=False):
    """A claim on devices that the pod uses; exactly one source is set."""

    name: Annotated[Required[str], f(1, "Name by which containers refer to the claim.")]
    resourceClaimName: Annotated[str, f(3, "A ResourceClaim of the namespace.", pointer=True)]
    resourceClaimTemplateName: Annotated[
        str, f(4, "A ResourceClaimTemplate to make a claim from; it goes with the pod.", pointer=True)
    ]


class PodSpec(TypedDict, total=False):
    """What should run: the containers, where, and under which rules."""

    volumes: Annotated[
        list[Volume], f(1, "Volumes that the containers may mount.", strategy="merge,retainKeys", merge_key="name", keys="name")
    ]
    initContainers: Annotated[
        list[Container],
        f(
            20,
            "Run one after another before the others start; each must succeed, or be a sidecar.",
            merge_key="name",
            keys="name",
        ),
    ]
    containers: Annotated[
        Required[list[Container]],
        f(2, "The containers; at least one. None can be added or removed later.", merge_key="name", keys="name"),
    ]
    ephemeralContainers: Annotated[
        list[EphemeralContainer],
        f(34, "Containers added for debugging, by way of the ephemeralcontainers subresource.", merge_key="name", keys="name"),
    ]
    restartPolicy: Annotated[str, f(3, "Always, OnFailure or Never; Always by default.")]
    terminationGracePeriodSeconds: Annotated[
        Int64, f(4, "Seconds between the polite stop and the kill; 30 by default.", pointer=True)
    ]
    activeDeadlineSeconds: Annotated[
        Int64, f(5, "Seconds after the start until the pod is failed; no limit by default.", pointer=True)
    ]
    dnsPolicy: Annotated[str, f(6, "ClusterFirst, ClusterFirstWithHostNet, Default or None; ClusterFirst by default.")]
    nodeSelector: Annotated[dict[str, str], f(7, "Labels that the node must have.", atomic=True)]
    serviceAccountName: Annotated[str, f(8, "The ServiceAccount that the pod runs as; default by default.")]
    serviceAccount: Annotated[str, f(9, "Old name of serviceAccountName.")]
    automountServiceAccountToken: Annotated[
        bool, f(21, "Whether a token is mounted by itself; the service account decides by default.", pointer=True)
    ]
    nodeName: Annotated[str, f(10, "Node that the pod is bound to; the scheduler sets it.")]
    hostNetwork: Annotated[bool, f(11, "Share the node's network; false by default.")]
    hostPID: Annotated[bool, f(12, "Share the node's process namespace; false by default.")]
    hostIPC: Annotated[bool, f(13, "Share the node's IPC namespace; false by default.")]
    shareProcessNamespace: Annotated[
        bool, f(27, "Share one process namespace between the containers; false by default.", pointer=True)
    ]
    securityContext: Annotated[PodSecurityContext, f(14, "Security settings of all containers.", pointer=True)]
    imagePullSecrets: Annotated[
        list[LocalObjectReference], f(15, "Secrets with credentials for image registries.", merge_key="name", keys="name")
    ]
    hostname: Annotated[str, f(16, "Host name of the pod; its own name by default.")]
    subdomain: Annotated[str, f(17, "Makes the full name <hostname>.<subdomain>.<namespace>.svc.<cluster domain>.")]
    affinity: Annotated[Affinity, f(18, "Rules of nearness to nodes and pods.", pointer=True)]
    schedulerName: Annotated[str, f(19, "Which scheduler places the pod; default-scheduler by default.")]
    tolerations: Annotated[list[Toleration], f(22, "Taints that do not keep the pod away.", list_type="atomic")]
    hostAliases: Annotated[list[HostAlias], f(23, "Lines for /etc/hosts.", merge_key="ip", keys="ip")]
    priorityClassName: Annotated[str, f(24, "The PriorityClass; the cluster's default, or priority 0, where it is not given.")]
    priority: Annotated[Int32, f(25, "Priority that the class stands for; set at admission.", pointer=True)]
    dnsConfig: Annotated[PodDNSConfig, f(26, "More for the resolver than dnsPolicy gives.", pointer=True)]
    readinessGates: Annotated[
        list[PodReadinessGate],
        f(28, "Conditions that must be True, besides ready containers, for the pod to be ready.", list_type="atomic"),
    ]
    runtimeClassName: Annotated[
        str, f(29, "The RuntimeClass that runs the pod; the node's default where it is not given.", pointer=True)
    ]
    enableServiceLinks: Annotated[
        bool, f(30, "Whether Services of the namespace are put into the environment; true by default.", pointer=True)
    ]
    preemptionPolicy: Annotated[str, f(31, "PreemptLowerPriority or Never; the class decides.", pointer=True)]
    overhead: Annotated[dict[str, Quantity], f(32, "What the runtime itself needs; set from the RuntimeClass.")]
    topologySpreadConstraints: Annotated[
        list[TopologySpreadConstraint],
        f(
            33,
            "How evenly pods are spread over domains; all must hold.",
            merge_key="topologyKey",
            keys="topologyKey whenUnsatisfiable",
        ),
    ]
    setHostnameAsFQDN: Annotated[bool, f(35, "Whether the host name is the full name; false by default.", pointer=True)]
    os: Annotated[PodOS, f(36, "Operating system that the pod needs.", pointer=True)]
    hostUsers: Annotated[bool, f(37, "Whether the node's user namespace is used; true by default.", pointer=True)]
    schedulingGates: Annotated[
        list[PodSchedulingGate],
        f(38, "What must happen before scheduling begins; can only be taken away.", merge_key="name", keys="name"),
    ]
    resourceClaims: Annotated[
        list[PodResourceClaim],
        f(39, "Claims on devices that the containers may use.", strategy="merge,retainKeys", merge_key="name", keys="name"),
    ]
    resources: Annotated[ResourceRequirements, f(40, "Requests and limits of the pod as a whole.", pointer=True)]


class PodTemplateSpec(TypedDict, total=False):
    """A pattern from which pods are made."""

    metadata: Annotated[ObjectMeta, f(1, "Labels, annotations and the like for the pods.")]
    spec: Annotated[PodSpec, f(2, "What runs in the pods.")]
