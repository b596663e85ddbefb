"""What a container runtime would have done: actions on a pod, from its status to its next status. No I/O and no clock.

The status in the API is all that is known of a hollow pod. It is read back as the records that a runtime would show (`records_of`), an action changes
those, and the kubelet's own :func:`kubeling.kubelet.podstatus.generate_status` makes the status of them: phases, conditions, reasons and words are the
ordinary kubelet's.

=============== ====================================================================================================================
`run`           init containers are over (sidecars run), containers run
`initialize`    the next init container runs, the one before it has ended well; with the last one the containers run
`ready`, `unready`  containers pass or fail their readiness probes
`complete`      containers end with exit code 0
`crash`         containers end with `exitCode` (1) and `reason` (Error, OOMKilled at 137); by the restart policy they wait for the next start
`restart`       containers that wait for that start again
`wait`          containers cannot start, for `reason` (such as ImagePullBackOff) and `message`
`sync`          nothing happens: what others have overwritten, or what follows from readiness gates, is written again
`evict`         the node ends the pod: Failed, with `reason` (Evicted) and `message`
=============== ====================================================================================================================

`containers` among the options names those that it is about; without it, it is about all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from kubeling.api.meta import Object, annotations_of, copy_json, name_of, namespace_of, spec_of, status_of, uid_of
from kubeling.api.pods import containers_of, init_containers_of, is_sidecar, is_terminal
from kubeling.api.times import parse_time
from kubeling.kubelet.actions import restart_policy, should_restart
from kubeling.kubelet.hollow.defaults import PREFIX
from kubeling.kubelet.podstate import ContainerRecord, PodRuntime, SandboxRecord
from kubeling.kubelet.podstatus import View, generate_status

RUNTIME = "hollow"
#: Annotations by which a pod says how its containers end, whether they are ready when they begin to run, and why they do not.
EXIT_CODE, READY, READY_AFTER, WAITING = (f"{PREFIX}{name}" for name in ("exit-code", "ready", "ready-after", "waiting"))
CRASH_LOOP = "CrashLoopBackOff"
_OOM = 137

Records = dict[str, list[ContainerRecord]]


class BadAction(ValueError):
    """There is no such action, or not with such options."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is."""

    host_ip: str
    pod_ip: str


@dataclass(slots=True)
class _Act:
    """An action under way: the records as they will be, and what the view says beside them."""

    pod: Object
    records: Records
    now: datetime
    names: frozenset[str]
    options: Mapping[str, Any]
    unready: set[str]
    reasons: dict[str, tuple[str, str]]
    verdict: tuple[str, str] | None = None

    def about(self, container: Mapping[str, Any]) -> bool:
        return not self.names or container["name"] in self.names

    def latest(self, name: str) -> ContainerRecord | None:
        found = self.records.get(name)
        return found[0] if found else None

    def start(self, container: Mapping[str, Any]) -> None:
        name, last = container["name"], self.latest(container["name"])
        attempt = last.attempt + 1 if last is not None else 0
        moment = _nanos(self.now)
        record = ContainerRecord(
            id=container_id(uid_of(self.pod), name, attempt),
            name=name,
            attempt=attempt,
            state="running",
            created_at=moment,
            started_at=moment,
            image=container.get("image") or "",
            image_id=image_id(container.get("image") or ""),
        )
        self.records[name] = [record, *([last] if last is not None else [])]
        self.reasons.pop(name, None)

    def end(self, name: str, code: int, reason: str = "") -> None:
        last = self.latest(name)
        if last is not None and last.running:
            ended = replace(last, state="exited", exit_code=code, reason=reason, finished_at=_nanos(self.now))
            self.records[name][0] = ended


def act(action: str, pod: Object, place: Place, now: datetime, options: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The pod's status after `action`; None where it changes nothing. Raises BadAction."""
    perform = ACTIONS.get(action)
    if perform is None:
        raise BadAction(f"there is no action {action!r}: one of {', '.join(ACTIONS)}")
    if is_terminal(pod):
        return None
    state = _state_of(pod, now, options or {})
    perform(state)
    # What a stage sets besides actions stays: only what we own is taken from here.
    status = {**copy_json(status_of(pod)), **_status(state, place, now)}
    conditions = {each["type"]: each for each in (*(status_of(pod).get("conditions") or ()), *status["conditions"])}
    status["conditions"] = list(conditions.values())
    return status if status != status_of(pod) else None


def ended(pod: Object, place: Place, now: datetime) -> dict[str, Any] | None:
    """The last status of a pod that is deleted: what ran has been stopped."""
    if is_terminal(pod):
        return None
    state = _state_of(pod, now, {})
    for name in state.records:
        state.end(name, 0)
    return {**copy_json(status_of(pod)), **_status(state, place, now, terminal=True)}


def _state_of(pod: Object, now: datetime, options: Mapping[str, Any]) -> _Act:
    records, unready, reasons = records_of(pod)
    names = options.get("containers") or ()
    return _Act(pod, records, now, frozenset(names), options, unready, reasons)


def _status(state: _Act, place: Place, now: datetime, *, terminal: bool = False) -> dict[str, Any]:
    spec = spec_of(state.pod)
    host = bool(spec.get("hostNetwork"))
    ips = () if host else ((place.pod_ip,) if place.pod_ip else ())
    uid = uid_of(state.pod)
    begun = any(state.records.values()) or bool(state.reasons)
    sandbox = SandboxRecord(uid, 0, ready=begun, created_at=0, ips=ips, host_network=host)
    newest = tuple(each for history in state.records.values() for each in history)
    runtime = PodRuntime(uid, name_of(state.pod), namespace_of(state.pod), (sandbox,), newest)
    over = terminal or _over(state)
    view = View(
        runtime=runtime,
        probes=_Probes({record.id: record.name for record in newest}, state.unready),
        now=now,
        runtime_name=RUNTIME,
        host_ips=(place.host_ip,) if place.host_ip else (),
        reasons=state.reasons,
        terminal=over or state.verdict is not None,
        verdict=state.verdict,
    )
    return generate_status(state.pod, view)


def _over(state: _Act) -> bool:
    """Nothing of the pod runs, and nothing will again."""
    failed = next(
        (
            each
            for each in init_containers_of(state.pod)
            if not is_sidecar(each) and (last := state.latest(each["name"])) is not None and not last.running and last.exit_code
        ),
        None,
    )
    if failed is not None and restart_policy(state.pod) == "Never":
        return True
    records = [state.latest(each["name"]) for each in containers_of(state.pod)]
    return all(
        last is not None and last.state == "exited" and not should_restart(state.pod, each, last)
        for each, last in zip(containers_of(state.pod), records, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Probes:
    """Probes that pass, but for those of the containers that are not ready."""

    names: Mapping[str, str]
    unready: set[str]

    def started(self, container_id: str) -> bool:
        return True

    def ready(self, container_id: str) -> bool:
        return self.names.get(container_id, "") not in self.unready

    def failed(self, container_id: str) -> Literal["liveness", "startup", ""]:
        return ""


# -- the records -----------------------------------------------------------------------------------------------------------------------


def records_of(pod: Object) -> tuple[Records, set[str], dict[str, tuple[str, str]]]:
    """What a runtime would show, by the pod's status: records (newest first), the containers that run unready, and why others wait."""
    records: Records = {}
    unready: set[str] = set()
    reasons: dict[str, tuple[str, str]] = {}
    status = status_of(pod)
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(field) or ():
            name, attempt = each["name"], each.get("restartCount") or 0
            state = each.get("state") or {}
            last = (each.get("lastState") or {}).get("terminated")
            found: list[ContainerRecord] = []
            if state.get("running"):
                found.append(_running(each, attempt, state["running"]))
                if field == "containerStatuses" and not each.get("ready"):
                    unready.add(name)
            elif state.get("terminated"):
                found.append(_terminated(each, attempt, state["terminated"]))
            elif state.get("waiting") and state["waiting"].get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                reasons[name] = (state["waiting"]["reason"], state["waiting"].get("message") or "")
            if last:
                found.append(_terminated(each, attempt - 1 if found else attempt, last))
            if found:
                records[name] = found
    return records, unready, reasons


def _running(status: Mapping[str, Any], attempt: int, state: Mapping[str, Any]) -> ContainerRecord:
    began = _nanos(parse_time(state["startedAt"])) if state.get("startedAt") else 0
    return ContainerRecord(
        id=str(status.get("containerID") or "").partition("://")[2],
        name=status["name"],
        attempt=attempt,
        state="running",
        created_at=began,
        started_at=began,
        image=status.get("image") or "",
        image_id=status.get("imageID") or "",
    )


def _terminated(status: Mapping[str, Any], attempt: int, state: Mapping[str, Any]) -> ContainerRecord:
    def moment(key: str) -> int:
        return _nanos(parse_time(state[key])) if state.get(key) else 0

    return ContainerRecord(
        id=str(state.get("containerID") or status.get("containerID") or "").partition("://")[2],
        name=status["name"],
        attempt=max(0, attempt),
        state="exited",
        started_at=moment("startedAt"),
        finished_at=moment("finishedAt"),
        exit_code=int(state.get("exitCode") or 0),
        reason=state.get("reason") or "",
        message=state.get("message") or "",
        image=status.get("image") or "",
        image_id=status.get("imageID") or "",
    )


def _nanos(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000


def container_id(uid: str, name: str, attempt: int) -> str:
    """What a runtime would call it: the same whenever it is asked."""
    return hashlib.sha256(f"{uid}/{name}/{attempt}".encode()).hexdigest()


def image_id(image: str) -> str:
    """A digest that an image of that name might have."""
    return f"{image.partition('@')[0]}@sha256:{hashlib.sha256(image.encode()).hexdigest()}" if image else ""


# -- the actions -----------------------------------------------------------------------------------------------------------------------


def _run(state: _Act) -> None:
    for each in init_containers_of(state.pod):
        last = state.latest(each["name"])
        if is_sidecar(each):
            if last is None or not last.running:
                state.start(each)
            continue
        if last is None or (last.state == "exited" and last.exit_code):
            state.start(each)
        state.end(each["name"], 0)
    _run_containers(state)


def _run_containers(state: _Act) -> None:
    state.reasons.clear()
    notes = annotations_of(state.pod)
    unready = state.options.get("ready") is False or notes.get(READY) == "false" or (READY_AFTER in notes and READY not in notes)
    for each in containers_of(state.pod):
        if state.latest(each["name"]) is None:
            state.start(each)
            if unready:
                state.unready.add(each["name"])


def _initialize(state: _Act) -> None:
    state.reasons.clear()
    for each in init_containers_of(state.pod):
        last = state.latest(each["name"])
        if last is not None and (is_sidecar(each) or (last.state == "exited" and not last.exit_code)):
            continue
        if last is not None and last.running:
            state.end(each["name"], 0)
            continue
        state.start(each)
        if not is_sidecar(each):
            return
    _run_containers(state)


def _ready(state: _Act) -> None:
    state.unready -= {each["name"] for each in containers_of(state.pod) if state.about(each)}


def _unready(state: _Act) -> None:
    state.unready |= {each["name"] for each in containers_of(state.pod) if state.about(each)}


def _complete(state: _Act) -> None:
    for each in containers_of(state.pod):
        if state.about(each):
            state.end(each["name"], 0)
    _after_end(state)


def _crash(state: _Act) -> None:
    code = _exit_code(state)
    reason = state.options.get("reason") or ("OOMKilled" if code == _OOM else "Completed" if code == 0 else "Error")
    named = [each for each in (*init_containers_of(state.pod), *containers_of(state.pod)) if state.about(each)]
    for each in named:
        state.end(each["name"], code, str(reason))
    _after_end(state)


def _exit_code(state: _Act) -> int:
    said = annotations_of(state.pod).get(EXIT_CODE, state.options.get("exitCode", 1))
    try:
        return int(said)
    except (TypeError, ValueError) as error:
        raise BadAction(f"{said!r} is no exit code") from error


def _after_end(state: _Act) -> None:
    """Those that are to run again wait for it; sidecars end with the last of the others."""
    for each in (*init_containers_of(state.pod), *containers_of(state.pod)):
        last = state.latest(each["name"])
        initialized = last is not None and last.exit_code == 0 and each in init_containers_of(state.pod) and not is_sidecar(each)
        if last is not None and last.state == "exited" and not initialized and should_restart(state.pod, each, last):
            words = f"back-off restarting failed container={each['name']} pod={name_of(state.pod)}_{namespace_of(state.pod)}({uid_of(state.pod)})"
            state.reasons[each["name"]] = (CRASH_LOOP, words)
    if _over(state):
        for each in init_containers_of(state.pod):
            if is_sidecar(each):
                state.end(each["name"], 0)
                state.reasons.pop(each["name"], None)


def _restart(state: _Act) -> None:
    for each in (*init_containers_of(state.pod), *containers_of(state.pod)):
        if state.reasons.get(each["name"], ("",))[0] == CRASH_LOOP and state.about(each):
            state.start(each)


def _wait(state: _Act) -> None:
    reason = annotations_of(state.pod).get(WAITING) or state.options.get("reason") or "ContainerCreating"
    message = state.options.get("message") or ""
    for each in containers_of(state.pod):
        if state.about(each) and state.latest(each["name"]) is None:
            words = message or (
                f'Back-off pulling image "{each.get("image")}"' if reason in ("ErrImagePull", "ImagePullBackOff") else ""
            )
            state.reasons[each["name"]] = (str(reason), words)


def _sync(state: _Act) -> None:
    """All of it is in how a status is made."""


def _evict(state: _Act) -> None:
    for name in state.records:
        state.end(name, _OOM)
    reason = str(state.options.get("reason") or "Evicted")
    state.verdict = (reason, str(state.options.get("message") or "The node was low on resource: memory. "))


ACTIONS: dict[str, Callable[[_Act], None]] = {
    "run": _run,
    "initialize": _initialize,
    "ready": _ready,
    "unready": _unready,
    "complete": _complete,
    "crash": _crash,
    "restart": _restart,
    "wait": _wait,
    "sync": _sync,
    "evict": _evict,
}
