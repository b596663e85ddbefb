"""What every cluster has from the start: made once through the API, after which it waits until the cluster can be used.

A short-lived process, forked from the zygote so that the client library is already there, and gone when its work is done. It reports each step as a line of
JSON on an inherited pipe. Everything it makes may exist already (a cluster that boots again), and nothing that somebody has changed is changed back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from kubeling.api import resources
from kubeling.api.errors import ApiError
from kubeling.api.times import parse_optional
from kubeling.client import kubeconfig
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.cluster.topology import HOLLOW_USER
from kubeling.daemon import main as daemon_main
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.linux import netns

log = get_logger("cluster.bootstrap")

DNS_QUERY_SECONDS = 0.5
#: So many failures in a row take some seconds, and are worth a line.
_WORRYING = 30
#: The label of hollow nodes.
_HOLLOW = "kubeling.dev/hollow=true"
#: Of the Service that :meth:`Bootstrap._objects` makes: it needs no controller.
_NAME = "kube-dns.kube-system.svc"


def dns_service(addresses: list[str]) -> dict[str, Any]:
    """The Service of the cluster's DNS. It has no selector: the dns daemons keep its EndpointSlices themselves."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilyPolicy": "PreferDualStack" if len(addresses) > 1 else "SingleStack",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }


def storage_class(path: str) -> dict[str, Any]:
    """The default class: directories of the nodes, by our own provisioner. `{node}` in the path stands for the node's name."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubeling.dev/local",
        "parameters": {"path": path},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def hollow_flows() -> list[dict[str, Any]]:
    """Hollow nodes are one user for all of them, which is no member of system:nodes: their requests are to be as urgent as those of nodes."""

    def schema(name: str, level: str, precedence: int, *rules: dict[str, Any]) -> dict[str, Any]:
        who = [{"kind": "User", "user": {"name": HOLLOW_USER}}]
        spec = {
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": who, "resourceRules": list(rules)}],
        }
        return {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name}, "spec": spec}

    every = {"verbs": ["*"], "clusterScope": True, "namespaces": ["*"]}
    return [
        schema(
            "kubeling-hollow-node-high",
            "node-high",
            400,
            {**every, "apiGroups": [""], "resources": ["nodes", "nodes/status"]},
            {**every, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"]},
        ),
        schema("kubeling-hollow-nodes", "system", 500, {**every, "apiGroups": ["*"], "resources": ["*"]}),
    ]


class Bootstrap:
    """The steps, in order."""

    def __init__(self, client: Client, report: int, args: argparse.Namespace, clock: Clock) -> None:
        self._client = client
        self._report = report
        self._args = args
        self._began = clock.now()

    def _say(self, step: str) -> None:
        os.write(self._report, json.dumps({"step": step}).encode() + b"\n")

    async def run(self) -> None:
        await self._patiently(lambda: self._client.request_bytes("GET", "/readyz"))
        self._say("apiserver")
        await self._patiently(self._objects)
        self._say("objects")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes())
            if self._args.dns_address:
                group.create_task(self._dns())

    async def _patiently(self, work: Any) -> None:
        """Call `work` until it succeeds: whom it asks has only just come up."""
        # It comes up within a second, of which no more than a seventh is to be lost by asking too seldom.
        backoff = Backoff(base=0.01, factor=1.15, limit=0.5)
        while True:
            try:
                await work()
                return
            except (ApiError, ConnectionFailed) as error:
                if backoff.failures == _WORRYING:
                    log.warning("still trying", error=error)
                await asyncio.sleep(backoff.next())

    async def _objects(self) -> None:
        await self._ensure(resources.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})
        await self._ensure(resources.SERVICES, dns_service(self._args.dns_service.split(",")))
        if self._args.hollow_nodes:
            for each in hollow_flows():
                await self._ensure(resources.FLOW_SCHEMAS, each)
        if self._args.volumes_path:
            await self._ensure(resources.STORAGE_CLASSES, storage_class(self._args.volumes_path))

    async def _ensure(self, resource: resources.Resource, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        try:
            await self._client.get(resource, meta["name"], meta.get("namespace"))
            return
        except ApiError as error:
            if error.reason != "NotFound":
                raise
        try:
            await self._client.create(resource, obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _nodes(self) -> None:
        """Return when every expected node is Ready and its kubelet lives: what a Node has said before this boot is not proof enough."""
        names = {name for name in self._args.nodes.split(",") if name}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_all(resources.LEASES, "kube-node-lease", set(names), self._renewed))
            group.create_task(self._until_all(resources.NODES, None, set(names), ready))
            group.create_task(self._hollow())
        for name in filter(None, self._args.control_plane_nodes.split(",")):
            # A kubelet may not give itself a role.
            labels = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
            await self._patiently(partial(self._client.patch, resources.NODES, name, labels))
        self._say("nodes")

    async def _hollow(self) -> None:
        """Return when there are as many hollow nodes as were asked for, and Ready."""
        wanted, found = self._args.hollow_nodes, set[str]()

        def enough(nodes: list[dict[str, Any]]) -> bool:
            found.update(node["metadata"]["name"] for node in nodes if ready(node))
            return len(found) >= int(wanted)

        if wanted:
            await self._until(resources.NODES, None, enough, _HOLLOW)

    def _renewed(self, lease: dict[str, Any]) -> bool:
        beat = parse_optional(lease.get("spec", {}).get("renewTime"))
        return beat is not None and beat >= self._began

    async def _until_all(
        self, resource: resources.Resource, namespace: str | None, waiting: set[str], fits: Callable[[dict[str, Any]], bool]
    ) -> None:
        """Return when each object that is named in `waiting` has once been seen to fit."""

        def seen(found: list[dict[str, Any]]) -> bool:
            waiting.difference_update(obj["metadata"]["name"] for obj in found if fits(obj))
            return not waiting

        if waiting:
            await self._until(resource, namespace, seen)

    async def _until(
        self, resource: resources.Resource, namespace: str | None, seen: Callable[[list[dict[str, Any]]], bool], labels: str = ""
    ) -> None:
        """Show `seen` all objects, then each that changes, until it is content. Follows a watch, so that waiting costs nothing."""
        while True:
            try:
                listed = await self._client.list(resource, namespace, label_selector=labels)
                if seen(listed["items"]):
                    return
                version = listed["metadata"]["resourceVersion"]
                async for _kind, obj in self._client.watch(resource, namespace, resource_version=version, label_selector=labels):
                    if seen([obj]):
                        return
            except (ApiError, ConnectionFailed):
                await asyncio.sleep(0.2)

    async def _dns(self) -> None:
        host, _, port = self._args.dns_address.rpartition(":")
        name, where = f"{_NAME}.{self._args.domain}", self._args.dial_netns

        async def ask() -> None:
            if not await asyncio.to_thread(resolves, host.strip("[]"), int(port), name, where):
                raise ConnectionFailed(f"{host}:{port} does not know {name} yet")

        await self._patiently(ask)
        self._say("dns")


def ready(node: dict[str, Any]) -> bool:
    """Whether a Node says of itself that pods can run on it."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def resolves(host: str, port: int, name: str, netns_path: str = "") -> bool:
    """Whether the DNS server at `host`:`port` (dialled from the namespace at `netns_path`) has an address for `name`."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = struct.pack("!HHHHHH", 0x6B6C, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 28 if ":" in host else 1, 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = netns.make_socket(netns_path, family, socket.SOCK_DGRAM) if netns_path else socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(DNS_QUERY_SECONDS)
        try:
            sock.connect((host, port))
            sock.send(query)
            answer = sock.recv(512)
        except OSError:
            return False
    flags, answers = struct.unpack("!2xH2xH", answer[:8]) if len(answer) >= 12 else (15, 0)
    return bool(flags & 15 == 0 and answers > 0)


def main(argv: list[str] | None = None) -> int:
    parser = daemon_main.parser("cluster.bootstrap", __doc__ or "")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--report-fd", type=int, default=1)
    parser.add_argument("--nodes", default="", help="names, separated by commas, of the nodes to wait for")
    parser.add_argument("--control-plane-nodes", default="", help="those of them that are to have the role")
    parser.add_argument("--hollow-nodes", type=int, default=0, help="how many hollow nodes to wait for besides")
    parser.add_argument("--dns-service", required=True, help="its addresses, one of each family")
    parser.add_argument("--dns-address", default="", help="ADDRESS:PORT of a DNS server to wait for")
    parser.add_argument("--volumes-path", default="", help="where the nodes keep the volumes of the default storage class")
    parser.add_argument("--domain", default="cluster.local")
    parser.add_argument("--dial-netns", default="")
    args = parser.parse_args(argv)

    async def work() -> None:
        async with Client(kubeconfig.load(args.kubeconfig)) as client:
            await Bootstrap(client, args.report_fd, args, SystemClock()).run()

    return daemon_main.run(args, work())


if __name__ == "__main__":
    sys.exit(main())
