"""`port-forward`: local ports that lead to a pod.

Each local connection has a WebSocket of its own to the apiserver, over which the kubelet's protocol numbers its channels: 0 is the connection's data, 1 is for
errors; the first message of each is the port again, in two bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from functools import partial
from typing import Annotated

import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import PODS
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import targets_of
from kubeling.cli.verbs.logs import pod_of
from kubeling.cli.websocket import WebSocket, connect
from kubeling.client.rest import ConnectionFailed

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_READ = 32 * 1024
#: More local connections than these wait to be accepted.
_MAX_CONNECTIONS = 512


async def port_forward(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME [LOCAL:]REMOTE…")] = None,
    address: Annotated[
        str, typer.Option("--address", help="Local addresses, with commas; localhost is 127.0.0.1 and ::1.")
    ] = "localhost",
    pod_running_timeout: Annotated[str, typer.Option("--pod-running-timeout", help="How long to wait until a pod runs.")] = "1m",
) -> int:
    """Make ports of a pod local ones: `kubeling port-forward svc/web 8080:80`; `:80` chooses a free port."""
    if not words or len(words) < 2:
        raise CommandError("TYPE/NAME and list of ports are required for port-forward")
    flags.duration(pod_running_timeout)
    pod = await pod_of(session, words[0])
    phase = (pod.get("status") or {}).get("phase")
    if phase != "Running":
        raise CommandError(f"unable to forward port because pod is not running. Current status={phase}")
    service = await _service(session, words[0])
    pairs = [_pair(each, service, pod) for each in words[1:]]
    forwarding = _Forwarding(session, pod)
    servers: list[asyncio.Server] = []
    try:
        for local, remote in pairs:
            servers += await forwarding.listen(address, local, remote)
        await forwarding.broken
    except asyncio.CancelledError:
        return 0
    finally:
        for each in servers:
            each.close()
        await forwarding.close()
    raise CommandError(f"lost connection to pod: {forwarding.broken.result()}")


async def _service(session: Session, word: str) -> Obj | None:
    """The Service that is meant, if it is one: its ports are not the pod's."""
    if "/" not in word:
        return None
    target = (await targets_of(session, [word]))[0]
    if target.resource.kind != "Service" or target.resource.group:
        return None
    return await session.client.get(target.resource, target.name or "", target.namespace)


def _pair(text: str, service: Obj | None, pod: Obj) -> tuple[int, int]:
    """`8080:80`, `80`, `:80`, `8080:http` → the local port (0 for a free one) and the pod's."""
    local, colon, remote = text.rpartition(":")
    number = _remote(remote, service, pod)
    if colon and not local:
        return 0, number
    try:
        found = int(local) if colon else int(remote) if remote.isdigit() else number
    except ValueError:
        raise CommandError(
            f"error parsing local port '{local}': strconv.ParseUint: parsing \"{local}\": invalid syntax"
        ) from None
    return found, number


def _remote(text: str, service: Obj | None, pod: Obj) -> int:
    if service is not None:
        for port in service["spec"].get("ports") or []:
            if text in (str(port["port"]), port.get("name")):
                target = port.get("targetPort", port["port"])
                if (service["spec"].get("clusterIP") or "") == "None":
                    return int(port["port"]) if isinstance(target, int) else _named(str(target), pod)
                return target if isinstance(target, int) else _named(str(target), pod)
        raise CommandError(f"Service {service['metadata']['name']} does not have a service port {text}")
    if not text.isdigit():
        return _named(text, pod)
    number = int(text)
    if not 0 < number < 65536:
        raise CommandError("remote port must be > 0" if not number else f"error parsing remote port '{text}'")
    return number


def _named(name: str, pod: Obj) -> int:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            if port.get("name") == name:
                return int(port["containerPort"])
    raise CommandError(f"Pod '{pod['metadata']['name']}' does not have a named port '{name}'")


class _Forwarding:
    """All connections of one command. `broken` has a result when the pod can no longer be reached."""

    def __init__(self, session: Session, pod: Obj) -> None:
        self._config = session.client.config
        self._path = PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"], "portforward")
        self._room = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self.broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def listen(self, addresses: str, local: int, remote: int) -> list[asyncio.Server]:
        """Listen, and say so. A free port is the same on all addresses."""
        servers: list[asyncio.Server] = []
        problems: list[str] = []
        for host in [one for each in addresses.split(",") for one in (("127.0.0.1", "::1") if each == "localhost" else (each,))]:
            try:
                server = await asyncio.start_server(partial(self._serve, remote), host, local)
            except OSError as error:
                problems.append(f"unable to create listener: Error listen {host}:{local}: {error.strerror}")
                continue
            servers.append(server)
            local = server.sockets[0].getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            print(f"Forwarding from {shown}:{local} -> {remote}", flush=True)
        if not servers:
            raise CommandError(f"unable to listen on any of the requested ports: [{{{local} {remote}}}]\n" + "\n".join(problems))
        return servers

    async def _serve(self, remote: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        local = writer.get_extra_info("sockname")[1]
        print(f"Handling connection for {local}", flush=True)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with self._room, connect(self._config, self._path, [("ports", str(remote))], PROTOCOL) as socket:
                await _carry(socket, reader, writer, f"{local} -> {remote}")
        except (ApiError, ConnectionFailed) as error:
            print(f"error: error upgrading connection: {error}", file=sys.stderr)
            if not self.broken.done() and isinstance(error, ApiError) and error.code == 404:
                self.broken.set_result(str(error))
        except (asyncio.CancelledError, ConnectionError):
            pass  # The local side has gone, or the command ends.
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        """End what is open."""
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _carry(socket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str) -> None:
    async def up() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_READ):
                await socket.send(bytes((_DATA,)) + data)

    sending = asyncio.create_task(up())
    begun: set[int] = set()
    try:
        async for message in socket:
            channel, data = message[0], message[1:]
            if channel not in begun:
                begun.add(channel)
                data = data[2:]
            if channel == _DATA and data:
                writer.write(data)
                await writer.drain()
            elif channel == _ERROR and data:
                print(f"error: an error occurred forwarding {what}: {data.decode(errors='replace')}", file=sys.stderr)
                return
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
