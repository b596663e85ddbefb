"""What there is in a run: servers behind Services of every type, and clients of every kind in two pods, on a node and on the host."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.api.pods import is_ready
from kubeling.api.resources import CONFIG_MAPS, DEPLOYMENTS, PODS, SERVICES
from kubeling.client.rest import Client
from kubeling.cluster.pytest_plugin import ClusterHandle

Obj = dict[str, Any]

HERE = Path(__file__).parent
IMAGE = "kubeling.local/host"
LABELS = {"app": "web"}
#: Long enough for an endpoint to be taken away everywhere before its server is told to stop, also when a proxy or apiserver has to come back first.
PRE_STOP_SECONDS = 6
REPLICAS = 4
_PORTS = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "echo", "port": 90, "targetPort": 9000},
    {"name": "udp", "port": 91, "targetPort": 9001, "protocol": "UDP"},
]


def script(name: str) -> str:
    return (HERE / f"{name}.py").read_text()


def deployment(replicas: int) -> Obj:
    """As the documentation tells users to do it: a readiness probe, a pause before the server is stopped, one pod more before one goes."""
    container = {
        "name": "server",
        "image": IMAGE,
        "command": ["python3", "/srv/server.py"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
    }
    away = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
        for key in ("unreachable", "not-ready")
    ]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": LABELS},
    }
    spec = {
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [{"name": "srv", "configMap": {"name": "scripts"}}],
        "tolerations": away,
        "topologySpreadConstraints": [spread],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": LABELS}, "spec": spec},
        },
    }


def service(name: str, **spec: Any) -> Obj:
    body = {"selector": LABELS, "ports": _PORTS, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


SERVICES_OF_ALL_TYPES = (
    service("cluster"),
    service("sticky", sessionAffinity="ClientIP"),
    service("headless", clusterIP="None"),
    service("nodeport", type="NodePort"),
    service("balancer", type="LoadBalancer", ports=_PORTS[:2]),
)


def client_pod(name: str, node: str, jobs: list[Obj], seconds: float) -> Obj:
    container = {
        "name": "client",
        "image": IMAGE,
        "command": ["python3", "/srv/client.py", json.dumps(jobs), str(seconds)],
        "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
    }
    spec = {
        "nodeName": node,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "srv", "configMap": {"name": "scripts"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True)
class Node:
    name: str
    role: str
    address: str
    pid: int


class World:
    """`nodes`: those that stay for the whole run; clients are only on them."""

    def __init__(self, cluster: ClusterHandle, client: Client, namespace: str, *, replicas: int = REPLICAS) -> None:
        self.cluster, self.client, self.namespace, self._replicas = cluster, client, namespace, replicas
        self.services: dict[str, Obj] = {}
        self._dns = ""
        self._local: list[tuple[asyncio.subprocess.Process, asyncio.Task[tuple[bytes, bytes]]]] = []
        self._pods: list[str] = []

    def nodes(self, role: str = "worker") -> list[Node]:
        found = self.cluster.status()["nodes"]
        return [Node(each["name"], each["role"], each["address"], each["pid"]) for each in found if each["role"] == role]

    async def build(self) -> None:
        """Returns when every server is ready and every Service has its addresses."""
        scripts = {f"{name}.py": script(name) for name in ("server", "client")}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts"}, "data": scripts}
        await self.client.create(CONFIG_MAPS, body, self.namespace)
        await self.client.create(DEPLOYMENTS, deployment(self._replicas), self.namespace)
        for each in SERVICES_OF_ALL_TYPES:
            await self.client.create(SERVICES, each, self.namespace)
        self._dns = (await self.client.get(SERVICES, "kube-dns", "kube-system"))["spec"]["clusterIP"]
        await until("all servers are ready", self._all_ready, 120)
        await until("the balancer has an address", self._balanced, 30)

    async def _all_ready(self) -> bool:
        pods = (await self.client.list(PODS, self.namespace, label_selector="app=web"))["items"]
        return sum(is_ready(each) for each in pods) >= self._replicas

    async def _balanced(self) -> bool:
        for each in SERVICES_OF_ALL_TYPES:
            name = each["metadata"]["name"]
            self.services[name] = await self.client.get(SERVICES, name, self.namespace)
        return bool((self.services["balancer"].get("status") or {}).get("loadBalancer", {}).get("ingress"))

    def _port(self, service: str, name: str, key: str = "port") -> int:
        return next(int(each[key]) for each in self.services[service]["spec"]["ports"] if each["name"] == name)

    def jobs(self, place: str, node_address: str, *, inside: bool) -> list[Obj]:
        """What a client does: on the host (`inside` false) all through the balancer, else through everything else."""

        def four(way: str, host: str, port: Callable[[str], int], names: tuple[str, ...] = ("http", "echo", "udp")) -> list[Obj]:
            kinds = (("new", "http"), ("kept", "http"), ("echo", "echo"), ("udp", "udp"))
            return [
                {"name": f"{place}/{way}/{kind}", "kind": kind, "host": host, "port": port(name)}
                for kind, name in kinds
                if name in names
            ]

        if not inside:
            address = self.services["balancer"]["status"]["loadBalancer"]["ingress"][0]["ip"]
            return four("balancer", address, lambda name: self._port("balancer", name), ("http", "echo"))
        full = f"{{}}.{self.namespace}.svc.cluster.local"
        sticky = self.services["sticky"]["spec"]["clusterIP"]
        return [
            *four("cluster", self.services["cluster"]["spec"]["clusterIP"], lambda name: self._port("cluster", name)),
            *four("nodeport", node_address, lambda name: self._port("nodeport", name, "nodePort")),
            {"name": f"{place}/sticky", "kind": "sticky", "host": sticky, "port": 80},
            {"name": f"{place}/headless", "kind": "new", "host": full.format("headless"), "port": 8080, "dns": self._dns},
            {"name": f"{place}/dns", "kind": "names", "host": full.format("cluster"), "port": 0, "dns": self._dns},
        ]

    async def start_clients(self, nodes: list[Node], seconds: float) -> None:
        """A pod on each node, asking node ports of the next one; and programs on the first node and on the host."""
        for number, node in enumerate(nodes):
            other = nodes[(number + 1) % len(nodes)].address
            name = f"client-{node.name}"
            body = client_pod(name, node.name, self.jobs(name, other, inside=True), seconds)
            await self.client.create(PODS, body, self.namespace)
            self._pods.append(name)
        first = nodes[0]
        enter = ["nsenter", f"--net=/proc/{first.pid}/ns/net", "--"]
        for command, jobs in (
            (enter, self.jobs(f"node-{first.name}", first.address, inside=True)),
            ([], self.jobs("host", "", inside=False)),
        ):
            words = [*command, sys.executable, "-P", str(HERE / "client.py"), json.dumps(jobs), str(seconds)]
            process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
            self._local.append((process, asyncio.ensure_future(process.communicate())))

    async def results(self) -> list[Obj]:
        """What the clients wrote, when they have ended."""
        async with asyncio.timeout(120):
            texts = [(await said)[0].decode() for _, said in self._local]
        for name in self._pods:

            async def ended(name: str = name) -> bool:
                pod = await self.client.get(PODS, name, self.namespace)
                return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")

            await until(f"{name} has ended", ended, 60)
            done = await asyncio.to_thread(self.cluster.cli, "-n", self.namespace, "logs", name)
            texts.append(done.stdout)
        return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{")]

    async def close(self) -> None:
        for process, said in self._local:
            if process.returncode is None:
                process.kill()
            await said


async def until(what: str, check: Callable[[], Awaitable[bool]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        await asyncio.sleep(0.1)
