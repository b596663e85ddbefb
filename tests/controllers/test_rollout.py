"""A Deployment's arithmetic: plain functions, and a rollout played through move by move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api.conditions import find_condition
from kubeling.controllers import rollout, rollout_status

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def deployment(replicas: int = 10, surge: Any = "25%", unavailable: Any = "25%", **spec: Any) -> Obj:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    spec = {
        "replicas": replicas,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "progressDeadlineSeconds": 600,
        **spec,
    }
    return {"metadata": {"name": "d", "namespace": "n", "generation": 1}, "spec": spec, "status": {}}


def replica_set(name: str, size: int, available: int | None = None, created: int = 0, **annotations: str) -> Obj:
    status = {
        "replicas": size,
        "availableReplicas": size if available is None else available,
        "readyReplicas": 0,
        "observedGeneration": 1,
    }
    meta = {"name": name, "generation": 1, "creationTimestamp": f"2026-01-01T00:00:{created:02}Z", "annotations": annotations}
    return {"metadata": meta, "spec": {"replicas": size}, "status": status}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (10, 0, 0, (0, 1)),
        (3, 0, 5, (0, 3)),
        (10, "100%", 0, (10, 0)),
    ],
)
def test_bounds(replicas: int, surge: Any, unavailable: Any, expected: tuple[int, int]) -> None:
    assert rollout.bounds(deployment(replicas, surge, unavailable)) == expected


def play(d: Obj, old: Obj, new: Obj) -> list[str]:
    """Move until nothing moves, every pod becoming available between two moves; shows old/new after each."""
    lines: list[str] = []
    total = rollout.replicas_of(d)
    surge, unavailable = rollout.bounds(d)
    for _ in range(50):
        size = rollout.roll_up(d, [old, new], new)
        if size is not None:
            new["spec"]["replicas"] = size
        else:
            sizes = rollout.roll_down(d, [old, new], new, [old])
            if not sizes:
                break
            old["spec"]["replicas"] = sizes["old"]
            old["status"]["availableReplicas"] = min(old["status"]["availableReplicas"], sizes["old"])
        lines.append(f"{rollout.replicas_of(old)}/{rollout.replicas_of(new)}")
        assert rollout.replicas_of(old) + rollout.replicas_of(new) <= total + surge
        assert rollout.available_of(old) + rollout.available_of(new) >= total - unavailable
        new["status"]["availableReplicas"] = rollout.replicas_of(new)
    return lines


def test_a_rollout_stays_within_its_bounds() -> None:
    assert play(deployment(4, 1, 0), replica_set("old", 4), replica_set("new", 0)) == [
        "4/1", "3/1", "3/2", "2/2", "2/3", "1/3", "1/4", "0/4",
    ]  # fmt: skip
    assert play(deployment(4, 0, 1), replica_set("old", 4), replica_set("new", 0)) == [
        "3/0", "3/1", "2/1", "2/2", "1/2", "1/3", "0/3", "0/4",
    ]  # fmt: skip
    assert play(deployment(10), replica_set("old", 10), replica_set("new", 0))[-1] == "0/10"


def test_what_is_broken_anyway_goes_first() -> None:
    d = deployment(10, 3, 2)
    broken, fine, new = replica_set("broken", 4, 0), replica_set("fine", 5, created=1), replica_set("new", 4, 4, created=2)
    assert rollout.roll_down(d, [broken, fine, new], new, [broken, fine]) == {"broken": 0, "fine": 4}


def test_unavailable_new_pods_hold_up_the_old_ones() -> None:
    d = deployment(10, 3, 2)
    old, new = replica_set("old", 8), replica_set("new", 5, 0)
    assert rollout.roll_down(d, [old, new], new, [old]) == {}


def test_scaling_in_the_middle_is_proportional() -> None:
    limits = {rollout.DESIRED: "10", rollout.MAX: "13"}
    d = deployment(15, 3, 2)
    old, new = replica_set("old", 8, **limits), replica_set("new", 5, 2, created=1, **limits)
    sizes = rollout.scale(d, new, [old])
    assert sum(sizes.values()) == 18
    assert sizes == {"old": 11, "new": 7}
    assert rollout.was_resized(d, [old, new])
    assert rollout.scale(deployment(0), new, [old]) == {"old": 0, "new": 0}


def test_scaling_to_fewer_takes_from_the_largest() -> None:
    limits = {rollout.DESIRED: "10", rollout.MAX: "12"}
    d = deployment(5, 2, 0)
    old, new = replica_set("old", 6, **limits), replica_set("new", 6, 0, created=1, **limits)
    sizes = rollout.scale(d, new, [old])
    assert sum(sizes.values()) == 7
    assert sizes["old"] <= sizes["new"], "of two of a size the older one shrinks first"


def test_a_saturated_new_one_ends_the_old_ones() -> None:
    limits = {rollout.DESIRED: "3", rollout.MAX: "4"}
    new = replica_set("new", 3, created=1, **limits)
    assert rollout.scale(deployment(3), new, [replica_set("old", 1)]) == {"old": 0}


def test_revisions_and_their_history() -> None:
    d = deployment(3)
    d["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "why",
        rollout.REVISION: "3",
        "kubectl.kubernetes.io/last-applied-configuration": "x",
    }
    assert rollout.revision_annotations(d, None, 4) == {"kubernetes.io/change-cause": "why", rollout.REVISION: "4"}
    back = replica_set("back", 0, **{rollout.REVISION: "1", rollout.REVISION_HISTORY: "0"})
    found = rollout.revision_annotations(d, back, 4)
    assert (found[rollout.REVISION], found[rollout.REVISION_HISTORY]) == ("4", "0,1")


def test_history_keeps_what_still_runs() -> None:
    d = deployment(3, revisionHistoryLimit=1)
    old = [replica_set(f"r{each}", 1 if each == 1 else 0, **{rollout.REVISION: str(each)}) for each in (1, 2, 3)]
    assert [each["metadata"]["name"] for each in rollout.history_to_drop(d, old)] == ["r2"]
    assert len(rollout.history_to_drop(deployment(3, revisionHistoryLimit=0), old)) == 2


def test_the_new_one_is_found_by_its_template() -> None:
    d = deployment(1, template={"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}})
    labels = {"a": "b", rollout.HASH_LABEL: "xyz"}
    same = replica_set("same", 1)
    same["spec"]["template"] = {
        "metadata": {"labels": labels, "creationTimestamp": None},
        "spec": {"containers": [{"name": "c", "image": "1"}]},
    }
    other = replica_set("other", 1)
    other["spec"]["template"] = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "2"}]}}
    assert rollout.find_new(d, [other, same]) is same
    assert rollout.find_new(d, [other]) is None


def progress(d: Obj, status: Obj, now: datetime) -> str:
    rollout_status.set_progress(d, status, None, now)
    return str((find_condition(status["conditions"], "Progressing") or {}).get("reason"))


def test_progress_is_reported_and_its_lack_too() -> None:
    d = deployment(2, progressDeadlineSeconds=60)
    sets = [replica_set("new", 2, 0)]
    sets[0]["status"]["replicas"] = 1
    status = rollout_status.numbers(d, sets, sets[0])
    assert progress(d, status, NOW) == "ReplicaSetUpdated"
    d["status"] = status
    again = rollout_status.numbers(d, sets, sets[0])
    assert progress(d, again, NOW + timedelta(seconds=59)) == "ReplicaSetUpdated"
    assert rollout_status.next_look(d, again, NOW + timedelta(seconds=59)) == pytest.approx(2.0)
    assert progress(d, again, NOW + timedelta(seconds=61)) == "ProgressDeadlineExceeded"
    d["status"] = again
    sets[0]["status"].update(replicas=2, availableReplicas=2)
    done = rollout_status.numbers(d, sets, sets[0])
    assert progress(d, done, NOW + timedelta(seconds=90)) == "NewReplicaSetAvailable"
    assert rollout_status.next_look(d, done, NOW) is None
