"""The downward API: what a pod may learn of itself, by field path and by its containers' resources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubeling.api import quantity
from kubeling.api.meta import Object, annotations_of, labels_of, metadata_of, spec_of
from kubeling.kubelet.env import ConfigError

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


def field_value(pod: Object, path: str, *, node_name: str, host_ips: Sequence[str], pod_ips: list[str]) -> str:
    """The value at a `fieldRef`. ConfigError for a path that is not offered."""
    metadata, spec = metadata_of(pod), spec_of(pod)
    found = _SUBSCRIPT.fullmatch(path)
    if found:
        values = labels_of(pod) if found[1] == "labels" else annotations_of(pod)
        return values.get(found[2], "")
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata.get(path.removeprefix("metadata.")) or "")
        case "metadata.labels":
            return _map(labels_of(pod))
        case "metadata.annotations":
            return _map(annotations_of(pod))
        case "spec.nodeName":
            return str(spec.get("nodeName") or node_name)
        case "spec.serviceAccountName":
            return str(spec.get("serviceAccountName") or "")
        case "status.hostIP":
            return host_ips[0] if host_ips else ""
        case "status.hostIPs":
            return ",".join(host_ips)
        case "status.podIP":
            return pod_ips[0] if pod_ips else ""
        case "status.podIPs":
            return ",".join(pod_ips)
    raise ConfigError(f"unsupported fieldPath: {path}")


def _map(values: Mapping[str, str]) -> str:
    """`key="value"` lines, sorted, as files of a downwardAPI volume show them."""
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values))


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return f'"{escaped}"'


def resource_value(container: Mapping[str, Any], resource: str, divisor: str, allocatable: Mapping[str, str]) -> str:
    """The value at a `resourceFieldRef`: rounded up in units of the divisor. A limit that is not set is the node's allocatable."""
    kind, _, name = resource.partition(".")
    resources = container.get("resources") or {}
    amount = (resources.get(kind) or {}).get(name)
    if amount is None and kind == "limits" and name in ("cpu", "memory", "ephemeral-storage"):
        amount = allocatable.get(name)
    if kind not in ("limits", "requests") or not name:
        raise ConfigError(f"unsupported container resource: {resource}")
    nanos = quantity.parse(amount or "0").nanos
    unit = quantity.parse(divisor or "1").nanos or quantity.parse("1").nanos
    return str(-(-nanos // unit))


def container_of(pod: Object, name: str) -> dict[str, Any]:
    """The container of that name in the pod's spec, of whichever kind."""
    spec = spec_of(pod)
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for each in spec.get(field) or ():
            if each["name"] == name:
                return dict(each)
    raise ConfigError(f"container {name} not found")
