"""How a message and its JSON form relate: for each field a reader and a writer, made once.

Reading drops what Go would not show: zero values and empty messages of fields that are no pointers. A number or boolean that is required or always
shown stays, since JSON clients send it. Writing leaves out what is absent; empty lists and maps have no form on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from kubeling.api.builtin import message as builtin_message
from kubeling.api.protobuf import values
from kubeling.api.protobuf.descriptors import message_class, wire_fields
from kubeling.api.schema import Field, Schema

_Reader = Callable[[dict[str, Any], Any], None]
_Writer = Callable[[Any, Any], None]


class Plan:
    """Of one message. `new()` makes an empty one."""

    __slots__ = ("_inlines", "_readers", "_writers", "new")

    def __init__(self, schema: Schema) -> None:
        self.new: Callable[[], Any] = message_class(schema)
        self._readers: dict[int, _Reader] = {}
        self._writers: dict[str, _Writer] = {}
        self._inlines: list[tuple[str, Plan, frozenset[str]]] = []
        for field in wire_fields(schema):
            if field.name in schema.inlines:
                nested = plan_of(field.schema)
                self._readers[field.number] = _read_inline(nested)
                self._inlines.append((f"f{field.number}", nested, frozenset(field.schema.fields)))
            else:
                self._readers[field.number] = _reader(field)
                self._writers[field.name] = _writer(field)

    def read(self, message: Any, into: dict[str, Any]) -> None:
        """Put what the message says into a dict."""
        readers = self._readers
        for descriptor, value in message.ListFields():
            readers[descriptor.number](into, value)

    def write(self, message: Any, obj: dict[str, Any]) -> None:
        """Put what an object says into an empty message; fields that are unknown or null are left out."""
        writers = self._writers
        for key, value in obj.items():
            write = writers.get(key)
            if write is not None and value is not None:
                write(message, value)
        for name, nested, keys in self._inlines:
            if not keys.isdisjoint(obj):
                nested.write(getattr(message, name), obj)
                getattr(message, name).SetInParent()


_PLANS: dict[str, Plan] = {}


def plan_of(schema: Schema) -> Plan:
    """The plan of a built-in message."""
    plan = _PLANS.get(schema.name)
    if plan is None:
        plan = _PLANS[schema.name] = Plan(schema)
    return plan


def _read_inline(nested: Plan) -> _Reader:
    def read(into: dict[str, Any], value: Any) -> None:
        nested.read(value, into)

    return read


def _message_values(schema: Schema) -> values.Codec:
    """A message as the value of a field; its plan is made when the first one is met, since messages may hold themselves."""

    def load(value: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        plan_of(schema).read(value, found)
        return found

    def fill(target: Any, value: Any) -> None:
        plan_of(schema).write(target, value)

    return values.Codec(load, fill=fill)


def _codec(schema: Schema) -> values.Codec:
    if schema.type == "object":
        return _message_values(schema)
    if schema.format.startswith("schema-or-"):
        return _schema_codec(schema.format)
    return values.SCALARS[schema.type, schema.format]


def _reader(field: Field) -> _Reader:
    name, schema = field.name, field.schema
    if schema.type == "map" and schema.element is not None:
        return _read_map(name, _codec(schema.element).load)
    if schema.type == "list" and schema.format != "boxed" and schema.element is not None:
        return _read_list(name, _codec(schema.element).load)
    codec = _codec(schema)
    load = codec.load
    keep = field.pointer or ((field.required or field.always) and schema.type in ("integer", "number", "boolean"))
    if load is None:
        return _read_kept(name) if keep else _read_plain(name)
    if schema.type == "object":
        return _read_message(name, load, keep)
    empty = () if keep and schema.format in ("byte", "int-or-string") else codec.empty

    def read(into: dict[str, Any], value: Any) -> None:
        found = load(value)
        if found not in empty:
            into[name] = found

    return read


def _read_kept(name: str) -> _Reader:
    def read(into: dict[str, Any], value: Any) -> None:
        into[name] = value

    return read


def _read_plain(name: str) -> _Reader:
    def read(into: dict[str, Any], value: Any) -> None:
        if value:
            into[name] = value

    return read


def _read_message(name: str, load: Callable[[Any], Any], keep: bool) -> _Reader:
    def read(into: dict[str, Any], value: Any) -> None:
        found = load(value)
        if found or keep:
            into[name] = found

    return read


def _read_list(name: str, load: Callable[[Any], Any] | None) -> _Reader:
    def read(into: dict[str, Any], value: Any) -> None:
        into[name] = list(value) if load is None else [load(item) for item in value]

    return read


def _read_map(name: str, load: Callable[[Any], Any] | None) -> _Reader:
    def read(into: dict[str, Any], value: Any) -> None:
        into[name] = dict(value) if load is None else {key: load(value[key]) for key in value}

    return read


def _writer(field: Field) -> _Writer:
    name, schema = f"f{field.number}", field.schema
    if schema.type == "map" and schema.element is not None:
        return _write_map(name, _codec(schema.element))
    if schema.type == "list" and schema.format != "boxed" and schema.element is not None:
        return _write_list(name, _codec(schema.element))
    codec = _codec(schema)
    if codec.fill is not None:
        return _write_message(name, codec.fill)
    dump = codec.dump

    def write(message: Any, value: Any) -> None:
        setattr(message, name, value if dump is None else dump(value))

    return write


def _write_message(name: str, fill: Callable[[Any, Any], None]) -> _Writer:
    def write(message: Any, value: Any) -> None:
        target = getattr(message, name)
        fill(target, value)
        target.SetInParent()

    return write


def _write_list(name: str, codec: values.Codec) -> _Writer:
    fill, dump = codec.fill, codec.dump

    def write(message: Any, value: Any) -> None:
        target = getattr(message, name)
        if fill is not None:
            for item in value:
                fill(target.add(), item)
        else:
            target.extend(value if dump is None else [dump(item) for item in value])

    return write


def _write_map(name: str, codec: values.Codec) -> _Writer:
    fill, dump = codec.fill, codec.dump

    def write(message: Any, value: Any) -> None:
        target = getattr(message, name)
        if fill is not None:
            for key, item in value.items():
                fill(target[key], item)
        else:
            target.update(value if dump is None else {key: dump(item) for key, item in value.items()})

    return write


@cache
def _schema_codec(kind: str) -> values.Codec:
    """JSONSchemaPropsOr…: a schema, or something simpler. The schema is nested as bytes."""
    props = builtin_message("apiextensions.v1.JSONSchemaProps")

    def load_schema(raw: bytes) -> dict[str, Any]:
        plan = plan_of(props)
        message = plan.new()
        message.MergeFromString(raw)
        found: dict[str, Any] = {}
        plan.read(message, found)
        return found

    def dump_schema(value: dict[str, Any]) -> bytes:
        plan = plan_of(props)
        message = plan.new()
        plan.write(message, value)
        return bytes(message.SerializeToString())

    def load(value: Any) -> Any:
        if value.HasField("schema"):
            return load_schema(value.schema)
        if kind == "schema-or-list":
            return [load_schema(raw) for raw in value.schemas]
        return value.allows if kind == "schema-or-bool" else list(value.property)

    def fill(target: Any, value: Any) -> None:
        if isinstance(value, dict):
            target.schema = dump_schema(value)
            if kind == "schema-or-bool":
                target.allows = True
        elif kind == "schema-or-list":
            target.schemas.extend(dump_schema(item) for item in value)
        elif kind == "schema-or-bool":
            target.allows = value
        else:
            target.property.extend(value)

    return values.Codec(load, fill=fill)
