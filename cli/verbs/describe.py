"""`describe`: an object for people, with what happened to it.

Pods, nodes, Services and workloads have a layout of their own; everything else is shown field by field, which is what kubectl does for custom resources.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from kubeling.api import quantity
from kubeling.api.labels import from_selector
from kubeling.api.meta import controller_of
from kubeling.api.pods import qos_class, requests_of
from kubeling.api.resources import ENDPOINT_SLICES, EVENTS, PODS, Resource
from kubeling.api.times import age
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import targets_of

Lines = list[tuple[int, str, str]]
_NONE = "<none>"


async def describe(
    session: Session,
    words: flags.Words = None,
    filename: flags.Filenames = None,
    selector: flags.Selector = "",
    all_namespaces: flags.AllNamespaces = False,
    show_events: Annotated[bool, typer.Option("--show-events/--no-show-events", help="What happened to it.")] = True,
) -> int:
    """Show objects for people: `kubeling describe pod web-1`. A name may be the beginning of several."""
    shown = 0
    for target in await targets_of(session, words or [], filenames=filename or [], everywhere=all_namespaces):
        identity = {"apiVersion": target.resource.group_version, "kind": target.resource.kind}
        listed = await session.client.list(target.resource, target.namespace, label_selector=selector or None)
        objects = [{**identity, **item} for item in listed.get("items") or []]
        if target.name is not None:
            exact = [obj for obj in objects if obj["metadata"]["name"] == target.name]
            objects = exact or [obj for obj in objects if obj["metadata"]["name"].startswith(target.name)]
            if not objects:
                await session.client.get(target.resource, target.name, target.namespace)  # Raises the error that belongs here.
        for obj in objects:
            if shown:
                print("\n")
            print(_render(await _lines(session, target.resource, obj)), end="")
            if show_events:
                print(await _events(session, obj), end="")
            shown += 1
    if not shown:
        raise CommandError(f"No resources found in {session.namespace} namespace.")
    return 0


async def _lines(session: Session, resource: Resource, obj: Obj) -> Lines:
    special = {"Pod": _pod, "Node": _node, "Service": _service}.get(resource.kind) if not resource.group else None
    if special is not None:
        return await special(session, obj)
    if resource.group == "apps":
        return _workload(obj)
    return _head(obj) + _fields({key: value for key, value in obj.items() if key not in ("metadata", "kind", "apiVersion")}, 0)


def _head(obj: Obj) -> Lines:
    meta = obj["metadata"]
    lines: Lines = [(0, "Name", meta["name"])]
    if meta.get("namespace"):
        lines.append((0, "Namespace", meta["namespace"]))
    lines += _mapping(0, "Labels", meta.get("labels")) + _mapping(0, "Annotations", meta.get("annotations"), separator=": ")
    if meta.get("deletionTimestamp"):
        lines.append((0, "Status", f"Terminating (lasts {_age(meta['deletionTimestamp'])})"))
    return lines


def _mapping(indent: int, title: str, values: dict[str, str] | None, separator: str = "=") -> Lines:
    rows = [
        f"{key}{separator}{_short(value)}"
        for key, value in sorted((values or {}).items())
        if not key.endswith("last-applied-configuration")
    ]
    return [(indent, title, rows[0]), *((indent, "", row) for row in rows[1:])] if rows else [(indent, title, _NONE)]


def _short(value: object, limit: int = 140) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _age(stamp: str | None) -> str:
    return age(stamp, datetime.now(UTC))


async def _pod(session: Session, pod: Obj) -> Lines:
    spec, state = pod.get("spec") or {}, pod.get("status") or {}
    node = f"{spec['nodeName']}/{state.get('hostIP', '')}" if spec.get("nodeName") else _NONE
    lines = _head(pod)
    lines[2:2] = [
        (0, "Priority", str(spec.get("priority", 0))),
        (0, "Service Account", spec.get("serviceAccountName", "default")),
        (0, "Node", node),
        (0, "Start Time", state.get("startTime", _NONE)),
    ]
    lines.append((0, "Status", "Terminating" if pod["metadata"].get("deletionTimestamp") else state.get("phase", "Unknown")))
    for field in ("reason", "message"):
        if state.get(field):
            lines.append((0, field.title(), state[field]))
    lines.append((0, "IP", state.get("podIP", "")))
    lines += [(0, "IPs", ""), *((1, "IP", each["ip"]) for each in state.get("podIPs") or [])]
    if owner := controller_of(pod):
        lines.append((0, "Controlled By", f"{owner['kind']}/{owner['name']}"))
    for kind, status, title in (
        ("initContainers", "initContainerStatuses", "Init Containers"),
        ("containers", "containerStatuses", "Containers"),
        ("ephemeralContainers", "ephemeralContainerStatuses", "Ephemeral Containers"),
    ):
        if spec.get(kind):
            lines.append((0, title, ""))
            states = {each["name"]: each for each in state.get(status) or []}
            for container in spec[kind]:
                lines += _container(container, states.get(container["name"], {}))
    lines.append((0, "Conditions", ""))
    lines += [(1, each["type"], each["status"]) for each in state.get("conditions") or []]
    lines.append((0, "Volumes", ""))
    for volume in spec.get("volumes") or []:
        lines.append((1, volume["name"], ""))
        for source, value in volume.items():
            if source != "name":
                lines.append((2, "Type", source))
                lines += _fields(value or {}, 2)
    lines.append((0, "QoS Class", state.get("qosClass") or qos_class(pod)))
    lines += _mapping(0, "Node-Selectors", spec.get("nodeSelector"))
    lines += _listed(0, "Tolerations", [_toleration(each) for each in spec.get("tolerations") or []])
    return lines


def _container(container: Obj, state: Obj) -> Lines:
    lines: Lines = [(1, container["name"], "")]
    for title, value in (
        ("Container ID", state.get("containerID", "")),
        ("Image", container.get("image", "")),
        ("Image ID", state.get("imageID", "")),
    ):
        lines.append((2, title, value))
    ports = [f"{each['containerPort']}/{each.get('protocol', 'TCP')}" for each in container.get("ports") or []]
    lines.append((2, "Ports" if len(ports) > 1 else "Port", ", ".join(ports) or _NONE))
    for title in ("command", "args"):
        if container.get(title):
            lines += [(2, title.title(), ""), *((3, "", _short(each)) for each in container[title])]
    lines += _container_state("State", state.get("state") or {}) if state else []
    if state.get("lastState"):
        lines += _container_state("Last State", state["lastState"])
    lines += [(2, "Ready", str(state.get("ready", False))), (2, "Restart Count", str(state.get("restartCount", 0)))]
    resources = container.get("resources") or {}
    for title in ("limits", "requests"):
        if resources.get(title):
            lines += [(2, title.title(), ""), *((3, name, str(amount)) for name, amount in sorted(resources[title].items()))]
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name):
            lines.append((2, name.removesuffix("Probe").title(), _probe(container[name])))
    lines += _listed(
        2, "Environment", [f"{each['name']}: {_short(each.get('value', _from(each)))}" for each in container.get("env") or []]
    )
    mounts = [
        f"{each['mountPath']} from {each['name']} ({'ro' if each.get('readOnly') else 'rw'})"
        for each in container.get("volumeMounts") or []
    ]
    return lines + _listed(2, "Mounts", mounts)


def _from(env: Obj) -> str:
    source = env.get("valueFrom") or {}
    kind, value = next(iter(source.items()), ("", Obj()))
    return f"<set by {kind}: {', '.join(str(each) for each in value.values())}>" if kind else ""


def _container_state(title: str, state: Obj) -> Lines:
    kind, value = next(iter(state.items()), ("waiting", Obj()))
    lines: Lines = [(2, title, kind.title())]
    names = {
        "reason": "Reason",
        "message": "Message",
        "exitCode": "Exit Code",
        "signal": "Signal",
        "startedAt": "Started",
        "finishedAt": "Finished",
    }
    return lines + [(3, names[key], str(value[key])) for key in names if key in (value or {})]


def _probe(probe: Obj) -> str:
    action = "exec" if "exec" in probe else next((key for key in ("httpGet", "tcpSocket", "grpc") if key in probe), "")
    detail = {
        "exec": lambda value: f"exec {value.get('command')}",
        "httpGet": lambda value: (
            f"http-get {value.get('scheme', 'HTTP').lower()}://{value.get('host', '')}:{value.get('port')}{value.get('path', '/')}"
        ),
        "tcpSocket": lambda value: f"tcp-socket :{value.get('port')}",
        "grpc": lambda value: f"grpc :{value.get('port')}",
    }
    head = detail[action](probe[action]) if action else ""
    numbers = (probe.get("initialDelaySeconds", 0), probe.get("timeoutSeconds", 1), probe.get("periodSeconds", 10))
    return f"{head} delay={numbers[0]}s timeout={numbers[1]}s period={numbers[2]}s #success={probe.get('successThreshold', 1)} #failure={probe.get('failureThreshold', 3)}"


def _toleration(each: Obj) -> str:
    text: str = (
        each.get("key", "")
        + (f"={each['value']}" if each.get("value") else "")
        + (f":{each['effect']}" if each.get("effect") else "")
    )
    text += " op=Exists" if each.get("operator") == "Exists" else ""
    return text + (f" for {each['tolerationSeconds']}s" if each.get("tolerationSeconds") is not None else "")


def _listed(indent: int, title: str, rows: Sequence[str]) -> Lines:
    return [(indent, title, rows[0]), *((indent, "", row) for row in rows[1:])] if rows else [(indent, title, _NONE)]


async def _node(session: Session, node: Obj) -> Lines:
    spec, state = node.get("spec") or {}, node.get("status") or {}
    lines = _head(node)
    lines += _listed(
        0,
        "Taints",
        [
            f"{each['key']}{'=' + each['value'] if each.get('value') else ''}:{each['effect']}"
            for each in spec.get("taints") or []
        ],
    )
    lines.append((0, "Unschedulable", str(bool(spec.get("unschedulable"))).lower()))
    lines.append((0, "Conditions", ""))
    for each in state.get("conditions") or []:
        lines.append(
            (
                1,
                each["type"],
                f"{each['status']}  {each.get('reason', '')}: {each.get('message', '')} (heard {_age(each.get('lastHeartbeatTime'))} ago)",
            )
        )
    lines += [(0, "Addresses", ""), *((1, each["type"], each["address"]) for each in state.get("addresses") or [])]
    for title in ("capacity", "allocatable"):
        lines += [(0, title.title(), ""), *((1, name, str(amount)) for name, amount in sorted((state.get(title) or {}).items()))]
    lines += [(0, "System Info", ""), *_fields(state.get("nodeInfo") or {}, 1)]
    if spec.get("podCIDR"):
        lines.append((0, "PodCIDR", spec["podCIDR"]))
    pods = (
        await session.client.list(
            PODS, None, field_selector=f"spec.nodeName={node['metadata']['name']},status.phase!=Succeeded,status.phase!=Failed"
        )
    ).get("items") or []
    lines.append((0, "Non-terminated Pods", f"({len(pods)} in total)"))
    totals = {"cpu": 0, "memory": 0}
    for pod in pods:
        asked = requests_of(pod)
        totals = {name: amount + asked.get(name, 0) for name, amount in totals.items()}
        lines.append(
            (
                1,
                f"{pod['metadata']['namespace']}/{pod['metadata']['name']}",
                f"cpu {asked.get('cpu', 0)}m, memory {asked.get('memory', 0)}",
            )
        )
    allocatable = state.get("allocatable") or {}
    lines.append((0, "Allocated resources", ""))
    for name, amount in totals.items():
        have = quantity.milli(allocatable.get(name)) if name == "cpu" else quantity.units(allocatable.get(name))
        lines.append((1, name, f"{amount}{'m' if name == 'cpu' else ''} ({amount * 100 // have if have else 0}%)"))
    return lines


async def _service(session: Session, service: Obj) -> Lines:
    spec, meta = service.get("spec") or {}, service["metadata"]
    lines = _head(service)
    lines += _mapping(0, "Selector", spec.get("selector"))
    lines.append((0, "Type", spec.get("type", "ClusterIP")))
    lines.append((0, "IP Families", ", ".join(spec.get("ipFamilies") or []) or _NONE))
    lines.append((0, "IP", spec.get("clusterIP", "")))
    ingress = [
        each.get("ip") or each.get("hostname")
        for each in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    ]
    if ingress:
        lines.append((0, "LoadBalancer Ingress", ", ".join(str(each) for each in ingress)))
    listed = await session.client.list(
        ENDPOINT_SLICES, meta.get("namespace"), label_selector=f"kubernetes.io/service-name={meta['name']}"
    )
    for port in spec.get("ports") or []:
        protocol = port.get("protocol", "TCP")
        lines.append((0, "Port", f"{port.get('name') or '<unset>'}  {port['port']}/{protocol}"))
        lines.append((0, "TargetPort", f"{port.get('targetPort', port['port'])}/{protocol}"))
        if port.get("nodePort"):
            lines.append((0, "NodePort", f"{port.get('name') or '<unset>'}  {port['nodePort']}/{protocol}"))
        lines.append((0, "Endpoints", ",".join(_endpoints(listed.get("items") or [], port)) or _NONE))
    lines.append((0, "Session Affinity", spec.get("sessionAffinity", "None")))
    for field, title in (
        ("externalTrafficPolicy", "External Traffic Policy"),
        ("internalTrafficPolicy", "Internal Traffic Policy"),
    ):
        if spec.get(field):
            lines.append((0, title, spec[field]))
    return lines


def _endpoints(slices: list[Obj], port: Obj) -> list[str]:
    return [
        f"{address}:{each.get('port')}"
        for slice_ in slices
        for each in slice_.get("ports") or []
        if (each.get("name") or "") == (port.get("name") or "")
        for endpoint in slice_.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or []
    ]


def _workload(obj: Obj) -> Lines:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    lines = _head(obj)
    lines.append((0, "Selector", str(from_selector(spec.get("selector")))))
    if obj["kind"] == "Deployment":
        counts = [
            f"{spec.get('replicas', 1)} desired",
            f"{state.get('updatedReplicas', 0)} updated",
            f"{state.get('replicas', 0)} total",
            f"{state.get('availableReplicas', 0)} available",
            f"{state.get('unavailableReplicas', 0)} unavailable",
        ]
        lines.append((0, "Replicas", " | ".join(counts)))
        lines.append((0, "StrategyType", (spec.get("strategy") or {}).get("type", "")))
        rolling = (spec.get("strategy") or {}).get("rollingUpdate")
        if rolling:
            lines.append(
                (
                    0,
                    "RollingUpdateStrategy",
                    f"{rolling.get('maxUnavailable')} max unavailable, {rolling.get('maxSurge')} max surge",
                )
            )
    else:
        lines += _fields({key: value for key, value in state.items() if not isinstance(value, list)}, 0)
    lines.append((0, "Pod Template", ""))
    template = spec.get("template") or {}
    lines += _mapping(1, "Labels", (template.get("metadata") or {}).get("labels"))
    lines.append((1, "Containers", ""))
    for container in (template.get("spec") or {}).get("containers") or []:
        lines += [
            line for line in _container(container, {}) if line[1] not in ("Container ID", "Image ID", "Ready", "Restart Count")
        ]
    if state.get("conditions"):
        lines.append((0, "Conditions", ""))
        lines += [(1, each["type"], f"{each['status']}  {each.get('reason', '')}") for each in state["conditions"]]
    return lines


def _fields(value: Obj, indent: int) -> Lines:
    """Any object, field by field."""
    lines: Lines = []
    for key, each in value.items():
        title = key[:1].upper() + key[1:]
        if isinstance(each, dict):
            lines += [(indent, title, ""), *_fields(each, indent + 1)]
        elif isinstance(each, list):
            lines.append((indent, title, ""))
            for item in each:
                lines += _fields(item, indent + 1) if isinstance(item, dict) else [(indent + 1, "", _short(item))]
        else:
            lines.append((indent, title, _short(each)))
    return lines


def _render(lines: Lines) -> str:
    """Titles with their colon, values in one column for each indentation."""
    widths: dict[int, int] = {}
    for indent, title, value in lines:
        if value:
            widths[indent] = max(widths.get(indent, 0), len(title) + 1)
    text = ""
    for indent, title, value in lines:
        head = f"{title}:" if title else ""
        text += "  " * indent + (f"{head:<{widths.get(indent, 0) + 2}}{value}" if value else head) + "\n"
    return text


async def _events(session: Session, obj: Obj) -> str:
    meta = obj["metadata"]
    uid = meta["name"] if obj["kind"] == "Node" else meta.get("uid", "")
    fields = f"involvedObject.name={meta['name']},involvedObject.kind={obj['kind']}" + (
        f",involvedObject.uid={uid}" if obj["kind"] != "Node" else ""
    )
    listed = await session.client.list(EVENTS, meta.get("namespace"), field_selector=fields)
    events = sorted(listed.get("items") or [], key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    if not events:
        return "Events:  <none>\n"
    from kubeling.cli.output import align

    rows = [["  Type", "Reason", "Age", "From", "Message"], ["  ----", "------", "----", "----", "-------"]]
    for event in events:
        age = _age(event.get("lastTimestamp") or event.get("eventTime"))
        if event.get("count", 1) > 1:
            age += f" (x{event['count']} over {_age(event.get('firstTimestamp'))})"
        source = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
        rows.append([f"  {event.get('type', '')}", event.get("reason", ""), age, source, (event.get("message") or "").strip()])
    return "Events:\n" + align(rows)
