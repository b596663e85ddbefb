"""Claims that ask for more than their volume has. Whoever made the volume makes it larger (a CSI driver's resizer); here it is only said who is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api import quantity
from kubeling.api.meta import is_deleting, spec_of, status_of
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers import volume_plan as plan
from kubeling.controllers.context import Context, Obj


def wants_more(claim: Obj, volume: Obj | None) -> bool:
    """Whether a bound claim asks for more than its volume has, so that somebody has to act."""
    if volume is None or is_deleting(claim) or status_of(claim).get("phase") != "Bound":
        return False
    return plan.asked(claim) > plan.capacity(volume)


class ExpandController:
    def __init__(self, ctx: Context) -> None:
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._events = ctx.recorder("volume_expand")
        #: The size that was spoken of already.
        self._told: dict[Request, str] = {}
        self._loop = Reconciler("volume-expand", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._claims)
        self._loop.needs(self._volumes)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Say once for each new size that a resizer is waited for."""
        claim = self._claims.store.get(request.name, request.namespace)
        if claim is None or not wants_more(claim, self._volumes.store.get(str(spec_of(claim).get("volumeName") or ""))):
            self._told.pop(request, None)
            return None
        size = quantity.canonical(spec_of(claim)["resources"]["requests"]["storage"])
        if self._told.get(request) == size:
            return None
        self._told[request] = size
        named = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
        message = "waiting for an external controller to expand this PVC"
        self._events.event(named, "Normal", "ExternalExpanding", message)
        return None


def volumeexpand(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Says who is to make volumes larger."""
    return ExpandController(ctx).run
