"""The daemon: a member behind its gRPC port and its status page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import grpc
import grpc.aio

from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.daemon.serving import Page, StatusServer
from kubeling.etcdlite import kv_service, lease_service, maintenance, metrics, watch_service
from kubeling.etcdlite.config import TLS, Config, host_port
from kubeling.etcdlite.member import Member

log = get_logger("etcdlite")

_OPTIONS = (
    # What is too large for etcd is refused by the KV service with etcd's words; this only stops the absurd.
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 7_200_000),
)


async def run(config: Config, *, clock: Clock | None = None, ready: Callable[[Member], None] | None = None) -> None:
    """Serve until cancelled. Raises UsageError for what the operator has to mend, and OSError where the disk fails."""
    member = Member(config, clock or SystemClock())
    await member.start()
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(
        (
            kv_service.handler(member),
            watch_service.handler(member),
            lease_service.handler(member),
            *maintenance.handlers(member),
        )
    )
    try:
        for url in config.listen_client_urls:
            _listen(server, url, config.client_tls)
        await server.start()
        log.info("serving clients", urls=",".join(config.listen_client_urls))
        async with asyncio.TaskGroup() as group:
            pages = StatusServer(_pages(member))
            for url in config.listen_metrics_urls:
                group.create_task(_status_page(pages, url))
            if ready is not None:
                ready(member)
            await member.failure
    finally:
        await server.stop(grace=0.2)
        await member.stop()


def _listen(server: grpc.aio.Server, url: str, tls: TLS) -> None:
    address = url.replace("unix://", "unix:") if url.startswith("unix:") else "{}:{}".format(*host_port(url))
    try:
        if not url.startswith("https:"):
            server.add_insecure_port(address)
            return
        with open(tls.cert, "rb") as cert, open(tls.key, "rb") as key:
            pair = (key.read(), cert.read())
        ca = None
        if tls.ca:
            with open(tls.ca, "rb") as file:
                ca = file.read()
        server.add_secure_port(address, grpc.ssl_server_credentials([pair], ca, tls.client_auth))
    except RuntimeError as error:
        raise UsageError(f"cannot listen on {url}: the address is in use or not this machine's ({error})") from None


async def _status_page(pages: StatusServer, url: str) -> None:
    host, port = host_port(url)
    try:
        await pages.run(host, port)
    except OSError as error:
        with contextlib.suppress(Exception):
            log.error("the status page cannot be served", url=url, error=error.strerror)
        raise UsageError(f"cannot listen on {url}: {error.strerror}") from None


def _pages(member: Member) -> dict[str, Callable[[], Page]]:
    def health() -> Page:
        problem = member.problem()
        if problem is None:
            return Page('{"health":"true","reason":""}', content_type="application/json")
        return Page(f'{{"health":"false","reason":"{problem}"}}', 503, "application/json")

    def show_metrics() -> Page:
        return Page(metrics.render(member), content_type="text/plain; version=0.0.4; charset=utf-8")

    def plain() -> Page:
        problem = member.problem()
        return Page("ok") if problem is None else Page(problem + "\n", 503)

    return {"/health": health, "/healthz": plain, "/livez": lambda: Page("ok"), "/readyz": plain, "/metrics": show_metrics}
