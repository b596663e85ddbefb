"""The logic of hollow nodes: paths, stages, what actions make of a pod, addresses, configuration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api.conditions import get_condition
from kubeling.daemon.clock import VirtualClock
from kubeling.kubelet.hollow import config, podlife, stages
from kubeling.kubelet.hollow.addresses import Block, node_block
from kubeling.kubelet.hollow.expressions import BadExpression, compile_path, values
from kubeling.kubelet.hollow.nodes import is_hollow
from kubeling.kubelet.hollow.timers import Timers
from kubeling.kubelet.hollow.usage import Meter, page

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
HERE = podlife.Place("172.30.0.11", "10.128.0.2")
NOTE = "hollow.kubeling.dev/"


def pod(**over: Any) -> dict[str, Any]:
    spec = {"nodeName": "hollow-0", "containers": [{"name": "c", "image": "web:1"}], **over.pop("spec", {})}
    metadata = {
        "name": "p",
        "namespace": "d",
        "uid": "u-1",
        "resourceVersion": "5",
        "creationTimestamp": "2026-05-01T11:59:00Z",
        **over.pop("metadata", {}),
    }
    status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}], **over.pop("status", {})}
    return {"metadata": metadata, "spec": spec, "status": status}


def after(obj: dict[str, Any], *actions: str, now: datetime = NOW, **options: Any) -> dict[str, Any]:
    """The pod after these actions."""
    for action in actions:
        status = podlife.act(action, obj, HERE, now, options)
        obj = obj if status is None else {**obj, "status": status}
    return obj


def noted(**notes: str) -> dict[str, Any]:
    return {"annotations": {f"{NOTE}{key.replace('_', '-')}": value for key, value in notes.items()}}


# -- paths -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".status.phase", ["Pending"]),
        ('.metadata.annotations["a.b/c"]', ["x"]),
        (".spec.containers[0].name", ["c"]),
        (".spec.containers[].image", ["web:1"]),
        ('.status.conditions.[] | select( .type == "PodScheduled" ) | .status', ["True"]),
        ('.status.conditions[] | select(.type != "PodScheduled") | .status', []),
        (".metadata.nothing.here", []),
        (".spec.containers[7].name", []),
    ],
)
def test_a_path_leads_where_jq_leads(path: str, found: list[Any]) -> None:
    assert values(pod(metadata={"annotations": {"a.b/c": "x"}}), compile_path(path)) == found


@pytest.mark.parametrize("path", ["status", ".a..b", ".a | map(.b)", ".a[", ""])
def test_a_path_that_is_not_understood_is_refused(path: str) -> None:
    with pytest.raises(BadExpression):
        compile_path(path)


# -- stages ----------------------------------------------------------------------------------------------------------------------------


def stage_of(obj: dict[str, Any], *documents: dict[str, Any]) -> str:
    found = stages.choose(config.parse(documents).stages, obj)
    return found.name if found else ""


def stage(name: str, selector: dict[str, Any], following: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"kind": "Stage", "metadata": {"name": name}, "spec": {"selector": selector, "next": following, **spec}}


def test_the_default_stages_of_a_pods_life() -> None:
    fresh = pod()
    assert stage_of(fresh) == "pod-run"
    running = after(fresh, "run")
    assert stage_of(running) == ""
    assert stage_of({**running, "metadata": {**running["metadata"], "deletionTimestamp": "2026-05-01T12:01:00Z"}}) == "pod-delete"
    assert stage_of(after(pod(metadata={"ownerReferences": [{"kind": "Job"}]}), "run")) == "pod-complete-job"


@pytest.mark.parametrize(
    ("notes", "actions", "expected"),
    [
        ({"waiting": "ImagePullBackOff"}, (), "pod-wait"),
        ({"init_for": "1s"}, (), "pod-initialize"),
        ({"run_for": "1s"}, ("run",), "pod-complete"),
        ({"crash_after": "1s"}, ("run",), "pod-crash"),
        ({"crash_after": "1s"}, ("run", "crash"), "pod-restart"),
        ({"ready": "false"}, ("run",), ""),
        ({"ready": "false"}, ("run", "ready"), "pod-unready"),
        ({"ready": "false"}, ("run", "unready"), ""),
        ({"ready": "true"}, ("run", "unready"), "pod-ready-again"),
        ({"ready_after": "3s"}, ("run",), "pod-ready"),
        ({"ready_after": "3s"}, ("run", "ready"), ""),
    ],
)
def test_annotations_choose_the_stage(notes: dict[str, str], actions: tuple[str, ...], expected: str) -> None:
    assert stage_of(after(pod(metadata=noted(**notes)), *actions)) == expected


def test_a_stage_of_the_configuration_comes_before_the_default_ones() -> None:
    mine = stage("slow", {"matchLabels": {"app": "slow"}}, {"action": "wait"})
    assert stage_of(pod(metadata={"labels": {"app": "slow"}}), mine) == "slow"
    assert stage_of(pod(metadata={"labels": {"app": "other"}}), mine) == "pod-run"


def test_a_stage_that_always_matches_does_not_keep_a_pod_from_being_deleted() -> None:
    mine = stage("always", {}, {"action": "crash"})
    leaving = pod(metadata={"deletionTimestamp": "2026-05-01T12:01:00Z"})
    assert stage_of(leaving, mine) == "pod-delete"


def test_stages_share_pods_by_weight() -> None:
    documents = [stage("often", {}, {"action": "run"}, weight=3), stage("seldom", {}, {"action": "wait"}, weight=1)]
    chosen = [stage_of(pod(metadata={"uid": f"u-{number}"}), *documents) for number in range(2000)]
    assert 0.7 < chosen.count("often") / len(chosen) < 0.8
    assert chosen[0] == stage_of(pod(metadata={"uid": "u-0"}), *documents), "the same pod has the same lot again"


@pytest.mark.parametrize(
    ("delay", "notes", "low", "high"),
    [
        ({"durationMilliseconds": 2000}, {}, 2.0, 2.0),
        ({"durationMilliseconds": 1000, "jitterDurationMilliseconds": 5000}, {}, 1.0, 5.0),
        ({"durationMilliseconds": 9000, "jitterDurationMilliseconds": 5000}, {}, 5.0, 5.0),
        ({"durationFrom": {"expressionFrom": '.metadata.annotations["d"]'}}, {"d": "1m30s"}, 90.0, 90.0),
        ({"durationFrom": {"expressionFrom": '.metadata.annotations["d"]'}}, {"d": "2s-4s"}, 2.0, 4.0),
        ({"durationMilliseconds": 7000, "durationFrom": {"expressionFrom": '.metadata.annotations["d"]'}}, {}, 7.0, 7.0),
        ({"durationFrom": {"expressionFrom": '.metadata.annotations["d"]'}}, {"d": "2026-05-01T12:00:20Z"}, 20.0, 20.0),
    ],
)
def test_delays(delay: dict[str, Any], notes: dict[str, str], low: float, high: float) -> None:
    made = config.parse([stage("s", {}, {"action": "run"}, delay=delay)]).stages[-1].delay
    obj = pod(metadata={"annotations": notes})
    assert made.of(obj, 0.0, NOW) == low
    assert made.of(obj, 0.999999, NOW) == pytest.approx(high, abs=0.001)


def test_a_delay_that_cannot_be_read_is_said() -> None:
    delay = {"durationFrom": {"expressionFrom": '.metadata.annotations["d"]'}}
    made = config.parse([stage("s", {}, {"action": "run"}, delay=delay)]).stages[-1].delay
    with pytest.raises(stages.BadValue, match="soon"):
        made.of(pod(metadata={"annotations": {"d": "soon"}}), 0.5, NOW)


def test_a_crash_loop_backs_off() -> None:
    restart = next(each for each in config.parse(()).stages if each.name == "pod-restart")
    obj = after(pod(), "run", "crash")
    waits = []
    for _ in range(7):
        waits.append(restart.delay.of(obj, 0.5, NOW))
        obj = after(obj, "restart", "crash")
    assert waits == [10, 20, 40, 80, 160, 300, 300]


# -- what actions make of a pod --------------------------------------------------------------------------------------------------------


def test_run_makes_what_a_kubelet_reports_of_a_running_pod() -> None:
    status = after(pod(), "run")["status"]
    assert (status["phase"], status["podIP"], status["hostIP"]) == ("Running", "10.128.0.2", "172.30.0.11")
    assert status["startTime"] == "2026-05-01T12:00:00Z"
    container = status["containerStatuses"][0]
    assert container["ready"]
    assert container["started"]
    assert container["state"] == {"running": {"startedAt": "2026-05-01T12:00:00Z"}}
    assert container["containerID"].startswith("hollow://")
    kinds = {each["type"]: each["status"] for each in status["conditions"]}
    assert kinds == dict.fromkeys(
        ("PodScheduled", "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"), "True"
    )
    assert podlife.act("run", after(pod(), "run"), HERE, NOW + timedelta(hours=1)) is None


def test_init_containers_come_one_after_the_other_and_sidecars_stay() -> None:
    init = [{"name": "i1", "image": "i"}, {"name": "side", "image": "s", "restartPolicy": "Always"}, {"name": "i2", "image": "i"}]
    obj = after(pod(spec={"initContainers": init}), "initialize")

    def states() -> dict[str, str]:
        status = obj["status"]
        every = [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
        return {each["name"]: next(iter(each["state"])) for each in every}

    assert (states(), obj["status"]["phase"]) == (
        {"i1": "running", "side": "waiting", "i2": "waiting", "c": "waiting"},
        "Pending",
    )
    obj = after(obj, "initialize")
    assert states() == {"i1": "terminated", "side": "running", "i2": "running", "c": "waiting"}
    obj = after(obj, "initialize")
    assert (states(), obj["status"]["phase"]) == (
        {"i1": "terminated", "side": "running", "i2": "terminated", "c": "running"},
        "Running",
    )
    at_once = after(pod(spec={"initContainers": init}), "run")
    assert [each["ready"] for each in at_once["status"]["initContainerStatuses"]] == [True, True, True]


@pytest.mark.parametrize(
    ("policy", "action", "phase", "state"),
    [
        ("Never", "complete", "Succeeded", "terminated"),
        ("OnFailure", "complete", "Succeeded", "terminated"),
        ("Always", "complete", "Running", "waiting"),
        ("Never", "crash", "Failed", "terminated"),
        ("OnFailure", "crash", "Running", "waiting"),
        ("Always", "crash", "Running", "waiting"),
    ],
)
def test_the_restart_policy_says_what_comes_after_the_end(policy: str, action: str, phase: str, state: str) -> None:
    status = after(pod(spec={"restartPolicy": policy}), "run", action)["status"]
    assert status["phase"] == phase
    container = status["containerStatuses"][0]
    assert next(iter(container["state"])) == state
    if state == "waiting":
        assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        assert container["lastState"]["terminated"]["exitCode"] == (1 if action == "crash" else 0)


def test_readiness_that_others_took_away_comes_back_and_gates_count() -> None:
    obj = after(pod(), "run")
    conditions = [{**each, "status": "False"} if each["type"] == "Ready" else each for each in obj["status"]["conditions"]]
    obj = {**obj, "status": {**obj["status"], "conditions": conditions}}
    assert stage_of(obj) == "pod-sync"
    assert (get_condition(after(obj, "sync"), "Ready") or {})["status"] == "True"
    gated = after(pod(spec={"readinessGates": [{"conditionType": "example.org/gate"}]}), "run")
    assert (get_condition(gated, "Ready") or {})["reason"] == "ReadinessGatesNotReady"
    assert after(gated, "sync") is gated, "there is nothing to write"
    assert stages.choose(config.parse(()).stages, gated, {"pod-sync"}) is None
    gated["status"]["conditions"].append({"type": "example.org/gate", "status": "True"})
    assert (get_condition(after(gated, "sync"), "Ready") or {})["status"] == "True"


def test_restarts_are_counted() -> None:
    obj = after(pod(), "run", "crash", "restart", "crash", "restart", exitCode=137)
    container = obj["status"]["containerStatuses"][0]
    assert container["restartCount"] == 2
    assert container["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert (get_condition(obj, "Ready") or {})["status"] == "True"


def test_one_container_of_two_crashes() -> None:
    two = {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}
    obj = after(after(pod(spec=two), "run"), "crash", containers=["b"])
    assert [next(iter(each["state"])) for each in obj["status"]["containerStatuses"]] == ["running", "waiting"]
    assert (get_condition(obj, "Ready") or {})["message"] == "containers with unready status: [b]"


def test_the_exit_code_of_the_annotation_counts() -> None:
    obj = after(pod(spec={"restartPolicy": "Never"}, metadata=noted(exit_code="3")), "run", "crash")
    assert obj["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    with pytest.raises(podlife.BadAction, match="no exit code"):
        after(pod(metadata=noted(exit_code="x")), "run", "crash")


def test_waiting_unready_and_evicted() -> None:
    waits = after(pod(metadata=noted(waiting="ImagePullBackOff")), "wait")
    assert waits["status"]["containerStatuses"][0]["state"]["waiting"] == {
        "reason": "ImagePullBackOff",
        "message": 'Back-off pulling image "web:1"',
    }
    assert after(waits, "run")["status"]["phase"] == "Running"
    assert (get_condition(after(pod(), "run", "unready"), "Ready") or {})["status"] == "False"
    evicted = after(pod(), "run", "evict")["status"]
    assert (evicted["phase"], evicted["reason"]) == ("Failed", "Evicted")


def test_what_others_have_written_stays() -> None:
    obj = pod(status={"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "example.org/gate", "status": "True"}]})
    status = after({**obj, "status": {**obj["status"], "nominatedNodeName": "n"}}, "run", "crash")["status"]
    assert status["nominatedNodeName"] == "n"
    assert [each["type"] for each in status["conditions"]][:2] == ["PodScheduled", "example.org/gate"]


def test_the_last_status_of_a_deleted_pod() -> None:
    leaving = after(pod(spec={"restartPolicy": "Never"}), "run")
    leaving["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:30Z"
    status = podlife.ended(leaving, HERE, NOW)
    assert status is not None
    assert status["phase"] == "Succeeded"
    assert (get_condition({"status": status}, "Ready") or {})["status"] == "False"


# -- addresses -------------------------------------------------------------------------------------------------------------------------


def test_no_address_is_given_twice() -> None:
    block = Block("10.128.3.0/29")
    block.claim("old", "10.128.3.3")
    assert [block.address(uid) for uid in ("a", "b", "c", "d", "e")] == [
        "10.128.3.2",
        "10.128.3.4",
        "10.128.3.5",
        "10.128.3.6",
        None,
    ]
    assert block.address("a") == "10.128.3.2"
    block.release("b")
    assert block.address("e") == "10.128.3.4"
    block.claim("thief", "10.128.3.2")
    assert block.address("a") == "10.128.3.2"


def test_nodes_have_blocks_of_their_own() -> None:
    assert [node_block("10.128.0.0/10", index) for index in (0, 1, 256)] == ["10.128.0.0/24", "10.128.1.0/24", "10.129.0.0/24"]
    assert node_block("10.128.0.0/23", 2) == ""
    assert node_block("fd00:128::/48", 3) == "fd00:128:0:3::/64"


# -- configuration ---------------------------------------------------------------------------------------------------------------------


def test_groups_of_nodes() -> None:
    settings = config.parse(
        [
            {
                "kind": "HollowConfiguration",
                "nodes": [
                    {"name": "gpu-{number}", "count": 2, "capacity": {"cpu": 8, "nvidia.com/gpu": "4"}, "maxPods": 20},
                    {"name": "plain-{index}-{zone}", "zones": ["a", "b"], "labels": {"rack": "r{number}"}},
                ],
            }
        ]
    )
    nodes = config.specs(settings.groups, 5)
    assert [each.name for each in nodes] == ["gpu-0", "gpu-1", "plain-2-a", "plain-3-b", "plain-4-a"]
    assert nodes[3].labels == {"rack": "r1", "topology.kubernetes.io/zone": "b", config.LABEL: "true"}
    assert is_hollow({"metadata": {"labels": nodes[0].labels}})
    assert is_hollow({"metadata": {"annotations": {"kwok.x-k8s.io/node": "fake"}}})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"kind": "Other"}, "neither"),
        ({"kind": "HollowConfiguration", "leases": {}}, "leases is not known"),
        ({"kind": "HollowConfiguration", "nodes": [{"cpu": 1}]}, "'cpu' is not known"),
        ({"kind": "HollowConfiguration", "nodes": [{"name": "n-{x}"}]}, "only"),
        ({"kind": "HollowConfiguration", "podCIDR": "10.1.1.1/8"}, "host bits"),
        (stage("s", {}, {"action": "explode"}), "no action 'explode'"),
        (stage("s", {"matchExpressions": [{"key": "x", "operator": "In", "values": ["a"]}]}, {}), "begin with a dot"),
        (stage("s", {"matchExpressions": [{"key": ".x", "operator": "Is"}]}, {}), "operator 'Is'"),
        (stage("s", {}, {}, delay={"seconds": 1}), "'seconds' is not known"),
        (stage("s", {}, {"statusTemplate": "phase: {{ 1 }}"}), "Go templates"),
    ],
)
def test_a_mistake_is_refused_with_its_place(document: dict[str, Any], words: str) -> None:
    with pytest.raises(config.BadConfig, match=words):
        config.parse([document])


@pytest.mark.parametrize(("counts", "total"), [((3,), 2), ((3,), 4)])
def test_groups_that_do_not_add_up_are_refused(counts: tuple[int, ...], total: int) -> None:
    with pytest.raises(config.BadConfig, match="asked for"):
        config.specs([config.Group(count=each) for each in counts], total)


def test_leases_are_renewed_more_seldom_where_there_are_many_and_in_time_all_the_same() -> None:
    settings = config.parse(())
    assert [settings.renewal(nodes) for nodes in (1, 400, 800, 1000, 10_000)] == [10, 10, 20, 20, 20]


# -- use -------------------------------------------------------------------------------------------------------------------------------


def test_the_use_that_a_pod_claims_adds_up_over_changes() -> None:
    meter = Meter()

    def seconds(minutes: int, cpu: str) -> float:
        obj = after(pod(metadata=noted(cpu=cpu, memory="10Mi")), "run")
        text = page([obj, after(pod(metadata={"name": "q"}), "run")], meter, NOW + timedelta(minutes=minutes))
        lines = dict(line.rsplit(" ", 2)[:2] for line in text.splitlines() if not line.startswith("container_start"))
        assert lines["node_memory_working_set_bytes"] == str(10 * 2**20)
        assert 'pod="q"' not in text
        return float(lines['container_cpu_usage_seconds_total{container="c",namespace="d",pod="p"}'])

    assert [seconds(1, "500m"), seconds(2, "2"), seconds(3, "0")] == [30, 150, 150]


# -- timers ----------------------------------------------------------------------------------------------------------------------------


async def test_timers_come_up_in_order_and_only_as_they_were_set_last() -> None:
    import asyncio

    clock, seen = VirtualClock(), []
    timers: Timers[str] = Timers(clock, seen.append)
    running = asyncio.create_task(timers.run())
    for key, seconds in (("b", 2.0), ("a", 1.0), ("gone", 1.5), ("moved", 0.5), ("c", 3.0)):
        timers.set(key, seconds)
    timers.cancel("gone")
    timers.set("moved", 2.5)
    await clock.advance(2.2)
    assert seen == ["a", "b"]
    timers.set("first", 0.1)
    await clock.advance(1.0)
    assert seen == ["a", "b", "first", "moved", "c"]
    assert len(timers) == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
