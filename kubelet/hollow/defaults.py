"""What hollow pods do where nobody says otherwise, and what they may be told by annotations. Data, in the form of the configuration file.

A stage of the same name in the configuration takes the place of one of these; all of them weigh 0, so any other stage comes first.

| annotation `hollow.kubeling.dev/…` | of a pod | default |
| --- | --- | --- |
| start-after | from being bound until its containers run | 0 s |
| init-for | how long each init container runs | they are over at once |
| waiting | the reason for which its containers never start | |
| ready-after | from running until ready | at once |
| ready | `false` makes a running pod unready, `true` ready again | |
| run-for | until its containers end with `exit-code` (0) | for ever; 1 s for a Job's |
| crash-after | until its containers end with `exit-code` (1) | never |
| exit-code | how its containers end | |
| stop-after | from the request to delete it until it is gone; never longer than its grace period | 0 s |
"""

from __future__ import annotations

from typing import Any

PREFIX = "hollow.kubeling.dev/"


def _note(name: str) -> str:
    return f'.metadata.annotations["{PREFIX}{name}"]'


def _is(key: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def _exists(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "Exists"}


def _absent(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "DoesNotExist"}


def _condition(kind: str) -> str:
    return f'.status.conditions[] | select(.type == "{kind}") | .status'


_PENDING, _RUNNING = _is(".status.phase", "Pending"), _is(".status.phase", "Running")
_RUNS = _exists(".status.containerStatuses[].state.running")
_FOREVER, _SPOKEN = _absent(_note("run-for")), _absent(_note("crash-after"))


def _stage(name: str, selector: list[dict[str, Any]], following: dict[str, Any], **delay: Any) -> dict[str, Any]:
    return {
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchExpressions": selector},
            "weight": 0,
            "delay": delay,
            "next": following,
        },
    }


def _by(name: str, milliseconds: int = 0) -> dict[str, Any]:
    return {"durationMilliseconds": milliseconds, "durationFrom": {"expressionFrom": _note(name)}}


STAGES: list[dict[str, Any]] = [
    _stage("pod-delete", [_exists(".metadata.deletionTimestamp")], {"delete": True}, **_by("stop-after")),
    # The controller of nodes takes pods out of Services while their node is silent; when that is back, so are they.
    _stage(
        "pod-sync", [_RUNNING, _is(_condition("ContainersReady"), "True"), _is(_condition("Ready"), "False")], {"action": "sync"}
    ),
    _stage("pod-gates", [_RUNNING, _is(_condition("Ready"), "True"), _exists(".spec.readinessGates[]")], {"action": "sync"}),
    _stage("pod-wait", [_PENDING, _exists(_note("waiting"))], {"action": "wait"}),
    _stage(
        "pod-initialize",
        [_PENDING, _exists(_note("init-for")), _absent(_note("waiting"))],
        {"action": "initialize"},
        **_by("init-for"),
    ),
    _stage("pod-run", [_PENDING, _absent(_note("init-for")), _absent(_note("waiting"))], {"action": "run"}, **_by("start-after")),
    _stage(
        "pod-ready",
        [
            _RUNNING,
            _RUNS,
            _is(".status.containerStatuses[].ready", "false"),
            _exists(_note("ready-after")),
            _absent(_note("ready")),
        ],
        {"action": "ready"},
        **_by("ready-after"),
    ),
    _stage(
        "pod-unready",
        [_RUNNING, _RUNS, _is(".status.containerStatuses[].ready", "true"), _is(_note("ready"), "false")],
        {"action": "unready"},
    ),
    _stage(
        "pod-ready-again",
        [_RUNNING, _RUNS, _is(".status.containerStatuses[].ready", "false"), _is(_note("ready"), "true")],
        {"action": "ready"},
    ),
    _stage(
        "pod-complete",
        [_RUNNING, _RUNS, _exists(_note("run-for"))],
        {"action": "crash", "options": {"exitCode": 0}},
        **_by("run-for"),
    ),
    _stage(
        "pod-complete-job",
        [_RUNNING, _RUNS, _is(".metadata.ownerReferences[].kind", "Job"), _FOREVER, _SPOKEN],
        {"action": "crash", "options": {"exitCode": 0}},
        durationMilliseconds=1000,
    ),
    _stage(
        "pod-crash",
        [_RUNNING, _RUNS, _exists(_note("crash-after")), _FOREVER],
        {"action": "crash", "options": {"exitCode": 1}},
        **_by("crash-after"),
    ),
    *(
        _stage(
            f"{name}-restart",
            [_is(f".status.{field}[].state.waiting.reason", "CrashLoopBackOff")],
            {"action": "restart"},
            backoffMilliseconds=10_000,
            maxBackoffMilliseconds=300_000,
        )
        for name, field in (("pod", "containerStatuses"), ("pod-init", "initContainerStatuses"))
    ),
]
