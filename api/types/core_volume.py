"""The volumes of a pod: where their content comes from."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_persistent import HostPathVolumeSource, NFSVolumeSource, PersistentVolumeClaimTemplate
from kubeling.api.types.core_reference import LocalObjectReference
from kubeling.api.types.core_volume_vendor import (
    AWSElasticBlockStoreVolumeSource,
    AzureDiskVolumeSource,
    AzureFileVolumeSource,
    CephFSVolumeSource,
    CinderVolumeSource,
    FCVolumeSource,
    FlexVolumeSource,
    FlockerVolumeSource,
    GCEPersistentDiskVolumeSource,
    GlusterfsVolumeSource,
    ISCSIVolumeSource,
    PhotonPersistentDiskVolumeSource,
    PortworxVolumeSource,
    QuobyteVolumeSource,
    RBDVolumeSource,
    ScaleIOVolumeSource,
    StorageOSVolumeSource,
    VsphereVirtualDiskVolumeSource,
)
from kubeling.api.types.declare import atomic, f, inline
from kubeling.api.types.meta_v1 import LabelSelector
from kubeling.api.types.scalars import Int32, Int64, Quantity


class KeyToPath(TypedDict, total=False):
    """Puts a key of a ConfigMap or Secret at a path."""

    key: Annotated[Required[str], f(1, "The key.")]
    path: Annotated[Required[str], f(2, "Path in the volume; relative and without `..`.")]
    mode: Annotated[
        Int32, f(3, "Permission bits of the file, 0 to 0777; the volume's defaultMode where it is not given.", pointer=True)
    ]


class ConfigMapVolumeSource(LocalObjectReference, total=False):
    """A ConfigMap whose keys become files."""

    items: Annotated[
        list[KeyToPath], f(2, "Keys to show and where; all keys under their own names where it is not given.", list_type="atomic")
    ]
    defaultMode: Annotated[Int32, f(3, "Permission bits of the files, 0 to 0777; 0644 by default.", pointer=True)]
    optional: Annotated[
        bool, f(4, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


inline(ConfigMapVolumeSource, LocalObjectReference, "localObjectReference", 1)


class SecretVolumeSource(TypedDict, total=False):
    """A Secret whose keys become files, kept in memory."""

    secretName: Annotated[str, f(1, "Name of the Secret, in the pod's namespace.")]
    items: Annotated[
        list[KeyToPath], f(2, "Keys to show and where; all keys under their own names where it is not given.", list_type="atomic")
    ]
    defaultMode: Annotated[Int32, f(3, "Permission bits of the files, 0 to 0777; 0644 by default.", pointer=True)]
    optional: Annotated[
        bool, f(4, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


class ObjectFieldSelector(TypedDict, total=False):
    """Picks a field of the pod."""

    apiVersion: Annotated[str, f(1, "Version in which the path is read; v1 by default.")]
    fieldPath: Annotated[Required[str], f(2, "Path of the field, such as metadata.name or metadata.labels['app'].")]


atomic(ObjectFieldSelector)


class ResourceFieldSelector(TypedDict, total=False):
    """Picks a request or limit of a container."""

    containerName: Annotated[str, f(1, "The container; needed in volumes, the own one in environment variables.")]
    resource: Annotated[Required[str], f(2, "Which one, such as limits.cpu or requests.memory.")]
    divisor: Annotated[Quantity, f(3, "Unit of the result; 1 by default.")]


atomic(ResourceFieldSelector)


class DownwardAPIVolumeFile(TypedDict, total=False):
    """A file with a field of the pod."""

    path: Annotated[Required[str], f(1, "Path in the volume; relative and without `..`.")]
    fieldRef: Annotated[ObjectFieldSelector, f(2, "Field of the pod: annotations, labels, name, namespace or uid.", pointer=True)]
    resourceFieldRef: Annotated[ResourceFieldSelector, f(3, "Request or limit of one of the pod's containers.", pointer=True)]
    mode: Annotated[
        Int32, f(4, "Permission bits of the file, 0 to 0777; the volume's defaultMode where it is not given.", pointer=True)
    ]


class DownwardAPIVolumeSource(TypedDict, total=False):
    """Fields of the pod as files."""

    items: Annotated[list[DownwardAPIVolumeFile], f(1, "The files.", list_type="atomic")]
    defaultMode: Annotated[Int32, f(2, "Permission bits of the files, 0 to 0777; 0644 by default.", pointer=True)]


class ConfigMapProjection(LocalObjectReference, total=False):
    """A ConfigMap within a projected volume."""

    items: Annotated[
        list[KeyToPath], f(2, "Keys to show and where; all keys under their own names where it is not given.", list_type="atomic")
    ]
    optional: Annotated[
        bool, f(4, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


inline(ConfigMapProjection, LocalObjectReference, "localObjectReference", 1)


class SecretProjection(LocalObjectReference, total=False):
    """A Secret within a projected volume."""

    items: Annotated[
        list[KeyToPath], f(2, "Keys to show and where; all keys under their own names where it is not given.", list_type="atomic")
    ]
    optional: Annotated[
        bool, f(4, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


inline(SecretProjection, LocalObjectReference, "localObjectReference", 1)


class DownwardAPIProjection(TypedDict, total=False):
    """Fields of the pod within a projected volume."""

    items: Annotated[list[DownwardAPIVolumeFile], f(1, "The files.", list_type="atomic")]


class ServiceAccountTokenProjection(TypedDict, total=False):
    """A token of the pod's service account within a projected volume."""

    audience: Annotated[str, f(1, "Who the token is for; the API server by default.")]
    expirationSeconds: Annotated[
        Int64, f(2, "How long the token lives, 600 or more; 3600 by default. It is renewed in time.", pointer=True)
    ]
    path: Annotated[Required[str], f(3, "Path in the volume of the file with the token.")]


class ClusterTrustBundleProjection(TypedDict, total=False):
    """Trust anchors within a projected volume."""

    name: Annotated[str, f(1, "One ClusterTrustBundle; excludes signerName and labelSelector.", pointer=True)]
    signerName: Annotated[str, f(2, "All ClusterTrustBundles of this signer that labelSelector picks.", pointer=True)]
    labelSelector: Annotated[
        LabelSelector, f(3, "Which of the signer's bundles; nothing where it is not given, all where it is empty.", pointer=True)
    ]
    optional: Annotated[
        bool, f(5, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]
    path: Annotated[Required[str], f(4, "Path in the volume of the file with the anchors.")]


class VolumeProjection(TypedDict, total=False):
    """One source of a projected volume; exactly one member is set."""

    secret: Annotated[SecretProjection, f(1, "Keys of a Secret.", pointer=True)]
    downwardAPI: Annotated[DownwardAPIProjection, f(2, "Fields of the pod.", pointer=True)]
    configMap: Annotated[ConfigMapProjection, f(3, "Keys of a ConfigMap.", pointer=True)]
    serviceAccountToken: Annotated[ServiceAccountTokenProjection, f(4, "A token of the pod's service account.", pointer=True)]
    clusterTrustBundle: Annotated[ClusterTrustBundleProjection, f(5, "Trust anchors from ClusterTrustBundles.", pointer=True)]


class ProjectedVolumeSource(TypedDict, total=False):
    """Several sources in one directory."""

    sources: Annotated[list[VolumeProjection], f(1, "The sources.", list_type="atomic")]
    defaultMode: Annotated[Int32, f(2, "Permission bits of the files, 0 to 0777; 0644 by default.", pointer=True)]


class EmptyDirVolumeSource(TypedDict, total=False):
    """A directory that lives and dies with its pod."""

    medium: Annotated[str, f(1, "Empty for the node's disk, Memory for tmpfs, HugePages or HugePages-<size>.")]
    sizeLimit: Annotated[Quantity, f(2, "The most that it may hold; no limit by default.", pointer=True)]


class PersistentVolumeClaimVolumeSource(TypedDict, total=False):
    """A PersistentVolumeClaim of the same namespace."""

    claimName: Annotated[Required[str], f(1, "Name of the PersistentVolumeClaim.")]
    readOnly: Annotated[bool, f(2, "Mount for reading only; false by default.")]


class EphemeralVolumeSource(TypedDict, total=False):
    """A volume made for the pod by way of a claim that the pod owns."""

    volumeClaimTemplate: Annotated[
        PersistentVolumeClaimTemplate, f(1, "The claim to make; it is named <pod>-<volume>.", pointer=True)
    ]


class ImageVolumeSource(TypedDict, total=False):
    """An OCI image or artifact as a read-only volume."""

    reference: Annotated[str, f(1, "The image or artifact; as the image field of a container.")]
    pullPolicy: Annotated[str, f(2, "Always, Never or IfNotPresent; Always for the tag latest, else IfNotPresent.")]


class CSIVolumeSource(TypedDict, total=False):
    """A volume that a CSI driver makes for one pod."""

    driver: Annotated[Required[str], f(1, "Name of the CSI driver.")]
    readOnly: Annotated[bool, f(2, "Mount for reading only; false by default.", pointer=True)]
    fsType: Annotated[str, f(3, "File system to mount; the driver chooses where it is not given.", pointer=True)]
    volumeAttributes: Annotated[dict[str, str], f(4, "Parameters for the driver.")]
    nodePublishSecretRef: Annotated[
        LocalObjectReference, f(5, "Secret that is handed to the driver when it mounts.", pointer=True)
    ]


class GitRepoVolumeSource(TypedDict, total=False):
    """A checkout of a git repository; no longer supported, use an init container."""

    repository: Annotated[Required[str], f(1, "URL of the repository.")]
    revision: Annotated[str, f(2, "Commit to check out.")]
    directory: Annotated[str, f(3, "Where to put it; the volume itself for `.`.")]


class VolumeSource(TypedDict, total=False):
    """Where a pod's volume comes from; exactly one member is set."""

    hostPath: Annotated[HostPathVolumeSource, f(1, "A file or directory of the node.", pointer=True)]
    emptyDir: Annotated[EmptyDirVolumeSource, f(2, "A directory that lives and dies with the pod.", pointer=True)]
    gcePersistentDisk: Annotated[GCEPersistentDiskVolumeSource, f(3, "A disk of Google Compute Engine.", pointer=True)]
    awsElasticBlockStore: Annotated[AWSElasticBlockStoreVolumeSource, f(4, "A disk of AWS EBS.", pointer=True)]
    gitRepo: Annotated[GitRepoVolumeSource, f(5, "A checkout of a git repository; no longer supported.", pointer=True)]
    secret: Annotated[SecretVolumeSource, f(6, "Keys of a Secret as files.", pointer=True)]
    nfs: Annotated[NFSVolumeSource, f(7, "An NFS share.", pointer=True)]
    iscsi: Annotated[ISCSIVolumeSource, f(8, "A disk over iSCSI.", pointer=True)]
    glusterfs: Annotated[GlusterfsVolumeSource, f(9, "A GlusterFS volume.", pointer=True)]
    persistentVolumeClaim: Annotated[
        PersistentVolumeClaimVolumeSource, f(10, "A PersistentVolumeClaim of the same namespace.", pointer=True)
    ]
    rbd: Annotated[RBDVolumeSource, f(11, "A Ceph block device.", pointer=True)]
    flexVolume: Annotated[FlexVolumeSource, f(12, "A volume by an exec-based plugin.", pointer=True)]
    cinder: Annotated[CinderVolumeSource, f(13, "A volume of OpenStack Cinder.", pointer=True)]
    cephfs: Annotated[CephFSVolumeSource, f(14, "A Ceph file system.", pointer=True)]
    flocker: Annotated[FlockerVolumeSource, f(15, "A Flocker data set.", pointer=True)]
    downwardAPI: Annotated[DownwardAPIVolumeSource, f(16, "Fields of the pod as files.", pointer=True)]
    fc: Annotated[FCVolumeSource, f(17, "A LUN over Fibre Channel.", pointer=True)]
    azureFile: Annotated[AzureFileVolumeSource, f(18, "A share of Azure Files.", pointer=True)]
    configMap: Annotated[ConfigMapVolumeSource, f(19, "Keys of a ConfigMap as files.", pointer=True)]
    vsphereVolume: Annotated[VsphereVirtualDiskVolumeSource, f(20, "A disk of vSphere.", pointer=True)]
    quobyte: Annotated[QuobyteVolumeSource, f(21, "A Quobyte volume.", pointer=True)]
    azureDisk: Annotated[AzureDiskVolumeSource, f(22, "A disk of Azure.", pointer=True)]
    photonPersistentDisk: Annotated[PhotonPersistentDiskVolumeSource, f(23, "A disk of VMware Photon.", pointer=True)]
    projected: Annotated[ProjectedVolumeSource, f(26, "Several sources in one directory.", pointer=True)]
    portworxVolume: Annotated[PortworxVolumeSource, f(24, "A Portworx volume.", pointer=True)]
    scaleIO: Annotated[ScaleIOVolumeSource, f(25, "A ScaleIO volume.", pointer=True)]
    storageos: Annotated[StorageOSVolumeSource, f(27, "A StorageOS volume.", pointer=True)]
    csi: Annotated[CSIVolumeSource, f(28, "A volume that a CSI driver makes for this pod alone.", pointer=True)]
    ephemeral: Annotated[EphemeralVolumeSource, f(29, "A volume made for the pod by way of a claim that it owns.", pointer=True)]
    image: Annotated[ImageVolumeSource, f(30, "An OCI image or artifact, read-only.", pointer=True)]


class Volume(VolumeSource, total=False):
    """A named volume of a pod."""

    name: Annotated[Required[str], f(1, "Name of the volume, unique in the pod; volumeMounts refer to it.")]


inline(Volume, VolumeSource, "volumeSource", 2)


class VolumeMount(TypedDict, total=False):
    """Where a container sees a volume."""

    name: Annotated[Required[str], f(1, "Name of the volume.")]
    readOnly: Annotated[bool, f(2, "Mount for reading only; false by default.")]
    recursiveReadOnly: Annotated[
        str, f(7, "Disabled, IfPossible or Enabled: whether mounts beneath a read-only one are read-only too.", pointer=True)
    ]
    mountPath: Annotated[Required[str], f(3, "Path in the container; without `:`.")]
    subPath: Annotated[str, f(4, "Path in the volume to mount; its root by default.")]
    mountPropagation: Annotated[str, f(5, "None, HostToContainer or Bidirectional; None by default.", pointer=True)]
    subPathExpr: Annotated[str, f(6, "As subPath, with $(NAME) replaced by environment variables; excludes subPath.")]


class VolumeDevice(TypedDict, total=False):
    """Where a container sees a block volume."""

    name: Annotated[Required[str], f(1, "Name of the volume; it must be a claim with volumeMode Block.")]
    devicePath: Annotated[Required[str], f(2, "Path of the device in the container.")]


class VolumeMountStatus(TypedDict, total=False):
    """How a volume was really mounted."""

    name: Annotated[Required[str], f(1, "Name of the volume.")]
    mountPath: Annotated[Required[str], f(2, "Path in the container.")]
    readOnly: Annotated[bool, f(3, "Whether it was mounted for reading only.")]
    recursiveReadOnly: Annotated[str, f(4, "Disabled or Enabled, as it turned out.", pointer=True)]
