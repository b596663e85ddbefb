"""NamespaceLifecycle: nothing is created where there is no namespace, or one that is going; the system's own cannot be deleted."""

from __future__ import annotations

from kubeling.api import errors, resources
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.registry.kinds import Kinds

_IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def admit(self, attributes: Attributes) -> None:
        resource = attributes.resource
        if resource.plural == "namespaces" and not resource.group:
            if attributes.operation == "DELETE" and attributes.name in _IMMORTAL:
                raise errors.forbidden("", "namespaces", attributes.name, "this namespace may not be deleted")
            return
        if not resource.namespaced or attributes.operation != "CREATE" or resource.plural == "localsubjectaccessreviews":
            return
        store = self._kinds.store(resources.NAMESPACES)
        namespace = attributes.namespace
        found = await store.peek("", namespace)
        if found is None:
            raise errors.not_found("", "namespaces", namespace)
        if found.fields.get("status.phase") == "Terminating" or (not found.fields and _terminating(found.object())):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            error = errors.forbidden(resource.group, resource.plural, attributes.name, why)
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            error.status["details"]["causes"] = [cause]
            raise error


def _terminating(namespace: dict[str, object]) -> bool:
    metadata = namespace["metadata"]
    return isinstance(metadata, dict) and "deletionTimestamp" in metadata
