"""Containers and volumes, of pods and of pod templates."""

from __future__ import annotations

from typing import Any

from kubeling.api import quantity
from kubeling.cli.describing.page import NONE, Page, moment, titled

Obj = dict[str, Any]

_STATE_FIELDS = {"reason": "Reason", "message": "Message", "exitCode": "Exit Code", "signal": "Signal"}
_TIMES = {"startedAt": "Started", "finishedAt": "Finished"}


def containers(page: Page, title: str, specs: list[Obj], states: dict[str, Obj] | None, pod: Obj | None, space: str = "") -> None:
    """One block a container; `states` None is a template's. `space` stands before the titles of a template."""
    if not specs:
        return
    page.line(f"{space}{title}:")
    for spec in specs:
        page.line(f"{' ' if space else ''}{spec['name']}:", 1)
        _container(page, spec, (states or {}).get(spec["name"]), pod)


def _container(page: Page, spec: Obj, state: Obj | None, pod: Obj | None) -> None:
    if state is not None:
        page.field("Container ID", state.get("containerID", ""), 2)
    page.field("Image", spec.get("image", ""), 2)
    if state is not None:
        page.field("Image ID", state.get("imageID", ""), 2)
    ports = spec.get("ports") or []
    plural = "s" if len(ports) > 1 else ""
    for name, key in (("Port", "containerPort"), ("Host Port", "hostPort")):
        shown = ", ".join(f"{each.get(key, 0)}/{each.get('protocol', 'TCP')}" for each in ports)
        page.field(name + plural, shown or NONE, 2)
    for key in ("command", "args"):
        if spec.get(key):
            page.line(f"{key.title()}:", 2)
            for word in spec[key]:
                for part in word.split("\n"):
                    page.line(part, 3)
    if state is not None:
        _state(page, "State", state.get("state") or {})
        if state.get("lastState"):
            _state(page, "Last State", state["lastState"])
        page.field("Ready", titled(state.get("ready")), 2)
        page.field("Restart Count", state.get("restartCount", 0), 2)
    for key in ("limits", "requests"):
        amounts = (spec.get("resources") or {}).get(key)
        if amounts:
            page.line(f"{key.title()}:", 2)
            for name, amount in sorted(amounts.items()):
                page.field(name, amount, 3)
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if spec.get(key):
            page.field(key.removesuffix("Probe").title(), _probe(spec[key]), 2)
    _environment(page, spec, pod)
    mounts = sorted(spec.get("volumeMounts") or [], key=lambda each: str(each["mountPath"]))
    if not mounts:
        page.field("Mounts", NONE, 2)
    else:
        page.line("Mounts:", 2)
        for mount in mounts:
            how = "ro" if mount.get("readOnly") else "rw"
            part = f',path="{mount["subPath"]}"' if mount.get("subPath") else ""
            page.line(f"{mount['mountPath']} from {mount['name']} ({how}{part})", 3)


def _state(page: Page, title: str, state: Obj) -> None:
    kind = next(iter(state), "waiting")
    value: Obj = state.get(kind) or {}
    page.field(title, kind.title(), 2)
    for key, name in _STATE_FIELDS.items():
        if value.get(key) is not None:
            page.field(name, value[key], 3)
    for key, name in _TIMES.items():
        if value.get(key):
            page.field(name, moment(value[key]), 3)


def _probe(probe: Obj) -> str:
    numbers = (
        f"delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 1)}s "
        f"period={probe.get('periodSeconds', 10)}s #success={probe.get('successThreshold', 1)} "
        f"#failure={probe.get('failureThreshold', 3)}"
    )
    if "exec" in probe:
        return f"exec [{' '.join(probe['exec'].get('command') or [])}] {numbers}"
    if "httpGet" in probe:
        get = probe["httpGet"]
        url = f"{get.get('scheme', 'HTTP').lower()}://{get.get('host', '')}:{get.get('port')}{get.get('path', '/')}"
        return f"http-get {url} {numbers}"
    if "tcpSocket" in probe:
        return f"tcp-socket {probe['tcpSocket'].get('host', '')}:{probe['tcpSocket'].get('port')} {numbers}"
    if "grpc" in probe:
        return f"grpc <pod>:{probe['grpc'].get('port')} {probe['grpc'].get('service', '')} {numbers}"
    return f"unknown {numbers}"


def _environment(page: Page, spec: Obj, pod: Obj | None) -> None:
    if spec.get("envFrom"):
        page.line("Environment Variables from:", 2)
        for each in spec["envFrom"]:
            kind, source = (
                ("ConfigMap", each["configMapRef"]) if "configMapRef" in each else ("Secret", each.get("secretRef") or {})
            )
            prefix = f" with prefix '{each['prefix']}'" if each.get("prefix") else ""
            page.line(f"{source.get('name', '')}\t{kind}{prefix}\tOptional: {_optional(source)}", 3)
    if not spec.get("env"):
        page.field("Environment", NONE, 2)
        return
    page.line("Environment:", 2)
    for each in spec["env"]:
        first, *rest = _value(each, spec, pod).split("\n")
        page.field(each["name"], first, 3)
        for part in rest:
            page.line(f"\t{part}", 3)


def _value(env: Obj, container: Obj, pod: Obj | None) -> str:
    source = env.get("valueFrom") or {}
    if "fieldRef" in source:
        path = source["fieldRef"]["fieldPath"]
        return f"{_field(pod, path)} ({source['fieldRef'].get('apiVersion', 'v1')}:{path})"
    if "resourceFieldRef" in source:
        wanted = source["resourceFieldRef"]["resource"]
        kind, _, name = wanted.partition(".")
        amount = ((container.get("resources") or {}).get(kind) or {}).get(name)
        return f"{quantity.units(amount) if amount is not None else ''} ({wanted})"
    if "configMapKeyRef" in source:
        ref = source["configMapKeyRef"]
        return f"<set to the key '{ref['key']}' of config map '{ref.get('name', '')}'>\tOptional: {_optional(ref)}"
    if "secretKeyRef" in source:
        ref = source["secretKeyRef"]
        return f"<set to the key '{ref['key']}' in secret '{ref.get('name', '')}'>\tOptional: {_optional(ref)}"
    return str(env.get("value", ""))


def _field(pod: Obj | None, path: str) -> str:
    value: Any = pod
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _optional(ref: Obj) -> str:
    return "true" if ref.get("optional") else "false"


def volumes(page: Page, found: list[Obj], space: str = "") -> None:
    """One block a volume."""
    if not found:
        page.line(f"{space}Volumes:\t{NONE}")
        return
    page.line(f"{space}Volumes:")
    for volume in found:
        page.line(f"{' ' if space else ''}{volume['name']}:", 1)
        kind = next((key for key in volume if key != "name"), "")
        page.field("Type", (kind[:1].upper() + kind[1:]).replace("Nfs", "NFS").replace("Csi", "CSI") or "<unknown>", 2)
        for name, value in _volume_fields(kind, volume.get(kind) or {}):
            page.field(name, value, 2)
        if kind == "downwardAPI":
            page.line("Items:", 2)
            for item in volume[kind].get("items") or []:
                page.line(f"{_reference(item)} -> {item['path']}", 3)


def _volume_fields(kind: str, source: Obj) -> list[tuple[str, object]]:
    match kind:
        case "emptyDir":
            return [("Medium", source.get("medium", "")), ("SizeLimit", source.get("sizeLimit", "<unset>"))]
        case "hostPath":
            return [("Path", source.get("path", "")), ("HostPathType", source.get("type", ""))]
        case "configMap":
            return [("Name", source.get("name", "")), ("Optional", _optional(source))]
        case "secret":
            return [("SecretName", source.get("secretName", "")), ("Optional", _optional(source))]
        case "persistentVolumeClaim":
            return [("ClaimName", source.get("claimName", "")), ("ReadOnly", str(bool(source.get("readOnly"))).lower())]
        case "projected":
            return [field for each in source.get("sources") or [] for field in _projected_fields(each)]
        case "downwardAPI":
            return []
    return [(key[:1].upper() + key[1:], value) for key, value in source.items() if not isinstance(value, dict | list)]


def _reference(item: Obj) -> str:
    return str((item.get("fieldRef") or {}).get("fieldPath") or (item.get("resourceFieldRef") or {}).get("resource", ""))


def _projected_fields(source: Obj) -> list[tuple[str, object]]:
    if "serviceAccountToken" in source:
        return [("TokenExpirationSeconds", source["serviceAccountToken"].get("expirationSeconds", 3600))]
    if "configMap" in source:
        return [("ConfigMapName", source["configMap"].get("name", "")), ("Optional", _optional(source["configMap"]))]
    if "secret" in source:
        return [("SecretName", source["secret"].get("name", "")), ("Optional", _optional(source["secret"]))]
    return [("DownwardAPI", "true")] if "downwardAPI" in source else []
