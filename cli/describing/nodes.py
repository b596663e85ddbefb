"""Nodes: what they are, what runs there, and how much of them is promised away."""

from __future__ import annotations

from typing import Any

from kubeling.api import quantity
from kubeling.api.errors import ApiError
from kubeling.api.pods import limits_of, requests_of
from kubeling.api.resources import LEASES, PODS
from kubeling.cli.describing.page import NONE, Page, age, moment
from kubeling.client.rest import Client

Obj = dict[str, Any]

_ROLE = "node-role.kubernetes.io/"
_INFO = {
    "machineID": "Machine ID",
    "systemUUID": "System UUID",
    "bootID": "Boot ID",
    "kernelVersion": "Kernel Version",
    "osImage": "OS Image",
    "operatingSystem": "Operating System",
    "architecture": "Architecture",
    "containerRuntimeVersion": "Container Runtime Version",
    "kubeletVersion": "Kubelet Version",
    "kubeProxyVersion": "Kube-Proxy Version",
}
#: The worst comes first.
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_STANDARD = ("cpu", "memory", "ephemeral-storage")


async def node(page: Page, client: Client, obj: Obj) -> None:
    meta, spec, state = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    page.field("Name", meta["name"])
    roles = sorted(key.removeprefix(_ROLE) for key in meta.get("labels") or {} if key.startswith(_ROLE))
    page.field("Roles", ",".join(roles) or NONE)
    page.mapping("Labels", meta.get("labels"))
    page.annotations(meta.get("annotations"))
    page.field("CreationTimestamp", moment(meta.get("creationTimestamp")))
    taints = sorted(spec.get("taints") or [], key=lambda each: _EFFECTS.index(each["effect"]))
    page.listed("Taints", [_taint(each) for each in taints])
    page.field("Unschedulable", str(bool(spec.get("unschedulable"))).lower())
    await _lease(page, client, meta["name"])
    if state.get("conditions"):
        page.line("Conditions:")
        rows = [
            [
                f"{each['type']} ",
                f"{each['status']} ",
                f"{moment(each.get('lastHeartbeatTime'))} ",
                f"{moment(each.get('lastTransitionTime'))} ",
                f"{each.get('reason', '')} ",
                each.get("message", ""),
            ]
            for each in state["conditions"]
        ]
        page.table(["Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"], rows)
    page.line("Addresses:")
    for each in state.get("addresses") or []:
        page.field(each["type"], each["address"], 1)
    for key in ("capacity", "allocatable"):
        if state.get(key):
            page.line(f"{key.title()}:")
            for name, amount in sorted(state[key].items()):
                page.field(name, amount, 1)
    page.line("System Info:")
    for key, title in _INFO.items():
        page.field(title, (state.get("nodeInfo") or {}).get(key, ""), 1)
    if spec.get("podCIDR"):
        page.field("PodCIDR", spec["podCIDR"])
    if spec.get("podCIDRs"):
        page.field("PodCIDRs", ",".join(spec["podCIDRs"]))
    if spec.get("providerID"):
        page.field("ProviderID", spec["providerID"])
    await _pods(page, client, meta["name"], state.get("allocatable") or state.get("capacity") or {})


def _taint(each: Obj) -> str:
    return f"{each['key']}{'=' + each['value'] if each.get('value') else ''}:{each['effect']}"


async def _lease(page: Page, client: Client, name: str) -> None:
    try:
        lease = (await client.get(LEASES, name, "kube-node-lease")).get("spec") or {}
    except ApiError as error:
        page.field("Lease", f"Failed to get lease: {error.message}")
        return
    page.line("Lease:")
    page.field("HolderIdentity", lease.get("holderIdentity", "<unset>"), 1)
    page.field("AcquireTime", moment(lease.get("acquireTime")), 1)
    page.field("RenewTime", moment(lease.get("renewTime")), 1)


async def _pods(page: Page, client: Client, name: str, have: dict[str, str]) -> None:
    fields = f"spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"
    pods = (await client.list(PODS, None, field_selector=fields)).get("items") or []
    page.field("Non-terminated Pods", f"({len(pods)} in total)")
    headers = ["Namespace", "Name", "", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits", "Age"]
    rows: list[list[str]] = []
    asked: dict[str, int] = {}
    capped: dict[str, int] = {}
    for pod in pods:
        requests, limits = requests_of(pod), limits_of(pod)
        for totals, amounts in ((asked, requests), (capped, limits)):
            for resource, amount in amounts.items():
                totals[resource] = totals.get(resource, 0) + amount
        shares = [_share(which, amounts, have) for which in ("cpu", "memory") for amounts in (requests, limits)]
        rows.append(
            [pod["metadata"]["namespace"], pod["metadata"]["name"], "", *shares, age(pod["metadata"]["creationTimestamp"])]
        )
    page.table(headers, rows)
    page.line("Allocated resources:")
    page.line("(Limits may add up to more than 100 percent.)", 1)
    names = [*_STANDARD, *sorted(each for each in have if each not in _STANDARD and each != "pods")]
    page.table(
        ["Resource", "Requests", "Limits"], [[each, _share(each, asked, have), _share(each, capped, have)] for each in names]
    )


def _share(name: str, amounts: dict[str, int], have: dict[str, str]) -> str:
    """An amount, and how much of the node's it is; CPUs are counted in thousandths."""
    amount = amounts.get(name, 0)
    whole = quantity.milli(have.get(name)) if name == "cpu" else quantity.units(have.get(name))
    return f"{_amount(name, amount)} ({amount * 100 // whole if whole else 0}%)"


def _amount(name: str, amount: int) -> str:
    if name == "cpu":
        return f"{amount}m" if amount % 1000 else str(amount // 1000)
    for unit, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if amount and amount % size == 0:
            return f"{amount // size}{unit}"
    return str(amount)
