"""All the parts of a process of hollow nodes, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client import Gauge

from kubeling.api.resources import NODES, PODS
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Informer, without_managed_fields
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.serving import StatusServer, health_pages
from kubeling.daemon.tasks import Supervisor
from kubeling.kubelet import httpd
from kubeling.kubelet.hollow.config import NodeSpec, Settings
from kubeling.kubelet.hollow.nodes import HollowNodes
from kubeling.kubelet.hollow.pods import HollowPods, by_node, slim
from kubeling.kubelet.hollow.server import HollowServer

log = get_logger("hollow")

_NODES = Gauge("hollow_nodes", "Nodes that are played")
_PODS = Gauge("hollow_pods", "Pods that are played")


async def run(
    client: Client,
    node_client: Client,
    settings: Settings,
    nodes: Sequence[NodeSpec],
    clock: Clock,
    *,
    address: str,
    port: int = 0,
    cert_file: str = "",
    key_file: str = "",
    client_ca_file: str = "",
    health_address: str = "127.0.0.1",
    health_port: int = 0,
) -> None:
    """Play `nodes` until cancelled. Without a `port` there is no kubelet API.

    `node_client` is for what keeps the nodes alive: Leases must not wait for a place behind thousands of pods.
    """
    recorder = EventRecorder(client, "kubelet", host="hollow", clock=clock)
    node_informer = Informer(client, NODES, transform=without_managed_fields, clock=clock)
    # Pods without a node are nothing to us.
    pod_informer = Informer(
        client, PODS, field_selector="spec.nodeName!=", indexers={"node": by_node}, transform=slim, clock=clock
    )
    book = HollowNodes(node_client, node_informer, settings, nodes, recorder, clock, host_ip=address, port=port)
    pods = HollowPods(client, pod_informer, book, settings.stages, recorder, clock, settings.parallel)
    book.changed = pods.node_changed
    _NODES.set_function(lambda: len(book))
    _PODS.set_function(lambda: len(pods))
    async with Supervisor(clock) as parts:
        parts.start("events", recorder.run)
        parts.start("node informer", node_informer.run)
        parts.start("pod informer", pod_informer.run)
        if port:
            server = HollowServer(client, pods, clock)
            context = httpd.tls_context(cert_file, key_file, client_ca_file)
            parts.start("server", lambda: server.run(address, port, context))
        if health_port:
            health = StatusServer(health_pages(lambda: None))
            parts.start("health", lambda: health.run(health_address, health_port))
        parts.start("nodes", lambda: book.run(parts))
        # A pod is looked at with its node's eyes.
        await node_informer.synced.wait()
        parts.start("pods", lambda: pods.run(parts))
        log.info("hollow nodes started", nodes=len(nodes), stages=len(settings.stages))
        await asyncio.Event().wait()
