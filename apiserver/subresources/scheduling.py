"""pods/scheduling: why a pod is where it is, or nowhere. The scheduler that leads for the pod is asked, by the address on its Lease.

Ours, not upstream's: the answer is a SchedulingExplanation (scheduling.kubeling.dev/v1alpha1), the table of nodes and plugins behind the pod's latest
attempt. Leases in kube-system are written by the cluster's own components only, so what they name may be dialled.
"""

from __future__ import annotations

from urllib.parse import urlencode

from kubeling.api import errors, resources
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers.common import store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request
from kubeling.apiserver.reverse import Backend, DialFailed, Unreachable, forward

_NAMESPACE = "kube-system"
_ADDRESS = "scheduling.kubeling.dev/status-address"
_PROFILES = "scheduling.kubeling.dev/profiles"


async def explain(context: Context, request: Request, served: Served) -> None:
    """GET …/pods/x/scheduling[?limit=…][&node=…]."""
    info, query = request.info, request.query
    pod = (await store_of(served).read(info.namespace, info.name)).object()
    scheduler = pod["spec"].get("schedulerName") or "default-scheduler"
    host, _, port = (await _leader(context, scheduler)).rpartition(":")
    asked = {"namespace": info.namespace, "name": info.name}
    asked |= {name: query[name] for name in ("limit", "node") if name in query}
    backend = Backend(((host.strip("[]"), int(port)),), None, host)
    try:
        await forward(context, request, backend, f"/explain?{urlencode(asked)}", [(b"host", host.encode())])
    except (DialFailed, Unreachable) as error:
        raise errors.service_unavailable(f"the scheduler {scheduler} does not answer: {error}") from None


async def _leader(context: Context, scheduler: str) -> str:
    """`host:port` of the status port of whoever schedules for that name. Raises 503 where nobody says so."""
    store = context.kinds.store(resources.LEASES)
    await store.cache.ready()
    for entry in store.cache.entries(store.collection(_NAMESPACE)):
        lease = entry.object()
        annotations = lease["metadata"].get("annotations") or {}
        address = annotations.get(_ADDRESS) or ""
        if scheduler in (annotations.get(_PROFILES) or "").split(",") and address.rpartition(":")[2].isdigit():
            return str(address)
    raise errors.service_unavailable(f"no scheduler says that it schedules for {scheduler}")
