"""Bringing running containers to what their pod was given: the runtime updates their limits, or they are started anew where their policy says so.

The pod's own cgroup encloses its containers, so it grows before them and shrinks after them.
"""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import Object, uid_of
from kubeling.daemon.log import get_logger
from kubeling.kubelet.actions import Kill, PodActions, Start
from kubeling.kubelet.allocation import PerContainer, Resize, containers_in, differs, restarts, with_resources
from kubeling.kubelet.context import Context
from kubeling.kubelet.convert import linux_resources
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.podstate import ContainerRecord, PodRuntime
from kubeling.kubelet.resources import container_limits

log = get_logger("kubelet.resize")


class Resizer:
    """Follows the resizes of one pod."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.state = Resize()

    def allocate(self, pod: Object, runtime: PodRuntime) -> Object:
        """The pod with what the node has given to it, which is what it wishes as soon as that can be had."""
        context = self._context
        context.allocations.admit(pod, runtime)
        pending = context.allocations.consider(pod, context.others(uid_of(pod)), context.node_object())
        pod = context.allocations.effective(pod)
        actuated = context.allocations.actuated(runtime)
        waiting = outstanding(pod, runtime, actuated)
        self.state = Resize(pending, bool(waiting), self.state.error if waiting else "", actuated)
        return pod

    async def follow(self, pod: Object, runtime: PodRuntime, actions: PodActions) -> bool:
        """Bring running containers to what their pod was given, or have `actions` start them anew; whether any was updated."""
        context, actuated = self._context, self.state.actuated
        waiting = outstanding(pod, runtime, actuated)
        updates = add_restarts(pod, waiting, actuated, actions) if waiting else []
        if not updates:
            return False
        error = await update(context, pod, actuated, updates)
        actuated = context.allocations.actuated(runtime)
        self.state = Resize(self.state.pending, bool(outstanding(pod, runtime, actuated)), error, actuated)
        return True


def outstanding(pod: Object, runtime: PodRuntime, actuated: PerContainer) -> list[tuple[dict[str, Any], ContainerRecord]]:
    """The containers that run with something else than their pod was given."""
    found = []
    for container in containers_in(pod):
        record = runtime.latest(container["name"])
        actual = actuated.get(container["name"])
        if record is not None and record.running and actual is not None and differs(container.get("resources") or {}, actual):
            found.append((container, record))
    return found


def add_restarts(
    pod: Object, waiting: list[tuple[dict[str, Any], ContainerRecord]], actuated: PerContainer, actions: PodActions
) -> list[tuple[dict[str, Any], ContainerRecord]]:
    """Have those started anew that must be; the others, which are to be updated."""
    if actions.kill_pod or actions.create_sandbox:
        return []
    updates = []
    init = {each["name"] for each in (pod["spec"].get("initContainers") or ())}
    doomed = {each.record.id for each in actions.kill}
    for container, record in waiting:
        if record.id in doomed:
            continue
        changed = differs(container.get("resources") or {}, actuated.get(container["name"]) or {})
        if restarts(container, changed):
            actions.kill.append(Kill(record, f"Container {container['name']} resize requires restart"))
            actions.start.append(Start(container, "init" if container["name"] in init else "regular", record))
        else:
            updates.append((container, record))
    return updates


async def update(
    context: Context, pod: Object, actuated: PerContainer, updates: list[tuple[dict[str, Any], ContainerRecord]]
) -> str:
    """Update the containers; what went wrong, empty where nothing did."""
    context.cgroups.resize(with_resources(pod, actuated), pod)
    error = ""
    for container, record in updates:
        limits = container_limits(pod, container, context.machine.memory)
        try:
            await context.runtime.update_container(record.id, linux_resources(limits))
        except RuntimeFailure as failure:
            log.warning("a container could not be resized", container=container["name"], error=str(failure))
            error = str(failure)
            continue
        context.allocations.actuate(uid_of(pod), record.id, container.get("resources") or {})
        log.info("a container was resized", uid=uid_of(pod), container=container["name"])
    if not error:
        context.cgroups.ensure(pod, anew=True)
    return error
