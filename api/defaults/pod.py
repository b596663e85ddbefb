"""Pods and pod templates: spec, containers, probes, volumes."""

from __future__ import annotations

from typing import Any

from kubeling.api import quantity

Map = dict[str, Any]


def pod(obj: Map) -> None:
    """A Pod. Requests follow limits, and host ports container ports, only here and not in templates."""
    spec = obj.get("spec")
    if spec is None:
        return
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    level = spec.get("resources")
    if level:
        _requests_follow_limits(level)
    for field in ("containers", "initContainers"):
        for each in spec.get(field) or ():
            _requests_follow_limits(each["resources"])
            if spec.get("hostNetwork"):
                for port in each.get("ports") or ():
                    if not port.get("hostPort") and port.get("containerPort"):
                        port["hostPort"] = port["containerPort"]


def template(holder: Map | None) -> None:
    """The pod template under `template` of a workload's spec."""
    spec = ((holder or {}).get("template") or {}).get("spec")
    if spec is not None:
        pod_spec(spec)


def pod_spec(spec: Map) -> None:
    """What pods and templates share."""
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    if spec.get("resources"):
        resources(spec["resources"])
    if spec.get("overhead"):
        amounts(spec["overhead"])
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for each in spec.get(field) or ():
            container(each)
    for each in spec.get("volumes") or ():
        volume(each)


def _requests_follow_limits(found: Map) -> None:
    limits = found.get("limits")
    if limits:
        requests = found.get("requests") or {}
        missing = {name: value for name, value in limits.items() if name not in requests}
        if missing:
            found["requests"] = {**requests, **missing}


def resources(found: Map) -> None:
    """ResourceRequirements: quantities in their canonical spelling."""
    for field in ("limits", "requests"):
        if found.get(field):
            amounts(found[field])


def amounts(found: Map) -> None:
    """A ResourceList: canonical, and not finer than a thousandth. What is no quantity stays for validation to find."""
    for name, value in found.items():
        try:
            parsed = quantity.parse(value)
        except ValueError:
            continue
        milli = quantity.Quantity(parsed.milli * 10**6, parsed.family)
        text = str(milli)
        if text != value:
            found[name] = text


def pull_policy(image: str) -> str:
    """`Always` for what may move under the same name: the tag latest, or none."""
    if "@" in image:
        return "IfNotPresent"
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def container(each: Map) -> None:
    """A container of any of the three lists."""
    if not each.get("imagePullPolicy"):
        each["imagePullPolicy"] = pull_policy(each.get("image") or "")
    if not each.get("terminationMessagePath"):
        each["terminationMessagePath"] = "/dev/termination-log"
    if not each.get("terminationMessagePolicy"):
        each["terminationMessagePolicy"] = "File"
    if each.get("resources") is None:
        each["resources"] = {}
    else:
        resources(each["resources"])
    for port in each.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if each.get(field):
            probe(each[field])
    for hook in (each.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            http_get(hook)
    for variable in each.get("env") or ():
        source = variable.get("valueFrom") or {}
        field_ref(source)
        if source.get("resourceFieldRef"):
            source["resourceFieldRef"].setdefault("divisor", "0")


def probe(found: Map) -> None:
    """A probe's timing and handler."""
    for field, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not found.get(field):
            found[field] = value
    http_get(found)
    if found.get("grpc") is not None:
        found["grpc"].setdefault("service", "")


def http_get(handler: Map) -> None:
    """An HTTP handler's path and scheme."""
    action = handler.get("httpGet")
    if action is not None:
        if not action.get("path"):
            action["path"] = "/"
        if not action.get("scheme"):
            action["scheme"] = "HTTP"


def field_ref(source: Map) -> None:
    """A downward API reference's apiVersion."""
    reference = source.get("fieldRef")
    if reference is not None and not reference.get("apiVersion"):
        reference["apiVersion"] = "v1"


_MODE = 0o644


def volume(each: Map) -> None:
    """A volume; one without a source is an emptyDir."""
    if len(each) == 1 and "name" in each:
        each["emptyDir"] = {}
        return
    for field in ("configMap", "secret", "downwardAPI", "projected"):
        if each.get(field) is not None:
            each[field].setdefault("defaultMode", _MODE)
    for item in (each.get("downwardAPI") or {}).get("items") or ():
        field_ref(item)
    for source in (each.get("projected") or {}).get("sources") or ():
        if source.get("serviceAccountToken") is not None:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        for item in (source.get("downwardAPI") or {}).get("items") or ():
            field_ref(item)
    volume_source(each)
    if each.get("image") is not None and not each["image"].get("pullPolicy"):
        each["image"]["pullPolicy"] = pull_policy(each["image"].get("reference") or "")
    claim = ((each.get("ephemeral") or {}).get("volumeClaimTemplate") or {}).get("spec")
    if claim is not None:
        claim.setdefault("volumeMode", "Filesystem")


def volume_source(each: Map) -> None:
    """The sources that pods and PersistentVolumes share."""
    for field, values in _SOURCES.items():
        source = each.get(field)
        if source is not None:
            for name, value in values.items():
                if source.get(name) is None:
                    source[name] = value
    limit = (each.get("emptyDir") or {}).get("sizeLimit")
    if limit is not None:
        amounts(each["emptyDir"])


_SOURCES: dict[str, Map] = {
    "hostPath": {"type": ""},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}
