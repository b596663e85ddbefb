"""Random clusters and pods from seeds, for comparing the two forms of the scheduler."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from kubeling.api import labels
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.config import Profile, build
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.handle import Handle

Obj = dict[str, Any]

SPACES = {"default": {"team": "a"}, "other": {"team": "b"}, "third": {"team": "a", "env": "x"}}
ZONES = ["z1", "z2", "z3"]
APPS = ["web", "db", "cache"]
TAINTS = [
    {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
    {"key": "slow", "effect": "PreferNoSchedule"},
    {"key": "old", "value": "1", "effect": "PreferNoSchedule"},
    {"key": "bad", "effect": "NoExecute"},
]
IMAGES = ["registry.test/a:1", "registry.test/b:latest", "plain:latest"]


def random_node(rand: random.Random, name: str) -> Obj:
    labelled: dict[str, str] = {"kubernetes.io/hostname": name}
    if rand.random() < 0.85:
        labelled["topology.kubernetes.io/zone"] = rand.choice(ZONES)
    if rand.random() < 0.5:
        labelled["disk"] = rand.choice(["ssd", "hdd"])
    if rand.random() < 0.4:
        labelled["size"] = str(rand.randrange(10))
    allocatable = {
        "cpu": rand.choice(["1", "2", "4", "3900m"]),
        "memory": rand.choice(["1Gi", "2Gi", "4Gi", "3999Mi"]),
        "pods": str(rand.choice([3, 8, 110])),
    }
    if rand.random() < 0.3:
        allocatable["example.com/gpu"] = str(rand.randrange(3))
    if rand.random() < 0.5:
        allocatable["ephemeral-storage"] = "10Gi"
    images = [{"names": [image], "sizeBytes": rand.randrange(10, 900) * 2**20} for image in IMAGES if rand.random() < 0.3]
    spec: Obj = {}
    if rand.random() < 0.3:
        spec["taints"] = rand.sample(TAINTS, rand.choice([1, 1, 2]))
    if rand.random() < 0.08:
        spec["unschedulable"] = True
    return {
        "metadata": {"name": name, "labels": labelled},
        "spec": spec,
        "status": {"allocatable": allocatable, "images": images},
    }


def _selector(rand: random.Random) -> Obj | None:
    kind = rand.random()
    if kind < 0.6:
        return {"matchLabels": {"app": rand.choice(APPS)}}
    if kind < 0.8:
        return {"matchExpressions": [{"key": "app", "operator": rand.choice(["In", "NotIn"]), "values": rand.sample(APPS, 2)}]}
    if kind < 0.9:
        return {"matchExpressions": [{"key": "tier", "operator": rand.choice(["Exists", "DoesNotExist"])}]}
    return {} if kind < 0.97 else None


def _key(rand: random.Random) -> str:
    return rand.choice(["kubernetes.io/hostname", "topology.kubernetes.io/zone", "topology.kubernetes.io/zone", "disk"])


def _term(rand: random.Random) -> Obj:
    term: Obj = {"labelSelector": _selector(rand), "topologyKey": _key(rand)}
    if rand.random() < 0.2:
        term["namespaces"] = rand.sample(list(SPACES), rand.choice([1, 2]))
    if rand.random() < 0.2:
        term["namespaceSelector"] = rand.choice([{}, {"matchLabels": {"team": "a"}}])
    if rand.random() < 0.15:
        term[rand.choice(["matchLabelKeys", "mismatchLabelKeys"])] = ["hash"]
    return term


def _pod_affinity(rand: random.Random) -> Obj:
    found: Obj = {}
    if rand.random() < 0.6:
        found["requiredDuringSchedulingIgnoredDuringExecution"] = [_term(rand) for _ in range(rand.choice([1, 1, 2]))]
    if rand.random() < 0.6:
        found["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": rand.randrange(1, 100), "podAffinityTerm": _term(rand)} for _ in range(rand.choice([1, 2]))
        ]
    return found


def _node_term(rand: random.Random) -> Obj:
    choices: list[Obj] = [
        {"key": "disk", "operator": "In", "values": ["ssd"]},
        {"key": "disk", "operator": "NotIn", "values": ["ssd"]},
        {"key": "size", "operator": rand.choice(["Gt", "Lt"]), "values": [str(rand.randrange(10))]},
        {"key": "topology.kubernetes.io/zone", "operator": rand.choice(["Exists", "DoesNotExist"])},
        {"key": "topology.kubernetes.io/zone", "operator": "In", "values": rand.sample(ZONES, 2)},
    ]
    return {"matchExpressions": rand.sample(choices, rand.choice([1, 1, 2]))}


def _node_affinity(rand: random.Random) -> Obj:
    found: Obj = {}
    if rand.random() < 0.6:
        terms = [_node_term(rand) for _ in range(rand.choice([1, 2]))]
        if rand.random() < 0.2:
            names = [f"n{rand.randrange(40)}" for _ in range(rand.choice([1, 3, 8]))]
            terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": names}]}]
        found["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    if rand.random() < 0.6:
        found["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": rand.randrange(1, 100), "preference": _node_term(rand)} for _ in range(2)
        ]
    return found


def _spreading(rand: random.Random) -> list[Obj]:
    found = []
    for _ in range(rand.choice([1, 1, 2])):
        each: Obj = {
            "maxSkew": rand.choice([1, 1, 2, 3]),
            "topologyKey": _key(rand),
            "whenUnsatisfiable": rand.choice(["DoNotSchedule", "ScheduleAnyway"]),
            "labelSelector": _selector(rand),
        }
        if rand.random() < 0.2 and each["whenUnsatisfiable"] == "DoNotSchedule":
            each["minDomains"] = rand.choice([2, 3, 5])
        if rand.random() < 0.3:
            each["nodeAffinityPolicy"] = rand.choice(["Honor", "Ignore"])
        if rand.random() < 0.3:
            each["nodeTaintsPolicy"] = rand.choice(["Honor", "Ignore"])
        if rand.random() < 0.2:
            each["matchLabelKeys"] = ["hash"]
        found.append(each)
    return found


def random_pod(rand: random.Random, name: str) -> Obj:
    requests: Obj = {}
    if rand.random() < 0.8:
        requests["cpu"] = rand.choice(["100m", "250m", "900m", "0"])
    if rand.random() < 0.7:
        requests["memory"] = rand.choice(["64Mi", "300Mi", "1Gi"])
    if rand.random() < 0.15:
        requests["example.com/gpu"] = "1"
    if rand.random() < 0.1:
        requests["ephemeral-storage"] = "3Gi"
    container: Obj = {"name": "c", "image": rand.choice([*IMAGES, "plain", "other"]), "resources": {"requests": requests}}
    if rand.random() < 0.15:
        container["ports"] = [{"containerPort": 80, "hostPort": rand.choice([80, 81]), "protocol": "TCP"}]
        if rand.random() < 0.4:
            container["ports"][0]["hostIP"] = rand.choice(["127.0.0.1", "127.0.0.2"])
    spec: Obj = {"containers": [container], "priority": rand.choice([0, 0, 5, 10])}
    if rand.random() < 0.15:
        spec["initContainers"] = [{"name": "i", "image": "plain", "resources": {"requests": {"cpu": "500m"}}}]
    if rand.random() < 0.4:
        spec["tolerations"] = rand.sample(
            [
                {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
                {"key": "slow", "operator": "Exists"},
                {"operator": "Exists", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"},
            ],
            rand.choice([1, 2]),
        )
    if rand.random() < 0.15:
        spec["nodeSelector"] = {"disk": rand.choice(["ssd", "hdd", "none"])}
    wanted: Obj = {}
    if rand.random() < 0.3:
        wanted["nodeAffinity"] = _node_affinity(rand)
    if rand.random() < 0.3:
        wanted["podAffinity"] = _pod_affinity(rand)
    if rand.random() < 0.3:
        wanted["podAntiAffinity"] = _pod_affinity(rand)
    if wanted:
        spec["affinity"] = wanted
    if rand.random() < 0.35:
        spec["topologySpreadConstraints"] = _spreading(rand)
    labelled = {"app": rand.choice(APPS), "hash": rand.choice(["h1", "h2"])}
    if rand.random() < 0.3:
        labelled["tier"] = "x"
    namespace = rand.choice(["default", "default", "other", "third"])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labelled},
        "spec": spec,
        "status": {"startTime": f"2026-01-01T00:00:{rand.randrange(60):02}Z"},
    }


def default_selector(pod: Obj) -> labels.Selector | None:
    """As if there were a Service for the app `web`."""
    return labels.from_labels({"app": "web"}) if pod["metadata"]["labels"].get("app") == "web" else None


def make(vector_from: int | None, rand: Callable[[], float], budgets: list[Obj] | None = None) -> tuple[Cache, Framework]:
    """A cache and the default profile."""
    framework = build(
        Profile(),
        Handle(
            namespace_labels=lambda: SPACES,
            default_selector=default_selector,
            get_claim=lambda _namespace, _name: None,
            get_volume=lambda _name: None,
            get_class=lambda _name: None,
            budgets=lambda _namespace: budgets or [],
            rand=rand,
        ),
    )
    return Cache(vector_from=vector_from, spaces=lambda: SPACES), framework
