"""The two gRPC services of CRI v1: from messages to the parts of the runtime and back."""

# ruff: noqa: N802 - the names are those of the protocol

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc

from kubeling import __version__
from kubeling.crilite import metrics, views
from kubeling.crilite.containers import Containers
from kubeling.crilite.core import Core
from kubeling.crilite.errors import CriError, InvalidArgument, Unimplemented
from kubeling.crilite.execs import Execs
from kubeling.crilite.keeper_client import KeeperError
from kubeling.crilite.sandboxes import Sandboxes
from kubeling.crilite.stats import Stats
from kubeling.crilite.streaming import StreamingServer
from kubeling.daemon.log import get_logger
from kubeling.proto import cri_pb2, cri_pb2_grpc

log = get_logger("crilite.service")

Context = Any
Answer = TypeVar("Answer")
#: List calls that stream send this many entries in a message.
_CHUNK = 100


def _answers(method: Callable[[Any, Any], Awaitable[Answer]]) -> Callable[[Any, Any, Context], Awaitable[Answer]]:
    """An error becomes its gRPC status; an unexpected one is logged as well."""

    @functools.wraps(method)
    async def call(self: Any, request: Any, context: Context) -> Answer:
        try:
            return await method(self, request)
        except CriError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))
        except (OSError, KeeperError) as error:
            log.warning("call failed", call=method.__name__, error=error)
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except Exception as error:
            log.exception("call failed", call=method.__name__)
            await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        raise AssertionError("abort raises")

    return call


def _completes(method: Callable[[Any, Any], Awaitable[Answer]]) -> Callable[[Any, Any, Context], Awaitable[Answer]]:
    """As _answers, and what was begun is brought to its end although the client may hang up: half of a change would be a lie about the rest."""

    @functools.wraps(method)
    async def to_the_end(self: Any, request: Any) -> Answer:
        task = asyncio.ensure_future(method(self, request))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: _note_end(method.__name__, done))
            raise

    return _answers(to_the_end)


def _note_end(call: str, task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("a call failed whose client had hung up", call=call, error=task.exception())


class RuntimeService(cri_pb2_grpc.RuntimeServiceServicer):
    def __init__(
        self, core: Core, sandboxes: Sandboxes, containers: Containers, execs: Execs, stats: Stats, streaming: StreamingServer
    ) -> None:
        self._core = core
        self._sandboxes = sandboxes
        self._containers = containers
        self._execs = execs
        self._stats = stats
        self._streaming = streaming

    # -- the runtime itself --------------------------------------------------------------------------------------------------------------------

    @_answers
    async def Version(self, request: cri_pb2.VersionRequest) -> cri_pb2.VersionResponse:
        return cri_pb2.VersionResponse(
            version="0.1.0", runtime_name="crilite", runtime_version=__version__, runtime_api_version="v1"
        )

    @_answers
    async def Status(self, request: cri_pb2.StatusRequest) -> cri_pb2.StatusResponse:
        core = self._core
        native = core.config.default_handler == "native"
        problem = await asyncio.to_thread(core.native_network.problem) if native else ""
        conditions = [
            cri_pb2.RuntimeCondition(type="RuntimeReady", status=True),
            cri_pb2.RuntimeCondition(
                type="NetworkReady", status=not problem, reason="NetworkPluginNotReady" if problem else "", message=problem
            ),
        ]
        answer = cri_pb2.StatusResponse(
            status=cri_pb2.RuntimeStatus(conditions=conditions),
            features=cri_pb2.RuntimeFeatures(supplemental_groups_policy=True),
        )
        for name in dict.fromkeys(["", core.config.default_handler, *core.config.handlers]):
            native_here = (name or core.config.default_handler) == "native"
            features = cri_pb2.RuntimeHandlerFeatures(
                recursive_read_only_mounts=native_here,
                # One in another would need ids that a user seldom has.
                user_namespaces=native_here and not core.images.content.userxattr,
            )
            answer.runtime_handlers.append(cri_pb2.RuntimeHandler(name=name, features=features))
        if request.verbose:
            answer.info["cgroups"] = core.cgroups.name + (f": {core.cgroup_problem}" if core.cgroup_problem else "")
            answer.info["root"] = str(core.config.root)
            answer.info["state"] = str(core.config.state)
        return answer

    @_answers
    async def RuntimeConfig(self, request: cri_pb2.RuntimeConfigRequest) -> cri_pb2.RuntimeConfigResponse:
        return cri_pb2.RuntimeConfigResponse(linux=cri_pb2.LinuxRuntimeConfiguration(cgroup_driver=cri_pb2.CGROUPFS))

    @_completes
    async def UpdateRuntimeConfig(self, request: cri_pb2.UpdateRuntimeConfigRequest) -> cri_pb2.UpdateRuntimeConfigResponse:
        cidr = request.runtime_config.network_config.pod_cidr
        if cidr:
            try:
                self._core.set_pod_cidr(cidr)
            except ValueError as error:
                raise InvalidArgument(f"pod CIDR {cidr!r}: {error}") from error
        return cri_pb2.UpdateRuntimeConfigResponse()

    async def GetContainerEvents(
        self, request: cri_pb2.GetEventsRequest, context: Context
    ) -> AsyncIterator[cri_pb2.ContainerEventResponse]:
        queue = self._core.listen()
        try:
            # The client then knows that nothing from here on will be missed.
            await context.send_initial_metadata(())
            while True:
                event = await queue.get()
                if event is None:
                    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "events were lost: list everything and listen again")
                    return
                yield event
        finally:
            self._core.unlisten(queue)

    # -- sandboxes -----------------------------------------------------------------------------------------------------------------------------

    @_completes
    async def RunPodSandbox(self, request: cri_pb2.RunPodSandboxRequest) -> cri_pb2.RunPodSandboxResponse:
        return cri_pb2.RunPodSandboxResponse(pod_sandbox_id=await self._sandboxes.run(request.config, request.runtime_handler))

    @_completes
    async def StopPodSandbox(self, request: cri_pb2.StopPodSandboxRequest) -> cri_pb2.StopPodSandboxResponse:
        await self._sandboxes.stop(request.pod_sandbox_id)
        return cri_pb2.StopPodSandboxResponse()

    @_completes
    async def RemovePodSandbox(self, request: cri_pb2.RemovePodSandboxRequest) -> cri_pb2.RemovePodSandboxResponse:
        await self._sandboxes.remove(request.pod_sandbox_id)
        return cri_pb2.RemovePodSandboxResponse()

    @_answers
    async def PodSandboxStatus(self, request: cri_pb2.PodSandboxStatusRequest) -> cri_pb2.PodSandboxStatusResponse:
        sandbox = self._core.sandbox(request.pod_sandbox_id)
        status, containers = views.snapshot(self._core, sandbox)
        info = views.sandbox_info(sandbox) if request.verbose else {}
        return cri_pb2.PodSandboxStatusResponse(
            status=status, info=info, containers_statuses=containers, timestamp=self._core.now()
        )

    @_answers
    async def ListPodSandbox(self, request: cri_pb2.ListPodSandboxRequest) -> cri_pb2.ListPodSandboxResponse:
        return cri_pb2.ListPodSandboxResponse(items=views.list_sandboxes(self._core, request.filter))

    async def StreamPodSandboxes(
        self, request: cri_pb2.StreamPodSandboxesRequest, context: Context
    ) -> AsyncIterator[cri_pb2.StreamPodSandboxesResponse]:
        for part in _chunks(views.list_sandboxes(self._core, request.filter)):
            yield cri_pb2.StreamPodSandboxesResponse(pod_sandboxes=part)

    @_completes
    async def UpdatePodSandboxResources(
        self, request: cri_pb2.UpdatePodSandboxResourcesRequest
    ) -> cri_pb2.UpdatePodSandboxResourcesResponse:
        await self._sandboxes.update(request.pod_sandbox_id, request.resources)
        return cri_pb2.UpdatePodSandboxResourcesResponse()

    # -- containers ----------------------------------------------------------------------------------------------------------------------------

    @_completes
    async def CreateContainer(self, request: cri_pb2.CreateContainerRequest) -> cri_pb2.CreateContainerResponse:
        return cri_pb2.CreateContainerResponse(container_id=await self._containers.create(request.pod_sandbox_id, request.config))

    @_completes
    async def StartContainer(self, request: cri_pb2.StartContainerRequest) -> cri_pb2.StartContainerResponse:
        await self._containers.start(request.container_id)
        return cri_pb2.StartContainerResponse()

    @_completes
    async def StopContainer(self, request: cri_pb2.StopContainerRequest) -> cri_pb2.StopContainerResponse:
        await self._containers.stop(request.container_id, request.timeout)
        return cri_pb2.StopContainerResponse()

    @_completes
    async def RemoveContainer(self, request: cri_pb2.RemoveContainerRequest) -> cri_pb2.RemoveContainerResponse:
        await self._containers.remove(request.container_id)
        return cri_pb2.RemoveContainerResponse()

    @_answers
    async def ListContainers(self, request: cri_pb2.ListContainersRequest) -> cri_pb2.ListContainersResponse:
        return cri_pb2.ListContainersResponse(containers=views.list_containers(self._core, request.filter))

    async def StreamContainers(
        self, request: cri_pb2.StreamContainersRequest, context: Context
    ) -> AsyncIterator[cri_pb2.StreamContainersResponse]:
        for part in _chunks(views.list_containers(self._core, request.filter)):
            yield cri_pb2.StreamContainersResponse(containers=part)

    @_answers
    async def ContainerStatus(self, request: cri_pb2.ContainerStatusRequest) -> cri_pb2.ContainerStatusResponse:
        container = self._core.container(request.container_id)
        info = views.container_info(container) if request.verbose else {}
        return cri_pb2.ContainerStatusResponse(status=views.container_status(self._core, container), info=info)

    @_completes
    async def UpdateContainerResources(
        self, request: cri_pb2.UpdateContainerResourcesRequest
    ) -> cri_pb2.UpdateContainerResourcesResponse:
        await self._containers.update(request.container_id, request.linux)
        return cri_pb2.UpdateContainerResourcesResponse()

    @_completes
    async def ReopenContainerLog(self, request: cri_pb2.ReopenContainerLogRequest) -> cri_pb2.ReopenContainerLogResponse:
        await self._containers.reopen_log(request.container_id)
        return cri_pb2.ReopenContainerLogResponse()

    # -- running things in containers ----------------------------------------------------------------------------------------------------------

    @_answers
    async def ExecSync(self, request: cri_pb2.ExecSyncRequest) -> cri_pb2.ExecSyncResponse:
        code, stdout, stderr = await self._execs.run_sync(request.container_id, list(request.cmd), request.timeout)
        return cri_pb2.ExecSyncResponse(stdout=stdout, stderr=stderr, exit_code=code)

    @_answers
    async def Exec(self, request: cri_pb2.ExecRequest) -> cri_pb2.ExecResponse:
        _check_streams(request)
        self._execs.check(request.container_id)
        return cri_pb2.ExecResponse(url=self._streaming.url("exec", request))

    @_answers
    async def Attach(self, request: cri_pb2.AttachRequest) -> cri_pb2.AttachResponse:
        _check_streams(request)
        self._execs.check(request.container_id)
        return cri_pb2.AttachResponse(url=self._streaming.url("attach", request))

    @_answers
    async def PortForward(self, request: cri_pb2.PortForwardRequest) -> cri_pb2.PortForwardResponse:
        self._sandboxes.ready(request.pod_sandbox_id)
        return cri_pb2.PortForwardResponse(url=self._streaming.url("portforward", request))

    # -- usage ---------------------------------------------------------------------------------------------------------------------------------

    @_answers
    async def ContainerStats(self, request: cri_pb2.ContainerStatsRequest) -> cri_pb2.ContainerStatsResponse:
        container = self._core.container(request.container_id)
        return cri_pb2.ContainerStatsResponse(stats=await self._stats.container(container))

    @_answers
    async def ListContainerStats(self, request: cri_pb2.ListContainerStatsRequest) -> cri_pb2.ListContainerStatsResponse:
        return cri_pb2.ListContainerStatsResponse(stats=await self._stats.containers(request.filter))

    async def StreamContainerStats(
        self, request: cri_pb2.StreamContainerStatsRequest, context: Context
    ) -> AsyncIterator[cri_pb2.StreamContainerStatsResponse]:
        for part in _chunks(await self._stats.containers(request.filter)):
            yield cri_pb2.StreamContainerStatsResponse(container_stats=part)

    @_answers
    async def PodSandboxStats(self, request: cri_pb2.PodSandboxStatsRequest) -> cri_pb2.PodSandboxStatsResponse:
        return cri_pb2.PodSandboxStatsResponse(stats=await self._stats.sandbox(self._core.sandbox(request.pod_sandbox_id)))

    @_answers
    async def ListPodSandboxStats(self, request: cri_pb2.ListPodSandboxStatsRequest) -> cri_pb2.ListPodSandboxStatsResponse:
        return cri_pb2.ListPodSandboxStatsResponse(stats=await self._stats.sandboxes(request.filter))

    async def StreamPodSandboxStats(
        self, request: cri_pb2.StreamPodSandboxStatsRequest, context: Context
    ) -> AsyncIterator[cri_pb2.StreamPodSandboxStatsResponse]:
        for part in _chunks(await self._stats.sandboxes(request.filter)):
            yield cri_pb2.StreamPodSandboxStatsResponse(pod_sandbox_stats=part)

    @_answers
    async def ListMetricDescriptors(self, request: cri_pb2.ListMetricDescriptorsRequest) -> cri_pb2.ListMetricDescriptorsResponse:
        return cri_pb2.ListMetricDescriptorsResponse(descriptors=metrics.descriptors())

    @_answers
    async def ListPodSandboxMetrics(self, request: cri_pb2.ListPodSandboxMetricsRequest) -> cri_pb2.ListPodSandboxMetricsResponse:
        return cri_pb2.ListPodSandboxMetricsResponse(pod_metrics=await self._pod_metrics())

    async def StreamPodSandboxMetrics(
        self, request: cri_pb2.StreamPodSandboxMetricsRequest, context: Context
    ) -> AsyncIterator[cri_pb2.StreamPodSandboxMetricsResponse]:
        for part in _chunks(await self._pod_metrics()):
            yield cri_pb2.StreamPodSandboxMetricsResponse(pod_sandbox_metrics=part)

    async def _pod_metrics(self) -> list[cri_pb2.PodSandboxMetrics]:
        return metrics.of_pods(self._core, await self._stats.sandboxes(cri_pb2.PodSandboxStatsFilter()))

    # -- checkpoints ---------------------------------------------------------------------------------------------------------------------------

    @_answers
    async def CheckpointContainer(self, request: cri_pb2.CheckpointContainerRequest) -> cri_pb2.CheckpointContainerResponse:
        self._execs.check(request.container_id)
        raise Unimplemented(
            "containers of the handler `native` cannot be checkpointed: that takes criu and a runtime that drives it"
        )

    @_answers
    async def CheckpointPod(self, request: cri_pb2.CheckpointPodRequest) -> cri_pb2.CheckpointPodResponse:
        self._sandboxes.ready(request.pod_sandbox_id)
        raise Unimplemented("pods cannot be checkpointed")

    @_answers
    async def RestorePod(self, request: cri_pb2.RestorePodRequest) -> cri_pb2.RestorePodResponse:
        raise Unimplemented("pods cannot be restored from checkpoints")


class ImageService(cri_pb2_grpc.ImageServiceServicer):
    def __init__(self, core: Core) -> None:
        self._core = core

    @_answers
    async def ListImages(self, request: cri_pb2.ListImagesRequest) -> cri_pb2.ListImagesResponse:
        return cri_pb2.ListImagesResponse(images=self._list(request.filter))

    async def StreamImages(
        self, request: cri_pb2.StreamImagesRequest, context: Context
    ) -> AsyncIterator[cri_pb2.StreamImagesResponse]:
        for part in _chunks(self._list(request.filter)):
            yield cri_pb2.StreamImagesResponse(images=part)

    def _list(self, wanted: cri_pb2.ImageFilter) -> list[cri_pb2.Image]:
        images = self._core.images
        if wanted.image.image:
            found = images.find(wanted.image.image)
            return [found.view()] if found else []
        return [image.view() for image in images.all()]

    @_answers
    async def ImageStatus(self, request: cri_pb2.ImageStatusRequest) -> cri_pb2.ImageStatusResponse:
        images = self._core.images
        found = images.find(request.image.image)
        if found is not None and not images.allowed(found, request.image.image):
            # Whoever wants it must ask for it again, which is when its signature is looked for.
            found = None
        info = {}
        if found is not None and request.verbose:
            info["info"] = json.dumps({"kind": found.kind, "layers": found.layers, "signedBy": found.signed})
        return cri_pb2.ImageStatusResponse(image=found.view() if found else None, info=info)

    @_completes
    async def PullImage(self, request: cri_pb2.PullImageRequest) -> cri_pb2.PullImageResponse:
        image = await self._core.images.pull(request.image.image, request.auth)
        return cri_pb2.PullImageResponse(image_ref=image.reference)

    @_completes
    async def RemoveImage(self, request: cri_pb2.RemoveImageRequest) -> cri_pb2.RemoveImageResponse:
        used = {container.record.image_id for container in self._core.containers.values()}
        await self._core.images.remove(request.image.image, used)
        return cri_pb2.RemoveImageResponse()

    @_answers
    async def ImageFsInfo(self, request: cri_pb2.ImageFsInfoRequest) -> cri_pb2.ImageFsInfoResponse:
        return await self._core.images.filesystem()


def _check_streams(request: cri_pb2.ExecRequest | cri_pb2.AttachRequest) -> None:
    if request.tty and request.stderr:
        raise InvalidArgument("a terminal has no standard error of its own: tty and stderr cannot both be asked for")
    if not (request.stdin or request.stdout or request.stderr):
        raise InvalidArgument("one of stdin, stdout and stderr must be asked for")


def _chunks(items: list[Answer]) -> Iterator[list[Answer]]:
    for start in range(0, max(1, len(items)), _CHUNK):
        yield items[start : start + _CHUNK]
