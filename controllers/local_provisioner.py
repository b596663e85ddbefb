"""Our own provisioner, `kubeling.dev/local`: a directory on the node of the pod that uses the claim first.

It speaks the protocol of any external provisioner: it follows claims whose annotation `storage-provisioner` names it, makes a volume `pvc-<uid of the claim>` that
is set aside for the claim and tied to the node that the scheduler selected, and deletes volumes that are released under the policy Delete. The directory is made
by the kubelet when the volume is first mounted (it knows the volumes of this provisioner by their annotation); it is removed by a short-lived pod on that node, as
nobody else may write there. A finalizer keeps the volume until that has been done.

The parameter `path` of a class says where the directories lie on each node; `{node}` in it stands for the node's name. Sizes are not enforced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from kubeling.api.errors import ApiError, is_already_exists, is_not_found
from kubeling.api.meta import (
    annotations_of,
    copy_json,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    remove_finalizer,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.pods import is_terminal, phase_of
from kubeling.api.resources import NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.controllers import volume_plan as plan
from kubeling.controllers.context import POD_INDEXERS, Context, Obj

PROVISIONER = "kubeling.dev/local"
FINALIZER = "kubeling.dev/local-volume"
LABEL = "kubeling.dev/removes-volume"
DEFAULT_PATH = "/var/lib/kubeling/volumes"
DEFAULT_IMAGE = "kubeling.local/host"
HOSTNAME = "kubernetes.io/hostname"
_NAMESPACE = "kube-system"
_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}


def refusal(claim: Obj, storage_class: Obj) -> str:
    """Why no volume can be made for a claim; empty where one can."""
    if spec_of(claim).get("selector"):
        return "claim.spec.selector is not supported"
    if plan.mode(claim) != "Filesystem":
        return "only volumeMode Filesystem is supported"
    if not set(spec_of(claim).get("accessModes") or ()) <= _MODES:
        return "a directory of one node can only be ReadWriteOnce or ReadWriteOncePod"
    if spec_of(claim).get("dataSource") or spec_of(claim).get("dataSourceRef"):
        return "data sources are not supported"
    if plan.SELECTED_NODE not in annotations_of(claim):
        return f'class "{name_of(storage_class)}" must have the volumeBindingMode WaitForFirstConsumer'
    return ""


def volume_for(claim: Obj, storage_class: Obj, node: Obj) -> Obj:
    """The volume of a claim, on that node."""
    base = str((storage_class.get("parameters") or {}).get("path") or DEFAULT_PATH).replace("{node}", name_of(node))
    name = f"pvc-{uid_of(claim)}"
    hostname = labels_of(node).get(HOSTNAME) or name_of(node)
    term = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [hostname]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {plan.PROVISIONED_BY: PROVISIONER}, "finalizers": [FINALIZER]},
        "spec": {
            "capacity": {"storage": spec_of(claim)["resources"]["requests"]["storage"]},
            "accessModes": list(spec_of(claim).get("accessModes") or ()),
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": name_of(storage_class),
            "mountOptions": list(storage_class.get("mountOptions") or ()),
            "local": {"path": str(PurePosixPath(base) / f"{name}_{namespace_of(claim)}_{name_of(claim)}"[:255])},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace_of(claim),
                "name": name_of(claim),
                "uid": uid_of(claim),
            },
        },
    }


def node_of_volume(volume: Obj) -> str:
    """The host name in the volume's node affinity."""
    try:
        terms = spec_of(volume)["nodeAffinity"]["required"]["nodeSelectorTerms"]
        return str(terms[0]["matchExpressions"][0]["values"][0])
    except (KeyError, IndexError, TypeError):
        return ""


def remover(volume: Obj, node: str, image: str) -> Obj | None:
    """The pod that deletes the volume's directory; None where the path is not one that we have made."""
    path = PurePosixPath(spec_of(volume).get("local", {}).get("path") or "/")
    if not path.name.startswith(f"{name_of(volume)}_"):
        return None
    container = {
        "name": "remove",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        # At the path that it has on the node: where pods are plain processes there is no other.
        "command": ["rm", "-rf", "--", str(path)],
        "volumeMounts": [{"name": "volumes", "mountPath": str(path.parent)}],
        "securityContext": {"runAsUser": 0},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"remove-{name_of(volume)}", "namespace": _NAMESPACE, "labels": {LABEL: name_of(volume)}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": 600,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "hostNetwork": True,
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "system-node-critical",
            "containers": [container],
            "volumes": [{"name": "volumes", "hostPath": {"path": str(path.parent), "type": "DirectoryOrCreate"}}],
        },
    }


class LocalProvisioner:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._classes = ctx.informers.informer(STORAGE_CLASSES)
        self._nodes = ctx.informers.informer(NODES)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._events = ctx.recorder(PROVISIONER)
        self._loop = Reconciler("local-volume-provisioner", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._claims, _ours)
        self._loop.watches(self._volumes, _our_volumes)
        self._loop.watches(self._pods, _volume_of_remover)
        self._loop.needs(self._classes, self._nodes)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Provide for one claim, or take away one volume."""
        if request.namespace:
            claim = self._claims.store.get(request.name, request.namespace)
            if claim is not None:
                await self._provide(claim)
            return None
        volume = self._volumes.store.get(request.name)
        if volume is None:
            await self._drop_remover(request.name)
            return None
        return await self._take_away(volume)

    async def _provide(self, claim: Obj) -> None:
        if not list(_ours(claim)):
            return
        storage_class = self._classes.store.get(plan.class_of(claim))
        if storage_class is None or storage_class.get("provisioner") != PROVISIONER:
            return
        why = refusal(claim, storage_class)
        if why:
            self._event(
                claim,
                "Warning",
                "ProvisioningFailed",
                f'failed to provision volume with StorageClass "{name_of(storage_class)}": {why}',
            )
            return
        selected = annotations_of(claim)[plan.SELECTED_NODE]
        node = self._nodes.store.get(selected)
        if node is None:
            # The scheduler is to choose again.
            changed = copy_json(claim)
            plan.set_marks(changed, {plan.SELECTED_NODE: None})
            await self._client.update(PERSISTENT_VOLUME_CLAIMS, changed)
            return
        made = volume_for(claim, storage_class, node)
        try:
            await self._client.create(PERSISTENT_VOLUMES, made)
        except ApiError as error:
            if not is_already_exists(error):
                raise
            return
        self._event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name_of(made)}")

    async def _take_away(self, volume: Obj) -> float | None:
        keep = spec_of(volume).get("persistentVolumeReclaimPolicy") != "Delete"
        if status_of(volume).get("phase") != "Released" or keep:
            if is_deleting(volume) and status_of(volume).get("phase") != "Bound":
                # What somebody deletes by hand and does not want reclaimed keeps its files.
                await self._let_go(volume)
            return None
        node = next((each for each in self._nodes.store if _is_host(each, node_of_volume(volume))), None)
        if node is None:
            # The files went with the node.
            await self._finish(volume)
            return None
        name = f"remove-{name_of(volume)}"
        pod = self._pods.store.get(name, _NAMESPACE)
        if pod is None:
            return await self._start_remover(volume, name_of(node))
        if phase_of(pod) == "Succeeded":
            await self._finish(volume)
        elif is_terminal(pod) and not is_deleting(pod):
            message = f"could not remove the directory: {status_of(pod).get('message') or status_of(pod).get('reason') or 'the pod failed'}"
            self._event(volume, "Warning", "VolumeFailedDelete", message)
            await self._drop_remover(name_of(volume))
            # The reconciler's own back-off.
            raise OSError(f"volume {name_of(volume)}: {message}")
        return None

    async def _start_remover(self, volume: Obj, node: str) -> float | None:
        storage_class = self._classes.store.get(plan.class_of(volume)) or {}
        image = str((storage_class.get("parameters") or {}).get("removerImage") or DEFAULT_IMAGE)
        pod = remover(volume, node, image)
        if pod is None:
            self._event(volume, "Warning", "VolumeFailedDelete", "the path is not one that this provisioner makes")
            return None
        try:
            await self._client.create(PODS, pod)
        except ApiError as error:
            if not is_already_exists(error):
                raise
        return None

    async def _finish(self, volume: Obj) -> None:
        """The directory has gone: now the volume, and then (when that is seen) the pod."""
        volume = await self._let_go(volume)
        if not is_deleting(volume):
            try:
                await self._client.delete(PERSISTENT_VOLUMES, name_of(volume), uid=uid_of(volume))
            except ApiError as error:
                if not is_not_found(error):
                    raise

    async def _let_go(self, volume: Obj) -> Obj:
        changed = copy_json(volume)
        if not remove_finalizer(changed, FINALIZER):
            return volume
        return await self._client.update(PERSISTENT_VOLUMES, changed)

    async def _drop_remover(self, volume: str) -> None:
        pod = self._pods.store.get(f"remove-{volume}", _NAMESPACE)
        if pod is None or is_deleting(pod) or labels_of(pod).get(LABEL) != volume:
            return
        try:
            await self._client.delete(PODS, name_of(pod), _NAMESPACE, uid=uid_of(pod))
        except ApiError as error:
            if not is_not_found(error):
                raise

    def _event(self, obj: Obj, kind: Any, reason: str, message: str) -> None:
        named = "PersistentVolumeClaim" if namespace_of(obj) else "PersistentVolume"
        self._events.event({"apiVersion": "v1", "kind": named, **obj}, kind, reason, message)


def _is_host(node: Obj, hostname: str) -> bool:
    return hostname == (labels_of(node).get(HOSTNAME) or name_of(node))


def _ours(claim: Obj) -> Iterable[Request]:
    if annotations_of(claim).get(plan.STORAGE_PROVISIONER) == PROVISIONER and not spec_of(claim).get("volumeName"):
        return () if is_deleting(claim) else (request_for(claim),)
    return ()


def _our_volumes(volume: Obj) -> Iterable[Request]:
    return (request_for(volume),) if annotations_of(volume).get(plan.PROVISIONED_BY) == PROVISIONER else ()


def _volume_of_remover(pod: Obj) -> Iterable[Request]:
    name = labels_of(pod).get(LABEL)
    return (Request("", name),) if name and namespace_of(pod) == _NAMESPACE else ()


def localvolumeprovisioner(ctx: Context) -> Callable[[], Awaitable[None]]:
    """Makes directories of nodes into volumes."""
    return LocalProvisioner(ctx).run
