"""Rules in CEL, at creation and at changes."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.structural.check import check_schema
from kubeling.api.structural.node import compile_schema
from kubeling.api.structural.rules import MAX_EVALUATIONS, check_rules
from kubeling.api.structural.validate import ABSENT

Obj = dict[str, Any]


def schema(*rules: Obj, **properties: Obj) -> Obj:
    spec = {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}
    return {"type": "object", "properties": {"spec": spec}}


def told(found: Obj, spec: Any, old: Any = ABSENT) -> list[str]:
    assert check_schema(found, "s") == []
    before = {"spec": old} if old is not ABSENT else ABSENT
    return [str(each) for each in check_rules({"spec": spec}, compile_schema(found), before)]


INT = {"type": "integer"}
TEXT = {"type": "string"}
LESS = {"rule": "self.min <= self.max"}


def test_a_rule_that_holds_says_nothing() -> None:
    assert told(schema(LESS, min=INT, max=INT), {"min": 1, "max": 2}) == []


def test_a_rule_without_a_message_is_shown_itself() -> None:
    found = told(schema(LESS, min=INT, max=INT), {"min": 3, "max": 2})
    assert found == ['spec: Invalid value: "object": failed rule: self.min <= self.max']


def test_message_reason_and_field_path() -> None:
    rule = {**LESS, "message": "too small", "reason": "FieldValueForbidden", "fieldPath": ".max"}
    assert told(schema(rule, min=INT, max=INT), {"min": 3, "max": 2}) == ["spec.max: Forbidden: too small"]


@pytest.mark.parametrize(
    "rule",
    [
        "self.map.all(k, self.map[k].a == 1) && self.free.any.thing == 1",
        "self.list.filter(x, x.a > 1).map(x, x.a) == [] && self.list[0].a == 1",
        "has(self.list) && self.?map['x'].?a.orValue(1) == 1",
        "cel.bind(first, self.list[0], first.a == 1)",
        "self.map.all(k, v, v.a == 1)",
        "size(self.map.map(k, self.map[k])[0].whatever) == 1",
    ],
)
def test_fields_that_are_there_are_found(rule: str) -> None:
    thing = {"type": "object", "properties": {"a": INT}}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    found = schema(
        {"rule": rule},
        list={"type": "array", "items": thing, "maxItems": 9},
        map={"type": "object", "additionalProperties": thing},
        free=free,
    )
    assert check_schema(found, "s") == []


def test_a_message_expression_wins_and_a_broken_one_does_not() -> None:
    good = {**LESS, "message": "no", "messageExpression": "'%d is more than %d'.format([self.min, self.max])"}
    assert told(schema(good, min=INT, max=INT), {"min": 3, "max": 2}) == ['spec: Invalid value: "object": 3 is more than 2']
    bad = {**good, "messageExpression": "string(self.min / 0)"}
    assert told(schema(bad, min=INT, max=INT), {"min": 3, "max": 2}) == ['spec: Invalid value: "object": no']


def test_an_error_in_a_rule_is_told() -> None:
    found = told(schema({"rule": "self.a > 0"}, a=INT), {})
    assert found == ['spec: Invalid value: "object": no such key: a evaluating rule: self.a > 0']


def test_transition_rules_look_at_changes_alone() -> None:
    field = {**TEXT, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}
    found = schema(name=field)
    assert told(found, {"name": "a"}) == []
    assert told(found, {"name": "a"}, {}) == []
    assert told(found, {"name": "b"}, {"name": "a"}) == ['spec.name: Invalid value: "string": is immutable']


def test_an_optional_old_self_is_there_at_creation_too() -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 'new'", "optionalOldSelf": True, "message": "begin with new"}
    found = schema(phase={**TEXT, "x-kubernetes-validations": [rule]})
    assert told(found, {"phase": "new"}) == []
    assert told(found, {"phase": "old"}) == ['spec.phase: Invalid value: "string": begin with new']
    assert told(found, {"phase": "old"}, {"phase": "new"}) == []
    grown = {"rule": "self >= oldSelf.orValue(0)", "optionalOldSelf": True, "message": "may not shrink"}
    counted = schema(count={**INT, "x-kubernetes-validations": [grown]})
    assert told(counted, {"count": 1}, {"count": 2}) == ['spec.count: Invalid value: "integer": may not shrink']


def test_what_did_not_change_is_left_alone() -> None:
    found = schema(a={**INT, "x-kubernetes-validations": [{"rule": "self > 5"}]}, b=INT)
    assert told(found, {"a": 1, "b": 2}, {"a": 1, "b": 1}) == []
    assert told(found, {"a": 2, "b": 2}, {"a": 1, "b": 1}) == ['spec.a: Invalid value: "integer": failed rule: self > 5']


def test_items_are_found_again_by_their_keys() -> None:
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": TEXT, "size": INT},
        "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "no shrinking"}],
    }
    found = schema(
        parts={"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    old = {"parts": [{"name": "a", "size": 2}, {"name": "b", "size": 2}]}
    new = {"parts": [{"name": "b", "size": 1}, {"name": "c", "size": 0}, {"name": "a", "size": 2}]}
    assert told(found, new, old) == ['spec.parts[0]: Invalid value: "object": no shrinking']


def test_values_are_of_the_types_that_the_schema_says() -> None:
    rules = [
        {"rule": "self.f / 2.0 == 1.5"},
        {"rule": "self.at > timestamp('2020-01-01T00:00:00Z')"},
        {"rule": "self.wait == duration('90s')"},
        {"rule": "self.data == b'ab'"},
        {"rule": "self.__namespace__ == 'x' && self.a__dash__b == 1"},
        {"rule": "type(self.port) == int || self.port == 'http'"},
        {"rule": "quantity(self.room).isGreaterThan(quantity('1Mi'))"},
    ]
    properties = {
        "f": {"type": "number"},
        "at": {**TEXT, "format": "date-time"},
        "wait": {**TEXT, "format": "duration"},
        "data": {**TEXT, "format": "byte"},
        "namespace": TEXT,
        "a-b": INT,
        "port": {"x-kubernetes-int-or-string": True},
        "room": TEXT,
    }
    spec = {
        "f": 3,
        "at": "2024-01-01T00:00:00Z",
        "wait": "1m30s",
        "data": "YWI=",
        "namespace": "x",
        "a-b": 1,
        "port": 80,
        "room": "1Gi",
    }
    assert told(schema(*rules, **properties), spec) == []


def test_the_number_of_evaluations_is_bounded() -> None:
    found = schema(many={"type": "array", "items": {**INT, "x-kubernetes-validations": [{"rule": "self >= 0"}]}})
    errors = told(found, {"many": [0] * (MAX_EVALUATIONS + 1)})
    assert len(errors) == 1
    assert "running out of cost budget" in errors[0]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({"rule": "self.a +"}, 'rule: Invalid value: "self.a +": compilation failed: ERROR: <input>:1:9: Syntax error'),
        (
            {"rule": "other == 1"},
            "rule: Invalid value: \"other == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'other'",
        ),
        (
            {"rule": "self.zzz == 1"},
            "rule: Invalid value: \"self.zzz == 1\": compilation failed: ERROR: <input>:1:5: undefined field 'zzz'",
        ),
        (
            {"rule": "self.list.all(x, x.b > 1)"},
            'rule: Invalid value: "self.list.all(x, x.b > 1)": compilation failed: ERROR: <input>:1:19: undefined',
        ),
        ({"rule": "1 + 1"}, 'rule: Invalid value: "1 + 1": cel expression must evaluate to a bool'),
        ({"rule": " "}, "rule: Required value: rule is not specified"),
        ({"rule": "true", "message": "a\nb"}, "message: Invalid value"),
        ({"rule": "true", "reason": "Because"}, 'reason: Unsupported value: "Because"'),
        (
            {"rule": "true", "messageExpression": "1"},
            'messageExpression: Invalid value: "1": messageExpression must evaluate to a string',
        ),
        (
            {"rule": "true", "messageExpression": " "},
            "messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            {"rule": "true", "optionalOldSelf": True},
            "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        ({"rule": "true", "fieldPath": " "}, 'fieldPath: Invalid value: " ": fieldPath must be non-empty if specified'),
        ({"rule": "true", "fieldPath": ".zzz"}, 'fieldPath: Invalid value: ".zzz": fieldPath must be a valid path'),
    ],
)
def test_rules_are_checked_when_they_are_defined(rule: Obj, fault: str) -> None:
    items = {"type": "array", "items": {"type": "object", "properties": {"a": INT}}}
    found = [str(each) for each in check_schema(schema(rule, a=INT, list=items), "s")]
    where = "s.properties[spec].x-kubernetes-validations[0]."
    assert any(each.startswith(where + fault) for each in found), found


def test_changes_of_items_without_keys_cannot_be_judged() -> None:
    items = {**INT, "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}
    found = [str(each) for each in check_schema(schema(many={"type": "array", "items": items}), "s")]
    assert any("oldSelf cannot be used on the uncorrelatable portion of the schema within" in each for each in found), found


SET = {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT, "maxItems": 9}
ENTRY = {
    "type": "object",
    "required": ["key"],
    "properties": {"key": TEXT, "n-1": INT, "tags": SET},
}
KEYED = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"], "items": ENTRY, "maxItems": 9}
PLAIN = {"type": "array", "items": TEXT, "maxItems": 9}
HELD = {
    "set": ["a", "b"],
    "same": ["b", "a"],
    "other": ["b", "c"],
    "plain": ["b", "a"],
    "keyed": [{"key": "x", "n-1": 1, "tags": ["p", "q"]}, {"key": "y"}],
    "turned": [{"key": "y"}, {"key": "x", "n-1": 1, "tags": ["q", "p"]}],
    "more": [{"key": "z"}, {"key": "y", "n-1": 2}],
}


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("self.set == self.same", True),
        ("self.set != self.same", False),
        ("self.set == self.other", False),
        ("self.set == ['b', 'a']", True),
        # A list that comes first is a list, whatever it is compared with.
        ("['a', 'b'] == self.same", False),
        ("self.plain == ['a', 'b']", False),
        ("self.set + self.other == ['c', 'b', 'a']", True),
        ("(self.set + self.other).map(x, x) == ['a', 'b', 'c']", True),
        ("size(self.set + self.same) == 2", True),
        ("size(self.plain + self.plain) == 4", True),
        ("self.keyed == self.turned", True),
        ("[self.keyed] == [self.turned]", False),
        ("(self.keyed + self.more).map(each, each.key) == ['x', 'y', 'z']", True),
        ("(self.keyed + self.more)[1].n__dash__1 == 2", True),
        ("self.keyed + self.more == self.more + self.keyed", False),
        ("self.keyed.all(k, k == self.turned.filter(t, t.key == k.key)[0])", True),
        ("cel.bind(s, self.set, s == self.same)", True),
        ("(has(self.none) ? self.none : self.set) == self.same", True),
        ("self.?set.orValue([]) == self.same", True),
    ],
)
def test_sets_and_keyed_lists_compare_and_add_up_as_what_they_are(rule: str, holds: bool) -> None:
    properties = {
        "set": SET,
        "same": SET,
        "other": SET,
        "none": SET,
        "plain": PLAIN,
        "keyed": KEYED,
        "turned": KEYED,
        "more": KEYED,
    }
    found = schema({"rule": rule}, **properties)
    assert check_schema(found, "s", costs=False) == []
    errors = check_rules({"spec": HELD}, compile_schema(found))
    assert [str(each) for each in errors] == ([] if holds else [f'spec: Invalid value: "object": failed rule: {rule}'])


def test_an_object_whose_sets_are_in_another_order_has_not_changed() -> None:
    same = {"rule": "self == oldSelf", "message": "is immutable"}
    found = schema(same, set=SET, keyed=KEYED)
    old = {"set": ["a", "b"], "keyed": [{"key": "x", "tags": ["p", "q"]}, {"key": "y"}]}
    assert told(found, {"set": ["b", "a"], "keyed": [{"key": "y"}, {"key": "x", "tags": ["q", "p"]}]}, old) == []
    assert told(found, {**old, "set": ["a"]}, old) == ['spec: Invalid value: "object": is immutable']
    optional = {**same, "rule": "oldSelf.optMap(o, o == self).orValue(true)", "optionalOldSelf": True}
    found = schema(optional, set=SET)
    assert told(found, {"set": ["b", "a"]}, {"set": ["a", "b"]}) == []
    assert told(found, {"set": ["b", "c"]}, {"set": ["a", "b"]}) == ['spec: Invalid value: "object": is immutable']


def test_what_is_in_an_atomic_map_has_no_old_value_of_its_own() -> None:
    def atomic(rule: Obj) -> Obj:
        inner = {**TEXT, "x-kubernetes-validations": [rule]}
        return schema({"rule": "true"}, ref={"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"name": inner}})

    same = {"rule": "self == oldSelf"}
    lost = "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[ref]"
    assert [each.detail for each in check_schema(atomic(same), "s")] == [lost]
    assert [each.detail for each in check_schema(atomic({"rule": "oldSelf.hasValue()", "optionalOldSelf": True}), "s")] == [lost]
    old = {"spec": {"ref": {"name": "a"}}}
    assert check_rules({"spec": {"ref": {"name": "b"}}}, compile_schema(atomic(same)), old) == []


def test_a_reserved_word_is_a_field_as_it_is_and_escaped() -> None:
    found = schema(
        {"rule": "self.namespace == self.__namespace__ && self.a__dash__b == 'x' && has(self.namespace)"},
        **{"namespace": TEXT, "a-b": TEXT},
    )
    assert told(found, {"namespace": "n", "a-b": "x"}) == []


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("self.text == 5", "1:11: found no matching overload for '_==_' applied to '(string, int)'"),
        ("self.text > 5", "'_>_' applied to '(string, int)'"),
        ("true && self.number", "'_&&_' applied to '(bool, int)'"),
        ("!self.text", "'!_' applied to '(string)'"),
        ("self.text ? true : false", "'_?_:_' applied to '(string, bool, bool)'"),
        ("self.list.all(x, x > 1)", "'_>_' applied to '(string, int)'"),
        ("self.map.all(k, self.map[k] + k == 'x')", "'_+_' applied to '(int, string)'"),
        ("self.list.contains('a')", "'contains' applied to 'list(string).(string)'"),
        ("self.number.startsWith('1')", "'startsWith' applied to 'int.(string)'"),
        ("'a' in self.text", "'@in' applied to '(string, string)'"),
        ("size(self.number) > 1", "'size' applied to '(int)'"),
        ("self.time > '2020-01-01T00:00:00Z'", "'_>_' applied to '(timestamp, string)'"),
        ("self.time - self.time > self.time", "'_>_' applied to '(duration, timestamp)'"),
        ("oldSelf.text == self.number", "'_==_' applied to '(string, int)'"),
        ("self.text", "cel expression must evaluate to a bool"),
        ("self.list.map(x, size(x))[0]", "cel expression must evaluate to a bool"),
    ],
)
def test_types_are_held_against_the_schema(rule: str, fault: str) -> None:
    numbers = {"type": "object", "additionalProperties": INT, "maxProperties": 5}
    properties = {
        "text": {**TEXT, "maxLength": 9},
        "number": INT,
        "list": PLAIN,
        "map": numbers,
        "time": {**TEXT, "format": "date-time"},
    }
    found = check_schema(schema({"rule": rule}, **properties), "s")
    assert len(found) == 1
    assert fault in found[0].detail


@pytest.mark.parametrize(
    "rule",
    [
        "self.number > 2.5 && self.ratio > 1",
        "self.time - self.time < duration('1h') && self.time + duration('1h') > self.time && duration('1s') + self.time > self.time",
        "type(self.any) == int ? self.any > 5 : self.any.startsWith('5')",
        "self.free.whatever == 5 || self.free.whatever == 'x'",
        "self.text == null || dyn(self.text) == 5",
        "self.list.map(x, size(x)).sum() > 2 && self.list.map(x, x + '!').exists(x, x.startsWith('a'))",
        "self.?text.orValue('x').size() == 1",
        "[self.number, 5].filter(x, x > 2).map(x, string(x)).join(',') == '5'",
        "self.text.size() + size(self.list) * 2 - 1 >= self.number % 2",
    ],
)
def test_types_that_fit_or_are_not_known_are_fine(rule: str) -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"known": TEXT}}
    whatever = {"type": "object", "properties": {"whatever": {"x-kubernetes-int-or-string": True}}}
    properties = {
        "text": {**TEXT, "maxLength": 9}, "number": INT, "ratio": {"type": "number"}, "list": PLAIN, "time": {**TEXT, "format": "date-time"},
        "any": {"x-kubernetes-int-or-string": True}, "free": whatever, "other": free,
    }  # fmt: skip
    assert [str(each) for each in check_schema(schema({"rule": rule}, **properties), "s", costs=False)] == []
