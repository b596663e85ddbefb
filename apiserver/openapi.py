"""The OpenAPI documents, kept as bytes until the set of kinds changes."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

import kubeling
from kubeling.api import openapi
from kubeling.api.openapi import gnostic, merge, version2
from kubeling.api.structural import publish
from kubeling.apiserver.aggregation.swagger import Swagger
from kubeling.apiserver.context import Context
from kubeling.apiserver.custom.served import CustomServed
from kubeling.apiserver.registry.kinds import Served

_REFERENCE = "#/components/schemas/"


class Page(NamedTuple):
    """A document and its ETag."""

    body: bytes
    etag: str


def page(body: bytes) -> Page:
    """A document with its ETag."""
    return Page(body, f'"{openapi.fingerprint(body)}"')


class Documents:
    """All documents. Each is made anew only when one of its kinds has changed, the index and version 2 when any has."""

    def __init__(self, context: Context) -> None:
        self._context = context
        #: With the kinds that the document was made of.
        self._made: dict[str, tuple[list[Served], Page]] = {}
        self._pages: dict[str, Page] | None = None
        self._index: Page | None = None
        self._swagger = Swagger(context.aggregated, context.clock)
        #: As JSON, as protobuf, and which state of the other servers' documents is in it.
        self._version_2: tuple[Page, Page, int] | None = None
        context.definitions.on_kinds.append(self._changed)
        context.aggregated.listeners.append(self._changed)

    def _changed(self) -> None:
        self._pages = self._index = self._version_2 = None

    def pages(self) -> dict[str, Page]:
        """The documents of version 3 by their group version."""
        if self._pages is None:
            groups: dict[str, list[Served]] = {}
            for each in self._context.kinds:
                groups.setdefault(each.resource.group_version, []).append(each)
            self._pages = {name: self._page(name, served) for name, served in groups.items()}
            self._made = {name: self._made[name] for name in groups}
        return self._pages

    def _page(self, group_version: str, served: list[Served]) -> Page:
        former = self._made.get(group_version)
        # Of a definition that changes, what is served is another object each time.
        if former is not None and former[0] == served:
            return former[1]
        resources = [each.resource for each in served]
        custom = [each for each in served if isinstance(each, CustomServed)]
        if custom:
            made = page(openapi.custom_document(resources, _bodies(custom), version=kubeling.KUBERNETES_VERSION))
        else:
            made = page(openapi.document(group_version, resources, version=kubeling.KUBERNETES_VERSION))
        self._made[group_version] = (served, made)
        return made

    def at(self, path: str) -> Page | None:
        """GET /openapi/v3/<path>, such as `apis/apps/v1`; None where there is nothing."""
        return next((each for name, each in self.pages().items() if openapi.path_of(name) == path), None)

    def index(self) -> Page:
        """GET /openapi/v3."""
        if self._index is None:
            self._index = page(
                self._with_remotes(openapi.index({name: each.etag.strip('"') for name, each in self.pages().items()}))
            )
        return self._index

    def _with_remotes(self, index: bytes) -> bytes:
        """Documents of other servers are where they say, below the same path: a request for one goes on to its server."""
        remotes = list(self._context.aggregated)
        if not remotes:
            return index
        found = orjson.loads(index)
        for remote in remotes:
            key = f"apis/{remote.group}/{remote.version}"
            found["paths"].pop(key, None)
            if url := self._context.aggregated.offer(remote).openapi:
                found["paths"][key] = {"serverRelativeURL": url}
        return orjson.dumps(found)

    async def version_2(self, *, protobuf: bool) -> Page:
        """GET /openapi/v2, as JSON or as protobuf, with what other servers say of their groups."""
        await self._swagger.refresh()
        if self._version_2 is None or self._version_2[2] != self._swagger.changed:
            others = self._swagger.documents()
            state = self._swagger.changed
            elsewhere = {f"{each.group}/{each.version}" for each in self._context.aggregated}
            own = version2.document(each.body for name, each in self.pages().items() if name not in elsewhere)
            found = merge.merged(own, others)
            self._version_2 = page(orjson.dumps(found)), page(gnostic.document(found)), state
        return self._version_2[1] if protobuf else self._version_2[0]


def _bodies(served: list[CustomServed]) -> dict[str, Any]:
    bodies: dict[str, Any] = {}
    for each in served:
        resource = each.resource
        name = openapi.kind_name(resource.group, resource.version, resource.kind)
        bodies[name] = publish.object_schema(each.version.json_schema, resource.kind, _REFERENCE)
        bodies[f"{name}List"] = publish.list_schema(resource.kind, name, _REFERENCE)
    return bodies
