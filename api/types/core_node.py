"""Nodes: the machines, with their addresses, capacity and state."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, OwnerReference
from kubeling.api.types.scalars import Int32, Int64, Quantity, Time


class Taint(TypedDict, total=False):
    """Keeps pods away that do not tolerate it."""

    key: Annotated[Required[str], f(1, "Key of the taint.")]
    value: Annotated[str, f(2, "Value of the taint.")]
    effect: Annotated[Required[str], f(3, "NoSchedule, PreferNoSchedule or NoExecute.")]
    timeAdded: Annotated[Time, f(4, "When it was added; for NoExecute.", pointer=True)]


class ConfigMapNodeConfigSource(TypedDict, total=False):
    """A ConfigMap with a kubelet's configuration; no longer used."""

    namespace: Annotated[Required[str], f(1, "Namespace of the ConfigMap.")]
    name: Annotated[Required[str], f(2, "Name of the ConfigMap.")]
    uid: Annotated[str, f(3, "UID of the ConfigMap; only in a status.")]
    resourceVersion: Annotated[str, f(4, "Version of the ConfigMap; only in a status.")]
    kubeletConfigKey: Annotated[Required[str], f(5, "Key with the configuration.")]


class NodeConfigSource(TypedDict, total=False):
    """Source of a kubelet's configuration; no longer used."""

    configMap: Annotated[ConfigMapNodeConfigSource, f(2, "The ConfigMap.", pointer=True)]


class NodeConfigStatus(TypedDict, total=False):
    """State of a kubelet's configuration; no longer used."""

    assigned: Annotated[NodeConfigSource, f(1, "What the node will try.", pointer=True)]
    active: Annotated[NodeConfigSource, f(2, "What the node uses.", pointer=True)]
    lastKnownGood: Annotated[NodeConfigSource, f(3, "What the node falls back to.", pointer=True)]
    error: Annotated[str, f(4, "What is wrong with the assigned one.")]


class NodeSpec(TypedDict, total=False):
    """What a node should be."""

    podCIDR: Annotated[str, f(1, "Range of the node's pod addresses.")]
    podCIDRs: Annotated[
        list[str],
        f(7, "Ranges of the node's pod addresses, one a family; the first equals podCIDR.", strategy="merge", list_type="set"),
    ]
    providerID: Annotated[str, f(3, "What the cloud calls the machine, as <provider>://<id>.")]
    unschedulable: Annotated[bool, f(4, "Keeps new pods away; what cordon sets.")]
    taints: Annotated[list[Taint], f(5, "Taints that keep pods away.", list_type="atomic")]
    configSource: Annotated[NodeConfigSource, f(6, "Source of the kubelet's configuration; no longer used.", pointer=True)]
    externalID: Annotated[str, f(2, "Old ID of the machine; no longer used.")]


class NodeCondition(TypedDict, total=False):
    """One observation of a node."""

    type: Annotated[Required[str], f(1, "Ready, MemoryPressure, DiskPressure, PIDPressure or NetworkUnavailable.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastHeartbeatTime: Annotated[Time, f(3, "When the condition was last confirmed.")]
    lastTransitionTime: Annotated[Time, f(4, "When the status last changed.")]
    reason: Annotated[str, f(5, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(6, "Details of the last change, for people.")]


class NodeAddress(TypedDict, total=False):
    """An address of a node."""

    type: Annotated[Required[str], f(1, "Hostname, InternalIP, ExternalIP, InternalDNS or ExternalDNS.")]
    address: Annotated[Required[str], f(2, "The address.")]


class DaemonEndpoint(TypedDict, total=False):
    """A port of a daemon."""

    Port: Annotated[Required[Int32], f(1, "Number of the port.")]


class NodeDaemonEndpoints(TypedDict, total=False):
    """Ports of the node's daemons."""

    kubeletEndpoint: Annotated[DaemonEndpoint, f(1, "Port of the kubelet.")]


class NodeSwapStatus(TypedDict, total=False):
    """Swap of a node."""

    capacity: Annotated[Int64, f(1, "Size in bytes.", pointer=True)]


class NodeSystemInfo(TypedDict, total=False):
    """What a machine is and runs."""

    machineID: Annotated[Required[str], f(1, "The machine's ID, as in /etc/machine-id.")]
    systemUUID: Annotated[Required[str], f(2, "The machine's UUID, as its firmware reports it.")]
    bootID: Annotated[Required[str], f(3, "ID of this boot.")]
    kernelVersion: Annotated[Required[str], f(4, "Version of the kernel, as uname -r shows it.")]
    osImage: Annotated[Required[str], f(5, "Name of the operating system, as in /etc/os-release.")]
    containerRuntimeVersion: Annotated[Required[str], f(6, "Container runtime, as <name>://<version>.")]
    kubeletVersion: Annotated[Required[str], f(7, "Version of the kubelet.")]
    kubeProxyVersion: Annotated[Required[str], f(8, "Version of kube-proxy; no longer meaningful.")]
    operatingSystem: Annotated[Required[str], f(9, "Operating system, such as linux.")]
    architecture: Annotated[Required[str], f(10, "Processor architecture, such as amd64.")]
    swap: Annotated[NodeSwapStatus, f(11, "Swap of the node.", pointer=True)]


class ContainerImage(TypedDict, total=False):
    """An image that is on a node."""

    names: Annotated[list[str], f(1, "Names of the image, with tags and digests.", list_type="atomic")]
    sizeBytes: Annotated[Int64, f(2, "Size in bytes.")]


class AttachedVolume(TypedDict, total=False):
    """A volume attached to a node."""

    name: Annotated[Required[str], f(1, "Name of the volume.")]
    devicePath: Annotated[Required[str], f(2, "Path of the device on the node.")]


class NodeRuntimeHandlerFeatures(TypedDict, total=False):
    """What a runtime handler can do."""

    recursiveReadOnlyMounts: Annotated[bool, f(1, "Whether it supports recursive read-only mounts.", pointer=True)]
    userNamespaces: Annotated[bool, f(2, "Whether it supports user namespaces.", pointer=True)]


class NodeRuntimeHandler(TypedDict, total=False):
    """A handler of the node's container runtime."""

    name: Annotated[str, f(1, "Name of the handler; empty for the default one.", always=True)]
    features: Annotated[NodeRuntimeHandlerFeatures, f(2, "What it can do.", pointer=True)]


class NodeFeatures(TypedDict, total=False):
    """What the container runtime as a whole can do."""

    supplementalGroupsPolicy: Annotated[bool, f(1, "Whether it supports supplementalGroupsPolicy.", pointer=True)]


class NodeStatus(TypedDict, total=False):
    """How a node is doing."""

    capacity: Annotated[dict[str, Quantity], f(1, "All that the machine has, by resource name.")]
    allocatable: Annotated[dict[str, Quantity], f(2, "What pods may use of the capacity.")]
    phase: Annotated[str, f(3, "Old state of the node; no longer written.")]
    conditions: Annotated[list[NodeCondition], f(4, "The latest observations, one for each type.", merge_key="type", keys="type")]
    addresses: Annotated[list[NodeAddress], f(5, "Addresses of the node.", merge_key="type", keys="type")]
    daemonEndpoints: Annotated[NodeDaemonEndpoints, f(6, "Ports of the node's daemons.")]
    nodeInfo: Annotated[NodeSystemInfo, f(7, "What the machine is and runs.")]
    images: Annotated[list[ContainerImage], f(8, "Images that are on the node.", list_type="atomic")]
    volumesInUse: Annotated[list[str], f(9, "Attachable volumes that the node uses.", list_type="atomic")]
    volumesAttached: Annotated[list[AttachedVolume], f(10, "Volumes that are attached.", list_type="atomic")]
    config: Annotated[NodeConfigStatus, f(11, "State of the kubelet's configuration; no longer used.", pointer=True)]
    runtimeHandlers: Annotated[list[NodeRuntimeHandler], f(12, "Handlers of the container runtime.", list_type="atomic")]
    features: Annotated[NodeFeatures, f(13, "What the container runtime can do.", pointer=True)]


class Node(KubeObject, total=False):
    """A machine that runs pods."""

    spec: Annotated[NodeSpec, f(2, "What the node should be.")]
    status: Annotated[NodeStatus, f(3, "What has been observed; written by the system.")]


class NodeList(KubeList, total=False):
    """A list of Nodes."""

    items: Annotated[Required[list[Node]], f(2, "The Nodes.")]


class PodSignature(TypedDict, total=False):
    """Class of pods that are to be avoided."""

    podController: Annotated[OwnerReference, f(1, "Controller of the pods.", pointer=True)]


class PreferAvoidPodsEntry(TypedDict, total=False):
    """A class of pods that the node would rather not run."""

    podSignature: Annotated[Required[PodSignature], f(1, "Which pods.")]
    evictionTime: Annotated[Time, f(2, "When it was added.")]
    reason: Annotated[str, f(3, "Why, in one word.")]
    message: Annotated[str, f(4, "Why, for people.")]


class AvoidPods(TypedDict, total=False):
    """Pods that a node would rather not run; stood in an annotation."""

    preferAvoidPods: Annotated[list[PreferAvoidPodsEntry], f(1, "The classes of pods.", list_type="atomic")]
