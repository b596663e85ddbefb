"""Workloads that keep pods running: Deployment, ReplicaSet, DaemonSet, StatefulSet."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_persistent import PersistentVolumeClaim
from kubeling.api.types.core_pod import PodTemplateSpec
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, LabelSelector
from kubeling.api.types.scalars import Int32, Int64, IntOrString, RawExtension, Time


class ControllerRevision(KubeObject, total=False):
    """A snapshot of a DaemonSet's or StatefulSet's template."""

    data: Annotated[RawExtension, f(2, "The snapshot.")]
    revision: Annotated[Required[Int64], f(3, "Number of the revision; a greater one is newer.")]


class ControllerRevisionList(KubeList, total=False):
    """A list of ControllerRevisions."""

    items: Annotated[Required[list[ControllerRevision]], f(2, "The ControllerRevisions.")]


class RollingUpdateDeployment(TypedDict, total=False):
    """Pace of a rolling update."""

    maxUnavailable: Annotated[
        IntOrString, f(1, "How many pods may be missing, as a number or a percentage; 25% by default.", pointer=True)
    ]
    maxSurge: Annotated[
        IntOrString, f(2, "How many pods there may be too many, as a number or a percentage; 25% by default.", pointer=True)
    ]


class DeploymentStrategy(TypedDict, total=False):
    """How old pods make way for new ones."""

    type: Annotated[str, f(1, "RollingUpdate or Recreate; RollingUpdate by default.")]
    rollingUpdate: Annotated[RollingUpdateDeployment, f(2, "Pace of a rolling update.", pointer=True)]


class DeploymentSpec(TypedDict, total=False):
    """What a Deployment should keep up."""

    replicas: Annotated[Int32, f(1, "How many pods are wanted; 1 by default.", pointer=True)]
    selector: Annotated[
        Required[LabelSelector],
        f(2, "Which pods belong to it; must match the template's labels and cannot be changed.", pointer=True),
    ]
    template: Annotated[Required[PodTemplateSpec], f(3, "Pattern of the pods.")]
    strategy: Annotated[DeploymentStrategy, f(4, "How old pods make way for new ones.", strategy="retainKeys")]
    minReadySeconds: Annotated[
        Int32, f(5, "Seconds that a new pod must be ready without a crash before it counts as available; 0 by default.")
    ]
    revisionHistoryLimit: Annotated[Int32, f(6, "How many old ReplicaSets are kept for going back; 10 by default.", pointer=True)]
    paused: Annotated[bool, f(7, "Whether changes of the template wait; false by default.")]
    progressDeadlineSeconds: Annotated[
        Int32, f(9, "Seconds without progress after which a rollout counts as failed; 600 by default.", pointer=True)
    ]


class DeploymentCondition(TypedDict, total=False):
    """One observation of a Deployment."""

    type: Annotated[Required[str], f(1, "Available, Progressing or ReplicaFailure.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastUpdateTime: Annotated[Time, f(6, "When the condition was last written.")]
    lastTransitionTime: Annotated[Time, f(7, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class DeploymentStatus(TypedDict, total=False):
    """State of a Deployment."""

    observedGeneration: Annotated[Int64, f(1, "The metadata.generation that this status was computed from.")]
    replicas: Annotated[Int32, f(2, "How many pods there are.")]
    updatedReplicas: Annotated[Int32, f(3, "How many are of the present template.")]
    readyReplicas: Annotated[Int32, f(7, "How many are ready.")]
    availableReplicas: Annotated[Int32, f(4, "How many have been ready for minReadySeconds.")]
    unavailableReplicas: Annotated[Int32, f(5, "How many are still missing or not available.")]
    terminatingReplicas: Annotated[Int32, f(9, "How many are being deleted.", pointer=True)]
    conditions: Annotated[
        list[DeploymentCondition], f(6, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]
    collisionCount: Annotated[
        Int32, f(8, "How often the hash of the template collided; makes the next name differ.", pointer=True)
    ]


class Deployment(KubeObject, total=False):
    """Keeps equal pods running and rolls out changes to them."""

    spec: Annotated[DeploymentSpec, f(2, "What is wanted.")]
    status: Annotated[DeploymentStatus, f(3, "What has been observed; written by the system.")]


class DeploymentList(KubeList, total=False):
    """A list of Deployments."""

    items: Annotated[Required[list[Deployment]], f(2, "The Deployments.")]


class ReplicaSetSpec(TypedDict, total=False):
    """What a ReplicaSet should keep up."""

    replicas: Annotated[Int32, f(1, "How many pods are wanted; 1 by default.", pointer=True)]
    minReadySeconds: Annotated[
        Int32, f(4, "Seconds that a new pod must be ready without a crash before it counts as available; 0 by default.")
    ]
    selector: Annotated[
        Required[LabelSelector],
        f(2, "Which pods belong to it; must match the template's labels and cannot be changed.", pointer=True),
    ]
    template: Annotated[PodTemplateSpec, f(3, "Pattern of the pods.")]


class ReplicaSetCondition(TypedDict, total=False):
    """One observation of a ReplicaSet."""

    type: Annotated[Required[str], f(1, "ReplicaFailure.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class ReplicaSetStatus(TypedDict, total=False):
    """State of a ReplicaSet."""

    replicas: Annotated[Required[Int32], f(1, "How many pods there are.")]
    fullyLabeledReplicas: Annotated[Int32, f(2, "How many have all labels of the template.")]
    readyReplicas: Annotated[Int32, f(4, "How many are ready.")]
    availableReplicas: Annotated[Int32, f(5, "How many have been ready for minReadySeconds.")]
    terminatingReplicas: Annotated[Int32, f(7, "How many are being deleted.", pointer=True)]
    observedGeneration: Annotated[Int64, f(3, "The metadata.generation that this status was computed from.")]
    conditions: Annotated[
        list[ReplicaSetCondition], f(6, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class ReplicaSet(KubeObject, total=False):
    """Keeps a number of equal pods running."""

    spec: Annotated[ReplicaSetSpec, f(2, "What is wanted.")]
    status: Annotated[ReplicaSetStatus, f(3, "What has been observed; written by the system.")]


class ReplicaSetList(KubeList, total=False):
    """A list of ReplicaSets."""

    items: Annotated[Required[list[ReplicaSet]], f(2, "The ReplicaSets.")]


class RollingUpdateDaemonSet(TypedDict, total=False):
    """Pace of a rolling update."""

    maxUnavailable: Annotated[
        IntOrString, f(1, "How many nodes may be without their pod, as a number or a percentage; 1 by default.", pointer=True)
    ]
    maxSurge: Annotated[
        IntOrString,
        f(2, "How many nodes may run the old and the new pod, as a number or a percentage; 0 by default.", pointer=True),
    ]


class DaemonSetUpdateStrategy(TypedDict, total=False):
    """How old pods make way for new ones."""

    type: Annotated[str, f(1, "RollingUpdate or OnDelete; RollingUpdate by default.")]
    rollingUpdate: Annotated[RollingUpdateDaemonSet, f(2, "Pace of a rolling update.", pointer=True)]


class DaemonSetSpec(TypedDict, total=False):
    """What a DaemonSet should keep up."""

    selector: Annotated[
        Required[LabelSelector],
        f(1, "Which pods belong to it; must match the template's labels and cannot be changed.", pointer=True),
    ]
    template: Annotated[Required[PodTemplateSpec], f(2, "Pattern of the pods; its node selector and affinity choose the nodes.")]
    updateStrategy: Annotated[DaemonSetUpdateStrategy, f(3, "How old pods make way for new ones.")]
    minReadySeconds: Annotated[
        Int32, f(4, "Seconds that a new pod must be ready without a crash before it counts as available; 0 by default.")
    ]
    revisionHistoryLimit: Annotated[Int32, f(6, "How many old revisions are kept for going back; 10 by default.", pointer=True)]


class DaemonSetCondition(TypedDict, total=False):
    """One observation of a DaemonSet."""

    type: Annotated[Required[str], f(1, "What the condition is about.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class DaemonSetStatus(TypedDict, total=False):
    """State of a DaemonSet."""

    currentNumberScheduled: Annotated[Required[Int32], f(1, "Nodes that should run a pod and do.")]
    numberMisscheduled: Annotated[Required[Int32], f(2, "Nodes that run a pod and should not.")]
    desiredNumberScheduled: Annotated[Required[Int32], f(3, "Nodes that should run a pod.")]
    numberReady: Annotated[Required[Int32], f(4, "Nodes whose pod is ready.")]
    observedGeneration: Annotated[Int64, f(5, "The metadata.generation that this status was computed from.")]
    updatedNumberScheduled: Annotated[Int32, f(6, "Nodes whose pod is of the present template.")]
    numberAvailable: Annotated[Int32, f(7, "Nodes whose pod has been ready for minReadySeconds.")]
    numberUnavailable: Annotated[Int32, f(8, "Nodes whose pod is missing or not available.")]
    collisionCount: Annotated[
        Int32, f(9, "How often the hash of the template collided; makes the next name differ.", pointer=True)
    ]
    conditions: Annotated[
        list[DaemonSetCondition], f(10, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class DaemonSet(KubeObject, total=False):
    """Keeps a pod running on every node, or on some."""

    spec: Annotated[DaemonSetSpec, f(2, "What is wanted.")]
    status: Annotated[DaemonSetStatus, f(3, "What has been observed; written by the system.")]


class DaemonSetList(KubeList, total=False):
    """A list of DaemonSets."""

    items: Annotated[Required[list[DaemonSet]], f(2, "The DaemonSets.")]


class RollingUpdateStatefulSetStrategy(TypedDict, total=False):
    """Pace of a rolling update."""

    partition: Annotated[Int32, f(1, "Pods below this ordinal keep the old template; 0 by default.", pointer=True)]
    maxUnavailable: Annotated[
        IntOrString, f(2, "How many pods may be missing, as a number or a percentage; 1 by default.", pointer=True)
    ]


class StatefulSetUpdateStrategy(TypedDict, total=False):
    """How old pods make way for new ones."""

    type: Annotated[str, f(1, "RollingUpdate or OnDelete; RollingUpdate by default.")]
    rollingUpdate: Annotated[RollingUpdateStatefulSetStrategy, f(2, "Pace of a rolling update.", pointer=True)]


class StatefulSetPersistentVolumeClaimRetentionPolicy(TypedDict, total=False):
    """What becomes of the pods' claims."""

    whenDeleted: Annotated[str, f(1, "Retain or Delete, when the StatefulSet goes; Retain by default.")]
    whenScaled: Annotated[str, f(2, "Retain or Delete, when there are fewer pods; Retain by default.")]


class StatefulSetOrdinals(TypedDict, total=False):
    """How the pods are numbered."""

    start: Annotated[Int32, f(1, "Number of the first pod; 0 by default.", always=True)]


class StatefulSetSpec(TypedDict, total=False):
    """What a StatefulSet should keep up."""

    replicas: Annotated[Int32, f(1, "How many pods are wanted; 1 by default.", pointer=True)]
    selector: Annotated[
        Required[LabelSelector],
        f(2, "Which pods belong to it; must match the template's labels and cannot be changed.", pointer=True),
    ]
    template: Annotated[Required[PodTemplateSpec], f(3, "Pattern of the pods.")]
    volumeClaimTemplates: Annotated[
        list[PersistentVolumeClaim], f(4, "Claims that every pod gets of its own, as <template>-<pod>.", list_type="atomic")
    ]
    serviceName: Annotated[str, f(5, "Headless Service that gives the pods their DNS names.", always=True)]
    podManagementPolicy: Annotated[str, f(6, "OrderedReady or Parallel; OrderedReady by default.")]
    updateStrategy: Annotated[StatefulSetUpdateStrategy, f(7, "How old pods make way for new ones.")]
    revisionHistoryLimit: Annotated[Int32, f(8, "How many old revisions are kept for going back; 10 by default.", pointer=True)]
    minReadySeconds: Annotated[
        Int32, f(9, "Seconds that a new pod must be ready without a crash before it counts as available; 0 by default.")
    ]
    persistentVolumeClaimRetentionPolicy: Annotated[
        StatefulSetPersistentVolumeClaimRetentionPolicy, f(10, "What becomes of the claims; they stay by default.", pointer=True)
    ]
    ordinals: Annotated[StatefulSetOrdinals, f(11, "How the pods are numbered; from 0 by default.", pointer=True)]


class StatefulSetCondition(TypedDict, total=False):
    """One observation of a StatefulSet."""

    type: Annotated[Required[str], f(1, "What the condition is about.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class StatefulSetStatus(TypedDict, total=False):
    """State of a StatefulSet."""

    observedGeneration: Annotated[Int64, f(1, "The metadata.generation that this status was computed from.")]
    replicas: Annotated[Required[Int32], f(2, "How many pods there are.")]
    readyReplicas: Annotated[Int32, f(3, "How many are ready.")]
    currentReplicas: Annotated[Int32, f(4, "How many are of the current revision.")]
    updatedReplicas: Annotated[Int32, f(5, "How many are of the update revision.")]
    currentRevision: Annotated[str, f(6, "Revision of the pods that are not updated yet.")]
    updateRevision: Annotated[str, f(7, "Revision of the pods that are updated.")]
    collisionCount: Annotated[
        Int32, f(9, "How often the hash of the template collided; makes the next name differ.", pointer=True)
    ]
    conditions: Annotated[
        list[StatefulSetCondition], f(10, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]
    availableReplicas: Annotated[Int32, f(11, "How many have been ready for minReadySeconds.", always=True)]


class StatefulSet(KubeObject, total=False):
    """Keeps numbered pods running, each with its own name and storage."""

    spec: Annotated[StatefulSetSpec, f(2, "What is wanted.")]
    status: Annotated[StatefulSetStatus, f(3, "What has been observed; written by the system.")]


class StatefulSetList(KubeList, total=False):
    """A list of StatefulSets."""

    items: Annotated[Required[list[StatefulSet]], f(2, "The StatefulSets.")]
