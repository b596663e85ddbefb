"""Checks values against a schema, with pydantic's core.

One validator a kind, built at its first use out of the schemas of all messages that it reaches. Strict as Go is: no text for numbers, no numbers
for text, whole numbers within their size. Quantities, times, durations and bytes come out in their canonical form.

Unknown fields are refused here; the caller tidies the object up and comes again.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic_core import PydanticCustomError, PydanticOmit, SchemaValidator, ValidationError
from pydantic_core import core_schema as core

from kubeling.api import quantity, times
from kubeling.api.builtin import SCHEMA_MESSAGE, message
from kubeling.api.decode.body import literal
from kubeling.api.schema import Field, Schema

_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_INT32 = 2**31
_INT64 = 2**63


class Mismatch(Exception):
    """A value does not fit; the message is Go's."""


def check(schema: Schema, value: Any) -> dict[str, Any]:
    """A checked copy of an object. Raises Mismatch for the first value, in the order of the document, that does not fit."""
    validator = _VALIDATORS.get(schema.name)
    if validator is None:
        validator = _VALIDATORS[schema.name] = SchemaValidator(_definitions(schema))
    try:
        return validator.validate_python(value)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise Mismatch(_Story(schema, value, error)) from None


_VALIDATORS: dict[str, SchemaValidator] = {}
_MESSAGES: dict[str, core.CoreSchema] = {}


def _definitions(root: Schema) -> core.CoreSchema:
    needed: dict[str, core.CoreSchema] = {}
    waiting = [root]
    while waiting:
        schema = waiting.pop()
        if schema.name not in needed:
            if schema.name not in _MESSAGES:
                _MESSAGES[schema.name] = _typed_dict(schema)
            needed[schema.name] = _MESSAGES[schema.name]
            waiting += [target for field in schema.fields.values() if (target := _message_in(field.schema)) is not None]
    return core.definitions_schema(core.definition_reference_schema(root.name), list(needed.values()))


def _message_in(schema: Schema | None) -> Schema | None:
    while schema is not None and schema.type in ("list", "map"):
        schema = schema.element
    return schema if schema is not None and schema.type == "object" else None


def _typed_dict(schema: Schema) -> core.CoreSchema:
    fields = {name: core.typed_dict_field(_core(field.schema), required=False) for name, field in schema.fields.items()}
    return core.typed_dict_schema(fields, extra_behavior="forbid", ref=schema.name, strict=True)


def _core(schema: Schema) -> core.CoreSchema:
    match schema.type:
        case "object":
            return core.definition_reference_schema(schema.name)
        case "list" if schema.element is not None:
            return core.list_schema(_core(schema.element), strict=True)
        case "map" if schema.element is not None:
            return core.dict_schema(core.str_schema(strict=True), _core(schema.element), strict=True)
    return _SCALARS[schema.type, schema.format]


def _plain(function: Callable[[Any], Any]) -> core.CoreSchema:
    return core.no_info_plain_validator_function(function)


def _whole(limit: int) -> core.CoreSchema:
    return core.int_schema(strict=True, ge=-limit, lt=limit)


def _says(message: str) -> PydanticCustomError:
    return PydanticCustomError("go", "{message}", {"message": message})


def _quantity(value: Any) -> str:
    if type(value) is str or type(value) is int or type(value) is float:
        try:
            return _canonical(value)
        except ValueError:
            pass
    raise _says(quantity.WRONG)


@lru_cache(maxsize=4096)
def _canonical(value: str | float) -> str:
    return quantity.canonical(value)


def _text(value: Any, what: str = "string") -> str:
    if type(value) is str:
        return value
    raise _says(f"json: cannot unmarshal {literal(value)} into Go value of type {what}")


def _time(value: Any) -> str:
    text = _stamp(value)
    if _SECOND.fullmatch(text) is not None and _is_time(text):
        return text
    return _converted(lambda: times.format_time(times.parse_time(text)))


@lru_cache(maxsize=4096)
def _is_time(text: str) -> bool:
    try:
        times.parse_time(text)
    except ValueError:
        return False
    return True


def _stamp(value: Any) -> str:
    """Every object that a Go client writes says `creationTimestamp: null`; so this one null is dropped on the fast path."""
    if value is None:
        raise PydanticOmit
    return _text(value)


def _micro_time(value: Any) -> str:
    text = _stamp(value)
    return _converted(lambda: times.format_micro_time(times.parse_time(text)))


def _duration(value: Any) -> str:
    text = _text(value)
    return _converted(lambda: times.format_duration(times.parse_duration(text)))


def _converted(convert: Callable[[], str]) -> str:
    try:
        return convert()
    except (ValueError, OverflowError) as error:
        raise _says(str(error)) from None


def _bytes(value: Any) -> str:
    text = _text(value, "[]uint8")
    if "\n" in text or "\r" in text:
        text = text.replace("\n", "").replace("\r", "")
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise _says(f"illegal base64 data at input byte {_first_bad(text)}") from None
    return text


def _first_bad(text: str) -> int:
    good = re.match(r"[A-Za-z0-9+/]*", text)
    at = good.end() if good else 0
    return at if at < len(text) and text[at] != "=" else max(len(text) // 4 * 4, 0) if len(text) % 4 else at


def _number(value: Any) -> float:
    if type(value) in (int, float) and math.isfinite(value):
        return value  # type: ignore[no-any-return]
    raise PydanticCustomError("number", "no number")


def _int_or_string(value: Any) -> int | str:
    if type(value) is str:
        return value
    if type(value) is int and -_INT32 <= value < _INT32:
        return value
    what = f"number {value!r}" if type(value) in (int, float) else literal(value)
    raise _says(f"json: cannot unmarshal {what} into Go value of type int32")


def _schema_in(value: Any) -> Any:
    """A schema inside of a CustomResourceDefinition's schema, where something else may stand instead (a list, a boolean), which is not looked at here."""
    return check(message(SCHEMA_MESSAGE), value) if type(value) is dict else value


_SCALARS: dict[tuple[str, str], core.CoreSchema] = {
    ("string", ""): core.str_schema(strict=True),
    ("string", "byte"): _plain(_bytes),
    ("string", "date-time"): _plain(_time),
    ("string", "micro-time"): _plain(_micro_time),
    ("string", "duration"): _plain(_duration),
    ("string", "quantity"): _plain(_quantity),
    ("boolean", ""): core.bool_schema(strict=True),
    ("integer", "int32"): _whole(_INT32),
    ("integer", "int64"): _whole(_INT64),
    ("number", "double"): _plain(_number),
    ("any", "int-or-string"): _plain(_int_or_string),
    ("any", "raw"): core.any_schema(),
    ("any", "fields-v1"): core.dict_schema(strict=True),
    ("any", "schema-or-list"): _plain(_schema_in),
    ("any", "schema-or-bool"): _plain(_schema_in),
    ("any", "schema-or-strings"): core.any_schema(),
}


class _Story:
    """The message of a mismatch, told only when somebody asks: the first refusal of an object is mostly a null or an unknown field."""

    __slots__ = ("error", "schema", "value")

    def __init__(self, schema: Schema, value: Any, error: ValidationError) -> None:
        self.schema = schema
        self.value = value
        self.error = error

    def __str__(self) -> str:
        faults = self.error.errors(include_url=False, include_context=False, include_input=False)
        first = min(faults, key=lambda fault: _place(self.value, fault["loc"]))
        if first["type"] == "go":
            return first["msg"]
        return _go_message(self.schema, self.value, first["loc"])


def _place(value: Any, loc: tuple[int | str, ...]) -> tuple[int, ...]:
    """Where in the document a path leads, as something to sort by."""
    places = []
    for step in loc:
        if isinstance(value, dict) and step in value:
            places.append(list(value).index(step))
        elif isinstance(value, list) and isinstance(step, int):
            places.append(step)
        else:
            break
        value = value[step]
    return tuple(places)


def _go_message(schema: Schema, value: Any, loc: tuple[int | str, ...]) -> str:
    owner: Schema | None = None
    names: list[str] = []
    for step in loc:
        field: Field | None = schema.fields.get(str(step)) if schema.type == "object" else None
        if isinstance(value, dict):
            value = value.get(str(step), value)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
        if field is not None:
            owner, schema = schema, field.schema
            names.append(str(step))
        elif schema.element is not None and schema.type in ("list", "map") and step != "[key]":
            schema = schema.element
    what = literal(value)
    if what == "number" and schema.type == "integer":
        what = f"number {value!r}"
    if owner is None:
        return f"json: cannot unmarshal {what} into Go value of type {go_type(schema)}"
    place = f"{owner.name.rpartition('.')[2]}.{'.'.join(names)}"
    return f"json: cannot unmarshal {what} into Go struct field {place} of type {go_type(schema)}"


_GO = {"int32": "int32", "int64": "int64", "double": "float64", "fields-v1": "v1.FieldsV1", "raw": "runtime.RawExtension"}


def go_type(schema: Schema) -> str:
    """What Go calls the type."""
    match schema.type:
        case "object":
            group, _, short = schema.name.rpartition(".")
            return f"{group.rpartition('.')[2]}.{short}"
        case "list" if schema.element is not None:
            return f"[]{go_type(schema.element)}"
        case "map" if schema.element is not None:
            return f"map[string]{go_type(schema.element)}"
        case "boolean":
            return "bool"
        case "string":
            return {"quantity": "resource.Quantity", "byte": "[]uint8", "date-time": "v1.Time", "micro-time": "v1.MicroTime"}.get(
                schema.format, "string"
            )
    return _GO.get(schema.format, schema.type)
