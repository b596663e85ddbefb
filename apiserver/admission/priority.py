"""Priority: the number behind a pod's priority class."""

from __future__ import annotations

from typing import Any

from kubeling.api import errors, resources
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.registry.kinds import Kinds

_PREEMPT = "PreemptLowerPriority"


class Priority(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def admit(self, attributes: Attributes) -> None:
        if attributes.resource.kind != "Pod" or attributes.subresource or attributes.obj is None:
            return
        spec = attributes.pod_spec
        if attributes.operation == "UPDATE":
            # Settled at creation; a client that leaves the fields out does not mean to take them away.
            before = (attributes.old or {}).get("spec") or {}
            for name in ("priority", "preemptionPolicy"):
                if spec.get(name) is None and name in before:
                    spec[name] = before[name]
            return
        name, number, policy = await self._class_of(attributes, spec)
        if name:
            spec["priorityClassName"] = name
        given = spec.get("priority")
        if given is not None and given != number:
            why = f"the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {number} from the given PriorityClass name"
            raise errors.forbidden("", "pods", attributes.name, why)
        wanted = spec.get("preemptionPolicy")
        if wanted is not None and wanted != policy:
            why = f"the string value of PreemptionPolicy ({wanted}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            raise errors.forbidden("", "pods", attributes.name, why)
        spec["priority"] = number
        spec["preemptionPolicy"] = policy

    async def _class_of(self, attributes: Attributes, spec: dict[str, Any]) -> tuple[str, int, str]:
        """Name, value and preemption policy of the class that applies."""
        store = self._kinds.store(resources.PRIORITY_CLASSES)
        name = spec.get("priorityClassName") or ""
        if name:
            found = await store.peek("", name)
            if found is None:
                raise errors.forbidden("", "pods", attributes.name, f"no PriorityClass with name {name} was found")
            chosen = found.object()
            return name, chosen.get("value") or 0, chosen.get("preemptionPolicy") or _PREEMPT
        await store.cache.ready()
        best: dict[str, Any] | None = None
        for entry in store.cache.entries():
            if b'"globalDefault":true' in entry.raw:
                candidate = entry.object()
                if candidate.get("globalDefault") and (best is None or candidate.get("value", 0) < best.get("value", 0)):
                    best = candidate
        if best is None:
            return "", 0, _PREEMPT
        return best["metadata"]["name"], best.get("value") or 0, best.get("preemptionPolicy") or _PREEMPT

    async def validate(self, attributes: Attributes) -> None:
        """Only one class may be everybody's default."""
        obj = attributes.obj
        if attributes.resource.kind != "PriorityClass" or obj is None or not obj.get("globalDefault"):
            return
        store = self._kinds.store(resources.PRIORITY_CLASSES)
        await store.cache.ready()
        for entry in store.cache.entries():
            if entry.name != attributes.name and entry.object().get("globalDefault"):
                why = f"PriorityClass {entry.name} is already marked as default. Only one default can exist"
                raise errors.forbidden(attributes.resource.group, "priorityclasses", attributes.name, why)
