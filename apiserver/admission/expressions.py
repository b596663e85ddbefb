"""CEL expressions over a request: match conditions of webhooks, and all that a policy says.

An expression may ask the authorizer. It is evaluated, and where it turns out to need an answer that is not known yet, the authorizer is asked and the
expression evaluated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeling.api import cel
from kubeling.api.admission.matching import Version
from kubeling.api.cel import EvaluationError, Program
from kubeling.api.cel.values import DECISIONS, Decisions, Question, make
from kubeling.apiserver.admission import views
from kubeling.apiserver.admission.chain import Attributes
from kubeling.apiserver.admission.views import View
from kubeling.apiserver.authn.user import User, authenticated
from kubeling.apiserver.authz import selectors
from kubeling.apiserver.authz.authorizer import Attributes as Access
from kubeling.apiserver.authz.authorizer import Authorizer

_MAX_QUESTIONS = 32


@dataclass(slots=True)
class Scope:
    """The variables of one request, and what the authorizer has said to it."""

    user: User
    values: dict[str, Any]
    decisions: Decisions = field(default_factory=Decisions)


class Expressions:
    """Evaluates."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def scope(self, attributes: Attributes, view: View, version: Version) -> Scope:
        """The variables that every expression has."""
        resource = attributes.resource
        check = {
            "group": resource.group,
            "resource": resource.plural,
            "subresource": attributes.subresource,
            "namespace": views.place_of(attributes).namespace,
            "name": attributes.name,
        }
        values = {
            "object": view.obj,
            "oldObject": view.old,
            "request": views.request_of(attributes, view, version),
            "authorizer": make("authorizer"),
            "authorizer.requestResource": make("resource_check", **check),
        }
        return Scope(attributes.user, values)

    async def conditions_hold(self, conditions: Sequence[Mapping[str, Any]], scope: Scope) -> bool:
        """Whether all match conditions do. One that is false counts more than one without a value; for that, raises EvaluationError."""
        failed: list[str] = []
        for each in conditions:
            source = each.get("expression") or ""
            try:
                if await self.value(cel.REQUEST.compile(source), scope, scope.values) is not True:
                    return False
            except (EvaluationError, cel.CompileError) as error:
                failed.append(f"expression '{source}' resulted in error: {error}")
        if failed:
            raise EvaluationError(failed[0] if len(failed) == 1 else f"[{', '.join(failed)}]")
        return True

    async def value(self, program: Program, scope: Scope, values: Mapping[str, Any]) -> Any:
        """The value of an expression. Raises EvaluationError."""
        decisions = scope.decisions
        while True:
            token = DECISIONS.set(decisions)
            try:
                found = program.run(values)
            except EvaluationError:
                if not decisions.wanted:
                    raise
            finally:
                DECISIONS.reset(token)
            if not decisions.wanted:
                return found
            if len(decisions.known) + len(decisions.wanted) > _MAX_QUESTIONS:
                raise EvaluationError("operation cancelled: actual cost limit exceeded")
            for question in decisions.wanted:
                decisions.known[question] = await self._ask(question, scope.user)
            decisions.wanted.clear()

    async def _ask(self, question: Question, user: User) -> tuple[bool, str]:
        if question.account:
            namespace, _, name = question.account.partition("/")
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
            user = authenticated(f"system:serviceaccount:{namespace}:{name}", groups)
        access = Access(
            user,
            question.verb,
            question.group,
            question.resource,
            question.subresource,
            question.namespace,
            question.name,
            question.path,
            selected=selectors.of_texts(question.fields, question.labels),
        )
        decision = await self._authorizer.authorize(access)
        return decision.allowed, decision.reason
