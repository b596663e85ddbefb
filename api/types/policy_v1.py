"""Evictions and the budgets that hold them back."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_options_v1 import DeleteOptions
from kubeling.api.types.meta_v1 import Condition, KubeList, KubeObject, LabelSelector
from kubeling.api.types.scalars import Int32, Int64, IntOrString, Time


class Eviction(KubeObject, total=False):
    """Asks for the removal of a pod, which a PodDisruptionBudget may refuse."""

    deleteOptions: Annotated[DeleteOptions, f(2, "Options for the deletion.", pointer=True)]


class PodDisruptionBudgetSpec(TypedDict, total=False):
    """How many pods must stay up."""

    minAvailable: Annotated[
        IntOrString, f(1, "How many must be left, as a number or a percentage; excludes maxUnavailable.", pointer=True)
    ]
    selector: Annotated[
        LabelSelector,
        f(2, "Which pods are protected; an empty selector means all of the namespace.", pointer=True, strategy="replace"),
    ]
    maxUnavailable: Annotated[
        IntOrString, f(3, "How many may be down, as a number or a percentage; excludes minAvailable.", pointer=True)
    ]
    unhealthyPodEvictionPolicy: Annotated[
        str,
        f(
            4,
            "IfHealthyBudget or AlwaysAllow: whether pods that are not ready may always be evicted; IfHealthyBudget by default.",
            pointer=True,
        ),
    ]


class PodDisruptionBudgetStatus(TypedDict, total=False):
    """State of a budget."""

    observedGeneration: Annotated[Int64, f(1, "The metadata.generation that this status was computed from.")]
    disruptedPods: Annotated[
        dict[str, Time], f(2, "Pods whose eviction was granted but that are not gone yet, with the time of the grant.")
    ]
    disruptionsAllowed: Annotated[Required[Int32], f(3, "How many pods may be evicted now.")]
    currentHealthy: Annotated[Required[Int32], f(4, "How many pods are healthy.")]
    desiredHealthy: Annotated[Required[Int32], f(5, "How many pods must be healthy.")]
    expectedPods: Annotated[Required[Int32], f(6, "How many pods are counted.")]
    conditions: Annotated[list[Condition], f(7, "The latest observations, one for each type.", merge_key="type", keys="type")]


class PodDisruptionBudget(KubeObject, total=False):
    """Holds back evictions that would leave too few pods."""

    spec: Annotated[PodDisruptionBudgetSpec, f(2, "What is wanted.")]
    status: Annotated[PodDisruptionBudgetStatus, f(3, "What has been observed; written by the system.")]


class PodDisruptionBudgetList(KubeList, total=False):
    """A list of PodDisruptionBudgets."""

    items: Annotated[Required[list[PodDisruptionBudget]], f(2, "The PodDisruptionBudgets.")]
