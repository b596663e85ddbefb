"""The status that the API shows of a pod: phase, conditions and container statuses, from what the runtime holds. No I/O.

The rules are upstream's, down to the words, since people and tools match on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubeling.api.conditions import find_condition, set_condition
from kubeling.api.meta import Object, copy_json, generation_of, spec_of, status_of
from kubeling.api.pods import containers_of, init_containers_of, is_sidecar, qos_class
from kubeling.api.times import format_time
from kubeling.kubelet.actions import ProbeView, restart_policy, should_restart
from kubeling.kubelet.allocation import Resize
from kubeling.kubelet.podstate import ContainerRecord, PodRuntime, moment

Status = dict[str, Any]
#: Container name → (reason, message) of why it could not be started.
Reasons = Mapping[str, tuple[str, str]]

OWNED_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
#: Conditions that we take away again when they do not hold.
RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")
#: Why the node ends a pod that has done nothing wrong.
DISRUPTIONS = ("Evicted", "Terminated")
LOST = "The container could not be located when the pod was terminated"


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a status is made of, besides the pod."""

    runtime: PodRuntime
    probes: ProbeView
    now: datetime
    runtime_name: str
    host_ips: Sequence[str] = ()
    reasons: Reasons = field(default_factory=dict)
    #: The pod's last act is over: what does not run now never will.
    terminal: bool = False
    #: Read the termination message of a dead container.
    message_of: Callable[[ContainerRecord], str] = lambda record: ""
    #: Set where the kubelet itself ends the pod: ("DeadlineExceeded", "Pod was active …").
    verdict: tuple[str, str] | None = None
    #: It was ended for exceeding its own limits, which is no disruption.
    own_fault: bool = False
    resize: Resize = field(default_factory=Resize)
    #: The runtime's handlers whose read-only mounts can be so all the way down.
    recursive: frozenset[str] = frozenset()


def generate_status(pod: Object, view: View) -> Status:
    """The whole status to write. Conditions that belong to others are not in it."""
    old = status_of(pod)
    init = [_container_status(pod, each, view, old.get("initContainerStatuses"), init=True) for each in init_containers_of(pod)]
    regular = [_container_status(pod, each, view, old.get("containerStatuses"), init=False) for each in containers_of(pod)]
    ephemeral = [
        _container_status(pod, each, view, old.get("ephemeralContainerStatuses"), init=False)
        for each in spec_of(pod).get("ephemeralContainers") or ()
    ]
    status: Status = {"phase": _final_phase(pod, init, regular, view)}
    if view.verdict is not None:
        status["reason"], status["message"] = view.verdict
    elif old.get("reason") and old.get("phase") == status["phase"]:
        status["reason"] = old["reason"]
        if old.get("message"):
            status["message"] = old["message"]
    status["startTime"] = old.get("startTime") or format_time(view.now)
    status["qosClass"] = old.get("qosClass") or qos_class(pod)
    if view.host_ips:
        status["hostIP"], status["hostIPs"] = view.host_ips[0], [{"ip": each} for each in view.host_ips]
    ips = pod_ips(pod, view.runtime, view.host_ips) or [each["ip"] for each in old.get("podIPs") or () if view.terminal]
    if ips:
        status["podIP"], status["podIPs"] = ips[0], [{"ip": each} for each in ips]
    status["containerStatuses"] = sorted(regular, key=lambda each: str(each["name"]))
    if init:
        status["initContainerStatuses"] = init
    if ephemeral:
        status["ephemeralContainerStatuses"] = sorted(ephemeral, key=lambda each: str(each["name"]))
    status["conditions"] = _conditions(pod, status, init, regular, view)
    return status


def pod_ips(pod: Object, runtime: PodRuntime, host_ips: Sequence[str]) -> list[str]:
    """The pod's addresses, first one of the family of the node's main one; the node's own for one on the host's network."""
    sandbox = runtime.sandbox
    if sandbox is None or not sandbox.ready:
        return []
    if spec_of(pod).get("hostNetwork"):
        return list(host_ips)
    return in_order_of(host_ips, sandbox.ips)


def in_order_of(host_ips: Sequence[str], ips: Iterable[str]) -> list[str]:
    """`ips` with those of the family of the first of `host_ips` first: a runtime may have named them in another order."""
    return sorted(ips, key=lambda each: bool(host_ips) and (":" in each) != (":" in host_ips[0]))


def rejected_status(pod: Object, reason: str, message: str, now: datetime) -> Status:
    """For a pod that this node will not run."""
    return {
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "startTime": status_of(pod).get("startTime") or format_time(now),
        "qosClass": status_of(pod).get("qosClass") or qos_class(pod),
    }


# -- containers ------------------------------------------------------------------------------------------------------------------------


def _container_status(pod: Object, container: dict[str, Any], view: View, before: Any, *, init: bool) -> Status:
    name = container["name"]
    old = next((each for each in before or () if each.get("name") == name), None)
    history = view.runtime.history(name)
    record = history[0] if history else None
    status: Status = {
        "name": name,
        "image": container.get("image") or "",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "started": False,
        "lastState": {},
        "state": {},
    }
    if record is None:
        _without_record(pod, status, old, view, init)
    else:
        status["image"] = record.image or container.get("image") or ""
        status["imageID"] = record.image_id
        status["containerID"] = f"{view.runtime_name}://{record.id}"
        status["restartCount"] = max(record.attempt, (old or {}).get("restartCount") or 0 if _same(old, record, view) else 0)
        status["state"] = _state(record, view)
        dead = next((each for each in history[1:] if each.state == "exited"), None)
        if dead is not None:
            status["lastState"] = _state(dead, view)
        elif old is not None and not _same(old, record, view) and (old.get("state") or {}).get("terminated"):
            # The dead one before is gone from the runtime; the API remembers it.
            status["lastState"] = {"terminated": old["state"]["terminated"]}
        elif old is not None and old.get("lastState"):
            status["lastState"] = copy_json(old["lastState"])
    _waiting(pod, container, status, record, view)
    _readiness(container, status, record, view, init=init)
    _extras(container, status, record, view)
    return status


def _same(old: Status | None, record: ContainerRecord, view: View) -> bool:
    return old is not None and old.get("containerID") == f"{view.runtime_name}://{record.id}"


def _without_record(pod: Object, status: Status, old: Status | None, view: View, init: bool) -> None:
    """The runtime knows no such container: it is yet to come, or it was lost."""
    if old is not None and old.get("containerID"):
        status["restartCount"] = old.get("restartCount") or 0
        for key in ("containerID", "imageID", "image"):
            if old.get(key):
                status[key] = old[key]
        state = old.get("state") or {}
        if state.get("terminated"):
            status["state"] = copy_json(state)
            status["lastState"] = copy_json(old.get("lastState") or {})
            return
        if state.get("running"):
            lost = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": LOST, "containerID": old["containerID"]}
            if view.terminal or restart_policy(pod) == "Never":
                status["state"] = {"terminated": lost}
            else:
                status["lastState"] = {"terminated": lost}
                status["state"] = {"waiting": {"reason": _default_reason(pod, init)}}
            return
    if old is not None and old.get("lastState"):
        status["lastState"] = copy_json(old["lastState"])
    status["state"] = {"waiting": {"reason": _default_reason(pod, init)}}


def _default_reason(pod: Object, init: bool) -> str:
    return "PodInitializing" if init or init_containers_of(pod) else "ContainerCreating"


def _state(record: ContainerRecord, view: View) -> Status:
    if record.state == "running":
        return {"running": {"startedAt": format_time(moment(record.started_at or record.created_at))}}
    if record.state == "created":
        return {"waiting": {"reason": "ContainerCreating"}}
    if record.state == "unknown":
        return {"waiting": {"reason": "ContainerStatusUnknown"}}
    ended: Status = {
        "exitCode": record.exit_code,
        "reason": record.reason or ("Completed" if record.exit_code == 0 else "Error"),
        "startedAt": format_time(moment(record.started_at)) if record.started_at > 0 else None,
        "finishedAt": format_time(moment(record.finished_at)) if record.finished_at > 0 else None,
        "containerID": f"{view.runtime_name}://{record.id}",
    }
    message = view.message_of(record) or record.message
    if message:
        ended["message"] = message
    return {"terminated": ended}


def _waiting(pod: Object, container: dict[str, Any], status: Status, record: ContainerRecord | None, view: View) -> None:
    """Where a start was refused or held back, that is the state, and the last run becomes the last state."""
    if view.terminal or (record is not None and record.state == "running"):
        return
    why = view.reasons.get(container["name"])
    if why is None or not should_restart(pod, container, record):
        return
    if status["state"].get("terminated"):
        status["lastState"] = status["state"]
    reason, message = why
    status["state"] = {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def _readiness(container: dict[str, Any], status: Status, record: ContainerRecord | None, view: View, *, init: bool) -> None:
    if record is not None and record.state == "running":
        if init and not is_sidecar(container):
            status["started"] = True
            return
        status["started"] = view.probes.started(record.id)
        status["ready"] = bool(status["started"] and view.probes.ready(record.id))
    elif init and not is_sidecar(container):
        ended = status["state"].get("terminated")
        status["ready"] = bool(ended and ended["exitCode"] == 0)


def _recursive(mount: dict[str, Any], view: View) -> str:
    wanted = (mount.get("recursiveReadOnly") or "Disabled") != "Disabled"
    sandbox = view.runtime.sandbox
    return "Enabled" if wanted and sandbox is not None and sandbox.handler in view.recursive else "Disabled"


def _extras(container: dict[str, Any], status: Status, record: ContainerRecord | None, view: View) -> None:
    mounts = container.get("volumeMounts")
    if mounts:
        status["volumeMounts"] = [
            {
                "name": each["name"],
                "mountPath": each["mountPath"],
                **({"readOnly": True, "recursiveReadOnly": _recursive(each, view)} if each.get("readOnly") else {}),
            }
            for each in mounts
        ]
    resources = container.get("resources") or {}
    if record is not None:
        signal = (container.get("lifecycle") or {}).get("stopSignal")
        if signal:
            status["stopSignal"] = signal
        if resources.get("requests"):
            status["allocatedResources"] = copy_json(resources["requests"])
        if record.running:
            resources = view.resize.actuated.get(record.name, resources)
        status["resources"] = copy_json({key: resources[key] for key in ("limits", "requests") if resources.get(key)})
        if record.user is not None and record.state == "running":
            uid, gid, groups = record.user
            status["user"] = {"linux": {"uid": uid, "gid": gid, "supplementalGroups": list(groups)}}


# -- phase -----------------------------------------------------------------------------------------------------------------------------


def _final_phase(pod: Object, init: list[Status], regular: list[Status], view: View) -> str:
    old = status_of(pod).get("phase")
    if old in ("Succeeded", "Failed"):
        return str(old)
    if view.verdict is not None:
        return "Failed"
    phase = pod_phase(pod, init, regular, view.terminal)
    if view.terminal and phase not in ("Succeeded", "Failed"):
        # It was stopped before it could start, or while it initialised.
        return "Failed"
    return phase


def pod_phase(pod: Object, init: list[Status], regular: list[Status], terminal: bool) -> str:
    """Pending, Running, Succeeded or Failed, from the container statuses."""
    policy = restart_policy(pod)
    sidecars = 0
    for spec, status in zip(init_containers_of(pod), init, strict=True):
        state, last = status["state"], status["lastState"].get("terminated")
        if is_sidecar(spec):
            sidecars += bool(state.get("running"))
            begun = (state.get("running") and status["started"]) or last or state.get("terminated")
            if not begun and not _any_begun(regular):
                return "Pending"
            continue
        ended = state.get("terminated") or (last if state.get("waiting") else None)
        if ended and ended["exitCode"] != 0:
            if policy == "Never":
                return "Failed"
            if not _any_begun(regular):
                return "Pending"
        elif not ended and not _any_begun(regular):
            return "Pending"
    # A pod is not over before its sidecars are; how they ended does not count.
    running = sidecars
    waiting = stopped = succeeded = 0
    for status in regular:
        state = status["state"]
        if state.get("running"):
            running += 1
        elif state.get("terminated"):
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif status["lastState"].get("terminated"):
            stopped += 1
        else:
            waiting += 1
    if waiting:
        return "Pending"
    if running or not stopped:
        return "Running" if running else "Pending"
    if terminal:
        return "Succeeded" if stopped == succeeded else "Failed"
    if policy == "Always":
        return "Running"
    if stopped == succeeded:
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _any_begun(regular: list[Status]) -> bool:
    return any(
        each["state"].get("running") or each["state"].get("terminated") or each["lastState"].get("terminated") for each in regular
    )


# -- conditions ------------------------------------------------------------------------------------------------------------------------


def _conditions(pod: Object, status: Status, init: list[Status], regular: list[Status], view: View) -> list[dict[str, Any]]:
    before = status_of(pod).get("conditions") or []
    made = [dict(each) for kind in OWNED_CONDITIONS if (each := find_condition(before, kind))]
    generation = generation_of(pod)
    more = {"observedGeneration": generation} if generation and any("observedGeneration" in each for each in made) else {}
    sandbox = view.runtime.sandbox
    up = sandbox is not None and sandbox.ready and (sandbox.host_network or bool(sandbox.ips))
    _set(made, "PodReadyToStartContainers", up, "", "", view.now, more)
    _set(made, "Initialized", *_initialized(pod, status, init, regular), view.now, more)
    ready, reason, message = _containers_ready(pod, status, regular, init)
    _set(made, "ContainersReady", ready, reason, message, view.now, more)
    if ready:
        ready, reason, message = _gates(pod)
    _set(made, "Ready", ready, reason, message, view.now, more)
    order = {kind: index for index, kind in enumerate(OWNED_CONDITIONS)}
    made.sort(key=lambda each: order[each["type"]])
    for kind, holds, reason, message in (
        ("PodResizePending", view.resize.pending is not None, *(view.resize.pending or ("", ""))),
        ("PodResizeInProgress", view.resize.in_progress, "Error" if view.resize.error else "", view.resize.error),
    ):
        if holds and not view.terminal:
            known = find_condition(before, kind)
            made += [dict(known)] if known else []
            _set(made, kind, True, reason, message, view.now, more)
    if view.verdict is not None and view.verdict[0] in DISRUPTIONS and not view.own_fault:
        target = find_condition(before, "DisruptionTarget")
        made += [dict(target)] if target else []
        _set(made, "DisruptionTarget", True, "TerminationByKubelet", view.verdict[1], view.now, more)
    return made


def _set(
    made: list[dict[str, Any]], kind: str, true: bool, reason: str, message: str, now: datetime, more: dict[str, Any]
) -> None:
    set_condition(made, kind, "True" if true else "False", now, reason=reason, message=message, **more)


def _initialized(pod: Object, status: Status, init: list[Status], regular: list[Status]) -> tuple[bool, str, str]:
    if not init:
        return True, "", ""
    if status["phase"] == "Succeeded":
        return True, "PodCompleted", ""
    if _any_begun(regular):
        return True, "", ""
    missing = []
    for spec, each in zip(init_containers_of(pod), init, strict=True):
        done = each["started"] if is_sidecar(spec) else each["ready"]
        if not done:
            missing.append(each["name"])
    if missing:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(missing)}]"
    return True, "", ""


def _containers_ready(pod: Object, status: Status, regular: list[Status], init: list[Status]) -> tuple[bool, str, str]:
    if status["phase"] == "Succeeded":
        return False, "PodCompleted", ""
    if status["phase"] == "Failed":
        return False, "PodFailed", ""
    sidecars = [each for spec, each in zip(init_containers_of(pod), init, strict=True) if is_sidecar(spec)]
    unready = [each["name"] for each in [*sidecars, *regular] if not each["ready"]]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _gates(pod: Object) -> tuple[bool, str, str]:
    """Readiness gates (KEP-580): conditions that others set."""
    conditions = status_of(pod).get("conditions")
    words = []
    for gate in spec_of(pod).get("readinessGates") or ():
        kind = gate["conditionType"]
        found = find_condition(conditions, kind)
        if found is None:
            words.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif found.get("status") != "True":
            words.append(f'the status of pod readiness gate "{kind}" is not "True", but {found.get("status")}')
    return (False, "ReadinessGatesNotReady", ", ".join(words)) if words else (True, "", "")


def is_gone_quiet(status: Status) -> bool:
    """The phase is final."""
    return status.get("phase") in ("Succeeded", "Failed")
