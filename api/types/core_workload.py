"""ReplicationControllers, and small kinds of old."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_pod import PodTemplateSpec
from kubeling.api.types.core_reference import ObjectReference
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, Typed
from kubeling.api.types.scalars import Bytes, Int32, Int64, Time


class ReplicationControllerSpec(TypedDict, total=False):
    """What a ReplicationController should keep up."""

    replicas: Annotated[Int32, f(1, "How many pods are wanted; 1 by default.", pointer=True, default=1)]
    minReadySeconds: Annotated[
        Int32,
        f(4, "Seconds that a new pod must be ready without a crash before it counts as available; 0 by default.", default=0),
    ]
    selector: Annotated[
        dict[str, str], f(2, "Labels of the pods that are counted; those of the template by default.", atomic=True)
    ]
    template: Annotated[PodTemplateSpec, f(3, "Pattern of the pods.", pointer=True)]


class ReplicationControllerCondition(TypedDict, total=False):
    """One observation of a ReplicationController."""

    type: Annotated[Required[str], f(1, "What the condition is about.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class ReplicationControllerStatus(TypedDict, total=False):
    """State of a ReplicationController."""

    replicas: Annotated[Required[Int32], f(1, "How many pods there are.")]
    fullyLabeledReplicas: Annotated[Int32, f(2, "How many have all labels of the template.")]
    readyReplicas: Annotated[Int32, f(4, "How many are ready.")]
    availableReplicas: Annotated[Int32, f(5, "How many have been ready for minReadySeconds.")]
    observedGeneration: Annotated[Int64, f(3, "The metadata.generation that this status was computed from.")]
    conditions: Annotated[
        list[ReplicationControllerCondition], f(6, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class ReplicationController(KubeObject, total=False):
    """Keeps a number of equal pods running; ReplicaSet took its place."""

    spec: Annotated[ReplicationControllerSpec, f(2, "What is wanted.")]
    status: Annotated[ReplicationControllerStatus, f(3, "What has been observed; written by the system.")]


class ReplicationControllerList(KubeList, total=False):
    """A list of ReplicationControllers."""

    items: Annotated[Required[list[ReplicationController]], f(2, "The ReplicationControllers.")]


class ComponentCondition(TypedDict, total=False):
    """One observation of a component."""

    type: Annotated[Required[str], f(1, "Healthy.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    message: Annotated[str, f(3, "What the component answered.")]
    error: Annotated[str, f(4, "What went wrong.")]


class ComponentStatus(KubeObject, total=False):
    """Health of a control-plane component; health endpoints took its place."""

    conditions: Annotated[
        list[ComponentCondition], f(2, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class ComponentStatusList(KubeList, total=False):
    """A list of ComponentStatuses."""

    items: Annotated[Required[list[ComponentStatus]], f(2, "The ComponentStatuses.")]


class RangeAllocation(KubeObject, total=False):
    """What is taken of a range, as a bitmap; internal."""

    range: Annotated[Required[str], f(2, "The range, as a CIDR or as first-last.")]
    data: Annotated[Required[Bytes], f(3, "One bit for each member (base64).")]


class SerializedReference(Typed, total=False):
    """A reference as it stands in an annotation."""

    reference: Annotated[ObjectReference, f(1, "The object.")]


class Preconditions(TypedDict, total=False):
    """What must hold for an operation to be carried out."""

    uid: Annotated[str, f(1, "The object must have this UID.", pointer=True)]
