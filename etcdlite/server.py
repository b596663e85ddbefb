"""The daemon: a member behind its client port and its status page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.daemon.serving import Page, StatusServer
from kubeling.etcdlite import maintenance, metrics
from kubeling.etcdlite.access import Access
from kubeling.etcdlite.config import Config, host_port
from kubeling.etcdlite.gateway import Gateway
from kubeling.etcdlite.joining import find_place, take_directory
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.services import services_of
from kubeling.etcdlite.transport.listener import Server
from kubeling.etcdlite.transport.shared import Limits
from kubeling.etcdlite.transport.tally import Tally

log = get_logger("etcdlite")

#: What calls that are being done get when the member stops.
_GRACE_SECONDS = 0.2
#: What a gRPC message may have beside the request itself, as in etcd.
_OVERHEAD_BYTES = 512 << 10


async def run(config: Config, *, clock: Clock | None = None, ready: Callable[[Member], None] | None = None) -> None:
    """Serve until cancelled. Raises UsageError for what the operator has to mend, a failed disk among it."""
    lock = take_directory(config.data_dir)
    member = Member(config, await find_place(config), lock, clock or SystemClock())
    access = Access(member)
    await member.start()
    services = services_of(member, access)
    pages: dict[str, Callable[[], Page]] = {}
    limits = Limits(config.max_streams, config.max_request_bytes + _OVERHEAD_BYTES)
    limits.keepalive_min, limits.keepalive_interval, limits.keepalive_timeout = config.keepalive_seconds
    server = Server(services, Gateway(services, pages), limits)
    pages |= _pages(member, server.tallies)
    try:
        for url in config.listen_client_urls:
            await server.listen(url, config.client_tls)
        log.info("serving clients", urls=",".join(config.listen_client_urls))
        async with asyncio.TaskGroup() as group:
            status = StatusServer(pages)
            for url in config.listen_metrics_urls:
                group.create_task(_status_page(status, url))
            if ready is not None:
                ready(member)
            await member.failure
    except ExceptionGroup as group:
        # What ended it, without the trace of the group around it.
        raise group.exceptions[0] from None
    finally:
        await member.hand_over()
        await server.stop(_GRACE_SECONDS)
        await member.stop()


async def _status_page(pages: StatusServer, url: str) -> None:
    host, port = host_port(url)
    try:
        await pages.run(host, port)
    except OSError as error:
        with contextlib.suppress(Exception):
            log.error("the status page cannot be served", url=url, error=error.strerror)
        raise UsageError(f"cannot listen on {url}: {error.strerror}") from None


def _pages(member: Member, tallies: Mapping[str, Tally]) -> dict[str, Callable[[], Page]]:
    def health() -> Page:
        problem = member.problem()
        if problem is None:
            return Page('{"health":"true","reason":""}', content_type="application/json")
        return Page(f'{{"health":"false","reason":"{problem}"}}', 503, "application/json")

    def show_metrics() -> Page:
        return Page(metrics.render(member, tallies), content_type="text/plain; version=0.0.4; charset=utf-8")

    def plain() -> Page:
        problem = member.problem()
        return Page("ok") if problem is None else Page(problem + "\n", 503)

    def version() -> Page:
        return Page(
            f'{{"etcdserver":"{maintenance.VERSION}","etcdcluster":"{cluster_version}"}}', content_type="application/json"
        )

    cluster_version = ".".join(maintenance.VERSION.split(".")[:2]) + ".0"
    return {
        "/version": version,
        "/health": health,
        "/healthz": plain,
        "/livez": lambda: Page("ok"),
        "/readyz": plain,
        "/metrics": show_metrics,
    }
