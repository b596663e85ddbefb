"""The kubelet's own API on port 10250: pods, logs, exec and its like, metrics.

Whoever calls shows a certificate of the cluster's CA; what he may do the apiserver is asked (see :mod:`.access`). `/healthz`
is for all. exec, attach and port-forward are the runtime's: its streaming URL is dialled and bytes are passed both ways as they are, so whatever
the client and the runtime speak (WebSocket or SPDY) is theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import orjson

from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, metadata_of, uid_of
from kubeling.api.pods import container_status
from kubeling.api.resources import SUBJECT_ACCESS_REVIEWS
from kubeling.api.times import format_time
from kubeling.client.rest import ConnectionFailed
from kubeling.daemon.log import get_logger
from kubeling.kubelet import httpd, logs, stats
from kubeling.kubelet.access import Access
from kubeling.kubelet.configfile import configz
from kubeling.kubelet.context import Context
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.httpd import Request, Response
from kubeling.kubelet.manager import PodManager
from kubeling.kubelet.podfiles import PodFiles
from kubeling.kubelet.podstate import PodRuntime
from kubeling.kubelet.podview import every_container
from kubeling.kubelet.resourcemetrics import resource_metrics

log = get_logger("kubelet.server")

_JSON = "application/json"
_PIPE = 64 * 1024
#: How long a command of /run may take.
_RUN_SECONDS = 60.0
_DIAL_SECONDS = 10.0


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class KubeletServer:
    """Routes requests; see the module's docstring."""

    def __init__(self, context: Context, manager: PodManager) -> None:
        self._context = context
        self._manager = manager
        config = context.config
        self._files = PodFiles(config.pods_dir, config.logs_dir, config.cluster_domain)
        self._access = Access(config.node_name, self._ask, context.clock)
        self._server = httpd.Server(self.handle)

    async def run(self) -> None:
        """Listen until cancelled."""
        config = self._context.config
        cert, key = config.tls_cert_file, config.tls_key_file
        if not cert:
            from kubeling.kubelet.selfsigned import serving_certificate

            cert, key = serving_certificate(config.root_dir / "pki", config.node_name, self._context.node.host_ips)
        tls = httpd.tls_context(cert, key, config.client_ca_file)
        await self._server.run(config.address, config.port, tls)

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        parts = [each for each in request.path.split("/") if each]
        try:
            if parts and parts[0] == "healthz":
                return Response(b"ok")
            await self._authorize(request)
            return await self._route(request, parts)
        except Refused as refusal:
            return Response(f"{refusal.message}\n".encode(), refusal.status)
        except RuntimeFailure as error:
            return Response(f"{error}\n".encode(), 500)

    async def _authorize(self, request: Request) -> None:
        if request.identity is None:
            raise Refused(401, "Unauthorized")
        why = await self._access.refusal(request.identity, request.method, request.path)
        if why is not None:
            raise Refused(403, why)

    async def _ask(self, spec: Object) -> bool:
        """Whether the apiserver says yes. Raises Refused where it cannot be asked."""
        try:
            review = await self._context.client.create(SUBJECT_ACCESS_REVIEWS, {"spec": spec})
        except (ApiError, ConnectionFailed) as error:
            log.warning("the apiserver could not be asked who may come in", error=error)
            raise Refused(500, f"Authorization error (user={spec['user']})") from error
        return bool((review.get("status") or {}).get("allowed"))

    async def _route(self, request: Request, parts: list[str]) -> Response:
        match parts:
            case ["pods"]:
                items = self._manager.pods()
                return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
            case ["runningpods"]:
                return _json(await stats.running_pods(self._context.runtime))
            case ["containerLogs", namespace, name, container]:
                return await self._logs(request, namespace, name, container)
            case ["metrics"]:
                return Response(await stats.metrics(self._context, self._manager.pods()), content_type=stats.METRICS_TYPE)
            case ["metrics", "resource"]:
                return Response(await resource_metrics(self._context), content_type=stats.METRICS_TYPE)
            case ["metrics", "probes"]:
                return Response(self._context.probe_metrics.text(), content_type=stats.METRICS_TYPE)
            case ["configz"]:
                return _json({"kubeletconfig": configz(self._context.config)})
            case ["stats", "summary"]:
                return _json(await stats.summary(self._context))
            case ["exec" | "attach", namespace, name, container] | ["exec" | "attach", namespace, name, _, container]:
                return await self._session(request, parts[0], namespace, name, container)
            case ["run", namespace, name, container] | ["run", namespace, name, _, container] if request.method == "POST":
                return await self._run_command(request, namespace, name, container)
            case ["checkpoint", namespace, name, container] if request.method == "POST":
                return await self._checkpoint(request, namespace, name, container)
            case ["portForward", namespace, name] | ["portForward", namespace, name, _]:
                return await self._port_forward(request, namespace, name)
        raise Refused(404, "404 page not found")

    # -- logs --------------------------------------------------------------------------------------------------------------------------

    async def _logs(self, request: Request, namespace: str, name: str, container: str) -> Response:
        pod = self._pod(namespace, name)
        try:
            wanted = logs.options(dict(request.query), self._context.clock.now())
        except logs.BadOptions as error:
            raise Refused(400, str(error)) from error
        runtime = await self._context.runtime.pod(uid_of(pod))
        history = runtime.history(container)
        if not history:
            self._explain(pod, container)
        if wanted.previous and len(history) < 2:
            raise Refused(400, f'previous terminated container "{container}" in pod "{name}" not found')
        older = wanted.previous or (history[0].state == "created" and len(history) > 1)
        record = history[1] if older else history[0]
        path = self._files.log_file(pod, container, record.attempt)
        try:
            file = logs.open_current(path)
        except OSError as error:  # What is no plain file is none.
            raise Refused(404, f'failed to try resolving symlinks in path "{path}": no such file or directory') from error
        return Response(self._follow(pod, record.id, file, path, wanted))

    def _explain(self, pod: Object, container: str) -> None:
        """Why there is no log of a container."""
        name = metadata_of(pod)["name"]
        known = any(
            each["name"] == container
            for kind in ("initContainers", "containers", "ephemeralContainers")
            for each in pod["spec"].get(kind) or ()
        )
        if not known:
            raise Refused(404, f'container "{container}" not found in pod "{name}_{metadata_of(pod)["namespace"]}"')
        status = container_status({"status": self._context.statuses.get(uid_of(pod)) or {}}, container) or {}
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason") or "ContainerCreating"
        if reason in ("ErrImagePull", "ImagePullBackOff"):
            raise Refused(400, f'container "{container}" in pod "{name}" is waiting to start: trying and failing to pull image')
        raise Refused(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')

    async def _follow(
        self, pod: Object, container_id: str, file: IO[bytes], path: Path, wanted: logs.Options
    ) -> AsyncIterator[bytes]:
        async def running() -> bool:
            try:
                status = await self._context.runtime.container_status(container_id)
            except RuntimeFailure:
                return True  # Nobody knows; the runtime's return will tell.
            return status is not None and status.state == 1

        with self._manager.listen(uid_of(pod)) as nudge:
            async for chunk in logs.read(file, path, wanted, running, nudge):
                yield chunk

    # -- streams -----------------------------------------------------------------------------------------------------------------------

    async def _session(self, request: Request, verb: str, namespace: str, name: str, container: str) -> Response:
        pod = self._pod(namespace, name)
        record = (await self._context.runtime.pod(uid_of(pod))).latest(container)
        if record is None or not record.running:
            raise Refused(404 if record is None else 400, f'container {container} not found in pod "{name}_{namespace}"')
        tty = _flag(request, "tty")
        flags = {
            "tty": tty,
            "stdin": _flag(request, "stdin", "input"),
            "stdout": _flag(request, "stdout", "output"),
            "stderr": _flag(request, "stderr", "error") and not tty,
        }
        if not (flags["stdin"] or flags["stdout"] or flags["stderr"]):
            raise Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
        if verb == "exec":
            command = [value for key, value in request.query if key == "command"]
            url = await self._context.runtime.exec_url(record.id, command, **flags)
        else:
            url = await self._context.runtime.attach_url(record.id, **flags)
        return await self._pass_on(request, url)

    async def _run_command(self, request: Request, namespace: str, name: str, container: str) -> Response:
        """A command without streams: both of its outputs together, at its end. Its words are separated by single blanks."""
        record = (await self._context.runtime.pod(uid_of(self._pod(namespace, name)))).latest(container)
        if record is None or not record.running:
            raise Refused(404 if record is None else 400, f'container {container} not found in pod "{name}_{namespace}"')
        code, output = await self._context.runtime.exec_sync(record.id, request.first("cmd").split(" "), _RUN_SECONDS)
        if code != 0:
            return Response(output + f"command '{request.first('cmd')}' exited with {code}\n".encode(), 500)
        return Response(output)

    async def _port_forward(self, request: Request, namespace: str, name: str) -> Response:
        pod = self._pod(namespace, name)
        runtime: PodRuntime = await self._context.runtime.pod(uid_of(pod))
        sandbox = runtime.sandbox
        if sandbox is None or not sandbox.ready:
            raise Refused(400, f'pod "{name}_{namespace}" has no sandbox that is ready')
        ports = [
            int(each) for key, value in request.query if key in ("ports", "port") for each in value.split(",") if each.isdigit()
        ]
        url = await self._context.runtime.port_forward_url(sandbox.id, ports)
        if ports:
            # The WebSocket form names its ports in the query, which the runtime's URL has no place for.
            url += ("&" if "?" in url else "?") + "&".join(f"port={each}" for each in ports)
        return await self._pass_on(request, url)

    async def _pass_on(self, request: Request, url: str) -> Response:
        """Repeat the request to the runtime's streaming server and join the two connections."""
        if not request.header(b"upgrade"):
            raise Refused(400, "Upgrade request required")
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=_PIPE)
        except (OSError, TimeoutError) as error:
            raise Refused(502, f"cannot reach the runtime's streaming server: {error}") from error
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            head = [f"{request.method} {target} HTTP/1.1\r\n".encode(), f"host: {parts.netloc}\r\n".encode()]
            head += [name + b": " + value + b"\r\n" for name, value in request.headers if name not in (b"host", b"authorization")]
            writer.write(b"".join(head) + b"\r\n" + request.early)
            await writer.drain()
            await _join(request.reader, request.writer, reader, writer)
        finally:
            writer.close()
        return httpd.TAKEN

    async def _checkpoint(self, request: Request, namespace: str, name: str, container: str) -> Response:
        """KEP-2008: the container's state goes to a file of the node, whose name is the answer. The container goes on."""
        pod = self._manager.pod(namespace, name)
        if pod is None:
            raise Refused(404, "pod does not exist")
        if not any(each["name"] == container for each in every_container(pod)):
            raise Refused(404, f"container {container} does not exist")
        given = [value for key, value in request.query if key == "timeout"] or ["0"]
        try:
            timeout = max(0, int(given[-1]))
        except ValueError:
            raise Refused(404, "cannot parse value of timeout parameter") from None
        moment = format_time(self._context.clock.now())
        folder = self._context.config.root_dir / "checkpoints"
        location = folder / f"checkpoint-{name}_{namespace}-{container}-{moment}.tar"
        try:
            record = (await self._context.runtime.pod(uid_of(pod))).latest(container)
            if record is None or not record.running:
                raise RuntimeFailure("NOT_FOUND", f"container {container} not found")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._context.runtime.checkpoint_container(record.id, str(location), timeout)
        except (RuntimeFailure, OSError) as error:
            raise Refused(500, f"checkpointing of {namespace}/{name}/{container} failed ({error})") from error
        return _json({"items": [str(location)]})

    def _pod(self, namespace: str, name: str) -> Object:
        pod = self._manager.pod(namespace, name)
        if pod is None:
            raise Refused(404, f'pod "{name}_{namespace}" does not exist')
        return pod


async def _join(
    client_reader: asyncio.StreamReader,
    client_writer: asyncio.StreamWriter,
    server_reader: asyncio.StreamReader,
    server_writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways until the runtime has said all, or the client is gone."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIPE):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()

    up = asyncio.ensure_future(copy(client_reader, server_writer))
    down = asyncio.ensure_future(copy(server_reader, client_writer))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if not down.done():
            await asyncio.wait({down}, timeout=2)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


def _flag(request: Request, *names: str) -> bool:
    return any(request.first(name) in ("1", "true") for name in names)


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), content_type=_JSON)
