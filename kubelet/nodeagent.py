"""The node's own objects: the Node is registered and kept up to date, and its Lease renewed.

The status is looked at every ten seconds, which costs one call to the runtime, and written when it has changed or five minutes have passed. The
Lease is what the controllers watch for life. The pod CIDR that the controllers assign is handed to the runtime, without which it has no network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.resources import LEASES, NODES
from kubeling.api.times import format_micro_time
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import run_until
from kubeling.kubelet import nodestatus
from kubeling.kubelet.config import Config
from kubeling.kubelet.context import NodeState
from kubeling.kubelet.cri import Runtime, RuntimeFailure
from kubeling.kubelet.machine import Machine

log = get_logger("kubelet.node")

LEASE_SECONDS = 10.0
REPORT_SECONDS = 300.0
#: By more than this the wall clock does not drift in the time between two looks: it was set, or the machine slept.
_JUMP_SECONDS = 5.0


class NodeAgent:
    """`changed` wakes the workers when the node can do what it could not before."""

    def __init__(
        self,
        config: Config,
        client: Client,
        runtime: Runtime,
        machine: Machine,
        state: NodeState,
        informer: Informer,
        recorder: EventRecorder,
        clock: Clock,
    ) -> None:
        self._config = config
        self._client = client
        self._runtime = runtime
        self._machine = machine
        self._state = state
        self._recorder = recorder
        self._clock = clock
        self._informer = informer
        self._check = asyncio.Event()
        self._wake_workers: Callable[[], None] = lambda: None
        self._pod_cidr = ""
        self._reported = float("-inf")
        self._images: list[dict[str, Any]] = []
        self._runtime_up = False
        self._registered = False
        #: How far the wall clock is ahead of the monotonic one.
        self._ahead: float | None = None
        #: The names of attached volumes that pods here still have.
        self.volumes_in_use: Callable[[], list[str]] = list
        informer.add_handler(self._node_changed)

    def on_change(self, wake: Callable[[], None]) -> None:
        self._wake_workers = wake

    def node(self) -> Object | None:
        """The Node as the API shows it, None while it has none."""
        return self._informer.store.get(self._config.node_name)

    def check(self) -> None:
        """Look at once, not in ten seconds."""
        self._check.set()

    def _node_changed(self, change: Change) -> None:
        if change.type == "delete":
            log.warning("the Node object was deleted, registering again")
            self._registered = False
            self._check.set()
        elif _pod_cidr(change.obj) != self._pod_cidr:
            self._check.set()

    def tell(self, reason: str, message: str) -> None:
        """Record a warning about the node."""
        node = self.node()
        if node is not None:
            self._recorder.event(_named(node), "Warning", reason, message)

    async def run(self) -> None:
        """Register, then keep the status current until cancelled."""
        backoff = Backoff(base=0.1, limit=self._config.status_frequency)
        while True:
            self._check.clear()
            delay = self._config.status_frequency
            try:
                ready = await self._round()
                if ready:
                    backoff.reset()
                else:
                    # Whatever it lacks may come any moment, and pods wait for it.
                    delay = backoff.next()
            except ConnectionFailed as error:
                log.debug("the apiserver is away", error=str(error))
                delay = min(backoff.next(), 2.0)
            except ApiError as error:
                log.warning("the node's status was refused", error=str(error))
                self._registered = self._registered and error.code != 404
                delay = backoff.next()
            await run_until(self._check, self._clock.sleep(delay))

    async def _round(self) -> bool:
        """One look at everything; whether the node is ready."""
        self._watch_clock()
        conditions = await self._ask_runtime()
        problem = nodestatus.network_problem(conditions)
        self._state.network_problem = problem
        if problem:
            self._state.network_ready.clear()
        elif not self._state.network_ready.is_set():
            self._state.network_ready.set()
            self._wake_workers()
        node = await self._register() if not self._registered else self.node()
        if node is None:
            node = await self._client.get(NODES, self._config.node_name)
        await self._report(node, conditions)
        return not nodestatus.runtime_problem(conditions)

    def _watch_clock(self) -> None:
        """Tokens, deadlines and the like are times of the wall clock, and workers sleep until then: when it jumps, they have to look again."""
        ahead = self._clock.now().timestamp() - self._clock.monotonic()
        if self._ahead is not None and abs(ahead - self._ahead) > _JUMP_SECONDS:
            log.warning("the clock has jumped", seconds=round(ahead - self._ahead, 1))
            self._wake_workers()
        self._ahead = ahead

    async def _ask_runtime(self) -> nodestatus.Conditions | None:
        try:
            if not self._runtime_up:
                await self._runtime.connect()
                self._runtime_up = True
                self._pod_cidr = ""
                self._images = await self._list_images()
                self._wake_workers()
            node = self.node()
            cidr = _pod_cidr(node) if node is not None else ""
            if cidr and cidr != self._pod_cidr:
                await self._runtime.set_pod_cidr(cidr)
                self._pod_cidr = cidr
            return await self._runtime.status()
        except RuntimeFailure as error:
            if self._runtime_up:
                log.warning("the runtime does not answer", error=str(error))
            self._runtime_up = False
            return None

    async def _list_images(self) -> list[dict[str, Any]]:
        listed = await self._runtime.images()
        return nodestatus.image_list([([*each.repo_digests, *each.repo_tags], int(each.size)) for each in listed])

    async def _register(self) -> Object:
        """Create the Node, or take over the one that is there."""
        config, machine = self._config, self._machine
        try:
            node = await self._client.create(NODES, nodestatus.new_node(config, machine))
            log.info("registered the node", node=config.node_name)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            node = await self._client.get(NODES, config.node_name)
            labels = nodestatus.labels_patch(node, config, machine)
            if labels:
                node = await self._client.patch(NODES, config.node_name, {"metadata": {"labels": labels}})
        self._registered = True
        self._reported = float("-inf")
        self._recorder.event(_named(node), "Normal", "Starting", "Starting kubelet.")
        return node

    async def _report(self, node: Object, conditions: nodestatus.Conditions | None) -> None:
        due = self._clock.monotonic() - self._reported >= REPORT_SECONDS
        if due and self._runtime_up and self._reported > 0:
            self._images = await self._list_images()
        wanted = nodestatus.node_status(
            node,
            self._config,
            self._machine,
            self._state.pressure(),
            conditions,
            runtime_version=f"{self._runtime.name}://{self._runtime.version}",
            host_ips=self._state.host_ips,
            images=self._images,
            now=self._clock.now(),
            extended=self._state.extended(),
            shutting_down=self._state.shutting_down(),
        )
        before = status_of(node)
        used = self.volumes_in_use()
        if used or before.get("volumesInUse"):
            wanted["volumesInUse"] = used
        if not due and not nodestatus.differs(before, wanted):
            return
        body = nodestatus.status_patch(before, wanted)
        await self._client.patch(NODES, self._config.node_name, body, patch_type="strategic", subresource="status")
        self._reported = self._clock.monotonic()
        was = _ready(before)
        if was != _ready(wanted):
            reason = "NodeReady" if _ready(wanted) else "NodeNotReady"
            self._recorder.event(_named(node), "Normal", reason, f"Node {self._config.node_name} status is now: {reason}")
            log.info("the node's readiness changed", ready=_ready(wanted))

    async def keep_lease(self) -> None:
        """Renew the Lease until cancelled."""
        backoff = Backoff(base=0.2, limit=5.0)
        where = (self._config.node_name, "kube-node-lease")
        while True:
            renewed = format_micro_time(self._clock.now())
            try:
                try:
                    await self._client.patch(LEASES, where[0], {"spec": {"renewTime": renewed}}, where[1])
                except ApiError as error:
                    if error.code != 404:
                        raise
                    await self._client.create(LEASES, nodestatus.new_lease(self._config, self.node(), renewed), where[1])
                backoff.reset()
                delay = LEASE_SECONDS
            except (ConnectionFailed, ApiError) as error:
                delay = backoff.next()
                log.debug("the lease could not be renewed", error=str(error), retry_in=round(delay, 1))
            await self._clock.sleep(delay)


def _ready(status: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())


def _named(node: Object) -> Object:
    """Events about a Node carry its name where its uid would stand, as upstream's, so that they outlive it."""
    metadata = {**node["metadata"], "uid": node["metadata"]["name"]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def _pod_cidr(node: Object) -> str:
    """All that the node has, as the CRI takes them: with a comma between them."""
    spec = spec_of(node)
    return ",".join(spec.get("podCIDRs") or ()) or spec.get("podCIDR") or ""
