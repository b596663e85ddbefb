"""NetworkPolicies: what is understood of them, what a change costs, and, with random policies from a seed, what then really gets through."""

from __future__ import annotations

import os
import random
import shutil
from typing import Any

import pytest

from kubeling.kubeproxy.policy import ruleset
from kubeling.kubeproxy.policy.index import Index
from kubeling.kubeproxy.policy.model import Port, pod_of, policy_of, slim
from kubeling.kubeproxy.policy.ruleset import Builder, Ruleset

from .lab import Lab, Probe, allowed, lab

Obj = dict[str, Any]
NODES = ("n1", "n2")


def pod(name: str, ips: tuple[str, ...], node: str = "n1", namespace: str = "x", ports: Obj | None = None, **labels: str) -> Obj:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "resourceVersion": "1", "uid": name},
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "c", "image": "i", "ports": [{"name": key, **value} for key, value in (ports or {}).items()]}
            ],
        },
        "status": {"phase": "Running", "podIP": ips[0] if ips else "", "podIPs": [{"ip": ip} for ip in ips]},
    }


def policy(name: str, spec: Obj, namespace: str = "x") -> Obj:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def indexed(node: str, pods: list[Obj], namespaces: dict[str, Obj], policies: list[Obj]) -> Index:
    index = Index(node)
    for name, each in namespaces.items():
        index.set_namespace(name, each["metadata"]["labels"])
    for each in pods:
        index.set_pod(f"{each['metadata']['namespace']}/{each['metadata']['name']}", pod_of(slim(each)))
    for each in policies:
        made = policy_of(each)
        index.set_policy(made.namespace, made.name, made)
    return index


def test_what_a_policy_says_without_saying_it() -> None:
    plain = policy_of(policy("p", {"podSelector": {}}))
    assert (plain.ingress, plain.egress) == ((), None)
    both = policy_of(policy("p", {"podSelector": {}, "egress": [{}]}))
    assert both.ingress == ()
    assert both.egress is not None
    assert both.egress[0].peers is None
    assert both.egress[0].ports is None
    only = policy_of(policy("p", {"podSelector": {}, "policyTypes": ["Egress"]}))
    assert (only.ingress, only.egress) == (None, ())
    ports = policy_of(
        policy(
            "p",
            {
                "ingress": [
                    {"ports": [{"port": 80}, {"port": "web", "protocol": "UDP"}, {"protocol": "SCTP"}, {"port": 1, "endPort": 9}]}
                ]
            },
        )
    )
    assert ports.ingress is not None
    assert ports.ingress[0].ports == (Port("TCP", 80, 80), Port("UDP", name="web"), Port("SCTP"), Port("TCP", 1, 9))


def test_pods_without_an_address_of_their_own_are_nobodys_business() -> None:
    host, done = pod("a", ("10.0.0.1",)), pod("b", ("10.0.0.1",))
    host["spec"]["hostNetwork"] = True
    done["status"]["phase"] = "Succeeded"
    assert pod_of(host) is None
    assert pod_of(done) is None


def test_a_change_touches_only_what_it_concerns() -> None:
    pods = [pod("a", ("10.0.0.1",), app="a"), pod("b", ("10.1.0.2",), "n2", app="b"), pod("c", ("10.0.0.3",), app="c")]
    spec = {"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]}
    index = indexed("n1", pods, {"x": {"metadata": {"labels": {}}}}, [policy("p", spec)])
    builder = Builder(index)
    before = builder.build()
    assert ruleset.changes(before, builder.build()) == ""
    assert not index.set_pod("x/b", pod_of(pods[1]))
    # Another pod that may come in: an element, and nothing else.
    index.set_pod("x/d", pod_of(pod("d", ("10.1.0.9",), "n2", app="b")))
    after = builder.build()
    (line,) = ruleset.changes(before, after).splitlines()
    assert line.startswith("add element")
    assert line.endswith("{ 10.1.0.9 }")
    # One elsewhere that nobody speaks of: nothing.
    index.set_pod("x/e", pod_of(pod("e", ("10.1.0.10",), "n2", app="e")))
    assert ruleset.changes(after, builder.build()) == ""
    index.set_policy("x", "p", None)
    assert ruleset.changes(builder.build(), Ruleset(sets=builder.build().sets, maps=builder.build().maps)) == ""
    assert not index.any_policy


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_up_change_by_change_is_what_would_be_found_anew(seed: int) -> None:
    rand = random.Random(seed)
    index = Index("n1")
    pods: dict[str, Obj] = {}
    policies: dict[tuple[str, str], Obj] = {}
    for _ in range(300):
        name, namespace = f"a{rand.randrange(6)}", rand.choice("xy")
        if rand.random() < 0.5:
            key = f"{namespace}/{name}"
            pods.pop(key, None)
            if rand.random() < 0.7:
                ip = f"10.244.0.{rand.randrange(1, 250)}"
                pods[key] = pod(name, (ip,), rand.choice(NODES), namespace, app=rand.choice("abc"))
            if key in pods or key in index.pods:
                index.set_pod(key, pod_of(slim(pods[key])) if key in pods else None)
        else:
            there = (namespace, name)
            known = policies.pop(there, None) is not None
            if rand.random() < 0.7:
                selector = {"matchLabels": {"app": rand.choice("abc")}} if rand.random() < 0.8 else {}
                policies[there] = policy(name, {"podSelector": selector}, namespace)
            if there in policies:
                index.set_policy(namespace, name, policy_of(policies[there]))
            elif known:
                index.set_policy(namespace, name, None)
        namespaces = {each: {"metadata": {"labels": {}}} for each in "xy"}
        anew = indexed("n1", list(pods.values()), namespaces, list(policies.values()))
        assert {key: index.policies_for(key) for key in index.local} == {key: anew.policies_for(key) for key in anew.local}


def test_policies_of_pods_elsewhere_cost_nothing_here() -> None:
    pods = [pod(f"p{number}", (f"10.1.{number // 250}.{number % 250}",), "n2", app=f"a{number % 7}") for number in range(1000)]
    policies = [
        policy(
            f"p{number}",
            {"podSelector": {"matchLabels": {"app": f"a{number % 7}"}}, "ingress": [{"from": [{"podSelector": {}}]}]},
        )
        for number in range(500)
    ]
    rules = Builder(indexed("n1", pods, {"x": {"metadata": {"labels": {}}}}, policies)).build()
    assert not rules.chains
    assert not rules.scopes


# -- against the kernel ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> Any:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("needs root and nft")
    with lab() as made:
        yield made


def show(
    lab_: Lab, pods: list[Obj], namespaces: dict[str, Obj], policies: list[Obj], before: dict[str, Ruleset] | None = None
) -> dict[str, Ruleset]:
    """Have the nodes enforce it: from nothing, or step by step from what they had."""
    made = {}
    for number, node in enumerate(NODES, 1):
        rules = made[node] = Builder(indexed(node, pods, namespaces, policies)).build()
        ranges = (f"10.44.{number}.0/24", f"fd44:0:0:{number}::/64")
        lab_.nft(node, ruleset.changes(before[node], rules) if before else ruleset.full(rules, ranges))
    return made


class World:
    """Random pods, namespaces and policies."""

    def __init__(self, seed: int, lab_: Lab) -> None:
        self._random = random.Random(seed)
        self._lab = lab_
        self.namespaces = {
            name: {"metadata": {"labels": {"team": self._random.choice("rgb"), **({"x": "1"} if name == "x" else {})}}}
            for name in ("x", "y")
        }
        self.pods = {name: self._pod(name) for name in lab_.pods}
        self.policies = [self._policy(number) for number in range(self._random.randint(0, 5))]

    def _pod(self, name: str) -> Obj:
        r, place = self._random, self._lab.pods[name]
        ports: Obj = {
            "web": {"containerPort": r.choice((80, 8080))},
            "other": {"containerPort": 81},
            "dns": {"containerPort": 53, "protocol": "UDP"},
        }
        labels = {"app": r.choice("abc"), **({"extra": "1"} if r.random() < 0.3 else {})}
        return pod(name, place.ips, place.node, r.choice(("x", "x", "y")), ports, **labels)

    def _selector(self, key: str, values: str) -> Obj:
        r = self._random
        return r.choice(
            (
                {},
                {"matchLabels": {key: r.choice(values)}},
                {"matchExpressions": [{"key": key, "operator": "In", "values": r.sample(values, 2)}]},
                {"matchExpressions": [{"key": key, "operator": "NotIn", "values": [r.choice(values)]}]},
                {"matchExpressions": [{"key": "extra", "operator": r.choice(("Exists", "DoesNotExist"))}]},
            )
        )

    def _peer(self) -> Obj:
        r = self._random
        kind = r.randrange(4)
        if kind == 0:
            node, number = r.randint(1, 2), r.randint(1, 3)
            if r.random() < 0.3:
                return {"ipBlock": {"cidr": "fd44::/16", "except": [f"fd44:0:0:{node}::/64"]}}
            cidr = r.choice(("10.44.0.0/16", "0.0.0.0/0", f"10.44.{node}.0/24", f"10.44.{node}.{number}/32"))
            return {
                "ipBlock": {
                    "cidr": cidr,
                    **(
                        {"except": [f"10.44.{node}.{number}/32", "10.44.200.0/24"]}
                        if cidr[-2:] != "32" and r.random() < 0.5
                        else {}
                    ),
                }
            }
        if kind == 1:
            return {"podSelector": self._selector("app", "abc")}
        if kind == 2:
            return {"namespaceSelector": self._selector("team", "rgb")}
        return {"podSelector": self._selector("app", "abc"), "namespaceSelector": self._selector("team", "rgb")}

    def _rule(self, field: str) -> Obj:
        r = self._random
        choices: list[Obj] = [
            {"port": 80},
            {"port": 79, "endPort": 100},
            {"port": "web"},
            {"port": "dns", "protocol": "UDP"},
            {"protocol": "UDP"},
            {"protocol": "TCP"},
            {"port": 8080},
            {"port": 53, "protocol": "UDP"},
        ]
        rule: Obj = {}
        if r.random() < 0.8:
            rule[field] = [self._peer() for _ in range(r.randint(1, 3))]
        if r.random() < 0.6:
            rule["ports"] = r.sample(choices, r.randint(1, 3))
        return rule

    def _policy(self, number: int) -> Obj:
        r = self._random
        spec: Obj = {"podSelector": self._selector("app", "abc")}
        if r.random() < 0.7:
            spec["ingress"] = [self._rule("from") for _ in range(r.randint(0, 2))]
        if r.random() < 0.5:
            spec["egress"] = [self._rule("to") for _ in range(r.randint(0, 2))]
        if r.random() < 0.5:
            spec["policyTypes"] = r.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
        return policy(f"p{number}", spec, r.choice(("x", "x", "y")))

    def expected(self, probes: set[Probe]) -> set[Probe]:
        return {each for each in probes if allowed(self.pods, self.namespaces, self.policies, each)}


@pytest.fixture(scope="module")
def every(network: Lab) -> set[Probe]:
    """What there is to try: without a rule all of it gets through."""
    for node in NODES:
        network.nft(node, ruleset.removal())
    found = network.reached()
    assert len(found) == 6 * 5 * 2 * 4
    return found


@pytest.mark.parametrize("seed", range(int(os.environ.get("KUBELING_TEST_POLICY_SEEDS", "8"))))
def test_what_gets_through_is_what_the_documentation_says(network: Lab, every: set[Probe], seed: int) -> None:
    first, second = World(seed, network), World(seed + 100_000, network)
    rules = show(network, [*first.pods.values()], first.namespaces, first.policies)
    assert network.reached() == first.expected(every)
    # Everything changes at once, and the nodes are only told the difference.
    show(network, [*second.pods.values()], second.namespaces, second.policies, rules)
    assert network.reached() == second.expected(every)
