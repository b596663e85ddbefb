"""Work that ends: Job and CronJob."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_pod import PodTemplateSpec
from kubeling.api.types.core_reference import ObjectReference
from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject, LabelSelector, ObjectMeta
from kubeling.api.types.scalars import Int32, Int64, Time


class PodFailurePolicyOnExitCodesRequirement(TypedDict, total=False):
    """A test on the exit codes of a failed pod."""

    containerName: Annotated[str, f(1, "The container; all where it is not given.", pointer=True)]
    operator: Annotated[Required[str], f(2, "In or NotIn.")]
    values: Annotated[Required[list[Int32]], f(3, "Exit codes; 0 is not allowed with In.", list_type="set")]


class PodFailurePolicyOnPodConditionsPattern(TypedDict, total=False):
    """A test on a condition of a failed pod."""

    type: Annotated[Required[str], f(1, "Type of the condition.")]
    status: Annotated[Required[str], f(2, "Status of the condition; True by default.")]


class PodFailurePolicyRule(TypedDict, total=False):
    """What a kind of failure leads to; one of the tests is set."""

    action: Annotated[Required[str], f(1, "FailJob, FailIndex, Ignore or Count.")]
    onExitCodes: Annotated[PodFailurePolicyOnExitCodesRequirement, f(2, "Test on the exit codes.", pointer=True)]
    onPodConditions: Annotated[
        list[PodFailurePolicyOnPodConditionsPattern],
        f(3, "Tests on the conditions; one that matches is enough.", list_type="atomic"),
    ]


class PodFailurePolicy(TypedDict, total=False):
    """What the failures of pods lead to."""

    rules: Annotated[Required[list[PodFailurePolicyRule]], f(1, "The rules; the first that matches counts.", list_type="atomic")]


class SuccessPolicyRule(TypedDict, total=False):
    """When an indexed Job has succeeded before all its indexes have."""

    succeededIndexes: Annotated[
        str, f(1, "Indexes of which the successes are counted, as in 1,3-5; all by default.", pointer=True)
    ]
    succeededCount: Annotated[Int32, f(2, "How many of them must have succeeded; all by default.", pointer=True)]


class SuccessPolicy(TypedDict, total=False):
    """When a Job has succeeded early."""

    rules: Annotated[Required[list[SuccessPolicyRule]], f(1, "The rules; one that holds is enough.", list_type="atomic")]


class JobSpec(TypedDict, total=False):
    """What a Job should do."""

    parallelism: Annotated[Int32, f(1, "How many pods may run at once; 1 by default.", pointer=True)]
    completions: Annotated[
        Int32,
        f(
            2,
            "How many pods must succeed; 1 by default, and any one's success is enough where only parallelism is given.",
            pointer=True,
        ),
    ]
    activeDeadlineSeconds: Annotated[
        Int64, f(3, "Seconds after the start until the Job is failed; no limit by default.", pointer=True)
    ]
    podFailurePolicy: Annotated[
        PodFailurePolicy, f(11, "What the failures of pods lead to; they count towards backoffLimit by default.", pointer=True)
    ]
    successPolicy: Annotated[SuccessPolicy, f(16, "When the Job has succeeded early.", pointer=True)]
    backoffLimit: Annotated[Int32, f(7, "How many failures are put up with; 6 by default.", pointer=True)]
    backoffLimitPerIndex: Annotated[
        Int32, f(12, "How many failures of one index are put up with; no limit of its own by default.", pointer=True)
    ]
    maxFailedIndexes: Annotated[Int32, f(13, "How many failed indexes are put up with.", pointer=True)]
    selector: Annotated[LabelSelector, f(4, "Which pods belong to it; made by the system.", pointer=True)]
    manualSelector: Annotated[bool, f(5, "Whether the selector is the user's own; false by default.", pointer=True)]
    template: Annotated[Required[PodTemplateSpec], f(6, "Pattern of the pods; restartPolicy must be Never or OnFailure.")]
    ttlSecondsAfterFinished: Annotated[
        Int32, f(8, "Seconds after the end until the Job is deleted; never by default.", pointer=True)
    ]
    completionMode: Annotated[str, f(9, "NonIndexed or Indexed; NonIndexed by default.", pointer=True)]
    suspend: Annotated[bool, f(10, "Whether no pods are to run for now; false by default.", pointer=True)]
    podReplacementPolicy: Annotated[str, f(14, "TerminatingOrFailed or Failed: when a pod is replaced.", pointer=True)]
    managedBy: Annotated[str, f(15, "Who runs the Job; the built-in controller by default. Cannot be changed.", pointer=True)]


class JobCondition(TypedDict, total=False):
    """One observation of a Job."""

    type: Annotated[Required[str], f(1, "Complete, Failed, Suspended, SuccessCriteriaMet or FailureTarget.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    lastProbeTime: Annotated[Time, f(3, "When the condition was last checked.")]
    lastTransitionTime: Annotated[Time, f(4, "When the status last changed.")]
    reason: Annotated[str, f(5, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(6, "Details of the last change, for people.")]


class UncountedTerminatedPods(TypedDict, total=False):
    """Pods that have ended but are not yet in the counts."""

    succeeded: Annotated[list[str], f(1, "UIDs of those that succeeded.", list_type="set")]
    failed: Annotated[list[str], f(2, "UIDs of those that failed.", list_type="set")]


class JobStatus(TypedDict, total=False):
    """State of a Job."""

    conditions: Annotated[
        list[JobCondition], f(1, "The latest observations, one for each type.", merge_key="type", list_type="atomic")
    ]
    startTime: Annotated[Time, f(2, "When work began; anew after a suspension.", pointer=True)]
    completionTime: Annotated[Time, f(3, "When the Job had succeeded.", pointer=True)]
    active: Annotated[Int32, f(4, "Pods that are pending or running and not being deleted.")]
    succeeded: Annotated[Int32, f(5, "Pods that succeeded.")]
    failed: Annotated[Int32, f(6, "Pods that failed.")]
    terminating: Annotated[Int32, f(11, "Pods that are being deleted.", pointer=True)]
    completedIndexes: Annotated[str, f(7, "Indexes that succeeded, as in 1,3-5.")]
    failedIndexes: Annotated[str, f(10, "Indexes that failed, as in 1,3-5.", pointer=True)]
    uncountedTerminatedPods: Annotated[
        UncountedTerminatedPods, f(8, "Pods that have ended but are not yet in the counts.", pointer=True)
    ]
    ready: Annotated[Int32, f(9, "Pods that are ready.", pointer=True)]


class Job(KubeObject, total=False):
    """Runs pods until enough have succeeded."""

    spec: Annotated[JobSpec, f(2, "What is wanted.")]
    status: Annotated[JobStatus, f(3, "What has been observed; written by the system.")]


class JobList(KubeList, total=False):
    """A list of Jobs."""

    items: Annotated[Required[list[Job]], f(2, "The Jobs.")]


class JobTemplateSpec(TypedDict, total=False):
    """A pattern from which Jobs are made."""

    metadata: Annotated[ObjectMeta, f(1, "Labels, annotations and the like for the Jobs.")]
    spec: Annotated[JobSpec, f(2, "What the Jobs should do.")]


class CronJobSpec(TypedDict, total=False):
    """When to make a Job, and which."""

    schedule: Annotated[Required[str], f(1, "When, as five cron fields or as @hourly and its like.")]
    timeZone: Annotated[
        str, f(8, "Time zone of the schedule, such as Europe/Berlin; that of the controller by default.", pointer=True)
    ]
    startingDeadlineSeconds: Annotated[
        Int64, f(2, "Seconds after its time until a missed run is dropped; never by default.", pointer=True)
    ]
    concurrencyPolicy: Annotated[str, f(3, "Allow, Forbid or Replace runs that overlap; Allow by default.")]
    suspend: Annotated[bool, f(4, "Whether no more runs are started; false by default.", pointer=True)]
    jobTemplate: Annotated[Required[JobTemplateSpec], f(5, "Pattern of the Jobs.")]
    successfulJobsHistoryLimit: Annotated[Int32, f(6, "How many Jobs that succeeded are kept; 3 by default.", pointer=True)]
    failedJobsHistoryLimit: Annotated[Int32, f(7, "How many Jobs that failed are kept; 1 by default.", pointer=True)]


class CronJobStatus(TypedDict, total=False):
    """State of a CronJob."""

    active: Annotated[list[ObjectReference], f(1, "Jobs that are running.", list_type="atomic")]
    lastScheduleTime: Annotated[Time, f(4, "When a run was last due and started.", pointer=True)]
    lastSuccessfulTime: Annotated[Time, f(5, "When a run last succeeded.", pointer=True)]


class CronJob(KubeObject, total=False):
    """Makes Jobs on a schedule."""

    spec: Annotated[CronJobSpec, f(2, "What is wanted.")]
    status: Annotated[CronJobStatus, f(3, "What has been observed; written by the system.")]


class CronJobList(KubeList, total=False):
    """A list of CronJobs."""

    items: Annotated[Required[list[CronJob]], f(2, "The CronJobs.")]
