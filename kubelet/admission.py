"""May this pod run here? Asked once, before anything is made of it, with upstream's reasons and words. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeling.api.affinity import pod_matches_node
from kubeling.api.meta import Object
from kubeling.api.pods import Amounts, amount_of, host_ports_of, requests_of

Refusal = tuple[str, str]


def allocatable_of(node: Object) -> Amounts:
    """The node's allocatable resources as whole numbers (millicores for cpu)."""
    found: Mapping[str, str] = (node.get("status") or {}).get("allocatable") or {}
    return {name: amount_of(name, value) for name, value in found.items()}


def admit(pod: Object, others: Iterable[Object], node: Object) -> Refusal | None:
    """(reason, message) of the first thing that does not fit beside `others`; None where the pod may run."""
    allocatable = allocatable_of(node)
    held = list(others)
    if "pods" in allocatable and len(held) + 1 > allocatable["pods"]:
        return _short("pods", 1, len(held), allocatable["pods"])
    used: Amounts = {}
    for each in held:
        for name, amount in requests_of(each).items():
            used[name] = used.get(name, 0) + amount
    for name, amount in requests_of(pod).items():
        if amount and used.get(name, 0) + amount > allocatable.get(name, 0):
            return _short(name, amount, used.get(name, 0), allocatable.get(name, 0))
    if not pod_matches_node(pod, node):
        return "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    taken = [port for each in held for port in host_ports_of(each)]
    for address, protocol, port in host_ports_of(pod):
        if any(_clash((address, protocol, port), each) for each in taken):
            return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    return None


def _short(name: str, requested: int, used: int, capacity: int) -> Refusal:
    message = f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", message


def _clash(left: tuple[str, str, int], right: tuple[str, str, int]) -> bool:
    if left[1:] != right[1:]:
        return False
    return left[0] == right[0] or "0.0.0.0" in (left[0], right[0])
