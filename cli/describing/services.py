"""Services, with the endpoints behind each port."""

from __future__ import annotations

from typing import Any

from kubeling.api.resources import ENDPOINT_SLICES
from kubeling.cli.describing.page import NONE, Page
from kubeling.client.rest import Client

Obj = dict[str, Any]

_SHOWN = 3


async def service(page: Page, client: Client, obj: Obj) -> None:
    meta, spec = obj["metadata"], obj.get("spec") or {}
    page.field("Name", meta["name"])
    page.field("Namespace", meta.get("namespace", ""))
    page.mapping("Labels", meta.get("labels"))
    page.annotations(meta.get("annotations"))
    page.field("Selector", ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items())) or NONE)
    page.field("Type", spec.get("type", ""))
    if spec.get("ipFamilyPolicy"):
        page.field("IP Family Policy", spec["ipFamilyPolicy"])
    page.field("IP Families", ",".join(spec.get("ipFamilies") or []) or NONE)
    page.field("IP", spec.get("clusterIP", ""))
    page.field("IPs", ",".join(spec.get("clusterIPs") or []) or NONE)
    if spec.get("externalIPs"):
        page.field("External IPs", ",".join(spec["externalIPs"]))
    if spec.get("externalName"):
        page.field("External Name", spec["externalName"])
    if spec.get("loadBalancerIP"):
        page.field("Desired LoadBalancer IP", spec["loadBalancerIP"])
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress:
        page.field("LoadBalancer Ingress", ", ".join(_ingress(each) for each in ingress))
    selector = f"kubernetes.io/service-name={meta['name']}"
    slices = (await client.list(ENDPOINT_SLICES, meta.get("namespace"), label_selector=selector)).get("items") or []
    for port in spec.get("ports") or []:
        name, protocol = port.get("name") or "<unset>", port.get("protocol", "TCP")
        page.field("Port", f"{name}\t{port['port']}/{protocol}")
        page.field("TargetPort", f"{port.get('targetPort', port['port'])}/{protocol}")
        if port.get("nodePort"):
            page.field("NodePort", f"{name}\t{port['nodePort']}/{protocol}")
        page.field("Endpoints", _endpoints(slices, port))
    page.field("Session Affinity", spec.get("sessionAffinity", "None"))
    for key, title in (
        ("externalTrafficPolicy", "External Traffic Policy"),
        ("healthCheckNodePort", "HealthCheck NodePort"),
        ("internalTrafficPolicy", "Internal Traffic Policy"),
    ):
        if spec.get(key):
            page.field(title, spec[key])
    if spec.get("loadBalancerSourceRanges"):
        page.field("LoadBalancer Source Ranges", ",".join(spec["loadBalancerSourceRanges"]))


def _ingress(each: Obj) -> str:
    mode = f" ({each['ipMode']})" if each.get("ipMode") else ""
    return str(each.get("ip") or each.get("hostname") or "") + mode


def _endpoints(slices: list[Obj], port: Obj) -> str:
    if not slices:
        return NONE
    found = [
        f"{f'[{address}]' if ':' in address else address}:{each.get('port')}"
        for slice_ in slices
        for each in slice_.get("ports") or []
        if (each.get("name") or "") == (port.get("name") or "")
        for endpoint in slice_.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or []
    ]
    more = f" + {len(found) - _SHOWN} more..." if len(found) > _SHOWN else ""
    return ",".join(found[:_SHOWN]) + more
