"""The status that pods show: phases, conditions and container states."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.conditions import find_condition
from kubeling.kubelet.env import ConfigError
from kubeling.kubelet.podstate import PodRuntime
from kubeling.kubelet.podstatus import View, generate_status, in_order_of
from kubeling.kubelet.volumes import is_recursive

from .builders import NOW, Probes, container, pod, record, runtime, sandbox


def status(made: dict[str, Any], have: PodRuntime, **more: Any) -> dict[str, Any]:
    probes = more.pop("probes", Probes())
    return generate_status(made, View(have, probes, NOW, "crilite", ("172.30.0.21",), **more))


def one(made: dict[str, Any], name: str = "web") -> dict[str, Any]:
    found = [*made["containerStatuses"], *made.get("initContainerStatuses", [])]
    return next(each for each in found if each["name"] == name)


def condition(made: dict[str, Any], kind: str) -> tuple[str, str, str]:
    found = find_condition(made["conditions"], kind)
    assert found is not None
    return found["status"], found.get("reason", ""), found.get("message", "")


SIDE = container("side", restartPolicy="Always")
CRASHED = record(state="exited", exit_code=1)


@pytest.mark.parametrize(
    ("made", "have", "terminal", "phase"),
    [
        pytest.param(pod(), runtime(boxes=()), False, "Pending", id="nothing there"),
        pytest.param(pod(), runtime(record()), False, "Running", id="it runs"),
        pytest.param(pod(container("a"), container("b")), runtime(record("a")), False, "Pending", id="one is still to come"),
        pytest.param(pod(), runtime(CRASHED), False, "Running", id="crashed, will be restarted"),
        pytest.param(pod(restartPolicy="Never"), runtime(CRASHED), False, "Failed", id="crashed for good"),
        pytest.param(pod(restartPolicy="OnFailure"), runtime(CRASHED), False, "Running", id="OnFailure tries again"),
        pytest.param(pod(restartPolicy="Never"), runtime(record(state="exited")), False, "Succeeded", id="done"),
        pytest.param(
            pod(container("a"), container("b"), restartPolicy="Never"),
            runtime(record("a", "exited"), record("b", "exited", exit_code=2)),
            False,
            "Failed",
            id="one of two failed",
        ),
        pytest.param(
            pod(container("a"), container("b"), restartPolicy="Never"),
            runtime(record("a", "exited", exit_code=1), record("b")),
            False,
            "Running",
            id="one failed, the other still runs",
        ),
        pytest.param(pod(), runtime(record(state="exited")), True, "Succeeded", id="stopped with 0"),
        pytest.param(pod(), runtime(record(state="exited", exit_code=137)), True, "Failed", id="stopped by KILL"),
        pytest.param(pod(), runtime(boxes=()), True, "Failed", id="stopped before it began"),
        pytest.param(pod(init=[container("i")]), runtime(record("i")), False, "Pending", id="initialising"),
        pytest.param(
            pod(init=[container("i")]), runtime(record("i", "exited", exit_code=1)), False, "Pending", id="init failed, again"
        ),
        pytest.param(
            pod(init=[container("i")], restartPolicy="Never"),
            runtime(record("i", "exited", exit_code=1)),
            False,
            "Failed",
            id="init failed for good",
        ),
        pytest.param(pod(init=[SIDE]), runtime(record(), record("side")), False, "Running", id="with a sidecar"),
        pytest.param(
            pod(init=[SIDE], restartPolicy="Never"),
            runtime(record(state="exited"), record("side")),
            False,
            "Running",
            id="a sidecar still runs",
        ),
        pytest.param(
            pod(init=[SIDE], restartPolicy="Never"),
            runtime(record(state="exited"), record("side", "exited", exit_code=137)),
            False,
            "Succeeded",
            id="how a sidecar ended does not count",
        ),
    ],
)
def test_phase(made: dict[str, Any], have: PodRuntime, terminal: bool, phase: str) -> None:
    assert status(made, have, terminal=terminal)["phase"] == phase


def test_a_final_phase_stays() -> None:
    assert status(pod(status={"phase": "Failed"}), runtime(record()))["phase"] == "Failed"


def test_a_running_container() -> None:
    found = status(pod(), runtime(record()))
    assert one(found) == {
        "name": "web",
        "image": "img:1",
        "imageID": "sha256:1",
        "containerID": "crilite://web-0",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T12:00:00Z"}},
        "lastState": {},
        "resources": {},
    }
    assert (found["podIP"], found["podIPs"], found["hostIP"]) == ("10.0.0.1", [{"ip": "10.0.0.1"}], "172.30.0.21")
    assert {each["type"]: each["status"] for each in found["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
    }


def test_a_crash_loop_is_waiting_and_the_crash_its_last_state() -> None:
    dead = record(state="exited", exit_code=3, attempt=2, finished=5)
    found = one(status(pod(), runtime(dead), reasons={"web": ("CrashLoopBackOff", "back-off 20s")}))
    assert found["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}
    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert found["restartCount"] == 2


def test_restarted_with_the_old_run_as_last_state() -> None:
    found = one(status(pod(), runtime(record(attempt=1), record(state="exited", exit_code=1))))
    assert "running" in found["state"]
    assert found["lastState"]["terminated"]["containerID"] == "crilite://web-0"
    assert found["restartCount"] == 1


@pytest.mark.parametrize(("made", "reason"), [(pod(), "ContainerCreating"), (pod(init=[container("i")]), "PodInitializing")])
def test_before_it_begins(made: dict[str, Any], reason: str) -> None:
    assert one(status(made, runtime(boxes=())))["state"] == {"waiting": {"reason": reason}}


def test_words_of_unreadiness() -> None:
    found = status(pod(container("a"), container("b")), runtime(record("a"), record("b")), probes=Probes(unready={"b-0"}))
    assert condition(found, "Ready") == ("False", "ContainersNotReady", "containers with unready status: [b]")
    assert condition(found, "ContainersReady")[0] == "False"


def test_a_container_that_has_not_passed_its_startup_probe_has_not_started() -> None:
    found = one(status(pod(), runtime(record()), probes=Probes(unstarted={"web-0"})))
    assert (found["started"], found["ready"]) == (False, False)


def test_incomplete_initialisation_names_the_containers() -> None:
    found = status(pod(init=[container("i"), container("j")]), runtime(record("i", "exited"), record("j")))
    assert condition(found, "Initialized") == ("False", "ContainersNotInitialized", "containers with incomplete status: [j]")


def test_readiness_gates() -> None:
    made = pod(readinessGates=[{"conditionType": "x/y"}])
    words = 'corresponding condition of pod readiness gate "x/y" does not exist.'
    assert condition(status(made, runtime(record())), "Ready") == ("False", "ReadinessGatesNotReady", words)
    made["status"] = {"conditions": [{"type": "x/y", "status": "True"}]}
    assert condition(status(made, runtime(record())), "Ready")[0] == "True"


def test_the_end_of_a_pod_that_is_done() -> None:
    found = status(pod(restartPolicy="Never"), runtime(record(state="exited")))
    assert condition(found, "Ready") == ("False", "PodCompleted", "")
    assert one(found)["state"]["terminated"]["reason"] == "Completed"


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = status(pod(), runtime(record()))
    then = "2025-01-01T00:00:00Z"
    for each in first["conditions"]:
        each["lastTransitionTime"] = then
    second = status(pod(status=first), runtime(record()), probes=Probes(unready={"web-0"}))
    times = {each["type"]: each["lastTransitionTime"] for each in second["conditions"]}
    assert times["Initialized"] == then
    assert times["Ready"] == "2026-01-01T12:00:00Z"


def test_a_container_that_the_runtime_has_lost() -> None:
    before = {
        "containerStatuses": [
            {
                "name": "web",
                "containerID": "crilite://x",
                "restartCount": 2,
                "state": {"running": {"startedAt": "2026-01-01T11:00:00Z"}},
                "lastState": {},
            }
        ]
    }
    found = one(status(pod(status=before, restartPolicy="Never"), runtime()))
    assert found["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    again = one(status(pod(status=before), runtime()))
    assert again["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert again["lastState"]["terminated"]["exitCode"] == 137


def test_host_network_shows_the_nodes_address() -> None:
    found = status(pod(hostNetwork=True), runtime(record(), boxes=(sandbox(ips=(), host=True),)))
    assert found["podIP"] == "172.30.0.21"


def test_a_verdict_of_the_kubelet() -> None:
    for own_fault in (False, True):
        evicted = status(pod(), runtime(record()), verdict=("Evicted", "too much"), own_fault=own_fault)
        assert (find_condition(evicted["conditions"], "DisruptionTarget") is None) == own_fault
    found = status(pod(), runtime(record()), verdict=("DeadlineExceeded", "too long"))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_addresses_of_both_families() -> None:
    """The first is of the family of the node's first, whichever the runtime named first; a pod on the host's network has the node's."""
    assert in_order_of(["172.30.0.21", "fd00::15"], ["fd00:1::2", "10.0.0.1"]) == ["10.0.0.1", "fd00:1::2"]
    assert in_order_of(["fd00::15", "172.30.0.21"], ["10.0.0.1", "fd00:1::2"]) == ["fd00:1::2", "10.0.0.1"]
    assert in_order_of([], ["fd00:1::2", "10.0.0.1"]) == ["fd00:1::2", "10.0.0.1"]


@pytest.mark.parametrize(
    ("mode", "able", "shown"),
    [("Enabled", True, "Enabled"), ("IfPossible", True, "Enabled"), ("IfPossible", False, "Disabled"), (None, True, "Disabled")],
)
def test_whether_a_mount_is_read_only_all_the_way_down(mode: str | None, able: bool, shown: str) -> None:
    """KEP-3857: what was asked for, as far as the runtime's handler of this pod can do it."""
    mount = {"name": "v", "mountPath": "/v", "readOnly": True, **({"recursiveReadOnly": mode} if mode else {})}
    made = pod(container(volumeMounts=[mount, {"name": "w", "mountPath": "/w"}]))
    mounts = one(status(made, runtime(record()), recursive=frozenset([""] if able else ["other"])))["volumeMounts"]
    assert mounts == [
        {"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": shown},
        {"name": "w", "mountPath": "/w"},
    ]
    assert is_recursive(mount, able) == (shown == "Enabled")


def test_what_has_to_be_read_only_and_cannot_is_not_mounted() -> None:
    with pytest.raises(ConfigError, match="not supported by the runtime"):
        is_recursive({"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}, False)
