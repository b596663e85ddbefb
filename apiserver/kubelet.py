"""The way to a kubelet: one TLS connection a request, an HTTP/1.1 exchange by h11, or bytes both ways after an Upgrade."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import h11

from kubeling.api import errors, resources
from kubeling.api.meta import Object
from kubeling.apiserver.config import Config
from kubeling.apiserver.context import Context

_CONNECT_SECONDS = 10.0
_READ = 64 * 1024
_PORT = 10250
_PREFERRED = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a kubelet listens."""

    host: str
    port: int


async def locate(context: Context, node: str) -> Address:
    """The kubelet of a node. Raises 500 or 503 where it cannot be found."""
    entry = await context.kinds.store(resources.NODES).peek("", node)
    if entry is None:
        raise errors.internal(f'nodes "{node}" not found')
    status: Object = entry.object().get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or _PORT
    by_type = {each.get("type"): each.get("address") for each in reversed(status.get("addresses") or [])}
    for kind in _PREFERRED:
        if by_type.get(kind):
            return Address(by_type[kind], port)
    raise errors.service_unavailable(f"no address is known for node {node}: [no preferred addresses found; known addresses: []]")


class KubeletDialer:
    """Connections to kubelets, as the apiserver's own identity."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._tls: ssl.SSLContext | None = None

    def tls(self) -> ssl.SSLContext:
        """The settings of a connection to a kubelet."""
        if self._tls is None:
            made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self._config.kubelet_certificate_authority or None)
            if not self._config.kubelet_certificate_authority:
                # As upstream: without an authority to believe, the kubelet's serving certificate is not checked.
                made.check_hostname = False
                made.verify_mode = ssl.CERT_NONE
            if self._config.kubelet_client_certificate:
                made.load_cert_chain(self._config.kubelet_client_certificate, self._config.kubelet_client_key)
            self._tls = made
        return self._tls

    async def dial(self, address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect. Raises 500 in upstream's words."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await asyncio.open_connection(address.host, address.port, ssl=self.tls(), limit=_READ)
        except TimeoutError:
            why = "i/o timeout"
        except OSError as error:
            why = error.strerror or str(error)
        raise errors.internal(f"error dialing backend: dial tcp {address.host}:{address.port}: {why}")

    async def get(self, address: Address, target: str) -> tuple[int, str, AsyncIterator[bytes]]:
        """GET: status, content type, and the body as it comes. The connection closes with the iterator."""
        reader, writer = await self.dial(address)
        connection = h11.Connection(h11.CLIENT)
        try:
            host = f"{address.host}:{address.port}"
            head = h11.Request(method="GET", target=target, headers=[("host", host), ("accept", "*/*"), ("connection", "close")])
            writer.write((connection.send(head) or b"") + (connection.send(h11.EndOfMessage()) or b""))
            await writer.drain()
            while not isinstance(event := await _next(connection, reader), h11.Response):
                if isinstance(event, h11.ConnectionClosed):
                    raise errors.internal("error dialing backend: the kubelet closed the connection")
        except (OSError, h11.ProtocolError) as error:
            writer.close()
            raise errors.internal(f"error dialing backend: {error}") from error
        except BaseException:
            writer.close()
            raise
        kind = next((value.decode("latin-1") for name, value in event.headers if name == b"content-type"), "text/plain")
        return event.status_code, kind, _body(connection, reader, writer)

    async def upgrade(
        self, address: Address, method: str, target: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """Send an Upgrade request; the head of the answer, whatever it is, and the stream behind it."""
        reader, writer = await self.dial(address)
        try:
            lines = [b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), target.encode("ascii"))]
            lines += [b"%b: %b\r\n" % header for header in headers]
            writer.write(b"".join(lines) + b"host: %b:%d\r\n\r\n" % (address.host.encode(), address.port))
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            writer.close()
            raise errors.internal(f"error dialing backend: {error}") from error
        except BaseException:
            writer.close()
            raise
        return head, reader, writer


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(_READ))
    return event


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
    try:
        while True:
            event = await _next(connection, reader)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return
    finally:
        writer.close()
