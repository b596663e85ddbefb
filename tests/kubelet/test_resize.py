"""In-place resize: what is given, what is pending and why, what survives a new kubelet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeling.kubelet import checkpoint
from kubeling.kubelet.actions import PodActions
from kubeling.kubelet.allocation import Allocations, differs, fits
from kubeling.kubelet.podstate import PodRuntime
from kubeling.kubelet.resizing import add_restarts, outstanding

from .builders import container, pod, record, runtime

NODE = {"status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}


def asks(cpu: str, uid: str = "u1", **more: Any) -> dict[str, Any]:
    made = pod(container("web", resources={"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}, **more))
    made["metadata"]["uid"] = uid
    return made


def runs(cpu: str) -> PodRuntime:
    resources = json.dumps({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}})
    return runtime(replace(record("web"), resources=resources))


def test_why_a_wish_is_not_granted() -> None:
    assert fits(asks("1"), [asks("1", "u2")], NODE) is None
    assert fits(asks("3"), [], NODE) == (
        "Infeasible",
        "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000",
    )
    assert fits(asks("1500m"), [asks("1", "u2")], NODE) == (
        "Deferred",
        "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000",
    )
    static = asks("1")
    static["metadata"]["annotations"] = {"kubernetes.io/config.source": "file"}
    assert (fits(static, [], NODE) or ("",))[0] == "Infeasible"


def test_a_pod_has_what_it_was_given_until_its_wish_fits(tmp_path: Path) -> None:
    path = tmp_path / "state"
    given = Allocations(path)
    given.admit(asks("1"), PodRuntime("u1"))
    assert not path.exists(), "a pod that was never resized is not written down"
    other = asks("1", "u2")
    assert (given.consider(asks("1500m"), [other], NODE) or ("",))[0] == "Deferred"
    assert given.deferred == {"u1"}
    assert given.effective(asks("1500m"))["spec"] == asks("1")["spec"]
    assert given.consider(asks("1500m"), [], NODE) is None
    assert not given.deferred
    assert given.effective(asks("1500m"))["spec"] == asks("1500m")["spec"]
    # Another wish, and then a new kubelet: it counts what was given.
    assert given.consider(asks("9"), [], NODE) is not None
    again = Allocations(path)
    again.admit(asks("9"), runs("1"))
    assert again.effective(asks("9"))["spec"] == asks("1500m")["spec"]
    assert again.actuated(runs("1")) == {"web": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}
    again.actuate("u1", "web-0", {"requests": {"cpu": "1500m"}})
    assert Allocations(path).actuated(runs("1")) == {"web": {"requests": {"cpu": "1500m"}}}
    again.forget("u1")
    assert Allocations(path).effective(asks("9"))["spec"] == asks("9")["spec"]


def test_without_a_record_a_pod_has_what_its_containers_were_started_with(tmp_path: Path) -> None:
    fresh = Allocations(tmp_path / "state")
    fresh.admit(asks("2"), runs("1"))
    assert fresh.effective(asks("2"))["spec"] == asks("1")["spec"]


def test_update_or_restart() -> None:
    wanted = asks("2", resizePolicy=[{"resourceName": "memory", "restartPolicy": "RestartContainer"}])
    now = runs("1")
    actuated: dict[str, Any] = {"web": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}
    waiting = outstanding(wanted, now, actuated)
    actions = PodActions()
    assert [each[0]["name"] for each in add_restarts(wanted, waiting, actuated, actions)] == ["web"]
    assert actions.nothing
    wanted["spec"]["containers"][0]["resources"]["limits"]["memory"] = "1Gi"
    assert differs(wanted["spec"]["containers"][0]["resources"], actuated["web"]) == ["cpu", "memory"]
    assert add_restarts(wanted, outstanding(wanted, now, actuated), actuated, actions) == []
    assert [each.record.id for each in actions.kill] == ["web-0"]
    assert [each.kind for each in actions.start] == ["regular"]


@pytest.mark.parametrize("torn", [b"", b"{", b'{"checksum": 1, "data": {}}', b"[]", b'{"data": 1}', b"\xff"])
def test_a_torn_checkpoint_is_put_aside(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "c"
    checkpoint.save(path, {"a": [1]})
    assert checkpoint.load(path) == {"a": [1]}
    path.write_bytes(torn)
    assert checkpoint.load(path) is None
    assert (tmp_path / "c.broken").read_bytes() == torn
    assert checkpoint.load(path) is None
