"""The PersistentVolume binder: claims and volumes find each other, keep each other, and what is released is reclaimed.

Both sides are reconciled by one loop: a request with a namespace names a claim, one without names a volume. A binding is four writes in an order that can be
broken off after any of them: `claimRef` on the volume (from then on it is taken), the volume's phase, `volumeName` on the claim, the claim's status. Each write
is a compare-and-set on the copy that was judged, and each step is found again from what the objects say.

Volumes are made and deleted by provisioners (CSI drivers' sidecars, :mod:`kubeling.controllers.local_provisioner`); the binder only says on the claim which of
them is meant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import (
    annotations_of,
    copy_json,
    is_deleting,
    join_key,
    key_of,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.pods import is_terminal
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES, Resource
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.controllers import volume_plan as plan
from kubeling.controllers.context import POD_INDEXERS, Context, Obj
from kubeling.controllers.storage_protection import claims_of

_DATA_LOST = "Data on the volume is lost!"


class VolumeBinder:
    def __init__(self, ctx: Context) -> None:
        self._client, self._clock = ctx.client, ctx.clock
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES, indexers={"claim": _by_claim})
        self._classes = ctx.informers.informer(STORAGE_CLASSES)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._events = ctx.recorder("persistentvolume-controller")
        self._loop = Reconciler("persistentvolume-binder", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._claims, self._claim_and_volumes)
        self._loop.watches(self._volumes, self._volume_and_claims)
        self._loop.watches(self._classes, self._claims_of_class)
        self._loop.needs(self._pods)
        self.run = self._loop.run

    # -- what wakes what -------------------------------------------------------------------------------------------------------------

    def _claim_and_volumes(self, claim: Obj) -> Iterable[Request]:
        yield request_for(claim)
        if spec_of(claim).get("volumeName"):
            yield Request("", spec_of(claim)["volumeName"])
        for volume in self._volumes.store.by_index("claim", key_of(claim)):
            yield request_for(volume)

    def _volume_and_claims(self, volume: Obj) -> Iterable[Request]:
        yield request_for(volume)
        ref = plan.holder(volume)
        if ref:
            yield Request(ref.get("namespace") or "", ref.get("name") or "")
        else:
            yield from self._pending(plan.class_of(volume))

    def _claims_of_class(self, storage_class: Obj) -> Iterable[Request]:
        """The claims without a class too: this may be the default one."""
        return self._pending(name_of(storage_class), "")

    def _pending(self, *classes: str) -> list[Request]:
        return [
            request_for(each)
            for each in self._claims.store
            if status_of(each).get("phase") in (None, "", "Pending") and plan.class_of(each) in classes
        ]

    async def reconcile(self, request: Request) -> float | None:
        """Move one claim, or one volume, a step on."""
        if request.namespace:
            claim = self._claims.store.get(request.name, request.namespace)
            if claim is not None:
                await (self._bound(claim) if plan.BIND_COMPLETED in annotations_of(claim) else self._unbound(claim))
        else:
            volume = self._volumes.store.get(request.name)
            if volume is not None:
                await self._volume(volume)
        return None

    # -- claims ----------------------------------------------------------------------------------------------------------------------

    async def _unbound(self, claim: Obj) -> None:
        name = spec_of(claim).get("volumeName")
        if not name:
            await self._find(claim)
            return
        volume = self._volumes.store.get(name)
        if volume is None or (plan.holder(volume) and not plan.is_held_by(volume, claim)):
            # It may yet appear, or be let go of.
            await self._claim_status(claim, "Pending")
            if volume is not None:
                self._event(claim, "Warning", "FailedBinding", f'volume "{name}" already bound to a different claim.')
            return
        why = "" if plan.holder(volume) else plan.mismatch(volume, claim)
        if why:
            self._event(claim, "Warning", "VolumeMismatch", f'Cannot bind to requested volume "{name}": {why}')
            await self._claim_status(claim, "Pending")
            return
        await self._bind(volume, claim)

    async def _find(self, claim: Obj) -> None:
        storage_class = self._classes.store.get(plan.class_of(claim)) if plan.class_of(claim) else None
        volume = plan.best_match(self._volumes.store, claim, plan.waits_for_consumer(claim, storage_class))
        if volume is not None:
            await self._bind(volume, claim)
            return
        if is_deleting(claim):
            return
        claim = await self._claim_status(claim, "Pending")
        if plan.waits_for_consumer(claim, storage_class):
            self._say_what_it_waits_for(claim)
        elif plan.class_of(claim):
            await self._provision(claim, storage_class)
        else:
            default = plan.default_class(self._classes.store)
            if default is not None and spec_of(claim).get("storageClassName") is None:
                changed = copy_json(claim)
                changed["spec"]["storageClassName"] = name_of(default)
                await self._client.update(PERSISTENT_VOLUME_CLAIMS, changed)
                return
            message = "no persistent volumes available for this claim and no storage class is set"
            self._event(claim, "Normal", "FailedBinding", message)

    def _say_what_it_waits_for(self, claim: Obj) -> None:
        for pod in self._pods.store.in_namespace(namespace_of(claim)):
            if not is_terminal(pod) and name_of(claim) in claims_of(pod):
                self._event(claim, "Normal", "WaitForPodScheduled", f"waiting for pod {name_of(pod)} to be scheduled")
                return
        message = "waiting for first consumer to be created before binding"
        self._event(claim, "Normal", "WaitForFirstConsumer", message)

    async def _provision(self, claim: Obj, storage_class: Obj | None) -> None:
        """Say who is to make a volume; the provisioner of that name follows the claims."""
        if storage_class is None:
            message = f'storageclass.storage.k8s.io "{plan.class_of(claim)}" not found'
            self._event(claim, "Warning", "ProvisioningFailed", message)
            return
        provisioner = str(storage_class.get("provisioner") or plan.NO_PROVISIONER)
        if provisioner == plan.NO_PROVISIONER:
            self._event(claim, "Warning", "ProvisioningFailed", f'no volume plugin matched name: "{provisioner}"')
            return
        marks: dict[str, str | None] = {plan.STORAGE_PROVISIONER: provisioner, plan.BETA_STORAGE_PROVISIONER: provisioner}
        if any(annotations_of(claim).get(key) != value for key, value in marks.items()):
            changed = copy_json(claim)
            plan.set_marks(changed, marks)
            claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, changed)
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system "
            "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        )
        self._event(claim, "Normal", "ExternalProvisioning", message)

    async def _bound(self, claim: Obj) -> None:
        name = spec_of(claim).get("volumeName")
        if not name:
            await self._lost(claim, "ClaimLost", f"Bound claim has lost reference to PersistentVolume. {_DATA_LOST}")
            return
        volume = self._volumes.store.get(name) or await self._live(PERSISTENT_VOLUMES, name)
        if volume is None:
            await self._lost(claim, "ClaimLost", f"Bound claim has lost its PersistentVolume. {_DATA_LOST}")
        elif not plan.holder(volume) or plan.is_held_by(volume, claim):
            await self._bind(volume, claim)
        else:
            message = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lost(claim, "ClaimMisbound", message)

    async def _lost(self, claim: Obj, reason: str, message: str) -> None:
        if status_of(claim).get("phase") != "Lost":
            await self._claim_status(claim, "Lost")
            self._event(claim, "Warning", reason, message)

    async def _bind(self, volume: Obj, claim: Obj) -> None:
        """The four writes, those that are missing."""
        held = plan.hold(volume, claim)
        if held is not None:
            volume = await self._client.update(PERSISTENT_VOLUMES, held)
        volume = await self._volume_phase(volume, "Bound")
        taken = plan.take(claim, volume)
        if taken is not None:
            claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, taken)
        await self._claim_status(claim, "Bound", volume)

    async def _claim_status(self, claim: Obj, phase: str, volume: Obj | None = None) -> Obj:
        status = plan.claim_status(claim, phase, volume)
        if status is None:
            return claim
        return await self._client.update_status(PERSISTENT_VOLUME_CLAIMS, {**claim, "status": status})

    # -- volumes ---------------------------------------------------------------------------------------------------------------------

    async def _volume(self, volume: Obj) -> None:
        ref = plan.holder(volume)
        if not ref.get("uid"):
            # Free, or set aside for a claim that will bind it when it comes.
            await self._volume_phase(volume, "Available")
            return
        claim = await self._holder(ref)
        if claim is None:
            if status_of(volume).get("phase") not in ("Released", "Failed"):
                volume = await self._volume_phase(volume, "Released")
            await self._reclaim(volume)
        elif spec_of(claim).get("volumeName") == name_of(volume):
            await self._volume_phase(volume, "Bound")
        elif not spec_of(claim).get("volumeName"):
            if plan.mode(claim) != plan.mode(volume):
                message = "Cannot bind PersistentVolume to requested PersistentVolumeClaim due to incompatible volumeMode."
                self._event(volume, "Warning", "VolumeMismatch", message)
                self._event(claim, "Warning", "VolumeMismatch", message)
            self._loop.queue.add(request_for(claim))
        elif plan.PROVISIONED_BY in annotations_of(volume) and _policy(volume) == "Delete":
            # Made for a claim that took another one meanwhile: nothing was ever written to it.
            await self._reclaim(await self._volume_phase(volume, "Released"))
        else:
            await self._client.update(PERSISTENT_VOLUMES, plan.let_go(volume))

    async def _holder(self, ref: Obj) -> Obj | None:
        """The claim that a volume is held by. The server is asked before it counts as gone: our copy may be behind."""
        claim = self._claims.store.get(ref.get("name") or "", ref.get("namespace") or "")
        if claim is None or uid_of(claim) != ref["uid"]:
            claim = await self._live(PERSISTENT_VOLUME_CLAIMS, ref.get("name") or "", ref.get("namespace") or "")
        return claim if claim is not None and uid_of(claim) == ref["uid"] else None

    async def _reclaim(self, volume: Obj) -> None:
        """Retain: nothing. Delete: its provisioner does it, when it sees the phase. What nobody made, nobody can delete."""
        policy = _policy(volume)
        if policy == "Retain" or is_deleting(volume) or status_of(volume).get("phase") == "Failed":
            return
        if policy == "Delete" and (plan.PROVISIONED_BY in annotations_of(volume) or spec_of(volume).get("csi")):
            return
        message = f'error getting {policy.lower()}r volume plugin for volume "{name_of(volume)}": no volume plugin matched'
        self._event(volume, "Warning", f"VolumeFailed{policy}", message)
        await self._volume_phase(volume, "Failed", message)

    async def _volume_phase(self, volume: Obj, phase: str, message: str = "") -> Obj:
        old = status_of(volume)
        if old.get("phase") == phase and (old.get("message") or "") == message:
            return volume
        status = {**old, "phase": phase}
        status.pop("message", None)
        if message:
            status["message"] = message
        if old.get("phase") != phase:
            status["lastPhaseTransitionTime"] = format_time(self._clock.now())
        return await self._client.update_status(PERSISTENT_VOLUMES, {**volume, "status": status})

    # -- both ------------------------------------------------------------------------------------------------------------------------

    async def _live(self, resource: Resource, name: str, namespace: str | None = None) -> Obj | None:
        try:
            return await self._client.get(resource, name, namespace)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    def _event(self, obj: Obj, kind: Any, reason: str, message: str) -> None:
        named = "PersistentVolumeClaim" if namespace_of(obj) else "PersistentVolume"
        self._events.event({"apiVersion": "v1", "kind": named, **obj}, kind, reason, message)


def _policy(volume: Obj) -> str:
    return str(spec_of(volume).get("persistentVolumeReclaimPolicy") or "Retain")


def _by_claim(volume: Obj) -> Iterable[str]:
    """An indexer for volumes: the key of the claim that they are held by."""
    ref = plan.holder(volume)
    return (join_key(ref.get("namespace"), ref.get("name") or ""),) if ref else ()


def persistentvolumebinder(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Binds claims and volumes."""
    return VolumeBinder(ctx).run
