"""The hollow Nodes: registered as a kubelet does it, their statuses kept current, their Leases renewed one after the other.

One watch of all Nodes; ours are those with the label (or kwok's annotation), whoever made them: what was asked for on the command line is
registered where it is not there, and a Node that somebody creates with the label comes to life. One that is deleted stays away until this process starts again.

Renewals are spread evenly over the interval, so that a thousand Leases are a steady trickle. A Node can be told to fall ill by annotations: see :data:`READY`,
:data:`SILENT` and :data:`PRESSURE`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from kubeling.api import quantity
from kubeling.api.conditions import find_condition
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, annotations_of, labels_of, name_of, spec_of, status_of
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.resources import LEASES, NODES
from kubeling.api.times import format_micro_time, seconds_between
from kubeling.client.batch import parallel
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.client.workqueue import WorkQueue
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.kubelet import nodestatus
from kubeling.kubelet.config import Config
from kubeling.kubelet.hollow import stages
from kubeling.kubelet.hollow.addresses import Block, node_block
from kubeling.kubelet.hollow.config import KWOK_ANNOTATION, LABEL, Group, NodeSpec, Settings
from kubeling.kubelet.hollow.timers import Timers
from kubeling.kubelet.machine import Machine

log = get_logger("hollow.nodes")

LEASE_NAMESPACE = "kube-node-lease"
#: `false` makes the node say that it is not ready.
READY = "hollow.kubeling.dev/ready"
#: `true` makes it fall silent, as if its cable had been pulled: no Lease, no status, and its pods stay as they are.
SILENT = "hollow.kubeling.dev/silent"
#: Conditions that hold, separated by commas: MemoryPressure, DiskPressure, PIDPressure.
PRESSURE = "hollow.kubeling.dev/pressure"

_RENEWED = Counter("hollow_lease_renewals_total", "Leases of nodes that were renewed")
_REPORTED = Counter("hollow_node_status_updates_total", "Statuses of nodes that were written")
_RUNTIME = "hollow://1.0"
_RETRY, _RETRY_LIMIT = 0.5, 20.0

#: ("lease" or "status" or "stage", node)
Job = tuple[str, str]


@dataclass(slots=True)
class _State:
    """What is known of one node besides its object."""

    spec: NodeSpec
    block: Block | None = None
    leased: bool = False
    silent: bool = False
    stage: str = ""
    done: str = ""
    done_at: float = float("-inf")


class HollowNodes:
    """See the module's docstring. `informer` is of all Nodes; `changed` is told of nodes on which more may be possible than before."""

    def __init__(
        self,
        client: Client,
        informer: Informer,
        settings: Settings,
        wanted: Sequence[NodeSpec],
        recorder: EventRecorder,
        clock: Clock,
        *,
        host_ip: str,
        port: int,
    ) -> None:
        self._client = client
        self._informer = informer
        self._settings = settings
        self._wanted = wanted
        self._recorder = recorder
        self._clock = clock
        self.host_ip = host_ip
        self._port = port
        self._stages = tuple(each for each in settings.stages if each.kind == "Node")
        self._specs = {each.name: each for each in wanted}
        self._states: dict[str, _State] = {}
        self._queue: WorkQueue[Job] = WorkQueue(name="hollow-nodes", clock=clock)
        self._timers: Timers[Job] = Timers(clock, self._queue.add)
        self._failures: dict[Job, int] = {}
        self.changed: Callable[[str], None] = lambda name: None
        informer.add_handler(self._node_changed)

    def __len__(self) -> int:
        return len(self._states)

    def lives(self, name: str) -> bool:
        state = self._states.get(name)
        return state is not None and not state.silent

    def block(self, name: str) -> Block | None:
        state = self._states.get(name)
        return state.block if state is not None else None

    async def run(self, parts: Supervisor) -> None:
        """Begin, once the first list is in; returns when all that were asked for are registered."""
        await self._informer.synced.wait()
        parts.start("node timers", self._timers.run)
        for number in range(self._settings.parallel):
            parts.start(f"node writer {number}", self._work)
        missing = [each for each in self._wanted if self._informer.store.get(each.name) is None]
        if missing:
            began = self._clock.monotonic()
            await parallel(missing, self._register, limit=self._settings.parallel)
            log.info("registered nodes", nodes=len(missing), seconds=round(self._clock.monotonic() - began, 2))

    # -- following ---------------------------------------------------------------------------------------------------------------------

    def _node_changed(self, change: Change) -> None:
        node = change.obj
        name = name_of(node)
        if change.type == "delete" or not is_hollow(node):
            if self._states.pop(name, None) is not None:
                for kind in ("lease", "status", "stage"):
                    self._timers.cancel((kind, name))
                    self._failures.pop((kind, name), None)
            return
        state = self._states.get(name)
        new = state is None
        if state is None:
            state = self._states[name] = _State(self._specs.get(name) or _adopted(node))
            self._begin(name, node)
        was, state.silent = state.silent, annotations_of(node).get(SILENT) == "true"
        if was and not state.silent:
            self._queue.add(("lease", name))
        cidr = spec_of(node).get("podCIDR") or ""
        told = state.block is None and bool(cidr)
        if cidr and (state.block is None or state.block.cidr != cidr):
            state.block = Block(cidr)
        if not state.silent and nodestatus.differs(status_of(node), self._status(node, state)):
            self._queue.add(("status", name))
        self._look_for_stage(name, node, state)
        if new or told or (was and not state.silent):
            self.changed(name)

    def _begin(self, name: str, node: Object) -> None:
        """Spread what comes again and again over its interval."""
        fraction = _fraction(name)
        self._timers.set(("lease", name), fraction * self._settings.renewal(len(self._specs)))
        self._timers.set(("status", name), fraction * self._settings.status_interval)

    # -- writing -----------------------------------------------------------------------------------------------------------------------

    async def _register(self, spec: NodeSpec) -> None:
        """Create a Node with the status that it has from the beginning."""
        config, machine = _config(spec, self._port), _machine(spec)
        node = nodestatus.new_node(config, machine)
        node["metadata"]["annotations"] |= spec.annotations
        block = node_block(self._settings.pod_cidr, spec.index) if self._settings.pod_cidr else ""
        if block:
            node["spec"] |= {"podCIDR": block, "podCIDRs": [block]}
        node["status"] = self._status(node, _State(spec))
        try:
            await self._client.create(NODES, node)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            kind, name = job
            try:
                state, node = self._states.get(name), self._informer.store.get(name)
                if state is not None and node is not None and not state.silent:
                    await self._do(kind, name, state, node)
                self._failures.pop(job, None)
            except (ApiError, ConnectionFailed) as error:
                failures = self._failures[job] = self._failures.get(job, 0) + 1
                delay = min(_RETRY_LIMIT, _RETRY * 2 ** min(failures - 1, 10))
                log.debug("a write about a node failed", node=name, what=kind, error=str(error), retry_in=delay)
                if name in self._states:
                    self._timers.set(job, delay)
            finally:
                self._queue.done(job)

    async def _do(self, kind: str, name: str, state: _State, node: Object) -> None:
        if kind == "lease":
            await self._renew(name, state, node)
            self._timers.set((kind, name), self._settings.renewal(len(self._states)))
        elif kind == "status":
            await self._report(name, state, node)
            self._timers.set((kind, name), self._settings.status_interval)
        else:
            await self._stage(name, state, node)

    async def _renew(self, name: str, state: _State, node: Object) -> None:
        renewed = format_micro_time(self._clock.now())
        try:
            await self._client.patch(LEASES, name, {"spec": {"renewTime": renewed}}, LEASE_NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            lease = nodestatus.new_lease(_config(state.spec, self._port), node, renewed)
            lease["spec"]["leaseDurationSeconds"] = int(self._settings.lease_duration)
            await self._client.create(LEASES, lease, LEASE_NAMESPACE)
        _RENEWED.inc()

    async def _report(self, name: str, state: _State, node: Object) -> None:
        wanted, before = self._status(node, state), status_of(node)
        ready = find_condition(before.get("conditions"), "Ready") or {}
        due = seconds_between(ready.get("lastHeartbeatTime"), self._clock.now()) >= self._settings.status_interval / 2
        if not due and not nodestatus.differs(before, wanted):
            return
        body = nodestatus.status_patch(before, wanted)
        await self._client.patch(NODES, name, body, patch_type="strategic", subresource="status")
        _REPORTED.inc()

    def _status(self, node: Object, state: _State) -> dict[str, Any]:
        spec, notes = state.spec, annotations_of(node)
        healthy = notes.get(READY) != "false"
        status = nodestatus.node_status(
            node,
            _config(spec, self._port),
            _machine(spec),
            frozenset(each.strip() for each in notes.get(PRESSURE, "").split(",")),
            dict.fromkeys(("RuntimeReady", "NetworkReady"), (healthy, "HollowNodeNotReady", f"the annotation {READY} says so")),
            runtime_version=_RUNTIME,
            host_ips=(self.host_ip,),
            images=(),
            now=self._clock.now(),
        )
        capacity = {**status["capacity"], **spec.group.capacity, "pods": str(spec.group.max_pods)}
        status["capacity"] = capacity
        status["allocatable"] = {**capacity, **spec.group.allocatable}
        return status

    # -- stages ------------------------------------------------------------------------------------------------------------------------

    def _look_for_stage(self, name: str, node: Object, state: _State) -> None:
        if not self._stages:
            return
        stage = stages.choose(self._stages, node)
        if stage is None:
            state.stage = ""
            self._timers.cancel(("stage", name))
        elif stage.name != state.stage:
            state.stage = stage.name
            wait = stage.delay.of(node, stages.chance(node, stage.name), self._clock.now())
            if state.done == stage.name:
                wait = max(wait, state.done_at + stages.SHORTEST - self._clock.monotonic())
            self._timers.set(("stage", name), wait)

    async def _stage(self, name: str, state: _State, node: Object) -> None:
        stage = stages.choose(self._stages, node)
        if stage is None or stage.name != state.stage:
            return
        state.done, state.done_at = stage.name, self._clock.monotonic()
        if stage.next.status is not None:
            merged = apply_merge_patch(status_of(node), stage.next.status)
            if merged != status_of(node):
                guard = {"resourceVersion": node["metadata"]["resourceVersion"]}
                await self._client.patch(NODES, name, {"metadata": guard, "status": merged}, subresource="status")
                state.stage = ""
        if stage.next.event is not None:
            kind, reason, message = stage.next.event
            self._recorder.event({"apiVersion": "v1", "kind": "Node", **node}, kind, reason, message)


def is_hollow(node: Object) -> bool:
    """Whether it is one of ours."""
    key, value = KWOK_ANNOTATION
    return labels_of(node).get(LABEL) == "true" or annotations_of(node).get(key) == value


def _fraction(name: str) -> float:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") / (1 << 32)


def _adopted(node: Object) -> NodeSpec:
    """A Node that somebody has made by hand: what it says of itself is what it has."""
    capacity: Mapping[str, str] = status_of(node).get("capacity") or {}
    group = Group(count=1)
    group = replace(group, capacity={**group.capacity, **capacity}, allocatable=status_of(node).get("allocatable") or {})
    if "pods" in capacity:
        group = replace(group, max_pods=quantity.units(capacity["pods"]))
    return NodeSpec(name_of(node), 0, group, labels_of(node), {})


def _config(spec: NodeSpec, port: int) -> Config:
    """What an ordinary kubelet of that node would have been told."""
    return Config(
        node_name=spec.name,
        runtime_endpoint="",
        root_dir=Path("/"),
        port=port,
        max_pods=spec.group.max_pods,
        node_labels=spec.labels,
        taints=spec.group.taints,
        thresholds=(),
    )


def _machine(spec: NodeSpec) -> Machine:
    """A machine of that size. Its identity follows from its name."""
    capacity = spec.group.capacity
    identity = hashlib.sha256(spec.name.encode()).hexdigest()
    uuid = f"{identity[:8]}-{identity[8:12]}-{identity[12:16]}-{identity[16:20]}-{identity[20:32]}"
    return Machine(
        cpus=max(1, quantity.milli(capacity.get("cpu")) // 1000),
        memory=quantity.units(capacity.get("memory")),
        disk=quantity.units(capacity.get("ephemeral-storage")),
        inodes=0,
        machine_id=identity[:32],
        system_uuid=uuid,
        boot_id=uuid,
        kernel="hollow",
        os_image="kubeling hollow node",
        architecture="amd64",
    )
