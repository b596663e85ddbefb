"""What every cluster has from the start: the system's namespaces and priority classes, the range of Service addresses, and since when uses of legacy tokens are noted.

Each is created if it is missing; several apiservers may do it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeling.api import errors, legacytokens, resources
from kubeling.apiserver.aggregation import identity
from kubeling.apiserver.authn.user import MASTERS, User
from kubeling.apiserver.authz import reconcile
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry import pipeline
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.registry.planting import plant
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("bootstrap")

#: The server itself.
SELF = User("system:apiserver", (MASTERS,))
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


def _priority_class(name: str, value: int, description: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "value": value, "description": description}


async def run(context: Context, more_roles: Sequence[dict[str, Any]] = ()) -> None:
    """Create what is missing. `more_roles`: roles and bindings besides the bootstrap policy."""
    wanted: list[tuple[resources.Resource, dict[str, Any]]] = [
        (resources.NAMESPACES, {"metadata": {"name": name}}) for name in NAMESPACES
    ]
    critical = "Used for system critical pods that must "
    wanted += [
        (
            resources.PRIORITY_CLASSES,
            _priority_class(
                "system-cluster-critical",
                2_000_000_000,
                critical + "run in the cluster, but can be moved to another node if necessary.",
            ),
        ),
        (
            resources.PRIORITY_CLASSES,
            _priority_class("system-node-critical", 2_000_001_000, critical + "not be moved from their current node."),
        ),
        (
            resources.SERVICE_CIDRS,
            {
                "metadata": {"name": "kubernetes"},
                "spec": {"cidrs": [str(each) for each in context.config.service_cluster_ip_ranges]},
            },
        ),
    ]
    since = {legacytokens.SINCE: context.clock.now().date().isoformat()}
    where = {"name": legacytokens.TRACKING, "namespace": legacytokens.TRACKING_NAMESPACE}
    wanted.append((resources.CONFIG_MAPS, {"metadata": where, "data": since}))
    backoff = Backoff(base=0.1, limit=5)
    for resource, obj in [] if await _planted(context, wanted) else wanted:
        while not await _ensured(context, resource, obj):
            await context.clock.sleep(backoff.next())
    while not await _published(context):
        await context.clock.sleep(backoff.next())
    if context.authorization.rbac is not None:
        await reconcile.run(context, context.authorization.rbac, more_roles)
    context.bootstrapped = True


async def _planted(context: Context, wanted: Sequence[tuple[resources.Resource, dict[str, Any]]]) -> bool:
    """Whether all of it could be written at once, as in a new cluster."""
    every = [{"apiVersion": resource.group_version, "kind": resource.kind, **obj} for resource, obj in wanted]
    try:
        return await context.kinds.store(wanted[0][0]).live("", NAMESPACES[0]) is None and await plant(context, every) is not None
    except StoreError as error:
        log.warning("the store is not there yet", error=str(error))
        return False


async def _published(context: Context) -> bool:
    """Whether the ConfigMap for servers behind this one says what it should."""
    try:
        await identity.publish(context)
    except StoreError as error:
        log.warning("the store is not there yet", error=str(error))
        return False
    return True


async def _ensured(context: Context, resource: resources.Resource, obj: dict[str, Any]) -> bool:
    """Whether it is there now; False where the store cannot be reached, which is no reason to give up."""
    try:
        await _ensure(context, resource, obj)
    except StoreError as error:
        log.warning("the store is not there yet", error=str(error))
        return False
    return True


async def _ensure(context: Context, resource: resources.Resource, obj: dict[str, Any]) -> None:
    served = context.kinds.find(resource.group, resource.version, resource.plural)
    assert served is not None
    assert served.store is not None
    store = served.store
    namespace = obj["metadata"].get("namespace") or ""
    if await store.live(namespace, obj["metadata"]["name"]) is not None:
        return
    made = {"apiVersion": resource.group_version, "kind": resource.kind, **obj}
    try:
        await pipeline.create(context, served, store, namespace, made, Options(SELF, "kube-apiserver"))
    except errors.ApiError as error:
        if not errors.is_already_exists(error):
            raise
