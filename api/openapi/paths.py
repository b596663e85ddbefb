"""The operations on a resource and its subresources."""

from __future__ import annotations

from typing import Any

from kubeling.api.builtin import message
from kubeling.api.openapi.components import Components, kind_name
from kubeling.api.resources import Resource, Subresource

Json = dict[str, Any]
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_PATCHES = ("application/json-patch+json", _MERGE, "application/apply-patch+yaml")
_BODIES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_CONNECT = ("exec", "attach", "portforward", "proxy")
_METHODS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}


def _query(name: str, kind: str, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": {"type": kind}}


def _path(name: str, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


_DRY_RUN = _query("dryRun", "string", "All means that every stage runs but nothing is stored.")
_MANAGER = _query("fieldManager", "string", "Who makes the change; recorded in managedFields.")
_VALIDATION = _query(
    "fieldValidation", "string", "What to do about unknown or repeated fields: Ignore, Warn (the default) or Strict."
)
_FORCE = _query("force", "boolean", "Take over fields that others manage; only for apply.")
_WRITE = [_DRY_RUN, _MANAGER, _VALIDATION]
_SELECT = [
    _query("labelSelector", "string", "Only objects with such labels."),
    _query("fieldSelector", "string", "Only objects with such fields."),
    _query("limit", "integer", "Most objects on a page."),
    _query("continue", "string", "Token from the last page."),
    _query("resourceVersion", "string", "Version from which to watch, or that a list must not be older than."),
    _query("resourceVersionMatch", "string", "NotOlderThan or Exact: how resourceVersion binds a list."),
    _query("timeoutSeconds", "integer", "Seconds after which the answer ends."),
]
_WATCH = [
    _query("watch", "boolean", "Watch instead of list."),
    _query("allowWatchBookmarks", "boolean", "Whether BOOKMARK events are wanted."),
    _query("sendInitialEvents", "boolean", "Whether a watch begins with the objects that are there, and a bookmark."),
]
_DELETE = [
    _DRY_RUN,
    _query("gracePeriodSeconds", "integer", "Seconds of grace; 0 is at once."),
    _query("propagationPolicy", "string", "Orphan, Background or Foreground: what becomes of dependents."),
]
_NAMESPACE = _path("namespace", "Namespace of the object.")
_NAME = _path("name", "Name of the object.")
_REST = _path("path", "The rest of the path.")


def paths_of(resource: Resource, components: Components) -> dict[str, Json]:
    """The path items of a resource."""
    return _Builder(resource, components).paths()


class _Builder:
    def __init__(self, resource: Resource, components: Components) -> None:
        self.resource = resource
        self.components = components
        self.mark = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        self.kind = components.kind(resource.group, resource.version, resource.kind)
        self.status = components.kind("", "v1", "Status")
        #: Only kinds that are built in have merge keys; custom resources must not offer strategic merge.
        own = kind_name(resource.group, resource.version, resource.kind)
        self.strategic = self.kind["$ref"] != f"#/components/schemas/{own}"

    def paths(self) -> dict[str, Json]:
        resource = self.resource
        shared = [_NAMESPACE] if resource.namespaced else []
        collection = resource.path("{namespace}" if resource.namespaced else None)
        paths: dict[str, Json] = {collection: self._collection(shared)}
        if resource.namespaced and "list" in resource.verbs:
            paths[resource.path()] = {"get": self._list("ForAllNamespaces")}
        if item := self._item(shared):
            paths[f"{collection}/{{name}}"] = item
        for subresource in resource.subresources:
            at = f"{collection}/{{name}}/{subresource.name}"
            paths[at] = self._subresource(subresource, shared)
            if subresource.name == "proxy":
                paths[f"{at}/{{path}}"] = self._subresource(subresource, [*shared, _REST], "WithPath")
        return {path: item for path, item in paths.items() if item}

    def _operation(self, verb: str, action: str, parameters: list[Json], answer: Json, suffix: str = "", **more: Any) -> Json:
        resource = self.resource
        group = resource.group.partition(".")[0] or "core"
        scope = "Namespaced" if resource.namespaced and suffix != "ForAllNamespaces" else ""
        operation: Json = {
            "operationId": f"{verb}{group.title()}{resource.version.title()}{scope}{resource.kind}{suffix}",
            "tags": [f"{group}_{resource.version}"],
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.mark,
        }
        if parameters:
            operation["parameters"] = parameters
        return {**operation, **more}

    def _body(self, schema: Json, types: tuple[str, ...] = _BODIES) -> Json:
        return {"required": True, "content": {each: {"schema": schema} for each in types}}

    def _patches(self) -> Json:
        types = (*_PATCHES, _STRATEGIC) if self.strategic else _PATCHES
        return self._body(self.components.of(message("meta.v1.Patch")), types)

    def _delete_options(self) -> Json:
        return {"content": {"application/json": {"schema": self.components.kind("", "v1", "DeleteOptions")}}}

    def _list(self, suffix: str = "") -> Json:
        kind = self.components.kind(self.resource.group, self.resource.version, f"{self.resource.kind}List")
        return self._operation("list", "list", [*_SELECT, *_WATCH], kind, suffix)

    def _collection(self, shared: list[Json]) -> Json:
        verbs = self.resource.verbs
        item: Json = {"parameters": shared} if shared else {}
        if "list" in verbs:
            item["get"] = self._list()
        if "create" in verbs:
            item["post"] = self._operation("create", "post", _WRITE, self.kind, requestBody=self._body(self.kind))
        if "deletecollection" in verbs:
            item["delete"] = self._operation(
                "deleteCollection", "deletecollection", [*_SELECT, *_DELETE], self.status, requestBody=self._delete_options()
            )
        return item

    def _item(self, shared: list[Json]) -> Json:
        verbs = self.resource.verbs
        item: Json = {"parameters": [*shared, _NAME]}
        if "get" in verbs:
            item["get"] = self._operation("read", "get", [], self.kind)
        if "update" in verbs:
            item["put"] = self._operation("replace", "put", _WRITE, self.kind, requestBody=self._body(self.kind))
        if "patch" in verbs:
            item["patch"] = self._operation("patch", "patch", [*_WRITE, _FORCE], self.kind, requestBody=self._patches())
        if "delete" in verbs:
            item["delete"] = self._operation("delete", "delete", _DELETE, self.status, requestBody=self._delete_options())
        return item if len(item) > 1 else {}

    def _subresource(self, subresource: Subresource, shared: list[Json], ending: str = "") -> Json:
        resource = self.resource
        group = subresource.group or ("" if not subresource.kind else resource.group)
        version = subresource.version or resource.version
        mark = {"group": group, "version": version, "kind": subresource.kind} if subresource.kind else self.mark
        kind = self.components.kind(group, version, subresource.kind) if subresource.kind else self.kind
        connects = subresource.name in _CONNECT
        answer = {"type": "string"} if connects or subresource.name == "log" else kind
        parameters = [*shared, _NAME] if not ending else [*shared[:-1], _NAME, shared[-1]]
        item: Json = {"parameters": parameters}
        for verb in subresource.verbs:
            more: Json = {"x-kubernetes-group-version-kind": mark}
            if not connects and verb == "patch":
                more["requestBody"] = self._patches()
            elif not connects and verb in ("create", "update"):
                more["requestBody"] = self._body(kind)
            query = [] if connects or verb == "get" else [*_WRITE, _FORCE] if verb == "patch" else _WRITE
            name = f"{subresource.name.title()}{ending}"
            action = "connect" if connects else _METHODS[verb]
            item[_METHODS[verb]] = self._operation(
                f"connect{verb.title()}" if connects else verb, action, query, answer, name, **more
            )
        return item
