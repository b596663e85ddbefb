"""Protobuf descriptors out of schemas.

They live in a pool of their own. When a kind is first met, its message and all that it reaches and that are not there yet become one file of that
pool; recursive messages need no more care than that. Fields are called `f<number>`, since the wire only knows the numbers.

A few messages are not what JSON shows: times, quantities, int-or-string, raw JSON. Those stand in one file by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from kubeling.api.schema import Field, Schema

_Proto = descriptor_pb2.FieldDescriptorProto
_SPECIAL_FILE = "kubeling/special.proto"
_PACKAGE = "kubeling.wire"
_POOL = descriptor_pool.DescriptorPool()
_FILES: dict[str, str] = {}

#: Name → fields: (name, number, type, repeated, message).
_SPECIALS: dict[str, list[tuple[str, int, int, bool, str]]] = {
    "Time": [("seconds", 1, _Proto.TYPE_INT64, False, ""), ("nanos", 2, _Proto.TYPE_INT32, False, "")],
    "Duration": [("nanos", 1, _Proto.TYPE_INT64, False, "")],
    "Quantity": [("text", 1, _Proto.TYPE_STRING, False, "")],
    "IntOrString": [
        ("type", 1, _Proto.TYPE_INT64, False, ""),
        ("int_value", 2, _Proto.TYPE_INT32, False, ""),
        ("str_value", 3, _Proto.TYPE_STRING, False, ""),
    ],
    "Raw": [("raw", 1, _Proto.TYPE_BYTES, False, "")],
    "Strings": [("items", 1, _Proto.TYPE_STRING, True, "")],
    # A schema stands in these as its bytes, which are the same on the wire.
    "SchemaOrList": [("schema", 1, _Proto.TYPE_BYTES, False, ""), ("schemas", 2, _Proto.TYPE_BYTES, True, "")],
    "SchemaOrBool": [("allows", 1, _Proto.TYPE_BOOL, False, ""), ("schema", 2, _Proto.TYPE_BYTES, False, "")],
    "SchemaOrStrings": [("schema", 1, _Proto.TYPE_BYTES, False, ""), ("property", 2, _Proto.TYPE_STRING, True, "")],
    "TypeMeta": [("api_version", 1, _Proto.TYPE_STRING, False, ""), ("kind", 2, _Proto.TYPE_STRING, False, "")],
    "Unknown": [
        ("type_meta", 1, _Proto.TYPE_MESSAGE, False, "TypeMeta"),
        ("raw", 2, _Proto.TYPE_BYTES, False, ""),
        ("content_encoding", 3, _Proto.TYPE_STRING, False, ""),
        ("content_type", 4, _Proto.TYPE_STRING, False, ""),
    ],
    "WatchEvent": [("type", 1, _Proto.TYPE_STRING, False, ""), ("object", 2, _Proto.TYPE_MESSAGE, False, "Raw")],
}
_BY_FORMAT = {
    "date-time": "Time",
    "micro-time": "Time",
    "duration": "Duration",
    "quantity": "Quantity",
    "int-or-string": "IntOrString",
    "raw": "Raw",
    "fields-v1": "Raw",
    "boxed": "Strings",
    "schema-or-list": "SchemaOrList",
    "schema-or-bool": "SchemaOrBool",
    "schema-or-strings": "SchemaOrStrings",
}
_BY_SCALAR = {
    ("string", ""): _Proto.TYPE_STRING,
    ("string", "byte"): _Proto.TYPE_BYTES,
    ("boolean", ""): _Proto.TYPE_BOOL,
    ("integer", "int32"): _Proto.TYPE_INT32,
    ("integer", "int64"): _Proto.TYPE_INT64,
    ("number", "double"): _Proto.TYPE_DOUBLE,
}


@cache
def special(name: str) -> Any:
    """The class of one of the messages by hand."""
    _add_specials()
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def message_class(schema: Schema) -> Any:
    """The class of a built-in message."""
    if schema.name not in _FILES:
        _add(schema)
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(_type_name(schema)[1:]))


def wire_fields(schema: Schema) -> Iterator[Field]:
    """The fields that the message itself has on the wire: what JSON shows flat is there as one nested message."""
    yield from schema.inlines.values()
    for field in schema.fields.values():
        if field.number and not field.inline_of:
            yield field


def _type_name(schema: Schema) -> str:
    return f".{_PACKAGE}.{schema.name.replace('.', '_')}"


def _file(name: str) -> descriptor_pb2.FileDescriptorProto:
    """An empty file. Edition 2023 tells absent from zero, as proto2 does, and refuses text that is not UTF-8, as proto3 does."""
    file = descriptor_pb2.FileDescriptorProto(name=name, package=_PACKAGE, syntax="editions", edition=descriptor_pb2.EDITION_2023)
    file.options.features.repeated_field_encoding = descriptor_pb2.FeatureSet.EXPANDED
    return file


@cache
def _add_specials() -> None:
    file = _file(_SPECIAL_FILE)
    for name, fields in _SPECIALS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated, target in fields:
            label = _Proto.LABEL_REPEATED if repeated else _Proto.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, type=kind, label=label)
            if target:
                added.type_name = f".{_PACKAGE}.{target}"
    _POOL.Add(file)


def _add(root: Schema) -> None:
    _add_specials()
    name = f"kubeling/{root.name}.proto"
    file = _file(name)
    depends = {_SPECIAL_FILE}
    added: dict[str, str] = {}
    waiting = [root]
    while waiting:
        schema = waiting.pop()
        if schema.name in added:
            continue
        if schema.name in _FILES:
            depends.add(_FILES[schema.name])
            continue
        added[schema.name] = name
        message = file.message_type.add(name=_type_name(schema).rpartition(".")[2])
        for field in wire_fields(schema):
            waiting += _add_field(message, field)
    file.dependency.extend(sorted(depends))
    _POOL.Add(file)
    _FILES.update(added)


def _add_field(message: descriptor_pb2.DescriptorProto, field: Field) -> list[Schema]:
    """Add a field; returns the messages that it needs."""
    schema = field.schema
    name = f"f{field.number}"
    if schema.type == "map" and schema.element is not None:
        entry = message.nested_type.add(name=f"F{field.number}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_Proto.TYPE_STRING, label=_Proto.LABEL_OPTIONAL)
        value = entry.field.add(name="value", number=2, label=_Proto.LABEL_OPTIONAL)
        added = message.field.add(name=name, number=field.number, type=_Proto.TYPE_MESSAGE, label=_Proto.LABEL_REPEATED)
        added.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
        return _set_type(value, schema.element)
    if schema.type == "list" and schema.format != "boxed" and schema.element is not None:
        added = message.field.add(name=name, number=field.number, label=_Proto.LABEL_REPEATED)
        return _set_type(added, schema.element)
    return _set_type(message.field.add(name=name, number=field.number, label=_Proto.LABEL_OPTIONAL), schema)


def _set_type(field: descriptor_pb2.FieldDescriptorProto, schema: Schema) -> list[Schema]:
    if schema.type == "object":
        field.type = _Proto.TYPE_MESSAGE
        field.type_name = _type_name(schema)
        return [schema]
    if schema.format in _BY_FORMAT:
        field.type = _Proto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{_BY_FORMAT[schema.format]}"
    else:
        field.type = _BY_SCALAR[schema.type, schema.format]
    return []
