"""Device plugins over their gRPC protocol (v1beta1).

The kubelet serves `Registration` at `<root-dir>/device-plugins/kubelet.sock`, and takes plugins as well that make themselves known in `plugins_registry`. Of each it
follows `ListAndWatch`, which says which devices there are and how they are. A plugin whose stream ends has unhealthy devices only, and none after five minutes;
one that registers again replaces what it said before. At its start the kubelet removes the sockets that are there, by which plugins notice that they have to register
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.api.meta import Object, uid_of
from kubeling.api.names import qualified_name
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet.devices import DeviceAccounts, DeviceProblem, Grant, Offer, shortage
from kubeling.linux.unixpath import ShortPath, UnixChannel

log = get_logger("kubelet.devices")

VERSION = "v1beta1"
SOCKET = "kubelet.sock"
HEALTHY = "Healthy"
STOP_GRACE_SECONDS = 300.0
_CALL_SECONDS = 30.0


@dataclass(slots=True)
class _Plugin:
    resource: str
    channel: UnixChannel
    stub: Any
    pre_start: bool = False
    preferred: bool = False
    task: asyncio.Task[None] | None = None


class DevicePlugins:
    """`changed` is called when capacity or health has changed. Implements :class:`kubeling.kubelet.plugins.PluginHandler` for `DevicePlugin`."""

    def __init__(self, folder: Path, clock: Clock, changed: Callable[[], None]) -> None:
        self.accounts = DeviceAccounts(folder / "kubelet_internal_checkpoint")
        self._folder = folder
        self._clock = clock
        self._changed = changed
        self._plugins: dict[str, _Plugin] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: Choosing and recording is one step: two pods must not be given the same device.
        self._choosing = asyncio.Lock()

    async def run(self) -> None:
        """Serve registrations until cancelled."""
        import grpc.aio

        from kubeling.proto import deviceplugin_pb2_grpc as pb_grpc

        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        for old in self._folder.iterdir():
            if old.is_socket():
                old.unlink()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_RegistrationServicer_to_server(_Registration(self), server)  # type: ignore[no-untyped-call]
        with ShortPath(self._folder / SOCKET) as short:
            server.add_insecure_port(f"unix:{short.path}")
            await server.start()
            try:
                await asyncio.Event().wait()
            finally:
                await server.stop(0)
                await self.close()

    async def close(self) -> None:
        tasks = [*self._tasks, *(each.task for each in self._plugins.values() if each.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for plugin in self._plugins.values():
            await plugin.channel.close()
        self._plugins.clear()

    # -- plugins come and go -----------------------------------------------------------------------------------------------------------

    async def register(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        """A plugin that was found in `plugins_registry`: `name` is its resource."""
        await self.connect(name, endpoint, versions)

    async def deregister(self, name: str, endpoint: str) -> None:
        plugin = self._plugins.pop(name, None)
        if plugin is not None:
            await self._drop(plugin)
            self._away(name)

    async def connect(self, resource: str, endpoint: str, versions: Sequence[str]) -> None:
        """Follow the plugin at `endpoint`. ValueError where it cannot be taken."""
        from kubeling.proto import deviceplugin_pb2_grpc as pb_grpc

        if VERSION not in versions:
            raise ValueError(
                f"requested API version {'/'.join(versions)!r} is not supported by kubelet. Supported version is {VERSION!r}"
            )
        domain = resource.partition("/")[0]
        if "/" not in resource or qualified_name(resource) or domain == "kubernetes.io" or domain.endswith(".kubernetes.io"):
            raise ValueError(f"the ResourceName {resource!r} is invalid")
        before = self._plugins.pop(resource, None)
        if before is not None:
            await self._drop(before)
        channel = UnixChannel(self._folder / endpoint)
        stub: Any = pb_grpc.DevicePluginStub(channel.channel)  # type: ignore[no-untyped-call]
        plugin = self._plugins[resource] = _Plugin(resource, channel, stub)
        plugin.task = asyncio.get_running_loop().create_task(self._follow(plugin), name=f"device plugin {resource}")

    async def _drop(self, plugin: _Plugin) -> None:
        if plugin.task is not None:
            plugin.task.cancel()
            await asyncio.gather(plugin.task, return_exceptions=True)
        await plugin.channel.close()

    async def _follow(self, plugin: _Plugin) -> None:
        """Until its stream ends."""
        import grpc.aio

        from kubeling.proto import deviceplugin_pb2 as pb

        try:
            options = await plugin.stub.GetDevicePluginOptions(pb.Empty(), timeout=_CALL_SECONDS)
            plugin.pre_start, plugin.preferred = options.pre_start_required, options.get_preferred_allocation_available
            log.info("a device plugin has registered", resource=plugin.resource)
            async for answer in plugin.stub.ListAndWatch(pb.Empty()):
                self.accounts.offer(
                    plugin.resource,
                    Offer(
                        {each.ID: each.health == HEALTHY for each in answer.devices},
                        {each.ID: tuple(node.ID for node in each.topology.nodes) for each in answer.devices},
                    ),
                )
                self._changed()
        except grpc.aio.AioRpcError as error:
            log.warning("a device plugin has gone", resource=plugin.resource, error=error.details())
        if self._plugins.get(plugin.resource) is plugin:
            del self._plugins[plugin.resource]
            self._away(plugin.resource)
            await plugin.channel.close()

    def _away(self, resource: str) -> None:
        self.accounts.withdraw(resource, forget=False)
        self._changed()
        task = asyncio.get_running_loop().create_task(self._forget_later(resource))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forget_later(self, resource: str) -> None:
        offer = self.accounts.offers.get(resource)
        await self._clock.sleep(STOP_GRACE_SECONDS)
        if resource not in self._plugins and self.accounts.offers.get(resource) is offer:
            self.accounts.withdraw(resource, forget=True)
            self._changed()

    # -- devices for pods --------------------------------------------------------------------------------------------------------------

    async def allocate(self, pod: Object, near: Mapping[str, frozenset[int]]) -> None:
        """Give the pod all devices that it asks for and does not have yet, those first that are near to the NUMA nodes named for the container.
        DeviceProblem where it cannot have them."""
        uid = uid_of(pod)
        wants, have = self.accounts.wants(pod), self.accounts.granted(uid)
        if all((container, resource) in have for container, resource, _, _ in wants):
            return
        async with self._choosing:
            own: dict[str, list[str]] = {}
            for container, resource, count, hands_on in wants:
                held = self.accounts.grants(uid, container).get(resource)
                if held is None:
                    nodes = near.get(container, frozenset())
                    held = await self._grant(uid, container, resource, count, own.get(resource, []), nodes)
                    self.accounts.record(uid, container, resource, held)
                if hands_on:
                    own.setdefault(resource, []).extend(each for each in held.devices if each not in own.get(resource, []))
                else:
                    own[resource] = [each for each in own.get(resource, []) if each not in held.devices]

    async def _grant(self, uid: str, container: str, resource: str, count: int, own: list[str], nodes: frozenset[int]) -> Grant:
        from kubeling.proto import deviceplugin_pb2 as pb

        plugin = self._plugins.get(resource)
        free = self.accounts.free(resource, uid, own)
        if plugin is None or len(free) < count:
            raise shortage(resource, count, len(free) if plugin is not None else 0)
        must = [each for each in own if each in free][:count]
        close = [each for each in free if each in must or self.accounts.near(resource, each, nodes)]
        if len(close) >= count:
            free = close
        chosen = await self._preferred(plugin, free, must, count)
        answer = await self._call(
            plugin.stub.Allocate,
            pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=chosen)]),
            f"Allocate failed due to rpc error of {resource}",
        )
        if len(answer.container_responses) != 1:
            raise DeviceProblem(
                f"Allocate failed: the plugin of {resource} answered for {len(answer.container_responses)} containers"
            )
        found = answer.container_responses[0]
        log.info("a container is given devices", uid=uid, container=container, resource=resource, devices=chosen)
        return Grant(
            tuple(chosen),
            dict(found.envs),
            dict(found.annotations),
            tuple((each.container_path, each.host_path, each.read_only) for each in found.mounts),
            tuple((each.container_path, each.host_path, each.permissions) for each in found.devices),
            tuple(each.name for each in found.cdi_devices),
        )

    async def _preferred(self, plugin: _Plugin, free: list[str], must: list[str], count: int) -> list[str]:
        """The devices that the plugin would choose; the first ones where it has no opinion, or one that cannot be followed."""
        from kubeling.proto import deviceplugin_pb2 as pb

        plain = [*must, *(each for each in free if each not in must)][:count]
        if not plugin.preferred or len(free) == count:
            return plain
        request = pb.ContainerPreferredAllocationRequest(
            available_deviceIDs=free, must_include_deviceIDs=must, allocation_size=count
        )
        answer = await self._call(
            plugin.stub.GetPreferredAllocation,
            pb.PreferredAllocationRequest(container_requests=[request]),
            f"GetPreferredAllocation failed due to rpc error of {plugin.resource}",
        )
        wished = list(dict.fromkeys(answer.container_responses[0].deviceIDs)) if answer.container_responses else []
        if len(wished) != count or not set(must) <= set(wished) <= set(free):
            log.warning("a device plugin prefers what cannot be had", resource=plugin.resource, wished=wished)
            return plain
        return wished

    async def before_start(self, uid: str, container: str) -> None:
        """Tell the plugins that want to know it that a container is about to start. DeviceProblem where one objects."""
        from kubeling.proto import deviceplugin_pb2 as pb

        for resource, grant in self.accounts.grants(uid, container).items():
            plugin = self._plugins.get(resource)
            if plugin is not None and plugin.pre_start:
                await self._call(
                    plugin.stub.PreStartContainer,
                    pb.PreStartContainerRequest(devices_ids=list(grant.devices)),
                    f"device plugin PreStartContainer rpc failed with err: {resource}",
                )

    async def _call(self, method: Any, request: Any, words: str) -> Any:
        import grpc.aio

        try:
            return await method(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise DeviceProblem(f"{words}: {error.details()}") from error


class _Registration:
    """The service that plugins call."""

    def __init__(self, plugins: DevicePlugins) -> None:
        self._plugins = plugins

    async def Register(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        import grpc

        from kubeling.proto import deviceplugin_pb2 as pb

        try:
            await self._plugins.connect(request.resource_name, request.endpoint, [request.version])
        except (ValueError, OSError) as error:
            log.warning("a device plugin was refused", resource=request.resource_name, error=str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.Empty()
