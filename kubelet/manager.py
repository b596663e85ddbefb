"""All pods of this node: one worker for each that the API assigns to it or that is static, and the clearing away of what neither knows of.

Nothing is cleared away before the first full list of pods is in: a kubelet that cannot reach the apiserver leaves everything as it is. Static pods need
no list: they begin as soon as the runtime can be asked. A static pod whose file has changed is another pod of the same name, which begins when nothing is
left of the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, is_deleting, key_of, metadata_of, status_of, uid_of
from kubeling.api.pods import is_mirror, is_terminal
from kubeling.api.resources import PODS
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import ConnectionFailed
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.kubelet.admission import admit
from kubeling.kubelet.context import Context
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.manifests import is_static
from kubeling.kubelet.mirrors import Mirrors
from kubeling.kubelet.podfiles import PodFiles
from kubeling.kubelet.podstate import POD_NAME, POD_NAMESPACE, POD_UID, PodRuntime
from kubeling.kubelet.ranking import pressure_refusal
from kubeling.kubelet.shutdown import REFUSAL
from kubeling.kubelet.stopping import Stopper, remove_everything
from kubeling.kubelet.worker import PodWorker

log = get_logger("kubelet.pods")

_DEFAULT_ORPHAN_GRACE = 30


class PodManager:
    """`begin` it when the runtime can be asked; until then changes of pods are kept."""

    def __init__(self, context: Context, pods: Informer, node: Callable[[], Object | None], mirrors: Mirrors) -> None:
        self._context = context
        self._pods = pods
        self._node = node
        self._mirrors = mirrors
        self._statics: Mapping[str, Object] = {}
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._orphans: dict[str, asyncio.Task[None]] = {}
        self._listeners: dict[str, set[asyncio.Event]] = {}
        #: The uids that the runtime had something of when we began, with the names of the pods.
        self._inherited: dict[str, str] = {}
        self._begun = asyncio.Event()
        self._closing = False
        #: Set while there is any pod here, or anything of one.
        self.busy = asyncio.Event()
        self.sweep = asyncio.Event()
        #: Called when a pod uses the node's resources no more.
        self.on_over: Callable[[], None] = lambda: None

    # -- what others see -----------------------------------------------------------------------------------------------------------

    def pods(self) -> list[Object]:
        """The pods of this node, each with the status that was decided last."""
        found = []
        for worker in self._workers.values():
            status = self._context.statuses.get(worker.uid)
            found.append({"apiVersion": "v1", "kind": "Pod", **worker.pod, **({"status": status} if status else {})})
        return found

    def workers(self) -> list[PodWorker]:
        return list(self._workers.values())

    def pod(self, namespace: str, name: str) -> Object | None:
        """The pod of that name; of namesakes the one that is not on its way out."""
        matches = [
            each.pod
            for each in self._workers.values()
            if metadata_of(each.pod).get("name") == name and metadata_of(each.pod).get("namespace") == namespace
        ]
        return min(matches, key=is_deleting, default=None)

    @contextmanager
    def listen(self, uid: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something of that pod may have changed."""
        event = asyncio.Event()
        self._listeners.setdefault(uid, set()).add(event)
        try:
            yield event
        finally:
            held = self._listeners[uid]
            held.discard(event)
            if not held:
                del self._listeners[uid]

    def wake(self, uid: str) -> None:
        """Something of that pod may have changed; of a pod that nobody knows, all is cleared away."""
        self._tell(uid, PodWorker.wake)

    def runtime_changed(self, uid: str) -> None:
        """As :meth:`wake`, for what the runtime tells."""
        self._tell(uid, PodWorker.runtime_changed)

    def _tell(self, uid: str, how: Callable[[PodWorker], None]) -> None:
        for event in self._listeners.get(uid, ()):
            event.set()
        worker = self._workers.get(uid)
        if worker is not None:
            how(worker)
        elif uid not in self._orphans:
            self.sweep.set()

    def wake_all(self) -> None:
        for uid in {*self._workers, *self._listeners}:
            self.wake(uid)
        self.sweep.set()

    # -- following the API -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Begin when pods and runtime are known; then clear away orphans whenever asked."""
        await self._begin()
        self._start_statics()
        await self._pods.synced.wait()
        # The oldest first: where not all fit any more, those that came last are refused.
        for pod in sorted(self._pods.store, key=lambda each: metadata_of(each).get("creationTimestamp") or ""):
            self._changed(Change("add", None, pod))
        self._pods.add_handler(self._changed)
        self._context.devices.accounts.keep_only(set(self._workers))
        self._context.cpus.keep_only(set(self._workers))
        self.sweep.set()
        backoff = Backoff(base=0.2, limit=5)
        while True:
            await self.sweep.wait()
            self.sweep.clear()
            try:
                await self._clear_orphans()
                backoff.reset()
            except (RuntimeFailure, ApiError, ConnectionFailed) as error:
                log.warning("cannot look for orphans", error=str(error))
                await self._context.clock.sleep(backoff.next())
                self.sweep.set()

    async def _begin(self) -> None:
        """Ask the runtime what is there already, until it answers."""
        backoff = Backoff(base=0.2, limit=5)
        runtime = self._context.runtime
        while not self._begun.is_set():
            try:
                await runtime.connect()
                sandboxes, containers = await asyncio.gather(runtime.list_sandboxes(), runtime.list_containers())
            except RuntimeFailure as error:
                log.warning("the runtime is not there yet", error=str(error))
                await self._context.clock.sleep(backoff.next())
                continue
            for each in containers:
                if uid := each.labels.get(POD_UID):
                    self._inherited[uid] = f"{each.labels.get(POD_NAMESPACE)}/{each.labels.get(POD_NAME)}"
            for box in sandboxes:
                self._inherited[box.metadata.uid] = f"{box.metadata.namespace}/{box.metadata.name}"
            self._begun.set()

    def set_statics(self, pods: Mapping[str, Object]) -> None:
        """These are the static pods, by `namespace/name`, from now on."""
        self._statics = pods
        wanted = {uid_of(each) for each in pods.values()}
        for worker in list(self._workers.values()):
            if is_static(worker.pod) and worker.uid not in wanted:
                log.info("a static pod ends: its file has gone or changed", pod=key_of(worker.pod))
                worker.remove(worker.pod)
        self._start_statics()

    def _start_statics(self) -> None:
        """Begin every static pod that has no worker and none of whose name is left."""
        if not self._begun.is_set() or self._closing:
            return
        busy = {key_of(each.pod) for each in self._workers.values() if is_static(each.pod)}
        for key, pod in self._statics.items():
            if key in busy:
                continue
            # Of an earlier version, from a file that changed while there was no kubelet.
            former = {uid for uid, name in self._inherited.items() if name == key and uid != uid_of(pod)} - set(self._workers)
            for uid in former - set(self._orphans):
                self._clear_away(uid)
            if not former:
                self._add(pod)
                self._mirrors.show(pod)
        if not self._mirrors.begun:
            self._mirrors.begin()

    async def close(self) -> None:
        """Stop all workers; their containers go on."""
        self._closing = True
        tasks = [*self._tasks.values(), *self._orphans.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def gone(self, uid: str) -> None:
        """The API said, when asked to write, that it has no such pod."""
        worker = self._workers.get(uid)
        if worker is not None and is_static(worker.pod):
            self._mirrors.lost(uid)
        elif worker is not None:
            worker.remove(worker.pod)

    def _changed(self, change: Change) -> None:
        pod = change.obj
        if is_mirror(pod):
            self._mirrors.observe(change)
            return
        worker = self._workers.get(uid_of(pod))
        if change.type == "delete":
            if worker is not None:
                worker.remove(pod)
        elif worker is None:
            self._add(pod)
        else:
            worker.update(pod)

    def _add(self, pod: Object) -> None:
        uid = uid_of(pod)
        if uid in self._workers:
            return
        worker = PodWorker(self._context, pod, new=uid not in self._inherited and uid not in self._orphans)
        refusal = self._admit(pod)
        if refusal is not None:
            log.info("a pod was refused", pod=metadata_of(pod).get("name"), reason=refusal[0], why=refusal[1])
            worker.reject(*refusal)
        self._workers[uid] = worker
        self._tasks[uid] = asyncio.get_running_loop().create_task(worker.run(), name=f"pod {metadata_of(pod).get('name')}")
        self.busy.set()

    def _admit(self, pod: Object) -> tuple[str, str] | None:
        node = self._node()
        if node is None or is_deleting(pod) or is_terminal(pod) or is_static(pod):
            return None  # A static pod was put on this node by whoever owns it.
        if uid_of(pod) in self._inherited or status_of(pod).get("phase") == "Running":
            return None  # It was let in before.
        if self._context.node.shutting_down():
            return REFUSAL
        refusal = pressure_refusal(pod, self._context.node.pressure())
        if refusal is not None:
            return refusal
        others = [self._context.allocations.effective(each) for each in self.others(uid_of(pod))]
        return admit(pod, others, node, self._context.config.unsafe_sysctls)

    def others(self, uid: str) -> list[Object]:
        """The pods that use the node's resources, but for that one."""
        return [each.pod for each in self._workers.values() if each.uid != uid and not each.over and not is_terminal(each.pod)]

    def worker_over(self, uid: str) -> None:
        """There is room now that was not there before: devices and cpus are free, and pods that wait to be resized look again."""
        self._context.devices.accounts.forget(uid)
        self._context.cpus.forget(uid)
        self.on_over()
        for waiting in self._context.allocations.deferred:
            self.wake(waiting)

    def worker_ended(self, uid: str) -> None:
        """Called by a worker of which nothing is left."""
        worker = self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        self._inherited.pop(uid, None)
        self._context.allocations.forget(uid)
        self._context.probe_metrics.forget(uid)
        self._context.devices.accounts.forget(uid)
        self._context.cpus.forget(uid)
        if worker is not None and is_static(worker.pod):
            self._mirrors.hide(worker.pod)
            self._start_statics()
        if not self._workers and not self._orphans:
            self.busy.clear()

    # -- orphans ---------------------------------------------------------------------------------------------------------------------

    async def _clear_orphans(self) -> None:
        runtime = self._context.runtime
        sandboxes, containers = await asyncio.gather(runtime.list_sandboxes(), runtime.list_containers())
        runtime.forget_dead_but({each.id for each in containers})
        found = {each.metadata.uid for each in sandboxes}
        found |= {uid for each in containers if (uid := each.labels.get(POD_UID))}
        found |= set(self._context.volumes.left_behind())
        found |= await asyncio.to_thread(self._context.cgroups.left_behind)
        orphans = found - set(self._workers) - set(self._orphans)
        if orphans:
            # Our copy may be behind the API, and what is cleared away does not come back: ask the store itself.
            orphans -= await self._assigned()
        for uid in orphans - set(self._workers):
            self._clear_away(uid)
        logs = self._context.config.logs_dir
        known = {*self._workers, *self._orphans, *found}
        if logs.is_dir():
            for folder in logs.iterdir():
                if folder.name.rpartition("_")[2] not in known:
                    await asyncio.to_thread(_remove_tree, folder)

    def _clear_away(self, uid: str) -> None:
        self._orphans[uid] = asyncio.get_running_loop().create_task(self._clear(uid), name=f"orphan {uid}")
        self.busy.set()

    async def _assigned(self) -> set[str]:
        """The uids of all pods that the API has for this node at this moment. Raises where it cannot be asked."""
        selector = f"spec.nodeName={self._context.config.node_name}"
        listed = await self._context.client.list(PODS, field_selector=selector)
        return {uid_of(each) for each in listed.get("items") or ()}

    async def _clear(self, uid: str) -> None:
        """Stop, remove and forget a pod that the API does not have."""
        backoff = Backoff(base=1, limit=60)
        try:
            while uid not in self._workers:
                try:
                    found = await self._context.runtime.pod(uid)
                    await self._end_orphan(uid, found)
                    return
                except (RuntimeFailure, OSError) as error:
                    log.warning("an orphan could not be cleared away", uid=uid, error=str(error))
                await self._context.clock.sleep(backoff.next())
        finally:
            self._orphans.pop(uid, None)
            if self._inherited.pop(uid, None) in self._statics:
                self._start_statics()
            if not self._workers and not self._orphans:
                self.busy.clear()

    async def _end_orphan(self, uid: str, found: PodRuntime) -> None:
        pod: Object = {"metadata": {"name": found.name, "namespace": found.namespace, "uid": uid}, "spec": {}}
        if found.any_alive:
            log.info("ending a pod that the API does not have", pod=f"{found.namespace}/{found.name}", uid=uid)
            graces = [each.grace_period for each in found.containers if each.alive and each.grace_period is not None]
            await Stopper(self._context).stop_all(pod, found, max(1, max(graces, default=_DEFAULT_ORPHAN_GRACE)))
        await remove_everything(self._context, found)
        await self._context.volumes.teardown(uid)
        self._context.cgroups.remove_orphan(uid)
        if found.name:
            config = self._context.config
            PodFiles(config.pods_dir, config.logs_dir, config.cluster_domain).remove_logs(pod)


def _remove_tree(folder: object) -> None:
    import shutil

    shutil.rmtree(str(folder), ignore_errors=True)
