"""Pods as they are: containers' states, conditions, addresses; and the kinds around a pod."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_pod import PodSpec, PodTemplateSpec
from kubeling.api.types.core_reference import ObjectReference, ResourceRequirements
from kubeling.api.types.core_volume import VolumeMountStatus
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int32, Int64, Quantity, Time


class ContainerStateWaiting(TypedDict, total=False):
    """A container that is not yet, or not again, running."""

    reason: Annotated[str, f(1, "Why it waits, in one word, such as ContainerCreating or CrashLoopBackOff.")]
    message: Annotated[str, f(2, "Why it waits, for people.")]


class ContainerStateRunning(TypedDict, total=False):
    """A container that is running."""

    startedAt: Annotated[Time, f(1, "When it was started.")]


class ContainerStateTerminated(TypedDict, total=False):
    """A container that has ended."""

    exitCode: Annotated[Required[Int32], f(1, "Exit code of its process.")]
    signal: Annotated[Int32, f(2, "Signal that ended the process.")]
    reason: Annotated[str, f(3, "Why it ended, in one word, such as Completed, Error or OOMKilled.")]
    message: Annotated[str, f(4, "What the container left as its termination message.")]
    startedAt: Annotated[Time, f(5, "When it was started.")]
    finishedAt: Annotated[Time, f(6, "When it ended.")]
    containerID: Annotated[str, f(7, "ID of the container, as <runtime>://<id>.")]


class ContainerState(TypedDict, total=False):
    """State of a container; one member is set, waiting where none is."""

    waiting: Annotated[ContainerStateWaiting, f(1, "It is not yet running.", pointer=True)]
    running: Annotated[ContainerStateRunning, f(2, "It is running.", pointer=True)]
    terminated: Annotated[ContainerStateTerminated, f(3, "It has ended.", pointer=True)]


class LinuxContainerUser(TypedDict, total=False):
    """Identity of the first process on Linux."""

    uid: Annotated[Required[Int64], f(1, "User ID.")]
    gid: Annotated[Required[Int64], f(2, "Group ID.")]
    supplementalGroups: Annotated[list[Int64], f(3, "More group IDs.", list_type="atomic")]


class ContainerUser(TypedDict, total=False):
    """Identity of a container's first process."""

    linux: Annotated[LinuxContainerUser, f(1, "On Linux.", pointer=True)]


class ResourceHealth(TypedDict, total=False):
    """Health of one device."""

    resourceID: Annotated[Required[str], f(1, "What the device's plugin or driver calls it.")]
    health: Annotated[str, f(2, "Healthy, Unhealthy or Unknown.")]


class ResourceStatus(TypedDict, total=False):
    """Health of the devices given to a container."""

    name: Annotated[Required[str], f(1, "Name of the resource.")]
    resources: Annotated[list[ResourceHealth], f(2, "The devices.", keys="resourceID")]


class ContainerStatus(TypedDict, total=False):
    """How a container is doing."""

    name: Annotated[Required[str], f(1, "Name of the container.")]
    state: Annotated[ContainerState, f(2, "What it is doing now.")]
    lastState: Annotated[ContainerState, f(3, "How its last run ended.")]
    ready: Annotated[Required[bool], f(4, "Whether it is running and passes its readiness probe.")]
    restartCount: Annotated[Required[Int32], f(5, "How often it has been restarted.")]
    image: Annotated[Required[str], f(6, "Image that it runs.")]
    imageID: Annotated[Required[str], f(7, "The image's ID, with its digest.")]
    containerID: Annotated[str, f(8, "ID of the container, as <runtime>://<id>.")]
    started: Annotated[bool, f(9, "Whether it is running, past its postStart hook and its startup probe.", pointer=True)]
    allocatedResources: Annotated[dict[str, Quantity], f(10, "Resources that the node has granted.")]
    resources: Annotated[ResourceRequirements, f(11, "Requests and limits that are in force.", pointer=True)]
    volumeMounts: Annotated[
        list[VolumeMountStatus], f(12, "How its volumes were really mounted.", merge_key="mountPath", keys="mountPath")
    ]
    user: Annotated[ContainerUser, f(13, "Identity of its first process.", pointer=True)]
    allocatedResourcesStatus: Annotated[
        list[ResourceStatus], f(14, "Health of the devices given to it.", merge_key="name", keys="name")
    ]
    stopSignal: Annotated[str, f(15, "Signal that stops it.", pointer=True)]


class HostIP(TypedDict, total=False):
    """An address of the node."""

    ip: Annotated[Required[str], f(1, "The address.")]


class PodIP(TypedDict, total=False):
    """An address of the pod."""

    ip: Annotated[Required[str], f(1, "The address.")]


class PodCondition(TypedDict, total=False):
    """One observation of a pod."""

    type: Annotated[Required[str], f(1, "PodScheduled, Initialized, ContainersReady, Ready, DisruptionTarget and the like.")]
    observedGeneration: Annotated[Int64, f(7, "The metadata.generation that this status was computed from.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastProbeTime: Annotated[Time, f(3, "When the condition was last checked.")]
    lastTransitionTime: Annotated[Time, f(4, "When the status last changed.")]
    reason: Annotated[str, f(5, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(6, "Details of the last change, for people.")]


class PodResourceClaimStatus(TypedDict, total=False):
    """The claim that was made for an entry in spec.resourceClaims."""

    name: Annotated[Required[str], f(1, "Name of the entry.")]
    resourceClaimName: Annotated[str, f(2, "The ResourceClaim; absent where none was needed.", pointer=True)]


class PodStatus(TypedDict, total=False):
    """How a pod is doing."""

    observedGeneration: Annotated[Int64, f(17, "The metadata.generation that this status was computed from.")]
    phase: Annotated[str, f(1, "Pending, Running, Succeeded, Failed or Unknown.")]
    conditions: Annotated[list[PodCondition], f(2, "The latest observations, one for each type.", merge_key="type", keys="type")]
    message: Annotated[str, f(3, "Why the pod is in this state, for people.")]
    reason: Annotated[str, f(4, "Why the pod is in this state, in one word, such as Evicted.")]
    nominatedNodeName: Annotated[str, f(11, "Node on which the pod waits for others to make way.")]
    hostIP: Annotated[str, f(5, "Address of the node.")]
    hostIPs: Annotated[list[HostIP], f(16, "Addresses of the node, one a family.", merge_key="ip", list_type="atomic")]
    podIP: Annotated[str, f(6, "Address of the pod.")]
    podIPs: Annotated[list[PodIP], f(12, "Addresses of the pod, one a family.", merge_key="ip", keys="ip")]
    startTime: Annotated[Time, f(7, "When the kubelet took the pod on.", pointer=True)]
    initContainerStatuses: Annotated[list[ContainerStatus], f(10, "State of the init containers.", list_type="atomic")]
    containerStatuses: Annotated[list[ContainerStatus], f(8, "State of the containers.", list_type="atomic")]
    qosClass: Annotated[str, f(9, "Guaranteed, Burstable or BestEffort, by requests and limits.")]
    ephemeralContainerStatuses: Annotated[list[ContainerStatus], f(13, "State of the ephemeral containers.", list_type="atomic")]
    resize: Annotated[str, f(14, "State of a change of resources; conditions took its place.")]
    resourceClaimStatuses: Annotated[
        list[PodResourceClaimStatus],
        f(15, "Claims that were made for the pod.", strategy="merge,retainKeys", merge_key="name", keys="name"),
    ]


class Pod(KubeObject, total=False):
    """Containers that run together on one node and share network and volumes."""

    spec: Annotated[PodSpec, f(2, "What is wanted.")]
    status: Annotated[PodStatus, f(3, "What has been observed; written by the system.")]


class PodList(KubeList, total=False):
    """A list of Pods."""

    items: Annotated[Required[list[Pod]], f(2, "The Pods.")]


class PodStatusResult(KubeObject, total=False):
    """A pod's status on its own."""

    status: Annotated[PodStatus, f(2, "What has been observed; written by the system.")]


class PodTemplate(KubeObject, total=False):
    """A stored pattern from which pods are made."""

    template: Annotated[PodTemplateSpec, f(2, "The pattern.")]


class PodTemplateList(KubeList, total=False):
    """A list of PodTemplates."""

    items: Annotated[Required[list[PodTemplate]], f(2, "The PodTemplates.")]


class Binding(KubeObject, total=False):
    """Puts a pod onto a node."""

    target: Annotated[Required[ObjectReference], f(2, "The node.")]
