"""May the rules of a schema cost what they can cost at worst (KEP-2876)?

The cost of a rule is that of its expression with everything in the object as large as the schema lets it be, times how often the value that it stands at can occur in one
object. Where a list or a map above has no limit, that is as often as the value fits into a request. One rule may cost so much, and all rules of a schema together ten times that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeling.api import cel
from kubeling.api.cel.decl import DYN, UNKNOWN, Decl
from kubeling.api.cel.estimate import Examined, examine
from kubeling.api.errors import FieldError, forbidden_value
from kubeling.api.structural.decl import declare, most_often
from kubeling.api.structural.node import Node
from kubeling.api.structural.rulefields import OLD
from kubeling.api.structural.rules import program

Errors = Iterator[FieldError]
PER_RULE, PER_SCHEMA = 10_000_000, 100_000_000
#: So many of the dearest rules are named where all together are too dear, if they cost a hundredth of what is allowed.
_NAMED = 4


def check_costs(node: Node, path: str) -> Errors:
    """What is too dear. The rules are known to compile; `node` is the schema of whole objects, which stands at `path`."""
    if not node.rules_below:
        return
    walk = _Walk()
    yield from walk.schema(node, path, 1, top=True)
    total = min(sum(cost for cost, _ in walk.costs), UNKNOWN)
    if total <= PER_SCHEMA:
        return
    dearest = sorted((each for each in walk.costs if each[0] >= PER_SCHEMA // 100), key=lambda each: -each[0])
    for _, where in dearest[:_NAMED]:
        yield forbidden_value(where, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema")
    what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
    yield forbidden_value(path, _too_dear(what, total, PER_SCHEMA))


@dataclass(slots=True)
class _Walk:
    costs: list[tuple[int, str]] = field(default_factory=list)

    def schema(self, node: Node, path: str, times: int | None, *, top: bool = False) -> Errors:
        """`times` is how often a value of this schema can stand in one object, None where nothing limits it."""
        for name, inner in node.properties.items():
            if inner.rules_below:
                yield from self.schema(inner, f"{path}.properties[{name}]", times)
        for below, name, limit in (
            (node.items, "items", "maxItems"),
            (node.additional, "additionalProperties", "maxProperties"),
        ):
            if below is not None and below.rules_below:
                most = node.limits.get(limit)
                yield from self.schema(below, f"{path}.{name}", _times(times, most))
        if node.rules:
            decl = declare(node, top=top or node.embedded)
            if decl is not None:
                yield from self._rules(node, decl, f"{path}.x-kubernetes-validations", times)

    def _rules(self, node: Node, decl: Decl, path: str, times: int | None) -> Errors:
        often = most_often(decl) if times is None else times
        for index, rule in enumerate(node.rules):
            cost = min(rule_cost(rule, rule["rule"], decl) * often, UNKNOWN)
            yield from self._judge("estimated rule cost", cost, f"{path}[{index}].rule")
            if rule.get("messageExpression"):
                cost = rule_cost(rule, rule["messageExpression"], decl)
                yield from self._judge("estimated messageExpression cost", cost, f"{path}[{index}].messageExpression")

    def _judge(self, what: str, cost: int, where: str) -> Errors:
        self.costs.append((cost, where))
        if cost > PER_RULE:
            yield forbidden_value(where, _too_dear(what, cost, PER_RULE))


def _times(times: int | None, most: float | None) -> int | None:
    if times is None or most is None:
        return None
    return min(times * max(int(most), 0), UNKNOWN)


def rule_cost(rule: Mapping[str, Any], expression: str, decl: Decl) -> int:
    """The cost of one evaluation; 0 of what does not compile, which is told elsewhere."""
    try:
        return examined(rule, program(rule, expression), decl).cost
    except cel.CompileError:
        return 0


def examined(rule: Mapping[str, Any], compiled: cel.Program, decl: Decl) -> Examined:
    """What can be told of an expression on a value of this type."""
    if not rule.get("optionalOldSelf"):
        return examine(compiled.checked, {"self": decl, "oldSelf": decl}, decl)
    variables = {"self": decl, "oldSelf": Decl("optional", decl.most, element=decl), OLD: decl, "__hasOld": DYN}
    return examine(compiled.checked, variables, decl, bound="oldSelf")


def _too_dear(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength "
        "where arrays, maps, and strings are declared)"
    )
