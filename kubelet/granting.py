"""Giving a pod what it is to have alone, before anything of it is made: devices and cpus, near to each other where the policy asks for that."""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import Object, uid_of
from kubeling.kubelet.context import Context
from kubeling.kubelet.cpus import CpuProblem
from kubeling.kubelet.devices import DeviceProblem
from kubeling.kubelet.topology import REFUSAL, Hint, TopologyProblem, affinities


async def grant_all(context: Context, pod: Object) -> tuple[str, str] | None:
    """Reason and message of its rejection where the pod cannot have it, None where it has all. Asked again, it keeps what it has."""
    devices, cpus, uid = context.devices.accounts, context.cpus, uid_of(pod)
    wants = devices.wants(pod)

    def ask(container: dict[str, Any]) -> list[list[Hint] | None]:
        mine = [(resource, count) for name, resource, count, _ in wants if name == container["name"]]
        return [cpus.hints(pod, container), *(devices.hints(uid, container["name"], resource, count) for resource, count in mine)]

    nodes = frozenset(node for of in cpus.nodes.values() for node in of)
    try:
        near = affinities(context.config.topology_policy, pod, nodes, ask)
        await context.devices.allocate(pod, near)
        cpus.allocate(pod, near)
    except TopologyProblem:
        return REFUSAL
    except (DeviceProblem, CpuProblem) as problem:
        return "UnexpectedAdmissionError", str(problem)
    return None
