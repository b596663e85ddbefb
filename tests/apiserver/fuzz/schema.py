"""Requests out of the server's own OpenAPI document: for every operation objects that its schema allows, now and then with one place bent."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import quote

from tests.apiserver.fuzz import bases
from tests.apiserver.fuzz.hostile import JSON, PATCHES, Case, options
from tests.apiserver.fuzz.values import bend, dumps, string
from tests.apiserver.plain import Plain

Obj = dict[str, Any]
#: Objects of these change what the server does with every later request: they are only tried out.
_DRY = (
    "webhookconfigurations",
    "admissionpolicies",
    "admissionpolicybindings",
    "apiservices",
    "customresourcedefinitions",
    "prioritylevelconfigurations",
    "flowschemas",
    "resourcequotas",
    "limitranges",
    "namespaces",
    "clusterroles",
    "clusterrolebindings",
)
_OUTBOUND = ("proxy", "exec", "attach", "portforward", "log")
_METHODS = ("get", "post", "put", "patch", "delete")
_NAMES = ("a", "b", "c", "d")
_MAX_DEPTH = 7
_FORMATS: dict[str, tuple[Any, ...]] = {
    "date-time": ("2024-02-29T12:00:00Z", "1969-12-31T23:59:59+14:00", "x"),
    "byte": ("", "YQ==", "!"),
    "int32": (0, 1, 80, 65535, -1, 2**31 - 1),
    "int64": (0, 1, 30, -1, 2**63 - 1),
    "double": (0.0, 1.5, -1e300),
    "int-or-string": (1, "25%", "http", -5, "x" * 64),
}


class Schemas:
    """What the server says of itself: operations, and the schemas they name."""

    def __init__(self, client: Plain) -> None:
        self.operations: list[tuple[str, str, Obj, Obj]] = []
        for path, where in sorted(client("GET", "/openapi/v3")[1]["paths"].items()):
            if not path.startswith(("api/", "apis/")):
                continue
            document = client("GET", where["serverRelativeURL"])[1]
            schemas = document.get("components", {}).get("schemas", {})
            for target, item in document.get("paths", {}).items():
                for method in _METHODS:
                    if method in item and "/watch/" not in target and "{" not in target.partition("{path")[1]:
                        self.operations.append((method, target, item[method], schemas))


class Made:
    """Cases without end, the same for the same seed and document."""

    def __init__(self, seed: int, namespace: str, schemas: Schemas) -> None:
        self._source = Random(seed)
        self._namespace = namespace
        self._operations = [each for each in schemas.operations if not any(f"/{door}" in each[1] for door in _OUTBOUND)]
        self._at = self._source.randrange(max(1, len(self._operations)))

    def first(self) -> list[Case]:
        """Valid objects under the names that are used, so that what follows has something to change."""
        found = []
        for method, target, operation, _ in self._operations:
            kind = operation.get("x-kubernetes-group-version-kind") or {}
            valid = bases.base(kind.get("kind", ""))
            if method != "post" or valid is None or "{name}" in target or _is_dry(target):
                continue
            api_version = f"{kind['group']}/{kind['version']}" if kind.get("group") else kind["version"]
            for name in _NAMES[:2]:
                obj = {"apiVersion": api_version, "kind": kind["kind"], "metadata": {"name": name}, **valid}
                found.append(Case("POST", target.replace("{namespace}", self._namespace), dumps(obj), {"content-type": JSON}))
        return found

    def next(self) -> Case:
        """The next operation, with an object for it."""
        source = self._source
        method, target, operation, schemas = self._operations[self._at % len(self._operations)]
        # A step that is prime to most lengths, so that each run soon has seen everything.
        self._at += 7919
        name = (
            source.choice(_NAMES)
            if source.random() < 0.95
            else quote(string(source)[:100].encode("utf-8", "surrogatepass"), safe="")
        )
        path = target.replace("{namespace}", self._namespace).replace("{name}", name or "a").replace("{path}", "x")
        query = [options(source)] if source.random() < 0.15 else []
        spared = method == "delete" and (not path.endswith(f"/{name}") or source.random() < 0.8)
        if method != "get" and (spared or _is_dry(target)):
            query.insert(0, "dryRun=All")
        body, headers = b"", {}
        if method in ("post", "put", "patch"):
            obj = self._object(operation, schemas, path, name)
            headers = {"content-type": JSON}
            if method == "patch":
                kind = source.choice(("merge", "strategic", "apply"))
                headers["content-type"] = PATCHES[kind]
                if kind == "apply":
                    query.append("fieldManager=f&force=true")
            body = dumps(bend(source, obj) if source.random() < 0.3 else obj)
        return Case(method.upper(), path + (f"?{'&'.join(query)}" if query else ""), body, headers)

    def _object(self, operation: Obj, schemas: Obj, path: str, name: str) -> Any:
        contents = (operation.get("requestBody") or {}).get("content") or {}
        schema = next((each["schema"] for each in contents.values() if each.get("schema")), {})
        kind = operation.get("x-kubernetes-group-version-kind") or {}
        if not self._properties(schema, schemas):
            answers = operation.get("responses") or {}
            content = next((each["content"] for each in answers.values() if each.get("content")), {})
            schema = next((each["schema"] for each in content.values() if each.get("schema")), schema)
        valid = bases.base(kind.get("kind", ""))
        if valid is not None and self._source.random() < 0.8:
            made = json.loads(json.dumps(valid))
            for _ in range(self._source.choice((0, 1, 1, 2, 4))):
                self._graft(made, schema, schemas)
        else:
            made = self._value(schema, schemas, 0)
        if not isinstance(made, dict):
            made = {}
        if kind:
            group = kind.get("group", "")
            made["apiVersion"] = f"{group}/{kind['version']}" if group else kind.get("version", "v1")
            made["kind"] = kind.get("kind", "")
        metadata = made["metadata"] = made["metadata"] if isinstance(made.get("metadata"), dict) else {}
        for key in (
            "uid",
            "resourceVersion",
            "deletionTimestamp",
            "namespace",
            "ownerReferences",
            "managedFields",
            "generateName",
        ):
            if self._source.random() < 0.9:
                metadata.pop(key, None)
        if self._source.random() < 0.9:
            metadata["finalizers"] = []
        metadata["name"] = name
        return made

    def _graft(self, node: Any, schema: Obj, schemas: Obj) -> None:
        """Put one value that the schema allows somewhere into a valid object: in place of another, or beside."""
        source = self._source
        for depth in range(12):
            schema = _resolve(schema, schemas)
            if isinstance(node, list):
                schema = schema.get("items") or {}
                if not node or source.random() < 0.2:
                    node.append(self._value(schema, schemas, depth + 3))
                    return
                at: Any = source.randrange(len(node))
            elif isinstance(node, dict):
                properties = schema.get("properties") or {}
                inside = [name for name in node if name in properties and isinstance(node[name], dict | list)]
                if inside and source.random() < 0.7:
                    at = source.choice(inside)
                    schema = properties[at]
                elif properties:
                    at = source.choice(list(properties))
                    node[at] = self._value(properties[at], schemas, depth + 3)
                    return
                else:
                    node["a"] = "b"
                    return
            else:
                return
            node = node[at]

    def _properties(self, schema: Obj, schemas: Obj) -> Obj:
        found: Obj = _resolve(schema, schemas).get("properties") or {}
        return found

    def _value(self, schema: Obj, schemas: Obj, depth: int) -> Any:
        source = self._source
        schema = _resolve(schema, schemas)
        if source.random() < 0.02:
            return None
        if "enum" in schema and source.random() < 0.9:
            return source.choice(schema["enum"])
        for key in ("oneOf", "anyOf"):
            if key in schema:
                return self._value(source.choice(schema[key]), schemas, depth)
        kind = schema.get("type", "object" if "properties" in schema else "")
        form = schema.get("format", "")
        if form in _FORMATS and source.random() < 0.9:
            return source.choice(_FORMATS[form])
        if kind == "object":
            return self._mapping(schema, schemas, depth)
        if kind == "array":
            count = source.choice((0, 1, 1, 2, 3)) if depth < _MAX_DEPTH else 0
            return [self._value(schema.get("items") or {}, schemas, depth + 1) for _ in range(count)]
        if kind == "boolean":
            return source.random() < 0.5
        if kind == "integer":
            return source.choice(_FORMATS["int32"])
        if kind == "number":
            return source.choice(_FORMATS["double"])
        if kind == "string":
            if "default" in schema and source.random() < 0.5:
                return schema["default"]
            return (
                source.choice(("a", "b", "app", "10.0.0.1", "1Gi", "TCP", "/x", "example.com/a"))
                if source.random() < 0.8
                else string(source)
            )
        return source.choice((1, "a", {}, [], {"a": "b"}))

    def _mapping(self, schema: Obj, schemas: Obj, depth: int) -> Obj:
        source = self._source
        made: Obj = {}
        required = schema.get("required") or ()
        likely = 0.5 if depth < 2 else 0.25 if depth < 4 else 0.08
        for name, inner in (schema.get("properties") or {}).items():
            if (name in required and source.random() < 0.95) or (depth < _MAX_DEPTH and source.random() < likely):
                made[name] = self._value(inner, schemas, depth + 1)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for _ in range(source.choice((0, 1, 2))):
                made[source.choice(("a", "b", "example.com/c", "cpu", "memory"))] = self._value(extra, schemas, depth + 1)
        return made


def _is_dry(target: str) -> bool:
    pieces = target.split("/")
    return any(piece.endswith(each) for each in _DRY for piece in pieces if piece != "namespaces" or "{namespace}" not in pieces)


def _resolve(schema: Obj, schemas: Obj) -> Obj:
    """Follow references, also those that are wrapped to carry a description."""
    for _ in range(10):
        if "$ref" in schema:
            schema = schemas.get(schema["$ref"].rpartition("/")[2], {})
        elif len(schema.get("allOf") or ()) == 1:
            schema = {
                **json.loads(json.dumps({key: each for key, each in schema.items() if key != "allOf"})),
                **schema["allOf"][0],
            }
        else:
            return schema
    return {}
