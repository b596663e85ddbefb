"""Admission by webhooks and by CEL policies, in their beta form."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.admissionregistration_v1 import RuleWithOperations
from kubeling.api.types.declare import atomic, f, inline
from kubeling.api.types.meta_v1 import Condition, KubeList, KubeObject, LabelSelector
from kubeling.api.types.scalars import Bytes, Int32, Int64


class ServiceReference(TypedDict, total=False):
    """Points at a Service that answers."""

    namespace: Annotated[Required[str], f(1, "Namespace of the Service.")]
    name: Annotated[Required[str], f(2, "Name of the Service.")]
    path: Annotated[str, f(3, "Path of the URL.", pointer=True)]
    port: Annotated[Int32, f(4, "Port of the Service; 443 by default.", pointer=True)]


class WebhookClientConfig(TypedDict, total=False):
    """How to reach a webhook; url or service is set."""

    url: Annotated[str, f(3, "URL, https only.", pointer=True)]
    service: Annotated[ServiceReference, f(1, "A Service of the cluster.", pointer=True)]
    caBundle: Annotated[Bytes, f(2, "Certificates in PEM (base64) that the server's must go back to; the system's by default.")]


class NamedRuleWithOperations(RuleWithOperations, total=False):
    """Which operations on which resources, down to single objects."""

    resourceNames: Annotated[list[str], f(1, "Names of single objects; empty means all.", list_type="atomic")]


inline(NamedRuleWithOperations, RuleWithOperations, "ruleWithOperations", 2)

atomic(NamedRuleWithOperations)


class MatchCondition(TypedDict, total=False):
    """A CEL condition for a request to match."""

    name: Annotated[Required[str], f(1, "Name of the condition.")]
    expression: Annotated[Required[str], f(2, "The expression; must yield true for a match.")]


class MutatingWebhook(TypedDict, total=False):
    """A webhook that may change objects."""

    name: Annotated[Required[str], f(1, "Name of the webhook, fully qualified.")]
    clientConfig: Annotated[Required[WebhookClientConfig], f(2, "How to reach it.")]
    rules: Annotated[list[RuleWithOperations], f(3, "Which operations on which resources it is asked about.", list_type="atomic")]
    failurePolicy: Annotated[str, f(4, "Ignore or Fail: what an unreachable webhook means; Fail by default.", pointer=True)]
    matchPolicy: Annotated[
        str, f(9, "Exact or Equivalent: whether other versions of a resource match too; Equivalent by default.", pointer=True)
    ]
    namespaceSelector: Annotated[
        LabelSelector, f(5, "Which namespaces, by their labels; an empty selector means all.", pointer=True)
    ]
    objectSelector: Annotated[
        LabelSelector, f(11, "Which objects, by their own labels; an empty selector means all.", pointer=True)
    ]
    sideEffects: Annotated[str, f(6, "None or NoneOnDryRun for webhooks that may be called in a dry run.", pointer=True)]
    timeoutSeconds: Annotated[Int32, f(7, "Seconds until a call is given up, 1 to 30; 10 by default.", pointer=True)]
    admissionReviewVersions: Annotated[
        list[str], f(8, "Versions of AdmissionReview that it understands, best first.", list_type="atomic")
    ]
    reinvocationPolicy: Annotated[
        str,
        f(
            10,
            "Never or IfNeeded: whether it is called again after others have changed the object; Never by default.",
            pointer=True,
        ),
    ]
    matchConditions: Annotated[
        list[MatchCondition], f(12, "CEL conditions that must all hold for it to be called.", merge_key="name", keys="name")
    ]


class ValidatingWebhook(TypedDict, total=False):
    """A webhook that may refuse objects."""

    name: Annotated[Required[str], f(1, "Name of the webhook, fully qualified.")]
    clientConfig: Annotated[Required[WebhookClientConfig], f(2, "How to reach it.")]
    rules: Annotated[list[RuleWithOperations], f(3, "Which operations on which resources it is asked about.", list_type="atomic")]
    failurePolicy: Annotated[str, f(4, "Ignore or Fail: what an unreachable webhook means; Fail by default.", pointer=True)]
    matchPolicy: Annotated[
        str, f(9, "Exact or Equivalent: whether other versions of a resource match too; Equivalent by default.", pointer=True)
    ]
    namespaceSelector: Annotated[
        LabelSelector, f(5, "Which namespaces, by their labels; an empty selector means all.", pointer=True)
    ]
    objectSelector: Annotated[
        LabelSelector, f(10, "Which objects, by their own labels; an empty selector means all.", pointer=True)
    ]
    sideEffects: Annotated[
        str, f(6, "None or NoneOnDryRun for webhooks that may be called in a dry run.", pointer=True, list_type="atomic")
    ]
    timeoutSeconds: Annotated[Int32, f(7, "Seconds until a call is given up, 1 to 30; 10 by default.", pointer=True)]
    admissionReviewVersions: Annotated[
        list[str], f(8, "Versions of AdmissionReview that it understands, best first.", list_type="atomic")
    ]
    matchConditions: Annotated[
        list[MatchCondition], f(11, "CEL conditions that must all hold for it to be called.", merge_key="name", keys="name")
    ]


class MutatingWebhookConfiguration(KubeObject, total=False):
    """Webhooks that may change objects."""

    webhooks: Annotated[list[MutatingWebhook], f(2, "The webhooks.", merge_key="name", keys="name", wire="Webhooks")]


class MutatingWebhookConfigurationList(KubeList, total=False):
    """A list of MutatingWebhookConfigurations."""

    items: Annotated[Required[list[MutatingWebhookConfiguration]], f(2, "The MutatingWebhookConfigurations.")]


class ValidatingWebhookConfiguration(KubeObject, total=False):
    """Webhooks that may refuse objects."""

    webhooks: Annotated[list[ValidatingWebhook], f(2, "The webhooks.", merge_key="name", keys="name", wire="Webhooks")]


class ValidatingWebhookConfigurationList(KubeList, total=False):
    """A list of ValidatingWebhookConfigurations."""

    items: Annotated[Required[list[ValidatingWebhookConfiguration]], f(2, "The ValidatingWebhookConfigurations.")]


class ParamKind(TypedDict, total=False):
    """Kind of a policy's parameters."""

    apiVersion: Annotated[str, f(1, "Group and version of the object.")]
    kind: Annotated[str, f(2, "Kind of the object.")]


atomic(ParamKind)


class ParamRef(TypedDict, total=False):
    """Which objects are a policy's parameters; name or selector is set."""

    name: Annotated[str, f(1, "Name of the object.")]
    namespace: Annotated[str, f(2, "Namespace of the object; that of the request by default.")]
    selector: Annotated[LabelSelector, f(3, "Which objects, by their labels.", pointer=True)]
    parameterNotFoundAction: Annotated[str, f(4, "Allow or Deny: what missing parameters mean.", pointer=True)]


atomic(ParamRef)


class Validation(TypedDict, total=False):
    """A CEL expression that must hold."""

    expression: Annotated[Required[str], f(1, "The expression; must yield true.", wire="Expression")]
    message: Annotated[str, f(2, "What is said where it does not hold.")]
    reason: Annotated[
        str,
        f(
            3,
            "Reason of the answer: Unauthorized, Forbidden, Invalid or RequestEntityTooLarge; Invalid by default.",
            pointer=True,
        ),
    ]
    messageExpression: Annotated[str, f(4, "CEL expression that yields the message; wins over message.")]


class AuditAnnotation(TypedDict, total=False):
    """An annotation for the audit event."""

    key: Annotated[Required[str], f(1, "Key of the annotation; the policy's name is put before it.")]
    valueExpression: Annotated[Required[str], f(2, "CEL expression that yields the value; null for none.")]


class Variable(TypedDict, total=False):
    """A CEL expression with a name."""

    name: Annotated[Required[str], f(1, "Its name; used as variables.<name>.", wire="Name")]
    expression: Annotated[Required[str], f(2, "The expression.", wire="Expression")]


class ExpressionWarning(TypedDict, total=False):
    """A doubt about an expression."""

    fieldRef: Annotated[Required[str], f(2, "Path of the field with the expression.")]
    warning: Annotated[Required[str], f(3, "What is wrong.")]


class TypeChecking(TypedDict, total=False):
    """What the check of types found."""

    expressionWarnings: Annotated[list[ExpressionWarning], f(1, "Doubts about expressions.", list_type="atomic")]


class MatchResources(TypedDict, total=False):
    """Which requests."""

    namespaceSelector: Annotated[
        LabelSelector, f(1, "Which namespaces, by their labels; an empty selector means all.", pointer=True)
    ]
    objectSelector: Annotated[
        LabelSelector, f(2, "Which objects, by their own labels; an empty selector means all.", pointer=True)
    ]
    resourceRules: Annotated[list[NamedRuleWithOperations], f(3, "Operations and resources that match.", list_type="atomic")]
    excludeResourceRules: Annotated[
        list[NamedRuleWithOperations], f(4, "Operations and resources that do not, whatever else matches.", list_type="atomic")
    ]
    matchPolicy: Annotated[
        str, f(7, "Exact or Equivalent: whether other versions of a resource match too; Equivalent by default.", pointer=True)
    ]


atomic(MatchResources)


class ValidatingAdmissionPolicySpec(TypedDict, total=False):
    """What a policy demands."""

    paramKind: Annotated[ParamKind, f(1, "Kind of the parameters; none by default.", pointer=True)]
    matchConstraints: Annotated[MatchResources, f(2, "Which requests.", pointer=True)]
    validations: Annotated[list[Validation], f(3, "Expressions that must hold.", list_type="atomic")]
    failurePolicy: Annotated[str, f(4, "Ignore or Fail: what a broken expression means; Fail by default.", pointer=True)]
    auditAnnotations: Annotated[list[AuditAnnotation], f(5, "Annotations for the audit event.", list_type="atomic")]
    matchConditions: Annotated[
        list[MatchCondition], f(6, "CEL conditions that must all hold for a request to match.", merge_key="name", keys="name")
    ]
    variables: Annotated[list[Variable], f(7, "Expressions that others may use by name.", merge_key="name", keys="name")]


class ValidatingAdmissionPolicyStatus(TypedDict, total=False):
    """State of a policy."""

    observedGeneration: Annotated[Int64, f(1, "The metadata.generation that this status was computed from.")]
    typeChecking: Annotated[TypeChecking, f(2, "What the check of types found.", pointer=True)]
    conditions: Annotated[list[Condition], f(3, "The latest observations, one for each type.", keys="type")]


class ValidatingAdmissionPolicy(KubeObject, total=False):
    """Rules in CEL for which objects are let in."""

    spec: Annotated[ValidatingAdmissionPolicySpec, f(2, "What is wanted.")]
    status: Annotated[ValidatingAdmissionPolicyStatus, f(3, "What has been observed; written by the system.")]


class ValidatingAdmissionPolicyList(KubeList, total=False):
    """A list of ValidatingAdmissionPolicies."""

    items: Annotated[Required[list[ValidatingAdmissionPolicy]], f(2, "The ValidatingAdmissionPolicies.")]


class ValidatingAdmissionPolicyBindingSpec(TypedDict, total=False):
    """Where a policy applies."""

    policyName: Annotated[str, f(1, "The ValidatingAdmissionPolicy.")]
    paramRef: Annotated[ParamRef, f(2, "Its parameters.", pointer=True)]
    matchResources: Annotated[MatchResources, f(3, "Which requests, within those of the policy.", pointer=True)]
    validationActions: Annotated[list[str], f(4, "Deny, Warn or Audit: what a failed rule leads to.", list_type="set")]


class ValidatingAdmissionPolicyBinding(KubeObject, total=False):
    """Puts a policy into force."""

    spec: Annotated[ValidatingAdmissionPolicyBindingSpec, f(2, "What is wanted.")]


class ValidatingAdmissionPolicyBindingList(KubeList, total=False):
    """A list of ValidatingAdmissionPolicyBindings."""

    items: Annotated[Required[list[ValidatingAdmissionPolicyBinding]], f(2, "The ValidatingAdmissionPolicyBindings.")]
