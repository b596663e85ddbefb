"""Objects against their schema: faults in upstream's words, pruning, defaulting, and what an update leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.api.structural import columns, formats, jsonpath
from kubeling.api.structural.defaulting import apply_defaults
from kubeling.api.structural.definition import version_order
from kubeling.api.structural.node import compile_schema
from kubeling.api.structural.prune import prune
from kubeling.api.structural.validate import ABSENT, validate

Obj = dict[str, Any]


def told(schema: Obj, value: Any, old: Any = ABSENT) -> list[str]:
    node = compile_schema({"type": "object", "properties": {"x": schema}})
    return [str(each) for each in validate({"x": value}, node, {"x": old} if old is not ABSENT else ABSENT)]


WORDS = [
    ({"type": "integer"}, "a", 'x: Invalid value: "string": x in body must be of type integer: "string"'),
    ({"type": "integer"}, 1.5, 'x: Invalid value: "number": x in body must be of type integer: "number"'),
    ({"type": "integer"}, True, 'x: Invalid value: "boolean": x in body must be of type integer: "boolean"'),
    ({"type": "string"}, None, 'x: Invalid value: "null": x in body must be of type string: "null"'),
    ({"type": "object"}, [], 'x: Invalid value: "array": x in body must be of type object: "array"'),
    ({"type": "integer", "minimum": 2}, 1, "x: Invalid value: 1: x in body should be greater than or equal to 2"),
    ({"type": "number", "maximum": 2.5}, 3, "x: Invalid value: 3: x in body should be less than or equal to 2.5"),
    ({"type": "integer", "maximum": 2, "exclusiveMaximum": True}, 2, "x: Invalid value: 2: x in body should be less than 2"),
    ({"type": "integer", "minimum": 2, "exclusiveMinimum": True}, 2, "x: Invalid value: 2: x in body should be greater than 2"),
    ({"type": "integer", "multipleOf": 3}, 4, "x: Invalid value: 4: x in body should be a multiple of 3"),
    ({"type": "string", "minLength": 2}, "a", 'x: Invalid value: "a": x in body should be at least 2 chars long'),
    ({"type": "string", "maxLength": 2}, "abc", "x: Too long: may not be more than 2 bytes"),
    ({"type": "string", "pattern": "^a+$"}, "b", "x: Invalid value: \"b\": x in body should match '^a+$'"),
    ({"type": "string", "format": "ipv4"}, "b", 'x: Invalid value: "b": x in body must be of type ipv4: "b"'),
    ({"type": "string", "enum": ["a", "b"]}, "c", 'x: Unsupported value: "c": supported values: "a", "b"'),
    ({"type": "array", "maxItems": 1, "items": {"type": "integer"}}, [1, 2], "x: Too many: 2: must have at most 1 item"),
    (
        {"type": "array", "minItems": 1, "items": {"type": "integer"}},
        [],
        "x: Invalid value: 0: x in body should have at least 1 items",
    ),
    (
        {"type": "array", "items": {"type": "integer"}},
        [1, "a"],
        'x[1]: Invalid value: "string": x[1] in body must be of type integer',
    ),
    ({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "integer"}}, {"a": 1, "b": 2}, "x: Too many: 2"),
    ({"type": "object", "minProperties": 1}, {}, "x: Invalid value: 0: x in body should have at least 1 properties"),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "b"}, 'x.a: Invalid value: "string"'),
    ({"type": "object", "required": ["a"]}, {}, "x.a: Required value"),
    ({"type": "integer", "not": {"enum": [1]}}, 1, 'x: Invalid value: "": "x" must not validate the schema (not)'),
    (
        {"type": "integer", "oneOf": [{"minimum": 1}, {"maximum": 5}]},
        3,
        'x: Invalid value: "": "x" must validate one and only one schema (oneOf). Found 2 valid alternatives',
    ),
    (
        {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
        3,
        'x: Invalid value: "": "x" must validate at least one schema (anyOf)',
    ),
    ({"type": "integer", "allOf": [{"minimum": 5}]}, 3, "x: Invalid value: 3: x in body should be greater than or equal to 5"),
    (
        {"type": "integer", "format": "int32"},
        2**31,
        "x: Invalid value: 2147483648: Checked value must be of type integer with format int32",
    ),
    (
        {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
        {"kind": "A"},
        "x.apiVersion: Required value: must not be empty",
    ),
]


@pytest.mark.parametrize(("schema", "value", "words"), WORDS)
def test_faults_are_told_in_upstreams_words(schema: Obj, value: Any, words: str) -> None:
    found = told(schema, value)
    assert any(each.startswith(words) for each in found), found


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "number"}, 1),
        ({"type": "integer"}, 2.0),
        ({"type": "string", "nullable": True}, None),
        ({"x-kubernetes-int-or-string": True}, "80%"),
        ({"x-kubernetes-preserve-unknown-fields": True}, [None, {"a": 1}]),
        ({"type": "string", "format": "no-such-format"}, "x"),
        ({"type": "integer", "enum": [1]}, 1),
        ({"type": "number", "multipleOf": 0.1}, 0.3),
    ],
)
def test_what_fits_is_left_in_peace(schema: Obj, value: Any) -> None:
    assert told(schema, value) == []


def test_sets_and_maps_hold_nothing_twice() -> None:
    tags = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object", "x-kubernetes-map-type": "atomic"}}
    assert told(tags, [{"a": 1}, {"a": 2}, {"a": 1}]) == ['x[2]: Duplicate value: {"a":1}']
    item = {"type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}}
    keys = ["port", "protocol"]
    ports = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": item}
    assert told(ports, [{"port": 1}, {"port": 1, "protocol": "UDP"}]) == []
    assert told(ports, [{"port": 1}, {"port": 1, "protocol": "TCP"}]) == ['x[1]: Duplicate value: {"port":1,"protocol":"TCP"}']


def test_an_update_is_not_held_to_what_it_did_not_touch() -> None:
    small = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 5}, "b": {"type": "integer"}}}
    assert told(small, {"a": 9, "b": 1}) != []
    assert told(small, {"a": 9, "b": 2}, {"a": 9, "b": 1}) == []
    assert told(small, {"a": 8, "b": 2}, {"a": 9, "b": 1}) != []
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "maximum": 5}}},
    }
    old = [{"name": "a", "n": 9}]
    assert told(keyed, [{"name": "b", "n": 1}, {"name": "a", "n": 9}], old) == []
    assert told({**keyed, "x-kubernetes-list-type": "atomic"}, [{"name": "b", "n": 1}, {"name": "a", "n": 9}], old) != []


def test_pruning_keeps_what_it_is_told_to() -> None:
    node = compile_schema(
        {
            "type": "object",
            "properties": {
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "free": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": {"type": "object", "properties": {"a": {"type": "string"}}}},
                },
                "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}},
            },
        }
    )
    obj = {
        "apiVersion": "v1",
        "metadata": {"anything": 1},
        "list": [{"a": "1", "b": 1}],
        "map": {"k": {"b": 1}},
        "free": {"x": {"y": 1}, "known": {"a": "", "b": 1}},
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"b": 1}, "status": {}},
        "gone": 1,
    }
    assert sorted(prune(obj, node)) == ["free.known.b", "gone", "list[0].b", "map.k.b", "pod.spec.b", "pod.status"]
    assert obj["free"] == {"x": {"y": 1}, "known": {"a": ""}}
    assert obj["pod"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}
    assert obj["metadata"] == {"anything": 1}


def test_defaults_reach_down_and_nulls_give_way() -> None:
    node = compile_schema(
        {
            "type": "object",
            "properties": {
                "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 1}}},
                "c": {"type": "object", "properties": {"d": {"type": "integer", "default": 2}}},
                "null": {"type": "string", "nullable": True, "default": "x"},
                "no": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"e": {"type": "string", "default": "f"}}}},
            },
        }
    )
    obj: Obj = {"null": None, "no": None, "list": [{}, {"e": None}]}
    assert apply_defaults(obj, node, top=True)
    assert obj == {"a": {"b": 1}, "null": None, "list": [{"e": "f"}, {"e": "f"}]}
    assert not apply_defaults(obj, node, top=True)
    obj["a"]["b"] = 5
    other: Obj = {}
    apply_defaults(other, node, top=True)
    assert other == {"a": {"b": 1}, "null": "x"}


THING = {
    "spec": {"size": 3, "dotted.name": "d", "list": [{"n": 1}, {"n": 2}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".spec.size", [3]),
        ("{.spec.size}", [3]),
        (".spec.nope.deeper", []),
        (".spec.list[*].n", [1, 2]),
        (".spec.list[1].n", [2]),
        (".spec.list[-1].n", [2]),
        (".spec.list[0:1].n", [1]),
        (".spec['size']", [3]),
        (".spec.dotted\\.name", ["d"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type == 'Other')].status", ["False"]),
        (".spec.list[?(@.n>1)].n", [2]),
    ],
)
def test_json_paths(path: str, values: list[Any]) -> None:
    assert jsonpath.parse(path).find(THING) == values


@pytest.mark.parametrize("path", ["", ".spec..size", ".spec[", ".spec[?(x)]", ".a b"])
def test_what_is_no_json_path(path: str) -> None:
    with pytest.raises(ValueError, match=r"JSON path|unrecognized|unexpected"):
        jsonpath.parse(path)


def test_columns_show_what_fits_their_type() -> None:
    def column(name: str, kind: str, path: str, **more: Any) -> Obj:
        return {"name": name, "type": kind, "jsonPath": path, **more}

    printer = columns.printer(
        [
            column("Size", "integer", ".spec.size"),
            column("Text", "string", ".spec.size", priority=2),
            column("Wrong", "boolean", ".spec.size"),
            column("List", "string", ".spec.list[*].n"),
            column("Since", "date", ".spec.at"),
            column("None", "string", ".spec.nope"),
            column("Map", "string", ".spec.list[0]", description="said"),
            column("Whole", "integer", ".spec.ratio"),
        ]
    )
    now = datetime(2024, 1, 1, 1, tzinfo=UTC)
    obj = {**THING, "metadata": {"name": "a"}, "spec": {**THING["spec"], "at": "2024-01-01T00:00:00Z", "ratio": 1.9}}
    assert printer.cells(obj, now) == ["a", 3, "3", None, "1", "60m", None, '{"n":1}', 1]
    definitions = [each.definition() for each in printer.columns]
    assert [each["priority"] for each in definitions] == [0, 0, 2, 0, 0, 0, 0, 0, 0]
    generic = "Custom resource definition column (in JSONPath format): .spec.nope"
    assert [each["description"] for each in definitions[-3:-1]] == [generic, "said"]
    assert columns.printer(None).cells({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z"}}, now) == [
        "a",
        "60m",
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ipv6", "::1", "1.2.3.4"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("mac", "00:11:22:33:44:55", "00:11"),
        ("uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", "0f8fad5b"),
        ("uuid4", "0f8fad5b-d9cb-469f-a165-70867728950e", "0f8fad5b-d9cb-169f-a165-70867728950e"),
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-02-29T10:00:00Z", "2024-02-29 25:00"),
        ("duration", "1h30m", "soon"),
        ("byte", "YWI=", "YWI"),
        ("email", "a@example.com", "a"),
        ("uri", "https://example.com/x", "example"),
        ("hostname", "a.example.com", "-a-"),
        ("hexcolor", "#fff", "red"),
        ("rgbcolor", "rgb(1,2,3)", "rgb(1,2,300)"),
        ("isbn10", "0-306-40615-2", "0-306-40615-3"),
        ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
        ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("k8s-short-name", "a-b", "a.b"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    assert formats.matches(name, good)
    assert not formats.matches(name, bad)


def test_versions_are_in_kubernetes_order() -> None:
    shuffled = ["foo1", "v1alpha1", "v2", "v10", "v1", "v1beta2", "v11beta2", "foo10", "v2beta1"]
    assert sorted(shuffled, key=version_order) == [
        "v10",
        "v2",
        "v1",
        "v11beta2",
        "v2beta1",
        "v1beta2",
        "v1alpha1",
        "foo1",
        "foo10",
    ]
