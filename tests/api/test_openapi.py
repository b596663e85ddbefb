"""OpenAPI v3: what kubectl looks for is there, for every kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from kubeling.api import openapi, resources
from kubeling.api.openapi import gnostic, merge, version2
from kubeling.api.openapi.components import component_name
from kubeling.api.openapi.enums import ENUMS
from kubeling.api.resources import BUILTIN, Resource
from kubeling.api.schema import Schema

GROUP_VERSIONS = [
    f"{group}/{version}" if group else version for group, versions in resources.group_versions().items() for version in versions
]
DOCUMENTS: dict[str, dict[str, Any]] = {each: orjson.loads(openapi.document(each, BUILTIN)) for each in GROUP_VERSIONS}


def mark(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.mark.parametrize("group_version", GROUP_VERSIONS)
def test_every_reference_leads_somewhere_and_every_component_is_described(group_version: str) -> None:
    document = DOCUMENTS[group_version]
    schemas = document["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in references(document)} <= set(schemas)
    assert all(schema.get("description") for schema in schemas.values())


@pytest.mark.parametrize("group_version", GROUP_VERSIONS)
def test_every_patch_takes_field_validation_on_the_operation_itself(group_version: str) -> None:
    for path, method, operation in operations(DOCUMENTS[group_version]):
        if method == "patch" and operation["x-kubernetes-action"] == "patch":
            assert "fieldValidation" in {each["name"] for each in operation["parameters"]}, path
            assert "application/strategic-merge-patch+json" in operation["requestBody"]["content"], path


@pytest.mark.parametrize("group_version", GROUP_VERSIONS)
def test_operation_ids_are_unique_and_path_parameters_declared(group_version: str) -> None:
    document = DOCUMENTS[group_version]
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for path, item in document["paths"].items():
        names = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert names == {each["name"] for each in item.get("parameters", [])}, path


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda each: f"{each.group_version}.{each.plural}")
def test_explain_finds_the_kind_by_its_path_and_its_mark(resource: Resource) -> None:
    document = DOCUMENTS[resource.group_version]
    item = document["paths"][resource.path("{namespace}" if resource.namespaced else None)]
    assert any(
        operation["x-kubernetes-group-version-kind"] == mark(resource) for key, operation in item.items() if key != "parameters"
    )
    marked = [
        each
        for each in document["components"]["schemas"].values()
        if mark(resource) in each.get("x-kubernetes-group-version-kind", [])
    ]
    assert len(marked) == 1
    assert "metadata" in marked[0]["properties"]


def test_merge_metadata_stands_beside_the_lists() -> None:
    schemas = DOCUMENTS["v1"]["components"]["schemas"]
    ports = schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "containerPort"
    assert ports["x-kubernetes-patch-strategy"] == "merge"
    assert ports["x-kubernetes-list-map-keys"] == ["containerPort", "protocol"]
    volumes = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"]
    assert volumes["x-kubernetes-patch-strategy"] == "merge,retainKeys"
    assert schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"] == "TCP"
    assert schemas["io.k8s.api.core.v1.Volume"]["required"] == ["name"]
    assert "configMap" in schemas["io.k8s.api.core.v1.Volume"]["properties"]


def test_scale_and_eviction_carry_their_own_marks() -> None:
    paths = DOCUMENTS["apps/v1"]["paths"]
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["patch"]
    assert scale["x-kubernetes-group-version-kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    eviction = DOCUMENTS["v1"]["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"]
    assert eviction["x-kubernetes-group-version-kind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}


def test_the_index_changes_with_the_content() -> None:
    one = orjson.loads(openapi.index({"v1": openapi.fingerprint(b"a"), "apps/v1": openapi.fingerprint(b"b")}))["paths"]
    two = orjson.loads(openapi.index({"v1": openapi.fingerprint(b"a"), "apps/v1": openapi.fingerprint(b"c")}))["paths"]
    assert set(one) == {"api/v1", "apis/apps/v1"}
    assert one["api/v1"] == two["api/v1"]
    assert one["apis/apps/v1"] != two["apis/apps/v1"]
    assert one["api/v1"]["serverRelativeURL"].startswith("/openapi/v3/api/v1?hash=")


def test_documents_are_made_once() -> None:
    assert openapi.document("apps/v1", BUILTIN) is openapi.document("apps/v1", list(BUILTIN))


def test_kinds_without_built_in_types_do_not_offer_strategic_merge() -> None:
    widget = Resource("example.com", "v1", "widgets", "Widget")

    def schema_of(api_version: str, kind: str) -> Schema:
        raise KeyError(kind)

    document = orjson.loads(openapi.document("example.com/v1", [widget], schema_of=schema_of))
    patch = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    assert "application/merge-patch+json" in patch["requestBody"]["content"]
    assert document["components"]["schemas"]["com.example.v1.Widget"]["x-kubernetes-group-version-kind"] == [mark(widget)]


def test_values_are_named_where_a_field_is_one_of_a_few_words() -> None:
    schemas = {name: body for each in DOCUMENTS.values() for name, body in each["components"]["schemas"].items()}
    for message, of_fields in ENUMS.items():
        properties = schemas[component_name(message)]["properties"]
        for name, values in of_fields.items():
            assert properties[name]["enum"] == list(values) == sorted(values), (message, name)
            default = properties[name].get("default")
            assert default is None or default in values
    assert schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["restartPolicy"]["enum"] == ["Always", "Never", "OnFailure"]


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message, read by nothing but the rules of the wire."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            yield number, varint()
        elif wire == 1:
            at += 8
            yield number, data[at - 8 : at]
        else:
            assert wire == 2
            size = varint()
            at += size
            assert at <= len(data)
            yield number, data[at - size : at]


def named(data: bytes, field: int) -> dict[str, bytes]:
    entries = [dict(fields(content)) for number, content in fields(data) if number == field]
    return {entry[1].decode(): entry[2] for entry in entries}


def test_version_2_says_the_same_as_json_and_as_protobuf() -> None:
    as_json = version2.document(openapi.document(each, BUILTIN) for each in GROUP_VERSIONS)
    top = dict(fields(gnostic.document(as_json)))
    assert top[1] == b"2.0"
    assert dict(fields(top[2]))[1] == b"Kubernetes"
    definitions = named(top[9], 1)
    assert list(definitions) == list(as_json["definitions"])
    container = definitions["io.k8s.api.core.v1.Container"]
    schema = dict(fields(container))
    assert schema[4].decode() == as_json["definitions"]["io.k8s.api.core.v1.Container"]["description"]
    assert schema[19] == b"name"
    properties = named(schema[25], 1)
    assert list(properties) == list(as_json["definitions"]["io.k8s.api.core.v1.Container"]["properties"])
    extensions = {name: orjson.loads(dict(fields(value))[2]) for name, value in named(properties["ports"], 31).items()}
    assert extensions["x-kubernetes-patch-merge-key"] == "containerPort"
    kinds = {
        name: orjson.loads(dict(fields(value))[2]) for name, value in named(definitions["io.k8s.api.core.v1.Pod"], 31).items()
    }
    assert kinds["x-kubernetes-group-version-kind"] == [{"group": "", "version": "v1", "kind": "Pod"}]
    paths = named(top[8], 2)
    assert list(paths) == list(as_json["paths"])
    patch = dict(fields(dict(fields(paths["/api/v1/namespaces/{namespace}/pods/{name}"]))[8]))
    assert patch[5].decode() == as_json["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]["operationId"]


def test_parts_of_other_documents_come_in_with_what_they_lead_to_alone() -> None:
    def refers(name: str) -> dict[str, Any]:
        return {"schema": {"$ref": f"#/definitions/{name}"}}

    definitions = {"A": {"items": {"$ref": "#/definitions/B"}}, "B": {"type": "string"}, "C": {"$ref": "#/definitions/C"}}
    paths = {"/apis/x.io/v1/as": refers("A"), "/apis/x.io/v1beta1/as": refers("C"), "/apis/x.io/v1": refers("B")}
    found = merge.part({"paths": paths, "definitions": definitions}, "/apis/x.io/v1")
    assert (list(found["paths"]), sorted(found["definitions"])) == (["/apis/x.io/v1/as", "/apis/x.io/v1"], ["A", "B"])
    own = {"paths": {"/apis/x.io/v1": {}}, "definitions": {"B": {"type": "integer"}}, "info": {}}
    both = merge.merged(own, [found])
    assert both["paths"] == {"/apis/x.io/v1": {}, "/apis/x.io/v1/as": refers("A")}
    assert both["definitions"] == {
        "A": {"items": {"$ref": "#/definitions/B_v2"}},
        "B": {"type": "integer"},
        "B_v2": {"type": "string"},
    }
