"""Kubernetes' protobuf bodies, both ways between bytes and JSON objects.

A body is four magic bytes and an envelope (`runtime.Unknown`) with apiVersion, kind and the bytes of the object, which does not repeat them. The
messages are those of the built-in kinds; their descriptors are made from the field numbers in :mod:`kubeling.api.types` when a kind is first met
(:mod:`.descriptors`), and protobuf's own runtime does the parsing. :mod:`.plans` knows how the JSON form differs.

Unknown field numbers, from newer clients, are skipped. Custom resources have no protobuf form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from google.protobuf.message import DecodeError as _Malformed

from kubeling.api.builtin import schema_of
from kubeling.api.decode import DecodeError
from kubeling.api.protobuf.descriptors import special
from kubeling.api.protobuf.plans import Plan, plan_of

__all__ = [
    "CONTENT_TYPE",
    "MAGIC",
    "decode",
    "decode_raw",
    "encode",
    "encode_list",
    "encode_raw",
    "encode_watch_event",
    "envelope",
    "is_known",
]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"


def decode(body: bytes, api_version: str = "", kind: str = "") -> dict[str, Any]:
    """The object in an enveloped body, with its apiVersion and kind. Zero values of fields that are no pointers are absent.

    `api_version` and `kind` are used where the envelope says neither.

    Raises DecodeError (a 400) for whatever is wrong with the bytes, and for kinds that are not built in.
    """
    given_version, given_kind, raw, content_type = _open(body)
    api_version, kind = given_version or api_version, given_kind or kind
    if not kind:
        raise DecodeError("Object 'Kind' is missing in the protobuf envelope")
    if content_type == "application/json":
        return _json(raw)
    return decode_raw(raw, api_version, kind)


def decode_raw(raw: bytes, api_version: str, kind: str) -> dict[str, Any]:
    """As :func:`decode`, of the object's own bytes without the envelope."""
    plan = _plan(api_version, kind)
    try:
        message = plan.new()
        message.MergeFromString(raw)
        found = {"apiVersion": api_version, "kind": kind}
        plan.read(message, found)
    except (_Malformed, ValueError, OverflowError, RecursionError) as error:
        raise DecodeError(f"unable to decode {kind} from protobuf: {error or type(error).__name__}") from None
    return found


def encode(obj: dict[str, Any]) -> bytes:
    """The enveloped body of a built-in object, list, Status or options, which must carry apiVersion and kind.

    Raises KeyError for a kind that is not built in, ValueError for an object that is not as its schema says.
    """
    return envelope(obj["apiVersion"], obj["kind"], encode_raw(obj, obj["apiVersion"], obj["kind"]))


def encode_list(empty: dict[str, Any], items: Sequence[bytes]) -> tuple[Iterator[bytes], int]:
    """The enveloped body of a list in pieces of some 64 KB, and its length. `empty` is the list without items, which come as :func:`encode_raw` makes them."""
    head = encode_raw(empty, empty["apiVersion"], empty["kind"])
    length = len(head) + sum([1 + _varint_size(len(each)) + len(each) for each in items])
    # Field 2 of the envelope is the list, field 2 of a list an item.
    opening = envelope(empty["apiVersion"], empty["kind"], None) + b"\x12" + _varint(length) + head
    return _pieces(opening, items), len(opening) - len(head) + length


_PIECE = 64 * 1024


def _pieces(opening: bytes, items: Sequence[bytes]) -> Iterator[bytes]:
    gathered, size = [opening], 0
    for each in items:
        gathered += (b"\x12", _varint(len(each)), each)
        size += len(each)
        if size > _PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _varint_size(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def encode_raw(obj: dict[str, Any], api_version: str, kind: str) -> bytes:
    """The object's own bytes, without the envelope."""
    plan = plan_of(schema_of(api_version, kind))
    try:
        message = plan.new()
        plan.write(message, obj)
        return bytes(message.SerializeToString())
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{kind} does not fit its schema: {error}") from error


def envelope(api_version: str, kind: str, raw: bytes | None) -> bytes:
    """Put the object's bytes into a body; where they are None, all that comes before them."""
    unknown = special("Unknown")()
    unknown.type_meta.api_version = api_version
    unknown.type_meta.kind = kind
    if raw is not None:
        unknown.raw = raw
    return MAGIC + bytes(unknown.SerializeToString())


def encode_watch_event(event_type: str, body: bytes) -> bytes:
    """One frame of a watch (`;stream=watch`): its length in four bytes, then a WatchEvent around an enveloped object."""
    event = special("WatchEvent")()
    event.type = event_type
    event.object.raw = body
    frame = bytes(event.SerializeToString())
    return len(frame).to_bytes(4, "big") + frame


def is_known(api_version: str, kind: str) -> bool:
    """Whether the kind has a protobuf form."""
    try:
        schema_of(api_version, kind)
    except KeyError:
        return False
    return True


def _open(body: bytes) -> tuple[str, str, bytes, str]:
    if body[:4] != MAGIC:
        raise DecodeError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    unknown = special("Unknown")()
    try:
        unknown.MergeFromString(body[4:])
        meta = unknown.type_meta
        found = meta.api_version, meta.kind, unknown.raw, unknown.content_type
        if unknown.content_encoding:
            raise DecodeError(f"content encoding {unknown.content_encoding!r} is not supported")
    except (_Malformed, ValueError):
        raise DecodeError("provided data is not a well-formed protobuf envelope") from None
    return found


def _json(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"unable to decode the JSON in the protobuf envelope: {error}") from None
    if not isinstance(found, dict):
        raise DecodeError("the JSON in the protobuf envelope is no object")
    return found


def _plan(api_version: str, kind: str) -> Plan:
    try:
        return plan_of(schema_of(api_version, kind))
    except KeyError:
        raise DecodeError(f'no kind "{kind}" is registered for version "{api_version}"') from None
