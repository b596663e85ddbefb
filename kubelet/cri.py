"""The runtime, over CRI v1 on a Unix socket. Thin: each method is one call, and every failure is a :class:`RuntimeFailure`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeling.kubelet.podstate import POD_UID, ContainerRecord, PodRuntime, SandboxRecord, container_record, sandbox_record

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

#: As upstream: two minutes for what may take long, pulls apart (they last as long as they make progress).
TIMEOUT = 120.0
_PULL_TIMEOUT = 3600.0
_MAX_MESSAGE = 16 * 1024 * 1024
_CODES = {
    "CANCELLED": "Canceled",
    "OK": "OK",
}


class RuntimeFailure(Exception):
    """The runtime refused or is away. The text is as upstream shows it: `rpc error: code = NotFound desc = …`."""

    def __init__(self, code: str, details: str) -> None:
        spelled = _CODES.get(code) or "".join(part.capitalize() for part in code.split("_"))
        super().__init__(f"rpc error: code = {spelled} desc = {details}")
        self.code = code
        self.details = details

    @property
    def unimplemented(self) -> bool:
        return self.code == "UNIMPLEMENTED"

    @property
    def not_found(self) -> bool:
        return self.code == "NOT_FOUND"

    @property
    def unavailable(self) -> bool:
        return self.code == "UNAVAILABLE"


def _newest(
    each: cri_pb2.PodSandbox | cri_pb2.Container | cri_pb2.PodSandboxStatus | cri_pb2.ContainerStatus,
) -> tuple[int, int]:
    """By the number that the kubelet gave it, and not by its time: clocks are set."""
    return -each.metadata.attempt, -each.created_at


class Runtime:
    """A connection to the runtime at `endpoint` (`unix:///path`). Make it inside a running event loop."""

    def __init__(self, endpoint: str) -> None:
        import grpc.aio

        from kubeling.proto import cri_pb2, cri_pb2_grpc

        self.pb = cri_pb2
        self._error = grpc.aio.AioRpcError
        self._channel = grpc.aio.insecure_channel(
            endpoint,
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._runtime: Any = cri_pb2_grpc.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._images: Any = cri_pb2_grpc.ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        #: Dead containers do not change any more, so their statuses are read once.
        self._dead: dict[str, ContainerRecord] = {}
        #: What stands before `://` in container IDs.
        self.name = "unknown"
        self.version = ""
        #: The handlers whose read-only mounts can be so all the way down, as of the last status.
        self.recursive: frozenset[str] = frozenset()

    async def close(self) -> None:
        await self._channel.close()

    async def _call(self, method: Any, request: Any, timeout: float = TIMEOUT) -> Any:
        try:
            return await method(request, timeout=timeout)
        except self._error as error:
            raise RuntimeFailure(error.code().name, error.details() or "") from error

    # -- the runtime itself --------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Ask who it is; raises RuntimeFailure while it is not there."""
        answer = await self._call(self._runtime.Version, self.pb.VersionRequest(version="v1"), 10)
        self.name, self.version = answer.runtime_name or "unknown", answer.runtime_version

    async def status(self) -> dict[str, tuple[bool, str, str]]:
        """Condition → (true, reason, message): RuntimeReady and NetworkReady."""
        answer = await self._call(self._runtime.Status, self.pb.StatusRequest(), 10)
        self.recursive = frozenset(each.name for each in answer.runtime_handlers if each.features.recursive_read_only_mounts)
        return {each.type: (each.status, each.reason, each.message) for each in answer.status.conditions}

    async def has_user_namespaces(self, handler: str) -> bool:
        """Whether pods of that handler (empty: the default one) can have user namespaces of their own."""
        answer = await self._call(self._runtime.Status, self.pb.StatusRequest(), 10)
        return any(each.name == handler and each.features.user_namespaces for each in answer.runtime_handlers)

    async def set_pod_cidr(self, cidr: str) -> None:
        config = self.pb.RuntimeConfig(network_config=self.pb.NetworkConfig(pod_cidr=cidr))
        await self._call(self._runtime.UpdateRuntimeConfig, self.pb.UpdateRuntimeConfigRequest(runtime_config=config), 10)

    async def events(self, listening: Callable[[], None]) -> AsyncIterator[cri_pb2.ContainerEventResponse]:
        """Follow what happens to containers; RuntimeFailure when the stream ends badly, `unimplemented` where there is none.

        `listening` is called when nothing will be missed from then on, as far as the runtime says when that is (by its initial metadata).
        """
        call = self._runtime.GetContainerEvents(self.pb.GetEventsRequest())

        async def begun() -> None:
            await call.initial_metadata()
            listening()

        waiter = asyncio.ensure_future(begun())
        try:
            async for each in call:
                yield each
        except self._error as error:
            raise RuntimeFailure(error.code().name, error.details() or "") from error
        finally:
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            call.cancel()

    # -- reading pods --------------------------------------------------------------------------------------------------------------

    async def list_sandboxes(self, uid: str = "") -> list[cri_pb2.PodSandbox]:
        """All sandboxes, or those of one pod, newest first."""
        wanted = self.pb.PodSandboxFilter(label_selector={POD_UID: uid}) if uid else None
        answer = await self._call(self._runtime.ListPodSandbox, self.pb.ListPodSandboxRequest(filter=wanted))
        return sorted(answer.items, key=_newest)

    async def list_containers(self, uid: str = "") -> list[cri_pb2.Container]:
        """All containers, or those of one pod, newest first."""
        wanted = self.pb.ContainerFilter(label_selector={POD_UID: uid}) if uid else None
        answer = await self._call(self._runtime.ListContainers, self.pb.ListContainersRequest(filter=wanted))
        return sorted(answer.containers, key=_newest)

    async def pod(self, uid: str) -> PodRuntime:
        """Everything about one pod, as it is now."""
        sandboxes, containers = await asyncio.gather(self.list_sandboxes(uid), self.list_containers(uid))
        found = await asyncio.gather(
            asyncio.gather(*(self._sandbox_status(each.id) for each in sandboxes)),
            asyncio.gather(*(self._container(each) for each in containers)),
        )
        records = [sandbox_record(each) for each in found[0] if each is not None]
        known = [each for each in found[1] if each is not None]
        return PodRuntime(
            uid=uid,
            name=sandboxes[0].metadata.name if sandboxes else "",
            namespace=sandboxes[0].metadata.namespace if sandboxes else "",
            sandboxes=tuple(records),
            containers=tuple(known),
        )

    async def pod_of(self, uid: str, sandboxes: Collection[str]) -> PodRuntime:
        """As :meth:`pod`, where it is known which sandboxes the pod has: one call for each of them, with a runtime that tells of a sandbox's containers too."""
        found = await asyncio.gather(*(self._sandbox(each) for each in sandboxes))
        answers = [each for each in found if each is not None and each.timestamp]
        if not answers or len(answers) < len(sandboxes):
            return await self.pod(uid)
        answers.sort(key=lambda each: _newest(each.status))
        told = [(status, each.status.id) for each in answers for status in each.containers_statuses]
        told.sort(key=lambda each: _newest(each[0]))
        meta = answers[0].status.metadata
        return PodRuntime(
            uid=uid,
            name=meta.name,
            namespace=meta.namespace,
            sandboxes=tuple(sandbox_record(each.status) for each in answers),
            containers=tuple(container_record(*each) for each in told),
        )

    async def _sandbox(self, sandbox_id: str) -> cri_pb2.PodSandboxStatusResponse | None:
        request = self.pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        try:
            answer: cri_pb2.PodSandboxStatusResponse = await self._call(self._runtime.PodSandboxStatus, request)
        except RuntimeFailure as error:
            if error.not_found:
                return None
            raise
        return answer

    async def _sandbox_status(self, sandbox_id: str) -> cri_pb2.PodSandboxStatus | None:
        answer = await self._sandbox(sandbox_id)
        return answer.status if answer is not None else None

    async def sandbox(self, sandbox_id: str) -> SandboxRecord | None:
        """One sandbox, None where it is gone."""
        status = await self._sandbox_status(sandbox_id)
        return sandbox_record(status) if status is not None else None

    async def _container(self, listed: cri_pb2.Container) -> ContainerRecord | None:
        dead = self._dead.get(listed.id)
        if dead is not None:
            return dead
        status = await self.container_status(listed.id)
        if status is None:
            return None
        record = container_record(status, listed.pod_sandbox_id)
        if record.state == "exited":
            self._dead[listed.id] = record
        return record

    async def container_status(self, container_id: str) -> cri_pb2.ContainerStatus | None:
        """None where the container is gone."""
        try:
            answer = await self._call(self._runtime.ContainerStatus, self.pb.ContainerStatusRequest(container_id=container_id))
        except RuntimeFailure as error:
            if error.not_found:
                return None
            raise
        status: cri_pb2.ContainerStatus = answer.status
        return status

    # -- changing pods -------------------------------------------------------------------------------------------------------------

    async def run_sandbox(self, config: cri_pb2.PodSandboxConfig, handler: str) -> str:
        request = self.pb.RunPodSandboxRequest(config=config, runtime_handler=handler)
        answer = await self._call(self._runtime.RunPodSandbox, request, 2 * TIMEOUT)
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._call(self._runtime.StopPodSandbox, self.pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._call(self._runtime.RemovePodSandbox, self.pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def create_container(
        self, sandbox_id: str, config: cri_pb2.ContainerConfig, sandbox_config: cri_pb2.PodSandboxConfig
    ) -> str:
        request = self.pb.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config)
        answer = await self._call(self._runtime.CreateContainer, request)
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call(self._runtime.StartContainer, self.pb.StartContainerRequest(container_id=container_id))

    async def update_container(self, container_id: str, resources: cri_pb2.LinuxContainerResources) -> None:
        """Give a running container other limits."""
        request = self.pb.UpdateContainerResourcesRequest(container_id=container_id, linux=resources)
        await self._call(self._runtime.UpdateContainerResources, request)

    async def stop_container(self, container_id: str, grace: int) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds. One that is gone is stopped."""
        request = self.pb.StopContainerRequest(container_id=container_id, timeout=grace)
        try:
            await self._call(self._runtime.StopContainer, request, grace + TIMEOUT)
        except RuntimeFailure as error:
            if not error.not_found:
                raise

    async def remove_container(self, container_id: str) -> None:
        await self._call(self._runtime.RemoveContainer, self.pb.RemoveContainerRequest(container_id=container_id))
        self._dead.pop(container_id, None)

    def forget_dead_but(self, ids: set[str]) -> None:
        """Drop what is remembered of dead containers that are not among `ids`."""
        for each in [each for each in self._dead if each not in ids]:
            del self._dead[each]

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> tuple[int, bytes]:
        """Exit code, and output of both streams together. DEADLINE_EXCEEDED where it took longer than `timeout` seconds."""
        request = self.pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=max(1, round(timeout)))
        answer = await self._call(self._runtime.ExecSync, request, timeout + 10)
        return int(answer.exit_code), bytes(answer.stdout + answer.stderr)

    async def checkpoint_container(self, container_id: str, location: str, timeout: int) -> None:
        """Have a running container's state written to the file `location`. `timeout` seconds, or as long as any call may take for 0."""
        request = self.pb.CheckpointContainerRequest(container_id=container_id, location=location, timeout=timeout)
        await self._call(self._runtime.CheckpointContainer, request, float(timeout) or TIMEOUT)

    async def reopen_log(self, container_id: str) -> None:
        await self._call(self._runtime.ReopenContainerLog, self.pb.ReopenContainerLogRequest(container_id=container_id))

    async def exec_url(self, container_id: str, command: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        request = self.pb.ExecRequest(container_id=container_id, cmd=command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
        return str((await self._call(self._runtime.Exec, request)).url)

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        request = self.pb.AttachRequest(container_id=container_id, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
        return str((await self._call(self._runtime.Attach, request)).url)

    async def port_forward_url(self, sandbox_id: str, ports: list[int]) -> str:
        request = self.pb.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return str((await self._call(self._runtime.PortForward, request)).url)

    async def container_stats(self) -> list[cri_pb2.ContainerStats]:
        answer = await self._call(self._runtime.ListContainerStats, self.pb.ListContainerStatsRequest(), 10)
        return list(answer.stats)

    # -- images --------------------------------------------------------------------------------------------------------------------

    async def image(self, name: str) -> cri_pb2.Image | None:
        """The image, None where it is not on this node."""
        request = self.pb.ImageStatusRequest(image=self.pb.ImageSpec(image=name))
        answer = await self._call(self._images.ImageStatus, request)
        found: cri_pb2.Image | None = answer.image if answer.HasField("image") and answer.image.id else None
        return found

    async def pull(self, name: str, auth: cri_pb2.AuthConfig | None, sandbox: cri_pb2.PodSandboxConfig | None) -> str:
        request = self.pb.PullImageRequest(image=self.pb.ImageSpec(image=name), auth=auth, sandbox_config=sandbox)
        return str((await self._call(self._images.PullImage, request, _PULL_TIMEOUT)).image_ref)

    async def images(self) -> list[cri_pb2.Image]:
        return list((await self._call(self._images.ListImages, self.pb.ListImagesRequest())).images)

    async def remove_image(self, image: str) -> None:
        await self._call(self._images.RemoveImage, self.pb.RemoveImageRequest(image=self.pb.ImageSpec(image=image)))

    async def image_root(self) -> Path | None:
        """The folder in which the runtime keeps its images, None where it does not say."""
        answer = await self._call(self._images.ImageFsInfo, self.pb.ImageFsInfoRequest())
        found = [each.fs_id.mountpoint for each in answer.image_filesystems if each.fs_id.mountpoint]
        return Path(found[0]) if found else None
