"""Who reaches whom in a whole cluster: pods, nodes and the host, to pods and Services of every type by address and by name, on every port and protocol,
before and after a policy; what gets through is compared with what the API's documentation says should.

`tests/kubeproxy` proves the rules by themselves, with random Services and policies; here runtime, proxy, controllers, DNS and cloud work together.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubeling.tests.e2e.support import Bench

pytestmark = [
    pytest.mark.live,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft"),
]

Obj = dict[str, Any]
PROBE = Path(__file__).with_name("probe.py")
SERVER = Path(__file__).parents[1] / "churn" / "server.py"
HTTP, ECHO, UDP = ("http", 8080), ("echo", 9000), ("udp", 9001)
PORTS = [
    {"name": "http", "port": 80, "targetPort": "web"},
    {"name": "echo", "port": 90, "targetPort": 9000},
    {"name": "udp", "port": 91, "targetPort": 9001, "protocol": "UDP"},
]
#: Pod → the node's place among the workers, and its labels. `lone` is behind nothing but a Service of its own.
PODS: dict[str, tuple[int, dict[str, str]]] = {
    "a": (0, {"app": "web", "role": "friend"}),
    "b": (0, {"app": "web"}),
    "c": (1, {"app": "web"}),
    "lone": (1, {"app": "lone"}),
}
WEB = {"a", "b", "c"}
#: Seconds for an answer that should come, and for one that should not.
PATIENCE, BRIEFLY = 10.0, 1.5


@dataclass(frozen=True)
class Probe:
    """A question, and who may answer it; nobody: then nobody must."""

    source: str
    kind: str
    host: str
    port: int
    what: str
    allowed: frozenset[str]


class Matrix:
    """The objects, and what is to be expected of them. Nodes go by their names, the host is "host"."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        found = bench.cluster.status()["nodes"]
        self.workers = [each["name"] for each in found if each["role"] == "worker"][:2]
        self.plane = next(each["name"] for each in found if each["role"] == "control-plane")
        self.address = {each["name"]: each["address"] for each in found}
        self._pid = {each["name"]: each["pid"] for each in found}
        self.ip: dict[str, str] = {}
        self.services: dict[str, Obj] = {}

    def node_of(self, pod: str) -> str:
        return self.workers[PODS[pod][0]]

    # -- the objects ---------------------------------------------------------------------------------------------------------------

    def build(self) -> None:
        scripts = {path.name: path.read_text() for path in (PROBE, SERVER)}
        items: list[Obj] = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts"}, "data": scripts}]
        items += [self._pod(name) for name in PODS]
        items += [
            service("cluster"),
            service("here", internalTrafficPolicy="Local"),
            service("headless", clusterIP="None"),
            service("node", type="NodePort"),
            service("local", type="NodePort", externalTrafficPolicy="Local", selector={"app": "lone"}),
            service("balancer", type="LoadBalancer", ports=PORTS[:2]),
            service("empty", selector={"app": "nobody"}),
            service("lone", selector={"app": "lone"}, externalIPs=["192.0.2.77"]),
            service("alias", type="ExternalName", externalName=f"cluster.{self.bench.namespace}.svc.cluster.local"),
        ]
        self.bench.apply({"apiVersion": "v1", "kind": "List", "items": items})
        self.bench.until("all pods are ready and the balancer has an address", self._ready, 90)

    def _pod(self, name: str) -> Obj:
        ports: list[Obj] = [{"name": "web", "containerPort": 8080}]
        if name == "lone":
            ports[0]["hostPort"] = 18080
        container = {
            "name": "c",
            "image": "kubeling.local/host",
            "command": ["python3", "/srv/server.py"],
            "ports": ports,
            "readinessProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1},
            "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
        }
        spec = {
            "nodeName": self.node_of(name),
            "hostname": name,
            "subdomain": "headless",
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": "srv", "configMap": {"name": "scripts"}}],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": PODS[name][1]}, "spec": spec}

    def _ready(self) -> bool:
        pods = {each["metadata"]["name"]: each for each in self.bench.pods()}
        self.ip = {name: (each.get("status") or {}).get("podIP", "") for name, each in pods.items()}
        self.services = {each["metadata"]["name"]: each for each in self.bench.get("service")["items"]}
        ready = [
            each
            for each in pods.values()
            for condition in (each.get("status") or {}).get("conditions") or ()
            if condition["type"] == "Ready" and condition["status"] == "True"
        ]
        return len(ready) == len(PODS) and bool((self.services["balancer"]["status"].get("loadBalancer") or {}).get("ingress"))

    # -- what is to be expected ----------------------------------------------------------------------------------------------------

    def to_pods(self, source: str) -> list[Probe]:
        probes = [
            Probe(source, kind, self.ip[pod], port, f"pod {pod}", frozenset({pod}))
            for pod in PODS
            for kind, port in (HTTP, ECHO, UDP)
        ]
        return [*probes, Probe(source, "http", self.ip["a"], 8081, "a port where nobody listens", frozenset())]

    def _ports(self, service: str, key: str = "port") -> list[tuple[str, int]]:
        return [(each["name"], each[key]) for each in self.services[service]["spec"]["ports"]]

    def to_services(self, source: str) -> list[Probe]:
        """From a pod or node."""
        where = self.node_of(source) if source in PODS else source
        near = {pod for pod in WEB if self.node_of(pod) == where}
        probes: list[Probe] = []

        def add(what: str, host: str, ports: Iterable[tuple[str, int]], allowed: set[str]) -> None:
            probes.extend(Probe(source, kind, host, port, what, frozenset(allowed)) for kind, port in ports)

        def ip(name: str) -> str:
            return str(self.services[name]["spec"]["clusterIP"])

        add("ClusterIP", ip("cluster"), self._ports("cluster"), WEB)
        add("ClusterIP, a port that it does not have", ip("cluster"), [("http", 81)], set())
        add("ClusterIP, kept on the node", ip("here"), self._ports("here"), near)
        add("ClusterIP without endpoints", ip("empty"), self._ports("empty"), set())
        add("ClusterIP of one pod", ip("lone"), self._ports("lone"), {"lone"})
        add("external IP", "192.0.2.77", self._ports("lone"), {"lone"})
        for node in (*self.workers, self.plane):
            add(f"node port on {node}", self.address[node], self._ports("node", "nodePort"), WEB)
            # Pods, and who is on that node, are led to any endpoint; who comes from elsewhere only to those that are there.
            local = source in PODS or node in (where, self.node_of("lone"))
            add(f"local node port on {node}", self.address[node], self._ports("local", "nodePort"), {"lone"} if local else set())
            add(f"balancer's node port on {node}", self.address[node], self._ports("balancer", "nodePort"), WEB)
        add("host port", self.address[self.node_of("lone")], [("http", 18080)], {"lone"})
        add("host port of another node", self.address[self.node_of("a")], [("http", 18080)], set())
        return probes

    def by_name(self, source: str) -> list[Probe]:
        """From a pod: the names that its resolv.conf makes whole (ndots and search)."""
        full = f"{self.bench.namespace}.svc.cluster.local"
        names = [
            (name, port, WEB)
            for name in (
                "cluster",
                f"cluster.{self.bench.namespace}",
                f"cluster.{self.bench.namespace}.svc",
                f"cluster.{full}",
                f"cluster.{full}.",
            )
            for port in (80,)
        ]
        names += [("alias", 80, WEB), ("headless", 8080, WEB), ("b.headless", 8080, {"b"}), (f"c.headless.{full}", 8080, {"c"})]
        names += [(f"{self.ip['a'].replace('.', '-')}.{self.bench.namespace}.pod.cluster.local", 8080, {"a"})]
        names += [("nothing", 80, set()), ("empty", 80, set()), ("d.headless", 8080, set())]
        return [Probe(source, "http", host, port, "by name", frozenset(allowed)) for host, port, allowed in names]

    def from_the_host(self, allowed: set[str]) -> list[Probe]:
        address = self.services["balancer"]["status"]["loadBalancer"]["ingress"][0]["ip"]
        return [Probe("host", kind, address, port, "balancer", frozenset(allowed)) for kind, port in self._ports("balancer")]

    def after_policy(self) -> list[Probe]:
        """The pods of `web` take HTTP from friends, and nothing else from anybody but themselves and their own node."""

        def admitted(source: str, pod: str, kind: str) -> bool:
            own = source == pod or self.node_of(pod) == source
            return pod not in WEB or own or (kind == "http" and PODS.get(source, (0, {}))[1].get("role") == "friend")

        sources = [*PODS, *self.workers, self.plane]
        direct = [probe for source in sources for probe in self.to_pods(source)]
        through = [
            Probe(source, kind, str(self.services["cluster"]["spec"]["clusterIP"]), port, "ClusterIP", frozenset(WEB))
            for source in PODS
            for kind, port in self._ports("cluster")
            # Of the endpoints any is drawn, also one that does not answer: only who gets through to all or to none is asked.
            if len({admitted(source, pod, kind) for pod in WEB}) == 1
        ]
        return [
            *(
                Probe(
                    each.source,
                    each.kind,
                    each.host,
                    each.port,
                    each.what,
                    frozenset(pod for pod in each.allowed if admitted(each.source, pod, each.kind)),
                )
                for each in (*direct, *through)
            ),
            *self.from_the_host(set()),
        ]

    # -- asking --------------------------------------------------------------------------------------------------------------------

    def _command(self, source: str) -> list[str]:
        if source in PODS:
            return [
                sys.executable,
                "-P",
                "-m",
                "kubeling.cli",
                "-n",
                self.bench.namespace,
                "exec",
                source,
                "--",
                "python3",
                "/srv/probe.py",
            ]
        inside = ["nsenter", f"--net=/proc/{self._pid[source]}/ns/net", "--"] if source != "host" else []
        return [*inside, sys.executable, "-P", str(PROBE)]

    def ask(self, probes: list[Probe]) -> dict[Probe, str]:
        """Who answered; all sources ask at once."""
        by_source: dict[str, list[Probe]] = {}
        for each in probes:
            by_source.setdefault(each.source, []).append(each)

        def one(source: str) -> dict[Probe, str]:
            asked = by_source[source]
            command = [
                *self._command(source),
                json.dumps([[each.kind, each.host, each.port, PATIENCE if each.allowed else BRIEFLY] for each in asked]),
            ]
            done = subprocess.run(command, env=self.bench.cluster.env, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
            return dict(zip(asked, json.loads(done.stdout), strict=True))

        with ThreadPoolExecutor(len(by_source)) as pool:
            return {probe: who for answers in pool.map(one, by_source) for probe, who in answers.items()}

    def disagreements(self, probes: list[Probe]) -> list[str]:
        """What is not as expected, also when it is asked once more: word of a change may still have been on its way."""

        def wrong(answers: dict[Probe, str]) -> dict[Probe, str]:
            return {probe: who for probe, who in answers.items() if (who not in probe.allowed if probe.allowed else who != "")}

        again = wrong(self.ask(probes))
        again = again and wrong(self.ask(list(again)))
        return [
            f"{each.source} → {each.what} ({each.kind} {each.host}:{each.port}): {who or 'nobody'}, expected {sorted(each.allowed) or 'nobody'}"
            for each, who in again.items()
        ]


def service(name: str, **spec: Any) -> Obj:
    body = {"selector": {"app": "web"}, "ports": PORTS, **spec}
    if body.get("type") == "ExternalName":
        del body["selector"], body["ports"]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def test_who_reaches_whom(bench: Bench) -> None:
    matrix = Matrix(bench)
    matrix.build()
    inside = [*PODS, *matrix.workers, matrix.plane]
    probes = [
        probe
        for source in inside
        for probe in (*matrix.to_pods(source), *matrix.to_services(source), *(matrix.by_name(source) if source in PODS else ()))
    ]
    probes += matrix.from_the_host(WEB)
    assert len(probes) > 400
    assert matrix.disagreements(probes) == []
    friends = [{"podSelector": {"matchLabels": {"role": "friend"}}}]
    bench.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "friends"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": friends, "ports": [{"port": "web"}]}]},
        }
    )
    stranger = Probe("lone", "http", matrix.ip["a"], 8080, "pod a", frozenset())
    bench.until("the policy is in force", lambda: not matrix.disagreements([stranger]), 60)
    assert matrix.disagreements(matrix.after_policy()) == []
