"""The HorizontalPodAutoscaler."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, LabelSelector
from kubeling.api.types.scalars import Int32, Int64, Quantity, Time


class CrossVersionObjectReference(TypedDict, total=False):
    """Points at an object whose version may change."""

    kind: Annotated[Required[str], f(1, "Kind of the object.")]
    name: Annotated[Required[str], f(2, "Name of the object.")]
    apiVersion: Annotated[str, f(3, "Group and version of the object.")]


class MetricIdentifier(TypedDict, total=False):
    """Which metric."""

    name: Annotated[Required[str], f(1, "Name of the metric.")]
    selector: Annotated[LabelSelector, f(2, "Which series of the metric, by labels; all where it is not given.", pointer=True)]


class MetricTarget(TypedDict, total=False):
    """What to aim at."""

    type: Annotated[Required[str], f(1, "Utilization, Value or AverageValue.")]
    value: Annotated[Quantity, f(2, "Value of the metric.", pointer=True)]
    averageValue: Annotated[Quantity, f(3, "Value for each pod.", pointer=True)]
    averageUtilization: Annotated[Int32, f(4, "Average use, in percent of the requests; only for resources.", pointer=True)]


class MetricValueStatus(TypedDict, total=False):
    """How a metric is."""

    value: Annotated[Quantity, f(1, "Value of the metric.", pointer=True)]
    averageValue: Annotated[Quantity, f(2, "Value for each pod.", pointer=True)]
    averageUtilization: Annotated[Int32, f(3, "Average use, in percent of the requests; only for resources.", pointer=True)]


class ObjectMetricSource(TypedDict, total=False):
    """A metric of one object, to aim at."""

    describedObject: Annotated[Required[CrossVersionObjectReference], f(1, "The object.")]
    target: Annotated[Required[MetricTarget], f(2, "What to aim at.")]
    metric: Annotated[Required[MetricIdentifier], f(3, "Which metric.")]


class ObjectMetricStatus(TypedDict, total=False):
    """A metric of one object, as it is."""

    metric: Annotated[Required[MetricIdentifier], f(1, "Which metric.")]
    current: Annotated[Required[MetricValueStatus], f(2, "How it is.")]
    describedObject: Annotated[Required[CrossVersionObjectReference], f(3, "The object.")]


class PodsMetricSource(TypedDict, total=False):
    """A metric of every pod, to aim at."""

    metric: Annotated[Required[MetricIdentifier], f(1, "Which metric.")]
    target: Annotated[Required[MetricTarget], f(2, "What to aim at.")]


class PodsMetricStatus(TypedDict, total=False):
    """A metric of every pod, as it is."""

    metric: Annotated[Required[MetricIdentifier], f(1, "Which metric.")]
    current: Annotated[Required[MetricValueStatus], f(2, "How it is.")]


class ResourceMetricSource(TypedDict, total=False):
    """A resource of the pods, to aim at."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    target: Annotated[Required[MetricTarget], f(2, "What to aim at.")]


class ResourceMetricStatus(TypedDict, total=False):
    """A resource of the pods, as it is."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    current: Annotated[Required[MetricValueStatus], f(2, "How it is.")]


class ContainerResourceMetricSource(TypedDict, total=False):
    """A resource of one container in every pod, to aim at."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    target: Annotated[Required[MetricTarget], f(2, "What to aim at.")]
    container: Annotated[Required[str], f(3, "Name of the container.")]


class ContainerResourceMetricStatus(TypedDict, total=False):
    """A resource of one container in every pod, as it is."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    current: Annotated[Required[MetricValueStatus], f(2, "How it is.")]
    container: Annotated[Required[str], f(3, "Name of the container.")]


class ExternalMetricSource(TypedDict, total=False):
    """A metric from outside the cluster, to aim at."""

    metric: Annotated[Required[MetricIdentifier], f(1, "Which metric.")]
    target: Annotated[Required[MetricTarget], f(2, "What to aim at.")]


class ExternalMetricStatus(TypedDict, total=False):
    """A metric from outside the cluster, as it is."""

    metric: Annotated[Required[MetricIdentifier], f(1, "Which metric.")]
    current: Annotated[Required[MetricValueStatus], f(2, "How it is.")]


class MetricSpec(TypedDict, total=False):
    """A metric to aim at; the member that type names is set."""

    type: Annotated[Required[str], f(1, "Object, Pods, Resource, ContainerResource or External.")]
    object: Annotated[ObjectMetricSource, f(2, "A metric of one object.", pointer=True)]
    pods: Annotated[PodsMetricSource, f(3, "A metric of every pod.", pointer=True)]
    resource: Annotated[ResourceMetricSource, f(4, "A resource of the pods.", pointer=True)]
    containerResource: Annotated[ContainerResourceMetricSource, f(7, "A resource of one container in every pod.", pointer=True)]
    external: Annotated[ExternalMetricSource, f(5, "A metric from outside the cluster.", pointer=True)]


class MetricStatus(TypedDict, total=False):
    """A metric as it is; the member that type names is set."""

    type: Annotated[Required[str], f(1, "Object, Pods, Resource, ContainerResource or External.")]
    object: Annotated[ObjectMetricStatus, f(2, "A metric of one object.", pointer=True)]
    pods: Annotated[PodsMetricStatus, f(3, "A metric of every pod.", pointer=True)]
    resource: Annotated[ResourceMetricStatus, f(4, "A resource of the pods.", pointer=True)]
    containerResource: Annotated[ContainerResourceMetricStatus, f(7, "A resource of one container in every pod.", pointer=True)]
    external: Annotated[ExternalMetricStatus, f(5, "A metric from outside the cluster.", pointer=True)]


class HPAScalingPolicy(TypedDict, total=False):
    """How much may change in a time."""

    type: Annotated[Required[str], f(1, "Pods or Percent.")]
    value: Annotated[Required[Int32], f(2, "How many pods, or how many percent.")]
    periodSeconds: Annotated[Required[Int32], f(3, "In how many seconds, 1 to 1800.")]


class HPAScalingRules(TypedDict, total=False):
    """How fast to scale in one direction."""

    stabilizationWindowSeconds: Annotated[
        Int32, f(3, "Seconds of past wishes that are looked at, 0 to 3600; 300 for down and 0 for up by default.", pointer=True)
    ]
    selectPolicy: Annotated[str, f(1, "Max, Min or Disabled: which of the policies counts; Max by default.", pointer=True)]
    policies: Annotated[list[HPAScalingPolicy], f(2, "How much may change in a time.", list_type="atomic")]
    tolerance: Annotated[Quantity, f(4, "How far off the metric may be without a change; 0.1 by default.", pointer=True)]


class HorizontalPodAutoscalerBehavior(TypedDict, total=False):
    """How fast to scale."""

    scaleUp: Annotated[HPAScalingRules, f(1, "Upwards.", pointer=True)]
    scaleDown: Annotated[HPAScalingRules, f(2, "Downwards.", pointer=True)]


class HorizontalPodAutoscalerSpec(TypedDict, total=False):
    """Which workload to scale, and when."""

    scaleTargetRef: Annotated[Required[CrossVersionObjectReference], f(1, "The workload, which must have a scale subresource.")]
    minReplicas: Annotated[Int32, f(2, "Fewest pods; 1 by default.", pointer=True)]
    maxReplicas: Annotated[Required[Int32], f(3, "Most pods.")]
    metrics: Annotated[
        list[MetricSpec],
        f(4, "What to aim at; the metric that wants most pods counts. 80 % of the CPU requests by default.", list_type="atomic"),
    ]
    behavior: Annotated[HorizontalPodAutoscalerBehavior, f(5, "How fast to scale.", pointer=True)]


class HorizontalPodAutoscalerCondition(TypedDict, total=False):
    """One observation of an autoscaler."""

    type: Annotated[Required[str], f(1, "AbleToScale, ScalingActive or ScalingLimited.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class HorizontalPodAutoscalerStatus(TypedDict, total=False):
    """State of an autoscaler."""

    observedGeneration: Annotated[Int64, f(1, "The metadata.generation that this status was computed from.", pointer=True)]
    lastScaleTime: Annotated[Time, f(2, "When it last changed the number of pods.", pointer=True)]
    currentReplicas: Annotated[Int32, f(3, "How many pods there are.")]
    desiredReplicas: Annotated[Required[Int32], f(4, "How many pods it wants.")]
    currentMetrics: Annotated[list[MetricStatus], f(5, "The metrics as they are.", list_type="atomic")]
    conditions: Annotated[
        list[HorizontalPodAutoscalerCondition], f(6, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class HorizontalPodAutoscaler(KubeObject, total=False):
    """Changes the number of a workload's pods with metrics."""

    spec: Annotated[HorizontalPodAutoscalerSpec, f(2, "What is wanted.")]
    status: Annotated[HorizontalPodAutoscalerStatus, f(3, "What has been observed; written by the system.")]


class HorizontalPodAutoscalerList(KubeList, total=False):
    """A list of HorizontalPodAutoscalers."""

    items: Annotated[Required[list[HorizontalPodAutoscaler]], f(2, "The HorizontalPodAutoscalers.")]
