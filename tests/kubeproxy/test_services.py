"""Services of random shapes on two nodes: who may answer whom, and whom the answerer sees, from pods, nodes and outside; compared with what the documentation says."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kubeling.kubeproxy import model, rules
from kubeling.kubeproxy.model import Place

from .lab import Lab, Question, lab

Obj = dict[str, Any]
NODES = {"n1": ("172.31.0.1", "fd31::1"), "n2": ("172.31.0.2", "fd31::2")}
TARGETS = {"TCP": 8080, "UDP": 53}
#: Every question is asked so often; all clients of a Service together draw each of its endpoints.
TRIES = 4


@pytest.fixture(scope="module")
def network() -> Iterator[Lab]:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("needs root and nft")
    with lab() as made:
        yield made


class World:
    """Some Services with endpoints in states, from a seed."""

    def __init__(self, seed: int, network: Lab) -> None:
        r = random.Random(seed)
        self.services: list[Obj] = []
        self.slices: dict[tuple[str, str], list[Obj]] = {}
        for number in range(5):
            protocol, name = r.choice(("TCP", "TCP", "UDP")), f"s{number}"
            kind = r.choice(("ClusterIP", "NodePort", "NodePort"))
            port = {"port": 80 + number, "protocol": protocol, "targetPort": TARGETS[protocol]}
            if kind == "NodePort":
                port["nodePort"] = 30100 + number
            spec: Obj = {
                "type": kind,
                "clusterIP": f"10.96.0.{number + 1}",
                "clusterIPs": [f"10.96.0.{number + 1}", f"fd96::{number + 1}"],
                "ports": [port],
                "internalTrafficPolicy": r.choice(("Cluster", "Cluster", "Local")),
            }
            if kind == "NodePort":
                spec["externalTrafficPolicy"] = r.choice(("Cluster", "Local"))
                spec["externalIPs"] = [f"192.0.2.{number + 1}"]
            self.services.append({"metadata": {"name": name, "namespace": "x"}, "spec": spec})
            chosen = r.sample(sorted(network.pods), r.randint(0, 3))
            states = [r.choice(("ready", "ready", "ready", "ending", "away")) for _ in chosen]
            self.slices["x", name] = [self._slice(network, chosen, states, protocol, family) for family in (0, 1)]

    @staticmethod
    def _slice(network: Lab, chosen: list[str], states: list[str], protocol: str, family: int) -> Obj:
        conditions = {
            "ready": {"ready": True, "serving": True, "terminating": False},
            "ending": {"ready": False, "serving": True, "terminating": True},
            "away": {"ready": False, "serving": False, "terminating": False},
        }
        return {
            "metadata": {"namespace": "x"},
            "addressType": ("IPv4", "IPv6")[family],
            "ports": [{"port": TARGETS[protocol], "protocol": protocol}],
            "endpoints": [
                {
                    "addresses": [network.pods[pod].ips[family]],
                    "nodeName": network.pods[pod].node,
                    "conditions": conditions[state],
                }
                for pod, state in zip(chosen, states, strict=True)
            ],
        }

    def ports(self, node: str) -> dict[str, model.ServicePort]:
        return model.build(self.services, self.slices, Place(node))


@dataclass(frozen=True)
class Expected:
    """`who` may answer ({}: nobody); `refused`: the client is told that there is nobody."""

    who: frozenset[str]
    refused: bool = False


def usable(world: World, network: Lab, service: Obj, node: str | None) -> frozenset[str]:
    """The pods that serve; with `node` only those of that node."""
    found: dict[str, set[str]] = {"ready": set(), "ending": set()}
    names = {ip: pod.name for pod in network.pods.values() for ip in pod.ips}
    for each in world.slices["x", service["metadata"]["name"]]:
        for endpoint in each["endpoints"]:
            if node is not None and endpoint["nodeName"] != node:
                continue
            state = endpoint["conditions"]
            if state["ready"] or (state["serving"] and state["terminating"]):
                found["ready" if state["ready"] else "ending"].add(names[endpoint["addresses"][0]])
    return frozenset(found["ready"] or found["ending"])


def questions(world: World, network: Lab) -> Iterator[tuple[str, Question, Expected, bool]]:
    """What is asked, with what may come, and whether the answerer has to see the very client."""
    places = {
        **{pod.name: (pod.netns, pod.node, True) for pod in network.pods.values()},
        **{name: (path, name, False) for name, path in network.nodes.items()},
    }
    for service in world.services:
        spec = service["spec"]
        (port,) = spec["ports"]
        everywhere = usable(world, network, service, None)
        for client, (netns, node, is_pod) in places.items():
            inner = usable(world, network, service, node) if spec["internalTrafficPolicy"] == "Local" else everywhere
            for ip in spec["clusterIPs"]:
                yield (
                    f"{client} to {ip}",
                    Question(netns, ip, port["protocol"], port["port"]),
                    Expected(inner, not everywhere),
                    is_pod,
                )
            if "nodePort" not in port:
                continue
            local = spec["externalTrafficPolicy"] == "Local"
            for target, addresses in NODES.items():
                # Pods and the node itself take the short way to any endpoint; another node's connection comes from outside.
                # A pod's connection to the other node leaves its own node, which knows nothing of that node's port.
                here = target == node
                outer = everywhere if not local or here or is_pod else usable(world, network, service, target)
                for ip in addresses:
                    keeps = local and not here and not is_pod
                    yield (
                        f"{client} to {target} {ip}",
                        Question(netns, ip, port["protocol"], port["nodePort"]),
                        Expected(outer, not everywhere),
                        keeps,
                    )
            for ip in spec.get("externalIPs", ()):
                yield (
                    f"{client} to {ip}",
                    Question(netns, ip, port["protocol"], port["port"]),
                    Expected(everywhere, not everywhere),
                    False,
                )


@pytest.mark.parametrize("seed", range(int(os.environ.get("KUBELING_TEST_SERVICE_SEEDS", "3"))))
def test_who_answers_is_who_the_documentation_says(network: Lab, seed: int) -> None:
    tables = {}
    for step in range(2):
        world = World(seed * 2 + step, network)
        for node, ips in NODES.items():
            if node not in tables:
                tables[node] = rules.Table(["10.44.0.0/16", "fd44::/32"], [*ips, "127.0.0.1"])
                network.nft(node, tables[node].full())
            network.nft(node, tables[node].change({**dict.fromkeys(tables[node].keys), **world.ports(node)}))
        network.forget_flows()
        asked = list(questions(world, network))
        answers: list[set[str]] = [set() for _ in asked]
        for _ in range(TRIES):
            for number, answer in enumerate(network.ask([each[1] for each in asked])):
                answers[number].add(answer)
        ips = {ip: pod.name for pod in network.pods.values() for ip in pod.ips}
        drawn: dict[int, set[str]] = {}
        for (what, question, expected, keeps), found in zip(asked, answers, strict=True):
            context = (
                seed,
                step,
                what,
                question.protocol,
                question.port,
                [
                    each["spec"]
                    for each in world.services
                    if each["spec"]["ports"][0]["port"] in (question.port, question.port - 30100 + 80)
                ],
            )
            if not expected.who:
                assert found <= {"refused", ""}, (context, found)
                # Where nobody serves at all the client is told so; UDP is told by ICMP, which may come too late.
                assert not expected.refused or found == {"refused"} or question.protocol == "UDP", (context, found)
                continue
            who = {each.split()[0] for each in found if " " in each}
            assert who, (context, found)
            assert who <= expected.who, (context, found)
            drawn.setdefault(question.port, set()).update(who)
            assert not found & {"", "refused"}, (context, found)
            if keeps:
                seen = {each.split()[1] for each in found}
                own = {ip for ip, name in ips.items() if what.startswith(f"{name} ")}
                nodes = set(NODES[what.split()[0]]) if what.split()[0] in NODES else set()
                own_endpoint = {each for each in found if what.startswith(f"{each.split()[0]} ")}
                if not own_endpoint:
                    assert seen <= own | nodes, (context, found)
        for service in world.services:
            everybody = usable(world, network, service, None)
            assert everybody <= drawn.get(service["spec"]["ports"][0]["port"], set()), (seed, step, service)
