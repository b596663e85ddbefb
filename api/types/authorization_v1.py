"""What somebody may do."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import FieldSelectorRequirement, KubeObject, LabelSelectorRequirement
from kubeling.api.types.scalars import StringBox


class FieldSelectorAttributes(TypedDict, total=False):
    """A request's field selector."""

    rawSelector: Annotated[str, f(1, "The selector in text form.")]
    requirements: Annotated[list[FieldSelectorRequirement], f(2, "The selector as tests; all must hold.", list_type="atomic")]


class LabelSelectorAttributes(TypedDict, total=False):
    """A request's label selector."""

    rawSelector: Annotated[str, f(1, "The selector in text form.")]
    requirements: Annotated[list[LabelSelectorRequirement], f(2, "The selector as tests; all must hold.", list_type="atomic")]


class ResourceAttributes(TypedDict, total=False):
    """A request for a resource."""

    namespace: Annotated[str, f(1, "Namespace; empty for all, or for what has none.")]
    verb: Annotated[str, f(2, "Verb, such as get or create; * means all.")]
    group: Annotated[str, f(3, "API group; * means all.")]
    version: Annotated[str, f(4, "API version; * means all.")]
    resource: Annotated[str, f(5, "Plural name of the resource; * means all.")]
    subresource: Annotated[str, f(6, "Name of the subresource, if any.")]
    name: Annotated[str, f(7, "Name of the object; empty for all.")]
    fieldSelector: Annotated[FieldSelectorAttributes, f(8, "The request's field selector.", pointer=True)]
    labelSelector: Annotated[LabelSelectorAttributes, f(9, "The request's label selector.", pointer=True)]


class NonResourceAttributes(TypedDict, total=False):
    """A request for a path that is no resource."""

    path: Annotated[str, f(1, "Path of the URL.")]
    verb: Annotated[str, f(2, "HTTP verb in lower case.")]


class SubjectAccessReviewSpec(TypedDict, total=False):
    """Who would do what; one of the attributes is set."""

    resourceAttributes: Annotated[ResourceAttributes, f(1, "A request for a resource.", pointer=True)]
    nonResourceAttributes: Annotated[NonResourceAttributes, f(2, "A request for another path.", pointer=True)]
    user: Annotated[str, f(3, "Name of the user.")]
    groups: Annotated[list[str], f(4, "Groups of the user.", list_type="atomic")]
    extra: Annotated[dict[str, StringBox], f(5, "More about the user.")]
    uid: Annotated[str, f(6, "UID of the user.")]


class SelfSubjectAccessReviewSpec(TypedDict, total=False):
    """What one would do; one member is set."""

    resourceAttributes: Annotated[ResourceAttributes, f(1, "A request for a resource.", pointer=True)]
    nonResourceAttributes: Annotated[NonResourceAttributes, f(2, "A request for another path.", pointer=True)]


class SubjectAccessReviewStatus(TypedDict, total=False):
    """Whether it may be done."""

    allowed: Annotated[Required[bool], f(1, "Whether it is allowed.")]
    denied: Annotated[bool, f(4, "Whether it is expressly denied.")]
    reason: Annotated[str, f(2, "Why.")]
    evaluationError: Annotated[str, f(3, "What went wrong while deciding; the answer may stand nonetheless.")]


class SubjectAccessReview(KubeObject, total=False):
    """Asks whether a user may do something."""

    spec: Annotated[Required[SubjectAccessReviewSpec], f(2, "What is wanted.")]
    status: Annotated[SubjectAccessReviewStatus, f(3, "What has been observed; written by the system.")]


class SelfSubjectAccessReview(KubeObject, total=False):
    """Asks whether one may do something oneself."""

    spec: Annotated[Required[SelfSubjectAccessReviewSpec], f(2, "What is wanted.")]
    status: Annotated[SubjectAccessReviewStatus, f(3, "What has been observed; written by the system.")]


class LocalSubjectAccessReview(KubeObject, total=False):
    """Asks whether a user may do something in one namespace."""

    spec: Annotated[Required[SubjectAccessReviewSpec], f(2, "What is wanted.")]
    status: Annotated[SubjectAccessReviewStatus, f(3, "What has been observed; written by the system.")]


class SelfSubjectRulesReviewSpec(TypedDict, total=False):
    """Where."""

    namespace: Annotated[str, f(1, "The namespace.")]


class ResourceRule(TypedDict, total=False):
    """What may be done with resources."""

    verbs: Annotated[Required[list[str]], f(1, "Verbs, such as get, list, watch or create; * means all.", list_type="atomic")]
    apiGroups: Annotated[list[str], f(2, "API groups; the empty string is the core group and * means all.", list_type="atomic")]
    resources: Annotated[list[str], f(3, "Plural names of resources, as in pods or pods/log; * means all.", list_type="atomic")]
    resourceNames: Annotated[list[str], f(4, "Names of single objects; empty means all.", list_type="atomic")]


class NonResourceRule(TypedDict, total=False):
    """What may be done with other paths."""

    verbs: Annotated[Required[list[str]], f(1, "Verbs, such as get, list, watch or create; * means all.", list_type="atomic")]
    nonResourceURLs: Annotated[
        list[str],
        f(2, "URL paths that are not resources, such as /healthz or /metrics/*; * only at the end.", list_type="atomic"),
    ]


class SubjectRulesReviewStatus(TypedDict, total=False):
    """What may be done."""

    resourceRules: Annotated[Required[list[ResourceRule]], f(1, "With resources.", list_type="atomic")]
    nonResourceRules: Annotated[Required[list[NonResourceRule]], f(2, "With other paths.", list_type="atomic")]
    incomplete: Annotated[Required[bool], f(3, "Whether the lists are known not to be complete.")]
    evaluationError: Annotated[str, f(4, "What went wrong while listing.")]


class SelfSubjectRulesReview(KubeObject, total=False):
    """Asks what one may do in a namespace."""

    spec: Annotated[Required[SelfSubjectRulesReviewSpec], f(2, "What is wanted.")]
    status: Annotated[SubjectRulesReviewStatus, f(3, "What has been observed; written by the system.")]
