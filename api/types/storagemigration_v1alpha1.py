"""Requests to write all objects of a kind anew, so that they are stored as new ones are (KEP-4192)."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Time


class GroupVersionResource(TypedDict, total=False):
    """A kind of objects, in one of its versions."""

    group: Annotated[str, f(1, "The API group; empty for core.")]
    version: Annotated[str, f(2, "The version.")]
    resource: Annotated[str, f(3, "The plural name, such as deployments.")]


class StorageVersionMigrationSpec(TypedDict, total=False):
    """What is to be migrated."""

    resource: Annotated[Required[GroupVersionResource], f(1, "The kind; cannot be changed.")]
    continueToken: Annotated[str, f(2, "Where the next page of objects begins; kept for those who migrate page by page.")]


class MigrationCondition(TypedDict, total=False):
    """One observation of a migration."""

    type: Annotated[Required[str], f(1, "Running, Succeeded or Failed.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastUpdateTime: Annotated[Time, f(3, "When it was last written.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class StorageVersionMigrationStatus(TypedDict, total=False):
    """How far a migration is."""

    conditions: Annotated[
        list[MigrationCondition], f(1, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]
    resourceVersion: Annotated[str, f(2, "Version of the kind when the migration began: what was written later needs none.")]


class StorageVersionMigration(KubeObject, total=False):
    """Asks that all objects of a kind are written anew in the version in which they are stored now."""

    spec: Annotated[StorageVersionMigrationSpec, f(2, "What is wanted.")]
    status: Annotated[StorageVersionMigrationStatus, f(3, "What has been observed; written by the system.")]


class StorageVersionMigrationList(KubeList, total=False):
    """A list of StorageVersionMigrations."""

    items: Annotated[Required[list[StorageVersionMigration]], f(2, "The StorageVersionMigrations.")]
