"""x-kubernetes-validations: rules in CEL, held against the parts of an object that they stand at (KEP-2876).

A rule that speaks of `oldSelf` is about a change: it runs where there was a value before that can be told to be the same one: properties, entries of maps, items
of lists of type map. All other rules leave alone what did not change. The number of evaluations for one object is bounded, and so is each by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from kubeling.api import cel
from kubeling.api.errors import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, FieldError, invalid_value
from kubeling.api.structural.celvalues import to_cel
from kubeling.api.structural.node import Node
from kubeling.api.structural.rulefields import OLD, survey
from kubeling.api.structural.validate import ABSENT, by_key, item_key, json_type

Errors = Iterator[FieldError]
Rule = Mapping[str, Any]
#: Evaluations for one object: some tenths of a second.
MAX_EVALUATIONS = 10_000
MAX_MESSAGE = 5 * 1024
_OLD = re.compile(r"\boldSelf\b")
#: What rules may be blamed on, by their `reason`.
REASONS = {
    "FieldValueInvalid": INVALID,
    "FieldValueForbidden": FORBIDDEN,
    "FieldValueRequired": REQUIRED,
    "FieldValueDuplicate": DUPLICATE,
}
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class _OutOfBudget(Exception):
    """Too many evaluations for one object."""


def uses_old(rule: Rule) -> bool:
    """Whether it is a rule about a change."""
    return _OLD.search(rule.get("rule") or "") is not None


def program(rule: Rule, expression: str) -> cel.Program:
    """A rule's expression, compiled. Raises CompileError."""
    if rule.get("optionalOldSelf"):
        # An optional cannot be handed in from outside: it is made in the expression.
        source = f"cel.bind(oldSelf, __hasOld ? optional.of({OLD}) : optional.none(), {expression}\n)"
        return cel.environment(self=cel.DYN, __old=cel.DYN, __hasOld=cel.BOOL).compile(source)
    return cel.environment(self=cel.DYN, oldSelf=cel.DYN).compile(expression)


def _program_for(rule: Rule, expression: str, holder: Node, node: Node, top: bool) -> cel.Program:
    """The program, with the lists of `node` treated by their types; kept with `holder`, where the rule stands."""
    key = f"{bool(rule.get('optionalOldSelf'))} {expression}"
    found: cel.Program | None = holder.programs.get(key)
    if found is None:
        plain = program(rule, expression)
        found = plain.treating(survey(plain.checked, node, top=top).changes)
        holder.programs[key] = found
    return found


def check_rules(obj: Any, node: Node, old: Any = ABSENT, *, top: bool = True) -> list[FieldError]:
    """The rules that do not hold for an object; `old` is what it replaces. Not `top`: it is a part of one, as a default is."""
    if not node.rules_below:
        return []
    found: list[FieldError] = []
    walk = _Walk()
    try:
        for error in walk.value(obj, node, "", old, top=top):
            found.append(error)
    except _OutOfBudget:
        found.append(invalid_value("<nil>", None, _OUT_OF_BUDGET))
    return found


class _Walk:
    def __init__(self) -> None:
        self._left = MAX_EVALUATIONS

    def value(self, value: Any, node: Node, path: str, old: Any, *, top: bool = False) -> Errors:
        if not node.rules_below or value is None:
            return
        same = old is not ABSENT and type(old) is type(value) and old == value
        if same and not _speaks_of_change(node):
            return
        for each in (node, *node.all_of):
            yield from self._rules(value, each, node, path, old, same, top)
        if type(value) is dict:
            # What is in an atomic map is another with every change.
            before = old if type(old) is dict and not node.atomic_map else {}
            for name, item in value.items():
                inner = node.properties.get(name) or node.additional
                if inner is not None and inner.rules_below:
                    yield from self.value(item, inner, f"{path}.{name}" if path else name, before.get(name, ABSENT))
        elif type(value) is list and node.items is not None and node.items.rules_below:
            former = by_key(old, node) if type(old) is list and node.list_type == "map" else {}
            for index, item in enumerate(value):
                previous = former.get(item_key(item, node), ABSENT) if former else ABSENT
                yield from self.value(item, node.items, f"{path}[{index}]", previous)

    def _rules(self, value: Any, holder: Node, node: Node, path: str, old: Any, same: bool, top: bool) -> Errors:
        if not holder.rules:
            return
        now: Any = None
        before: Any = None
        for rule in holder.rules:
            changes = uses_old(rule)
            if (changes and old is ABSENT and not rule.get("optionalOldSelf")) or (same and not changes):
                continue
            self._left -= 1
            if self._left < 0:
                raise _OutOfBudget
            if now is None:
                now = to_cel(value, node, top=top)
            if changes and before is None and old is not ABSENT:
                before = to_cel(old, node, top=top)
            variables = {"self": now, "oldSelf": before}
            if rule.get("optionalOldSelf"):
                variables = {"self": now, "__old": before, "__hasOld": old is not ABSENT}
            error = _judge(rule, partial(_program_for, rule, holder=holder, node=node, top=top), variables, value, path)
            if error is not None:
                yield error


def _speaks_of_change(node: Node) -> bool:
    """Whether a rule on changes stands here or below."""
    below = [*node.properties.values(), *(each for each in (node.additional, node.items) if each is not None)]
    return any(uses_old(each) for each in node.rules) or any(
        _speaks_of_change(each) for each in [*below, *node.all_of] if each.rules_below
    )


Compiled = Callable[[str], cel.Program]


def _judge(rule: Rule, compiled: Compiled, variables: Mapping[str, Any], value: Any, path: str) -> FieldError | None:
    """What is wrong by this rule, None where it holds."""
    text = (rule.get("rule") or "").strip()
    shown = (rule.get("message") or "").strip() or f"failed rule: {text}"
    kind = "object" if isinstance(value, dict) else json_type(value)
    try:
        verdict = compiled(rule["rule"]).run(variables)
    except (cel.CompileError, cel.EvaluationError) as error:
        return invalid_value(path or "<nil>", kind, f"{error} evaluating rule: {(rule.get('message') or '').strip() or text}")
    if verdict is True:
        return None
    shown = _message(rule, compiled, variables) or shown
    field = path + (rule.get("fieldPath") or "") if path else (rule.get("fieldPath") or "").removeprefix(".")
    reason = REASONS.get(rule.get("reason") or "", INVALID)
    return FieldError(reason, field or "<nil>", kind, shown)


def _message(rule: Rule, compiled: Compiled, variables: Mapping[str, Any]) -> str:
    """What messageExpression yields; empty where there is none, or it yields nothing of use."""
    expression = rule.get("messageExpression")
    if not expression:
        return ""
    try:
        found = compiled(expression).run(variables)
    except (cel.CompileError, cel.EvaluationError):
        return ""
    if not isinstance(found, str) or len(found) > MAX_MESSAGE or "\n" in found:
        return ""
    return found.strip()
