"""API groups that another server serves."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Bytes, Int32, Time


class ServiceReference(TypedDict, total=False):
    """Points at a Service that answers."""

    namespace: Annotated[str, f(1, "Namespace of the Service.")]
    name: Annotated[str, f(2, "Name of the Service.")]
    port: Annotated[Int32, f(3, "Port of the Service; 443 by default.", pointer=True)]


class APIServiceSpec(TypedDict, total=False):
    """Which version of a group is served, and by whom."""

    service: Annotated[ServiceReference, f(1, "The Service; nothing where this server itself serves the group.", pointer=True)]
    group: Annotated[str, f(2, "API group.")]
    version: Annotated[str, f(3, "API version.")]
    insecureSkipTLSVerify: Annotated[bool, f(4, "Do not check the server's certificate; false by default.")]
    caBundle: Annotated[Bytes, f(5, "Certificates in PEM (base64) that the server's must go back to.", list_type="atomic")]
    groupPriorityMinimum: Annotated[Required[Int32], f(7, "Groups with more come first in discovery.")]
    versionPriority: Annotated[Required[Int32], f(8, "Versions of the group with more come first in discovery.")]


class APIServiceCondition(TypedDict, total=False):
    """One observation of an APIService."""

    type: Annotated[Required[str], f(1, "Available.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class APIServiceStatus(TypedDict, total=False):
    """State of an APIService."""

    conditions: Annotated[
        list[APIServiceCondition], f(1, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class APIService(KubeObject, total=False):
    """A version of a group and the server for it; its name is <version>.<group>."""

    spec: Annotated[APIServiceSpec, f(2, "What is wanted.")]
    status: Annotated[APIServiceStatus, f(3, "What has been observed; written by the system.")]


class APIServiceList(KubeList, total=False):
    """A list of APIServices."""

    items: Annotated[Required[list[APIService]], f(2, "The APIServices.")]
