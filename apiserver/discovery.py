"""What is served, in the three forms in which clients ask: the old documents, and the aggregated ones of apidiscovery.k8s.io (v2, v2beta1).

All documents are made once for a set of kinds and kept as bytes, with an ETag; a change of the set drops them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from kubeling.api import errors
from kubeling.api.resources import BUILTIN, Resource
from kubeling.api.structural.definition import version_order
from kubeling.apiserver import negotiate
from kubeling.apiserver.context import Context
from kubeling.apiserver.request import Request

_AGGREGATED = "APIGroupDiscoveryList"
_GROUP = "apidiscovery.k8s.io"
_BUILTIN = frozenset(each.group for each in BUILTIN)


class Document(NamedTuple):
    """An answer."""

    body: bytes
    content_type: bytes
    etag: bytes


def _document(value: Any, content_type: bytes = b"application/json") -> Document:
    body = orjson.dumps(value)
    return Document(body, content_type, b'"%b"' % hashlib.sha256(body + content_type).hexdigest()[:32].encode())


class Discovery:
    """Answers `/api`, `/apis`, `/api/v1`, `/apis/<group>` and `/apis/<group>/<version>`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._documents: dict[tuple[str, str], Document | None] = {}

    def changed(self) -> None:
        """The kinds that are served have changed."""
        self._documents.clear()

    async def serve(self, request: Request) -> None:
        """Answer a GET. Raises 404 for what is not served."""
        path = "/" + request.info.path.strip("/")
        version = _version(request.header(b"accept")) if path in ("/api", "/apis") else ""
        key = (path, version)
        if key not in self._documents:
            if len(self._documents) > 512:
                self._documents.clear()
            self._documents[key] = self._make(path, version)
        document = self._documents[key]
        if document is None:
            raise errors.no_such_path()
        headers = [(b"etag", document.etag), (b"vary", b"Accept"), (b"cache-control", b"public")]
        if request.header(b"if-none-match") == document.etag.decode():
            await request.respond(b"", 304, document.content_type, headers)
            return
        await request.respond(document.body, 200, document.content_type, headers)

    def _resources(self) -> list[Resource]:
        """Our own, and what other servers have been seen to serve."""
        aggregated = self._context.aggregated
        found = [each.resource for each in self._context.kinds]
        remotes = sorted(aggregated, key=lambda each: (-each.group_priority, each.group, -each.version_priority, each.version))
        taken = {(each.group, each.version) for each in remotes}
        if taken:
            found = [each for each in found if (each.group, each.version) not in taken]
        for remote in remotes:
            found += aggregated.offer(remote).resources
        return found

    def _stale(self) -> list[tuple[str, str]]:
        """The groups and versions of servers that do not answer."""
        return [(each.group, each.version) for each in self._context.aggregated if not each.available]

    def _make(self, path: str, version: str) -> Document | None:
        core = path == "/api" or path.startswith("/api/")
        resources = [each for each in self._resources() if (not each.group) == core]
        if version:
            content_type = f"application/json;g={_GROUP};v={version};as={_AGGREGATED}".encode()
            return _document(_aggregated(resources, version, [] if core else self._stale()), content_type)
        parts = path.strip("/").split("/")
        if path == "/api":
            address = self._context.config.advertise_address or self._context.config.bind_address
            server = f"{f'[{address}]' if ':' in address else address}:{self._context.config.secure_port}"
            found = {"kind": "APIVersions", "versions": ["v1"]}
            return _document({**found, "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]})
        if path == "/apis":
            groups = [_group(name, versions) for name, versions in _versions(resources, self._stale()).items()]
            return _document({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        if core:
            mine = [each for each in resources if len(parts) == 2 and each.version == parts[1]]
            return _document(_resource_list(parts[1], mine)) if mine else None
        versions = _versions(resources, self._stale()).get(parts[1])
        if len(parts) == 2 and versions:
            return _document({"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], versions)})
        mine = [each for each in resources if each.group == parts[1]]
        mine = [each for each in mine if len(parts) == 3 and each.version == parts[2]]
        return _document(_resource_list(f"{parts[1]}/{parts[2]}", mine)) if mine else None


def _version(accept: str) -> str:
    """The aggregated version that an Accept header prefers, empty for the old documents."""
    for output in negotiate.accepted(accept):
        if not output.transform:
            return ""
        if output.transform == _AGGREGATED and output.group == _GROUP and output.version in ("v2", "v2beta1"):
            return output.version
    return ""


def _versions(resources: list[Resource], more: Iterable[tuple[str, str]] = ()) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group, version in [*((each.group, each.version) for each in resources), *more]:
        versions = found.setdefault(group, [])
        if version not in versions:
            versions.append(version)
    for group, versions in found.items():
        # The order of the built-in ones is in the registry.
        if group not in _BUILTIN:
            versions.sort(key=version_order)
    return found


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    entries = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _resource_list(group_version: str, resources: list[Resource]) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for each in resources:
        entry: dict[str, Any] = {"name": each.plural, "singularName": each.singular_name, "namespaced": each.namespaced}
        entry |= {"kind": each.kind, "verbs": sorted(each.verbs)}
        if each.short_names:
            entry["shortNames"] = list(each.short_names)
        if each.categories:
            entry["categories"] = list(each.categories)
        entries.append(entry)
        for sub in each.subresources:
            inner: dict[str, Any] = {"name": f"{each.plural}/{sub.name}", "singularName": "", "namespaced": each.namespaced}
            inner |= {"kind": sub.kind or each.kind, "verbs": sorted(sub.verbs)}
            if sub.version and (sub.group, sub.version) != (each.group, each.version):
                inner |= {"group": sub.group, "version": sub.version}
            entries.append(inner)
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}


def _aggregated(resources: list[Resource], version: str, stale: list[tuple[str, str]]) -> dict[str, Any]:
    items = []
    for group, versions in _versions(resources, stale).items():
        entries = []
        for each in versions:
            mine = [_entry(found) for found in resources if found.group == group and found.version == each]
            entries.append({"version": each, "resources": mine, "freshness": "Stale" if (group, each) in stale else "Current"})
        items.append({"metadata": {"name": group} if group else {}, "versions": entries})
    return {"kind": _AGGREGATED, "apiVersion": f"{_GROUP}/{version}", "metadata": {}, "items": items}


def _entry(resource: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular_name,
        "verbs": sorted(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    if resource.subresources:
        found["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group if sub.version else resource.group,
                    "version": sub.version or resource.version,
                    "kind": sub.kind or resource.kind,
                },
                "verbs": sorted(sub.verbs),
            }
            for sub in resource.subresources
        ]
    return found
