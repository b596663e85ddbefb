"""Lists and watches of metadata only: `PartialObjectMetadata`, for those who look at every kind and at nothing inside.

:class:`MetadataClient` has the two verbs that an informer uses. A server that does not know the format answers with whole objects, which are cut
down here, so the copy holds the same either way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.client.rest import Client, Params

Obj = dict[str, Any]

LIST_ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
WATCH_ACCEPT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
KEPT = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "ownerReferences",
        "finalizers",
        "deletionTimestamp",
        "creationTimestamp",
    }
)


class MetadataClient:
    """What an :class:`kubeling.client.informer.Informer` needs of a client, answered with metadata."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        limit: int | None = None,
        continue_token: str | None = None,
    ) -> Obj:
        """As :meth:`Client.list`."""
        params = {
            "labelSelector": label_selector or None,
            "fieldSelector": field_selector or None,
            "resourceVersion": resource_version,
            "limit": limit,
            "continue": continue_token,
        }
        found = await self._client.request("GET", resource.path(namespace), params=params, headers={"accept": LIST_ACCEPT})
        found["items"] = [only_metadata(each) for each in found.get("items") or ()]
        return found

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int | None = None,
        params: Params | None = None,
    ) -> AsyncIterator[tuple[str, Obj]]:
        """As :meth:`Client.watch`."""
        query = {
            "watch": True,
            "resourceVersion": resource_version,
            "labelSelector": label_selector or None,
            "fieldSelector": field_selector or None,
            "timeoutSeconds": timeout_seconds,
            "allowWatchBookmarks": True,
            **(params or {}),
        }
        lines = self._client.stream_lines("GET", resource.path(namespace), params=query, headers={"accept": WATCH_ACCEPT})
        async for line in lines:
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                raise ApiError(event["object"])
            if event["type"] == "BOOKMARK":
                yield "BOOKMARK", event["object"]
                continue
            obj = only_metadata(event["object"]) | {"apiVersion": resource.group_version, "kind": resource.kind}
            yield event["type"], obj


def only_metadata(obj: Obj) -> Obj:
    """The part of the metadata that says who an object is, to whom it belongs and whether it is on its way out."""
    return {"metadata": {key: value for key, value in obj["metadata"].items() if key in KEPT}}
