"""What a CustomResourceDefinition may say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kubeling.api import resources
from kubeling.api.decode import decode
from kubeling.api.defaults import apply_defaults
from kubeling.api.validation import validate_create, validate_update

Obj = dict[str, Any]


def crd(schema: Obj | None = None) -> Obj:
    found = schema or {"type": "object", "properties": {"spec": {"type": "object"}}}
    obj = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "widgets.example.com",
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": found}}],
        },
        "status": {"storedVersions": ["v1"], "conditions": [{"type": "Established", "status": "True"}]},
    }
    apply_defaults(obj)
    return obj


def faults(obj: Obj) -> list[str]:
    return [str(each) for each in validate_create(obj, resources.CUSTOM_RESOURCE_DEFINITIONS)]


def spec_with(properties: Obj) -> Obj:
    return crd({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})


def test_a_plain_definition_is_fine() -> None:
    assert faults(crd()) == []


ROOT = "spec.validation.openAPIV3Schema"
X = f"{ROOT}.properties[spec].properties[x]"


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({}, f"{X}.type: Required value: must not be empty for specified object fields"),
        ({"type": "sting"}, f'{X}.type: Unsupported value: "sting"'),
        ({"type": "array"}, f"{X}.items: Required value: must be specified"),
        ({"type": "array", "items": {}}, f"{X}.items.type: Required value: must not be empty for specified array items"),
        ({"type": "array", "items": [{"type": "string"}]}, f"{X}.items: Invalid value"),
        ({"type": "string", "pattern": "("}, f'{X}.pattern: Invalid value: "(": must be a valid regular expression'),
        ({"type": "string", "$ref": "#/x"}, f"{X}.$ref: Forbidden: $ref is not supported"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, f"{X}.uniqueItems: Forbidden"),
        ({"type": "object", "additionalProperties": False}, f"{X}.additionalProperties: Forbidden"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            f"{X}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        ({"type": "integer", "anyOf": [{"type": "integer"}]}, f"{X}.anyOf[0].type: Forbidden: must be empty to be structural"),
        (
            {"type": "object", "oneOf": [{"properties": {"a": {"minimum": 1}}}]},
            f"{X}.properties[a]: Required value: because it is defined in {X}.oneOf[0].properties[a]",
        ),
        ({"type": "integer", "x-kubernetes-int-or-string": True}, f"{X}.type: Forbidden"),
        ({"type": "integer", "default": "a"}, f'{X}.default: Invalid value: "string"'),
        ({"type": "object", "default": {"a": 1}}, f'{X}.default: Invalid value: {{"a":1}}: must not have unknown fields: a'),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"},
            f"{X}.x-kubernetes-list-map-keys: Required value",
        ),
        (
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["a"],
                "items": {"type": "object", "properties": {"a": {"type": "string"}}},
            },
            f"{X}.items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys",
        ),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"},
            f"{X}.items.x-kubernetes-map-type: Invalid value",
        ),
        ({"type": "string", "x-kubernetes-map-type": "atomic"}, f"{X}.type: Invalid value"),
        ({"type": "string", "x-kubernetes-embedded-resource": True}, f"{X}.type: Invalid value"),
        ({"type": "string", "maxLength": "x"}, f"{X}.maxLength: Invalid value"),
    ],
)
def test_schemas_are_structural(schema: Obj, fault: str) -> None:
    found = faults(spec_with({"x": schema}))
    assert any(each.startswith(fault) for each in found), found


@pytest.mark.parametrize(
    "schema",
    [
        {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"x-kubernetes-preserve-unknown-fields": True},
        {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "oneOf": [{"properties": {"a": {"minimum": 1}}}]},
        {"type": "object", "default": {}, "properties": {"a": {"type": "integer", "default": 1}}},
        {"type": "string", "nullable": True, "default": "x"},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": True},
    ],
)
def test_what_looks_odd_but_is_allowed(schema: Obj) -> None:
    assert faults(spec_with({"x": schema})) == []


def change(path: str, value: Any) -> Callable[[Obj], None]:
    def apply(obj: Obj) -> None:
        *parents, last = path.split(".")
        for name in parents:
            obj = obj[int(name) if name.isdigit() else name]
        obj[last] = value

    return apply


VERSION = "spec.versions.0"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (
            "metadata.name",
            "x.example.com",
            'metadata.name: Invalid value: "x.example.com": must be spec.names.plural+"."+spec.group',
        ),
        ("spec.group", "example", 'spec.group: Invalid value: "example": should be a domain with at least one dot'),
        ("spec.group", "x.k8s.io", "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups"),
        ("spec.scope", "Galaxy", 'spec.scope: Unsupported value: "Galaxy"'),
        ("spec.preserveUnknownFields", True, "spec.preserveUnknownFields: Invalid value: true"),
        ("spec.names.kind", "a b", 'spec.names.kind: Invalid value: "a b": may have mixed case'),
        ("spec.names.listKind", "Widget", 'spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same'),
        ("spec.versions", [], "spec.versions: Required value"),
        (f"{VERSION}.storage", False, "spec.versions: Invalid value"),
        (f"{VERSION}.name", "V1", 'spec.versions[0].name: Invalid value: "V1"'),
        (f"{VERSION}.schema", {}, "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"),
        (f"{VERSION}.deprecationWarning", "x", "spec.versions[0].deprecationWarning: Invalid value"),
        (
            f"{VERSION}.subresources",
            {"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".status.x"}},
            'spec.subresources.scale.specReplicasPath: Invalid value: ".status.x": should be a json path under .spec',
        ),
        (
            f"{VERSION}.additionalPrinterColumns",
            [{"name": "A", "type": "thing", "jsonPath": ".spec"}],
            'spec.additionalPrinterColumns[0].type: Invalid value: "thing": must be one of boolean,date,integer,number,string',
        ),
        (f"{VERSION}.selectableFields", [{"jsonPath": ".spec"}], "spec.versions[0].selectableFields[0].jsonPath: Invalid value"),
        ("spec.conversion", {"strategy": "Webhook"}, "spec.conversion.webhookClientConfig: Required value"),
    ],
)
def test_definitions_are_checked(path: str, value: Any, fault: str) -> None:
    obj = crd()
    change(path, value)(obj)
    found = faults(obj)
    assert any(each.startswith(fault) for each in found), found


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("spec.scope", "Cluster", 'spec.scope: Invalid value: "Cluster": field is immutable'),
        ("spec.names.kind", "Gadget", 'spec.names.kind: Invalid value: "Gadget": field is immutable'),
        (f"{VERSION}.name", "v2", 'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions'),
    ],
)
def test_what_is_established_stays(path: str, value: Any, fault: str) -> None:
    old, new = crd(), crd()
    change(path, value)(new)
    found = [str(each) for each in validate_update(new, copy.deepcopy(old), resources.CUSTOM_RESOURCE_DEFINITIONS)]
    assert any(each.startswith(fault) for each in found), found


def test_a_schema_that_nests_too_deep_is_refused() -> None:
    schema: Obj = {"type": "string"}
    for _ in range(80):
        schema = {"type": "object", "properties": {"x": schema}}
    assert any("nested deeper" in each for each in faults(crd({"type": "object", "properties": {"x": schema}})))


def test_unknown_fields_are_found_in_schemas_within_schemas() -> None:
    obj = spec_with({"x": {"type": "array", "items": {"type": "object", "bogus": 1, "additionalProperties": {"maxLenght": 3}}}})
    found, problems = decode(obj, "apiextensions.k8s.io/v1", "CustomResourceDefinition")
    where = "spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.x.items"
    assert problems == [f'unknown field "{where}.bogus"', f'unknown field "{where}.additionalProperties.maxLenght"']
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["properties"]["spec"]["properties"]["x"]["items"] == {"type": "object", "additionalProperties": {}}


def test_rules_that_are_too_dear_are_refused_when_they_are_written_and_not_later() -> None:
    dear = {"type": "string", "x-kubernetes-validations": [{"rule": "self.split('').all(a, self.split('').all(b, a == b))"}]}
    found = spec_with({"x": dear})
    assert "estimated rule cost exceeds budget by factor of more than 100x" in faults(found)[0]
    same = copy.deepcopy(found)
    same["spec"]["names"]["shortNames"] = ["wd"]
    assert [str(each) for each in validate_update(same, found, resources.CUSTOM_RESOURCE_DEFINITIONS)] == []
    other = copy.deepcopy(found)
    other["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["x"]["maxLength"] = 10_000
    assert "exceeds budget" in str(validate_update(other, found, resources.CUSTOM_RESOURCE_DEFINITIONS)[0])


def test_a_default_must_keep_the_rules_that_it_stands_at() -> None:
    rule = {"rule": "self.min <= self.max", "message": "min is more than max"}
    bounds = {
        "type": "object",
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}},
        "x-kubernetes-validations": [rule],
    }
    assert faults(spec_with({"x": {**bounds, "default": {"min": 1, "max": 2}}})) == []
    found = faults(spec_with({"x": {**bounds, "default": {"min": 3, "max": 2}}}))
    assert found == [f'{X}.default: Invalid value: "object": min is more than max']
    assert "no such key: min" in faults(spec_with({"x": {**bounds, "default": {}}}))[0]


def test_what_stands_at_the_root_of_a_schema() -> None:
    def root(subresources: Obj | None = None, **more: Any) -> list[str]:
        found = crd(
            {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}, **more}
        )
        if subresources is not None:
            found["spec"]["versions"][0]["subresources"] = subresources
        return faults(found)

    choice = [{"required": ["spec"]}]
    assert root(anyOf=choice) == []
    (fault,) = root({"status": {}}, anyOf=choice)
    assert fault.startswith(f'{ROOT}: Invalid value: ["anyOf"]: only description type format title')
    assert root({"status": {}}, required=["spec"], description="x") == []
    named = {
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}},
        "kind": {"type": "string", "default": "y"},
    }
    assert root(properties=named) == [
        f"{ROOT}.properties[kind].default: Forbidden: must not be set in top-level kind",
        f"{ROOT}.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata",
    ]
