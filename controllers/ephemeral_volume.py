"""Generic ephemeral volumes: the claim that a pod's volume of the kind `ephemeral` describes, owned by the pod, and so gone with it (KEP-1698).

Its name follows from the pod's and the volume's, so there is never a second one. A claim of that name which is not the pod's is left alone: the pod waits, and an
event says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kubeling.api.errors import ApiError, is_already_exists, is_namespace_terminating
from kubeling.api.meta import copy_json, is_deleting, name_of, namespace_of, spec_of
from kubeling.api.owner import is_controlled_by, make_controller_ref
from kubeling.api.pods import is_terminal
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from kubeling.client.controller import Reconciler, Request, owner_of_kind, request_for
from kubeling.controllers.context import POD_INDEXERS, Context, Obj


def claims_wanted(pod: Obj) -> list[Obj]:
    """The claims that have to be there for the pod."""
    found = []
    for volume in spec_of(pod).get("volumes") or ():
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template:
            meta = template.get("metadata") or {}
            found.append(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {
                        "name": f"{name_of(pod)}-{volume['name']}",
                        "namespace": namespace_of(pod),
                        "labels": dict(meta.get("labels") or {}),
                        "annotations": dict(meta.get("annotations") or {}),
                        "ownerReferences": [make_controller_ref(pod, "v1", "Pod")],
                    },
                    "spec": copy_json(template.get("spec") or {}),
                }
            )
    return found


class EphemeralVolumeController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._events = ctx.recorder("ephemeral_volume")
        self._loop = Reconciler("ephemeral-volume-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._pods, _with_ephemeral)
        self._loop.watches(self._claims, owner_of_kind("Pod"))
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Make the claims of a pod that are not there."""
        pod = self._pods.store.get(request.name, request.namespace)
        if pod is None or is_deleting(pod) or is_terminal(pod):
            return None
        for wanted in claims_wanted(pod):
            found = self._claims.store.get(name_of(wanted), request.namespace)
            if found is None:
                found = await self._create(wanted)
            if found is not None and not is_controlled_by(found, pod):
                message = f'PVC "{request.namespace}/{name_of(wanted)}" was not created for pod "{request}" (pod is not owner)'
                self._events.event({"apiVersion": "v1", "kind": "Pod", **pod}, "Warning", "ClaimConflict", message)
        return None

    async def _create(self, wanted: Obj) -> Obj | None:
        try:
            return await self._client.create(PERSISTENT_VOLUME_CLAIMS, wanted)
        except ApiError as error:
            if is_already_exists(error):
                return await self._client.get(PERSISTENT_VOLUME_CLAIMS, name_of(wanted), namespace_of(wanted))
            if is_namespace_terminating(error):
                return None
            raise


def _with_ephemeral(pod: Obj) -> Iterable[Request]:
    return (request_for(pod),) if any(each.get("ephemeral") for each in spec_of(pod).get("volumes") or ()) else ()


def ephemeralvolume(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Makes the claims of generic ephemeral volumes."""
    return EphemeralVolumeController(ctx).run
