"""Events: what happened to an object."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import ObjectReference
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int32, MicroTime, Time


class EventSource(TypedDict, total=False):
    """Who reports an event."""

    component: Annotated[str, f(1, "The component.")]
    host: Annotated[str, f(2, "The node that it runs on.")]


class EventSeries(TypedDict, total=False):
    """An event that goes on happening."""

    count: Annotated[Int32, f(1, "How often it has happened.")]
    lastObservedTime: Annotated[MicroTime, f(2, "When it last happened.")]


class Event(KubeObject, total=False):
    """Something that happened to an object."""

    involvedObject: Annotated[Required[ObjectReference], f(2, "The object that the event is about.")]
    reason: Annotated[str, f(3, "What happened, in one CamelCase word.")]
    message: Annotated[str, f(4, "What happened, for people.")]
    source: Annotated[EventSource, f(5, "Who reports it.")]
    firstTimestamp: Annotated[Time, f(6, "When it was first seen.")]
    lastTimestamp: Annotated[Time, f(7, "When it was last seen.")]
    count: Annotated[Int32, f(8, "How often it has been seen.")]
    type: Annotated[str, f(9, "Normal or Warning.")]
    eventTime: Annotated[MicroTime, f(10, "When it was first seen, to the microsecond.")]
    series: Annotated[EventSeries, f(11, "How it goes on; absent where it happened once.", pointer=True)]
    action: Annotated[str, f(12, "What was done or failed about the object.")]
    related: Annotated[ObjectReference, f(13, "Another object that takes part.", pointer=True)]
    reportingComponent: Annotated[str, f(14, "Controller that reports it, such as kubernetes.io/kubelet.", always=True)]
    reportingInstance: Annotated[str, f(15, "Instance of the controller.", always=True)]


class EventList(KubeList, total=False):
    """A list of Events."""

    items: Annotated[Required[list[Event]], f(2, "The Events.")]
