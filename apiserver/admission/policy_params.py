"""The parameters of a policy: the objects that its binding names or selects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeling.api import labels
from kubeling.apiserver.admission.chain import Attributes
from kubeling.apiserver.registry.kinds import Kinds, Served
from kubeling.apiserver.registry.store import Store


class NoParams(ValueError):
    """There are none, and the binding wants that to be a failure."""


async def params_of(kinds: Kinds, policy: Mapping[str, Any], binding: Mapping[str, Any], attributes: Attributes) -> list[Any]:
    """The objects, one evaluation each; a single null where the policy takes none. Raises NoParams."""
    kind, reference = policy.get("paramKind"), binding.get("paramRef")
    if not kind or not reference:
        return [None]
    served = _served(kinds, str(kind.get("apiVersion") or ""), str(kind.get("kind") or ""))
    if served is None or served.store is None:
        raise NoParams(
            f"failed to configure binding: failed to find resource referenced by paramKind: '{kind.get('apiVersion')}, Kind={kind.get('kind')}'"
        )
    namespace = ""
    if served.resource.namespaced:
        namespace = str(reference.get("namespace") or attributes.namespace)
        if not namespace:
            raise NoParams(
                "failed to configure binding: cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            )
    elif reference.get("namespace"):
        raise NoParams("failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    found = await _find(served.store, namespace, reference)
    if not found and reference.get("parameterNotFoundAction") != "Allow":
        raise NoParams("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction")
    return found


def _served(kinds: Kinds, api_version: str, kind: str) -> Served | None:
    return next((each for each in kinds if each.resource.group_version == api_version and each.resource.kind == kind), None)


async def _find(store: Store, namespace: str, reference: Mapping[str, Any]) -> list[Any]:
    name = reference.get("name")
    if name:
        entry = await store.peek(namespace, str(name))
        return [entry.object()] if entry is not None else []
    selector = labels.from_selector(reference.get("selector") or {})
    await store.cache.ready()
    return [entry.object() for entry in store.cache.entries(store.collection(namespace)) if selector.matches(entry.labels)]
