"""Stopping containers: preStop, SIGTERM, SIGKILL, all within one grace period; sidecars after the containers that they serve."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from typing import Any

from kubeling.api.meta import Object, spec_of
from kubeling.api.pods import grace_period_of
from kubeling.daemon.log import get_logger
from kubeling.kubelet.context import Context
from kubeling.kubelet.convert import sidecars_of
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.handlers import Answer, Target, ask
from kubeling.kubelet.podstate import ContainerRecord, PodRuntime

log = get_logger("kubelet.stopping")

#: What a container gets at least after a preStop hook that has used up everything.
MINIMUM_GRACE = 2
_AGENT = "kube-lifecycle/1.33"


class Stopper:
    """Stops the containers of one pod; remembers which preStop hooks have run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hooked: set[str] = set()

    async def stop_all(self, pod: Object, runtime: PodRuntime, grace: int) -> None:
        """All containers that are alive. Raises RuntimeFailure where one could not be stopped."""
        deadline = self._context.clock.monotonic() + grace
        order = [each["name"] for each in sidecars_of(pod)]
        alive = [each for each in runtime.containers if each.alive]
        sidecars = sorted((each for each in alive if each.name in order), key=lambda each: order.index(each.name), reverse=True)
        await _all(self.stop(pod, each, grace, runtime) for each in alive if each.name not in order)
        for each in sidecars:
            left = max(1, math.ceil(deadline - self._context.clock.monotonic()))
            await self.stop(pod, each, left, runtime)

    async def stop(self, pod: Object, record: ContainerRecord, grace: int, runtime: PodRuntime, message: str = "") -> None:
        """One container: its preStop hook, then TERM, then KILL."""
        container = _container(pod, record.name)
        self._context.event(
            pod, "Normal", "Killing", message or f"Stopping container {record.name}", record.name, _field(pod, record.name)
        )
        left = grace
        hook = ((container or {}).get("lifecycle") or {}).get("preStop") if container else _parsed(record.pre_stop)
        if hook and record.running and grace > 0 and record.id not in self._hooked:
            self._hooked.add(record.id)
            began = self._context.clock.monotonic()
            await self._pre_stop(pod, container or {"name": record.name}, record, hook, grace, runtime)
            left = max(MINIMUM_GRACE, math.floor(grace - (self._context.clock.monotonic() - began)))
        await self._context.runtime.stop_container(record.id, left)

    async def _pre_stop(
        self,
        pod: Object,
        container: dict[str, Any],
        record: ContainerRecord,
        hook: dict[str, Any],
        grace: int,
        runtime: PodRuntime,
    ) -> None:
        answer = await run_hook(self._context, container, record.id, hook, _ip(self._context, pod, runtime), float(grace))
        if not answer.success:
            log.info("a preStop hook failed", container=record.name, error=answer.words)
            self._context.event(pod, "Warning", "FailedPreStopHook", "PreStopHook failed", record.name, _field(pod, record.name))


async def run_hook(
    context: Context, container: dict[str, Any], container_id: str, hook: dict[str, Any], ip: str, timeout: float
) -> Answer:
    """A lifecycle hook: exec, httpGet or sleep."""
    if hook.get("sleep") is not None:
        await context.clock.sleep(min(timeout, float(hook["sleep"].get("seconds") or 0)))
        return Answer(True)
    handler = hook
    if hook.get("httpGet") and not hook["httpGet"].get("port"):
        handler = {**hook, "httpGet": {**hook["httpGet"], "port": 80}}
    answer = await ask(handler, Target(container, container_id, ip), context.runtime, timeout, _AGENT)
    # Upstream asks a hook's server for any answer, a probe's for a good one.
    return Answer(True) if answer.status else answer


def grace_of(pod: Object) -> int:
    """The grace period of a pod's end, in whole seconds, at least one."""
    seconds = (pod.get("metadata") or {}).get("deletionGracePeriodSeconds")
    return max(1, grace_period_of(pod) if seconds is None else int(seconds))


def _ip(context: Context, pod: Object, runtime: PodRuntime) -> str:
    if spec_of(pod).get("hostNetwork"):
        return context.node.host_ip
    sandbox = runtime.sandbox
    return sandbox.ips[0] if sandbox is not None and sandbox.ips else ""


def _container(pod: Object, name: str) -> dict[str, Any] | None:
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for each in spec_of(pod).get(field) or ():
            if each.get("name") == name:
                return dict(each)
    return None


def _field(pod: Object, name: str) -> str:
    for field in ("initContainers", "ephemeralContainers"):
        if any(each.get("name") == name for each in spec_of(pod).get(field) or ()):
            return field
    return "containers"


def _parsed(text: str) -> dict[str, Any] | None:
    """The preStop hook of an orphan, from its annotation."""
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


async def _all(work: Iterable[Any]) -> None:
    """Run together; when all have ended the first failure is raised."""
    for each in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each


async def remove_everything(context: Context, runtime: PodRuntime) -> None:
    """Stop and remove all sandboxes and containers of a pod whose processes have ended."""
    for sandbox in runtime.sandboxes:
        await _tolerant(context.runtime.stop_sandbox(sandbox.id))
    for container in runtime.containers:
        await _tolerant(context.runtime.remove_container(container.id))
    for sandbox in runtime.sandboxes:
        await _tolerant(context.runtime.remove_sandbox(sandbox.id))


async def _tolerant(call: Any) -> None:
    """What is gone already is as good."""
    try:
        await call
    except RuntimeFailure as error:
        if not error.not_found:
            raise
