"""What nodes and pods are using, as a metrics server tells it."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Duration, Quantity, Time


class NodeMetrics(KubeObject, total=False):
    """What a node is using; its name is the node's."""

    timestamp: Annotated[Required[Time], f(2, "End of the time that was measured.")]
    window: Annotated[Required[Duration], f(3, "Length of the time that was measured.")]
    usage: Annotated[Required[dict[str, Quantity]], f(4, "Average use, by resource name.")]


class NodeMetricsList(KubeList, total=False):
    """A list of NodeMetrics."""

    items: Annotated[Required[list[NodeMetrics]], f(2, "The NodeMetrics.")]


class ContainerMetrics(TypedDict, total=False):
    """What a container is using."""

    name: Annotated[Required[str], f(1, "Name of the container.")]
    usage: Annotated[Required[dict[str, Quantity]], f(2, "Average use, by resource name.")]


class PodMetrics(KubeObject, total=False):
    """What a pod is using; its name is the pod's."""

    timestamp: Annotated[Required[Time], f(2, "End of the time that was measured.")]
    window: Annotated[Required[Duration], f(3, "Length of the time that was measured.")]
    containers: Annotated[Required[list[ContainerMetrics]], f(4, "What the containers are using.")]


class PodMetricsList(KubeList, total=False):
    """A list of PodMetrics."""

    items: Annotated[Required[list[PodMetrics]], f(2, "The PodMetrics.")]
