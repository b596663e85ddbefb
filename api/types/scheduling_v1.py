"""Classes of priority."""

from __future__ import annotations

from typing import Annotated, Required

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int32


class PriorityClass(KubeObject, total=False):
    """A name for a priority."""

    value: Annotated[Required[Int32], f(2, "The priority; pods with more are placed first and may push out others.")]
    globalDefault: Annotated[bool, f(3, "Whether pods without a class get this one; false by default.")]
    description: Annotated[str, f(4, "When the class is to be used.")]
    preemptionPolicy: Annotated[str, f(5, "PreemptLowerPriority or Never; PreemptLowerPriority by default.", pointer=True)]


class PriorityClassList(KubeList, total=False):
    """A list of PriorityClasses."""

    items: Annotated[Required[list[PriorityClass]], f(2, "The PriorityClasses.")]
