"""A Lease for each apiserver: that it is there, and where the others reach it.

The controller of the Service `default/kubernetes` makes endpoints of them. The Lease is renewed every ten seconds; one that is not renewed counts no more
after half a minute, and a server that is told to stop takes its own away.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.hashing import fnv1a_32, safe_encode
from kubeling.api.meta import Object, copy_json
from kubeling.api.times import format_micro_time
from kubeling.apiserver.bootstrap import SELF
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry import pipeline
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.registry.store import Change, Store
from kubeling.apiserver.storage.errors import StoreError
from kubeling.apiserver.storageversions import StorageVersions
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor

log = get_logger("apiserver")

NAMESPACE = "kube-system"
IDENTITY_LABEL = "apiserver.kubernetes.io/identity"
ADDRESS_ANNOTATION = "kubeling.dev/advertise-address"
RENEW_SECONDS = 10.0
RETRY_SECONDS = 0.5
DURATION_SECONDS = 30
_OPTIONS = Options(SELF, "kube-apiserver")


def advertised(context: Context, port: int) -> str | None:
    """`ip:port` where other members of the cluster reach this server; None where nobody said."""
    address = context.config.advertise_address or context.config.bind_address
    if address in ("", "0.0.0.0", "::"):
        return None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def lease_name(address: str) -> str:
    """The server's name, by what it is reached at: a server that comes back is the same one."""
    return f"apiserver-{safe_encode(str(fnv1a_32(address.encode())))}"


async def run(context: Context, port: int) -> None:
    """Keep the Lease until cancelled, then remove it; where StorageVersions are served, say there what this server stores."""
    address = advertised(context, port)
    if address is None:
        return
    async with Supervisor(context.clock) as parts:
        if resources.STORAGE_VERSIONS in context.config.more_kinds:
            parts.start("storage versions", StorageVersions(context, lease_name(address)).run)
        await _keep(context, address)


async def _keep(context: Context, address: str) -> None:
    served = context.kinds.find(resources.LEASES.group, resources.LEASES.version, resources.LEASES.plural)
    assert served is not None
    assert served.store is not None
    name = lease_name(address)
    try:
        while True:
            try:
                await _renew(context, served, served.store, name, address)
                wait = RENEW_SECONDS
            except (errors.ApiError, StoreError) as error:
                # At the very start the namespace may not be there yet.
                log.debug("the identity lease could not be renewed", error=str(error))
                wait = RETRY_SECONDS
            await context.clock.sleep(wait)
    finally:
        await _remove(served, served.store, name)


async def _renew(context: Context, served: Served, store: Store, name: str, address: str) -> None:
    now = format_micro_time(context.clock.now())
    spec: dict[str, Any] = {"holderIdentity": address, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now}

    async def mutate(old: Object) -> Change:
        new = copy_json(old)
        new["metadata"]["annotations"] = {**(new["metadata"].get("annotations") or {}), ADDRESS_ANNOTATION: address}
        new["spec"] = {**(new.get("spec") or {}), **spec}
        return await pipeline.prepare_update(context, served, NAMESPACE, name, new, old, _OPTIONS)

    try:
        await store.change(NAMESPACE, name, mutate)
    except errors.ApiError as error:
        if not errors.is_not_found(error):
            raise
        labels = {IDENTITY_LABEL: "kube-apiserver", "kubernetes.io/hostname": socket.gethostname()}
        meta = {"name": name, "namespace": NAMESPACE, "labels": labels, "annotations": {ADDRESS_ANNOTATION: address}}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        await pipeline.create(context, served, store, NAMESPACE, lease, _OPTIONS)


async def _remove(served: Served, store: Store, name: str) -> None:
    try:
        async with asyncio.timeout(2):
            await store.change(NAMESPACE, name, lambda old: pipeline.removal(served, old))
    except (errors.ApiError, StoreError, TimeoutError) as error:
        log.debug("the identity lease will run out", error=str(error))
