"""Decisions of StatefulSets, of DaemonSets that surge, of CronJobs and of zones that are lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kubeling.api import cron
from kubeling.api.times import format_time
from kubeling.controllers import node_health
from kubeling.controllers.context import Options
from kubeling.controllers.cron_times import most_recent, next_after, zone_named
from kubeling.controllers.cronjob import plan as cron_plan
from kubeling.controllers.daemonset_plan import update
from kubeling.controllers.revisions import HASH_LABEL
from kubeling.controllers.statefulset_plan import Step, plan

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = format_time(NOW - timedelta(hours=1))


# -- StatefulSet -----------------------------------------------------------------------------------------------------------------------


def stateful(replicas: int, **spec: Any) -> Obj:
    return {"metadata": {"name": "s", "namespace": "d", "uid": "s", "generation": 1}, "spec": {"replicas": replicas, **spec}}


def member(ordinal: int, revision: str = "old", *, ready: bool = True, **meta: Any) -> Obj:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": LONG_AGO}
    labels = {HASH_LABEL: revision}
    return {
        "metadata": {"name": f"s-{ordinal}", "namespace": "d", "uid": f"s-{ordinal}", "labels": labels, **meta},
        "spec": {},
        "status": {"phase": "Running", "conditions": [condition]},
    }


def ordinals(found: list[Obj]) -> list[int]:
    return [int(each["metadata"]["name"].rpartition("-")[2]) for each in found]


def step(one: Obj, pods: list[Obj], update_to: str = "new") -> Step:
    return plan(one, pods, "old", update_to, NOW)


def rolling(**fields: Any) -> Obj:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": fields}}


@pytest.mark.parametrize(
    ("fields", "deleted"),
    [
        ({}, [4]),
        ({"maxUnavailable": 2}, [4, 3]),
        ({"maxUnavailable": "50%"}, [4, 3, 2]),
        ({"partition": 4, "maxUnavailable": 3}, [4]),
    ],
)
def test_so_many_at_once_from_the_highest_down(fields: Obj, deleted: list[int]) -> None:
    assert ordinals(step(stateful(5, **rolling(**fields)), [member(each) for each in range(5)]).delete) == deleted


def test_what_is_unavailable_already_counts() -> None:
    one = stateful(4, podManagementPolicy="Parallel", **rolling(maxUnavailable=2))
    pods = [member(0), member(1), member(2), member(3, "new", ready=False)]
    assert ordinals(step(one, pods).delete) == [2]
    pods[0] = member(0, ready=False)
    assert ordinals(step(one, pods).delete) == [], "two of four are not available: no other may go"


def test_numbers_begin_where_the_set_says() -> None:
    one = stateful(2, ordinals={"start": 5})
    assert step(one, [], "old").create == [(5, True)]
    moved = step(one, [member(0), member(5), member(6)], "old")
    assert ordinals(moved.condemned) == [0], "what is outside goes"
    parallel = stateful(3, ordinals={"start": 5}, podManagementPolicy="Parallel")
    assert [each for each, _ in step(parallel, [member(6)], "old").create] == [5, 7]


def test_below_the_partition_pods_are_made_anew_as_they_were() -> None:
    one = stateful(3, podManagementPolicy="Parallel", ordinals={"start": 10}, **rolling(partition=1))
    assert step(one, []).create == [(10, False), (11, True), (12, True)]


# -- DaemonSet -------------------------------------------------------------------------------------------------------------------------


def test_a_surge_makes_the_new_before_the_old_goes() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    one = {"metadata": {"name": "x"}, "spec": {"template": {"spec": {}}, "updateStrategy": strategy}}
    nodes = [{"metadata": {"name": each}, "spec": {}} for each in "ab"]

    def daemon(name: str, revision: str) -> Obj:
        return {"metadata": {"name": name, "labels": {"controller-revision-hash": revision}}, "status": {"phase": "Running"}}

    by_node = {"a": [daemon("a", "old")], "b": [daemon("b", "old")]}
    first = update(one, nodes, by_node, "new", lambda pod: True)
    assert (first.create, first.delete) == (["a"], [])
    by_node["a"].append(daemon("a2", "new"))
    waiting = update(one, nodes, by_node, "new", lambda pod: pod["metadata"]["name"] != "a2")
    assert (waiting.create, waiting.delete) == ([], []), "the new one is not available yet"
    second = update(one, nodes, by_node, "new", lambda pod: True)
    assert [each["metadata"]["name"] for each in second.delete] == ["a"]


# -- CronJob ---------------------------------------------------------------------------------------------------------------------------


def at(zone: str, *local: int) -> datetime:
    return datetime(*local, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[arg-type,misc]


def test_times_are_those_of_the_zone() -> None:
    schedule = cron.parse("30 2 * * *")
    new_york = zone_named("America/New_York")
    assert next_after(schedule, NOW, new_york) == datetime(2026, 1, 2, 7, 30, tzinfo=UTC)
    # 2026-03-08 has no half past two there.
    before = at("America/New_York", 2026, 3, 8, 1)
    assert next_after(schedule, before, new_york) == at("America/New_York", 2026, 3, 9, 2, 30)
    with pytest.raises(ValueError, match="unknown time zone Mars/Olympus"):
        zone_named("Mars/Olympus")


def test_of_many_missed_times_the_last_counts() -> None:
    schedule = cron.parse("* * * * *")
    assert most_recent(schedule, NOW - timedelta(minutes=3), NOW, UTC) == (NOW, False)
    assert most_recent(schedule, NOW - timedelta(days=400), NOW, UTC) == (NOW, True)


def cron_job(**spec: Any) -> Obj:
    meta = {"name": "c", "namespace": "d", "uid": "c", "creationTimestamp": format_time(NOW - timedelta(hours=2))}
    return {"metadata": meta, "spec": {"schedule": "0 * * * *", "jobTemplate": {"spec": {}}, **spec}, "status": {}}


def finished(name: str, kind: str, hours: int) -> Obj:
    start = format_time(NOW - timedelta(hours=hours))
    conditions = [{"type": kind, "status": "True"}]
    return {"metadata": {"name": name, "namespace": "d", "uid": name}, "status": {"startTime": start, "conditions": conditions}}


def test_history_keeps_the_latest_of_each_kind() -> None:
    jobs = [finished(f"good-{hours}", "Complete", hours) for hours in range(1, 6)]
    jobs += [finished(f"bad-{hours}", "Failed", hours) for hours in range(1, 4)]
    gone = cron_plan(cron_job(successfulJobsHistoryLimit=2, failedJobsHistoryLimit=1), jobs, NOW).delete
    assert sorted(each["metadata"]["name"] for each in gone) == ["bad-2", "bad-3", "good-3", "good-4", "good-5"]
    assert cron_plan(cron_job(successfulJobsHistoryLimit=9, failedJobsHistoryLimit=9), jobs, NOW).delete == []


@pytest.mark.parametrize(
    ("policy", "starts", "deletes"), [("Allow", True, []), ("Forbid", False, []), ("Replace", True, ["runs"])]
)
def test_what_becomes_of_a_job_that_still_runs(policy: str, starts: bool, deletes: list[str]) -> None:
    running = {"metadata": {"name": "runs", "namespace": "d", "uid": "runs"}, "status": {}}
    found = cron_plan(cron_job(concurrencyPolicy=policy), [running], NOW)
    assert (found.start is not None, [each["metadata"]["name"] for each in found.delete]) == (starts, deletes)


def test_a_start_that_is_too_late_is_left_out() -> None:
    late = NOW + timedelta(seconds=90)
    assert cron_plan(cron_job(startingDeadlineSeconds=60), [], late).start is None
    assert cron_plan(cron_job(startingDeadlineSeconds=120), [], late).start == NOW


# -- Zones -----------------------------------------------------------------------------------------------------------------------------


def zone(good: int, bad: int) -> list[Obj]:
    return [
        {"metadata": {"name": str(number)}, "status": {"conditions": [{"type": "Ready", "status": status}]}}
        for number, status in enumerate(["True"] * good + ["Unknown"] * bad)
    ]


@pytest.mark.parametrize(
    ("good", "bad", "rate"),
    [(10, 1, 0.1), (4, 6, 0.0), (40, 60, 0.01), (0, 10, 0.1), (1, 2, 0.1), (50, 50, 0.1)],
)
def test_how_fast_a_zone_is_emptied(good: int, bad: int, rate: float) -> None:
    assert node_health.eviction_rate(zone(good, bad), Options()) == rate
