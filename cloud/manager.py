"""cloud-controller-manager: the controllers that need the cloud, run by whoever holds the Lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeling.client import identity
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.leaderelection import LeaderElector, Timing
from kubeling.client.rest import Client
from kubeling.cloud.providers import create
from kubeling.cloud.service_controller import ServiceController
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.serving import StatusServer, health_pages
from kubeling.daemon.tasks import Supervisor

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
    events = EventRecorder(client, "service-controller", clock=clock)
    services = ServiceController(client, informers, events, clock)
    provider = create(config.provider, config.options, services.cluster)
    services.balancers = provider.load_balancers
    try:
        async with Supervisor(clock) as parts:
            informers.start(parts)
            parts.start("events", events.run)
            log.info("controllers are running", provider=provider.name)
            if services.balancers is not None:
                await services.run()
    finally:
        await provider.close()
