"""ConfigMaps, Secrets and ServiceAccounts."""

from __future__ import annotations

from typing import Annotated, Required

from kubeling.api.types.core_reference import LocalObjectReference, ObjectReference
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Bytes


class ConfigMap(KubeObject, total=False):
    """Configuration as keys and values."""

    immutable: Annotated[bool, f(4, "Whether the data can no longer be changed; false by default.", pointer=True)]
    data: Annotated[dict[str, str], f(2, "Values that are text, by key.")]
    binaryData: Annotated[dict[str, Bytes], f(3, "Values that are bytes (base64), by key; keys must not stand in data too.")]


class ConfigMapList(KubeList, total=False):
    """A list of ConfigMaps."""

    items: Annotated[Required[list[ConfigMap]], f(2, "The ConfigMaps.")]


class Secret(KubeObject, total=False):
    """Confidential values by key."""

    immutable: Annotated[bool, f(5, "Whether the data can no longer be changed; false by default.", pointer=True)]
    data: Annotated[dict[str, Bytes], f(2, "The values (base64), by key.")]
    stringData: Annotated[dict[str, str], f(4, "Values as text that are put into data on writing; never returned.")]
    type: Annotated[
        str,
        f(3, "What the Secret is for, such as Opaque, kubernetes.io/tls or kubernetes.io/dockerconfigjson; cannot be changed."),
    ]


class SecretList(KubeList, total=False):
    """A list of Secrets."""

    items: Annotated[Required[list[Secret]], f(2, "The Secrets.")]


class ServiceAccount(KubeObject, total=False):
    """An identity for pods."""

    secrets: Annotated[
        list[ObjectReference],
        f(
            2,
            "Secrets that pods of this account may use; checked only with the enforce annotation.",
            merge_key="name",
            keys="name",
        ),
    ]
    imagePullSecrets: Annotated[
        list[LocalObjectReference],
        f(3, "Secrets with credentials for image registries, given to pods of this account.", list_type="atomic"),
    ]
    automountServiceAccountToken: Annotated[
        bool, f(4, "Whether pods get a token mounted; true by default, and the pod may say otherwise.", pointer=True)
    ]


class ServiceAccountList(KubeList, total=False):
    """A list of ServiceAccounts."""

    items: Annotated[Required[list[ServiceAccount]], f(2, "The ServiceAccounts.")]
