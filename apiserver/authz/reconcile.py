"""The bootstrap policy, brought into the store when a server starts.

What is missing is created; of what is there, missing rules, subjects, labels and annotations are added and nothing is taken away, so what the user added stays.
An object whose annotation `rbac.authorization.kubernetes.io/autoupdate` is "false" is left alone. Several servers may do this at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.meta import Object, copy_json
from kubeling.api.rbac import Rule, uncovered
from kubeling.apiserver.authz import policy
from kubeling.apiserver.authz.rbac import Rbac
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry import pipeline, planting
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import Change, Store
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError

log = get_logger("rbac")

_AT_ONCE = 32
_KINDS = {
    "ClusterRole": resources.CLUSTER_ROLES,
    "ClusterRoleBinding": resources.CLUSTER_ROLE_BINDINGS,
    "Role": resources.ROLES,
    "RoleBinding": resources.ROLE_BINDINGS,
}


def load(path: str) -> list[Object]:
    """More objects of these four kinds, from a file with a JSON list of them. UsageError where it cannot be used."""
    if not path:
        return []
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--rbac-bootstrap-file {path}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) and each.get("kind") in _KINDS for each in found):
        raise UsageError(f"--rbac-bootstrap-file {path}: is not a list of {', '.join(_KINDS)}")
    return found


async def run(context: Context, rbac: Rbac, more: Sequence[Object] = ()) -> None:
    """Write what is missing; returns when all of it is there, and known to `rbac`."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(wanted: Object) -> None:
        backoff = Backoff(base=0.1, limit=5)
        while True:
            try:
                async with gate:
                    return await _ensure(context, wanted)
            except (StoreError, errors.ApiError) as error:
                log.warning("a role of the system could not be written", name=wanted["metadata"]["name"], error=str(error))
                await context.clock.sleep(backoff.next())

    # Roles before bindings: upstream's order, and nobody is bound to what is not there yet.
    every = [*policy.cluster_roles(), *policy.cluster_role_bindings(), *policy.roles(), *policy.role_bindings(), *more]
    if not await _begin(context, every):
        async with asyncio.TaskGroup() as group:
            for each in every:
                group.create_task(one(each))
    await context.kinds.store(resources.ROLES).cache.fresh()
    rbac.policy_is_there()


async def _begin(context: Context, every: Sequence[Object]) -> bool:
    """Write all of it in a few Txns, where nothing of it is there yet: a new cluster, which shall not wait for 150 writes. Whether that was so."""
    for obj in every:
        _, store, namespace, name = _place(context, obj)
        await store.cache.ready()
        if store.cache.get(store.key(namespace, name)) is not None:
            return False
    try:
        if await planting.plant(context, every) is not None:
            return True
    except StoreError as error:
        log.warning("the bootstrap policy could not be written at once", error=str(error))
    # Another server is doing the same: what it has written is not to be written once more.
    try:
        await context.kinds.store(resources.ROLES).cache.fresh()
    except (StoreError, errors.ApiError) as error:
        log.debug("the policy that another server writes is not seen yet", error=str(error))
    return False


def _place(context: Context, obj: Object) -> tuple[Served, Store, str, str]:
    """Where an object belongs."""
    served, store = planting.place(context, obj)
    return served, store, obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


async def _ensure(context: Context, wanted: Object) -> None:
    served, store, namespace, name = _place(context, wanted)
    await store.cache.ready()
    entry = store.cache.get(store.key(namespace, name))
    if entry is None:
        try:
            await pipeline.create(context, served, store, namespace, copy_json(wanted), planting.OPTIONS)
        except errors.ApiError as error:
            if not errors.is_already_exists(error):
                raise
            entry = await store.live(namespace, name)
    if entry is None:
        return
    if "roleRef" in wanted and _is_bound_elsewhere(entry.object(), wanted):
        await _replace(context, served, store, wanted)
        return
    if merged(entry.object(), wanted) is None:
        return

    async def mutate(old: Object) -> Change:
        new = merged(old, wanted) or copy_json(old)
        return await pipeline.prepare_update(context, served, namespace, name, new, old, planting.OPTIONS)

    await store.change(namespace, name, mutate)


def _is_bound_elsewhere(found: Object, wanted: Object) -> bool:
    """Whether a binding is of another role, which cannot be changed: the binding has to be made anew."""
    return _is_managed(found) and found.get("roleRef") != wanted["roleRef"]


async def _replace(context: Context, served: Served, store: Store, wanted: Object) -> None:
    namespace, name = wanted["metadata"].get("namespace") or "", wanted["metadata"]["name"]

    async def remove(old: Object) -> Change:
        if not _is_bound_elsewhere(old, wanted):
            return Change(old)
        return await pipeline.removal(served, old)

    result = await store.change(namespace, name, remove)
    if result.now is None:
        await pipeline.create(context, served, store, namespace, copy_json(wanted), planting.OPTIONS)


def _is_managed(found: Object) -> bool:
    return (found["metadata"].get("annotations") or {}).get(policy.AUTOUPDATE) != "false"


def merged(found: Object, wanted: Object) -> Object | None:
    """`found` with what `wanted` has more; None where there is nothing to add, or nothing may be added."""
    if not _is_managed(found):
        return None
    new = copy_json(found)
    changed = False
    for part in ("labels", "annotations"):
        have = new["metadata"].get(part) or {}
        more = {key: value for key, value in (wanted["metadata"].get(part) or {}).items() if key not in have}
        if more:
            new["metadata"][part] = {**have, **more}
            changed = True
    for add in (_add_selectors if "aggregationRule" in wanted else _add_rules, _add_subjects):
        changed = add(new, wanted) or changed
    return new if changed else None


def _add_rules(new: Object, wanted: Object) -> bool:
    have: list[Rule] = new.get("rules") or []
    missing = [rule for rule in wanted.get("rules") or () if uncovered(have, [rule])]
    if missing and "roleRef" not in wanted:
        new["rules"] = [*have, *missing]
        return True
    return False


def _add_selectors(new: Object, wanted: Object) -> bool:
    have = (new.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    missing = _without(wanted["aggregationRule"]["clusterRoleSelectors"], have)
    if missing:
        new["aggregationRule"] = {"clusterRoleSelectors": [*have, *missing]}
    return bool(missing)


def _add_subjects(new: Object, wanted: Object) -> bool:
    have = new.get("subjects") or []
    missing = _without(wanted.get("subjects") or (), have)
    if missing:
        new["subjects"] = [*have, *missing]
    return bool(missing)


def _without(wanted: Iterable[Any], have: Sequence[Any]) -> list[Any]:
    return [each for each in wanted if each not in have]
