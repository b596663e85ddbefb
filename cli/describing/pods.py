"""Pods, and the pattern of pods in everything that makes them."""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import controller_of
from kubeling.api.pods import qos_class
from kubeling.cli.describing.containers import containers, volumes
from kubeling.cli.describing.page import NONE, Page, age, moment

Obj = dict[str, Any]

_KINDS = (
    ("Init Containers", "initContainers", "initContainerStatuses"),
    ("Containers", "containers", "containerStatuses"),
    ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
)


def pod(page: Page, obj: Obj) -> None:
    meta, spec, state = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    page.field("Name", meta["name"])
    page.field("Namespace", meta.get("namespace", ""))
    page.field("Priority", spec.get("priority", 0))
    for key, title in (("priorityClassName", "Priority Class Name"), ("runtimeClassName", "Runtime Class Name")):
        if spec.get(key):
            page.field(title, spec[key])
    page.field("Service Account", spec.get("serviceAccountName", ""))
    page.field("Node", f"{spec['nodeName']}/{state.get('hostIP', '')}" if spec.get("nodeName") else NONE)
    if state.get("startTime"):
        page.field("Start Time", moment(state["startTime"]))
    page.mapping("Labels", meta.get("labels"))
    page.annotations(meta.get("annotations"))
    if meta.get("deletionTimestamp"):
        page.field("Status", f"Terminating (lasts {age(meta['deletionTimestamp'])})")
        page.field("Termination Grace Period", f"{meta.get('deletionGracePeriodSeconds', 0)}s")
    else:
        page.field("Status", state.get("phase", ""))
    for key in ("reason", "message"):
        if state.get(key):
            page.field(key.title(), state[key])
    page.field("IP", state.get("podIP", ""))
    if state.get("podIPs"):
        page.line("IPs:")
        for each in state["podIPs"]:
            page.field("IP", each.get("ip", ""), 1)
    else:
        page.field("IPs", NONE)
    owner = controller_of(obj)
    if owner is not None:
        page.field("Controlled By", f"{owner['kind']}/{owner['name']}")
    if state.get("nominatedNodeName"):
        page.field("NominatedNodeName", state["nominatedNodeName"])
    for title, kind, status in _KINDS:
        containers(page, title, spec.get(kind) or [], {each["name"]: each for each in state.get(status) or []}, obj)
    if state.get("conditions"):
        page.line("Conditions:")
        page.line("Type\tStatus", 1)
        for each in state["conditions"]:
            page.line(f"{each['type']} \t{each['status']} ", 1)
    volumes(page, spec.get("volumes") or [])
    page.field("QoS Class", state.get("qosClass") or qos_class(obj))
    page.mapping("Node-Selectors", spec.get("nodeSelector"))
    page.listed("Tolerations", tolerations(spec))


def tolerations(spec: Obj) -> list[str]:
    """One line each, in order of their keys."""
    return [_toleration(each) for each in sorted(spec.get("tolerations") or [], key=lambda each: str(each.get("key", "")))]


def _toleration(each: Obj) -> str:
    text = str(each.get("key", ""))
    text += f"={each['value']}" if each.get("value") else ""
    text += f":{each['effect']}" if each.get("effect") else ""
    if each.get("operator") == "Exists" and not each.get("value"):
        text += " op=Exists" if text else "op=Exists"
    return text + (f" for {each['tolerationSeconds']}s" if each.get("tolerationSeconds") is not None else "")


def template(page: Page, found: Obj) -> None:
    """The pattern in a workload."""
    meta, spec = found.get("metadata") or {}, found.get("spec") or {}
    page.line("Pod Template:")
    page.mapping("  Labels", meta.get("labels"))
    if meta.get("annotations"):
        page.annotations(meta["annotations"], 1)
    if spec.get("serviceAccountName"):
        page.field("Service Account", spec["serviceAccountName"], 1)
    for title, kind, _ in _KINDS:
        containers(page, title, spec.get(kind) or [], None, None, "  ")
    volumes(page, spec.get("volumes") or [], "  ")
    if spec.get("priorityClassName"):
        page.field("Priority Class Name", spec["priorityClassName"], 1)
    page.mapping("  Node-Selectors", spec.get("nodeSelector"))
    page.listed("  Tolerations", tolerations(spec))
