"""kube-controller-manager: all controllers in one process, run by whoever holds the Lease.

A standby holds nothing but its connection: informers are made when it is elected, and dropped when it loses the Lease.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from kubeling.api.resources import PODS
from kubeling.client import identity, queue_metrics
from kubeling.client.informer import InformerFactory
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.leaderelection import LeaderElector, Timing
from kubeling.client.rest import Client
from kubeling.client.sharing import Sharing
from kubeling.controllers import registry
from kubeling.controllers.context import Context, Options
from kubeling.controllers.queue_names import QUEUE_NAMES
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.serving import Page, StatusServer, health_pages
from kubeling.daemon.tasks import Supervisor

log = get_logger("controller-manager")

LEASE = "kube-controller-manager"


@dataclass(frozen=True, slots=True)
class Config:
    """What `run` needs to know. `port` 0 serves no health and metrics."""

    client: ClientConfig
    options: Options = field(default_factory=Options)
    controllers: tuple[str, ...] = ("*",)
    leader_elect: bool = True
    bind_address: str = "127.0.0.1"
    port: int = 10257
    timing: Timing = field(default_factory=Timing)


async def run(config: Config, *, clock: Clock | None = None) -> None:
    """Serve health, campaign, and run the controllers while we lead; until cancelled."""
    clock = clock or SystemClock()
    names = registry.chosen(config.controllers)
    async with Client(config.client, user_agent="kube-controller-manager", clock=clock) as client, Supervisor(clock) as parts:
        elector = (
            LeaderElector(client, LEASE, identity.make(), timing=config.timing, clock=clock) if config.leader_elect else None
        )
        if config.port:
            server = StatusServer(health_pages() | {"/metrics": lambda: metrics(elector)})
            parts.start("health", lambda: server.run(config.bind_address, config.port), critical=True)

        async def lead() -> None:
            await run_controllers(client, config.options, names, clock)

        if elector is not None:
            await elector.run(lead)
        else:
            await lead()


def metrics(elector: LeaderElector | None) -> Page:
    """Prometheus text: the process, the work queues of all controllers, and who leads."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    leading = elector is None or elector.is_leader
    status = f'# TYPE leader_election_master_status gauge\nleader_election_master_status{{name="{LEASE}"}} {int(leading)}\n'
    return Page(generate_latest() + (queue_metrics.page(QUEUE_NAMES) + status).encode(), content_type=CONTENT_TYPE_LATEST)


async def run_controllers(client: Client, options: Options, names: list[str], clock: Clock) -> None:
    """Build and run the named controllers over one set of informers, until cancelled."""
    ctx = Context(client, InformerFactory(client, shapes={PODS: Sharing()}, clock=clock), options, clock)
    runs = {name: registry.build(name, ctx) for name in names}
    async with Supervisor(clock) as parts:
        ctx.start(parts)
        for name, each in runs.items():
            parts.start(name, each)
        log.info("controllers are running", controllers=",".join(names))
        await asyncio.Event().wait()
