"""LoadBalancer Services on a live apiserver; the nodes are plain servers on loopback addresses, where a NodePort would be."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubeling.api.resources import EVENTS, NODES, SERVICES
from kubeling.client.rest import Client

pytestmark = pytest.mark.live
Obj = dict[str, Any]


@asynccontextmanager
async def node(client: Client, name: str, address: str) -> AsyncIterator[None]:
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {"addresses": [{"type": "InternalIP", "address": address}], "conditions": [{"type": "Ready", "status": "True"}]}
    await client.patch(NODES, name, {"status": status}, subresource="status")
    try:
        yield
    finally:
        await client.delete(NODES, name)


@asynccontextmanager
async def answering(address: str, port: int, word: bytes) -> AsyncIterator[None]:
    """A server that reads to the end, then says its word and what it read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word + await reader.read())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, address, port):
        yield


async def ask(address: str, port: int, text: bytes = b"") -> bytes:
    """Send, close our half, read to the end."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(text)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


def service(name: str, *ports: Obj, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": list(ports), **spec},
    }


@pytest.fixture
def cloud(plane: Any, tools: Any, worker_id: str) -> Any:
    """Starts cloud-controller-managers that end with the test. Each test worker has addresses of its own."""
    started: list[subprocess.Popen[bytes]] = []
    number = 200 + (int(worker_id[2:]) if worker_id.startswith("gw") else 0)

    def start() -> subprocess.Popen[bytes]:
        process = plane.daemon(
            "cloud",
            f"--kubeconfig={plane.kubeconfig('system:cloud-controller-manager')}",
            "--secure-port=0",
            "--leader-elect=false",
            f"--load-balancer-cidr=127.{number}.7.0/24",
        )
        started.append(process)
        return process

    yield start
    for each in started:
        tools.stop(each)


async def address_of(client: Client, namespace: str, name: str) -> str:
    found = await client.get(SERVICES, name, namespace)
    ingress = (found["status"].get("loadBalancer") or {}).get("ingress") or [{}]
    return str(ingress[0].get("ip") or "")


async def test_tcp_udp_failover_and_take_over(tools: Any, client: Client, namespace: str, cloud: Callable[[], Any]) -> None:
    first = cloud()
    async with node(client, f"{namespace}-a", "127.0.0.51"), node(client, f"{namespace}-b", "127.0.0.52"):
        made = await client.create(
            SERVICES, service("web", {"name": "t", "port": 8181}, {"name": "u", "port": 8181, "protocol": "UDP"}), namespace
        )
        tcp, udp = (each["nodePort"] for each in made["spec"]["ports"])
        address = await tools.until(lambda: address_of(client, namespace, "web"), "an address")
        assert (
            "service.kubernetes.io/load-balancer-cleanup"
            in (await client.get(SERVICES, "web", namespace))["metadata"]["finalizers"]
        )

        async with answering("127.0.0.51", tcp, b"a:"):
            async with answering("127.0.0.52", tcp, b"b:"):
                big = b"x" * 1_000_000
                answers = [await ask(address, 8181, big) for _ in range(4)]
                assert sorted(each[:2] for each in answers) == [b"a:", b"a:", b"b:", b"b:"]
                assert all(each[2:] == big for each in answers)
            # One node no longer answers: nobody notices.
            assert {(await ask(address, 8181, b"!")) for _ in range(4)} == {b"a:!"}

            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
            ):
                server.bind(("127.0.0.51", udp))
                server.setblocking(False)
                sender.setblocking(False)
                loop = asyncio.get_running_loop()

                async def echo() -> None:
                    while True:
                        data, peer = await loop.sock_recvfrom(server, 2048)
                        await loop.sock_sendto(server, b"re:" + data, peer)

                task = loop.create_task(echo())
                try:
                    # The first session may go to the node where nobody listens; that is what UDP is like.
                    async def answered() -> bool:
                        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
                            fresh.setblocking(False)
                            await loop.sock_sendto(fresh, b"hi", (address, 8181))
                            try:
                                async with asyncio.timeout(0.5):
                                    return (await loop.sock_recvfrom(fresh, 2048))[0] == b"re:hi"
                            except TimeoutError:
                                return False

                    await tools.until(answered, "datagrams come back")
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

            # A second instance serves the same address; the first one may go.
            cloud()
            second_ready = await tools.until(lambda: ask(address, 8181, b"?"), "still served")
            assert second_ready == b"a:?"
            await asyncio.to_thread(tools.stop, first)

            async def served() -> bool:
                try:
                    return await ask(address, 8181, b"?") == b"a:?"
                except OSError:
                    return False

            await tools.until(served, "served by the second")
            assert await address_of(client, namespace, "web") == address

            await client.patch(SERVICES, "web", {"spec": {"type": "ClusterIP"}}, namespace)

            async def closed() -> bool:
                found = await client.get(SERVICES, "web", namespace)
                return not found["status"].get("loadBalancer") and not found["metadata"].get("finalizers")

            await tools.until(closed, "no longer a load balancer")
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await ask(address, 8181)


async def test_a_taken_port_is_served_elsewhere_and_said(
    tools: Any, client: Client, namespace: str, cloud: Callable[[], Any]
) -> None:
    cloud()
    async with node(client, f"{namespace}-a", "127.0.0.53"):
        await client.create(SERVICES, service("one", {"port": 7001}), namespace)
        address = await tools.until(lambda: address_of(client, namespace, "one"), "an address")
        await client.delete(SERVICES, "one", namespace)

        async def free() -> bool:
            return not (await client.list(SERVICES, namespace))["items"]

        await tools.until(free, "deleted")
        with socket.create_server((address, 7002)):
            body = service("two", {"port": 7002}, loadBalancerIP=address)
            node_port = (await client.create(SERVICES, body, namespace))["spec"]["ports"][0]["nodePort"]
            assert await tools.until(lambda: address_of(client, namespace, "two"), "an address") == address
            found = await client.get(SERVICES, "two", namespace)
            assert found["metadata"]["annotations"]["kubeling.dev/host-ports"] == "7002=15002"
            async with answering("127.0.0.53", node_port, b"a:"):
                assert await ask(address, 15002, b"!") == b"a:!"

            async def said() -> bool:
                events = (await client.list(EVENTS, namespace))["items"]
                return any(
                    "taken by another program" in each["message"] for each in events if each["reason"] == "SyncLoadBalancerFailed"
                )

            await tools.until(said, "an event says so")
        wish = service("three", {"port": 7003}, loadBalancerIP="10.1.2.3")
        await client.create(SERVICES, wish, namespace)

        async def refused() -> bool:
            events = (await client.list(EVENTS, namespace))["items"]
            return any("10.1.2.3 is not in" in each["message"] for each in events)

        await tools.until(refused, "a wish that cannot be met is refused in an event")
        for name in ("two", "three"):
            await client.delete(SERVICES, name, namespace)
        await tools.until(free, "all are gone")
