"""NamespaceLifecycle: nothing is created where there is no namespace, or one that is going; the system's own cannot be deleted."""

from __future__ import annotations

from kubeling.api import errors, resources
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.daemon.clock import Clock

_DOUBT_SECONDS = 30.0
_IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds, clock: Clock) -> None:
        self._kinds = kinds
        self._clock = clock
        #: Namespaces that were deleted through this server just now, and until when the cache is not to be trusted about them.
        self._deleted: dict[str, float] = {}

    async def admit(self, attributes: Attributes) -> None:
        resource = attributes.resource
        if resource.plural == "namespaces" and not resource.group:
            if attributes.operation == "DELETE" and attributes.name in _IMMORTAL:
                raise errors.forbidden("", "namespaces", attributes.name, "this namespace may not be deleted")
            if attributes.operation == "DELETE":
                self._note(attributes.name)
            return
        if not resource.namespaced or attributes.operation != "CREATE" or resource.plural == "localsubjectaccessreviews":
            return
        store = self._kinds.store(resources.NAMESPACES)
        namespace = attributes.namespace
        doubtful = self._deleted.get(namespace, 0.0) > self._clock.monotonic()
        found = await (store.live if doubtful else store.peek)("", namespace)
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

    def _note(self, name: str) -> None:
        now = self._clock.monotonic()
        self._deleted = {each: until for each, until in self._deleted.items() if until > now}
        self._deleted[name] = now + _DOUBT_SECONDS


def _terminating(namespace: dict[str, object]) -> bool:
    metadata = namespace["metadata"]
    return isinstance(metadata, dict) and "deletionTimestamp" in metadata
