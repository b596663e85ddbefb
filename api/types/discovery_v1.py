"""EndpointSlices: the addresses behind a Service."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import ObjectReference
from kubeling.api.types.declare import atomic, f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int32


class EndpointConditions(TypedDict, total=False):
    """State of an endpoint; what is not given is not known."""

    ready: Annotated[bool, f(1, "Whether it takes traffic; nothing means yes.", pointer=True)]
    serving: Annotated[bool, f(2, "As ready, but stays true while a ready endpoint is ending.", pointer=True)]
    terminating: Annotated[bool, f(3, "Whether it is ending.", pointer=True)]


class ForZone(TypedDict, total=False):
    """A zone."""

    name: Annotated[Required[str], f(1, "Its name.")]


class ForNode(TypedDict, total=False):
    """A node."""

    name: Annotated[Required[str], f(1, "Its name.")]


class EndpointHints(TypedDict, total=False):
    """For whom an endpoint is meant."""

    forZones: Annotated[list[ForZone], f(1, "Zones whose clients should use it.", list_type="atomic")]
    forNodes: Annotated[list[ForNode], f(2, "Nodes whose clients should use it.", list_type="atomic")]


class Endpoint(TypedDict, total=False):
    """An endpoint, mostly a pod."""

    addresses: Annotated[Required[list[str]], f(1, "Its addresses; consumers use the first.", list_type="set")]
    conditions: Annotated[EndpointConditions, f(2, "Its state.")]
    hostname: Annotated[str, f(3, "Its host name, for DNS.", pointer=True)]
    targetRef: Annotated[ObjectReference, f(4, "Object behind it.", pointer=True)]
    deprecatedTopology: Annotated[dict[str, str], f(5, "Old place for topology; no longer written.")]
    nodeName: Annotated[str, f(6, "Node that it is on.", pointer=True)]
    zone: Annotated[str, f(7, "Zone that it is in.", pointer=True)]
    hints: Annotated[EndpointHints, f(8, "For whom it is meant.", pointer=True)]


class EndpointPort(TypedDict, total=False):
    """A port of all endpoints in a slice."""

    name: Annotated[str, f(1, "Name of the port; empty or unique in the slice.", pointer=True)]
    protocol: Annotated[str, f(2, "TCP, UDP or SCTP; TCP by default.", pointer=True)]
    port: Annotated[Int32, f(3, "Number of the port; all where it is not given.", pointer=True)]
    appProtocol: Annotated[str, f(4, "Application protocol, such as http or kubernetes.io/h2c; a hint.", pointer=True)]


atomic(EndpointPort)


class EndpointSlice(KubeObject, total=False):
    """Some of the endpoints of a Service."""

    addressType: Annotated[Required[str], f(4, "IPv4, IPv6 or FQDN; cannot be changed.")]
    endpoints: Annotated[Required[list[Endpoint]], f(2, "The endpoints, at most 1000.", list_type="atomic")]
    ports: Annotated[list[EndpointPort], f(3, "Ports of all of them, at most 100.", list_type="atomic")]


class EndpointSliceList(KubeList, total=False):
    """A list of EndpointSlices."""

    items: Annotated[Required[list[EndpointSlice]], f(2, "The EndpointSlices.")]
