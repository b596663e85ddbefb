"""PVC and PV protection: what somebody uses is deleted when nobody does any more.

Admission gives claims and volumes a finalizer; here it is taken off what is being deleted, once no pod that has a node uses the claim, or no claim is bound to the
volume. Before a claim is let go of, the server itself is asked for the pods: an informer may not have seen the newest yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kubeling.api.errors import is_not_found
from kubeling.api.meta import is_deleting, name_of, namespace_of, remove_finalizer, spec_of, status_of
from kubeling.api.pods import is_terminal, node_of
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, Resource
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import POD_INDEXERS, Context, Obj

PVC_FINALIZER = "kubernetes.io/pvc-protection"
PV_FINALIZER = "kubernetes.io/pv-protection"


def claims_of(pod: Obj) -> list[str]:
    """The claims that a pod uses, those that are made for it included."""
    found: list[str] = []
    for volume in spec_of(pod).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            found.append(str(volume["persistentVolumeClaim"].get("claimName") or ""))
        elif volume.get("ephemeral"):
            found.append(f"{name_of(pod)}-{volume.get('name')}")
    return found


def uses(pod: Obj, claim: str) -> bool:
    """Whether the claim has to stay for the pod: it has a node, is not over, and names the claim."""
    return bool(node_of(pod)) and not is_terminal(pod) and claim in claims_of(pod)


class ClaimProtection:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._loop = Reconciler("pvc-protection-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._claims)
        self._loop.watches(self._pods, _claims_of_pod)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        claim = self._claims.store.get(request.name, request.namespace)
        if claim is None or not is_deleting(claim) or PVC_FINALIZER not in (claim["metadata"].get("finalizers") or ()):
            return None
        if any(uses(pod, request.name) for pod in self._pods.store.in_namespace(request.namespace)):
            return None
        live = await self._client.list(PODS, request.namespace)
        if not any(uses(pod, request.name) for pod in live["items"]):
            await _let_go(self._client.update, PERSISTENT_VOLUME_CLAIMS, claim, PVC_FINALIZER)
        return None


def _claims_of_pod(pod: Obj) -> Iterable[Request]:
    return [Request(namespace_of(pod), each) for each in claims_of(pod)]


class VolumeProtection:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._loop = Reconciler("pv-protection-controller", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._volumes)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        volume = self._volumes.store.get(request.name)
        if volume is None or not is_deleting(volume) or PV_FINALIZER not in (volume["metadata"].get("finalizers") or ()):
            return None
        if status_of(volume).get("phase") != "Bound":
            await _let_go(self._client.update, PERSISTENT_VOLUMES, volume, PV_FINALIZER)
        return None


async def _let_go(update: Callable[[Resource, Obj], Awaitable[Obj]], resource: Resource, obj: Obj, finalizer: str) -> None:
    changed = {**obj, "metadata": {**obj["metadata"], "finalizers": list(obj["metadata"]["finalizers"])}}
    remove_finalizer(changed, finalizer)
    try:
        await update(resource, changed)
    except Exception as error:
        if not is_not_found(error):
            raise


def pvcprotection(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Takes the finalizer off claims."""
    return ClaimProtection(ctx).run


def pvprotection(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Takes the finalizer off volumes."""
    return VolumeProtection(ctx).run
