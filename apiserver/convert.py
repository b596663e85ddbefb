"""Between the version that a client speaks and the version that is stored.

Only two built-in kinds have more than one version: HorizontalPodAutoscaler (autoscaling/v1 and v2) and Event (v1 and events.k8s.io/v1). A conversion
takes an object apart by the older version's names and loses nothing: what v1 of the autoscaler cannot say stands in annotations, as upstream does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from kubeling.api import autoscalers
from kubeling.api.fields import FieldRequirement, FieldSelector

if TYPE_CHECKING:
    from kubeling.apiserver.registry.kinds import Served

Object = dict[str, Any]


class Custom(Protocol):
    """A served custom resource: the pipeline sees its objects in the version that the client speaks, not in the stored one."""

    async def to_served(self, objs: list[Object]) -> list[Object]:
        """Stored objects in the served version."""

    async def to_stored(self, obj: Object) -> Object:
        """An object of the served version in the stored one."""

    def renamed(self, obj: Object) -> Object:
        """An object of another version in the served one, where that takes no more than another apiVersion."""


async def present(served: Served, objs: list[Object]) -> list[Object]:
    """Stored objects in the served version."""
    if not served.is_builtin:
        return await cast(Custom, served).to_served(objs)
    return [from_storage(served, each) for each in objs] if served.converts else objs


async def opened(served: Served, obj: Object) -> Object:
    """A stored object as the pipeline wants it: in the stored version, but for custom resources."""
    return obj if served.is_builtin else (await cast(Custom, served).to_served([obj]))[0]


async def closed(served: Served, obj: Object) -> Object:
    """What the pipeline made, in the stored version."""
    return obj if served.is_builtin else await cast(Custom, served).to_stored(obj)


def from_storage(served: Served, obj: Object) -> Object:
    """A stored object of a built-in kind in the served version; custom resources have been :func:`opened`."""
    if not served.is_builtin:
        return cast(Custom, served).renamed(obj)
    if not served.converts:
        return obj
    return _CONVERSIONS[served.stored.group_version, served.resource.group_version](obj)


def to_storage(served: Served, obj: Object) -> Object:
    """A client's object as the pipeline wants it."""
    if not served.converts or not served.is_builtin:
        return obj
    return _CONVERSIONS[served.resource.group_version, served.stored.group_version](obj)


def between(obj: Object, version: str) -> Object:
    """An object of a built-in kind in another of its versions."""
    return _CONVERSIONS[obj["apiVersion"], version](obj)


def field_selector(served: Served, selector: FieldSelector) -> FieldSelector:
    """A selector over the served version's fields as one over the stored version's."""
    if not served.is_builtin:
        return selector
    return FieldSelector(tuple(FieldRequirement(_field(each.field), each.value, each.negated) for each in selector.requirements))


def _field(name: str) -> str:
    first, dot, rest = name.partition(".")
    return _EVENT_NAMES_BACK.get(first, first) + dot + rest


_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "source": "deprecatedSource",
    "reportingComponent": "reportingController",
}
_EVENT_NAMES_BACK = {new: old for old, new in _EVENT_NAMES.items()}


def _event_to_v1(obj: Object) -> Object:
    return {**{_EVENT_NAMES.get(key, key): value for key, value in obj.items()}, "apiVersion": "events.k8s.io/v1"}


def _event_to_core(obj: Object) -> Object:
    return {**{_EVENT_NAMES_BACK.get(key, key): value for key, value in obj.items()}, "apiVersion": "v1"}


_CONVERSIONS: dict[tuple[str, str], Callable[[Object], Object]] = {
    ("v1", "events.k8s.io/v1"): _event_to_v1,
    ("events.k8s.io/v1", "v1"): _event_to_core,
    ("autoscaling/v2", "autoscaling/v1"): autoscalers.to_v1,
    ("autoscaling/v1", "autoscaling/v2"): autoscalers.to_v2,
}
