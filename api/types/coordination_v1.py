"""Leases: heartbeats and the election of leaders."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int32, MicroTime


class LeaseSpec(TypedDict, total=False):
    """Who holds a lease, and until when."""

    holderIdentity: Annotated[str, f(1, "Who holds it.", pointer=True)]
    leaseDurationSeconds: Annotated[Int32, f(2, "Seconds after renewTime until others may take it.", pointer=True)]
    acquireTime: Annotated[MicroTime, f(3, "When the holder took it.", pointer=True)]
    renewTime: Annotated[MicroTime, f(4, "When the holder last renewed it.", pointer=True)]
    leaseTransitions: Annotated[Int32, f(5, "How often it has changed hands.", pointer=True)]
    strategy: Annotated[str, f(6, "How the holder is chosen, where an election is coordinated.", pointer=True)]
    preferredHolder: Annotated[str, f(7, "Who should hold it instead; needs strategy.", pointer=True)]


class Lease(KubeObject, total=False):
    """Something that one holder has for a time."""

    spec: Annotated[LeaseSpec, f(2, "What is wanted.")]


class LeaseList(KubeList, total=False):
    """A list of Leases."""

    items: Annotated[Required[list[Lease]], f(2, "The Leases.")]
