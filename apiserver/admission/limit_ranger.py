"""LimitRanger: the LimitRanges of a namespace give pods their defaults, and hold pods and claims to their bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.admission import limits
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.registry.kinds import Kinds

_FAULTS: dict[str, Callable[[dict[str, Any], dict[str, Any]], list[str]]] = {
    "pods": limits.pod_faults,
    "persistentvolumeclaims": limits.claim_faults,
}


class LimitRanger(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def admit(self, attributes: Attributes) -> None:
        if attributes.resource.qualified != "pods" or attributes.operation != "CREATE" or attributes.subresource:
            return
        assert attributes.obj is not None
        for each in await self._ranges(attributes.namespace):
            limits.set_defaults(each, attributes.obj)

    async def validate(self, attributes: Attributes) -> None:
        resource, obj = attributes.resource, attributes.obj
        faults = _FAULTS.get(resource.qualified)
        if faults is None or obj is None or not _applies(attributes):
            return
        for each in await self._ranges(attributes.namespace):
            found = faults(each, obj)
            if found:
                unique = list(dict.fromkeys(found))
                why = unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
                raise errors.forbidden(resource.group, resource.plural, attributes.name, why)

    async def _ranges(self, namespace: str) -> list[dict[str, Any]]:
        store = self._kinds.store(resources.LIMIT_RANGES)
        await store.cache.ready()
        return [entry.object() for entry in store.cache.entries(store.collection(namespace))]


def _applies(attributes: Attributes) -> bool:
    """Pods are held to it when they come or are resized, claims whenever their spec is written."""
    if attributes.operation == "CREATE":
        return not attributes.subresource
    if attributes.operation != "UPDATE":
        return False
    if attributes.resource.plural == "pods":
        return attributes.subresource == "resize"
    return not attributes.subresource
