"""Namespaces, and what limits their use of resources."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import atomic, f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Quantity, Time


class NamespaceSpec(TypedDict, total=False):
    """What a namespace should be."""

    finalizers: Annotated[
        list[str],
        f(1, "What must be removed before the namespace can go; kubernetes stands for its content.", list_type="atomic"),
    ]


class NamespaceCondition(TypedDict, total=False):
    """One observation of a namespace."""

    type: Annotated[Required[str], f(1, "What the condition is about.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(4, "When the status last changed.")]
    reason: Annotated[str, f(5, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(6, "Details of the last change, for people.")]


class NamespaceStatus(TypedDict, total=False):
    """State of a namespace."""

    phase: Annotated[str, f(1, "Active or Terminating.")]
    conditions: Annotated[
        list[NamespaceCondition], f(2, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class Namespace(KubeObject, total=False):
    """A scope for names."""

    spec: Annotated[NamespaceSpec, f(2, "What is wanted.")]
    status: Annotated[NamespaceStatus, f(3, "What has been observed; written by the system.")]


class NamespaceList(KubeList, total=False):
    """A list of Namespaces."""

    items: Annotated[Required[list[Namespace]], f(2, "The Namespaces.")]


class LimitRangeItem(TypedDict, total=False):
    """Limits for one type of object."""

    type: Annotated[Required[str], f(1, "Pod, Container or PersistentVolumeClaim.")]
    max: Annotated[dict[str, Quantity], f(2, "The most of each resource.")]
    min: Annotated[dict[str, Quantity], f(3, "The least of each resource.")]
    default: Annotated[dict[str, Quantity], f(4, "Limit that is filled in where none is given.")]
    defaultRequest: Annotated[dict[str, Quantity], f(5, "Request that is filled in where none is given.")]
    maxLimitRequestRatio: Annotated[dict[str, Quantity], f(6, "How many times the request a limit may be, by resource.")]


class LimitRangeSpec(TypedDict, total=False):
    """Limits for the objects of a namespace."""

    limits: Annotated[Required[list[LimitRangeItem]], f(1, "The limits.", list_type="atomic")]


class LimitRange(KubeObject, total=False):
    """Limits and defaults for the resources of objects in a namespace."""

    spec: Annotated[LimitRangeSpec, f(2, "What is wanted.")]


class LimitRangeList(KubeList, total=False):
    """A list of LimitRanges."""

    items: Annotated[Required[list[LimitRange]], f(2, "The LimitRanges.")]


class ScopedResourceSelectorRequirement(TypedDict, total=False):
    """A test on a scope."""

    scopeName: Annotated[Required[str], f(1, "The scope, such as PriorityClass, BestEffort or Terminating.")]
    operator: Annotated[Required[str], f(2, "In, NotIn, Exists or DoesNotExist.")]
    values: Annotated[list[str], f(3, "Values to compare with, for In and NotIn.", list_type="atomic")]


class ScopeSelector(TypedDict, total=False):
    """Tests on scopes that must all hold."""

    matchExpressions: Annotated[list[ScopedResourceSelectorRequirement], f(1, "The tests.", list_type="atomic")]


atomic(ScopeSelector)


class ResourceQuotaSpec(TypedDict, total=False):
    """What may be used in a namespace."""

    hard: Annotated[dict[str, Quantity], f(1, "The most of each resource.")]
    scopes: Annotated[list[str], f(2, "Scopes that an object must match to be counted.", list_type="atomic")]
    scopeSelector: Annotated[ScopeSelector, f(3, "Tests on scopes that an object must match to be counted.", pointer=True)]


class ResourceQuotaStatus(TypedDict, total=False):
    """What is used in a namespace."""

    hard: Annotated[dict[str, Quantity], f(1, "The limits in force.")]
    used: Annotated[dict[str, Quantity], f(2, "What is used of each resource.")]


class ResourceQuota(KubeObject, total=False):
    """A ceiling for what a namespace uses."""

    spec: Annotated[ResourceQuotaSpec, f(2, "What is wanted.")]
    status: Annotated[ResourceQuotaStatus, f(3, "What has been observed; written by the system.")]


class ResourceQuotaList(KubeList, total=False):
    """A list of ResourceQuotas."""

    items: Annotated[Required[list[ResourceQuota]], f(2, "The ResourceQuotas.")]
