"""Putting the parts together and running them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from kubeling.api import quantity
from kubeling.api.resources import NODES, PODS, SERVICES
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Informer
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.memory import give_back_large
from kubeling.daemon.serving import StatusServer, health_pages
from kubeling.daemon.tasks import Supervisor
from kubeling.kubelet.allocation import Allocations
from kubeling.kubelet.backoff import KeyedBackoff
from kubeling.kubelet.cgroups import PodCgroups
from kubeling.kubelet.config import Config
from kubeling.kubelet.context import Context, NodeState
from kubeling.kubelet.cpus import CpuManager, available_cpus, reserved_cpus
from kubeling.kubelet.cri import Runtime
from kubeling.kubelet.deviceplugins import DevicePlugins
from kubeling.kubelet.dnsconfig import DNS, NodeDNS, parse_resolv_conf
from kubeling.kubelet.evictor import Evictor
from kubeling.kubelet.imagegc import ImageCollector
from kubeling.kubelet.images import ImageManager
from kubeling.kubelet.logrotate import LogRotator
from kubeling.kubelet.machine import pid_limit, read_machine
from kubeling.kubelet.manager import PodManager
from kubeling.kubelet.mirrors import Mirrors
from kubeling.kubelet.nodeagent import NodeAgent
from kubeling.kubelet.nodestatus import allocatable, pods_share
from kubeling.kubelet.objects import ObjectCache
from kubeling.kubelet.pleg import EventGenerator
from kubeling.kubelet.probemetrics import ProbeMetrics
from kubeling.kubelet.resources import cpu_shares
from kubeling.kubelet.server import KubeletServer
from kubeling.kubelet.shutdown import NodeShutdown
from kubeling.kubelet.staticpods import ManifestFolder
from kubeling.kubelet.statuses import StatusManager
from kubeling.kubelet.storage import Storage
from kubeling.kubelet.tokens import TokenSource
from kubeling.kubelet.volumes import VolumeManager

log = get_logger("kubelet")

#: Events are sent when what they tell of is over, for the most part: a pod that starts needs the apiserver for itself.
_EVENTS_WAIT = 0.25


async def run(config: Config, client: Client, *, clock: Clock | None = None, ready: asyncio.Event | None = None) -> None:
    """Be the agent of the node until cancelled. Containers go on when it ends."""
    clock = clock or SystemClock()
    give_back_large()
    for folder in (config.root_dir, config.pods_dir, config.logs_dir):
        folder.mkdir(parents=True, exist_ok=True)
    config.pods_dir.chmod(0o750)
    machine = read_machine(config.root_dir)
    runtime = Runtime(config.runtime_endpoint)
    recorder = EventRecorder(client, "kubelet", host=config.node_name, clock=clock, patience=_EVENTS_WAIT)
    state = NodeState(config.node_ips or _own_address(), allocatable(config, machine), asyncio.Event())
    node = Informer(client, NODES, field_selector=f"metadata.name={config.node_name}", clock=clock)
    pods = Informer(client, PODS, field_selector=f"spec.nodeName={config.node_name}", clock=clock)
    services = Informer(client, SERVICES, clock=clock)
    cgroups = PodCgroups(config.cgroup_root)
    if config.enforce_allocatable:
        share = pods_share(config, machine, pid_limit())
        cgroups.limit_all(cpu_shares(share["cpu"]), share["memory"], share["pid"])
    agent = NodeAgent(config, client, runtime, machine, state, node, recorder, clock)
    manager: PodManager
    async with Supervisor(clock) as parts:
        objects = ObjectCache(client, parts, lambda uid: manager.wake(uid), clock)  # noqa: PLW0108 - made below
        statuses = StatusManager(client, clock, lambda uid: manager.gone(uid))  # noqa: PLW0108
        tokens = TokenSource(client, clock)
        devices = DevicePlugins(config.root_dir / "device-plugins", clock, agent.check)
        state.extended = lambda: (devices.accounts.capacity(), devices.accounts.allocatable())
        storage = Storage(config, client, node, tokens, recorder, clock, {"DevicePlugin": devices})
        context = Context(
            config=config,
            clock=clock,
            client=client,
            runtime=runtime,
            images=ImageManager(runtime, lambda: clock.now().timestamp()),
            volumes=VolumeManager(
                config.pods_dir,
                client,
                objects,
                tokens,
                node_name=config.node_name,
                host_ips=lambda: state.host_ips,
                allocatable=lambda: state.allocatable,
                claims=storage.claims,
                csi=storage.csi,
                stats=storage.stats,
                mounting=config.mount_volumes,
            ),
            objects=objects,
            statuses=statuses,
            services=services,
            recorder=recorder,
            crashes=KeyedBackoff(lambda: clock.now().timestamp(), elapsed=clock.monotonic),
            cgroups=cgroups,
            machine=machine,
            node=state,
            node_dns=_node_dns(config),
            allocations=Allocations(config.root_dir / "allocated_pods_state"),
            others=lambda uid: manager.others(uid),  # noqa: PLW0108
            node_object=agent.node,
            devices=devices,
            probe_metrics=ProbeMetrics(),
            cpus=_cpu_manager(config, runtime, clock),
            worker_over=lambda uid: manager.worker_over(uid),  # noqa: PLW0108
            worker_ended=lambda uid: manager.worker_ended(uid),  # noqa: PLW0108 - the manager is made below
        )
        mirrors = Mirrors(client, clock, statuses, agent.node)
        node.add_handler(mirrors.node_changed)
        manager = PodManager(context, pods, agent.node, mirrors)
        agent.on_change(manager.wake_all)
        images = ImageCollector(runtime, clock, config.image_policy, lambda: evictor.image_filesystem(), agent.tell)  # noqa: PLW0108
        evictor = Evictor(context, images, manager.workers, agent.check, agent.tell)
        shutdown = NodeShutdown(context, manager.workers, agent.check)
        manager.on_over = shutdown.worker_over
        state.shutting_down = lambda: shutdown.begun
        state.pressure = lambda: evictor.conditions
        pleg = EventGenerator(runtime, clock, manager.busy, manager.runtime_changed, manager.wake_all)
        server = KubeletServer(context, manager)
        try:
            parts.start("events", recorder.run)
            parts.start("node informer", node.run)
            parts.start("pod informer", pods.run)
            parts.start("service informer", services.run)
            parts.start("node", agent.run)
            parts.start("lease", agent.keep_lease)
            parts.start("pods", manager.run)
            agent.volumes_in_use = storage.claims.in_use
            storage.start(parts, wake_all=manager.wake_all, report=agent.check)
            parts.start("mirror pods", mirrors.run)
            if config.static_pods is not None:
                parts.start("static pods", ManifestFolder(config.static_pods, config.node_name, clock, manager.set_statics).run)
            else:
                manager.set_statics({})
            parts.start("runtime events", pleg.run)
            parts.start("log rotation", LogRotator(context, config.log_max_size, config.log_max_files).run)
            parts.start("device plugins", devices.run)
            parts.start("cpus", context.cpus.run)
            parts.start("eviction", evictor.run)
            parts.start("image collection", images.run)
            if config.port > 0:
                parts.start("server", server.run)
            if config.healthz_port > 0:
                health = StatusServer(health_pages(lambda: None))
                parts.start("health", lambda: health.run(config.healthz_address, config.healthz_port))
            log.info("kubelet started", node=config.node_name, runtime=config.runtime_endpoint, address=",".join(state.host_ips))
            if ready is not None:
                ready.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if config.shutdown_grace:
                await shutdown.run()
            raise
        finally:
            await manager.close()
            await statuses.close()
            await storage.drivers.close()
            await runtime.close()


def _cpu_manager(config: Config, runtime: Runtime, clock: Clock) -> CpuManager:
    cpus = available_cpus()
    reserved = [quantity.milli(each.get("cpu")) for each in (config.system_reserved, config.kube_reserved)]
    kept = reserved_cpus(config.reserved_cpus, sum(reserved), cpus)
    return CpuManager(config.cpu_policy, cpus, kept, config.root_dir / "cpu_manager_state", runtime, clock)


def _own_address() -> tuple[str, ...]:
    """The address from which the default route leaves, that of IPv6 only where there is none of IPv4; nothing is sent."""
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 9))
            return (str(probe.getsockname()[0]),)
    return ("127.0.0.1",)


def _node_dns(config: Config) -> NodeDNS:
    try:
        host = parse_resolv_conf(Path(config.resolv_conf).read_text()) if config.resolv_conf else DNS()
    except OSError as error:
        log.warning("cannot read the node's resolv.conf", path=config.resolv_conf, error=str(error))
        host = DNS()
    return NodeDNS(config.cluster_dns, config.cluster_domain, host)
