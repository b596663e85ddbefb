"""RuntimeClass: what a pod's runtime costs on top of its containers, and where it can run at all (KEP-688)."""

from __future__ import annotations

from typing import Any

from kubeling.api import errors, resources
from kubeling.api.quantity import parse
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.registry.kinds import Kinds

_NO_OVERHEAD = "pod rejected: Pod's Overhead set without corresponding RuntimeClass defined Overhead"


class RuntimeClass(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def admit(self, attributes: Attributes) -> None:
        if not _applies(attributes):
            return
        spec = attributes.pod_spec
        name = spec.get("runtimeClassName")
        if not name:
            return
        found = await self._class(attributes, name)
        fixed = (found.get("overhead") or {}).get("podFixed")
        if fixed:
            if spec.get("overhead") and not _same(spec["overhead"], fixed):
                raise _refused(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = dict(fixed)
        scheduling = found.get("scheduling") or {}
        _select(attributes, spec, scheduling.get("nodeSelector") or {})
        present = spec.get("tolerations") or []
        more = [each for each in scheduling.get("tolerations") or () if each not in present]
        if more:
            spec["tolerations"] = [*present, *more]

    async def validate(self, attributes: Attributes) -> None:
        if not _applies(attributes):
            return
        spec = attributes.pod_spec
        name = spec.get("runtimeClassName")
        fixed = ((await self._class(attributes, name)).get("overhead") or {}).get("podFixed") if name else None
        if spec.get("overhead") and not fixed:
            raise _refused(attributes, _NO_OVERHEAD)

    async def _class(self, attributes: Attributes, name: str) -> dict[str, Any]:
        entry = await self._kinds.store(resources.RUNTIME_CLASSES).peek("", name)
        if entry is None:
            raise _refused(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        return entry.object()


def _applies(attributes: Attributes) -> bool:
    return attributes.resource.qualified == "pods" and attributes.operation == "CREATE" and not attributes.subresource


def _same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(parse(left[key]) == parse(right[key]) for key in left)


def _select(attributes: Attributes, spec: dict[str, Any], wanted: dict[str, str]) -> None:
    present = spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if present.get(key, value) != value:
            why = (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {present[key]}"
            )
            raise _refused(attributes, why)
    if wanted:
        spec["nodeSelector"] = {**present, **wanted}


def _refused(attributes: Attributes, why: str) -> errors.ApiError:
    return errors.forbidden("", "pods", attributes.name, why)
