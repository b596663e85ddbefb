"""What is wrong with the schema of a CustomResourceDefinition: it must be structural (KEP-1178), and its defaults must fit it.

Structural means that the types of all fields stand outside of allOf, anyOf, oneOf and not, so that an object can be pruned and defaulted. Schemas inside
these four may only limit values, and only of fields that the structure names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubeling.api.errors import FieldError, duplicate_value, forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import copy_json
from kubeling.api.structural import rules
from kubeling.api.structural.listcheck import check_list, check_map_type
from kubeling.api.structural.node import compile_schema
from kubeling.api.structural.patterns import compile_pattern
from kubeling.api.structural.prune import prune
from kubeling.api.structural.rulecheck import check_rules
from kubeling.api.structural.rulecost import check_costs
from kubeling.api.structural.validate import validate

Errors = Iterator[FieldError]
Json = Mapping[str, Any]
TYPES = ("array", "boolean", "integer", "number", "object", "string")
#: Deeper schemas are refused: what walks them is recursive.
MAX_DEPTH = 64
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_UNSUPPORTED = ("definitions", "dependencies", "additionalItems", "patternProperties", "id")
#: What may not stand in a junctor.
_STRUCTURE = (
    "description",
    "type",
    "default",
    "title",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)
_METADATA = frozenset({"name", "generateName"})


def check_schema(schema: Any, path: str, *, costs: bool = True) -> list[FieldError]:
    """The faults of an `openAPIV3Schema` that stands at `path`. `costs`: what its rules may cost at worst is looked at as well."""
    if not isinstance(schema, dict):
        return [required_value(path, "schemas are required")]
    found = list(_shape(schema, path, 0))
    if found:
        return found
    found = [*_root(schema, path), *_structure(schema, path, "root", "")]
    found = found or [*_defaults(schema, path)]
    return found or [*(check_costs(compile_schema(schema), path) if costs else ())]


def _children(schema: Json, path: str) -> Iterator[tuple[Any, str]]:
    for name, each in (schema.get("properties") or {}).items():
        yield each, f"{path}.properties[{name}]"
    if schema.get("items") is not None:
        yield schema["items"], f"{path}.items"
    if isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"], f"{path}.additionalProperties"


def _junctions(schema: Json, path: str) -> Iterator[tuple[Any, str]]:
    for name in _JUNCTORS:
        for index, each in enumerate(schema.get(name) or ()):
            yield each, f"{path}.{name}[{index}]"
    if schema.get("not") is not None:
        yield schema["not"], f"{path}.not"


def _shape(schema: Any, path: str, depth: int) -> Errors:
    """Is it a schema at all? The decoder does not look below `items` and `additionalProperties`."""
    if not isinstance(schema, dict):
        yield invalid_value(
            path, schema, "items must be a schema object and not an array" if path.endswith("items") else "must be a schema"
        )
        return
    if depth > MAX_DEPTH:
        yield invalid_value(path, "", f"schemas may not be nested deeper than {MAX_DEPTH} levels")
        return
    for name, kinds in _TYPES_OF.items():
        value = schema.get(name)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool)):
            yield invalid_value(f"{path}.{name}", value, "is of the wrong type")
            return
    if not all(
        isinstance(each, str) for each in [*(schema.get("required") or ()), *(schema.get("x-kubernetes-list-map-keys") or ())]
    ):
        yield invalid_value(path, "", "required and x-kubernetes-list-map-keys are lists of names")
    for each, where in [*_children(schema, path), *_junctions(schema, path)]:
        yield from _shape(each, where, depth + 1)


_NUMBER = (int, float)
_TYPES_OF: dict[str, Any] = {
    "type": str,
    "format": str,
    "pattern": str,
    "properties": dict,
    "required": list,
    "enum": list,
    "allOf": list,
    "anyOf": list,
    "oneOf": list,
    "nullable": bool,
    "maximum": _NUMBER,
    "minimum": _NUMBER,
    "multipleOf": _NUMBER,
    "maxLength": int,
    "minLength": int,
    "maxItems": int,
    "minItems": int,
    "maxProperties": int,
    "minProperties": int,
    "exclusiveMaximum": bool,
    "exclusiveMinimum": bool,
    "x-kubernetes-preserve-unknown-fields": bool,
    "x-kubernetes-embedded-resource": bool,
    "x-kubernetes-int-or-string": bool,
    "x-kubernetes-list-type": str,
    "x-kubernetes-list-map-keys": list,
    "x-kubernetes-map-type": str,
    "x-kubernetes-validations": list,
}


def _root(schema: Json, path: str) -> Errors:
    if schema.get("type") and schema["type"] != "object":
        yield invalid_value(f"{path}.type", schema["type"], "must be object at the root")
    if schema.get("nullable"):
        yield forbidden_value(f"{path}.nullable", "nullable cannot be true at the root")
    if schema.get("default") is not None:
        yield forbidden_value(f"{path}.default", "default is not allowed at the root")
    properties = schema.get("properties") or {}
    for name in ("apiVersion", "kind", "metadata"):
        inner = properties.get(name) or {}
        for each, where in [(inner, f"{path}.properties[{name}]"), *_children(inner, f"{path}.properties[{name}]")]:
            if each.get("default") is not None and each is not properties.get("metadata"):
                yield forbidden_value(f"{where}.default", f"must not be set in top-level {name}")
    yield from _metadata(schema, path)


def _metadata(schema: Json, path: str) -> Errors:
    """Of an object's metadata a schema may limit the name alone."""
    metadata = (schema.get("properties") or {}).get("metadata")
    if not isinstance(metadata, dict):
        return
    where = f"{path}.properties[metadata]"
    if metadata.get("type") not in (None, "object"):
        yield invalid_value(f"{where}.type", metadata["type"], "must be object")
    if metadata.get("default") is not None:
        yield forbidden_value(f"{where}.default", "must not be set")
    for name in metadata.get("properties") or ():
        if name not in _METADATA:
            yield forbidden_value(
                f"{where}.properties[{name}]",
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            )
    if metadata.get("additionalProperties") is not None:
        yield forbidden_value(f"{where}.additionalProperties", "must not be used")


def _structure(schema: Json, path: str, place: str, lost: str) -> Errors:
    """`lost` is the list or atomic map above that keeps the old values in it from being found, empty where they can be."""
    kind = schema.get("type") or ""
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    if not kind and not free:
        yield required_value(f"{path}.type", f"must not be empty {_PLACES[place]}")
    elif kind and kind not in TYPES:
        yield unsupported_value(f"{path}.type", kind, TYPES)
    yield from _extensions(schema, path, kind)
    yield from _values(schema, path)
    if kind == "array" and schema.get("items") is None:
        yield required_value(f"{path}.items", "must be specified")
    if schema.get("additionalProperties") is not None:
        if schema["additionalProperties"] is False:
            yield forbidden_value(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
        elif schema.get("properties") and isinstance(schema["additionalProperties"], dict):
            yield forbidden_value(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    yield from check_rules(schema, schema, path, top=place == "root", lost=lost)
    for each, where in _children(schema, path):
        items = where == f"{path}.items"
        atomic = schema.get("x-kubernetes-map-type") == "atomic" and bool(schema.get("properties"))
        below = path if atomic or (items and schema.get("x-kubernetes-list-type") != "map") else ""
        yield from _structure(each, where, "items" if items else "field", lost or below)
    for each, where in _junctions(schema, path):
        yield from check_rules(each, schema, where, top=place == "root", lost=lost)
        yield from _junction(each, where, schema, path)


_PLACES = {"root": "at the root", "items": "for specified array items", "field": "for specified object fields"}


def _extensions(schema: Json, path: str, kind: str) -> Errors:
    if schema.get("x-kubernetes-int-or-string") and kind:
        yield forbidden_value(f"{path}.type", "must be empty if x-kubernetes-int-or-string is true")
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        yield invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    if schema.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            yield invalid_value(f"{path}.type", kind, "must be object if x-kubernetes-embedded-resource is true")
        if not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield required_value(
                f"{path}.properties",
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            )
        yield from _metadata(schema, path)
    yield from check_list(schema, path)
    yield from check_map_type(schema, path)


def _values(schema: Json, path: str) -> Errors:
    """What stands inside and outside of junctors alike."""
    for name in _UNSUPPORTED:
        if schema.get(name):
            yield forbidden_value(f"{path}.{name}", f"{name} is not supported")
    if schema.get("$ref"):
        yield forbidden_value(f"{path}.$ref", "$ref is not supported")
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield forbidden_value(f"{path}.uniqueItems", why)
    pattern = schema.get("pattern")
    if pattern:
        try:
            compile_pattern(pattern)
        except ValueError as error:
            yield invalid_value(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {error}")
    factor = schema.get("multipleOf")
    if factor is not None and factor <= 0:
        yield invalid_value(f"{path}.multipleOf", factor, "must be greater than 0")
    yield from _twice(f"{path}.required", schema.get("required") or ())


def _twice(path: str, names: Iterable[str]) -> Errors:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield duplicate_value(f"{path}[{index}]", name)
        seen.add(name)


def _junction(schema: Json, path: str, structure: Json | None, outer: str) -> Errors:
    """`structure` is the schema that must name everything that is limited here."""
    allowed: tuple[str, ...] = ()
    if schema.get("type") and structure is not None and structure.get("x-kubernetes-int-or-string"):
        # The one pattern in which types may stand here: anyOf integer and string.
        allowed = ("type",)
    for name in _STRUCTURE:
        if schema.get(name) and name not in allowed:
            yield forbidden_value(f"{path}.{name}", "must be empty to be structural")
    yield from _values(schema, path)
    for name, each in (schema.get("properties") or {}).items():
        where, there = f"{path}.properties[{name}]", f"{outer}.properties[{name}]"
        inner = ((structure or {}).get("properties") or {}).get(name)
        if inner is None:
            additional = (structure or {}).get("additionalProperties")
            if isinstance(additional, dict):
                inner = additional
            elif not (structure or {}).get("x-kubernetes-preserve-unknown-fields"):
                yield required_value(there, f"because it is defined in {where}")
                continue
        yield from _junction(each, where, inner, there)
    if isinstance(schema.get("items"), dict):
        inner = (structure or {}).get("items")
        if inner is None and structure is not None and not structure.get("x-kubernetes-preserve-unknown-fields"):
            yield required_value(f"{outer}.items", f"because it is defined in {path}.items")
        else:
            yield from _junction(schema["items"], f"{path}.items", inner, f"{outer}.items")
    for each, where in _junctions(schema, path):
        yield from _junction(each, where, structure, outer)


def _defaults(schema: Json, path: str) -> Errors:
    """Defaults must be what their own schema and its rules allow, with nothing to prune."""
    default = schema.get("default")
    if default is not None:
        node = compile_schema(schema)
        where = f"{path}.default"
        copied = copy_json(default)
        removed = prune(copied, node, top=False) if isinstance(copied, dict) else []
        if removed:
            yield invalid_value(where, default, f"must not have unknown fields: {', '.join(removed)}")
        for each in validate(default, node) or rules.check_rules(default, node, top=False):
            name = f"{where}.{each.field}" if each.field not in ("", "<nil>") else where
            yield FieldError(each.reason, name, each.value, each.detail)
    for each, where in _children(schema, path):
        yield from _defaults(each, where)
