"""Plugins of the node make themselves known by a socket in `<root-dir>/plugins_registry`.

inotify tells of sockets that come and go. Each is asked what it is (`Registration.GetInfo`), handed to the handler of its type, and told what became of that
(`NotifyRegistrationStatus`). What fails is tried again with back-off for as long as the same socket is there; one that has gone, or was made anew, is taken off
first. Nothing is remembered: after a restart of the kubelet the sockets that are there register again.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.kubelet.filewatch import FolderWatch
from kubeling.linux.unixpath import UnixChannel

log = get_logger("kubelet.plugins")

_TIMEOUT = 10.0
#: More sockets than any node has; what is beyond is not looked at.
_MOST = 256


class PluginRefused(Exception):
    """The handler does not want the plugin; the text is told to it."""


class PluginHandler(Protocol):
    """Takes the plugins of one type (`CSIPlugin`, `DevicePlugin`, …)."""

    async def register(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        """Take the plugin that serves on the socket `endpoint`. PluginRefused, or whatever its own calls raise."""

    async def deregister(self, name: str, endpoint: str) -> None:
        """Its registration socket has gone."""


@dataclass(slots=True)
class _Known:
    identity: tuple[int, int]
    task: asyncio.Task[None]
    handler: PluginHandler | None = None
    name: str = ""
    endpoint: str = ""


class PluginWatcher:
    """Follows the folder until cancelled."""

    def __init__(self, folder: Path, handlers: Mapping[str, PluginHandler], clock: Clock) -> None:
        self._folder = folder
        self._handlers = handlers
        self._clock = clock
        self._known: dict[Path, _Known] = {}

    async def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        async with Supervisor(self._clock) as tasks:
            try:
                with FolderWatch(self._folder) as watch:
                    while True:
                        watch.changed.clear()
                        await self._scan(tasks)
                        await watch.changed.wait()
            finally:
                self._known.clear()

    async def _scan(self, tasks: Supervisor) -> None:
        found = _sockets(self._folder)
        for path, known in list(self._known.items()):
            if found.get(path) != known.identity:
                await self._drop(path, known)
        for path, identity in found.items():
            if path not in self._known:
                known = self._known[path] = _Known(identity, tasks.spawn(self._introduce(path), f"plugin {path.name}"))
                del known

    async def _drop(self, path: Path, known: _Known) -> None:
        self._known.pop(path, None)
        known.task.cancel()
        await asyncio.gather(known.task, return_exceptions=True)
        if known.handler is not None:
            log.info("a plugin has gone", name=known.name)
            await known.handler.deregister(known.name, known.endpoint)

    async def _introduce(self, path: Path) -> None:
        import grpc.aio

        backoff = Backoff(base=0.1, limit=120.0)
        while True:
            try:
                await self._register(path)
                return
            except grpc.aio.AioRpcError as error:
                problem = f"{error.code().name}: {error.details()}"
            except Exception as error:  # What a plugin makes its handler raise must not end the watcher.
                problem = str(error) or type(error).__name__
            if backoff.failures == 3:
                log.warning("a plugin cannot be registered", socket=str(path), error=problem)
            await self._clock.sleep(backoff.next())

    async def _register(self, path: Path) -> None:
        from kubeling.proto import pluginregistration_pb2 as pb
        from kubeling.proto import pluginregistration_pb2_grpc as pb_grpc

        async with UnixChannel(path) as channel:
            stub: Any = pb_grpc.RegistrationStub(channel)  # type: ignore[no-untyped-call]
            info = await stub.GetInfo(pb.InfoRequest(), timeout=_TIMEOUT)
            endpoint = info.endpoint or str(path)
            handler = self._handlers.get(info.type)
            try:
                if handler is None:
                    raise PluginRefused(f"no handler registered for plugin type: {info.type} at socket {path}")
                await handler.register(info.name, endpoint, list(info.supported_versions))
            except Exception as error:
                await stub.NotifyRegistrationStatus(
                    pb.RegistrationStatus(plugin_registered=False, error=str(error)), timeout=_TIMEOUT
                )
                raise
            known = self._known.get(path)
            if known is not None:
                known.handler, known.name, known.endpoint = handler, info.name, endpoint
            await stub.NotifyRegistrationStatus(pb.RegistrationStatus(plugin_registered=True), timeout=_TIMEOUT)
            log.info("a plugin has registered", type=info.type, name=info.name, endpoint=endpoint)


def _sockets(folder: Path) -> dict[Path, tuple[int, int]]:
    """The sockets of the folder, with what tells a new one of the same name from the old."""
    found: dict[Path, tuple[int, int]] = {}
    for path in sorted(folder.iterdir())[:_MOST]:
        try:
            info = path.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(info.st_mode) and not path.name.startswith("."):
            found[path] = (info.st_ino, info.st_ctime_ns)
    return found
