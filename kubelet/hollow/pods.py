"""The pods of all hollow nodes: one watch, a timer for each that waits, a few writers.

A pod is looked at when the API shows it anew. The stage that it is in is chosen then, and the pod comes up when the stage's delay is over; a writer then
takes the newest copy, sees whether the stage still holds, and writes with the copy's resourceVersion as a precondition. So whatever is late,
doubled or lost can do no harm, and nothing is done on the strength of a copy that was already out of date.

Of each pod the copy is kept as JSON: thirty thousand of them take a tenth of the memory that way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson
from prometheus_client import Counter

from kubeling.api.errors import ApiError
from kubeling.api.meta import (
    Object,
    finalizers_of,
    is_deleting,
    key_of,
    metadata_of,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.pods import grace_period_of, is_terminal
from kubeling.api.resources import PODS
from kubeling.api.times import parse_time
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.client.workqueue import WorkQueue
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.kubelet.hollow import podlife, stages
from kubeling.kubelet.hollow.addresses import Block
from kubeling.kubelet.hollow.stages import Stage
from kubeling.kubelet.hollow.timers import Timers

log = get_logger("hollow.pods")

_DONE = Counter("hollow_stages_total", "Stages that were done", ["stage"])
#: Seconds until a write that failed is tried again; doubled each time.
_RETRY, _RETRY_LIMIT = 0.5, 30.0
#: And until a pod for which its node has no address is looked at again.
_FULL = 5.0


class NodeBook(Protocol):
    """What pods have to know of the nodes."""

    def lives(self, name: str) -> bool:
        """Whether it is one of ours and does its work."""

    def block(self, name: str) -> Block | None:
        """Its pods' addresses; None while it has none."""

    @property
    def host_ip(self) -> str:
        """The address of every hollow node."""


@dataclass(slots=True)
class _Entry:
    """What is known of a pod besides its copy."""

    uid: str
    node: str
    #: The newest version of it that we have written or seen.
    version: int = 0
    stage: str = ""
    since: datetime | None = None
    #: When, by the monotonic clock, that stage was last done.
    done_at: float = float("-inf")
    done: str = ""
    #: The stages that had nothing to change, and about which version.
    settled: frozenset[str] = frozenset()
    settled_at: int = -1

    def idle(self, version: int) -> frozenset[str]:
        """The stages that have nothing to do with that version."""
        return self.settled if self.settled_at == version else frozenset()

    failures: int = 0
    complained: bool = False


def slim(obj: Object) -> Object:
    """For an informer's `transform`: the pod as JSON, with what an informer and its indexes look at."""
    metadata = obj["metadata"]
    metadata.pop("managedFields", None)
    if "spec" not in obj:
        return obj
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
    return {"metadata": kept, "node": spec_of(obj).get("nodeName") or "", "raw": orjson.dumps(obj)}


def by_node(record: Object) -> list[str]:
    """The index of pods by node."""
    return [record["node"]] if record.get("node") else []


def whole(record: Object) -> Object:
    """The pod again."""
    found: Object = orjson.loads(record["raw"])
    return found


class HollowPods:
    """See the module's docstring. `informer` is of all pods that have a node, with :func:`slim` and :func:`by_node` (as "node")."""

    def __init__(
        self,
        client: Client,
        informer: Informer,
        nodes: NodeBook,
        chosen: tuple[Stage, ...],
        recorder: EventRecorder,
        clock: Clock,
        parallel: int,
    ) -> None:
        self._client = client
        self._informer = informer
        self._nodes = nodes
        self._stages = tuple(each for each in chosen if each.kind == "Pod")
        self._recorder = recorder
        self._clock = clock
        self._parallel = parallel
        self._entries: dict[str, _Entry] = {}
        self._queue: WorkQueue[str] = WorkQueue(name="hollow-pods", clock=clock)
        self._timers: Timers[str] = Timers(clock, self._queue.add)
        self._begun = False
        informer.add_handler(self._changed)

    def __len__(self) -> int:
        return len(self._entries)

    async def run(self, parts: Supervisor) -> None:
        """Begin, once the first list is in."""
        await self._informer.synced.wait()
        # Which addresses are taken must be known before the first new one is given.
        for record in self._informer.store:
            self._enter(record, whole(record))
        self._begun = True
        for record in self._informer.store:
            self._look(key_of(record), first=True)
        parts.start("pod timers", self._timers.run)
        for number in range(self._parallel):
            parts.start(f"pod writer {number}", self._write)

    def find(self, namespace: str, name: str) -> Object | None:
        """A pod of a hollow node."""
        record = self._informer.store.get(name, namespace)
        return whole(record) if record is not None and "raw" in record and self._nodes.lives(record["node"]) else None

    def on_node(self, name: str) -> list[Object]:
        """All pods of a node."""
        return [whole(each) for each in self._informer.store.by_index("node", name)]

    def node_changed(self, name: str) -> None:
        """What was not possible on it may be now."""
        if self._begun:
            for record in self._informer.store.by_index("node", name):
                self._look(key_of(record))

    # -- looking -----------------------------------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        key = key_of(change.obj)
        if change.type == "delete":
            self._forget(key)
        elif self._begun and "raw" in change.obj:
            self._look(key)

    def _forget(self, key: str) -> None:
        self._timers.cancel(key)
        entry = self._entries.pop(key, None)
        block = self._nodes.block(entry.node) if entry is not None else None
        if entry is not None and block is not None:
            block.release(entry.uid)

    def _enter(self, record: Object, pod: Object) -> _Entry | None:
        """The entry of a pod, a new one where it is new; None where it is none of ours (yet)."""
        key, node = key_of(record), record["node"]
        if not self._nodes.lives(node):
            return None
        entry = self._entries.get(key)
        if entry is None or entry.uid != uid_of(pod):
            entry = self._entries[key] = _Entry(uid_of(pod), node)
        block = self._nodes.block(node)
        address = status_of(pod).get("podIP")
        if block is not None and address:
            if is_terminal(pod):
                block.release(entry.uid)
            else:
                block.claim(entry.uid, address)
        return entry

    def _look(self, key: str, *, first: bool = False) -> None:
        """Decide what comes next for a pod, and when. `first`: it was there before we were."""
        record = self._informer.store.get_key(key)
        if record is None or "raw" not in record:
            return
        pod = whole(record)
        entry = self._enter(record, pod)
        version = int(record["metadata"]["resourceVersion"])
        if entry is None or version < entry.version:
            return
        entry.version = version
        stage = stages.choose(self._stages, pod, entry.idle(version))
        if stage is None:
            self._timers.cancel(key)
            entry.stage = ""
            return
        now = self._clock.now()
        if stage.name != entry.stage or entry.since is None:
            entry.stage, entry.since = stage.name, self._since(pod, now, first=first)
        wait = (entry.since - now).total_seconds() + self._delay(stage, pod, entry, entry.since)
        if entry.done == stage.name:
            wait = max(wait, entry.done_at + stages.SHORTEST - self._clock.monotonic())
        if wait > 0:
            self._timers.set(key, wait)
        else:
            self._timers.cancel(key)
            self._queue.add(key)

    def _since(self, pod: Object, now: datetime, *, first: bool) -> datetime:
        asked = stages.deletion_began(pod)
        if asked is not None:
            return min(now, asked)
        last = stages.last_change(pod) if first else ""
        return min(now, parse_time(last)) if last else now

    def _delay(self, stage: Stage, pod: Object, entry: _Entry, since: datetime) -> float:
        try:
            delay = stage.delay.of(pod, stages.chance(pod, stage.name), since)
        except stages.BadValue as error:
            delay = stage.delay.seconds
            self._complain(entry, pod, f"stage {stage.name}: {error}")
        if is_deleting(pod):
            grace = metadata_of(pod).get("deletionGracePeriodSeconds")
            delay = min(delay, grace_period_of(pod) if grace is None else grace)
        return delay

    def _complain(self, entry: _Entry, pod: Object, words: str) -> None:
        """Once for each pod: it is said in its events, where its owner looks."""
        if not entry.complained:
            entry.complained = True
            log.warning("a pod asks for what cannot be", pod=key_of(pod), why=words)
            self._recorder.event({"apiVersion": "v1", "kind": "Pod", **pod}, "Warning", "HollowStage", words)

    # -- writing -----------------------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            key = await self._queue.get()
            entry = self._entries.get(key)
            try:
                if entry is not None:
                    await self._do(key, entry)
                    entry.failures = 0
            except ConnectionFailed as error:
                self._again(key, entry, error)
            except ApiError as error:
                # Gone, or somebody else has written: the watch tells us. But should it be the watch that is late, we look again.
                self._again(key, entry, error, quiet=error.code in (404, 409))
            finally:
                self._queue.done(key)

    def _again(self, key: str, entry: _Entry | None, error: Exception, *, quiet: bool = False) -> None:
        if entry is None or self._entries.get(key) is not entry:
            return
        delay = min(_RETRY_LIMIT, _RETRY * 2 ** min(entry.failures, 10))
        entry.failures += 1
        if not quiet:
            log.debug("a write failed", pod=key, error=str(error), retry_in=delay)
        self._timers.set(key, delay)

    async def _do(self, key: str, entry: _Entry) -> None:
        record = self._informer.store.get_key(key)
        if record is None or int(record["metadata"]["resourceVersion"]) < entry.version or not self._nodes.lives(entry.node):
            return  # The watch brings what is newer; or the node is gone, and whatever ends its pods will.
        pod = whole(record)
        version = int(record["metadata"]["resourceVersion"])
        stage = stages.choose(self._stages, pod, entry.idle(version))
        if stage is None or stage.name != entry.stage:
            self._look(key)
            return
        place = self._place(entry, pod)
        if place is None:
            # Until the node has a podCIDR, of which we are told, or one of its addresses is free again.
            self._timers.set(key, _FULL)
            return
        since = entry.since
        # What the watch shows from here on may be the outcome.
        entry.stage, entry.since = "", None
        try:
            changed = await self._perform(stage, pod, place, entry)
        except podlife.BadAction as error:
            self._complain(entry, pod, f"stage {stage.name}: {error}")
            changed = False
        except (ApiError, ConnectionFailed):
            entry.stage, entry.since = stage.name, since
            raise
        entry.done, entry.done_at = stage.name, self._clock.monotonic()
        if changed:
            _DONE.labels(stage.name).inc()
        else:
            entry.settled, entry.settled_at = entry.idle(version) | {stage.name}, version
            self._look(key)

    def _place(self, entry: _Entry, pod: Object) -> podlife.Place | None:
        if spec_of(pod).get("hostNetwork") or is_deleting(pod):
            return podlife.Place(self._nodes.host_ip, status_of(pod).get("podIP") or "")
        block = self._nodes.block(entry.node)
        address = block.address(entry.uid) if block is not None else None
        return podlife.Place(self._nodes.host_ip, address) if address is not None else None

    async def _perform(self, stage: Stage, pod: Object, place: podlife.Place, entry: _Entry) -> bool:
        """Do what the stage says; whether it changed anything."""
        following, changed = stage.next, False
        finalizers = following.finalizers(finalizers_of(pod))
        if finalizers != finalizers_of(pod):
            pod = await self._patch(pod, {"metadata": {"finalizers": finalizers or None}}, entry)
            changed = True
        status = self._wanted_status(stage, pod, place)
        if status is not None:
            before = status_of(pod)
            change = {name: value for name, value in status.items() if value != before.get(name)}
            change |= {name: None for name in before if name not in status}
            pod = await self._patch(pod, {"status": change}, entry, subresource="status")
            changed = True
        if following.event is not None:
            kind, reason, message = following.event
            self._recorder.event({"apiVersion": "v1", "kind": "Pod", **pod}, kind, reason, message)
        if following.delete:
            await self._delete(pod)
            changed = True
        return changed

    def _wanted_status(self, stage: Stage, pod: Object, place: podlife.Place) -> dict[str, Any] | None:
        following, now = stage.next, self._clock.now()
        status = None
        if following.action:
            status = podlife.act(following.action, pod, place, now, following.options)
        elif following.delete and is_deleting(pod) and finalizers_of(pod):
            # Somebody waits to see how it ended, as the controller of Jobs does.
            status = podlife.ended(pod, place, now)
        if following.status is not None:
            merged = apply_merge_patch(status if status is not None else status_of(pod), following.status)
            status = merged if merged != status_of(pod) else status
        return status

    async def _patch(self, pod: Object, body: dict[str, Any], entry: _Entry, subresource: str | None = None) -> Object:
        guard = {"uid": uid_of(pod), "resourceVersion": metadata_of(pod)["resourceVersion"]}
        body = {**body, "metadata": {**body.get("metadata", {}), **guard}}
        answer = await self._client.patch(PODS, name_of(pod), body, namespace_of(pod), subresource=subresource)
        entry.version = max(entry.version, int(metadata_of(answer)["resourceVersion"]))
        return answer

    async def _delete(self, pod: Object) -> None:
        grace = 0 if is_deleting(pod) else None
        try:
            await self._client.delete(PODS, name_of(pod), namespace_of(pod), grace_period_seconds=grace, uid=uid_of(pod))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
