"""Volumes of single storage vendors. Most are only kept so that old objects still fit; CSI drivers took their place."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import LocalObjectReference, ObjectReference, SecretReference
from kubeling.api.types.declare import f
from kubeling.api.types.scalars import Int32


class AWSElasticBlockStoreVolumeSource(TypedDict, total=False):
    """A disk of AWS EBS."""

    volumeID: Annotated[Required[str], f(1, "ID of the disk in AWS.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    partition: Annotated[Int32, f(3, "Partition to mount; 0 or nothing is the whole disk.")]
    readOnly: Annotated[bool, f(4, "Mount for reading only; false by default.")]


class AzureDiskVolumeSource(TypedDict, total=False):
    """A disk of Azure."""

    diskName: Annotated[Required[str], f(1, "Name of the disk in blob storage.")]
    diskURI: Annotated[Required[str], f(2, "URI of the disk in blob storage.")]
    cachingMode: Annotated[str, f(3, "None, ReadOnly or ReadWrite.", pointer=True, default="ReadWrite")]
    fsType: Annotated[str, f(4, "File system to mount; ext4 by default.", pointer=True, default="ext4")]
    readOnly: Annotated[bool, f(5, "Mount for reading only; false by default.", pointer=True, default=False)]
    kind: Annotated[str, f(6, "Shared, Dedicated or Managed; Shared by default.", pointer=True, default="Shared")]


class AzureFileVolumeSource(TypedDict, total=False):
    """A share of Azure Files."""

    secretName: Annotated[Required[str], f(1, "Secret with the account's name and key.")]
    shareName: Annotated[Required[str], f(2, "Name of the share.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]


class AzureFilePersistentVolumeSource(TypedDict, total=False):
    """A share of Azure Files, as a PersistentVolume."""

    secretName: Annotated[Required[str], f(1, "Secret with the account's name and key.")]
    shareName: Annotated[Required[str], f(2, "Name of the share.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]
    secretNamespace: Annotated[str, f(4, "Namespace of the Secret; the pod's by default.", pointer=True)]


class CephFSVolumeSource(TypedDict, total=False):
    """A Ceph file system."""

    monitors: Annotated[Required[list[str]], f(1, "Addresses of the Ceph monitors.", list_type="atomic")]
    path: Annotated[str, f(2, "Path that is mounted as the root; / by default.")]
    user: Annotated[str, f(3, "RADOS user; admin by default.")]
    secretFile: Annotated[str, f(4, "Path of the user's key ring; /etc/ceph/user.secret by default.")]
    secretRef: Annotated[LocalObjectReference, f(5, "Secret with the user's key; wins over secretFile.", pointer=True)]
    readOnly: Annotated[bool, f(6, "Mount for reading only; false by default.")]


class CephFSPersistentVolumeSource(TypedDict, total=False):
    """A Ceph file system, as a PersistentVolume."""

    monitors: Annotated[Required[list[str]], f(1, "Addresses of the Ceph monitors.", list_type="atomic")]
    path: Annotated[str, f(2, "Path that is mounted as the root; / by default.")]
    user: Annotated[str, f(3, "RADOS user; admin by default.")]
    secretFile: Annotated[str, f(4, "Path of the user's key ring; /etc/ceph/user.secret by default.")]
    secretRef: Annotated[SecretReference, f(5, "Secret with the user's key; wins over secretFile.", pointer=True)]
    readOnly: Annotated[bool, f(6, "Mount for reading only; false by default.")]


class CinderVolumeSource(TypedDict, total=False):
    """A volume of OpenStack Cinder."""

    volumeID: Annotated[Required[str], f(1, "ID of the volume in Cinder.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]
    secretRef: Annotated[LocalObjectReference, f(4, "Secret with the parameters for OpenStack.", pointer=True)]


class CinderPersistentVolumeSource(TypedDict, total=False):
    """A volume of OpenStack Cinder, as a PersistentVolume."""

    volumeID: Annotated[Required[str], f(1, "ID of the volume in Cinder.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]
    secretRef: Annotated[SecretReference, f(4, "Secret with the parameters for OpenStack.", pointer=True)]


class FCVolumeSource(TypedDict, total=False):
    """A LUN over Fibre Channel."""

    targetWWNs: Annotated[list[str], f(1, "World wide names of the targets.", list_type="atomic")]
    lun: Annotated[Int32, f(2, "Number of the LUN at the target.", pointer=True)]
    fsType: Annotated[str, f(3, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(4, "Mount for reading only; false by default.")]
    wwids: Annotated[list[str], f(5, "World wide identifiers of the volume; instead of targetWWNs with lun.", list_type="atomic")]


class FlexVolumeSource(TypedDict, total=False):
    """A volume by an exec-based plugin; use CSI instead."""

    driver: Annotated[Required[str], f(1, "Name of the driver.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    secretRef: Annotated[LocalObjectReference, f(3, "Secret that is handed to the driver.", pointer=True)]
    readOnly: Annotated[bool, f(4, "Mount for reading only; false by default.")]
    options: Annotated[dict[str, str], f(5, "More options for the driver.")]


class FlexPersistentVolumeSource(TypedDict, total=False):
    """A volume by an exec-based plugin, as a PersistentVolume; use CSI instead."""

    driver: Annotated[Required[str], f(1, "Name of the driver.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    secretRef: Annotated[SecretReference, f(3, "Secret that is handed to the driver.", pointer=True)]
    readOnly: Annotated[bool, f(4, "Mount for reading only; false by default.")]
    options: Annotated[dict[str, str], f(5, "More options for the driver.")]


class FlockerVolumeSource(TypedDict, total=False):
    """A Flocker data set."""

    datasetName: Annotated[str, f(1, "Name of the data set.")]
    datasetUUID: Annotated[str, f(2, "UUID of the data set.")]


class GCEPersistentDiskVolumeSource(TypedDict, total=False):
    """A disk of Google Compute Engine."""

    pdName: Annotated[Required[str], f(1, "Name of the disk in GCE.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    partition: Annotated[Int32, f(3, "Partition to mount; 0 or nothing is the whole disk.")]
    readOnly: Annotated[bool, f(4, "Mount for reading only; false by default.")]


class GlusterfsVolumeSource(TypedDict, total=False):
    """A GlusterFS volume."""

    endpoints: Annotated[Required[str], f(1, "Endpoints object that lists the servers.")]
    path: Annotated[Required[str], f(2, "Path of the GlusterFS volume.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]


class GlusterfsPersistentVolumeSource(TypedDict, total=False):
    """A GlusterFS volume, as a PersistentVolume."""

    endpoints: Annotated[Required[str], f(1, "Endpoints object that lists the servers.")]
    path: Annotated[Required[str], f(2, "Path of the GlusterFS volume.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]
    endpointsNamespace: Annotated[str, f(4, "Namespace of the Endpoints; that of the claim by default.", pointer=True)]


class ISCSIVolumeSource(TypedDict, total=False):
    """A disk over iSCSI."""

    targetPortal: Annotated[Required[str], f(1, "Address of the target, with the port where it is not 860 or 3260.")]
    iqn: Annotated[Required[str], f(2, "Qualified name of the target.")]
    lun: Annotated[Required[Int32], f(3, "Number of the LUN at the target.")]
    iscsiInterface: Annotated[str, f(4, "Transport of the initiator; default (tcp) where it is not given.", default="default")]
    fsType: Annotated[str, f(5, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(6, "Mount for reading only; false by default.")]
    portals: Annotated[list[str], f(7, "More addresses of the target, for multipath.", list_type="atomic")]
    chapAuthDiscovery: Annotated[bool, f(8, "Whether discovery is authenticated by CHAP.")]
    chapAuthSession: Annotated[bool, f(11, "Whether the session is authenticated by CHAP.")]
    secretRef: Annotated[LocalObjectReference, f(10, "Secret with the CHAP credentials.", pointer=True)]
    initiatorName: Annotated[str, f(12, "Name of the initiator.", pointer=True)]


class ISCSIPersistentVolumeSource(TypedDict, total=False):
    """A disk over iSCSI, as a PersistentVolume."""

    targetPortal: Annotated[Required[str], f(1, "Address of the target, with the port where it is not 860 or 3260.")]
    iqn: Annotated[Required[str], f(2, "Qualified name of the target.")]
    lun: Annotated[Required[Int32], f(3, "Number of the LUN at the target.")]
    iscsiInterface: Annotated[str, f(4, "Transport of the initiator; default (tcp) where it is not given.", default="default")]
    fsType: Annotated[str, f(5, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(6, "Mount for reading only; false by default.")]
    portals: Annotated[list[str], f(7, "More addresses of the target, for multipath.", list_type="atomic")]
    chapAuthDiscovery: Annotated[bool, f(8, "Whether discovery is authenticated by CHAP.")]
    chapAuthSession: Annotated[bool, f(11, "Whether the session is authenticated by CHAP.")]
    secretRef: Annotated[SecretReference, f(10, "Secret with the CHAP credentials.", pointer=True)]
    initiatorName: Annotated[str, f(12, "Name of the initiator.", pointer=True)]


class PhotonPersistentDiskVolumeSource(TypedDict, total=False):
    """A disk of VMware Photon; no longer supported."""

    pdID: Annotated[Required[str], f(1, "ID of the disk.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]


class PortworxVolumeSource(TypedDict, total=False):
    """A Portworx volume."""

    volumeID: Annotated[Required[str], f(1, "ID of the volume.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]


class QuobyteVolumeSource(TypedDict, total=False):
    """A Quobyte volume."""

    registry: Annotated[Required[str], f(1, "Addresses of the registry services, host:port, separated by commas.")]
    volume: Annotated[Required[str], f(2, "Name of the volume.")]
    readOnly: Annotated[bool, f(3, "Mount for reading only; false by default.")]
    user: Annotated[str, f(4, "User that accesses are mapped to; the service account's by default.")]
    group: Annotated[str, f(5, "Group that accesses are mapped to; none by default.")]
    tenant: Annotated[str, f(6, "Tenant that owns the volume.")]


class RBDVolumeSource(TypedDict, total=False):
    """A Ceph block device."""

    monitors: Annotated[Required[list[str]], f(1, "Addresses of the Ceph monitors.", list_type="atomic")]
    image: Annotated[Required[str], f(2, "Name of the RADOS image.")]
    fsType: Annotated[str, f(3, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    pool: Annotated[str, f(4, "RADOS pool; rbd by default.", default="rbd")]
    user: Annotated[str, f(5, "RADOS user; admin by default.", default="admin")]
    keyring: Annotated[str, f(6, "Path of the user's key ring; /etc/ceph/keyring by default.", default="/etc/ceph/keyring")]
    secretRef: Annotated[LocalObjectReference, f(7, "Secret with the user's key; wins over keyring.", pointer=True)]
    readOnly: Annotated[bool, f(8, "Mount for reading only; false by default.")]


class RBDPersistentVolumeSource(TypedDict, total=False):
    """A Ceph block device, as a PersistentVolume."""

    monitors: Annotated[Required[list[str]], f(1, "Addresses of the Ceph monitors.", list_type="atomic")]
    image: Annotated[Required[str], f(2, "Name of the RADOS image.")]
    fsType: Annotated[str, f(3, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    pool: Annotated[str, f(4, "RADOS pool; rbd by default.", default="rbd")]
    user: Annotated[str, f(5, "RADOS user; admin by default.", default="admin")]
    keyring: Annotated[str, f(6, "Path of the user's key ring; /etc/ceph/keyring by default.", default="/etc/ceph/keyring")]
    secretRef: Annotated[SecretReference, f(7, "Secret with the user's key; wins over keyring.", pointer=True)]
    readOnly: Annotated[bool, f(8, "Mount for reading only; false by default.")]


class ScaleIOVolumeSource(TypedDict, total=False):
    """A ScaleIO volume."""

    gateway: Annotated[Required[str], f(1, "Address of the gateway.")]
    system: Annotated[Required[str], f(2, "Name of the storage system.")]
    secretRef: Annotated[Required[LocalObjectReference], f(3, "Secret with the user and the password.", pointer=True)]
    sslEnabled: Annotated[bool, f(4, "Whether the gateway is spoken to over TLS; false by default.")]
    protectionDomain: Annotated[str, f(5, "Name of the protection domain.")]
    storagePool: Annotated[str, f(6, "Pool within the protection domain.")]
    storageMode: Annotated[str, f(7, "ThickProvisioned or ThinProvisioned; the latter by default.", default="ThinProvisioned")]
    volumeName: Annotated[str, f(8, "Name of the volume in the system.")]
    fsType: Annotated[str, f(9, "File system to mount; xfs by default.", default="xfs")]
    readOnly: Annotated[bool, f(10, "Mount for reading only; false by default.")]


class ScaleIOPersistentVolumeSource(TypedDict, total=False):
    """A ScaleIO volume, as a PersistentVolume."""

    gateway: Annotated[Required[str], f(1, "Address of the gateway.")]
    system: Annotated[Required[str], f(2, "Name of the storage system.")]
    secretRef: Annotated[Required[SecretReference], f(3, "Secret with the user and the password.", pointer=True)]
    sslEnabled: Annotated[bool, f(4, "Whether the gateway is spoken to over TLS; false by default.")]
    protectionDomain: Annotated[str, f(5, "Name of the protection domain.")]
    storagePool: Annotated[str, f(6, "Pool within the protection domain.")]
    storageMode: Annotated[str, f(7, "ThickProvisioned or ThinProvisioned; the latter by default.", default="ThinProvisioned")]
    volumeName: Annotated[str, f(8, "Name of the volume in the system.")]
    fsType: Annotated[str, f(9, "File system to mount; xfs by default.", default="xfs")]
    readOnly: Annotated[bool, f(10, "Mount for reading only; false by default.")]


class StorageOSVolumeSource(TypedDict, total=False):
    """A StorageOS volume."""

    volumeName: Annotated[str, f(1, "Name of the volume, unique in its namespace.")]
    volumeNamespace: Annotated[str, f(2, "Namespace in StorageOS; the pod's by default.")]
    fsType: Annotated[str, f(3, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(4, "Mount for reading only; false by default.")]
    secretRef: Annotated[LocalObjectReference, f(5, "Secret with the credentials for StorageOS.", pointer=True)]


class StorageOSPersistentVolumeSource(TypedDict, total=False):
    """A StorageOS volume, as a PersistentVolume."""

    volumeName: Annotated[str, f(1, "Name of the volume, unique in its namespace.")]
    volumeNamespace: Annotated[str, f(2, "Namespace in StorageOS; the pod's by default.")]
    fsType: Annotated[str, f(3, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    readOnly: Annotated[bool, f(4, "Mount for reading only; false by default.")]
    secretRef: Annotated[ObjectReference, f(5, "Secret with the credentials for StorageOS.", pointer=True)]


class VsphereVirtualDiskVolumeSource(TypedDict, total=False):
    """A disk of vSphere."""

    volumePath: Annotated[Required[str], f(1, "Path of the vmdk file.")]
    fsType: Annotated[str, f(2, "File system to mount, such as ext4 or xfs; must be known to the node's kernel.")]
    storagePolicyName: Annotated[str, f(3, "Name of the storage policy.")]
    storagePolicyID: Annotated[str, f(4, "ID of the storage policy.")]
