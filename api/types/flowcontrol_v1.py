"""Priority and fairness: how requests share the API server."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Int32, Time


class ExemptPriorityLevelConfiguration(TypedDict, total=False):
    """Settings of a level without limits."""

    nominalConcurrencyShares: Annotated[Int32, f(1, "Share of the seats that the level counts for; 0 by default.", pointer=True)]
    lendablePercent: Annotated[Int32, f(2, "How much of its seats others may borrow, in percent; 0 by default.", pointer=True)]


class QueuingConfiguration(TypedDict, total=False):
    """Settings of a level's queues."""

    queues: Annotated[Int32, f(1, "How many queues there are; 64 by default.", always=True)]
    handSize: Annotated[Int32, f(2, "Among how many queues a flow chooses; 8 by default.", always=True)]
    queueLengthLimit: Annotated[Int32, f(3, "Most requests that wait in a queue; 50 by default.", always=True)]


class LimitResponse(TypedDict, total=False):
    """What becomes of requests beyond the limit."""

    type: Annotated[Required[str], f(1, "Queue or Reject.")]
    queuing: Annotated[QueuingConfiguration, f(2, "Settings of the queues; only with Queue.", pointer=True)]


class LimitedPriorityLevelConfiguration(TypedDict, total=False):
    """Settings of a level with limits."""

    nominalConcurrencyShares: Annotated[Int32, f(1, "Share of the seats that the level gets; 30 by default.", pointer=True)]
    limitResponse: Annotated[LimitResponse, f(2, "What becomes of requests beyond the limit.")]
    lendablePercent: Annotated[Int32, f(3, "How much of its seats others may borrow, in percent; 0 by default.", pointer=True)]
    borrowingLimitPercent: Annotated[
        Int32, f(4, "How much of its seats it may borrow in turn, in percent; no limit by default.", pointer=True)
    ]


class PriorityLevelConfigurationSpec(TypedDict, total=False):
    """Limits of a level."""

    type: Annotated[Required[str], f(1, "Exempt or Limited.")]
    limited: Annotated[LimitedPriorityLevelConfiguration, f(2, "Settings with limits.", pointer=True)]
    exempt: Annotated[ExemptPriorityLevelConfiguration, f(3, "Settings without limits.", pointer=True)]


class PriorityLevelConfigurationCondition(TypedDict, total=False):
    """One observation of a level."""

    type: Annotated[str, f(1, "What the condition is about.")]
    status: Annotated[str, f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class PriorityLevelConfigurationStatus(TypedDict, total=False):
    """State of a level."""

    conditions: Annotated[
        list[PriorityLevelConfigurationCondition],
        f(1, "The latest observations, one for each type.", merge_key="type", keys="type"),
    ]


class PriorityLevelConfiguration(KubeObject, total=False):
    """A level of priority for requests."""

    spec: Annotated[PriorityLevelConfigurationSpec, f(2, "What is wanted.")]
    status: Annotated[PriorityLevelConfigurationStatus, f(3, "What has been observed; written by the system.")]


class PriorityLevelConfigurationList(KubeList, total=False):
    """A list of PriorityLevelConfigurations."""

    items: Annotated[Required[list[PriorityLevelConfiguration]], f(2, "The PriorityLevelConfigurations.")]


class PriorityLevelConfigurationReference(TypedDict, total=False):
    """Points at a level."""

    name: Annotated[Required[str], f(1, "Name of the level.")]


class FlowDistinguisherMethod(TypedDict, total=False):
    """What makes requests one flow."""

    type: Annotated[Required[str], f(1, "ByUser or ByNamespace.")]


class UserSubject(TypedDict, total=False):
    """A user."""

    name: Annotated[Required[str], f(1, "Name of the user; * means all.")]


class GroupSubject(TypedDict, total=False):
    """A group."""

    name: Annotated[Required[str], f(1, "Name of the group; * means all.")]


class ServiceAccountSubject(TypedDict, total=False):
    """A ServiceAccount."""

    namespace: Annotated[Required[str], f(1, "Namespace of the account.")]
    name: Annotated[Required[str], f(2, "Name of the account; * means all.")]


class Subject(TypedDict, total=False):
    """Who makes the request; the member that kind names is set."""

    kind: Annotated[Required[str], f(1, "User, Group or ServiceAccount.")]
    user: Annotated[UserSubject, f(2, "A user.", pointer=True)]
    group: Annotated[GroupSubject, f(3, "A group.", pointer=True)]
    serviceAccount: Annotated[ServiceAccountSubject, f(4, "A ServiceAccount.", pointer=True)]


class ResourcePolicyRule(TypedDict, total=False):
    """Requests for resources."""

    verbs: Annotated[Required[list[str]], f(1, "Verbs, such as get, list, watch or create; * means all.", list_type="set")]
    apiGroups: Annotated[
        Required[list[str]], f(2, "API groups; the empty string is the core group and * means all.", list_type="set")
    ]
    resources: Annotated[
        Required[list[str]], f(3, "Plural names of resources, as in pods or pods/log; * means all.", list_type="set")
    ]
    clusterScope: Annotated[bool, f(4, "Whether requests without a namespace match; false by default.")]
    namespaces: Annotated[list[str], f(5, "Namespaces; * means all.", list_type="set")]


class NonResourcePolicyRule(TypedDict, total=False):
    """Requests for other paths."""

    verbs: Annotated[Required[list[str]], f(1, "Verbs, such as get, list, watch or create; * means all.", list_type="set")]
    nonResourceURLs: Annotated[
        Required[list[str]],
        f(6, "URL paths that are not resources, such as /healthz or /metrics/*; * only at the end.", list_type="set"),
    ]


class PolicyRulesWithSubjects(TypedDict, total=False):
    """Whose requests, and for what."""

    subjects: Annotated[Required[list[Subject]], f(1, "Who; one that matches is enough.", list_type="atomic")]
    resourceRules: Annotated[
        list[ResourcePolicyRule], f(2, "Requests for resources; one that matches is enough.", list_type="atomic")
    ]
    nonResourceRules: Annotated[
        list[NonResourcePolicyRule], f(3, "Requests for other paths; one that matches is enough.", list_type="atomic")
    ]


class FlowSchemaSpec(TypedDict, total=False):
    """Which requests go to which level."""

    priorityLevelConfiguration: Annotated[Required[PriorityLevelConfigurationReference], f(1, "The level.")]
    matchingPrecedence: Annotated[
        Int32, f(2, "The schema with the lowest number that matches counts, 1 to 10000; 1000 by default.", always=True)
    ]
    distinguisherMethod: Annotated[
        FlowDistinguisherMethod, f(3, "What makes requests one flow; all are one where it is not given.", pointer=True)
    ]
    rules: Annotated[list[PolicyRulesWithSubjects], f(4, "Which requests; one that matches is enough.", list_type="atomic")]


class FlowSchemaCondition(TypedDict, total=False):
    """One observation of a flow schema."""

    type: Annotated[str, f(1, "What the condition is about.")]
    status: Annotated[str, f(2, "True, False or Unknown.")]
    lastTransitionTime: Annotated[Time, f(3, "When the status last changed.")]
    reason: Annotated[str, f(4, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(5, "Details of the last change, for people.")]


class FlowSchemaStatus(TypedDict, total=False):
    """State of a flow schema."""

    conditions: Annotated[
        list[FlowSchemaCondition], f(1, "The latest observations, one for each type.", merge_key="type", keys="type")
    ]


class FlowSchema(KubeObject, total=False):
    """Sorts requests into flows and levels."""

    spec: Annotated[FlowSchemaSpec, f(2, "What is wanted.")]
    status: Annotated[FlowSchemaStatus, f(3, "What has been observed; written by the system.")]


class FlowSchemaList(KubeList, total=False):
    """A list of FlowSchemas."""

    items: Annotated[Required[list[FlowSchema]], f(2, "The FlowSchemas.")]
