"""What an autoscaler wants and what it does: the arithmetic, the limits, and the metrics of all kinds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api.resources import PODS, Resource
from kubeling.api.times import format_time
from kubeling.controllers.hpa_limits import Memory, limit
from kubeling.controllers.hpa_proposals import Failed, Proposer, Target
from kubeling.controllers.hpa_replicas import (
    MetricsError,
    Sample,
    Tolerance,
    by_average,
    by_share,
    by_utilization,
    by_value,
    requests_of,
)

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = format_time(NOW - timedelta(hours=1))
SOME = Tolerance()


def pod(name: str, phase: str = "Running", *, ready: bool = True, started: float = 3600, request: str = "1", **meta: Any) -> Obj:
    since = format_time(NOW - timedelta(seconds=started))
    return {
        "metadata": {"name": name, "namespace": "d", **meta},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": request}}}]},
        "status": {
            "phase": phase,
            "startTime": since,
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}],
        },
    }


def samples(*values: int) -> dict[str, Sample]:
    return {f"p{number}": Sample(value, NOW, timedelta(seconds=30)) for number, value in enumerate(values)}


def utilization(pods: list[Obj], values: dict[str, Sample], target: int) -> int:
    return by_utilization(pods, values, requests_of(pods, "cpu"), len(pods), target, "cpu", SOME, NOW).replicas


def some(count: int) -> list[Obj]:
    return [pod(f"p{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("values", "target", "wanted"),
    [
        ((300, 500, 700), 30, 5),  # 50 % of what is requested, where 30 % are aimed at
        ((100, 300, 500), 100, 1),
        ((500, 500, 500), 50, 3),
        ((540, 540, 540), 50, 3),  # within a tenth
        ((560, 560, 560), 50, 4),
    ],
)
def test_as_many_as_bring_the_use_to_the_target(values: tuple[int, ...], target: int, wanted: int) -> None:
    assert utilization(some(3), samples(*values), target) == wanted


def test_what_is_not_known_speaks_against_the_change() -> None:
    # 110 % of 50 %: with the third taken as idle that is no reason to grow.
    assert utilization(some(3), samples(600, 600), 50) == 3
    assert utilization(some(3), samples(1000, 1000), 50) == 4
    # And when it would shrink, the third is taken to use all of its request.
    assert utilization(some(4), samples(100, 100, 100), 50) == 3
    assert utilization(some(2), samples(100), 50) == 2


def test_pods_that_begin_and_pods_that_end_do_not_count() -> None:
    young = [pod("p0"), pod("p1"), pod("p2", ready=False, started=20)]
    assert utilization(young, samples(300, 300, 9000), 30) == 3
    assert utilization(young, samples(900, 900, 9000), 30) == 6, "and it is taken to use nothing where the others want more"
    gone = [pod("p0"), pod("p1", "Failed"), pod("p2", deletionTimestamp=LONG_AGO)]
    assert utilization(gone, samples(500, 9000, 9000), 50) == 3
    with pytest.raises(MetricsError, match="might be unready"):
        utilization([pod("p0", "Pending")], samples(100), 50)


def test_a_container_without_a_request_is_an_error() -> None:
    lacking = pod("p0")
    lacking["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(MetricsError, match="missing request for cpu in container c of Pod p0"):
        requests_of([lacking], "cpu")


def test_values_for_each_pod_and_shared_ones() -> None:
    assert by_average(some(3), samples(20_000, 10_000, 10_000), 3, 5_000, "", SOME, NOW).replicas == 8
    assert by_value(20_000, 10_000, 3, some(3), SOME).replicas == 6
    assert by_value(20_000, 10_000, 0, [], SOME).replicas == 2
    assert by_share(50_000, 10_000, 3, SOME) == (5, 16_667, None)
    assert by_share(31_000, 10_000, 3, SOME).replicas == 3


# -- limits ----------------------------------------------------------------------------------------------------------------------------


def reasons(found: tuple[int, list[Any]]) -> tuple[int, str, str]:
    return found[0], found[1][0].reason, found[1][1].reason


def test_without_rules() -> None:
    memory = Memory()
    assert reasons(limit(memory, None, 0, 3, 100, 1, 50)) == (6, "ReadyForNewScale", "ScaleUpLimit")
    memory = Memory()
    assert reasons(limit(memory, None, 0, 1, 3, 1, 2)) == (2, "ReadyForNewScale", "TooManyReplicas")
    memory = Memory()
    assert limit(memory, None, 0, 8, 8, 1, 10)[0] == 8
    assert reasons(limit(memory, None, 299, 8, 2, 1, 10)) == (8, "ScaleDownStabilized", "DesiredWithinRange")
    assert reasons(limit(memory, None, 301, 8, 2, 3, 10)) == (3, "ReadyForNewScale", "TooFewReplicas")


def rules(**more: Any) -> Obj:
    return {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", **more}


def test_the_rate_of_change_is_limited_over_the_period() -> None:
    pods = {"type": "Pods", "value": 4, "periodSeconds": 60}
    percent = {"type": "Percent", "value": 10, "periodSeconds": 60}
    memory, behavior = Memory(), {"scaleUp": rules(policies=[pods, percent]), "scaleDown": rules(policies=[pods])}
    assert reasons(limit(memory, behavior, 0, 10, 100, 1, 100)) == (14, "ReadyForNewScale", "ScaleUpLimit")
    memory.changed(0, 10, 14)
    assert limit(memory, behavior, 30, 14, 100, 1, 100)[0] == 14, "the four of this minute are used up"
    assert limit(memory, behavior, 61, 14, 100, 1, 100)[0] == 18
    behavior["scaleUp"]["selectPolicy"] = "Min"
    assert limit(Memory(), behavior, 0, 10, 100, 1, 100)[0] == 11
    behavior["scaleUp"]["selectPolicy"] = "Disabled"
    assert limit(Memory(), behavior, 0, 10, 100, 1, 100)[0] == 10
    assert reasons(limit(Memory(), behavior, 0, 10, 1, 1, 100)) == (6, "ReadyForNewScale", "ScaleDownLimit")


def test_both_directions_have_their_windows() -> None:
    fast = [{"type": "Percent", "value": 1000, "periodSeconds": 15}]
    behavior = {"scaleUp": rules(policies=fast, stabilizationWindowSeconds=60), "scaleDown": rules(policies=fast)}
    memory = Memory()
    assert limit(memory, behavior, 0, 5, 5, 1, 50)[0] == 5
    assert reasons(limit(memory, behavior, 10, 5, 20, 1, 50))[:2] == (5, "ScaleUpStabilized")
    assert limit(memory, behavior, 61, 5, 20, 1, 50)[0] == 20


# -- metrics ---------------------------------------------------------------------------------------------------------------------------


class Metrics:
    """Somebody's metrics servers, by path."""

    def __init__(self, answers: Obj) -> None:
        self.answers = answers
        self.asked: list[Any] = []

    async def request(self, method: str, path: str, params: Obj) -> Obj:
        self.asked.append((path, {key: value for key, value in params.items() if value}))
        return {"items": self.answers[path]}

    async def list(self, resource: Resource, namespace: str, *, label_selector: str) -> Obj:
        return await self.request("GET", resource.path(namespace), {"labelSelector": label_selector})


async def find(api_version: str, kind: str) -> Resource:
    group, _, version = api_version.rpartition("/")
    return Resource(group, version, {"Ingress": "ingresses"}[kind], kind)


def proposer(answers: Obj, pods: list[Obj]) -> tuple[Proposer, Metrics]:
    client: Any = Metrics(answers)
    return Proposer(client, find, Target("d", "app=x", pods, len(pods), len(pods)), SOME, NOW), client


def usage(name: str, **containers: str) -> Obj:
    listed = [{"name": each, "usage": {"cpu": value}} for each, value in containers.items()]
    return {"metadata": {"name": name}, "timestamp": format_time(NOW), "window": "30s", "containers": listed}


async def test_resources_of_pods_and_of_one_container() -> None:
    path = "/apis/metrics.k8s.io/v1beta1/namespaces/d/pods"
    used = [usage("p0", c="900m", sidecar="100m"), usage("p1", c="900m", sidecar="100m"), usage("stranger", c="9", sidecar="9")]
    made, client = proposer({path: used}, some(2))
    whole = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    found = await made.propose({"type": "Resource", "resource": whole})
    assert (found.replicas, found.name) == (4, "cpu resource utilization (percentage of request)")
    assert found.status["resource"]["current"] == {"averageUtilization": 100, "averageValue": "1"}
    found = await made.propose({"type": "ContainerResource", "containerResource": whole | {"container": "c"}})
    assert found.status["containerResource"]["current"]["averageUtilization"] == 90
    assert client.asked[0] == (path, {"labelSelector": "app=x"})
    with pytest.raises(Failed, match="container other not present in metrics for pod d/p0") as failed:
        await made.propose({"type": "ContainerResource", "containerResource": whole | {"container": "other"}})
    assert failed.value.reason == "FailedGetContainerResourceMetric"


async def test_pods_objects_and_the_world_outside() -> None:
    custom, external = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/external.metrics.k8s.io/v1beta1"
    of_pods = [
        {"describedObject": {"name": name}, "value": value, "timestamp": format_time(NOW)}
        for name, value in (("p0", "20"), ("p1", "30"))
    ]
    answers = {
        f"{custom}/namespaces/d/pods/*/packets": of_pods,
        f"{custom}/namespaces/d/ingresses.networking.k8s.io/front/hits": [{"value": "2k"}],
        f"{external}/namespaces/d/queue": [{"value": "30"}, {"value": "10"}],
    }
    made, client = proposer(answers, some(2))
    metric = {"name": "packets", "selector": {"matchLabels": {"verb": "GET"}}}
    found = await made.propose({"type": "Pods", "pods": {"metric": metric, "target": {"averageValue": "10"}}})
    assert (found.replicas, found.status["pods"]["current"]) == (5, {"averageValue": "25"})
    assert client.asked[-1][1] == {"labelSelector": "app=x", "metricLabelSelector": "verb=GET"}
    described = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"}
    one = {"metric": {"name": "hits"}, "describedObject": described, "target": {"value": "1k"}}
    found = await made.propose({"type": "Object", "object": one})
    assert (found.replicas, found.name) == (4, "Ingress metric hits")
    found = await made.propose({"type": "External", "external": {"metric": {"name": "queue"}, "target": {"averageValue": "5"}}})
    assert (found.replicas, found.status["external"]["current"]) == (8, {"averageValue": "20"})
    assert PODS.kind == "Pod"


async def test_failures_in_the_words_that_people_search_for() -> None:
    custom, external = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/external.metrics.k8s.io/v1beta1"
    pods, queue = "/apis/metrics.k8s.io/v1beta1/namespaces/d/pods", f"{external}/namespaces/d/queue"
    hits = f"{custom}/namespaces/d/ingresses.networking.k8s.io/front/hits"
    made, client = proposer({pods: [], queue: [], hits: []}, some(1))

    async def told(spec: Obj) -> tuple[str, str]:
        with pytest.raises(Failed) as failed:
            await made.propose(spec)
        return failed.value.message, failed.value.among

    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    words = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"
    assert await told({"type": "Resource", "resource": cpu}) == (words, f"failed to get cpu resource metric value: {words}")
    found = await told({"type": "ContainerResource", "containerResource": cpu | {"container": "c"}})
    assert found[1].startswith("failed to get c container metric value: failed to get cpu utilization: ")
    selector = {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}
    shown = (
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{"
        "LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
    )
    one = {"metric": {"name": "queue", "selector": selector}, "target": {"value": "1"}}
    words = f"unable to get external metric d/queue/{shown}: no metrics returned from external metrics API"
    among = "failed to get queue external metric value: failed to get queue external metric: "
    assert await told({"type": "External", "external": one}) == (words, among + words)
    described = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"}
    of_object = {"metric": {"name": "hits"}, "describedObject": described, "target": {"value": "1k"}}
    message, among = await told({"type": "Object", "object": of_object})
    assert message.startswith("unable to get metric hits: Ingress on d front/no metrics returned from custom metrics API")
    assert among == f"failed to get object metric value: {message}"
    assert await told({"type": "Odd"}) == ('unknown metric source type "Odd"',) * 2
    client.answers[queue] = [{"value": "3"}]
    assert (await made.propose({"type": "External", "external": one})).name == f"external metric queue({shown})"
