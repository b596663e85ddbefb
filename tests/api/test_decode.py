"""The door: what passes, what is dropped and said, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubeling.api.decode import DecodeError, decode, loads_json, warm_up

POD_TEMPLATE = {"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}


def deployment(obj: Any, **more: Any) -> tuple[dict[str, Any], list[str]]:
    return decode(obj, "apps/v1", "Deployment", **more)


def refused(obj: Any, api_version: str = "apps/v1", kind: str = "Deployment") -> str:
    with pytest.raises(DecodeError) as caught:
        decode(obj, api_version, kind)
    assert caught.value.code == 400
    start = f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}: '
    assert caught.value.message.startswith(start)
    return caught.value.message.removeprefix(start)


def test_nulls_are_absent() -> None:
    obj = {
        "metadata": {"name": "a", "creationTimestamp": None, "labels": None},
        "spec": {"replicas": None, "template": {"spec": None}},
    }
    assert deployment(obj) == ({"metadata": {"name": "a"}, "spec": {"template": {}}}, [])
    assert obj["metadata"]["creationTimestamp"] is None


def test_nulls_become_zero_where_something_must_stand() -> None:
    found, _ = decode({"metadata": {"labels": {"a": None}, "finalizers": ["x", None]}, "data": {"k": None}}, "v1", "ConfigMap")
    assert found == {"metadata": {"labels": {"a": ""}, "finalizers": ["x", ""]}, "data": {"k": ""}}


def test_unknown_fields_are_dropped_and_named_in_their_order() -> None:
    obj = {
        "spec": {
            "template": {"spec": {"containers": [{"foo": 1, "name": "c"}, {"name": "d", "ports": [{"x": {}}]}]}},
            "bar": None,
        },
        "metadata": {"lables": {"a": "b"}},
        "datas": 1,
    }
    found, problems = deployment(obj)
    assert found == {
        "spec": {"template": {"spec": {"containers": [{"name": "c"}, {"name": "d", "ports": [{}]}]}}},
        "metadata": {},
    }
    assert problems == [
        'unknown field "spec.template.spec.containers[0].foo"',
        'unknown field "spec.template.spec.containers[1].ports[0].x"',
        'unknown field "spec.bar"',
        'unknown field "metadata.lables"',
        'unknown field "datas"',
    ]


def test_strict_refuses_what_is_odd() -> None:
    with pytest.raises(DecodeError) as caught:
        decode({"datas": {}, "metadata": {"lables": {}}}, "v1", "ConfigMap", strict=True, duplicates=['duplicate field "a"'])
    assert caught.value.message == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
        'strict decoding error: duplicate field "a", unknown field "datas", unknown field "metadata.lables"'
    )


def test_findings_are_limited() -> None:
    _, problems = decode({f"x{i}": 1 for i in range(1000)}, "v1", "ConfigMap")
    assert len(problems) == 100


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": True}},
            "json: cannot unmarshal bool into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 2**31}},
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"metadata": {"generation": 2**70}},
            f"json: cannot unmarshal number {2**70} into Go struct field ObjectMeta.metadata.generation of type int64",
        ),
        (
            {"spec": {"template": {"spec": {"containers": [{"name": 1}]}}}},
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type string",
        ),
        (
            {"spec": {"template": {"spec": {"containers": {"name": "c"}}}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        ({"metadata": "x"}, "json: cannot unmarshal string into Go struct field Deployment.metadata of type v1.ObjectMeta"),
        (
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            {"metadata": {"labels": ["a"]}},
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            {"spec": {"strategy": {"rollingUpdate": {"maxSurge": True}}}},
            "json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            {"metadata": {"creationTimestamp": "soon"}},
            'parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon"',
        ),
        ([], "json: cannot unmarshal array into Go value of type v1.Deployment"),
        ("x", "json: cannot unmarshal string into Go value of type v1.Deployment"),
    ],
)
def test_wrong_types_are_refused_in_go_s_words(obj: Any, message: str) -> None:
    assert refused(obj) == message


def test_the_first_fault_of_the_document_is_told() -> None:
    spec = {"paused": "no", "replicas": "3"}
    assert "DeploymentSpec.spec.paused" in refused({"unknown": 1, "spec": spec, "metadata": {"name": 1}})


@pytest.mark.parametrize(
    ("given", "kept"), [("1024Mi", "1Gi"), ("0.5", "500m"), (1, "1"), (1.5, "1500m"), ("2", "2"), (" 3 ", "3")]
)
def test_quantities_become_canonical_text(given: Any, kept: str) -> None:
    found, _ = decode({"spec": {"hard": {"x": given}}}, "v1", "ResourceQuota")
    assert found["spec"]["hard"]["x"] == kept


@pytest.mark.parametrize("given", ["much", True, [], {}, ""])
def test_what_is_no_quantity_is_refused(given: Any) -> None:
    assert refused({"spec": {"hard": {"x": given}}}, "v1", "ResourceQuota").startswith("quantities must match")


def test_times_become_canonical() -> None:
    lease = {"metadata": {"creationTimestamp": "2026-11-20T23:54:00+01:00"}, "spec": {"renewTime": "2026-11-20T23:54:00.5Z"}}
    found, _ = decode(lease, "coordination.k8s.io/v1", "Lease")
    assert found == {
        "metadata": {"creationTimestamp": "2026-11-20T22:54:00Z"},
        "spec": {"renewTime": "2026-11-20T23:54:00.500000Z"},
    }
    for wrong in ("2026-13-20T23:54:00Z", "2026-11-20T25:54:00Z", 7, True):
        assert refused({"metadata": {"creationTimestamp": wrong}})


def test_bytes_must_be_base64() -> None:
    assert decode({"data": {"a": "YW\nI="}}, "v1", "Secret")[0] == {"data": {"a": "YWI="}}
    assert refused({"data": {"a": "YW?="}}, "v1", "Secret") == "illegal base64 data at input byte 2"
    assert refused({"data": {"a": "YWI"}}, "v1", "Secret") == "illegal base64 data at input byte 0"


def test_opaque_values_keep_their_nulls() -> None:
    data = {"kind": "X", "a": None, "b": [None]}
    assert decode({"data": data, "revision": 1, "x": 1}, "apps/v1", "ControllerRevision")[0]["data"] == data


def test_schemas_within_definitions_may_nest_and_be_bools() -> None:
    props = {
        "type": "object",
        "properties": {"a": {"items": {"type": "string"}}, "b": {"additionalProperties": True}},
        "x-kubernetes-int-or-string": True,
    }
    crd = {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": props}}]}}
    assert decode(crd, "apiextensions.k8s.io/v1", "CustomResourceDefinition", strict=True) == (crd, [])


def test_the_input_is_not_shared_or_changed() -> None:
    given = {"metadata": {"labels": {"a": "b"}}}
    found, _ = deployment(given)
    found["metadata"]["labels"]["a"] = "c"
    assert given == {"metadata": {"labels": {"a": "b"}}}


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        decode({}, "example.com/v1", "Widget")


def test_duplicate_keys_are_found_in_raw_json() -> None:
    body = b'{"a": 1, "a": 2, "b": {"c": 1, "c": 2, "c": 3}, "l": [{"z": 1}, {"z": 1, "z": 1}], "d.e": {"f": 1}}'
    value, problems = loads_json(body, duplicates=True)
    assert value == {"a": 2, "b": {"c": 3}, "l": [{"z": 1}, {"z": 1}], "d.e": {"f": 1}}
    assert problems == ['duplicate field "a"', 'duplicate field "b.c"', 'duplicate field "l[1].z"']
    assert loads_json(body) == (value, [])
    assert loads_json(orjson.dumps(value), duplicates=True) == (value, [])
    assert loads_json(b'{"a":"\\u003c"}', duplicates=True) == ({"a": "<"}, [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"a" 1}',
        b'{"a":1}x',
        b"NaN",
        b'{"a":Infinity}',
        b"\xff\xfe",
        b"'a'",
        b"[" * 300 + b"]" * 300,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        loads_json(body, duplicates=True)
    assert caught.value.code == 400
    assert "json parse error" in caught.value.message


def test_wide_and_long_bodies_are_fine() -> None:
    wide = orjson.dumps([[[]] * 1000, {"a": "[" * 1000}])
    assert loads_json(wide)[0] == orjson.loads(wide)
    assert loads_json(b"[" * 200 + b"]" * 200)


def test_numbers_beyond_64_bits_do_not_pass_for_integers() -> None:
    value, _ = loads_json(b'{"spec":{"replicas":123456789012345678901234567890}}')
    assert "into Go struct field DeploymentSpec.spec.replicas of type int32" in refused(value)


def test_numbers_of_schemas_keep_their_form() -> None:
    def crd(maximum: Any) -> dict[str, Any]:
        return {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"maximum": maximum}}}]}}

    kind = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    for number in (1, 1.5, -(2**62)):
        found, _ = decode(crd(number), *kind)
        assert repr(found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["maximum"]) == repr(number)
    where = "JSONSchemaProps.spec.versions.schema.openAPIV3Schema.maximum of type float64"
    assert refused(crd("1.5"), *kind) == f"json: cannot unmarshal string into Go struct field {where}"
    assert refused(crd(True), *kind) == f"json: cannot unmarshal bool into Go struct field {where}"


def test_warming_up_changes_nothing() -> None:
    warm_up([("v1", "Pod"), ("apps/v1", "Deployment")])
    assert decode({}, "v1", "Pod") == ({}, [])


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ('{"a": 1, "b": {"c": [{"d": 1}, {"d": 2}]}}', []),
        ('{"a": 1, "b" : {"c": 2, "c": 3}}', ["b.c"]),
        # Text that looks like the end of a key hides nothing, and is not taken for a key.
        ('{"a": "x\\":", "b": 1}', []),
        ('{"a": "x\\":", "a": 1}', ["a"]),
        ('{"a": 1, "\\u0061": 2}', ["a"]),
        ('[{"a": 1}, {"a": 1, "a": 1}]', ["[1].a"]),
    ],
)
def test_keys_that_stand_twice_are_found_in_text_with_spaces(text: str, twice: list[str]):
    assert loads_json(text.encode(), duplicates=True)[1] == [f'duplicate field "{each}"' for each in twice]
