"""The apiserver, put together: store, hub, kinds, checks, server; and taken apart in order when it is told to stop."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl

from kubeling.api import resources
from kubeling.api.errors import ApiError
from kubeling.apiserver import bootstrap, identity
from kubeling.apiserver.admission import plugins, settings
from kubeling.apiserver.aggregation.availability import Availability
from kubeling.apiserver.aggregation.local import Local
from kubeling.apiserver.aggregation.registry import Aggregated
from kubeling.apiserver.app import Front
from kubeling.apiserver.audit.auditor import auditor
from kubeling.apiserver.authn import methods
from kubeling.apiserver.authn.serviceaccount import load_issuer
from kubeling.apiserver.authz import modes, reconcile
from kubeling.apiserver.authz.escalation import EscalationCheck
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.hub import Hub
from kubeling.apiserver.config import Config
from kubeling.apiserver.context import Context
from kubeling.apiserver.custom.controller import Controller
from kubeling.apiserver.custom.conversion import Webhook
from kubeling.apiserver.custom.definitions import Definitions
from kubeling.apiserver.discovery import Discovery
from kubeling.apiserver.flowcontrol import controller as flowcontrol
from kubeling.apiserver.handlers import watch
from kubeling.apiserver.health import Pages
from kubeling.apiserver.kubelet import KubeletDialer
from kubeling.apiserver.outbound import Caller
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.apiserver.registry.services import PORTS_PREFIX, ServiceAllocator
from kubeling.apiserver.server import Server
from kubeling.apiserver.storage import compaction, encryption
from kubeling.apiserver.storage.client import EtcdClient, TlsFiles
from kubeling.apiserver.storage.errors import StoreError
from kubeling.apiserver.storage.kv import KV
from kubeling.apiserver.subresources import metrics as usage
from kubeling.apiserver.targets import Targets
from kubeling.apiserver.tls import server_context
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.daemon.tasks import Supervisor

log = get_logger("apiserver")

_REPAIR_SECONDS = 180.0
#: Accepted connections inherit them. A client that vanished is noticed within a minute, also by a watch on which nothing happens.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


async def run(
    config: Config, *, clock: Clock | None = None, source: random.Random | None = None, ready: asyncio.Event | None = None
) -> None:
    """Serve until cancelled; then finish what is under way. `ready` is set when requests are accepted."""
    clock = clock or SystemClock()
    sockets = _sockets(config)
    tls = _tls(config)
    client = EtcdClient(config.etcd_servers, TlsFiles(config.etcd_cafile, config.etcd_certfile, config.etcd_keyfile), clock)
    more_roles = reconcile.load(config.auth.rbac_bootstrap_file)
    context = _context(config, client, clock, source or random.SystemRandom())
    context.usage = usage.make(context)
    context.aggregated = Aggregated(context.kinds, context.targets, config)
    context.availability = Availability(context, context.aggregated)
    local = Local(context)
    context.gate = flowcontrol.gate_of(config, clock)
    allocator = _allocator(context)
    discovery = Discovery(context)
    context.definitions.on_kinds.append(discovery.changed)
    context.aggregated.listeners.append(discovery.changed)
    front = Front(context, discovery, Pages(context))
    server = Server(front, tls, methods.peers(config.auth, clock))
    try:
        async with Supervisor(clock) as parts:
            parts.start("hub", context.hub.run)
            parts.start("definitions", context.definitions.run)
            parts.start("kinds", Controller(context.definitions, context.kinds, clock).run)
            parts.start("bookmarks", lambda: watch.bookmarks(context))
            parts.start("compaction", lambda: compaction.run(context.kv, clock, config.compaction_seconds))
            parts.start("repair", lambda: _repair(context, allocator))
            parts.start("authorization", context.authorization.run)
            parts.start("aggregation", context.aggregated.run)
            parts.start("availability", context.availability.run)
            if config.priority_and_fairness:
                parts.start("flow control", flowcontrol.Controller(context, context.gate).run)
            parts.start("apiservices", local.run)
            parts.start("bootstrap", lambda: bootstrap.run(context, more_roles))
            await server.start(sockets)
            addresses = [each.getsockname() for each in sockets]
            log.info("serving", addresses=addresses, store=list(config.etcd_servers))
            parts.start("identity", lambda: identity.run(context, addresses[0][1]))
            if ready is not None:
                ready.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await _shut_down(context, server)
                await context.caller.close()
                if context.auditor is not None:
                    context.auditor.close()
    finally:
        await client.close()


def _context(config: Config, client: EtcdClient, clock: Clock, source: random.Random) -> Context:
    kv = KV(client)
    hub = Hub(kv, clock)
    kinds = Kinds(kv, hub, clock, encryption.load(config.encryption_provider_config))
    kinds.add_all((*resources.BUILTIN, *config.more_kinds))
    issuer = load_issuer(
        config.service_account_issuer,
        config.api_audiences,
        config.service_account_signing_key_file,
        config.service_account_key_files,
        clock,
    )
    authorization = modes.make(config.auth, kinds, clock)
    caller, targets = Caller(clock), Targets(kinds, source)
    told = settings.load(config.admission_control_config_file)
    parts = plugins.Parts(kinds, hub, clock, source, caller, targets, authorization.authorizer, told)
    admission = plugins.chain(parts, config.enable_admission_plugins, config.disable_admission_plugins)
    if authorization.rbac is not None:
        admission.append(EscalationCheck(authorization.rbac, authorization.authorizer))
    return Context(
        config=config,
        clock=clock,
        kv=kv,
        hub=hub,
        kinds=kinds,
        definitions=Definitions(kinds, lambda definition: Webhook(definition, caller, targets)),
        authenticator=methods.make(config.auth, issuer, authorization.authorizer, kinds, clock),
        authorizer=authorization.authorizer,
        authorization=authorization,
        admission=admission,
        issuer=issuer,
        random=source,
        kubelets=KubeletDialer(config),
        caller=caller,
        targets=targets,
        auditor=auditor(config, clock),
    )


def _allocator(context: Context) -> ServiceAllocator:
    """The addresses and ports of Services."""
    kinds, config = context.kinds, context.config
    ports = Cache(PORTS_PREFIX, "kubeling.dev/v1", "NodePort", lambda obj: {}, context.kv, context.hub, context.clock)
    services = kinds.store(resources.SERVICES)
    made = ServiceAllocator(
        kinds.store(resources.IP_ADDRESSES),
        ports,
        services,
        context.kv,
        config.service_cluster_ip_ranges,
        config.node_port_range,
        context.random,
        context.clock,
    )
    served = kinds.find("", "v1", "services")
    assert served is not None
    served.rules.companions = made
    return made


async def _repair(context: Context, allocator: ServiceAllocator) -> None:
    """Every few minutes, from the first on."""
    while True:
        await context.clock.sleep(_REPAIR_SECONDS)
        try:
            await allocator.repair()
        except (StoreError, ApiError) as error:
            log.warning("the addresses of Services could not be checked", error=str(error))


async def _shut_down(context: Context, server: Server) -> None:
    """Readiness goes first, then the listeners, then the watches; writes may finish."""
    log.info("shutting down", streams=len(context.streams))
    context.draining = True
    for stream in list(context.streams):
        stream.close()
    await server.stop(context.config.shutdown_seconds)


def _sockets(config: Config) -> list[socket.socket]:
    """The own address and what was inherited. UsageError where it cannot be had."""
    found: list[socket.socket] = []
    if config.secure_port >= 0:
        family = socket.AF_INET6 if ":" in config.bind_address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((config.bind_address, config.secure_port))
        except OSError as error:
            sock.close()
            where = f"{config.bind_address}:{config.secure_port}"
            raise UsageError(
                f"cannot listen on {where}: {error.strerror}; choose another --secure-port or --bind-address"
            ) from error
        found.append(sock)
    for number in config.listen_fds:
        try:
            found.append(socket.socket(fileno=number))
        except OSError as error:
            raise UsageError(f"--listen-fds {number}: {error.strerror}; pass an open listening socket") from error
    for sock in found:
        sock.setblocking(False)
        for level, option, value in _SOCKET_OPTIONS:
            sock.setsockopt(level, option, value)
    return found


def _tls(config: Config) -> ssl.SSLContext | None:
    if not config.tls_cert_file:
        return None
    authorities = [each for each in (config.auth.client_ca_file, config.auth.proxy_ca_file) if each]
    try:
        return server_context(config.tls_cert_file, config.tls_private_key_file, *authorities)
    except OSError as error:
        raise UsageError(f"--tls-cert-file, --tls-private-key-file or --client-ca-file cannot be used: {error}") from error
