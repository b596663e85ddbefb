"""Storage classes, CSI drivers and the attachment of volumes."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_persistent import PersistentVolumeSpec
from kubeling.api.types.core_reference import TopologySelectorTerm
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, LabelSelector
from kubeling.api.types.scalars import Int32, Int64, Quantity, Time


class TokenRequest(TypedDict, total=False):
    """A token that a driver gets for a pod."""

    audience: Annotated[Required[str], f(1, "Who the token is for.")]
    expirationSeconds: Annotated[Int64, f(2, "How long the token lives; as TokenRequest does by default.", pointer=True)]


class CSIDriverSpec(TypedDict, total=False):
    """What a CSI driver can do and needs."""

    attachRequired: Annotated[
        bool, f(1, "Whether volumes must be attached before they are mounted; true by default.", pointer=True)
    ]
    podInfoOnMount: Annotated[bool, f(2, "Whether the driver is told of the pod; false by default.", pointer=True)]
    volumeLifecycleModes: Annotated[list[str], f(3, "Persistent, Ephemeral or both; Persistent by default.", list_type="set")]
    storageCapacity: Annotated[
        bool, f(4, "Whether the scheduler looks at CSIStorageCapacity objects; false by default.", pointer=True)
    ]
    fsGroupPolicy: Annotated[
        str, f(5, "ReadWriteOnceWithFSType, File or None: whether fsGroup is applied to the volumes.", pointer=True)
    ]
    tokenRequests: Annotated[
        list[TokenRequest], f(6, "Tokens of the pod's service account that the driver gets.", list_type="atomic")
    ]
    requiresRepublish: Annotated[
        bool, f(7, "Whether the driver is called again and again while the volume is mounted; false by default.", pointer=True)
    ]
    seLinuxMount: Annotated[bool, f(8, "Whether the driver can mount with an SELinux context; false by default.", pointer=True)]
    nodeAllocatableUpdatePeriodSeconds: Annotated[
        Int64, f(9, "Seconds between updates of the node's volume limit; never by default.", pointer=True)
    ]


class CSIDriver(KubeObject, total=False):
    """A CSI driver; its name is the driver's."""

    spec: Annotated[Required[CSIDriverSpec], f(2, "What is wanted.")]


class CSIDriverList(KubeList, total=False):
    """A list of CSIDrivers."""

    items: Annotated[Required[list[CSIDriver]], f(2, "The CSIDrivers.")]


class VolumeNodeResources(TypedDict, total=False):
    """How many volumes a node can take."""

    count: Annotated[Int32, f(1, "The number; no limit where it is not given.", pointer=True)]


class CSINodeDriver(TypedDict, total=False):
    """A driver on a node."""

    name: Annotated[Required[str], f(1, "Name of the driver.")]
    nodeID: Annotated[Required[str], f(2, "What the driver calls the node.")]
    topologyKeys: Annotated[list[str], f(3, "Node labels that the driver knows as its topology.", list_type="atomic")]
    allocatable: Annotated[VolumeNodeResources, f(4, "How many volumes the node can take.", pointer=True)]


class CSINodeSpec(TypedDict, total=False):
    """The drivers of a node."""

    drivers: Annotated[Required[list[CSINodeDriver]], f(1, "The drivers.", merge_key="name", keys="name")]


class CSINode(KubeObject, total=False):
    """The CSI drivers of a node; its name is the node's."""

    spec: Annotated[Required[CSINodeSpec], f(2, "What is wanted.")]


class CSINodeList(KubeList, total=False):
    """A list of CSINodes."""

    items: Annotated[Required[list[CSINode]], f(2, "The CSINodes.")]


class CSIStorageCapacity(KubeObject, total=False):
    """How much room a driver has in a part of the cluster."""

    nodeTopology: Annotated[LabelSelector, f(2, "Which nodes; none where it is not given, all where it is empty.", pointer=True)]
    storageClassName: Annotated[Required[str], f(3, "Name of the StorageClass.")]
    capacity: Annotated[Quantity, f(4, "Room that is left.", pointer=True)]
    maximumVolumeSize: Annotated[Quantity, f(5, "Size of the largest volume that can be made.", pointer=True)]


class CSIStorageCapacityList(KubeList, total=False):
    """A list of CSIStorageCapacities."""

    items: Annotated[Required[list[CSIStorageCapacity]], f(2, "The CSIStorageCapacities.")]


class StorageClass(KubeObject, total=False):
    """A kind of storage, and how its volumes are made."""

    provisioner: Annotated[Required[str], f(2, "Who makes the volumes.")]
    parameters: Annotated[dict[str, str], f(3, "Parameters for the provisioner.")]
    reclaimPolicy: Annotated[
        str, f(4, "Delete or Retain: what becomes of a volume whose claim goes; Delete by default.", pointer=True)
    ]
    mountOptions: Annotated[list[str], f(5, "Options for mount; they are not checked.", list_type="atomic")]
    allowVolumeExpansion: Annotated[bool, f(6, "Whether volumes may grow.", pointer=True)]
    volumeBindingMode: Annotated[str, f(7, "Immediate or WaitForFirstConsumer; Immediate by default.", pointer=True)]
    allowedTopologies: Annotated[
        list[TopologySelectorTerm], f(8, "Where volumes may be made; anywhere by default.", list_type="atomic")
    ]


class StorageClassList(KubeList, total=False):
    """A list of StorageClasses."""

    items: Annotated[Required[list[StorageClass]], f(2, "The StorageClasses.")]


class VolumeAttachmentSource(TypedDict, total=False):
    """The volume; exactly one member is set."""

    persistentVolumeName: Annotated[str, f(1, "A PersistentVolume.", pointer=True)]
    inlineVolumeSpec: Annotated[PersistentVolumeSpec, f(2, "The spec of a volume that stood in a pod.", pointer=True)]


class VolumeAttachmentSpec(TypedDict, total=False):
    """Which volume to attach to which node."""

    attacher: Annotated[Required[str], f(1, "Driver that does it.")]
    source: Annotated[Required[VolumeAttachmentSource], f(2, "The volume.")]
    nodeName: Annotated[Required[str], f(3, "The node.")]


class VolumeError(TypedDict, total=False):
    """What went wrong."""

    time: Annotated[Time, f(1, "When.")]
    message: Annotated[str, f(2, "What, for people.")]
    errorCode: Annotated[Int32, f(3, "gRPC code of the driver.", pointer=True)]


class VolumeAttachmentStatus(TypedDict, total=False):
    """State of an attachment."""

    attached: Annotated[Required[bool], f(1, "Whether it is attached.")]
    attachmentMetadata: Annotated[dict[str, str], f(2, "What the driver returned.")]
    attachError: Annotated[VolumeError, f(3, "What last went wrong while attaching.", pointer=True)]
    detachError: Annotated[VolumeError, f(4, "What last went wrong while detaching.", pointer=True)]


class VolumeAttachment(KubeObject, total=False):
    """Asks for a volume to be attached to a node."""

    spec: Annotated[Required[VolumeAttachmentSpec], f(2, "What is wanted.")]
    status: Annotated[VolumeAttachmentStatus, f(3, "What has been observed; written by the system.")]


class VolumeAttachmentList(KubeList, total=False):
    """A list of VolumeAttachments."""

    items: Annotated[Required[list[VolumeAttachment]], f(2, "The VolumeAttachments.")]
