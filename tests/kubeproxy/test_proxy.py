"""The proxy's loop: what cannot be served keeps nothing else waiting."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from kubeling.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from kubeling.client.informer import Change
from kubeling.client.store import Store
from kubeling.daemon.clock import VirtualClock
from kubeling.kubeproxy.proxy import Proxy
from kubeling.kubeproxy.userspace import UserspaceBackend
from tests.ports import free_port


class Seen:
    """An informer of objects that the test puts there."""

    def __init__(self, indexers: Any) -> None:
        self.store = Store(indexers or {})
        self.synced = asyncio.Event()
        self._handlers: list[Any] = []

    def add_handler(self, handler: Any) -> None:
        self._handlers.append(handler)

    def put(self, obj: dict[str, Any]) -> None:
        change = Change("add", None, obj)
        self.store.put(obj)
        for handler in self._handlers:
            handler(change)


class Informers:
    def __init__(self) -> None:
        self.of: dict[Any, Seen] = {}

    def informer(self, resource: Any, *, indexers: Any = None) -> Seen:
        return self.of.setdefault(resource, Seen(indexers))

    async def wait_synced(self, which: Any) -> None:
        """They are."""


def service(name: str, port: int, **more: Any) -> dict[str, Any]:
    ports = [{"name": "p", "port": port, "protocol": "TCP"}]
    spec = {"clusterIP": "127.0.0.1", "clusterIPs": ["127.0.0.1"], "ports": ports, **more}
    return {"metadata": {"namespace": "x", "name": name}, "spec": spec}


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_port_that_cannot_be_had_keeps_no_other_service_waiting() -> None:
    """The attempts at it become rare, and what changes meanwhile is served at once all the same."""
    clock, informers = VirtualClock(), Informers()
    backend = UserspaceBackend(node_port_addresses=[], manage_addresses=False)
    proxy = Proxy(cast("Any", informers), backend, node="n", node_ips=["127.0.0.1"], clock=clock)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        informers.of[SERVICES].put(service("cannot", taken.getsockname()[1]))
        running = asyncio.ensure_future(proxy.run())
        try:
            for number in range(8):
                port = free_port()
                informers.of[SERVICES].put(service(f"can-{number}", port))
                for _ in range(20):
                    await asyncio.sleep(0.02)
                    await clock.advance(0.05)
                    if await answers(port):
                        break
                assert await answers(port), f"service {number} is not served a second after it came"
            assert "cannot listen" in (proxy.problem or "")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await backend.close()


async def test_what_is_on_a_node_with_the_same_address_is_here() -> None:
    """One proxy serves all nodes of a machine without namespaces: their endpoints are local to it, those of other machines are not."""
    clock, informers = VirtualClock(), Informers()
    backend = UserspaceBackend(node_port_addresses=[], manage_addresses=False)
    proxy = Proxy(cast("Any", informers), backend, node="n", node_ips=["127.0.0.1"], clock=clock)
    running = asyncio.ensure_future(proxy.run())
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    try:
        for name, address, there in (("near", "127.0.0.1", True), ("far", "10.0.0.9", False)):
            node = {"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": address}]}}
            informers.of[NODES].put(node)
            port = free_port()
            informers.of[SERVICES].put(service(name, port, internalTrafficPolicy="Local"))
            labels = {"kubernetes.io/service-name": name}
            endpoint = {"addresses": ["127.0.0.1"], "nodeName": name, "conditions": {"ready": True}}
            ports = [{"name": "p", "port": server.sockets[0].getsockname()[1], "protocol": "TCP"}]
            metadata = {"namespace": "x", "name": f"{name}-1", "labels": labels}
            informers.of[ENDPOINT_SLICES].put(
                {"metadata": metadata, "addressType": "IPv4", "endpoints": [endpoint], "ports": ports}
            )
            for _ in range(20):
                await asyncio.sleep(0.02)
                await clock.advance(0.05)
                if await answers(port):
                    break
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            # A relay to the endpoint ends in good order, where there is none the connection is reset.
            if there:
                assert await reader.read() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            writer.close()
    finally:
        server.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await backend.close()
