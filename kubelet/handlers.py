"""Asking a container something: the handlers that probes and lifecycle hooks share (exec, httpGet, tcpSocket, grpc), done from the node.

An answer is (success, words). Network handlers speak to the pod's address; TLS is not verified, as upstream, since the certificate is for whoever
uses the service and not for the node.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubeling.kubelet.cri import Runtime, RuntimeFailure

_MAX_OUTPUT = 10 * 1024
_MAX_BODY = 16 * 1024
_MAX_REDIRECTS = 10
_READ = 8192


@dataclass(frozen=True, slots=True)
class Answer:
    """`warning` is for what succeeded in a way that somebody should know of; with `error` nobody could be asked, so that nothing is known."""

    success: bool
    words: str = ""
    warning: bool = False
    error: bool = False
    #: Of an HTTP request that was answered: with what.
    status: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is asked."""

    container: Mapping[str, Any]
    container_id: str
    ip: str


class PortError(ValueError):
    """The handler names a port that the container does not have."""


def resolve_port(port: Any, container: Mapping[str, Any]) -> int:
    """A number, or the name of one of the container's ports."""
    if isinstance(port, int) or str(port).isdigit():
        number = int(port)
    else:
        number = next((int(each["containerPort"]) for each in container.get("ports") or () if each.get("name") == port), 0)
        if not number:
            raise PortError(f"couldn't find port: {port}")
    if not 0 < number < 65536:
        raise PortError(f"invalid port number: {number}")
    return number


async def ask(handler: Mapping[str, Any], target: Target, runtime: Runtime, timeout: float, agent: str) -> Answer:
    """Run the handler. Whatever goes wrong is an answer without success."""
    try:
        if handler.get("exec"):
            return await _exec(list(handler["exec"].get("command") or ()), target, runtime, timeout)
        async with asyncio.timeout(timeout):
            if handler.get("httpGet"):
                return await _http(handler["httpGet"], target, agent)
            if handler.get("tcpSocket"):
                return await _tcp(handler["tcpSocket"], target)
            if handler.get("grpc"):
                return await _grpc(handler["grpc"], target, timeout, agent)
        return Answer(False, "missing probe handler", error=True)
    except TimeoutError:
        return Answer(False, _timed_out(handler, target, timeout))
    except PortError as error:
        return Answer(False, str(error), error=True)
    except (OSError, ssl.SSLError, ValueError, EOFError) as error:
        return Answer(False, str(error) or type(error).__name__)


def _timed_out(handler: Mapping[str, Any], target: Target, timeout: float) -> str:
    if handler.get("httpGet"):
        try:
            url = _url(handler["httpGet"], target)
        except PortError as error:
            return str(error)
        return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    if handler.get("tcpSocket"):
        where = handler["tcpSocket"].get("host") or target.ip
        return f"dial tcp {where}:{handler['tcpSocket'].get('port')}: i/o timeout"
    return f"timeout: health rpc did not complete within {timeout:g}s"


async def _exec(command: list[str], target: Target, runtime: Runtime, timeout: float) -> Answer:
    try:
        code, output = await runtime.exec_sync(target.container_id, command, timeout)
    except RuntimeFailure as error:
        if error.code == "DEADLINE_EXCEEDED":
            return Answer(False, f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s')
        return Answer(False, str(error), error=True)
    words = output[:_MAX_OUTPUT].decode(errors="replace")
    return Answer(code == 0, words)


def _url(handler: Mapping[str, Any], target: Target) -> str:
    scheme = (handler.get("scheme") or "HTTP").lower()
    host = handler.get("host") or target.ip
    port = resolve_port(handler.get("port"), target.container)
    path = handler.get("path") or "/"
    return f"{scheme}://{_host(host)}:{port}/{path.removeprefix('/')}"


def _host(ip: str) -> str:
    """As a URL has it."""
    return f"[{ip}]" if ":" in ip else ip


async def _http(handler: Mapping[str, Any], target: Target, agent: str) -> Answer:
    url = first = _url(handler, target)
    headers = {"user-agent": agent, "accept": "*/*"}
    for each in handler.get("httpHeaders") or ():
        headers[each["name"].lower()] = each.get("value") or ""
    for _ in range(_MAX_REDIRECTS):
        try:
            status, location, body = await http_get(url, headers)
        except (OSError, EOFError) as error:
            return Answer(False, f'Get "{url}": {_dial(error, url)}')
        if 300 <= status < 400 and location:
            following = _follow(url, location)
            if urlsplit(following).hostname != urlsplit(first).hostname:
                return Answer(True, f"Probe terminated redirects, Response body: {body}", warning=True)
            url = following
            continue
        if 200 <= status < 400:
            return Answer(True, body, status=status)
        return Answer(False, f"HTTP probe failed with statuscode: {status}", status=status)
    return Answer(False, f'Get "{url}": stopped after {_MAX_REDIRECTS} redirects')


def _dial(error: Exception, url: str) -> str:
    parts = urlsplit(url)
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {parts.hostname}:{parts.port}: connect: connection refused"
    return str(error) or "EOF"


def _follow(url: str, location: str) -> str:
    from urllib.parse import urljoin

    return urljoin(url, location)


async def http_get(url: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
    """Status, Location and the beginning of the body of one GET."""
    import h11

    parts = urlsplit(url)
    secure = parts.scheme == "https"
    context = None
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        connection = h11.Connection(h11.CLIENT)
        sent = {"host": parts.netloc, "connection": "close", **headers}
        path = parts.path or "/"
        request = h11.Request(
            method="GET",
            target=f"{path}?{parts.query}" if parts.query else path,
            headers=[(name.encode(), value.encode()) for name, value in sent.items()],
        )
        writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        status, location, body = 0, "", b""
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                raise EOFError(f"malformed HTTP response: {error}") from error
            if event is h11.NEED_DATA:
                data = await reader.read(_READ)
                if not data and not status:
                    raise EOFError("EOF")
                connection.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                location = next((value.decode("latin-1") for name, value in event.headers if name == b"location"), "")
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                if len(body) > _MAX_BODY:
                    break
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                break
        return status, location, body[:_MAX_BODY].decode(errors="replace")
    finally:
        writer.close()


async def _tcp(handler: Mapping[str, Any], target: Target) -> Answer:
    host = handler.get("host") or target.ip
    port = resolve_port(handler.get("port"), target.container)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return Answer(False, f"dial tcp {host}:{port}: connect: connection refused")
    writer.close()
    return Answer(True)


async def _grpc(handler: Mapping[str, Any], target: Target, timeout: float, agent: str) -> Answer:
    """grpc.health.v1.Health/Check, whose two messages are small enough to write by hand."""
    import grpc.aio

    service = (handler.get("service") or "").encode()
    request = b"\n" + _varint(len(service)) + service if service else b""
    place = f"{_host(target.ip)}:{resolve_port(handler.get('port'), target.container)}"
    options = [("grpc.enable_http_proxy", 0), ("grpc.primary_user_agent", agent)]
    channel = grpc.aio.insecure_channel(place, options=options)
    try:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer: bytes = await check(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return Answer(False, _grpc_words(error.code().name, error.details() or "", place, timeout))
    finally:
        await channel.close()
    if answer[:2] == b"\x08\x01":
        return Answer(True)
    words = {b"\x08\x02": "NOT_SERVING", b"\x08\x03": "SERVICE_UNKNOWN"}.get(answer[:2], "UNKNOWN")
    return Answer(False, f'service unhealthy (responded with "{words}")')


def _grpc_words(code: str, details: str, place: str, timeout: float) -> str:
    """What upstream says of a call that failed."""
    if code == "UNIMPLEMENTED":
        return f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {details}"
    if code == "UNAVAILABLE":
        return f'error: failed to connect service at "{place}": {details}'
    if code == "DEADLINE_EXCEEDED":
        return f"timeout: health rpc did not complete within {timeout:g}s"
    return f"error: health rpc probe failed: {RuntimeFailure(code, details)}"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
