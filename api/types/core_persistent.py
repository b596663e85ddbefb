"""PersistentVolumes and the claims on them."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import (
    NodeSelector,
    ObjectReference,
    SecretReference,
    TypedLocalObjectReference,
    TypedObjectReference,
)
from kubeling.api.types.core_volume_vendor import (
    AWSElasticBlockStoreVolumeSource,
    AzureDiskVolumeSource,
    AzureFilePersistentVolumeSource,
    CephFSPersistentVolumeSource,
    CinderPersistentVolumeSource,
    FCVolumeSource,
    FlexPersistentVolumeSource,
    FlockerVolumeSource,
    GCEPersistentDiskVolumeSource,
    GlusterfsPersistentVolumeSource,
    ISCSIPersistentVolumeSource,
    PhotonPersistentDiskVolumeSource,
    PortworxVolumeSource,
    QuobyteVolumeSource,
    RBDPersistentVolumeSource,
    ScaleIOPersistentVolumeSource,
    StorageOSPersistentVolumeSource,
    VsphereVirtualDiskVolumeSource,
)
from kubeling.api.types.declare import f, inline
from kubeling.api.types.meta_v1 import KubeList, KubeObject, LabelSelector, ObjectMeta
from kubeling.api.types.scalars import Quantity, Time


class CSIPersistentVolumeSource(TypedDict, total=False):
    """A volume that a CSI driver manages."""

    driver: Annotated[Required[str], f(1, "Name of the CSI driver.")]
    volumeHandle: Annotated[Required[str], f(2, "What the driver calls the volume; unique in the driver.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]
    fsType: Annotated[str, f(4, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    volumeAttributes: Annotated[dict[str, str], f(5, "Parameters of the volume, as the driver returned them.")]
    controllerPublishSecretRef: Annotated[SecretReference, f(6, "Secret for attaching and detaching.", pointer=True)]
    nodeStageSecretRef: Annotated[SecretReference, f(7, "Secret for staging on the node.", pointer=True)]
    nodePublishSecretRef: Annotated[SecretReference, f(8, "Secret for mounting into the pod.", pointer=True)]
    controllerExpandSecretRef: Annotated[SecretReference, f(9, "Secret for growing the volume.", pointer=True)]
    nodeExpandSecretRef: Annotated[
        SecretReference, f(10, "Secret for growing the volume's file system on the node.", pointer=True)
    ]


class HostPathVolumeSource(TypedDict, total=False):
    """A file or directory of the node."""

    path: Annotated[Required[str], f(1, "Path on the node; symbolic links are followed.")]
    type: Annotated[
        str,
        f(
            2,
            "What must be there or is made: DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice; no check by default.",
            pointer=True,
        ),
    ]


class NFSVolumeSource(TypedDict, total=False):
    """An NFS share."""

    server: Annotated[Required[str], f(1, "Name or address of the NFS server.")]
    path: Annotated[Required[str], f(2, "Path that the server exports.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]


class LocalVolumeSource(TypedDict, total=False):
    """A disk, partition or directory of one node."""

    path: Annotated[Required[str], f(1, "Path on the node of the device or directory.")]
    fsType: Annotated[str, f(2, "File system to make and mount where the path is a device.", pointer=True)]


class VolumeNodeAffinity(TypedDict, total=False):
    """Nodes from which a volume can be reached."""

    required: Annotated[NodeSelector, f(1, "What a node must be.", pointer=True)]


class PersistentVolumeSource(TypedDict, total=False):
    """Where a PersistentVolume's storage is; exactly one member is set."""

    gcePersistentDisk: Annotated[GCEPersistentDiskVolumeSource, f(1, "A disk of Google Compute Engine.", pointer=True)]
    awsElasticBlockStore: Annotated[AWSElasticBlockStoreVolumeSource, f(2, "A disk of AWS EBS.", pointer=True)]
    hostPath: Annotated[HostPathVolumeSource, f(3, "A directory of the node; for single-node clusters.", pointer=True)]
    glusterfs: Annotated[GlusterfsPersistentVolumeSource, f(4, "A GlusterFS volume.", pointer=True)]
    nfs: Annotated[NFSVolumeSource, f(5, "An NFS share.", pointer=True)]
    rbd: Annotated[RBDPersistentVolumeSource, f(6, "A Ceph block device.", pointer=True)]
    iscsi: Annotated[ISCSIPersistentVolumeSource, f(7, "A disk over iSCSI.", pointer=True)]
    cinder: Annotated[CinderPersistentVolumeSource, f(8, "A volume of OpenStack Cinder.", pointer=True)]
    cephfs: Annotated[CephFSPersistentVolumeSource, f(9, "A Ceph file system.", pointer=True)]
    fc: Annotated[FCVolumeSource, f(10, "A LUN over Fibre Channel.", pointer=True)]
    flocker: Annotated[FlockerVolumeSource, f(11, "A Flocker data set.", pointer=True)]
    flexVolume: Annotated[FlexPersistentVolumeSource, f(12, "A volume by an exec-based plugin.", pointer=True)]
    azureFile: Annotated[AzureFilePersistentVolumeSource, f(13, "A share of Azure Files.", pointer=True)]
    vsphereVolume: Annotated[VsphereVirtualDiskVolumeSource, f(14, "A disk of vSphere.", pointer=True)]
    quobyte: Annotated[QuobyteVolumeSource, f(15, "A Quobyte volume.", pointer=True)]
    azureDisk: Annotated[AzureDiskVolumeSource, f(16, "A disk of Azure.", pointer=True)]
    photonPersistentDisk: Annotated[PhotonPersistentDiskVolumeSource, f(17, "A disk of VMware Photon.", pointer=True)]
    portworxVolume: Annotated[PortworxVolumeSource, f(18, "A Portworx volume.", pointer=True)]
    scaleIO: Annotated[ScaleIOPersistentVolumeSource, f(19, "A ScaleIO volume.", pointer=True)]
    local: Annotated[LocalVolumeSource, f(20, "A disk, partition or directory of one node.", pointer=True)]
    storageos: Annotated[StorageOSPersistentVolumeSource, f(21, "A StorageOS volume.", pointer=True)]
    csi: Annotated[CSIPersistentVolumeSource, f(22, "A volume that a CSI driver manages.", pointer=True)]


class PersistentVolumeSpec(PersistentVolumeSource, total=False):
    """What a PersistentVolume offers."""

    capacity: Annotated[dict[str, Quantity], f(1, "Size of the volume, under storage.")]
    accessModes: Annotated[list[str], f(3, "ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod.", list_type="atomic")]
    claimRef: Annotated[
        ObjectReference,
        f(
            4,
            "The claim that the volume is bound to; bound only where that claim's volumeName agrees.",
            pointer=True,
            granular=True,
        ),
    ]
    persistentVolumeReclaimPolicy: Annotated[
        str, f(5, "What becomes of the volume when its claim goes: Retain, Delete or Recycle; Retain for volumes made by hand.")
    ]
    storageClassName: Annotated[str, f(6, "The StorageClass; empty for none.")]
    mountOptions: Annotated[list[str], f(7, "Options for mount; they are not checked.", list_type="atomic")]
    volumeMode: Annotated[str, f(8, "Filesystem or Block; Filesystem by default.", pointer=True)]
    nodeAffinity: Annotated[VolumeNodeAffinity, f(9, "Nodes from which the volume can be reached; all by default.", pointer=True)]
    volumeAttributesClassName: Annotated[str, f(10, "The VolumeAttributesClass that is applied.", pointer=True)]


inline(PersistentVolumeSpec, PersistentVolumeSource, "persistentVolumeSource", 2)


class PersistentVolumeStatus(TypedDict, total=False):
    """State of a PersistentVolume."""

    phase: Annotated[str, f(1, "Pending, Available, Bound, Released or Failed.")]
    message: Annotated[str, f(2, "Why the volume is in this state, for people.")]
    reason: Annotated[str, f(3, "Why reclaiming failed, in one word.")]
    lastPhaseTransitionTime: Annotated[Time, f(4, "When the phase last changed.", pointer=True)]


class PersistentVolume(KubeObject, total=False):
    """A piece of storage in the cluster, independent of any pod."""

    spec: Annotated[PersistentVolumeSpec, f(2, "What is wanted.")]
    status: Annotated[PersistentVolumeStatus, f(3, "What has been observed; written by the system.")]


class PersistentVolumeList(KubeList, total=False):
    """A list of PersistentVolumes."""

    items: Annotated[Required[list[PersistentVolume]], f(2, "The PersistentVolumes.")]


class VolumeResourceRequirements(TypedDict, total=False):
    """How much storage is wanted."""

    limits: Annotated[dict[str, Quantity], f(1, "The most, under storage.")]
    requests: Annotated[dict[str, Quantity], f(2, "The least, under storage.")]


class PersistentVolumeClaimSpec(TypedDict, total=False):
    """What storage is asked for."""

    accessModes: Annotated[
        list[str],
        f(
            1,
            "ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod; the volume must offer all of them.",
            list_type="atomic",
        ),
    ]
    selector: Annotated[LabelSelector, f(4, "Which volumes come into question, by their labels.", pointer=True)]
    resources: Annotated[VolumeResourceRequirements, f(2, "How much storage is wanted; may only grow.")]
    volumeName: Annotated[str, f(3, "The PersistentVolume that is bound.")]
    storageClassName: Annotated[
        str, f(5, "The StorageClass; empty for none, the cluster's default where it is not given.", pointer=True)
    ]
    volumeMode: Annotated[str, f(6, "Filesystem or Block; Filesystem by default.", pointer=True)]
    dataSource: Annotated[
        TypedLocalObjectReference, f(7, "A VolumeSnapshot or claim of the namespace to fill the volume from.", pointer=True)
    ]
    dataSourceRef: Annotated[
        TypedObjectReference, f(8, "Any object to fill the volume from, in another namespace too.", pointer=True)
    ]
    volumeAttributesClassName: Annotated[str, f(9, "The VolumeAttributesClass to apply; may be changed later.", pointer=True)]


class PersistentVolumeClaimCondition(TypedDict, total=False):
    """One observation of a PersistentVolumeClaim."""

    type: Annotated[Required[str], f(1, "Resizing, FileSystemResizePending, ModifyingVolume and the like.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastProbeTime: Annotated[Time, f(3, "When the condition was last checked.")]
    lastTransitionTime: Annotated[Time, f(4, "When the status last changed.")]
    reason: Annotated[str, f(5, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(6, "Details of the last change, for people.")]


class ModifyVolumeStatus(TypedDict, total=False):
    """State of a change to another VolumeAttributesClass."""

    targetVolumeAttributesClassName: Annotated[str, f(1, "The VolumeAttributesClass that is wanted.")]
    status: Annotated[Required[str], f(2, "Pending, InProgress or Infeasible.")]


class PersistentVolumeClaimStatus(TypedDict, total=False):
    """State of a PersistentVolumeClaim."""

    phase: Annotated[str, f(1, "Pending, Bound or Lost.")]
    accessModes: Annotated[list[str], f(2, "Access modes of the bound volume.", list_type="atomic")]
    capacity: Annotated[dict[str, Quantity], f(3, "Size of the bound volume.")]
    conditions: Annotated[
        list[PersistentVolumeClaimCondition], f(4, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]
    allocatedResources: Annotated[dict[str, Quantity], f(5, "Size that has been granted, of a growing volume too.")]
    allocatedResourceStatuses: Annotated[dict[str, str], f(7, "State of a change of size, by resource name.")]
    currentVolumeAttributesClassName: Annotated[str, f(8, "The VolumeAttributesClass that is in force.", pointer=True)]
    modifyVolumeStatus: Annotated[
        ModifyVolumeStatus, f(9, "State of a change of class; absent where none is under way.", pointer=True)
    ]


class PersistentVolumeClaim(KubeObject, total=False):
    """A request for storage that a pod can mount."""

    spec: Annotated[PersistentVolumeClaimSpec, f(2, "What is wanted.")]
    status: Annotated[PersistentVolumeClaimStatus, f(3, "What has been observed; written by the system.")]


class PersistentVolumeClaimList(KubeList, total=False):
    """A list of PersistentVolumeClaims."""

    items: Annotated[Required[list[PersistentVolumeClaim]], f(2, "The PersistentVolumeClaims.")]


class PersistentVolumeClaimTemplate(TypedDict, total=False):
    """The claim that a pod's ephemeral volume makes."""

    metadata: Annotated[ObjectMeta, f(1, "Labels and annotations for the claim; nothing else is allowed.")]
    spec: Annotated[Required[PersistentVolumeClaimSpec], f(2, "What storage is asked for.")]
