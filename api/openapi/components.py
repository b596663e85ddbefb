"""Schemas as OpenAPI components, with the extensions by which clients merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubeling.api.builtin import message
from kubeling.api.openapi.enums import ENUMS
from kubeling.api.schema import Field, Schema

Json = dict[str, Any]
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_PREFIXES = {
    "meta": "io.k8s.apimachinery.pkg.apis.meta",
    "apiextensions": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    "metrics": "io.k8s.metrics.pkg.apis.metrics",
}
#: Format → name and body of the component behind it.
_SPECIAL: dict[str, tuple[str, Json]] = {
    "quantity": (
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        {
            "description": "A decimal number with a suffix: m for thousandths, k, M, G … for powers of 1000, Ki, Mi, Gi … for powers of 1024.",
            "oneOf": [{"type": "string"}, {"type": "number"}],
        },
    ),
    "int-or-string": (
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        {
            "description": "A whole number, or text: the name of a port, or a percentage.",
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        },
    ),
    "date-time": (
        f"{_META}.Time",
        {"description": "A time as RFC 3339 writes it, to the second.", "type": "string", "format": "date-time"},
    ),
    "micro-time": (
        f"{_META}.MicroTime",
        {"description": "A time as RFC 3339 writes it, to the microsecond.", "type": "string", "format": "date-time"},
    ),
    "duration": (f"{_META}.Duration", {"description": "A length of time as Go writes it: 1h30m0s.", "type": "string"}),
    "fields-v1": (
        f"{_META}.FieldsV1",
        {"description": "A set of fields: f: and a name, k: and the keys of an item, v: and a value.", "type": "object"},
    ),
    "raw": (
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        {"description": "Anything.", "x-kubernetes-preserve-unknown-fields": True},
    ),
    "schema-or-list": (
        f"{_PREFIXES['apiextensions']}.v1.JSONSchemaPropsOrArray",
        {"description": "A schema, or a list of them."},
    ),
    "schema-or-bool": (f"{_PREFIXES['apiextensions']}.v1.JSONSchemaPropsOrBool", {"description": "A schema, or true or false."}),
    "schema-or-strings": (
        f"{_PREFIXES['apiextensions']}.v1.JSONSchemaPropsOrStringArray",
        {"description": "A schema, or the names of properties."},
    ),
}


class Components:
    """The components of one document. Asking for a reference adds what it leads to."""

    def __init__(self, schema_of: Callable[[str, str], Schema], bodies: Mapping[str, Json] | None = None) -> None:
        self._schema_of = schema_of
        #: Components that are given as they are, by name: of custom resources.
        self._bodies = bodies or {}
        self._made: dict[str, Json] = {}

    def schemas(self) -> dict[str, Json]:
        """All that were asked for, by name."""
        return dict(sorted(self._made.items()))

    def kind(self, group: str, version: str, kind: str) -> Json:
        """A reference to the schema of a kind, which is marked with its group, version and kind."""
        given = kind_name(group, version, kind)
        if given in self._bodies:
            if given not in self._made:
                mark = {"group": group, "version": version, "kind": kind}
                self._made[given] = {**self._bodies[given], "x-kubernetes-group-version-kind": [mark]}
                self._reference(message("meta.v1.ObjectMeta"))
                self._reference(message("meta.v1.ListMeta"))
            return {"$ref": f"#/components/schemas/{given}"}
        try:
            schema = self._schema_of(f"{group}/{version}" if group else version, kind)
        except KeyError:
            schema = Schema("object", name=f"{_reversed(group)}.{version}.{kind}", preserve_unknown=True)
        reference = self._reference(schema)
        marks = self._made[component_name(schema.name)].setdefault("x-kubernetes-group-version-kind", [])
        mark = {"group": group, "version": version, "kind": kind}
        if mark not in marks:
            marks.append(mark)
        return reference

    def of(self, schema: Schema) -> Json:
        """A schema where it is used: a reference for what has a name, the thing itself for the rest."""
        if schema.format in _SPECIAL:
            name, body = _SPECIAL[schema.format]
            self._made.setdefault(name, body)
            return {"$ref": f"#/components/schemas/{name}"}
        match schema.type:
            case "object" if schema.name:
                return self._reference(schema)
            case "object":
                return self._body(schema)
            case "list" if schema.element is not None:
                return {"type": "array", "items": self.of(schema.element)}
            case "map" if schema.element is not None:
                return {"type": "object", "additionalProperties": self.of(schema.element)}
        found: Json = {} if schema.type == "any" else {"type": schema.type}
        if schema.format:
            found["format"] = schema.format
        return found

    def _reference(self, schema: Schema) -> Json:
        name = component_name(schema.name)
        if name not in self._made:
            body: Json = {}
            self._made[name] = body
            body.update(self._body(schema))
        return {"$ref": f"#/components/schemas/{name}"}

    def _body(self, schema: Schema) -> Json:
        body: Json = {"type": "object"}
        if schema.description:
            body["description"] = schema.description
        if schema.fields:
            enums = ENUMS.get(schema.name, {})
            body["properties"] = {
                name: self._property(field, enums.get(name, ())) for name, field in sorted(schema.fields.items())
            }
        if required := sorted(name for name, field in schema.fields.items() if field.required):
            body["required"] = required
        if schema.atomic:
            body["x-kubernetes-map-type"] = "atomic"
        if schema.preserve_unknown:
            body["x-kubernetes-preserve-unknown-fields"] = True
        return body

    def _property(self, field: Field, enum: tuple[str, ...]) -> Json:
        schema = field.schema
        found = self.of(schema)
        if "$ref" in found:
            found = {"allOf": [found]}
        if field.description:
            found["description"] = field.description
        if field.default is not None:
            found["default"] = field.default
        if enum:
            found["enum"] = list(enum)
        if schema.type == "list":
            found["x-kubernetes-list-type"] = schema.list_type
            if schema.list_map_keys:
                found["x-kubernetes-list-map-keys"] = list(schema.list_map_keys)
        elif schema.type == "map" and schema.atomic:
            found["x-kubernetes-map-type"] = "atomic"
        if field.patch_merge_key:
            found["x-kubernetes-patch-merge-key"] = field.patch_merge_key
        if field.patch_strategy:
            found["x-kubernetes-patch-strategy"] = ",".join(sorted(field.patch_strategy))
        return found


def component_name(name: str) -> str:
    """What a message is called in the document: "core.v1.Pod" → "io.k8s.api.core.v1.Pod"."""
    group, _, rest = name.partition(".")
    if rest.count(".") != 1:
        return name
    return f"{_PREFIXES.get(group, f'io.k8s.api.{group}')}.{rest}"


def kind_name(group: str, version: str, kind: str) -> str:
    """What a custom resource's component is called: "com.example.v1.Widget"."""
    return f"{_reversed(group)}.{version}.{kind}"


def _reversed(group: str) -> str:
    return ".".join(reversed(group.split(".")))
