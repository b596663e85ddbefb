"""A structural schema as server-side apply sees it: which maps and lists are owned in parts, and by which keys."""

from __future__ import annotations

from collections.abc import Callable

from kubeling.api.builtin import message
from kubeling.api.schema import Field, Schema, Type
from kubeling.api.structural.node import Node

_STRING = Schema("string")
_INT_OR_STRING = Schema("any", "int-or-string")
_SCALARS: dict[str, Type] = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}

#: Of what no schema describes: maps are owned in parts, lists as a whole.
UNDESCRIBED = Schema("map")
UNDESCRIBED.element = UNDESCRIBED


def merge_schema(node: Node) -> Schema:
    """The schema of a whole object."""
    return _object(node, resource=True)


def _schema(node: Node) -> Schema:
    if node.int_or_string:
        return _INT_OR_STRING
    if node.type == "array":
        return _list(node)
    if node.embedded:
        return _object(node, resource=True)
    if node.type == "object":
        if node.properties or node.preserve_unknown:
            return _object(node, resource=False)
        element = _schema(node.additional) if node.additional is not None else UNDESCRIBED
        return Schema("map", element=element, atomic=node.atomic_map)
    if node.type in _SCALARS:
        return Schema(_SCALARS[node.type])
    return UNDESCRIBED if node.preserve_unknown else Schema("any", "raw")


def _list(node: Node) -> Schema:
    element = _schema(node.items) if node.items is not None else UNDESCRIBED
    if node.list_type == "set":
        return Schema("list", element=element, list_type="set")
    if node.list_type == "map":
        return Schema("list", element=element, list_type="map", list_map_keys=node.list_map_keys)
    return Schema("list", element=element)


def _object(node: Node, *, resource: bool) -> Schema:
    fields = {name: _field(name, _schema(each), each, name in node.required) for name, each in node.properties.items()}
    if resource:
        fields["apiVersion"] = Field("apiVersion", _always(_STRING))
        fields["kind"] = Field("kind", _always(_STRING))
        fields["metadata"] = Field("metadata", lambda: message("meta.v1.ObjectMeta"))
    element = None
    if node.additional is not None:
        element = _schema(node.additional)
    elif node.preserve_unknown:
        element = UNDESCRIBED
    return Schema("object", fields=fields, element=element, atomic=node.atomic_map, preserve_unknown=node.preserve_unknown)


def _field(name: str, schema: Schema, node: Node, required: bool) -> Field:
    # Optional members are owned themselves by who made them, as pointers are in Go's types.
    return Field(name, _always(schema), required=required, pointer=not required, default=node.default)


def _always(schema: Schema) -> Callable[[], Schema]:
    return lambda: schema
