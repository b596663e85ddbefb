"""Events: what happened to an object."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_event import EventSource
from kubeling.api.types.core_reference import ObjectReference
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int32, MicroTime, Time


class EventSeries(TypedDict, total=False):
    """An event that goes on happening."""

    count: Annotated[Required[Int32], f(1, "How often it has happened.")]
    lastObservedTime: Annotated[Required[MicroTime], f(2, "When it last happened.")]


class Event(KubeObject, total=False):
    """Something that happened to an object."""

    eventTime: Annotated[Required[MicroTime], f(2, "When it was first seen.")]
    series: Annotated[EventSeries, f(3, "How it goes on; absent where it happened once.", pointer=True)]
    reportingController: Annotated[str, f(4, "Controller that reports it, such as kubernetes.io/kubelet.")]
    reportingInstance: Annotated[str, f(5, "Instance of the controller.")]
    action: Annotated[str, f(6, "What was done or failed about the object.")]
    reason: Annotated[str, f(7, "What happened, in one CamelCase word.")]
    regarding: Annotated[ObjectReference, f(8, "The object that the event is about.")]
    related: Annotated[ObjectReference, f(9, "Another object that takes part.", pointer=True)]
    note: Annotated[str, f(10, "What happened, for people.")]
    type: Annotated[str, f(11, "Normal or Warning.")]
    deprecatedSource: Annotated[EventSource, f(12, "Who reports it, in the old form.")]
    deprecatedFirstTimestamp: Annotated[Time, f(13, "When it was first seen, in the old form.")]
    deprecatedLastTimestamp: Annotated[Time, f(14, "When it was last seen, in the old form.")]
    deprecatedCount: Annotated[Int32, f(15, "How often it was seen, in the old form.")]


class EventList(KubeList, total=False):
    """A list of Events."""

    items: Annotated[Required[list[Event]], f(2, "The Events.")]
