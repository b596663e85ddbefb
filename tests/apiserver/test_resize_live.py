"""pods/resize and pods/ephemeralcontainers: what they change, what they refuse, and the generation that counts it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Obj, pod

pytestmark = pytest.mark.live
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}


@pytest.fixture
def made(ns: Namespace) -> Namespace:
    sized = pod("p")
    sized["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "100m", "memory": "64Mi"},
        "limits": {"cpu": "1", "memory": "128Mi"},
    }
    assert ns.create("pods", sized)["metadata"]["generation"] == 1
    return ns


def resize(ns: Namespace, **resources: Any) -> tuple[int, Obj]:
    patch = {"spec": {"containers": [{"name": "c", "image": "other", "resources": resources}]}}
    answer = ns.http.patch(ns.path("pods", "p/resize"), json=patch, headers=STRATEGIC)
    return answer.status_code, answer.json()


def test_resources_change_and_nothing_else(made: Namespace) -> None:
    status, obj = resize(made, requests={"cpu": "200m"}, limits={"memory": "256Mi"})
    assert status == 200
    container = obj["spec"]["containers"][0]
    assert container["image"] == "i"
    assert container["resources"] == {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
    assert obj["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"limits": {"memory": "65Mi"}}, "memory limits cannot be decreased unless resizePolicy is RestartContainer"),
        ({"limits": {"cpu": None}}, "resource limits cannot be removed"),
        ({"limits": {"example.com/gpu": "1"}}, "only cpu and memory resources are mutable"),
        ({"requests": {"cpu": "1", "memory": "128Mi"}}, "Pod QOS Class may not change as a result of resizing"),
        ({"requests": {"cpu": "2"}}, "must be less than or equal to cpu limit of 1"),
    ],
)
def test_what_a_running_pod_cannot_be_given(made: Namespace, resources: Any, message: str) -> None:
    status, answer = resize(made, **resources)
    assert status == 422, answer
    assert message in answer["message"]


def test_the_generation_counts_the_spec(made: Namespace) -> None:
    def patch(door: str, change: Obj) -> int:
        answer = made.http.patch(made.path("pods", f"p{door}"), json=change, headers=STRATEGIC)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["metadata"]["generation"])

    assert patch("", {"metadata": {"labels": {"a": "b"}}}) == 1
    assert patch("/status", {"status": {"phase": "Running"}}) == 1
    assert patch("", {"spec": {"containers": [{"name": "c", "image": "new"}]}}) == 2
    debug = {"name": "d", "image": "i", "targetContainerName": "c"}
    assert patch("/ephemeralcontainers", {"spec": {"ephemeralContainers": [debug]}}) == 3
    answer = made.http.patch(
        made.path("pods", "p/ephemeralcontainers"),
        json={"spec": {"ephemeralContainers": [{**debug, "image": "other"}]}},
        headers=STRATEGIC,
    )
    assert answer.status_code == 422
    assert 'existing ephemeral containers "d" may not be changed' in answer.json()["message"]
