"""The workloads of upstream's scheduler_perf as data: the same names, sizes and operations, and the thresholds that upstream's CI holds them to.

Facts from test/integration/scheduler_perf of Kubernetes (names, counts, thresholds in pods/s); the objects are our own with the same requests and rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

Obj = dict[str, Any]

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
_FULL = "requiredDuringSchedulingIgnoredDuringExecution"
_SOFT = "preferredDuringSchedulingIgnoredDuringExecution"


# -- objects -----------------------------------------------------------------------------------------------------------------------------


def node(name: str, *, zone: str = "", tainted: bool = False, pods: int = 110, cpu: str = "4") -> Obj:
    labels = {HOSTNAME: name, **({ZONE: zone} if zone else {})}
    amounts = {"pods": str(pods), "cpu": cpu, "memory": "32Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [{"key": "foo", "effect": "NoSchedule"}]} if tainted else {},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _pod(labels: dict[str, str] | None = None, cpu: str = "100m", memory: str = "500Mi", **spec: Any) -> Obj:
    requests = {"cpu": cpu, "memory": memory}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": labels or {}},
        "spec": {
            "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10", "resources": {"requests": requests}}],
            **spec,
        },
    }


def _near_or_far(kind: str, key: str, color: str, *, soft: bool, by_label: bool = False) -> Obj:
    where: Obj = (
        {"namespaceSelector": {"matchLabels": {"team": "devops"}}} if by_label else {"namespaces": ["sched-1", "sched-0"]}
    )
    term = {"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key, **where}
    rules = {_SOFT: [{"weight": 1, "podAffinityTerm": term}]} if soft else {_FULL: [term]}
    return {"affinity": {kind: rules}}


def _spreading(when: str) -> Obj:
    selector = {"matchLabels": {"color": "blue"}}
    return {
        "topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": when, "labelSelector": selector}]
    }


def _zones(*names: str) -> Obj:
    term = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": list(names)}]}
    return {"affinity": {"nodeAffinity": {_FULL: {"nodeSelectorTerms": [term]}}}}


def _named(name: str) -> Obj:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
    return {"affinity": {"nodeAffinity": {_FULL: {"nodeSelectorTerms": [term]}}}}


_ONE_EACH = {
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": HOSTNAME,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"foo": ""}},
            "nodeTaintsPolicy": "Honor",
        }
    ]
}

#: Template name → pod.
TEMPLATES: dict[str, Callable[[], Obj]] = {
    "default": _pod,
    "anti-affinity": lambda: _pod(
        {"color": "green", "name": "test"}, **_near_or_far("podAntiAffinity", HOSTNAME, "green", soft=False)
    ),
    "affinity": lambda: _pod({"color": "blue"}, **_near_or_far("podAffinity", ZONE, "blue", soft=False)),
    "preferred-affinity": lambda: _pod({"color": "red"}, **_near_or_far("podAffinity", HOSTNAME, "red", soft=True)),
    "preferred-anti-affinity": lambda: _pod(
        {"color": "yellow"}, **_near_or_far("podAntiAffinity", HOSTNAME, "yellow", soft=True)
    ),
    "node-affinity": lambda: _pod(**_zones("zone1", "zone2")),
    "anti-affinity-ns": lambda: _pod(
        {"color": "green"}, **_near_or_far("podAntiAffinity", HOSTNAME, "green", soft=False, by_label=True)
    ),
    "affinity-ns": lambda: _pod({"color": "blue"}, **_near_or_far("podAffinity", ZONE, "blue", soft=False, by_label=True)),
    "preferred-affinity-ns": lambda: _pod(
        {"color": "red"}, **_near_or_far("podAffinity", HOSTNAME, "red", soft=True, by_label=True)
    ),
    "preferred-anti-affinity-ns": lambda: _pod(
        {"color": "yellow"}, **_near_or_far("podAntiAffinity", HOSTNAME, "yellow", soft=True, by_label=True)
    ),
    "spreading": lambda: _pod({"color": "blue"}, **_spreading("DoNotSchedule")),
    "preferred-spreading": lambda: _pod({"color": "blue"}, **_spreading("ScheduleAnyway")),
    "one-each": lambda: _pod({"foo": ""}, **_ONE_EACH),
    "labelled": lambda: _pod({"app": "scheduler-perf"}),
    "daemon": lambda: _pod(cpu="0", memory="0", **_named("scheduler-perf-node")),
    "low-priority": lambda: _pod(cpu="900m", priority=0, terminationGracePeriodSeconds=0),
    "high-priority": lambda: _pod(cpu="3000m", priority=10),
    "high-priority-large-cpu": lambda: _pod(cpu="9", priority=10),
}


# -- operations --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateNodes:
    """`zones` are given out in turn."""

    count: int
    zones: tuple[str, ...] = ()
    tainted: bool = False
    #: One node of this name with room for everything.
    name: str = ""


@dataclass(frozen=True, slots=True)
class CreateNamespaces:
    prefix: str
    count: int
    labelled: bool = False


@dataclass(frozen=True, slots=True)
class CreateService:
    """A Service in `namespace` that selects the template `labelled`."""

    namespace: str


@dataclass(frozen=True, slots=True)
class CreatePods:
    """`collect`: these are the pods whose scheduling is measured. `spread_over`: a number of namespaces `namespace`-0 …"""

    count: int
    template: str = "default"
    namespace: str = "default"
    collect: bool = False
    spread_over: int = 0


@dataclass(frozen=True, slots=True)
class Churn:
    """In the background from here on, every `seconds`: make one of each; "recreate" deletes the last ones first."""

    mode: Literal["create", "recreate"]
    seconds: float
    template: str
    node_and_service: bool = False


Operation = CreateNodes | CreateNamespaces | CreateService | CreatePods | Churn


@dataclass(frozen=True, slots=True)
class Workload:
    """`threshold` in pods/s; 0 where upstream sets none."""

    name: str
    size: str
    threshold: float
    operations: tuple[Operation, ...]

    def shrunk(self, divisor: int) -> Workload:
        """The same with a part of the nodes and pods, and no threshold to compare with."""

        def smaller(each: Operation) -> Operation:
            if isinstance(each, CreateNodes | CreatePods) and not getattr(each, "name", ""):
                return replace(each, count=max(each.count // divisor, 1))
            return each

        return Workload(self.name, f"{self.size} / {divisor}", 0, tuple(smaller(each) for each in self.operations))


def _two_namespaces(
    name: str, size: str, threshold: float, template: str, first: int, then: int, zones: tuple[str, ...] = ()
) -> Workload:
    return Workload(
        name,
        size,
        threshold,
        (
            CreateNodes(5000, zones),
            CreateNamespaces("sched", 2),
            CreatePods(first, template, "sched-0"),
            CreatePods(then, template, "sched-1", collect=True),
        ),
    )


def _by_namespace_labels(
    name: str, size: str, threshold: float, template: str, each: int, then: int, nodes: int = 5000, zones: tuple[str, ...] = ()
) -> Workload:
    return Workload(
        name,
        size,
        threshold,
        (
            CreateNodes(nodes, zones),
            CreateNamespaces("init-ns", 100, labelled=True),
            CreateNamespaces("measure-ns", 1, labelled=True),
            CreatePods(each * 100, template, "init-ns", spread_over=100),
            CreatePods(then, template, "measure-ns-0", collect=True),
        ),
    )


_ONE = ("zone1",)
_MOONS = ("moon-1", "moon-2", "moon-3")

WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "SchedulingBasic", "5000Nodes_10000Pods", 680, (CreateNodes(5000), CreatePods(1000), CreatePods(10000, collect=True))
    ),
    _two_namespaces("SchedulingPodAntiAffinity", "5000Nodes_2000Pods", 60, "anti-affinity", 1000, 2000),
    _two_namespaces("SchedulingPodAffinity", "5000Nodes_5000Pods", 35, "affinity", 5000, 5000, _ONE),
    _two_namespaces("SchedulingPreferredPodAffinity", "5000Nodes_5000Pods", 90, "preferred-affinity", 5000, 5000),
    _two_namespaces("SchedulingPreferredPodAntiAffinity", "5000Nodes_5000Pods", 90, "preferred-anti-affinity", 5000, 5000),
    Workload(
        "SchedulingNodeAffinity",
        "5000Nodes_10000Pods",
        220,
        (CreateNodes(5000, _ONE), CreatePods(5000, "node-affinity"), CreatePods(10000, "node-affinity", collect=True)),
    ),
    Workload(
        "TopologySpreading",
        "5000Nodes_5000Pods",
        460,
        (CreateNodes(5000, _MOONS), CreatePods(5000), CreatePods(5000, "spreading", collect=True)),
    ),
    Workload(
        "PreferredTopologySpreading",
        "5000Nodes_5000Pods",
        340,
        (CreateNodes(5000, _MOONS), CreatePods(5000), CreatePods(5000, "preferred-spreading", collect=True)),
    ),
    Workload(
        "DefaultTopologySpreading",
        "5000Nodes_10000Pods",
        160,
        (
            CreateNodes(5000, _MOONS),
            CreateNamespaces("service-ns", 1),
            CreateService("service-ns-0"),
            CreatePods(5000),
            CreatePods(10000, "labelled", "service-ns-0", collect=True),
        ),
    ),
    Workload(
        "SchedulingWithNodeInclusionPolicy",
        "5000Nodes",
        270,
        (CreateNodes(4000), CreateNodes(1000, tainted=True), CreatePods(4000, "one-each", collect=True)),
    ),
    Workload(
        "MixedSchedulingBasePod",
        "5000Nodes_5000Pods",
        140,
        (
            CreateNodes(5000, _ONE),
            CreateNamespaces("sched", 1),
            CreatePods(2000, "default", "sched-0"),
            CreatePods(2000, "affinity", "sched-0"),
            CreatePods(2000, "anti-affinity", "sched-0"),
            CreatePods(2000, "preferred-affinity", "sched-0"),
            CreatePods(2000, "preferred-anti-affinity", "sched-0"),
            CreatePods(5000, collect=True),
        ),
    ),
    _by_namespace_labels(
        "SchedulingRequiredPodAntiAffinityWithNSSelector", "5000Nodes_2000Pods", 24, "anti-affinity-ns", 40, 2000, nodes=6000
    ),
    _by_namespace_labels(
        "SchedulingPreferredAntiAffinityWithNSSelector", "5000Nodes_2000Pods", 55, "preferred-anti-affinity-ns", 40, 2000
    ),
    _by_namespace_labels(
        "SchedulingRequiredPodAffinityWithNSSelector", "5000Nodes_2000Pods", 35, "affinity-ns", 50, 2000, zones=_ONE
    ),
    _by_namespace_labels(
        "SchedulingPreferredAffinityWithNSSelector", "5000Nodes_5000Pods", 90, "preferred-affinity-ns", 50, 5000
    ),
    Workload(
        "PreemptionAsync",
        "5000Nodes",
        570,
        (
            CreateNodes(5000),
            CreatePods(20000, "low-priority"),
            Churn("create", 0.2, "high-priority"),
            CreatePods(5000, collect=True),
        ),
    ),
    Workload(
        "Unschedulable",
        "5kNodes/100Init/10kPods",
        590,
        (CreateNodes(5000), CreatePods(100), Churn("create", 0.2, "high-priority-large-cpu"), CreatePods(10000, collect=True)),
    ),
    Workload(
        "SchedulingWithMixedChurn",
        "5000Nodes_10000Pods",
        710,
        (
            CreateNodes(5000),
            Churn("recreate", 1.0, "high-priority-large-cpu", node_and_service=True),
            CreatePods(10000, collect=True),
        ),
    ),
    Workload(
        "SchedulingDaemonset",
        "15000Nodes",
        1100,
        (CreateNodes(1, name="scheduler-perf-node"), CreateNodes(15000), CreatePods(30000, "daemon", collect=True)),
    ),
)
