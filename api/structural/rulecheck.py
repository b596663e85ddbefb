"""What is wrong with the rules of a schema: whether they compile, and say what they must."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubeling.api import cel
from kubeling.api.errors import FieldError, invalid_value, required_value, unsupported_value
from kubeling.api.structural import jsonpath
from kubeling.api.structural.decl import declare
from kubeling.api.structural.node import Node, compile_schema
from kubeling.api.structural.rulecost import examined
from kubeling.api.structural.rulefields import positions, survey
from kubeling.api.structural.rules import REASONS, program, uses_old

Errors = Iterator[FieldError]
Json = Mapping[str, Any]
MAX_RULES = 256


def check_rules(schema: Json, structure: Json, path: str, *, top: bool, lost: str = "") -> Errors:
    """Faults of the rules of one schema. `structure` is the schema that names the fields: itself, but for one inside of allOf and the like. `top`: it is
    of a whole object. `lost` is the list or atomic map above that keeps an old value from being found, empty where it can be.
    """
    rules = schema.get("x-kubernetes-validations") or []
    where = f"{path}.x-kubernetes-validations"
    if len(rules) > MAX_RULES:
        yield invalid_value(where, len(rules), f"must have at most {MAX_RULES} rules")
        return
    for index, rule in enumerate(rules):
        at = f"{where}[{index}]"
        if not isinstance(rule, dict) or not all(isinstance(rule.get(name) or "", str) for name in _TEXTS):
            yield invalid_value(at, rule, "must be a rule")
            continue
        yield from _words(rule, at)
        if not (rule.get("rule") or "").strip():
            yield required_value(f"{at}.rule", "rule is not specified")
            continue
        if uses_old(rule) and lost:
            why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
            yield invalid_value(f"{at}.rule", rule["rule"], why)
        elif not uses_old(rule) and rule.get("optionalOldSelf") is not None:
            yield invalid_value(f"{at}.optionalOldSelf", rule["optionalOldSelf"], "may not be set if oldSelf is not used in rule")
        node = compile_schema(structure)
        for field, wanted in (("rule", "bool"), ("messageExpression", "string")):
            if (rule.get(field) or "").strip():
                why = _compiles(rule, field, wanted, node, top)
                if why:
                    yield invalid_value(f"{at}.{field}", rule[field], why)
        if rule.get("fieldPath"):
            yield from _field_path(structure, rule["fieldPath"], f"{at}.fieldPath")


_TEXTS = ("rule", "message", "messageExpression", "reason", "fieldPath")


def _words(rule: Json, at: str) -> Errors:
    message = rule.get("message") or ""
    if "\n" in message.strip():
        yield invalid_value(f"{at}.message", message, "message must not contain line breaks")
    if rule.get("message") is not None and not message.strip():
        yield invalid_value(f"{at}.message", message, "message must be non-empty if specified")
    if "\n" in (rule.get("rule") or "").strip() and not message and not rule.get("messageExpression"):
        yield required_value(f"{at}.message", "message must be specified if rule contains line breaks")
    if rule.get("messageExpression") and not rule["messageExpression"].strip():
        yield required_value(f"{at}.messageExpression", "messageExpression must be non-empty if specified")
    if rule.get("reason") and rule["reason"] not in REASONS:
        yield unsupported_value(f"{at}.reason", rule["reason"], sorted(REASONS))


def _compiles(rule: Json, field: str, wanted: str, node: Node, top: bool) -> str:
    """What is wrong with an expression; empty where nothing is."""
    text: str = rule[field]
    try:
        compiled = program(rule, text)
    except cel.CompileError as error:
        return str(error)
    before = compiled.source.index(text)
    for each in survey(compiled.checked, node, top=top).undefined:
        return _pictured(f"undefined field '{each.name}'", text, each.offset - before)
    kind = compiled.result
    decl = declare(node, top=top or node.embedded)
    if decl is not None:
        found = examined(rule, compiled, decl)
        for number, fault in found.faults.items():
            return _pictured(fault, text, positions(compiled.checked).get(number, before) - before)
        kind = found.kind if kind == "dyn" else kind
    if kind not in (wanted, "dyn"):
        return f"{'cel expression' if field == 'rule' else field} must evaluate to a {wanted}"
    return ""


def _pictured(fault: str, text: str, offset: int) -> str:
    """In the words and the picture of cel-go."""
    line = text.count("\n", 0, max(offset, 0))
    column = offset - (text.rfind("\n", 0, max(offset, 0)) + 1)
    shown = text.split("\n")[line]
    return f"compilation failed: ERROR: <input>:{line + 1}:{column + 1}: {fault}\n | {shown}\n | {'.' * column}^"


def _field_path(schema: Json, text: str, at: str) -> Errors:
    """The path must lead to a field of the schema."""
    if not text.strip():
        yield invalid_value(at, text, "fieldPath must be non-empty if specified")
    if "\n" in text or "\r" in text:
        yield invalid_value(at, text, "fieldPath must not contain line breaks")
    try:
        names = jsonpath.parse(text).names
    except ValueError:
        yield invalid_value(at, text, "fieldPath must be a valid path")
        return
    found: Any = schema
    for name in names or ():
        inner = (found.get("properties") or {}).get(name) if isinstance(found, dict) else None
        if inner is None and isinstance(found, dict) and isinstance(found.get("additionalProperties"), dict):
            inner = found["additionalProperties"]
        found = inner
    if names is None or not isinstance(found, dict):
        yield invalid_value(at, text, "fieldPath must be a valid path")
