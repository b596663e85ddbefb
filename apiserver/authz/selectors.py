"""The selectors of a list, a watch or a deletion of many, as authorizers see them (KEP-4601).

A selector only narrows what is asked for. So what of it cannot be understood is left out: the question is then about more objects, never about fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from kubeling.api import errors, fields, labels
from kubeling.api.errors import FieldError
from kubeling.api.fields import FieldRequirement
from kubeling.api.labels import Requirement
from kubeling.api.names import label_value, qualified_name

T = TypeVar("T")

_LABEL_WORDS = {"=": "In", "in": "In", "!=": "NotIn", "notin": "NotIn", "exists": "Exists", "!": "DoesNotExist"}
_LABEL_OPERATORS: dict[str, labels.Operator] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


class Selected(NamedTuple):
    """Both selectors of a question; nothing where all objects are meant."""

    fields: tuple[FieldRequirement, ...] = ()
    labels: tuple[Requirement, ...] = ()

    def exact(self, field: str) -> str:
        """The value to which the field is pinned, empty if to none."""
        return next((each.value for each in self.fields if each.field == field and not each.negated), "")

    def attributes(self) -> dict[str, Any]:
        """Members of a SubjectAccessReview's resourceAttributes. What its requirements have no word for is left out."""
        found: dict[str, Any] = {}
        if self.fields:
            found["fieldSelector"] = {
                "requirements": [
                    {"key": each.field, "operator": "NotIn" if each.negated else "In", "values": [each.value]}
                    for each in self.fields
                ]
            }
        requirements = [_label_requirement(each) for each in self.labels if each.operator in _LABEL_WORDS]
        if requirements:
            found["labelSelector"] = {"requirements": requirements}
        return found


EVERYTHING = Selected()


def _label_requirement(each: Requirement) -> dict[str, Any]:
    found: dict[str, Any] = {"key": each.key, "operator": _LABEL_WORDS[each.operator]}
    if each.values:
        found["values"] = sorted(each.values)
    return found


def of_texts(field_selector: str, label_selector: str) -> Selected:
    """From a request's query, or from what an expression says."""
    if not field_selector and not label_selector:
        return EVERYTHING
    return Selected(_understood(_field_terms, field_selector), _understood(_label_terms, label_selector))


def _field_terms(text: str) -> tuple[FieldRequirement, ...]:
    return fields.parse(text).requirements


def _label_terms(text: str) -> tuple[Requirement, ...]:
    return labels.parse(text).requirements


def _understood(parse: Callable[[str], tuple[T, ...]], text: str) -> tuple[T, ...]:
    try:
        return parse(text)
    except ValueError:
        return ()


class Review(NamedTuple):
    """The selectors of a SubjectAccessReview, and what its status says of those that could not be understood."""

    selected: Selected
    problems: list[str]


def of_review(asked: Mapping[str, Any]) -> Review:
    """From resourceAttributes that have passed :func:`check`."""
    if not asked.get("fieldSelector") and not asked.get("labelSelector"):
        return Review(EVERYTHING, [])
    problems: list[str] = []
    found_fields = _read(asked, "fieldSelector", _field_terms, _field, problems)
    found_labels = _read(asked, "labelSelector", _label_terms, _label, problems)
    return Review(Selected(found_fields, found_labels), problems)


def _read(
    asked: Mapping[str, Any],
    member: str,
    parse: Callable[[str], tuple[T, ...]],
    requirement: Callable[[Mapping[str, Any]], T | None],
    problems: list[str],
) -> tuple[T, ...]:
    selector = asked.get(member) or {}
    if selector.get("rawSelector"):
        try:
            return parse(selector["rawSelector"])
        except ValueError:
            problems.append(f"spec.resourceAttributes.{member} ignored due to parse error")
            return ()
    terms = [requirement(each) for each in selector.get("requirements") or ()]
    found = tuple(each for each in terms if each is not None)
    if len(found) < len(terms):
        problems.append(f"spec.resourceAttributes.{member} {'partially ' if found else ''}ignored due to parse error")
    return found


def _field(each: Mapping[str, Any]) -> FieldRequirement | None:
    values = each.get("values") or []
    if each.get("operator") not in ("In", "NotIn") or len(values) != 1:
        return None
    return FieldRequirement(each.get("key") or "", values[0], each["operator"] == "NotIn")


def _label(each: Mapping[str, Any]) -> Requirement | None:
    operator, values = _LABEL_OPERATORS.get(each.get("operator") or ""), each.get("values") or []
    if operator is None or qualified_name(each.get("key") or "") or any(label_value(value) for value in values):
        return None
    return Requirement(each["key"], operator, tuple(values))


def check(asked: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is wrong with the selectors of resourceAttributes. Operators of versions to come are let pass, and ignored later."""
    wrong: list[FieldError] = []
    for member in ("fieldSelector", "labelSelector"):
        selector = asked.get(member)
        if selector is None:
            continue
        at, raw, requirements = f"{path}.{member}", selector.get("rawSelector"), selector.get("requirements") or []
        if raw and requirements:
            wrong.append(errors.invalid_value(f"{at}.rawSelector", raw, "may not specified at the same time as requirements"))
        if not raw and not requirements:
            why = f"when {at} is specified, requirements or rawSelector is required"
            wrong.append(errors.required_value(f"{at}.requirements", why))
        for number, each in enumerate(requirements):
            wrong += _check_requirement(each, f"{at}.requirements[{number}]", member == "labelSelector")
    return wrong


def _check_requirement(each: Mapping[str, Any], at: str, of_label: bool) -> list[FieldError]:
    key, operator, values = each.get("key") or "", each.get("operator") or "", each.get("values") or []
    wrong: list[FieldError] = []
    if operator in ("In", "NotIn") and not values:
        wrong.append(errors.required_value(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    if operator in ("Exists", "DoesNotExist") and values:
        why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        wrong.append(errors.forbidden_value(f"{at}.values", why))
    if of_label:
        wrong += [errors.invalid_value(f"{at}.key", key, why) for why in qualified_name(key)]
        for number, value in enumerate(values):
            wrong += [errors.invalid_value(f"{at}.values[{number}]", value, why) for why in label_value(value)]
    elif not key:
        wrong.insert(0, errors.required_value(f"{at}.key", "must be specified"))
    return wrong
