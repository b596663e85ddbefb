"""In which versions each API server stores and reads a kind (KEP-2339)."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int64, Time


class ServerStorageVersion(TypedDict, total=False):
    """What one API server does with a kind."""

    apiServerID: Annotated[str, f(1, "Name of the server's identity Lease.")]
    encodingVersion: Annotated[str, f(2, "The version in which it writes objects to the store.")]
    decodableVersions: Annotated[list[str], f(3, "The versions that it can read.", list_type="set")]
    servedVersions: Annotated[list[str], f(4, "The versions in which it serves objects.", list_type="set")]


class StorageVersionCondition(TypedDict, total=False):
    """One observation of a kind's versions."""

    type: Annotated[Required[str], f(1, "What the condition is about.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    observedGeneration: Annotated[Int64, f(3, "The metadata.generation that it was made from.")]
    lastTransitionTime: Annotated[Time, f(4, "When the status last changed.")]
    reason: Annotated[Required[str], f(5, "One CamelCase word for the last change, for programs.")]
    message: Annotated[Required[str], f(6, "Details of the last change, for people.")]


class StorageVersionSpec(TypedDict, total=False):
    """Nothing: all of it is observed."""


class StorageVersionStatus(TypedDict, total=False):
    """What the servers have said."""

    storageVersions: Annotated[list[ServerStorageVersion], f(1, "What each server does.", keys="apiServerID")]
    commonEncodingVersion: Annotated[str, f(2, "The version in which all servers write, where they agree.", pointer=True)]
    conditions: Annotated[list[StorageVersionCondition], f(3, "The latest observations, one for each type.", keys="type")]


class StorageVersion(KubeObject, total=False):
    """The versions of a kind in the store, as each API server has them; called <group>.<resource>."""

    spec: Annotated[Required[StorageVersionSpec], f(2, "Nothing.")]
    status: Annotated[StorageVersionStatus, f(3, "What the servers have said.")]


class StorageVersionList(KubeList, total=False):
    """A list of StorageVersions."""

    items: Annotated[Required[list[StorageVersion]], f(2, "The StorageVersions.")]
