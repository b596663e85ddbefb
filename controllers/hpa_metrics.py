"""Where an autoscaler's figures come from: metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

from kubeling.api import quantity
from kubeling.api.errors import ApiError
from kubeling.api.labels import from_selector
from kubeling.api.resources import POD_METRICS, Resource
from kubeling.api.times import parse_duration, parse_time
from kubeling.client.rest import Client
from kubeling.controllers.hpa_replicas import MetricsError, Sample

CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"


async def resource_samples(
    client: Client, namespace: str, selector: str, resource: str, container: str = ""
) -> dict[str, Sample]:
    """What each pod (or that container of it) uses of a resource. Raises MetricsError."""
    try:
        items = (await client.list(POD_METRICS, namespace, label_selector=selector))["items"]
    except ApiError as error:
        raise MetricsError(f"unable to fetch metrics from resource metrics API: {error.message}") from error
    if not items:
        raise MetricsError("no metrics returned from resource metrics API")
    found = {}
    for item in items:
        containers, name = item.get("containers") or [], item["metadata"]["name"]
        if container:
            containers = [each for each in containers if each.get("name") == container]
            if not containers:
                raise MetricsError(f"container {container} not present in metrics for pod {namespace}/{name}")
        usages = [(each.get("usage") or {}).get(resource) for each in containers]
        if usages and None not in usages:
            value = sum(quantity.milli(each) for each in usages)
            found[name] = Sample(value, parse_time(item["timestamp"]), _seconds(item.get("window")))
    return found


def _seconds(window: Any) -> timedelta:
    return parse_duration(window) if isinstance(window, str) and window else timedelta(0)


def _labels(selector: dict[str, Any] | None) -> str | None:
    return str(from_selector(selector)) or None if selector else None


async def _values(client: Client, path: str, params: dict[str, Any], what: str) -> list[dict[str, Any]]:
    try:
        answer = await client.request("GET", path, params=params)
    except ApiError as error:
        raise MetricsError(f"unable to fetch metrics from {what} metrics API: {error.message}") from error
    items: list[dict[str, Any]] = answer.get("items") or []
    if not items:
        raise MetricsError(f"no metrics returned from {what} metrics API")
    return items


async def pod_samples(client: Client, namespace: str, selector: str, metric: dict[str, Any]) -> dict[str, Sample]:
    """A metric of every pod. Raises MetricsError."""
    path = f"{CUSTOM}/namespaces/{namespace}/pods/*/{quote(metric['name'], safe='')}"
    params = {"labelSelector": selector, "metricLabelSelector": _labels(metric.get("selector"))}
    found = {}
    for each in await _values(client, path, params, "custom"):
        window = timedelta(seconds=float(each.get("windowSeconds") or 60))
        found[each["describedObject"]["name"]] = Sample(quantity.milli(each["value"]), parse_time(each["timestamp"]), window)
    return found


async def object_value(client: Client, namespace: str, resource: Resource, name: str, metric: dict[str, Any]) -> int:
    """A metric of one object. Raises MetricsError."""
    wanted = quote(metric["name"], safe="")
    plural = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    if resource.kind == "Namespace" and not resource.group:
        path = f"{CUSTOM}/namespaces/{name}/metrics/{wanted}"
    elif resource.namespaced:
        path = f"{CUSTOM}/namespaces/{namespace}/{plural}/{name}/{wanted}"
    else:
        path = f"{CUSTOM}/{plural}/{name}/{wanted}"
    items = await _values(client, path, {"metricLabelSelector": _labels(metric.get("selector"))}, "custom")
    return quantity.milli(items[0]["value"])


async def external_value(client: Client, namespace: str, metric: dict[str, Any]) -> int:
    """A metric from outside of the cluster: the sum of its series. Raises MetricsError."""
    path = f"{EXTERNAL}/namespaces/{namespace}/{quote(metric['name'], safe='')}"
    items = await _values(client, path, {"labelSelector": _labels(metric.get("selector"))}, "external")
    return sum(quantity.milli(each["value"]) for each in items)
