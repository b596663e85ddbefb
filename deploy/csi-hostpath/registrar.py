"""node-driver-registrar's part: a socket in the kubelet's `plugins_registry` that says where the driver is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc

from kubeling.daemon.log import get_logger
from kubeling.linux.unixpath import ShortPath
from kubeling.proto import pluginregistration_pb2 as pb
from kubeling.proto import pluginregistration_pb2_grpc as pb_grpc

log = get_logger("csi-hostpath.registrar")


class Registration(pb_grpc.RegistrationServicer):
    """`endpoint` is the driver's socket as the kubelet sees it."""

    def __init__(self, driver: str, endpoint: str) -> None:
        self._driver = driver
        self._endpoint = endpoint

    async def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.PluginInfo(type="CSIPlugin", name=self._driver, endpoint=self._endpoint, supported_versions=["1.0.0"])

    async def NotifyRegistrationStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.plugin_registered:
            log.info("the kubelet knows the driver")
        else:
            log.warning("the kubelet refused the driver", error=request.error)
        return pb.RegistrationStatusResponse()


async def listen(path: Path, *services: Any) -> grpc.aio.Server:
    """A server on a Unix socket; one that an earlier process has left is replaced."""
    await asyncio.to_thread(_make_room, path)
    interceptors = [each for each in services if isinstance(each, grpc.aio.ServerInterceptor)]
    server = grpc.aio.server(interceptors=interceptors)
    for add, service in (each for each in services if isinstance(each, tuple)):
        add(service, server)
    # The name is made at the bind; it need not stay.
    with ShortPath(path) as short:
        server.add_insecure_port(f"unix:{short.path}")
        await server.start()
    return server


def _make_room(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


async def register(folder: Path, driver: str, endpoint: str) -> grpc.aio.Server:
    return await listen(
        folder / f"{driver}-reg.sock", (pb_grpc.add_RegistrationServicer_to_server, Registration(driver, endpoint))
    )
