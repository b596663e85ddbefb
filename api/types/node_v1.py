"""Classes of container runtimes."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_pod import Toleration
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Quantity


class Overhead(TypedDict, total=False):
    """What the runtime needs besides the containers."""

    podFixed: Annotated[dict[str, Quantity], f(1, "For each pod, by resource name.")]


class Scheduling(TypedDict, total=False):
    """Nodes that have the runtime."""

    nodeSelector: Annotated[dict[str, str], f(1, "Labels that the node must have; added to the pod's.", atomic=True)]
    tolerations: Annotated[list[Toleration], f(2, "Taints that do not matter; added to the pod's.", list_type="atomic")]


class RuntimeClass(KubeObject, total=False):
    """A way to run pods."""

    handler: Annotated[Required[str], f(2, "Name of the handler in the node's container runtime; cannot be changed.")]
    overhead: Annotated[Overhead, f(3, "What the runtime needs besides the containers.", pointer=True)]
    scheduling: Annotated[Scheduling, f(4, "Nodes that have the runtime; all by default.", pointer=True)]


class RuntimeClassList(KubeList, total=False):
    """A list of RuntimeClasses."""

    items: Annotated[Required[list[RuntimeClass]], f(2, "The RuntimeClasses.")]
