"""OpenAPI v2 as protobuf: the form in which kubectl before 1.29 and programs on client-go ask for it.

The messages are those of gnostic (`openapi.v2.Document`). Only what our documents hold is written, by plain field numbers: a value that protobuf has no place
for (a default, an `x-` extension) is an `Any` with its YAML, and JSON is YAML.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

Json = dict[str, Any]

_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13, "discriminator": 26}
_SCHEMA_NUMBERS = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_SCHEMA_COUNTS = {"maxLength": 11, "minLength": 12, "maxItems": 14, "minItems": 15, "maxProperties": 17, "minProperties": 18}
_SCHEMA_FLAGS = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16, "readOnly": 27}
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
#: Where a parameter is → its field in NonBodyParameter, and the numbers of its fields.
_PLACES = {
    "header": (1, {"in": 2, "description": 3, "name": 4, "type": 5, "format": 6, "default": 9}),
    "formData": (2, {"in": 2, "description": 3, "name": 4, "type": 6, "format": 7, "default": 10}),
    "query": (3, {"in": 2, "description": 3, "name": 4, "type": 6, "format": 7, "default": 10}),
    "path": (4, {"in": 2, "description": 3, "name": 4, "type": 5, "format": 6, "default": 9}),
}


def document(found: Json) -> bytes:
    """The bytes of a document."""
    info = _text(1, found["info"]["title"]) + _text(2, found["info"]["version"])
    paths = b"".join(_message(2, _named(path, _item(item))) for path, item in found["paths"].items())
    definitions = _named_all(1, found["definitions"], _schema)
    return _text(1, found["swagger"]) + _message(2, info) + _message(8, paths) + _message(9, definitions)


# -- the wire ------------------------------------------------------------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode()) if text else b""


def _texts(field: int, texts: Iterable[str]) -> bytes:
    return b"".join(_message(field, each.encode()) for each in texts)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _flag(field: int, value: bool) -> bytes:
    return _number(field, 1) if value else b""


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


# -- what is shared ------------------------------------------------------------------------------------------------------------------------------------


def _any(value: Any) -> bytes:
    return _message(2, orjson.dumps(value))


def _named(name: str, content: bytes) -> bytes:
    return _text(1, name) + _message(2, content)


def _named_all(field: int, values: Mapping[str, Any], encode: Callable[[Any], bytes]) -> bytes:
    return b"".join(_message(field, _named(name, encode(value))) for name, value in values.items())


def _extensions(field: int, obj: Json) -> bytes:
    return _named_all(field, {name: value for name, value in obj.items() if name.startswith("x-")}, _any)


# -- paths ---------------------------------------------------------------------------------------------------------------------------------------------


def _item(item: Json) -> bytes:
    methods = b"".join(_message(field, _operation(item[name])) for name, field in _METHODS.items() if name in item)
    return methods + _parameters(9, item) + _extensions(10, item)


def _operation(operation: Json) -> bytes:
    responses = _named_all(1, operation["responses"], _response)
    return b"".join(
        (
            _texts(1, operation.get("tags") or ()),
            _text(3, operation.get("description", "")),
            _text(5, operation.get("operationId", "")),
            _texts(6, operation.get("produces") or ()),
            _texts(7, operation.get("consumes") or ()),
            _parameters(8, operation),
            _message(9, responses),
            _extensions(13, operation),
        )
    )


def _parameters(field: int, holder: Json) -> bytes:
    return b"".join(_message(field, _message(1, _parameter(each))) for each in holder.get("parameters") or ())


def _parameter(parameter: Json) -> bytes:
    if parameter["in"] == "body":
        texts = _text(1, parameter.get("description", "")) + _text(2, parameter["name"]) + _text(3, "body")
        return _message(1, texts + _flag(4, bool(parameter.get("required"))) + _message(5, _schema(parameter["schema"])))
    place, fields = _PLACES[parameter["in"]]
    content = _flag(1, bool(parameter.get("required")))
    for name, field in fields.items():
        if name == "default":
            content += _message(field, _any(parameter[name])) if name in parameter else b""
        else:
            content += _text(field, parameter.get(name, ""))
    return _message(2, _message(place, content))


def _response(response: Json) -> bytes:
    schema = _message(2, _message(1, _schema(response["schema"]))) if "schema" in response else b""
    return _message(1, _text(1, response["description"]) + schema)


# -- schemas -------------------------------------------------------------------------------------------------------------------------------------------


def _schema(schema: Json) -> bytes:
    out: list[bytes] = []
    for name, value in schema.items():
        if name in _SCHEMA_TEXTS:
            out.append(_text(_SCHEMA_TEXTS[name], value))
        elif name in _SCHEMA_NUMBERS:
            out.append(_double(_SCHEMA_NUMBERS[name], value))
        elif name in _SCHEMA_COUNTS:
            out.append(_number(_SCHEMA_COUNTS[name], value))
        elif name in _SCHEMA_FLAGS:
            out.append(_flag(_SCHEMA_FLAGS[name], value))
        elif name in _SCHEMA_PARTS:
            out.append(_SCHEMA_PARTS[name](value))
    out.append(_extensions(31, schema))
    return b"".join(out)


def _additional(value: Any) -> bytes:
    return _message(21, _number(2, int(value)) if isinstance(value, bool) else _message(1, _schema(value)))


def _items(value: Any) -> bytes:
    each = value if isinstance(value, list) else [value]
    return _message(23, b"".join(_message(1, _schema(one)) for one in each))


_SCHEMA_PARTS: dict[str, Callable[[Any], bytes]] = {
    "default": lambda value: _message(5, _any(value)),
    "required": lambda value: _texts(19, value),
    "enum": lambda value: b"".join(_message(20, _any(each)) for each in value),
    "additionalProperties": _additional,
    "type": lambda value: _message(22, _texts(1, [value] if isinstance(value, str) else value)),
    "items": _items,
    "properties": lambda value: _message(25, _named_all(1, value, _schema)),
    "example": lambda value: _message(30, _any(value)),
}
