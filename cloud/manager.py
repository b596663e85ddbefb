"""cloud-controller-manager: the controllers that need the cloud, run by whoever holds the Lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from kubeling.client import identity
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.leaderelection import LeaderElector, Timing
from kubeling.client.rest import Client
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.node_controller import NodeController
from kubeling.cloud.node_lifecycle import NodeLifecycleController
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import NodeGroups, Provider, ProviderError
from kubeling.cloud.providers import create
from kubeling.cloud.route_controller import RouteController
from kubeling.cloud.service_controller import ServiceController
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.serving import StatusServer, health_pages
from kubeling.daemon.tasks import Supervisor

if TYPE_CHECKING:
    from kubeling.cloud.autoscaler.autoscaler import Autoscaler

log = get_logger("cloud-controller-manager")

LEASE = "cloud-controller-manager"


@dataclass(frozen=True, slots=True)
class Config:
    """What `run` needs to know. `port` 0 serves no health and metrics; `options` are the provider's."""

    client: ClientConfig
    provider: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)
    leader_elect: bool = True
    bind_address: str = "127.0.0.1"
    port: int = 10258
    timing: Timing = field(default_factory=Timing)
    #: For the routes of clouds that need some.
    cluster_name: str = "kubernetes"
    cluster_cidrs: tuple[str, ...] = ()
    #: None: no cluster autoscaler.
    autoscaler: Settings | None = None


async def run(config: Config, *, clock: Clock | None = None) -> None:
    """Serve health, campaign, and run the controllers while we lead; until cancelled."""
    clock = clock or SystemClock()
    async with Client(config.client, user_agent="cloud-controller-manager", clock=clock) as client, Supervisor(clock) as parts:
        if config.port:
            server = StatusServer(health_pages())
            parts.start("health", lambda: server.run(config.bind_address, config.port), critical=True)

        async def lead() -> None:
            await run_controllers(client, config, clock)

        if config.leader_elect:
            await LeaderElector(client, LEASE, identity.make(), timing=config.timing, clock=clock).run(lead)
        else:
            await lead()


async def run_controllers(client: Client, config: Config, clock: Clock) -> None:
    """Until cancelled; then the provider gives up what it holds on this machine."""
    informers = InformerFactory(client, clock=clock)
    recorders = {name: EventRecorder(client, name, clock=clock) for name in ("service-controller", "cloud-node-controller")}
    services = ServiceController(client, informers, recorders["service-controller"], clock)
    provider = create(config.provider, config.options, services.cluster)
    services.balancers = provider.load_balancers
    nodes = recorders["cloud-node-controller"]
    told: list[Callable[[], None]] = []
    running: dict[str, Callable[[], Awaitable[None]]] = {}
    if services.balancers is not None:
        running["service-controller"] = services.run
    if provider.instances is not None:
        initialiser = NodeController(client, informers, nodes, provider.instances, clock, Patience(), provider.zones)
        running["cloud-node-controller"] = initialiser.run
        lifecycle = NodeLifecycleController(client, informers, nodes, provider.instances, clock, Patience())
        running["cloud-node-lifecycle"] = lifecycle.run
        told.append(lifecycle.news)
    if provider.routes is not None and config.cluster_cidrs:
        running["route-controller"] = RouteController(
            *(client, informers, nodes, provider.routes, clock, Patience()),
            cluster=config.cluster_name,
            cluster_cidrs=config.cluster_cidrs,
        ).run
    if config.autoscaler is not None:
        if provider.node_groups is None:
            raise ValueError(f"--autoscale: the cloud {provider.name} has no node groups")
        recorders["cluster-autoscaler"] = EventRecorder(client, "cluster-autoscaler", clock=clock)
        scaler = _autoscaler(client, informers, recorders["cluster-autoscaler"], provider.node_groups, config, clock)
        running["cluster-autoscaler"] = scaler.run
        told.append(scaler.news)
    try:
        async with Supervisor(clock) as parts:
            informers.start(parts)
            for name, recorder in recorders.items():
                parts.start(f"events {name}", recorder.run)
            for name, part in running.items():
                parts.start(name, part)
            if told:
                parts.start("news of the cloud", partial(_follow, provider, told, clock))
            log.info("controllers are running", provider=provider.name, controllers=sorted(running))
            await asyncio.Event().wait()  # Leaving the block ends them.
    finally:
        await provider.close()


def _autoscaler(
    client: Client, informers: InformerFactory, events: EventRecorder, groups: NodeGroups, config: Config, clock: Clock
) -> Autoscaler:
    # Most clusters have none: not to be paid for by all.
    from kubeling.cloud.autoscaler.autoscaler import Autoscaler
    from kubeling.cloud.autoscaler.simulator import SchedulerSimulator
    from kubeling.cloud.providers.dialer import Dialer

    assert config.autoscaler is not None
    simulator = SchedulerSimulator(client, Dialer(config.options.get("dial-netns", "")))
    return Autoscaler(client, informers, events, groups, simulator, config.autoscaler, clock)


async def _follow(provider: Provider, told: Sequence[Callable[[], None]], clock: Clock) -> None:
    """Tell the controllers whenever the cloud says that something has changed."""
    backoff = Backoff(base=0.5, limit=30.0)
    while True:
        try:
            await provider.changes()
        except ProviderError as error:
            delay = backoff.next()
            log.warning("the cloud does not tell what changes", error=str(error), again_in=round(delay, 1))
            await clock.sleep(delay)
            continue
        backoff.reset()
        for each in told:
            each()
