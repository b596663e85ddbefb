"""Lists and watches of metadata only: `PartialObjectMetadata`, for those who look at every kind and at nothing inside.

:class:`MetadataClient` has the two verbs that an informer uses. A server that does not know the format answers with whole objects, which are cut
down here, so the copy holds the same either way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from kubeling.api.resources import Resource
from kubeling.client.rest import Client

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

    async def list(self, resource: Resource, namespace: str | None = None, **options: Any) -> Obj:
        """As :meth:`Client.list`, with the same options."""
        found = await self._client.list(resource, namespace, accept=LIST_ACCEPT, **options)
        found["items"] = [only_metadata(each) for each in found.get("items") or ()]
        return found

    async def watch(self, resource: Resource, namespace: str | None = None, **options: Any) -> AsyncIterator[tuple[str, Obj]]:
        """As :meth:`Client.watch`, with the same options."""
        async for kind, obj in self._client.watch(resource, namespace, accept=WATCH_ACCEPT, **options):
            if kind == "BOOKMARK":
                yield kind, obj
            else:
                yield kind, only_metadata(obj) | {"apiVersion": resource.group_version, "kind": resource.kind}


def only_metadata(obj: Obj) -> Obj:
    """The part of the metadata that says who an object is, to whom it belongs and whether it is on its way out."""
    return {"metadata": {key: value for key, value in obj["metadata"].items() if key in KEPT}}
