"""Scale, and the HorizontalPodAutoscaler that knows only CPU."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import atomic, f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, LabelSelector
from kubeling.api.types.scalars import Int32, Int64, Quantity, Time


class CrossVersionObjectReference(TypedDict, total=False):
    """Points at an object whose version may change."""

    kind: Annotated[Required[str], f(1, "Kind of the object.")]
    name: Annotated[Required[str], f(2, "Name of the object.")]
    apiVersion: Annotated[str, f(3, "Group and version of the object.")]


atomic(CrossVersionObjectReference)


class ScaleSpec(TypedDict, total=False):
    """How many are wanted."""

    replicas: Annotated[Int32, f(1, "How many pods are wanted.")]


class ScaleStatus(TypedDict, total=False):
    """How many there are."""

    replicas: Annotated[Required[Int32], f(1, "How many pods there are.")]
    selector: Annotated[str, f(2, "Which pods are counted, as a selector in text form.")]


class Scale(KubeObject, total=False):
    """The size of a workload, apart from all else about it."""

    spec: Annotated[ScaleSpec, f(2, "What is wanted.")]
    status: Annotated[ScaleStatus, f(3, "What has been observed; written by the system.")]


class HorizontalPodAutoscalerSpec(TypedDict, total=False):
    """Which workload to scale, and when."""

    scaleTargetRef: Annotated[Required[CrossVersionObjectReference], f(1, "The workload, which must have a scale subresource.")]
    minReplicas: Annotated[Int32, f(2, "Fewest pods; 1 by default.", pointer=True)]
    maxReplicas: Annotated[Required[Int32], f(3, "Most pods.")]
    targetCPUUtilizationPercentage: Annotated[
        Int32, f(4, "Average CPU use to aim at, in percent of the requests; 80 by default.", pointer=True)
    ]


class HorizontalPodAutoscalerStatus(TypedDict, total=False):
    """State of an autoscaler."""

    observedGeneration: Annotated[Int64, f(1, "The metadata.generation that this status was computed from.", pointer=True)]
    lastScaleTime: Annotated[Time, f(2, "When it last changed the number of pods.", pointer=True)]
    currentReplicas: Annotated[Required[Int32], f(3, "How many pods there are.")]
    desiredReplicas: Annotated[Required[Int32], f(4, "How many pods it wants.")]
    currentCPUUtilizationPercentage: Annotated[Int32, f(5, "Average CPU use, in percent of the requests.", pointer=True)]


class HorizontalPodAutoscaler(KubeObject, total=False):
    """Changes the number of a workload's pods with their CPU use."""

    spec: Annotated[HorizontalPodAutoscalerSpec, f(2, "What is wanted.")]
    status: Annotated[HorizontalPodAutoscalerStatus, f(3, "What has been observed; written by the system.")]


class HorizontalPodAutoscalerList(KubeList, total=False):
    """A list of HorizontalPodAutoscalers."""

    items: Annotated[Required[list[HorizontalPodAutoscaler]], f(2, "The HorizontalPodAutoscalers.")]


class HorizontalPodAutoscalerCondition(TypedDict, total=False):
    """One observation of an autoscaler."""

    type: Annotated[Required[str], f(1, "What the condition is about.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class ObjectMetricSource(TypedDict, total=False):
    """A metric of one object, to aim at."""

    target: Annotated[Required[CrossVersionObjectReference], f(1, "The object.")]
    metricName: Annotated[Required[str], f(2, "Name of the metric.")]
    targetValue: Annotated[Required[Quantity], f(3, "Value to aim at.")]
    selector: Annotated[LabelSelector, f(4, "Which series of the metric, by labels.", pointer=True)]
    averageValue: Annotated[Quantity, f(5, "The value divided by the number of pods.", pointer=True)]


class ObjectMetricStatus(TypedDict, total=False):
    """A metric of one object, as it is."""

    target: Annotated[Required[CrossVersionObjectReference], f(1, "The object.")]
    metricName: Annotated[Required[str], f(2, "Name of the metric.")]
    currentValue: Annotated[Required[Quantity], f(3, "Value now.")]
    selector: Annotated[LabelSelector, f(4, "Which series of the metric, by labels.", pointer=True)]
    averageValue: Annotated[Quantity, f(5, "The value divided by the number of pods.", pointer=True)]


class PodsMetricSource(TypedDict, total=False):
    """A metric of every pod, to aim at."""

    metricName: Annotated[Required[str], f(1, "Name of the metric.")]
    targetAverageValue: Annotated[Required[Quantity], f(2, "Average over the pods to aim at.")]
    selector: Annotated[LabelSelector, f(3, "Which series of the metric, by labels.", pointer=True)]


class PodsMetricStatus(TypedDict, total=False):
    """A metric of every pod, as it is."""

    metricName: Annotated[Required[str], f(1, "Name of the metric.")]
    currentAverageValue: Annotated[Required[Quantity], f(2, "Average over the pods now.")]
    selector: Annotated[LabelSelector, f(3, "Which series of the metric, by labels.", pointer=True)]


class ResourceMetricSource(TypedDict, total=False):
    """A resource of the pods, to aim at."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    targetAverageUtilization: Annotated[Int32, f(2, "Average use to aim at, in percent of the requests.", pointer=True)]
    targetAverageValue: Annotated[Quantity, f(3, "Average use to aim at, as an amount.", pointer=True)]


class ResourceMetricStatus(TypedDict, total=False):
    """A resource of the pods, as it is."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    currentAverageUtilization: Annotated[Int32, f(2, "Average use now, in percent of the requests.", pointer=True)]
    currentAverageValue: Annotated[Required[Quantity], f(3, "Average use now, as an amount.")]


class ContainerResourceMetricSource(TypedDict, total=False):
    """A resource of one container in every pod, to aim at."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    targetAverageUtilization: Annotated[Int32, f(2, "Average use to aim at, in percent of the requests.", pointer=True)]
    targetAverageValue: Annotated[Quantity, f(3, "Average use to aim at, as an amount.", pointer=True)]
    container: Annotated[Required[str], f(5, "Name of the container.")]


class ContainerResourceMetricStatus(TypedDict, total=False):
    """A resource of one container in every pod, as it is."""

    name: Annotated[Required[str], f(1, "cpu or memory.")]
    currentAverageUtilization: Annotated[Int32, f(2, "Average use now, in percent of the requests.", pointer=True)]
    currentAverageValue: Annotated[Required[Quantity], f(3, "Average use now, as an amount.")]
    container: Annotated[Required[str], f(4, "Name of the container.")]


class ExternalMetricSource(TypedDict, total=False):
    """A metric from outside the cluster, to aim at."""

    metricName: Annotated[Required[str], f(1, "Name of the metric.")]
    metricSelector: Annotated[LabelSelector, f(2, "Which series of the metric, by labels.", pointer=True)]
    targetValue: Annotated[Quantity, f(3, "Value to aim at.", pointer=True)]
    targetAverageValue: Annotated[Quantity, f(4, "Value for each pod to aim at.", pointer=True)]


class ExternalMetricStatus(TypedDict, total=False):
    """A metric from outside the cluster, as it is."""

    metricName: Annotated[Required[str], f(1, "Name of the metric.")]
    metricSelector: Annotated[LabelSelector, f(2, "Which series of the metric, by labels.", pointer=True)]
    currentValue: Annotated[Required[Quantity], f(3, "Value now.")]
    currentAverageValue: Annotated[Quantity, f(4, "Value for each pod now.", pointer=True)]


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
