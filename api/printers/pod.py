"""The pod's row: the status column tells the one thing that matters most of everything that is going on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubeling.api.conditions import find_condition
from kubeling.api.meta import Object, is_deleting, spec_of, status_of
from kubeling.api.pods import is_sidecar, is_terminal
from kubeling.api.printers.columns import AGE, NAME, NONE, Cells, Column, Printer, name, since, wide
from kubeling.api.times import human_duration, parse_time

_COLUMNS = (
    NAME,
    Column("Ready", "How many containers are ready, of how many."),
    Column("Status", "What the pod is doing, summed up from its phase and its containers' states."),
    Column("Restarts", "How often its containers were restarted, and when last."),
    AGE,
    wide("IP", "Address of the pod."),
    wide("Node", "Node that it is placed on."),
    wide("Nominated Node", "Node on which others are being removed to make room for it."),
    wide("Readiness Gates", "How many of its readiness gates are open, of how many."),
)


class _Summary:
    """What the containers' statuses add up to."""

    def __init__(self, pod: Object) -> None:
        spec, self._status = spec_of(pod), status_of(pod)
        self._init = spec.get("initContainers") or []
        self._sidecars = {each.get("name") for each in self._init if is_sidecar(each)}
        self.total = len(spec.get("containers") or ()) + len(self._sidecars)
        self.ready = 0
        self.restarts = 0
        self.last_restart: datetime | None = None
        self.reason = self._status.get("reason") or self._status.get("phase") or ""
        conditions = self._status.get("conditions")
        if (find_condition(conditions, "PodScheduled") or {}).get("reason") == "SchedulingGated":
            self.reason = "SchedulingGated"
        waiting = self._initializing()
        if not waiting or (find_condition(conditions, "Initialized") or {}).get("status") == "True":
            self._running()

    def _restarted(self, status: dict[str, Any]) -> None:
        self.restarts += status.get("restartCount") or 0
        stamp = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        if stamp:
            moment = parse_time(stamp)
            self.last_restart = max(self.last_restart or moment, moment)

    def _initializing(self) -> bool:
        """Whether an init container is still at work, or has failed."""
        for at, status in enumerate(self._status.get("initContainerStatuses") or ()):
            self._restarted(status)
            state = status.get("state") or {}
            ended, waits = state.get("terminated"), state.get("waiting") or {}
            if ended is not None and not ended.get("exitCode"):
                continue
            if status.get("name") in self._sidecars and status.get("started"):
                self.ready += 1 if status.get("ready") else 0
                continue
            if ended is not None:
                self.reason = f"Init:{ended.get('reason') or _ending(ended)}"
            elif waits.get("reason") not in (None, "", "PodInitializing"):
                self.reason = f"Init:{waits['reason']}"
            else:
                self.reason = f"Init:{at}/{len(self._init)}"
            return True
        return False

    def _running(self) -> None:
        self.restarts, self.last_restart = 0, None
        for status in self._status.get("initContainerStatuses") or ():
            if status.get("name") in self._sidecars:
                self._restarted(status)
        any_running = False
        for status in reversed(self._status.get("containerStatuses") or []):
            self._restarted(status)
            state = status.get("state") or {}
            waits, ended = state.get("waiting") or {}, state.get("terminated")
            if waits.get("reason"):
                self.reason = waits["reason"]
            elif ended is not None:
                self.reason = ended.get("reason") or _ending(ended)
            elif status.get("ready") and state.get("running") is not None:
                any_running = True
                self.ready += 1
        if self.reason == "Completed" and any_running:
            ready = (find_condition(self._status.get("conditions"), "Ready") or {}).get("status") == "True"
            self.reason = "Running" if ready else "NotReady"


def _ending(ended: dict[str, Any]) -> str:
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode') or 0}"


def _cells(pod: Object, now: datetime) -> Cells:
    spec, status = spec_of(pod), status_of(pod)
    summary = _Summary(pod)
    if is_deleting(pod) and status.get("reason") == "NodeLost":
        summary.reason = "Unknown"
    elif is_deleting(pod) and not is_terminal(pod):
        summary.reason = "Terminating"
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{restarts} ({human_duration(now - summary.last_restart)} ago)"
    addresses = status.get("podIPs") or ([{"ip": status["podIP"]}] if status.get("podIP") else [])
    return [
        name(pod),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        since(pod, now),
        (addresses[0].get("ip") if addresses else "") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def _gates(spec: dict[str, Any], status: dict[str, Any]) -> str:
    gates = spec.get("readinessGates") or ()
    found = [find_condition(status.get("conditions"), each.get("conditionType") or "") for each in gates]
    return f"{sum(1 for each in found if each and each.get('status') == 'True')}/{len(gates)}" if gates else NONE


_OVER = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def row_conditions(pod: Object) -> list[dict[str, str]]:
    """The conditions of a table row: whether the pod is over, which `kubectl` may leave out."""
    phase = status_of(pod).get("phase")
    if phase not in _OVER:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _OVER[phase]}]


POD = Printer(_COLUMNS, _cells)
