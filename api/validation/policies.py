"""ValidatingAdmissionPolicy and its bindings. Expressions are compiled here, so that what is stored can be evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubeling.api import cel, names
from kubeling.api.errors import duplicate_value, invalid_value, required_value, too_many_values, unsupported_value
from kubeling.api.meta import Object, spec_of
from kubeling.api.validation import webhooks
from kubeling.api.validation.common import Errors, Map, checked, label_selector, one_of
from kubeling.api.validation.expressions import conditions_compile, expression

MAX_RULES = 64
REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
ACTIONS = ("Audit", "Deny", "Warn")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


def policy(obj: Object) -> Errors:
    """ValidatingAdmissionPolicy."""
    spec = spec_of(obj)
    yield from one_of("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"), required=False)
    yield from _param_kind(spec.get("paramKind"))
    constraints = spec.get("matchConstraints")
    if not constraints:
        yield required_value("spec.matchConstraints")
    else:
        if not constraints.get("resourceRules"):
            yield required_value("spec.matchConstraints.resourceRules")
        yield from match_resources("spec.matchConstraints", constraints)
    conditions = spec.get("matchConditions") or ()
    yield from webhooks.match_conditions("spec.matchConditions", conditions)
    yield from conditions_compile("spec.matchConditions", conditions, cel.POLICY)
    known: list[str] = []
    for at, each in enumerate(spec.get("variables") or ()):
        yield from _variable(f"spec.variables[{at}]", each, known)
        known.append(each.get("name") or "")
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        yield required_value("spec.validations", "validations or auditAnnotations must contain at least one item")
        yield required_value("spec.auditAnnotations", "validations or auditAnnotations must contain at least one item")
    for field in ("validations", "variables", "auditAnnotations"):
        if len(spec.get(field) or ()) > MAX_RULES:
            yield too_many_values(f"spec.{field}", len(spec[field]), MAX_RULES)
            return
    for at, each in enumerate(spec.get("validations") or ()):
        yield from _validation(f"spec.validations[{at}]", each, known)
    yield from _annotations(spec.get("auditAnnotations") or (), known)


def _param_kind(kind: Map | None) -> Errors:
    if kind is None:
        return
    if not kind.get("apiVersion"):
        yield required_value("spec.paramKind.apiVersion")
    elif kind["apiVersion"].count("/") > 1:
        yield invalid_value("spec.paramKind.apiVersion", kind["apiVersion"], "must be a group and a version")
    if not kind.get("kind"):
        yield required_value("spec.paramKind.kind")


def match_resources(path: str, terms: Map) -> Errors:
    """MatchResources."""
    yield from label_selector(f"{path}.namespaceSelector", terms.get("namespaceSelector"))
    yield from label_selector(f"{path}.objectSelector", terms.get("objectSelector"))
    yield from one_of(f"{path}.matchPolicy", terms.get("matchPolicy"), ("Equivalent", "Exact"), required=False)
    for field in ("resourceRules", "excludeResourceRules"):
        for at, rule in enumerate(terms.get(field) or ()):
            yield from webhooks.rule_with_operations(f"{path}.{field}[{at}]", rule)


def _variable(path: str, each: Map, known: list[str]) -> Errors:
    name = each.get("name") or ""
    if not name:
        yield required_value(f"{path}.name", "name is not specified")
    elif not _IDENTIFIER.fullmatch(name):
        yield invalid_value(f"{path}.name", name, "name is not a valid CEL identifier")
    if name in known:
        yield duplicate_value(f"{path}.name", name)
    yield from expression(f"{path}.expression", each.get("expression"), cel.POLICY, known=known)


def _validation(path: str, each: Map, known: list[str]) -> Errors:
    yield from expression(f"{path}.expression", each.get("expression"), cel.POLICY, ("bool",), known)
    message = each.get("message")
    if message is not None and message != "":
        if "\n" in message.strip():
            yield invalid_value(f"{path}.message", message, "message must not contain line breaks")
        if not message.strip():
            yield invalid_value(f"{path}.message", message, "message must be non-empty if specified")
    elif "\n" in (each.get("expression") or "").strip() and not each.get("messageExpression"):
        yield required_value(f"{path}.message", "must be specified if expression contains line breaks")
    if each.get("messageExpression"):
        yield from expression(f"{path}.messageExpression", each["messageExpression"], cel.POLICY, ("string",), known)
    if each.get("reason") and each["reason"] not in REASONS:
        yield unsupported_value(f"{path}.reason", each["reason"], REASONS)


def _annotations(found: Iterable[Map], known: list[str]) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(found):
        path = f"spec.auditAnnotations[{at}]"
        key = each.get("key") or ""
        if not key:
            yield required_value(f"{path}.key", "key is not specified")
        else:
            yield from checked(f"{path}.key", key, names.qualified_name)
        if key in seen:
            yield duplicate_value(f"{path}.key", key)
        seen.add(key)
        yield from expression(f"{path}.valueExpression", each.get("valueExpression"), cel.POLICY, ("string", "null"), known)


def binding(obj: Object) -> Errors:
    """ValidatingAdmissionPolicyBinding."""
    spec = spec_of(obj)
    if not spec.get("policyName"):
        yield required_value("spec.policyName")
    else:
        yield from checked("spec.policyName", spec["policyName"], names.dns1123_subdomain)
    yield from _param_ref(spec.get("paramRef"))
    if spec.get("matchResources"):
        yield from match_resources("spec.matchResources", spec["matchResources"])
    actions = spec.get("validationActions") or ()
    if not actions:
        yield required_value("spec.validationActions", "at least one validation action is required")
    seen: set[str] = set()
    for at, each in enumerate(actions):
        if each not in ACTIONS:
            yield unsupported_value(f"spec.validationActions[{at}]", each, ACTIONS)
        if each in seen:
            yield duplicate_value(f"spec.validationActions[{at}]", each)
        seen.add(each)
    if {"Deny", "Warn"} <= seen:
        why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"
        yield invalid_value("spec.validationActions", list(actions), why)


def _param_ref(reference: Map | None) -> Errors:
    if reference is None:
        return
    path = "spec.paramRef"
    name, selector = reference.get("name"), reference.get("selector")
    if name and selector is not None:
        yield invalid_value(f"{path}.name", name, "name and selector are mutually exclusive")
        yield invalid_value(f"{path}.selector", selector, "name and selector are mutually exclusive")
    elif not name and selector is None:
        yield required_value(path, "one of name or selector must be specified")
    elif name:
        yield from checked(f"{path}.name", name, names.path_segment)
    else:
        yield from label_selector(f"{path}.selector", selector)
    action = reference.get("parameterNotFoundAction")
    if not action:
        yield required_value(f"{path}.parameterNotFoundAction")
    elif action not in ("Allow", "Deny"):
        yield unsupported_value(f"{path}.parameterNotFoundAction", action, ("Deny", "Allow"))
