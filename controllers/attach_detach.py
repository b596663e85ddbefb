"""Attach and detach: a VolumeAttachment for every volume that a pod on a node needs, as long as it does.

The driver's attacher does the work that a VolumeAttachment asks for. What is attached is told to the kubelet in `Node.status.volumesAttached`, and a kubelet mounts
nothing that is not there. A volume that is not needed any more leaves that list first; only when the node does not name it in `volumesInUse` (asked of the Node as
it is after that write) its VolumeAttachment is deleted. A node that is gone, or marked out of service, is not waited for; one that is ill is, for six minutes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kubeling.api.errors import ApiError, is_already_exists, is_not_found
from kubeling.api.meta import (
    is_deleting,
    join_key,
    key_of,
    name_of,
    namespace_of,
    resource_version_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.pods import node_of
from kubeling.api.resources import CSI_DRIVERS, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTACHMENTS
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers import attach_plan as plan
from kubeling.controllers.context import POD_INDEXERS, Context, Obj
from kubeling.controllers.storage_protection import claims_of

#: How long an ill node is given to unmount what nobody there needs any more.
MAX_WAIT_FOR_UNMOUNT = 360.0


class AttachDetachController:
    def __init__(self, ctx: Context) -> None:
        self._client, self._clock = ctx.client, ctx.clock
        self._nodes = ctx.informers.informer(NODES)
        self._pods = ctx.informers.informer(PODS, indexers={**POD_INDEXERS, "claim": _by_claim})
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._drivers = ctx.informers.informer(CSI_DRIVERS)
        self._attachments = ctx.informers.informer(VOLUME_ATTACHMENTS, indexers={"node": _by_node, "volume": _by_volume})
        self._events = ctx.recorder("attachdetach-controller")
        #: Attachments that nobody needs and a node still uses → since when.
        self._unwanted: dict[str, float] = {}
        self._loop = Reconciler("attachdetach-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._pods, self._node_of_pod)
        self._loop.watches(self._nodes, self._node_with_attachments)
        self._loop.watches(self._attachments, self._nodes_of_attachment)
        self._loop.watches(self._volumes, self._nodes_of_volume)
        self._loop.watches(self._claims, self._nodes_of_claim)
        self._loop.needs(self._drivers)
        self.run = self._loop.run

    # -- what wakes what -------------------------------------------------------------------------------------------------------------

    def _node_of_pod(self, pod: Obj) -> Iterable[Request]:
        return (Request("", node_of(pod)),) if node_of(pod) and claims_of(pod) else ()

    def _node_with_attachments(self, node: Obj) -> Iterable[Request]:
        """Nodes report often; those without attached volumes are not looked at for it."""
        name = name_of(node)
        return (
            (Request("", name),)
            if self._attachments.store.by_index("node", name) or status_of(node).get("volumesAttached")
            else ()
        )

    def _nodes_of_attachment(self, attachment: Obj) -> Iterable[Request]:
        """Its own, and those that wait for the same volume."""
        yield Request("", str(spec_of(attachment).get("nodeName") or ""))
        volume = self._volumes.store.get(_volume_of(attachment))
        if volume is not None:
            yield from self._nodes_of_volume(volume)

    def _nodes_of_volume(self, volume: Obj) -> Iterable[Request]:
        ref = spec_of(volume).get("claimRef") or {}
        if not ref or not spec_of(volume).get("csi"):
            return ()
        return self._nodes_by_claim(join_key(ref.get("namespace"), ref.get("name") or ""))

    def _nodes_of_claim(self, claim: Obj) -> Iterable[Request]:
        return self._nodes_by_claim(key_of(claim))

    def _nodes_by_claim(self, key: str) -> list[Request]:
        return [Request("", node_of(pod)) for pod in self._pods.store.by_index("claim", key) if node_of(pod)]

    # -- one node --------------------------------------------------------------------------------------------------------------------

    async def reconcile(self, request: Request) -> float | None:
        """Attach what a node needs and detach what it does not."""
        node = self._nodes.store.get(request.name)
        if node is None:
            for each in self._attachments.store.by_index("node", request.name):
                if await self._node_is_gone(request.name):
                    await self._delete(each)
            return None
        if not plan.is_managed(node):
            return None
        pods = self._pods.store.by_index("node", request.name)
        wanted = plan.wanted_on(
            request.name,
            pods,
            lambda namespace, name: self._claims.store.get(name, namespace),
            self._volumes.store.get,
            self._attachable,
        )
        there = {name_of(each): each for each in self._attachments.store.by_index("node", request.name)}
        for name, want in wanted.items():
            if name not in there:
                await self._attach(name, want, request.name)
            else:
                self._tell(there[name], want, node)
        node = await self._show(node, plan.attached_to(there.values(), wanted))
        for name in [each for each in self._unwanted if self._attachments.store.get(each) is None]:
            del self._unwanted[name]
        again: float | None = None
        for name, each in there.items():
            if name in wanted:
                self._unwanted.pop(name, None)
            elif not is_deleting(each):
                left = await self._detach(each, node)
                again = left if again is None or left is None else min(again, left)
        return again

    def _attachable(self, driver: str) -> bool:
        found = self._drivers.store.get(driver)
        return found is None or spec_of(found).get("attachRequired") is not False

    async def _attach(self, name: str, wanted: plan.Wanted, node: str) -> None:
        others = [each for each in self._attachments.store.by_index("volume", name_of(wanted.volume)) if name_of(each) != name]
        if wanted.exclusive and others:
            message = (
                f'Multi-Attach error for volume "{name_of(wanted.volume)}" Volume is already exclusively attached to one node and '
                "can't be attached to another"
            )
            self._warn(wanted, message)
            return
        try:
            await self._client.create(VOLUME_ATTACHMENTS, plan.new_attachment(name, wanted, node))
        except ApiError as error:
            if not is_already_exists(error):
                raise

    def _tell(self, attachment: Obj, wanted: plan.Wanted, node: Obj) -> None:
        status = status_of(attachment)
        volume = name_of(wanted.volume)
        problem = (status.get("attachError") or {}).get("message")
        shown = {each.get("name") for each in status_of(node).get("volumesAttached") or ()}
        if status.get("attached"):
            if plan.unique_name(wanted.driver, wanted.handle) not in shown:
                for pod in wanted.pods:
                    named = {"apiVersion": "v1", "kind": "Pod", **pod}
                    message = f'AttachVolume.Attach succeeded for volume "{volume}" '
                    self._events.event(named, "Normal", "SuccessfulAttachVolume", message)
        elif problem:
            self._warn(wanted, f'AttachVolume.Attach failed for volume "{volume}" : {problem}')

    def _warn(self, wanted: plan.Wanted, message: str) -> None:
        for pod in wanted.pods:
            self._events.event({"apiVersion": "v1", "kind": "Pod", **pod}, "Warning", "FailedAttachVolume", message)

    async def _show(self, node: Obj, attached: list[Obj]) -> Obj:
        """Write `volumesAttached`; the Node as it is after that."""
        if attached == (status_of(node).get("volumesAttached") or []):
            return node
        meta = {"uid": uid_of(node), "resourceVersion": resource_version_of(node)}
        body = {"metadata": meta, "status": {"volumesAttached": attached or None}}
        return await self._client.patch(NODES, name_of(node), body, subresource="status")

    async def _detach(self, attachment: Obj, node: Obj) -> float | None:
        """Delete the attachment unless the node still uses the volume; the seconds after which that is not waited for any more."""
        name, volume = name_of(attachment), self._volumes.store.get(_volume_of(attachment))
        source = spec_of(volume).get("csi") if volume is not None else None
        if source and not plan.may_be_forced(node):
            used = plan.unique_name(source["driver"], source["volumeHandle"]) in (status_of(node).get("volumesInUse") or ())
            since = self._unwanted.setdefault(name, self._clock.monotonic())
            left = since + MAX_WAIT_FOR_UNMOUNT - self._clock.monotonic()
            if used and (plan.is_healthy(node) or left > 0):
                return None if plan.is_healthy(node) else left
        await self._delete(attachment)
        return None

    async def _delete(self, attachment: Obj) -> None:
        self._unwanted.pop(name_of(attachment), None)
        if is_deleting(attachment):
            return
        try:
            await self._client.delete(VOLUME_ATTACHMENTS, name_of(attachment), uid=uid_of(attachment))
        except ApiError as error:
            if not is_not_found(error):
                raise

    async def _node_is_gone(self, name: str) -> bool:
        try:
            await self._client.get(NODES, name)
        except ApiError as error:
            if is_not_found(error):
                return True
            raise
        return False


def _volume_of(attachment: Obj) -> str:
    return str((spec_of(attachment).get("source") or {}).get("persistentVolumeName") or "")


def _by_claim(pod: Obj) -> Iterable[str]:
    return [join_key(namespace_of(pod), each) for each in claims_of(pod)]


def _by_node(attachment: Obj) -> Iterable[str]:
    return (str(spec_of(attachment).get("nodeName") or ""),)


def _by_volume(attachment: Obj) -> Iterable[str]:
    return (_volume_of(attachment),)


def attachdetach(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Attaches and detaches volumes."""
    return AttachDetachController(ctx).run
