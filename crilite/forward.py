"""Port-forward: connections to a pod's loopback address, made in its network namespace and carried in the client's stream."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from kubeling.crilite.core import Core
from kubeling.crilite.records import Sandbox
from kubeling.crilite.websocket import WebSocket
from kubeling.linux import netns

_READ = 65536
_CONNECT_SECONDS = 10.0


async def connect(core: Core, sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to `port` of the pod. An OSError says why there is none."""
    addresses = ["127.0.0.1", "::1"]
    if sandbox.record.handler == "process":
        addresses = [sandbox.record.ip]
    while True:
        sock = await _socket(core, sandbox, addresses[0])
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (addresses.pop(0), port))
            break
        except ConnectionRefusedError:
            sock.close()
            if not addresses:
                raise
        except BaseException:
            sock.close()
            raise
    return await asyncio.open_connection(sock=sock)


async def _socket(core: Core, sandbox: Sandbox, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if sandbox.record.handler == "process" or sandbox.host_network:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    return await asyncio.to_thread(netns.make_socket, str(core.sandbox_state(sandbox.id) / "net"), family)


async def over_websocket(core: Core, request: Any, client: WebSocket) -> None:
    """One connection for each of the request's ports, until the client goes."""
    sandbox = core.sandbox(request.pod_sandbox_id)
    writers: dict[int, asyncio.StreamWriter] = {}
    tasks: list[asyncio.Task[None]] = []

    async def back(channel: int, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ):
            await client.send_message(channel, data)

    async def forth() -> None:
        while (message := await client.receive_message()) is not None:
            channel, data = message
            writer = writers.get(channel)
            if writer is not None:
                writer.write(data)
                await writer.drain()

    async def ended(all_of: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*all_of, return_exceptions=True)

    try:
        for index, port in enumerate(request.port):
            try:
                reader, writers[2 * index] = await connect(core, sandbox, port)
            except (OSError, TimeoutError) as error:
                await client.send_message(2 * index + 1, f"cannot connect to port {port} of the pod: {error}".encode())
                continue
            tasks.append(asyncio.create_task(back(2 * index, reader)))
        # The channels have no end of their own: when the pod has ended all connections, the client is told so by the end of its own.
        sending = asyncio.create_task(forth())
        over = asyncio.create_task(ended(list(tasks)))
        tasks += [sending, over]
        await asyncio.wait({sending, over}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
    except ConnectionError:
        pass  # One of the two sides has gone, and the other is told by the end of its stream.
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers.values():
            writer.close()
