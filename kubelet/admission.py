"""May this pod run here? Asked once, before anything is made of it, with upstream's reasons and words. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeling.api.affinity import pod_matches_node
from kubeling.api.meta import Object, spec_of
from kubeling.api.pods import Amounts, amount_of, host_ports_of, requests_of

Refusal = tuple[str, str]

#: What a pod may set without asking, as of 1.33: it concerns nobody but the pod.
SAFE_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)


def allocatable_of(node: Object) -> Amounts:
    """The node's allocatable resources as whole numbers (millicores for cpu)."""
    found: Mapping[str, str] = (node.get("status") or {}).get("allocatable") or {}
    return {name: amount_of(name, value) for name, value in found.items()}


def admit(pod: Object, others: Iterable[Object], node: Object, unsafe_sysctls: Iterable[str] = ()) -> Refusal | None:
    """(reason, message) of the first thing that does not fit beside `others`; None where the pod may run.

    `unsafe_sysctls` are those that this node lets pods set besides the safe ones: names, or beginnings of names with a `*` at the end.
    """
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
    forbidden = forbidden_sysctl(pod, unsafe_sysctls)
    if forbidden:
        return "SysctlForbidden", f"forbidden sysctl: {forbidden}"
    taken = [port for each in held for port in host_ports_of(each)]
    for address, protocol, port in host_ports_of(pod):
        if any(_clash((address, protocol, port), each) for each in taken):
            return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    return None


def forbidden_sysctl(pod: Object, unsafe: Iterable[str]) -> str:
    """What is wrong with the pod's kernel settings, in upstream's words; empty where nothing is."""
    spec = spec_of(pod)
    allowed = [*SAFE_SYSCTLS, *(each.strip().replace("/", ".") for each in unsafe)]
    for each in (spec.get("securityContext") or {}).get("sysctls") or ():
        # A name with slashes may have dots within its words; the settings that are safe have none.
        name = each["name"].replace("/", ".")
        if not any(name == rule or (rule.endswith("*") and name.startswith(rule[:-1])) for rule in allowed):
            return f'"{name}" not allowlisted'
        kind, shared = ("net", spec.get("hostNetwork")) if name.startswith("net.") else ("ipc", spec.get("hostIPC"))
        if shared:
            return f'"{name}" not allowed with host {kind} enabled'
    return ""


def _short(name: str, requested: int, used: int, capacity: int) -> Refusal:
    message = f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", message


def _clash(left: tuple[str, str, int], right: tuple[str, str, int]) -> bool:
    if left[1:] != right[1:]:
        return False
    return left[0] == right[0] or "0.0.0.0" in (left[0], right[0])
