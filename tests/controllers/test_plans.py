"""The other controllers' decisions, as plain functions."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api.resources import CONFIG_MAPS, PODS
from kubeling.api.times import format_time
from kubeling.client.informer import Change
from kubeling.controllers import disruption, job_indexes, job_plan, job_policies, node_health, replicas_plan, slices
from kubeling.controllers.children import judge
from kubeling.controllers.context import Options
from kubeling.controllers.daemonset_plan import daemon_pod, place, target_node, update
from kubeling.controllers.endpoints import plan_endpoints
from kubeling.controllers.endpoints_plan import target_port
from kubeling.controllers.endpointslice import plan_slices
from kubeling.controllers.gc_graph import Graph
from kubeling.controllers.kubernetes_service import endpoints_body, slice_bodies
from kubeling.controllers.node_ipam import allocate, ranges_of
from kubeling.controllers.podgc import finished_too_many, why_collect
from kubeling.controllers.registry import CONTROLLERS, chosen
from kubeling.controllers.statefulset_plan import claim_owners
from kubeling.controllers.taint_eviction import seconds_to_stay
from kubeling.controllers.topology import Zones

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> str:
    return format_time(NOW - timedelta(seconds=seconds))


def pod(name: str, phase: str = "Running", ready: bool = True, node: str = "n", age: int = 100, **meta: Any) -> Obj:
    ready_since = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": ago(age)}
    return {
        "metadata": {"name": name, "namespace": "d", "uid": f"uid-{name}", "creationTimestamp": ago(age), **meta},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {"phase": phase, "conditions": [ready_since]},
    }


# -- ReplicaSet ------------------------------------------------------------------------------------------------------------------------


def test_the_cheapest_pods_go_first() -> None:
    fine = pod("fine")
    candidates = [
        fine,
        pod("young", age=3),
        pod("unready", ready=False),
        pod("pending", "Pending", ready=False),
        pod("nowhere", "Pending", ready=False, node=""),
        pod("cheap", annotations={replicas_plan.DELETION_COST: "-5"}),
    ]
    order = [each["metadata"]["name"] for each in replicas_plan.choose_victims(candidates, candidates, 5, NOW)]
    assert order == ["nowhere", "pending", "unready", "cheap", "young"]
    crowded = [pod("a", node="one"), pod("b", node="two"), pod("c", node="two")]
    assert replicas_plan.choose_victims(crowded, crowded, 1, NOW)[0]["metadata"]["name"] in ("b", "c")


def test_adoption_and_release() -> None:
    from kubeling.api.labels import from_labels

    owner = {"metadata": {"name": "rs", "uid": "me"}}
    selector = from_labels({"a": "b"})
    mine = pod("mine", labels={"a": "b"}, ownerReferences=[{"uid": "me", "controller": True}])
    strayed = pod("strayed", labels={}, ownerReferences=[{"uid": "me", "controller": True}])
    orphan, other = (
        pod("orphan", labels={"a": "b"}),
        pod("other", labels={"a": "b"}, ownerReferences=[{"uid": "x", "controller": True}]),
    )
    leaving = pod("leaving", labels={"a": "b"}, deletionTimestamp=ago(1))
    family = judge(owner, selector, [mine, strayed, orphan, other, leaving])
    assert (family.mine, family.adopt, family.release) == ([mine], [orphan], [strayed])
    owner["metadata"]["deletionTimestamp"] = ago(1)
    family = judge(owner, selector, [mine, strayed, orphan])
    assert (family.mine, family.adopt, family.release) == ([mine], [], [])


# -- EndpointSlices --------------------------------------------------------------------------------------------------------------------

PORTS: slices.Ports = (("http", "TCP", 80, None),)


def endpoint(number: int, ready: bool = True) -> Obj:
    return {
        "addresses": [f"10.0.{number // 250}.{number % 250}"],
        "conditions": {"ready": ready},
        "targetRef": {"uid": f"u{number}"},
    }


def apply(have: dict[str, Obj], changes: slices.Changes) -> dict[str, Obj]:
    after = dict(have)
    for each in changes.delete:
        del after[each["metadata"]["name"]]
    for each in [*changes.create, *changes.update]:
        assert (each["metadata"]["name"] in after) == (each in changes.update)
        after[each["metadata"]["name"]] = each
    return after


def pack(have: dict[str, Obj], numbers: list[Obj], limit: int = 100) -> slices.Changes:
    return slices.pack(
        "s-",
        "uid",
        {"l": "v"},
        {"namespace": "d"},
        {("IPv4", PORTS): numbers},
        list(have.values()),
        limit=limit,
        keep_empty={"IPv4": ()},
    )


def test_slices_hold_a_hundred_and_change_little() -> None:
    have = apply({}, pack({}, [endpoint(each) for each in range(250)]))
    assert sorted(len(each["endpoints"]) for each in have.values()) == [50, 100, 100]
    assert pack(have, [endpoint(each) for each in range(250)]) == slices.Changes(), "nothing changed, nothing is written"
    changes = pack(have, [endpoint(each) for each in range(251)])
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)
    changes = pack(have, [endpoint(each, ready=each != 7) for each in range(250)])
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)
    changes = pack(have, [])
    assert len(apply(have, changes)) == 1, "one empty slice stays, so that it is known that there are none"
    assert [each.get("endpoints") for each in pack({}, []).create] == [[]]


def test_each_family_of_a_service_has_slices_of_its_own() -> None:
    service = {
        "metadata": {"name": "s", "namespace": "d", "uid": "u"},
        "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80}]},
    }
    both, old = pod("both"), pod("old")
    both["status"] |= {"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]}
    old["status"] |= {"podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}]}
    have = apply({}, plan_slices(service, [both, old], [], Zones()))
    found = {each["addressType"]: sorted(one["addresses"][0] for one in each["endpoints"]) for each in have.values()}
    assert found == {"IPv4": ["10.1.0.1", "10.1.0.2"], "IPv6": ["fd00::1"]}
    service["spec"]["ipFamilies"] = ["IPv4"]
    changes = plan_slices(service, [both, old], list(have.values()), Zones())
    assert [each["addressType"] for each in changes.delete] == ["IPv6"]
    assert not changes.create + changes.update
    service["spec"]["ipFamilies"] = ["IPv6", "IPv4"]
    assert not plan_slices(service, [both, old], list(have.values()), Zones()).update, "their order is of no account to slices"


def test_a_headless_service_needs_no_ports() -> None:
    service = {"metadata": {"name": "s", "namespace": "d", "uid": "u"}, "spec": {"clusterIP": "None", "ipFamilies": ["IPv4"]}}
    one = pod("one")
    one["status"] |= {"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]}
    (made,) = apply({}, plan_slices(service, [one], [], Zones())).values()
    assert (made["ports"], made["endpoints"][0]["addresses"]) == ([], ["10.1.0.1"])
    found = plan_endpoints(service, [one], None)
    assert found is not None
    assert [set(each) for each in found["subsets"]] == [{"addresses"}]


def test_two_controllers_make_slices_of_the_same_names() -> None:
    numbers = [endpoint(each) for each in range(150)]
    first, second = pack({}, numbers), pack({}, numbers)
    assert [each["metadata"]["name"] for each in first.create] == [each["metadata"]["name"] for each in second.create]


def test_slices_are_right_under_any_churn() -> None:
    dice = random.Random(3)
    have: dict[str, Obj] = {}
    for _ in range(300):
        numbers = [endpoint(each, dice.random() < 0.8) for each in dice.sample(range(40), dice.randint(0, 40))]
        have = apply(have, pack(have, numbers, limit=7))
        shown = [each for one in have.values() for each in one["endpoints"]]
        assert sorted(map(repr, shown)) == sorted(map(repr, numbers))
        assert all(len(each["endpoints"]) <= 7 for each in have.values())
        assert pack(have, numbers, limit=7) == slices.Changes()


def test_target_ports() -> None:
    found = pod("p")
    found["spec"]["containers"][0]["ports"] = [
        {"name": "web", "containerPort": 8080},
        {"name": "web", "containerPort": 53, "protocol": "UDP"},
    ]
    assert target_port({"port": 80, "targetPort": "web"}, found) == 8080
    assert target_port({"port": 80, "targetPort": "web", "protocol": "UDP"}, found) == 53
    assert target_port({"port": 80, "targetPort": "none"}, found) is None
    assert target_port({"port": 80}, found) == 80
    assert target_port({"port": 80, "targetPort": 81}, found) == 81


# -- nodes -----------------------------------------------------------------------------------------------------------------------------


def node(name: str, ready: str = "True", **spec: Any) -> Obj:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def test_taints_follow_conditions() -> None:
    foreign = {"key": "mine", "effect": "NoSchedule"}
    lost = node("a", "Unknown", taints=[foreign])
    found = node_health.wanted_taints(lost, NOW, evict=True)
    assert [(each["key"].rpartition("/")[2], each["effect"]) for each in found] == [
        ("mine", "NoSchedule"),
        ("unreachable", "NoSchedule"),
        ("unreachable", "NoExecute"),
    ]
    lost["spec"]["taints"] = found
    assert node_health.wanted_taints(lost, NOW, evict=False) == found, "once marked it stays marked"
    back = node("a", taints=found, unschedulable=True)
    assert [each["key"].rpartition("/")[2] for each in node_health.wanted_taints(back, NOW, evict=True)] == [
        "mine",
        "unschedulable",
    ]


def test_eviction_slows_down_where_much_is_lost() -> None:
    options = Options()
    assert node_health.eviction_rate([node("a", "Unknown"), node("b")], options) == 0.1
    small = [node(str(each), "Unknown" if each < 6 else "True") for each in range(10)]
    assert node_health.eviction_rate(small, options) == 0
    large = [node(str(each), "Unknown" if each < 60 else "True") for each in range(100)]
    assert node_health.eviction_rate(large, options) == 0.01
    assert node_health.all_lost([node("a", "False"), node("b", "Unknown")])


def test_how_long_a_pod_may_stay() -> None:
    tainted = node("a", taints=[{"key": "k", "effect": "NoExecute", "timeAdded": ago(100)}])
    found = pod("p")
    assert seconds_to_stay(found, tainted, NOW) == 0
    found["spec"]["tolerations"] = [{"key": "k", "operator": "Exists", "tolerationSeconds": 300}]
    assert seconds_to_stay(found, tainted, NOW) == 200
    found["spec"]["tolerations"] = [{"operator": "Exists"}]
    assert seconds_to_stay(found, tainted, NOW) is None
    assert seconds_to_stay(pod("q"), node("b"), NOW) is None


def test_blocks_are_given_once_and_again_after_a_node_has_gone() -> None:
    nodes = [node(each) for each in "abc"]
    ranges = ranges_of("10.0.0.0/22")
    record, tell, without = allocate({}, nodes, ranges)
    assert tell == {"a": ["10.0.0.0/24"], "b": ["10.0.1.0/24"], "c": ["10.0.2.0/24"]}
    assert without == []
    assert allocate(record, nodes, ranges)[1] == tell, "after a crash the record says what each was to get"
    nodes[0]["spec"]["podCIDR"] = "10.0.3.0/24"
    record, tell, without = allocate(record, [nodes[0], nodes[2], node("d"), node("e")], ranges)
    assert tell == {"c": ["10.0.2.0/24"], "d": ["10.0.0.0/24"], "e": ["10.0.1.0/24"]}
    assert allocate(record, [nodes[0], nodes[2], node("d"), node("e"), node("f")], ranges)[2] == ["f"]


def test_nodes_have_a_block_of_each_family_or_none() -> None:
    ranges = ranges_of("fd00:10:244::/63,10.0.0.0/22")
    record, tell, without = allocate({}, [node("a"), node("b"), node("c")], ranges)
    assert tell == {"a": ["fd00:10:244::/64", "10.0.0.0/24"], "b": ["fd00:10:244:1::/64", "10.0.1.0/24"]}
    assert without == ["c"], "there is no third block of IPv6"
    assert set(record) == {"fd00:10:244::/64", "10.0.0.0/24", "fd00:10:244:1::/64", "10.0.1.0/24"}
    # A node of the time when the cluster had one family stays as it is, for what it has may not change.
    old = node("old")
    old["spec"] = {"podCIDR": "10.0.3.0/24", "podCIDRs": ["10.0.3.0/24"]}
    assert allocate({}, [old, node("a")], ranges)[1] == {"a": ["fd00:10:244::/64", "10.0.0.0/24"]}


@pytest.mark.parametrize(
    "flags", [("10.0.0.0/16,10.1.0.0/16",), ("10.0.0.0/16,fd00::/56", 26), ("10.0.0.0/25",), ("fd00::/32",), ("nonsense",)]
)
def test_ranges_that_make_no_sense_are_refused(flags: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"mask|range|prefix|appear to be"):
        ranges_of(*flags)


def test_which_pods_are_garbage() -> None:
    assert why_collect(pod("p"), None) == "orphaned"
    assert why_collect(pod("p"), node("n", "Unknown")) is None
    assert why_collect(pod("p", node="", deletionTimestamp=ago(1)), None) == "unscheduled"
    out = node("n", "Unknown", taints=[{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}])
    assert why_collect(pod("p", deletionTimestamp=ago(1)), out) == "out of service"
    assert why_collect(pod("p"), out) is None
    finished = [pod(str(each), "Succeeded", age=each) for each in range(5)]
    assert [each["metadata"]["name"] for each in finished_too_many([*finished, pod("r")], 3)] == ["4", "3"]


# -- garbage collector -----------------------------------------------------------------------------------------------------------------


def owned(uid: str, *owners: str, **meta: Any) -> Obj:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": each, "uid": each, "blockOwnerDeletion": True} for each in owners
    ]
    return {"metadata": {"name": uid, "namespace": "d", "uid": uid, "ownerReferences": references, **meta}}


def add(graph: Graph, obj: Obj) -> set[str]:
    return graph.observe(CONFIG_MAPS, Change("add", None, obj)).check


def test_an_owner_that_was_not_seen_is_asked_about() -> None:
    graph = Graph()
    assert add(graph, owned("child", "root")) == {"root"}
    assert graph.nodes["root"].virtual
    assert add(graph, owned("root")) == set(), "it was only late"
    assert not graph.nodes["root"].virtual
    work = graph.observe(CONFIG_MAPS, Change("delete", owned("root"), None))
    assert work.check == {"child"}
    assert add(graph, owned("late", "root")) == {"late"}, "a uid never comes back"


def test_absence_at_one_place_is_no_absence_elsewhere() -> None:
    graph = Graph()
    stray = owned("stray", "root", namespace="elsewhere")
    add(graph, stray)
    add(graph, owned("child", "root"))
    work = graph.vanished("root")  # Asked in the namespace of the stray.
    assert work.check == {"stray", "child"}
    reference = owned("child", "root")["metadata"]["ownerReferences"][0]
    assert not graph.absent.holds(reference, "d")
    graph.absent.add_at(reference, "elsewhere")
    assert graph.absent.holds(reference, "elsewhere")
    assert not graph.absent.holds(reference, "d")


def test_foreground_deletion_wakes_dependents_and_then_the_owner() -> None:
    graph = Graph()
    add(graph, owned("root"))
    add(graph, owned("child", "root"))
    dying = owned("root", deletionTimestamp="t", finalizers=["foregroundDeletion"])
    assert graph.observe(CONFIG_MAPS, Change("update", owned("root"), dying)).check == {"root", "child"}
    assert graph.observe(CONFIG_MAPS, Change("delete", owned("child", "root"), None)).check == {"root"}


def test_the_graph_forgets() -> None:
    graph = Graph()
    add(graph, owned("child", "root"))
    graph.observe(CONFIG_MAPS, Change("delete", owned("child", "root"), None))
    assert graph.nodes == {}
    orphaning = owned("root", deletionTimestamp="t", finalizers=["orphan"])
    add(graph, owned("root"))
    assert graph.observe(PODS, Change("update", owned("root"), orphaning)).orphan == {"root"}


# -- DaemonSet -------------------------------------------------------------------------------------------------------------------------


def daemon_set(**spec: Any) -> Obj:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}
    return {"metadata": {"name": "ds", "namespace": "d", "uid": "ds", "generation": 1}, "spec": {"template": template, **spec}}


def test_a_daemon_pod_is_pinned_and_its_affinity_kept() -> None:
    made = daemon_set()
    term = {"matchExpressions": [{"key": "k", "operator": "Exists"}]}
    made["spec"]["template"]["spec"]["affinity"] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    found = daemon_pod(made, "n1", "ds-x", "h")
    assert target_node(found) == "n1"
    terms = found["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"] == term["matchExpressions"]
    assert "matchFields" not in term, "the template is not touched"


def daemon(name: str, on: str, hashed: str, ready: bool = True) -> Obj:
    return pod(name, ready=ready, node=on, labels={"controller-revision-hash": hashed})


def up(found: Obj) -> bool:
    return bool(found["status"]["conditions"][0]["status"] == "True")


def names(found: list[Obj]) -> list[str]:
    return [each["metadata"]["name"] for each in found]


def test_daemons_are_placed_and_doubles_go() -> None:
    nodes = [
        node("a"),
        node("b"),
        node("c", taints=[{"key": "k", "effect": "NoExecute"}]),
        node("e", taints=[{"key": "k", "effect": "NoSchedule"}]),
    ]
    here = {"b": [daemon("b1", "b", "h"), daemon("b2", "b", "h")], "c": [daemon("c1", "c", "h")], "e": [daemon("e1", "e", "h")]}
    plan = place(daemon_set(), nodes, here, "h", up)
    assert plan.create == ["a"]
    assert names(plan.delete) == ["b2", "c1"], "who runs under a NoSchedule taint stays"


def test_daemons_are_updated_one_at_a_time_broken_ones_at_once() -> None:
    nodes = [node(each) for each in "abcd"]
    here = {each: [daemon(each, each, "old", ready=each != "d")] for each in "abcd"}
    assert names(update(daemon_set(), nodes, here, "new", up).delete) == ["d"]
    here["d"] = [daemon("d", "d", "new")]
    assert names(update(daemon_set(), nodes, here, "new", up).delete) == ["a"]
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
    plan = update(daemon_set(updateStrategy=strategy), nodes, here, "new", up)
    assert (plan.create, plan.delete) == (["a", "b"], [])
    here["a"].append(daemon("a2", "a", "new"))
    plan = update(daemon_set(updateStrategy=strategy), nodes, here, "new", up)
    assert (plan.create, names(plan.delete)) == (["b"], ["a"])


def test_a_budgets_condition_has_a_message_though_there_is_nothing_to_say() -> None:
    budget = {"metadata": {"generation": 1}, "spec": {"minAvailable": 1}}
    (said,) = disruption.new_status(budget, [pod("a")], 1, NOW)[0]["conditions"]
    assert said["message"] == ""


# -- Job -------------------------------------------------------------------------------------------------------------------------------


def test_indexes_are_written_short() -> None:
    assert job_indexes.render({1, 3, 4, 5, 7, 8}) == "1,3-5,7,8"
    assert job_indexes.parse("1,3-5,7,99,x", 8) == {1, 3, 4, 5, 7}
    assert job_indexes.missing(6, {0, 2}, 3) == [1, 3, 4]


def job_pod(name: str, phase: str = "Running", tracked: bool = True, **meta: Any) -> Obj:
    return pod(name, phase, **({"finalizers": [job_policies.TRACKING]} if tracked else {}), **meta)


def job(**spec: Any) -> Obj:
    return {
        "metadata": {"name": "j", "namespace": "d", "uid": "j"},
        "spec": {"parallelism": 2, "completions": 3, **spec},
        "status": {},
    }


def test_a_finished_pod_is_counted_once_in_three_steps() -> None:
    one = job()
    done = job_pod("p", "Succeeded")
    step = job_plan.plan(one, [done], {"uid-p"}, NOW)
    assert step.status["uncountedTerminatedPods"] == {"succeeded": ["uid-p"]}
    assert not step.status.get("succeeded")
    assert (names(step.release), step.create) == (["p"], [None, None])
    one["status"] = step.status
    again = job_plan.plan(one, [done], set(), NOW)
    assert again.status["uncountedTerminatedPods"] == {"succeeded": ["uid-p"]}, (
        "as long as it has the finalizer it is not a number"
    )
    folded = job_plan.plan(one, [job_pod("p", "Succeeded", tracked=False)], set(), NOW)
    assert folded.status["succeeded"] == 1
    assert not folded.status["uncountedTerminatedPods"]
    one["status"] = folded.status
    # Our copy shows the finalizer still; the live API did not confirm it.
    stale = job_plan.plan(one, [done], set(), NOW)
    assert stale.status["succeeded"] == 1


def test_what_has_succeeded_is_not_done_again_though_our_copy_of_the_job_is_late() -> None:
    # Another has counted p, or we have: the live API does not confirm its finalizer, and this status does not show the number yet.
    done = job_pod("p", "Succeeded", annotations={job_indexes.INDEX: "0"})
    for mode in ("NonIndexed", "Indexed"):
        others = [job_pod(str(each), annotations={job_indexes.INDEX: str(each)}) for each in (1, 2)]
        late = job_plan.plan(job(parallelism=3, completionMode=mode), [done, *others], set(), NOW)
        assert (late.create, late.surplus) == ([], []), mode
    assert job_plan.plan(job(), [done], set(), NOW).create == [None, None]
    assert job_plan.plan(job(completions=None), [done], set(), NOW).create == []


def test_a_job_ends_when_nothing_runs_any_more() -> None:
    one = job(backoffLimit=0)
    step = job_plan.plan(one, [job_pod("bad", "Failed"), job_pod("runs")], {"uid-bad"}, NOW)
    assert {each["type"] for each in step.status["conditions"]} == {"FailureTarget"}
    assert names(step.delete) == ["runs"]
    one["status"] = step.status
    ended = job_plan.plan(one, [job_pod("bad", "Failed", tracked=False)], set(), NOW)
    assert {each["type"] for each in ended.status["conditions"]} == {"FailureTarget", "Failed"}
    assert ended.status["failed"] == 1
    assert ended.events == [("Warning", "BackoffLimitExceeded", "Job has reached the specified backoff limit")]


def test_what_a_suspension_ends_has_not_failed() -> None:
    one = job(suspend=True, backoffLimit=0)
    one["status"] = {"startTime": ago(60)}
    step = job_plan.plan(one, [job_pod("a"), job_pod("b")], set(), NOW)
    assert (names(step.surplus), step.delete) == (["a", "b"], []), (
        "let go of before they are deleted, so that they are not counted"
    )
    assert step.status["startTime"] == ago(60), "it has started all the same; resuming it sets the time anew"
    one["status"], one["spec"]["suspend"] = step.status, False
    assert job_plan.plan(one, [], set(), NOW).status["startTime"] == ago(0)


def test_failures_are_replaced_with_a_growing_delay() -> None:
    failed = [
        job_pod("a", "Failed", tracked=False, deletionTimestamp=ago(30)),
        job_pod("b", "Failed", tracked=False, deletionTimestamp=ago(5)),
    ]
    assert job_plan.backoff_left(job(), failed, NOW) == 15.0
    assert job_plan.backoff_left(job(), [*failed, job_pod("c", "Succeeded", deletionTimestamp=ago(1))], NOW) == 0.0


def test_an_index_is_done_once() -> None:
    one = job(completionMode="Indexed", parallelism=3)
    here = [job_pod(each, annotations={job_indexes.INDEX: each[0]}) for each in ("0a", "0b", "2a")]
    step = job_plan.plan(one, here, set(), NOW)
    assert (names(step.surplus), step.create) == (["0b"], [1])


# -- the rest --------------------------------------------------------------------------------------------------------------------------


def test_the_apiservers_as_pods_see_them() -> None:
    found = [("10.0.0.2", 6443), ("10.0.0.1", 6443), ("10.0.0.3", 7443)]
    assert [each["metadata"]["name"] for each in slice_bodies(found)] == ["kubernetes", "kubernetes-7443"]
    assert [each["addresses"] for each in endpoints_body(found)["subsets"]] == [
        [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
        [{"ip": "10.0.0.3"}],
    ]


def test_which_controllers_run() -> None:
    assert chosen(["*"]) == list(CONTROLLERS)
    assert "job" not in chosen(["*", "-job"])
    assert chosen(["job", "podgc"]) == [each for each in CONTROLLERS if each in ("job", "podgc")]


# -- StatefulSet -----------------------------------------------------------------------------------------------------------------------


def test_claims_belong_to_whom_the_retention_policy_says() -> None:
    def owners(scaled: str, deleted: str, *held: Obj, condemned: bool = False) -> list[str] | None:
        policy = {"whenScaled": scaled, "whenDeleted": deleted}
        one = {"metadata": {"name": "s", "uid": "set"}, "spec": {"persistentVolumeClaimRetentionPolicy": policy}}
        found = claim_owners(one, pod("s-0"), {"metadata": {"ownerReferences": list(held)}}, condemned=condemned)
        return None if found is None else [each["uid"] for each in found]

    of_set, of_pod = {"kind": "StatefulSet", "name": "s", "uid": "set"}, {"kind": "Pod", "name": "s-0", "uid": "uid-s-0"}
    former, other = of_pod | {"uid": "former"}, {"kind": "Backup", "name": "b", "uid": "b"}
    assert owners("Retain", "Retain") is None
    assert owners("Retain", "Retain", of_set, other) == ["b"], "the policy has changed"
    assert owners("Retain", "Delete", other) == ["b", "set"]
    assert owners("Retain", "Delete", of_set) is None
    assert owners("Delete", "Delete") == ["set"]
    assert owners("Delete", "Delete", of_set, condemned=True) == ["uid-s-0"]
    assert owners("Delete", "Retain", of_pod) == [], "it was condemned, and is wanted again"
    assert owners("Delete", "Retain", former) == []
    assert owners("Retain", "Delete", {**other, "controller": True}) is None, "somebody else's"
