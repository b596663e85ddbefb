"""What failures and successes of single pods mean for a Job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api.times import format_time
from kubeling.controllers import job_policies
from kubeling.controllers.job_indexes import INDEX
from kubeling.controllers.job_plan import Plan, newly_finished, plan

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(**spec: Any) -> Obj:
    return {
        "metadata": {"name": "j", "namespace": "d", "uid": "j"},
        "spec": {"parallelism": 3, "completions": 3, "backoffLimit": 2**31 - 1, **spec},
        "status": {},
    }


def pod(name: str, phase: str = "Running", *, code: int = 1, ended: float = 100, tracked: bool = True, **annotations: str) -> Obj:
    meta: Obj = {"name": name, "namespace": "d", "uid": f"uid-{name}", "creationTimestamp": format_time(NOW)}
    meta["annotations"] = {f"batch.kubernetes.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    if name[0].isdigit():
        meta["annotations"][INDEX] = name[0]
    if tracked:
        meta["finalizers"] = [job_policies.TRACKING]
    terminated = {"exitCode": 0 if phase == "Succeeded" else code, "finishedAt": format_time(NOW - timedelta(seconds=ended))}
    state = {"terminated": terminated} if phase in ("Failed", "Succeeded") else {"running": {}}
    return {"metadata": meta, "spec": {}, "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]}}


def step(one: Obj, pods: list[Obj]) -> Plan:
    """One step in which the live API confirms what the copy shows."""
    return plan(one, pods, {each["metadata"]["uid"] for each in newly_finished(one, pods)}, NOW)


def conditions(found: Plan) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["reason"], each["message"]) for each in found.status["conditions"]}


def rule(action: str, *values: int, operator: str = "In", container: str | None = None) -> Obj:
    wanted: Obj = {"operator": operator, "values": list(values)}
    if container:
        wanted["containerName"] = container
    return {"action": action, "onExitCodes": wanted}


@pytest.mark.parametrize(
    ("rules", "code", "action"),
    [
        ([rule("FailJob", 1, 42)], 42, "FailJob"),
        ([rule("FailJob", 1, 42)], 2, None),
        ([rule("FailJob", 42, operator="NotIn")], 2, "FailJob"),
        ([rule("FailJob", 42, operator="NotIn")], 42, None),
        ([rule("FailJob", 42, container="other")], 42, None),
        ([rule("Ignore", 42, container="main"), rule("FailJob", 42)], 42, "Ignore"),
        ([rule("FailIndex", 42), rule("Count", 42)], 42, "Count"),
    ],
)
def test_the_first_rule_that_matches_counts(rules: list[Obj], code: int, action: str | None) -> None:
    found = job_policies.verdict(job(podFailurePolicy={"rules": rules}), pod("p", "Failed", code=code))
    assert (found.action if found else None) == action


def test_an_exit_code_fails_the_job() -> None:
    one = job(podFailurePolicy={"rules": [rule("FailJob", 42)]})
    found = step(one, [pod("bad", "Failed", code=42), pod("runs")])
    message = "Container main for pod d/bad failed with exit code 42 matching FailJob rule at index 0"
    assert conditions(found) == {"FailureTarget": ("PodFailurePolicy", message)}
    assert [each["metadata"]["name"] for each in found.delete] == ["runs"]
    one["status"] = found.status
    ended = step(one, [pod("bad", "Failed", code=42, tracked=False)])
    assert conditions(ended)["Failed"] == ("PodFailurePolicy", message)
    assert ended.status["failed"] == 1


def test_a_disruption_is_ignored_and_replaced_at_once() -> None:
    pattern = {"type": "DisruptionTarget", "status": "True"}
    one = job(podFailurePolicy={"rules": [{"action": "Ignore", "onPodConditions": [pattern]}]}, backoffLimit=0)
    gone = pod("gone", "Failed", ended=1)
    gone["status"]["conditions"] = [pattern]
    found = step(one, [gone, pod("runs"), pod("runs-too")])
    assert not conditions(found)
    assert (found.release, found.create, found.look_again) == ([gone], [None], None)
    assert not found.status["uncountedTerminatedPods"]
    assert not found.status.get("failed")
    assert "FailureTarget" in conditions(step(one, [pod("bad", "Failed")])), "any other failure counts"


def indexed(**spec: Any) -> Obj:
    return job(**{"completionMode": "Indexed", "backoffLimitPerIndex": 1, "podReplacementPolicy": "Failed"} | spec)


def test_an_index_knows_its_failures_through_its_pods() -> None:
    one = indexed()
    first = [pod("0", job_index_failure_count="0"), pod("1", "Failed", job_index_failure_count="0"), pod("2")]
    found = step(one, first)
    assert (found.create, found.failures) == ([1], {1: (1, 0)})
    assert not found.release, "the failed pod stays until its replacement has its number"
    assert not found.status["uncountedTerminatedPods"]
    one["status"] = found.status
    replaced = step(one, [*first, pod("1-again", job_index_failure_count="1")])
    assert [each["metadata"]["name"] for each in replaced.release] == ["1"]
    assert replaced.status["uncountedTerminatedPods"] == {"failed": ["uid-1"]}


def test_each_index_has_its_own_delay() -> None:
    fresh = [pod("0", "Failed", ended=4), pod("1", "Failed", ended=12), pod("2")]
    found = step(indexed(backoffLimitPerIndex=5), fresh)
    assert (found.create, found.look_again) == ([1], 6.0)


def test_an_index_that_has_failed_too_often_is_given_up_and_the_others_go_on() -> None:
    one = indexed()
    pods = [pod("0"), pod("1", "Failed", job_index_failure_count="1"), pod("2", "Succeeded")]
    found = step(one, pods)
    assert (found.status["failedIndexes"], found.status["completedIndexes"]) == ("1", "2")
    assert (found.create, conditions(found)) == ([], {})
    one["status"] = found.status
    pods = [pod("0", "Succeeded"), pod("1", "Failed", tracked=False), pod("2", "Succeeded", tracked=False)]
    assert conditions(step(one, pods)) == {"FailureTarget": ("FailedIndexes", "Job has failed indexes")}


def test_too_many_failed_indexes_end_the_job() -> None:
    one = indexed(maxFailedIndexes=0)
    found = step(one, [pod("0"), pod("1", "Failed", job_index_failure_count="1"), pod("2")])
    message = "Job has exceeded the specified maximal number of failed indexes"
    assert conditions(found) == {"FailureTarget": ("MaxFailedIndexesExceeded", message)}


def test_what_waited_for_a_successor_is_counted_before_the_job_ends() -> None:
    one = indexed(maxFailedIndexes=0, backoffLimitPerIndex=1)
    pods = [pod("0", "Failed", ended=1), pod("1", "Failed", job_index_failure_count="1"), pod("2", "Succeeded")]
    found = step(one, pods)
    assert set(conditions(found)) == {"FailureTarget"}
    assert found.status["uncountedTerminatedPods"]["failed"] == ["uid-1"]
    one["status"] = found.status
    pods[1:] = [pod("1", "Failed", tracked=False), pod("2", "Succeeded", tracked=False)]
    found = step(one, pods)
    assert set(conditions(found)) == {"FailureTarget"}
    assert found.status["uncountedTerminatedPods"]["failed"] == ["uid-0"]
    one["status"] = found.status
    found = step(one, [pod("0", "Failed", tracked=False), *pods[1:]])
    assert "Failed" in conditions(found)
    assert found.status["failed"] == 2
    late = indexed(activeDeadlineSeconds=1)
    late["status"] = {"startTime": format_time(NOW - timedelta(seconds=9))}
    assert set(conditions(step(late, [pod("0", "Failed", ended=1)]))) == {"FailureTarget"}


def test_a_rule_gives_an_index_up_at_once() -> None:
    one = indexed(podFailurePolicy={"rules": [rule("FailIndex", 42), rule("Ignore", 7)]})
    found = step(one, [pod("0", "Failed", code=42), pod("1", "Failed", code=7, ended=1000), pod("2")])
    assert found.status["failedIndexes"] == "0"
    assert (found.create, found.failures) == ([1], {1: (0, 1)})
    assert job_policies.failure_annotations(found.failures[1]) == {
        job_policies.FAILURES: "0",
        job_policies.IGNORED_FAILURES: "1",
    }


@pytest.mark.parametrize(
    ("rules", "done", "matched"),
    [
        ([{"succeededIndexes": "0,2"}], {0, 2}, 0),
        ([{"succeededIndexes": "0,2"}], {0, 1}, None),
        ([{"succeededCount": 2}], {1, 2}, 0),
        ([{"succeededCount": 2}], {1}, None),
        ([{"succeededIndexes": "0-1", "succeededCount": 1}], {2}, None),
        ([{"succeededCount": 3}, {"succeededIndexes": "0-1", "succeededCount": 1}], {1}, 1),
    ],
)
def test_success_policies(rules: list[Obj], done: set[int], matched: int | None) -> None:
    assert job_policies.success_rule(indexed(successPolicy={"rules": rules}), done) == matched


def test_a_success_policy_ends_the_job_early() -> None:
    one = job(completionMode="Indexed", successPolicy={"rules": [{"succeededIndexes": "0"}]})
    found = step(one, [pod("0", "Succeeded"), pod("1"), pod("2")])
    assert conditions(found) == {"SuccessCriteriaMet": ("SuccessPolicy", "Matched rules at index 0")}
    assert [each["metadata"]["name"] for each in found.delete] == ["1", "2"]
    one["status"] = found.status
    ended = step(one, [pod("0", "Succeeded", tracked=False)])
    assert conditions(ended)["Complete"] == ("SuccessPolicy", "Matched rules at index 0")
