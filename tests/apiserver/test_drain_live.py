"""An apiserver is told to stop while clients press it. Those that know another one see no error, and their watches go on there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kubeling.api import resources
from kubeling.client.informer import Informer
from kubeling.client.kubeconfig import from_document
from kubeling.client.rest import Client
from tests.apiserver import harness
from tests.apiserver.conftest import make_namespace
from tests.apiserver.harness import Server, World, config_map
from tests.apiserver.plain import Plain, tls_of

pytestmark = pytest.mark.live
_CLIENTS = 12


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with harness.world(tmp_path) as made:
        yield made


def _client(servers: list[Server]) -> Client:
    """As a kubeconfig would have it: one server, and an extension that names the others."""
    first, *others = servers
    world = first.world
    cert, key = world.users["admin"]
    extension = {"name": "kubeling.dev/servers", "extension": {"servers": [each.url for each in others]}}
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": first.url,
                    "certificate-authority": str(world.authority.path),
                    "extensions": [extension],
                },
            }
        ],
        "users": [{"name": "u", "user": {"client-certificate": cert, "client-key": key}}],
    }
    return Client(from_document(document, world.folder / "config"))


async def _press(client: Client, namespace: str, which: int, stop: asyncio.Event, written: dict[str, str]) -> int:
    """Create, read, change, list and delete, and note what is acknowledged. Every error is one too many."""
    number = 0
    while not stop.is_set():
        number += 1
        name = f"c{which}-{number}"
        made = await client.create(resources.CONFIG_MAPS, config_map(name, n="0"), namespace)
        written[name] = "0"
        made["data"]["n"] = "1"
        await client.update(resources.CONFIG_MAPS, made)
        written[name] = "1"
        await client.patch(resources.CONFIG_MAPS, name, {"data": {"n": "2"}}, namespace)
        written[name] = "2"
        found = await client.get(resources.CONFIG_MAPS, name, namespace)
        assert found["data"]["n"] == "2"
        if number % 3 == 0:
            await client.delete(resources.CONFIG_MAPS, name, namespace)
            del written[name]
        if number % 10 == 0:
            await client.list(resources.CONFIG_MAPS, namespace, limit=50)
    return number


async def test_clients_that_know_another_server_see_no_error(world: World):
    servers = [await asyncio.to_thread(world.start_server) for _ in range(2)]
    with servers[0].client() as admin:
        namespace = make_namespace(admin).name
    stop = asyncio.Event()
    written: dict[str, str] = {}
    clients = [_client([servers[at % 2], servers[1 - at % 2]]) for at in range(_CLIENTS)]
    watching = [_client(servers), _client(servers[::-1])]
    informers = [Informer(each, resources.CONFIG_MAPS, namespace=namespace) for each in watching]
    following = [asyncio.create_task(each.run()) for each in informers]
    pressing = [asyncio.create_task(_press(each, namespace, at, stop, written)) for at, each in enumerate(clients)]
    try:
        for server in servers:
            await _more(written, pressing)
            began = time.monotonic()
            assert await asyncio.to_thread(server.daemon.stop) == 0
            assert time.monotonic() - began < 8
            await _more(written, pressing)
            port = int(server.url.rpartition(":")[2])
            await asyncio.to_thread(world.start_server, port=port)
        await _more(written, pressing)
        stop.set()
        rounds = await asyncio.wait_for(asyncio.gather(*pressing), 30)
        assert min(rounds) > 5
        listed = await clients[0].list(resources.CONFIG_MAPS, namespace)
        assert {each["metadata"]["name"]: each["data"]["n"] for each in listed["items"]} == written
        for informer in informers:
            await _until(lambda: {obj["metadata"]["name"]: obj["data"]["n"] for obj in informer.store} == written)  # noqa: B023
    finally:
        for task in (*pressing, *following):
            task.cancel()
        await asyncio.gather(*pressing, *following, return_exceptions=True)
        for client in (*clients, *watching):
            await client.close()


async def _more(written: dict[str, str], pressing: list[asyncio.Task[int]]) -> None:
    """Until a hundred more writes have been acknowledged; raises what a client has met."""
    before = len(written)

    def enough() -> bool:
        for task in pressing:
            if task.done():
                task.result()
        return len(written) >= before + 100

    await _until(enough)


async def _until(condition: Callable[[], bool]) -> None:
    """Look again and again, while the clients in this loop go on."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_the_last_answers_say_that_they_are_the_last(world: World):
    """HTTP/1.1 has no GOAWAY. A client that is in the middle of its work is told by `connection: close` before it can send into a closed connection."""
    server = world.start_server()
    tls = tls_of(server)
    ended: list[str | None] = []

    def ask() -> None:
        client = Plain(server, tls)
        client("GET", "/version")
        connected.wait(20)
        while True:
            client.http.request("GET", "/api/v1/namespaces/default")
            answer = client.http.getresponse()
            answer.read()
            if answer.will_close:
                ended.append(answer.getheader("connection"))
                return

    connected = threading.Barrier(9)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        connected.wait(20)
        assert server.daemon.stop() == 0
        for each in asking:
            each.result(10)
    assert ended == ["close"] * 8
