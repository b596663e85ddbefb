"""ValidatingAdmissionPolicy: rules in CEL, bound to what they are for (KEP-3488).

A policy says what is to hold, a binding where, with which parameters, and what happens when it does not: refuse, warn, or record. Each policy that matches is
evaluated for each of its bindings and each of the binding's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kubeling.api import cel, errors, resources
from kubeling.api.admission.matching import Version
from kubeling.api.cel import CompileError, EvaluationError
from kubeling.api.errors import ApiError
from kubeling.apiserver.admission import views
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.admission.expressions import Expressions, Scope
from kubeling.apiserver.admission.policy_params import NoParams, params_of
from kubeling.apiserver.admission.policy_source import Definition, Definitions
from kubeling.apiserver.registry.kinds import Kinds

_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_FAILURES = "validation.policy.admission.k8s.io/validation_failure"
_MAX_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """One validation that did not hold, or could not be evaluated."""

    message: str
    reason: str
    index: int


class ValidatingAdmissionPolicy(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds, expressions: Expressions) -> None:
        self._kinds = kinds
        self._expressions = expressions
        self._definitions = Definitions(
            kinds, resources.VALIDATING_ADMISSION_POLICIES, resources.VALIDATING_ADMISSION_POLICY_BINDINGS
        )

    async def validate(self, attributes: Attributes) -> None:
        definitions = await self._definitions.current()
        if not definitions or views.place_of(attributes).is_exempt:
            return
        denied: list[tuple[str, str, str]] = []
        for each in definitions:
            denied += await self._policy(each, attributes)
        if denied:
            raise _refusal(attributes, *denied[0])

    async def _policy(self, definition: Definition, attributes: Attributes) -> list[tuple[str, str, str]]:
        """Refusals: message and reason, after whose name it is."""
        terms = definition.spec.get("matchConstraints") or {}
        version = await _wanted(self._kinds, terms, attributes)
        if version is None:
            return []
        view = await views.view(self._kinds, attributes, version)
        scope = self._expressions.scope(attributes, view, version)
        scope.values["namespaceObject"] = await self._namespace(attributes)
        denied: list[tuple[str, str, str]] = []
        for name, binding in definition.bindings:
            chosen = binding.get("matchResources")
            if chosen and await _wanted(self._kinds, chosen, attributes) is None:
                continue
            actions = binding.get("validationActions") or ()
            by = f"ValidatingAdmissionPolicy '{definition.name}' with binding '{name}'"
            try:
                found = await params_of(self._kinds, definition.spec, binding, attributes)
            except NoParams as error:
                if definition.is_strict:
                    denied.append((by, str(error), "Invalid"))
                continue
            for params in found:
                verdicts = await self._evaluate(definition, scope, params, attributes)
                denied += _act(attributes, definition.name, name, by, actions, verdicts)
        return denied

    async def _namespace(self, attributes: Attributes) -> dict[str, Any] | None:
        if not attributes.namespace:
            return None
        entry = await self._kinds.store(resources.NAMESPACES).peek("", attributes.namespace)
        if entry is None:
            return None
        obj = entry.object()
        obj["metadata"].pop("managedFields", None)
        return obj

    async def _evaluate(self, definition: Definition, scope: Scope, params: Any, attributes: Attributes) -> list[Verdict]:
        values = {**scope.values, "params": params, "variables": {}}
        asked = Scope(scope.user, values, scope.decisions)
        spec = definition.spec
        try:
            if not await self._expressions.conditions_hold(spec.get("matchConditions") or (), asked):
                return []
        except EvaluationError as error:
            return [Verdict(str(error), "", -1)] if definition.is_strict else []
        variables = Variables(self._expressions, asked, values)
        await variables.compute(spec.get("variables") or ())
        verdicts: list[Verdict] = []
        for at, rule in enumerate(spec.get("validations") or ()):
            source = str(rule.get("expression") or "")
            try:
                held = await variables.value(source)
            except EvaluationError as error:
                if definition.is_strict:
                    verdicts.append(Verdict(f"expression '{source}' resulted in error: {error}", "", at))
                continue
            if held is not True:
                message = await _message(variables, rule) or f"failed expression: {source.strip()}"
                verdicts.append(Verdict(message, str(rule.get("reason") or ""), at))
        await self._annotate(definition, variables, attributes)
        return verdicts

    async def _annotate(self, definition: Definition, variables: Variables, attributes: Attributes) -> None:
        for each in definition.spec.get("auditAnnotations") or ():
            try:
                value = await variables.value(str(each.get("valueExpression") or ""))
            except EvaluationError as error:
                value = f"expression '{each.get('valueExpression')}' resulted in error: {error}" if definition.is_strict else None
            if isinstance(value, str) and value.strip():
                attributes.notes.annotate(f"{definition.name}/{each.get('key')}", value.strip()[: 10 * 1024])


class Variables:
    """The named expressions of a policy, and evaluation over them."""

    def __init__(self, expressions: Expressions, scope: Scope, values: dict[str, Any]) -> None:
        self._expressions = expressions
        self._scope = scope
        self._values = values
        self._failed: dict[str, str] = {}

    async def compute(self, variables: Any) -> None:
        """One after the other; what cannot be had is complained of only when it is used."""
        known: dict[str, Any] = {}
        self._values["variables"] = known
        for each in variables:
            name = str(each.get("name") or "")
            try:
                known[name] = await self.value(str(each.get("expression") or ""))
            except EvaluationError as error:
                self._failed[name] = str(error)

    async def value(self, source: str) -> Any:
        """The value of an expression. Raises EvaluationError."""
        try:
            return await self._expressions.value(cel.POLICY.compile(source), self._scope, self._values)
        except CompileError as error:
            raise EvaluationError(str(error)) from error
        except EvaluationError as error:
            missing = str(error).removeprefix("no such key: ")
            if missing in self._failed and f"variables.{missing}" in source:
                raise EvaluationError(f'composited variable "{missing}" fails to evaluate: {self._failed[missing]}') from error
            raise


async def _wanted(kinds: Kinds, terms: Mapping[str, Any], attributes: Attributes) -> Version | None:
    """The version in which these MatchResources want the request. A binding may leave the rules to its policy."""
    excluded = terms.get("excludeResourceRules") or ()
    if excluded and await views.matched(
        kinds, {**terms, "namespaceSelector": None, "objectSelector": None}, excluded, attributes
    ):
        return None
    rules = terms.get("resourceRules") or ()
    if not rules:
        rules = ({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]},)
    return await views.matched(kinds, terms, rules, attributes)


async def _message(variables: Variables, rule: Mapping[str, Any]) -> str:
    """What the rule says of its failure; a message that cannot be computed is as good as none."""
    source = rule.get("messageExpression")
    if source:
        try:
            found = await variables.value(str(source))
        except EvaluationError:
            found = None
        if isinstance(found, str) and found.strip() and "\n" not in found and len(found) <= _MAX_MESSAGE:
            return found.strip()
    return str(rule.get("message") or "").strip()


def _act(
    attributes: Attributes, policy: str, binding: str, by: str, actions: Any, verdicts: list[Verdict]
) -> list[tuple[str, str, str]]:
    """Do what the binding wants done about it; the refusals are for the caller."""
    denied: list[tuple[str, str, str]] = []
    recorded: list[dict[str, Any]] = []
    for each in verdicts:
        if "Deny" in actions:
            denied.append((by, each.message, each.reason or "Invalid"))
        if "Warn" in actions:
            attributes.notes.warn(f"Validation failed for {by}: {each.message}")
        if "Audit" in actions:
            recorded.append(
                {
                    "message": each.message,
                    "policy": policy,
                    "binding": binding,
                    "expressionIndex": max(each.index, 0),
                    "validationActions": list(actions),
                }
            )
    if recorded:
        attributes.notes.annotate(_FAILURES, orjson.dumps(recorded).decode())
    return denied


def _refusal(attributes: Attributes, by: str, message: str, reason: str) -> ApiError:
    resource = attributes.resource
    text = f"{by} denied request: {message}"
    error = errors.forbidden(resource.group, resource.plural, attributes.name, text)
    error.status["reason"], error.status["code"] = reason, _CODES.get(reason, 422)
    error.status["details"]["causes"] = [{"message": text}]
    return error
