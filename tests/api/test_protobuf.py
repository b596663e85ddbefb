"""Protobuf bodies: objects survive the way there and back, Go's zero values vanish, and no bytes can do harm."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kubeling.api import builtin, protobuf
from kubeling.api.decode import DecodeError, decode
from kubeling.api.protobuf.plans import plan_of

from .conftest import MakeObject, every_kind


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return protobuf.envelope(api_version, kind, raw)


@pytest.mark.parametrize(("api_version", "kind"), every_kind())
def test_objects_of_every_kind_survive_both_ways_and_pass_the_door(api_version: str, kind: str, make_object: MakeObject) -> None:
    for seed in range(6):
        obj = make_object(api_version, kind, seed, fill=0.9 if seed == 0 and kind not in _BIG else 0.3)
        assert protobuf.decode(protobuf.encode(obj)) == obj
        assert decode(obj, api_version, kind, strict=True) == (obj, [])


#: Full of pod templates: filled up they would be megabytes.
_BIG = {"ControllerRevision", "CustomResourceDefinition", "CustomResourceDefinitionList", "ConversionReview"}


# Bodies by hand, field for field as the Go types marshal them.
def length(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, payload: bytes) -> bytes:
    return length(number << 3 | 2) + length(len(payload)) + payload


def varint(number: int, value: int) -> bytes:
    assert 0 <= value < 128
    return bytes([number << 3, value])


def test_what_kubectl_sends_for_create_deployment() -> None:
    metadata = field(1, b"web") + field(2, b"") + field(3, b"") + varint(7, 0) + field(8, b"")
    template = field(1, field(8, b"")) + field(
        2, field(2, field(1, b"nginx") + field(2, b"nginx") + field(8, b"")) + field(3, b"")
    )
    spec = (
        varint(1, 0)
        + field(2, field(1, field(1, b"app") + field(2, b"web")))
        + field(3, template)
        + field(4, field(1, b""))
        + varint(5, 0)
        + varint(7, 0)
    )
    status = varint(1, 0) + varint(2, 0)
    body = envelope("apps/v1", "Deployment", field(1, metadata) + field(2, spec) + field(3, status))
    assert protobuf.decode(body) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "nginx", "image": "nginx"}]}},
        },
    }


def test_embedded_structs_are_nested_on_the_wire_and_flat_in_json() -> None:
    volume = field(1, b"v") + field(2, field(19, field(1, field(1, b"cm")) + varint(4, 0)))
    found = protobuf.decode(envelope("v1", "Pod", field(2, field(1, volume))))
    assert found["spec"] == {"volumes": [{"name": "v", "configMap": {"name": "cm", "optional": False}}]}


def test_a_pointer_to_an_empty_message_stays() -> None:
    volume = field(1, b"v") + field(2, field(2, b""))
    found = protobuf.decode(envelope("v1", "Pod", field(2, field(1, volume) + field(14, b""))))
    assert found["spec"] == {"volumes": [{"name": "v", "emptyDir": {}}], "securityContext": {}}


def test_numbers_that_json_clients_always_send_are_there_when_zero() -> None:
    found = protobuf.decode(envelope("scheduling.k8s.io/v1", "PriorityClass", field(1, field(1, b"low")) + varint(2, 0)))
    assert found["value"] == 0


def test_int_or_string_and_negative_numbers() -> None:
    port = field(4, varint(1, 0) + varint(2, 80)) + varint(3, 80)
    named = field(4, varint(1, 1) + varint(2, 0) + field(3, b"http")) + varint(3, 81)
    found = protobuf.decode(envelope("v1", "Service", field(2, field(1, port) + field(1, named))))
    assert found["spec"]["ports"] == [{"port": 80, "targetPort": 80}, {"port": 81, "targetPort": "http"}]
    minus_one = b"\x08" + b"\xff" * 9 + b"\x01"
    assert protobuf.decode(envelope("apps/v1", "Deployment", field(2, minus_one)))["spec"] == {"replicas": -1}


def test_times_are_null_when_all_zero() -> None:
    found = protobuf.decode(
        envelope("coordination.k8s.io/v1", "Lease", field(1, field(8, varint(1, 0) + varint(2, 0)) + field(1, b"l")))
    )
    assert found["metadata"] == {"name": "l"}


def test_extra_values_are_lists() -> None:
    spec = field(5, field(1, b"scopes") + field(2, field(1, b"a") + field(1, b"b")))
    found = protobuf.decode(envelope("authorization.k8s.io/v1", "SubjectAccessReview", field(2, spec)))
    assert found["spec"] == {"extra": {"scopes": ["a", "b"]}}


def test_unknown_numbers_are_skipped() -> None:
    future = b"\xfa\x7f\x03abc"
    assert protobuf.decode(envelope("v1", "ConfigMap", future + field(1, field(1, b"c"))))["metadata"] == {"name": "c"}


def test_delete_options_come_under_any_version() -> None:
    body = envelope("policy/v1", "DeleteOptions", varint(1, 0) + field(4, b"Background"))
    assert protobuf.decode(body) == {
        "apiVersion": "policy/v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Background",
    }


def test_a_watch_frame_has_a_length_and_an_enveloped_object() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    frame = protobuf.encode_watch_event("ADDED", protobuf.encode(pod))
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    plan = plan_of(builtin.message("meta.v1.WatchEvent"))
    message = plan.new()
    message.MergeFromString(frame[4:])
    event: dict[str, Any] = {}
    plan.read(message, event)
    assert event == {"type": "ADDED", "object": pod}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"k8s",
        b"{}",
        b"k8s\x00",
        b"k8s\x00\xff\xff",
        envelope("v1", "Pod", b"\xff"),
        envelope("v1", "Pod", b"\x0a\x7f"),
        envelope("v1", "Pod", field(1, field(1, b"\xff\xfe"))),
        envelope("v1", "Nonsense", b""),
        envelope("example.com/v1", "Pod", b""),
        envelope("v1", "Pod", field(1, field(8, b"\x08" + b"\xff" * 8 + b"\x7f"))),
        envelope("v1", "LimitRange", field(2, field(1, field(2, field(1, b"cpu") + field(2, field(1, b"much")))))),
        envelope("apps/v1", "ControllerRevision", field(2, field(1, b"{"))),
        envelope("v1", "Pod", b"\x0a\x02" * 4000),
    ],
)
def test_bytes_that_make_no_sense_are_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        protobuf.decode(body)
    assert caught.value.code == 400
    assert caught.value.message


def test_mutated_bodies_decode_or_are_refused(make_object: MakeObject) -> None:
    source = random.Random(7)
    for kind in ("Pod", "Service", "Event", "Secret"):
        body = protobuf.encode(make_object("v1", kind, 1, fill=0.5))
        for _ in range(500):
            mutant = bytearray(body)
            for _ in range(source.randint(1, 5)):
                mutant[source.randrange(len(mutant))] = source.randrange(256)
            try:
                protobuf.decode(bytes(mutant[: source.randrange(len(mutant))] if source.random() < 0.3 else mutant))
            except DecodeError:
                continue


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]},
    }


def test_nesting_is_bounded() -> None:
    assert protobuf.decode(protobuf.encode(nested(20))) == nested(20)
    raw = field(5, b"string")
    for _ in range(3000):
        raw = field(24, field(1, raw))
    body = field(2, field(7, field(1, b"v1") + field(4, field(1, raw))))
    with pytest.raises(DecodeError):
        protobuf.decode(envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", body))


def test_encoding_what_does_not_fit_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Pod does not fit"):
        protobuf.encode({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 1}})
    with pytest.raises(KeyError):
        protobuf.encode({"apiVersion": "example.com/v1", "kind": "Widget"})


def test_schemas_of_inline_messages_know_their_wire_place() -> None:
    rule = builtin.message("admissionregistration.v1.NamedRuleWithOperations")
    assert rule.inlines["ruleWithOperations"].number == 2
    assert rule.fields["apiGroups"].inline_of == "ruleWithOperations"
