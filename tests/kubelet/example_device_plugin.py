"""A device plugin as somebody might write it: a few pretended devices, each a /dev/zero under another name.

`python example_device_plugin.py FOLDER RESOURCE ID[,ID…]`. It registers with the kubelet that serves in FOLDER, and again when that starts anew; a file
`FOLDER/../<name>.sick` with IDs in it makes those unhealthy when the plugin gets SIGHUP.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from kubeling.kubelet.filewatch import FolderWatch
from kubeling.linux.unixpath import ShortPath, UnixChannel
from kubeling.proto import deviceplugin_pb2 as pb
from kubeling.proto import deviceplugin_pb2_grpc as pb_grpc


class Plugin:
    def __init__(self, folder: Path, resource: str, ids: list[str]) -> None:
        self.folder, self.resource, self.ids = folder, resource, ids
        self.name = resource.replace("/", "_")
        self.changed = asyncio.Event()
        self.started = folder.parent / f"{self.name}.started"

    async def GetDevicePluginOptions(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.DevicePluginOptions(pre_start_required=True, get_preferred_allocation_available=True)

    async def ListAndWatch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        while True:
            sick = self.folder.parent / f"{self.name}.sick"
            ill = sick.read_text().split() if sick.exists() else []
            health = {each: "Unhealthy" if each in ill else "Healthy" for each in self.ids}
            yield pb.ListAndWatchResponse(devices=[pb.Device(ID=each, health=state) for each, state in health.items()])
            self.changed.clear()
            await self.changed.wait()

    async def GetPreferredAllocation(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The last ones, to be told from what a kubelet without asking would take."""
        found = []
        for each in request.container_requests:
            rest = sorted((set(each.available_deviceIDs) - set(each.must_include_deviceIDs)), reverse=True)
            chosen = [*each.must_include_deviceIDs, *rest][: each.allocation_size]
            found.append(pb.ContainerPreferredAllocationResponse(deviceIDs=chosen))
        return pb.PreferredAllocationResponse(container_responses=found)

    async def Allocate(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = []
        for each in request.container_requests:
            ids = list(each.devices_ids)
            found.append(
                pb.ContainerAllocateResponse(
                    envs={"EXAMPLE_DEVICES": ",".join(ids)},
                    mounts=[pb.Mount(container_path="/example", host_path="/etc", read_only=True)],
                    devices=[pb.DeviceSpec(container_path=f"/dev/{i}", host_path="/dev/zero", permissions="rw") for i in ids],
                    annotations={"example.test/devices": ",".join(ids)},
                )
            )
        return pb.AllocateResponse(container_responses=found)

    async def PreStartContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.started.open("a") as file:
            file.write(",".join(request.devices_ids) + "\n")
        return pb.PreStartContainerResponse()


async def until(folder: Path, holds: Callable[[], bool]) -> None:
    """Wait until something about the files of the folder holds."""
    with FolderWatch(folder) as watch:
        while True:
            watch.changed.clear()
            if holds():
                return
            await watch.changed.wait()


async def main(folder: Path, resource: str, ids: list[str]) -> None:
    plugin = Plugin(folder, resource, ids)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, plugin.changed.set)
    while True:
        own, kubelet = folder / f"{plugin.name}.sock", folder / "kubelet.sock"
        await until(folder, kubelet.exists)
        own.unlink(missing_ok=True)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_DevicePluginServicer_to_server(plugin, server)  # type: ignore[no-untyped-call]
        with ShortPath(own) as short:
            server.add_insecure_port(f"unix:{short.path}")
            await server.start()
            async with UnixChannel(kubelet) as channel:
                stub: Any = pb_grpc.RegistrationStub(channel)  # type: ignore[no-untyped-call]
                request = pb.RegisterRequest(version="v1beta1", endpoint=own.name, resource_name=resource)
                try:
                    await stub.Register(request, timeout=10)
                except grpc.aio.AioRpcError as error:
                    print("cannot register:", error.details(), flush=True)
                    await server.stop(0)
                    await asyncio.sleep(0.2)
                    continue
            print("registered", flush=True)
            # A kubelet that starts removes our socket.
            await until(folder, lambda own=own: not own.exists())  # type: ignore[misc]
            await server.stop(0)


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")))
