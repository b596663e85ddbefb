"""Containers: created, started, stopped, removed, and what is known of them.

Creating writes the launch spec and makes the writable layer and the cgroup; starting is one request to the keeper; the end comes as an event of
the keeper, which has put it on disk before. So a daemon that was away at that moment finds it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from typing import Any

from kubeling.crilite import image_mounts, launchspec, layers, oci, oci_tools, signals, userns
from kubeling.crilite.core import Core, container_name, new_id
from kubeling.crilite.errors import AlreadyExists, CriError, FailedPrecondition, InvalidArgument, NotFound
from kubeling.crilite.held import write_atomically
from kubeling.crilite.images import Image
from kubeling.crilite.keeper_client import KeeperError, KeeperGone
from kubeling.crilite.records import CREATED, EXITED, READY, RUNNING, Container, ContainerRecord, boot, pack
from kubeling.daemon.log import get_logger
from kubeling.proto import cri_pb2

log = get_logger("crilite.containers")

#: After SIGKILL only the kernel can be in the way.
_KILL_SECONDS = 30.0


class Containers:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def create(self, sandbox_id: str, config: cri_pb2.ContainerConfig) -> str:
        """Prepare a container in a sandbox that is ready; its id."""
        core = self._core
        sandbox = core.sandbox(sandbox_id)
        if sandbox.record.phase != READY:
            raise FailedPrecondition(f"sandbox {sandbox_id!r} is not ready")
        if not config.metadata.name:
            raise InvalidArgument("the container's metadata needs a name")
        name = container_name(sandbox_id, config.metadata)
        if name in core.container_names:
            raise AlreadyExists(f"container name {name!r} is taken by {core.container_names[name]!r}")
        image = core.images.find(config.image.image)
        if image is None:
            raise NotFound(f"image {config.image.image!r} is not present")
        core.images.must_be_allowed(image, config.image.user_specified_image or config.image.image)
        record = ContainerRecord(
            id=new_id(),
            sandbox_id=sandbox_id,
            config=pack(config),
            image_id=image.id,
            image_ref=image.reference,
            created_at=time.time_ns(),
            stop_signal=signals.from_cri(config.stop_signal) or signals.from_image(image.config.stop_signal),
        )
        record.cgroup = f"{sandbox.record.cgroup}/{record.id}"
        container = core.add_container(record)
        try:
            async with container.lock:
                core.container_records.save(record, settled=False)
                await asyncio.to_thread(self._prepare, container, image)
        except BaseException as error:
            core.forget_container(container)
            await asyncio.to_thread(self._clear, container)
            if isinstance(error, OSError):
                raise CriError(f"cannot create container {config.metadata.name}: {error}") from error
            raise
        if sandbox.record.handler == "native":
            # Its start is expected next. Until that has come all the way most of what it takes can be done.
            core.keeper.tell("prepare", container=record.id)
        core.emit(cri_pb2.CONTAINER_CREATED_EVENT, record.id, sandbox)
        return record.id

    def _prepare(self, container: Container, image: Image) -> None:
        core, record = self._core, container.record
        sandbox = core.sandbox(record.sandbox_id)
        image_mounts.prepare(core, container)
        made = launchspec.build(core, sandbox, container, image)
        state = core.container_state(record.id)
        (state / "rootfs").mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in ("upper", "work"):
            os.makedirs(core.container_records.path(record.id, name), exist_ok=True)
        mapped = made.get("user_namespace")
        if mapped and made["rootfs"]["kind"] == "overlay" and not userns.can_map(str(core.config.root)):
            made["rootfs"] = {"kind": "copy", "path": made["rootfs"]["upper"]}
        if made["rootfs"]["kind"] == "copy":
            below = [str(core.images.content.layers / layer) for layer in image.layers]
            layers.flatten(below, made["rootfs"]["path"], userxattr=core.images.content.userxattr)
            if mapped:
                userns.give_away(made["rootfs"]["path"], sandbox.options)
        core.cgroups.create(record.cgroup, container.config.linux.resources, core.config.pids_limit)
        made["cgroup_procs"] = core.cgroups.joins(record.cgroup)
        made["cgroup_views"] = core.cgroups.views() if made["cgroup_procs"] else []
        made["oom_file"] = core.cgroups.oom_file(record.cgroup)
        if sandbox.record.handler == "process":
            launchspec.link_volumes(container.config, str(state / "rootfs"))
        write_atomically(str(state / "spec.json"), json.dumps(made).encode(), settled=False)

    async def start(self, name: str) -> None:
        """Run the container's program. When that fails the container is EXITED with the reason StartError, as containerd has it."""
        core = self._core
        container = core.container(name)
        record = container.record
        async with container.lock:
            if record.phase != CREATED:
                raise FailedPrecondition(f"container {name!r} is {record.phase}: only a created one can be started")
            sandbox = core.sandbox(record.sandbox_id)
            if sandbox.record.phase != READY:
                raise FailedPrecondition(f"sandbox {sandbox.id!r} is not ready")
            record.boot = boot()
            core.container_records.save(record, settled=False)
            settled = asyncio.ensure_future(asyncio.to_thread(self._settle, record))
            try:
                try:
                    answer, _ = await core.keeper.request("start", container=name)
                finally:
                    await settled
            except KeeperGone as error:
                # It may run or not: what the next keeper finds is decided then, see recovery.
                raise CriError(f"cannot tell whether container {container.config.metadata.name} has started: {error}") from error
            except KeeperError as error:
                self._failed(container, error)
                raise CriError(f"cannot start container {container.config.metadata.name}: {error}") from error
            record.pid = answer["pid"]
            record.user = [answer.get("uid", 0), answer.get("gid", 0), answer.get("groups", [])]
            record.started_at = record.started_at or time.time_ns()
            if record.phase == CREATED:
                record.phase = RUNNING
                core.container_records.note(record, settled=False)
                core.emit(cri_pb2.CONTAINER_STARTED_EVENT, name, sandbox)
            else:
                # It has ended already, and the news came in the same moment as the answer.
                core.emit(cri_pb2.CONTAINER_STARTED_EVENT, name, sandbox)
                core.emit(cri_pb2.CONTAINER_STOPPED_EVENT, name, sandbox)

    def _settle(self, record: ContainerRecord) -> None:
        try:
            self._core.sandbox_records.settle(record.sandbox_id)
            self._core.container_records.settle(record.id)
        except OSError as error:
            log.warning("a record may not survive a loss of power", container=record.id, error=str(error))

    def _failed(self, container: Container, error: KeeperError) -> None:
        record = container.record
        record.phase, record.exit_code, record.reason, record.message = EXITED, error.code, "StartError", str(error)
        record.started_at = record.finished_at = time.time_ns()
        self._core.container_records.note(record)
        container.exited.set()
        self._core.emit(cri_pb2.CONTAINER_STOPPED_EVENT, container.id, self._core.sandboxes.get(record.sandbox_id))

    def ended(self, name: str, end: dict[str, Any]) -> None:
        """The keeper reports the container's end."""
        container = self._core.containers.get(name)
        if container is None or container.record.phase == EXITED:
            return
        record = container.record
        was_running = record.phase == RUNNING
        record.phase, record.exit_code, record.reason = EXITED, end["code"], end["reason"]
        record.started_at, record.finished_at, record.pid = end["began"], end["ended"], 0
        self._core.container_records.note(record)
        container.exited.set()
        if was_running:
            self._core.emit(cri_pb2.CONTAINER_STOPPED_EVENT, name, self._core.sandboxes.get(record.sandbox_id))

    async def stop(self, name: str, timeout: int) -> None:
        """The container's stop signal, `timeout` seconds of patience, then SIGKILL. Not running, or not there, is stopped."""
        container = self._core.containers.get(name)
        if container is None or container.record.phase == EXITED:
            return
        if container.record.phase == CREATED and not container.lock.locked():
            await self._discard(container)
            return
        everything = self._core.sandbox(container.record.sandbox_id).record.handler == "process"
        if timeout > 0:
            await self._signal(name, container.record.stop_signal, everything)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await container.exited.wait()
        if not container.exited.is_set():
            await self._kill(container, everything)

    async def _kill(self, container: Container, everything: bool) -> None:
        await self._signal(container.id, int(signal.SIGKILL), everything)
        try:
            async with asyncio.timeout(_KILL_SECONDS):
                await container.exited.wait()
        except TimeoutError:
            raise CriError(f"container {container.id!r} does not end even by SIGKILL") from None

    async def _discard(self, container: Container) -> None:
        """End what has been prepared for its start. A keeper that is gone has nothing any more."""
        with contextlib.suppress(KeeperGone):
            await self._signal(container.id, int(signal.SIGKILL), everything=False)

    async def _signal(self, name: str, number: int, everything: bool) -> None:
        await self._core.keeper.request("kill", container=name, signal=number, everything=everything)

    async def remove(self, name: str) -> None:
        """Stop the container at once if it runs, and remove all that it had. One that is not there is removed."""
        container = self._core.containers.get(name)
        if container is None:
            return
        async with container.lock:
            if self._core.containers.get(name) is not container:
                return
            if container.record.phase == RUNNING:
                await self._kill(container, everything=True)
            elif container.record.phase == CREATED:
                await self._discard(container)
            sandbox = self._core.sandboxes.get(container.record.sandbox_id)
            await asyncio.to_thread(self._clear, container)
            self._core.forget_container(container)
        self._core.emit(cri_pb2.CONTAINER_DELETED_EVENT, name, sandbox)

    def _clear(self, container: Container) -> None:
        core, record = self._core, container.record
        core.cgroups.kill(record.cgroup)
        sandbox = core.sandboxes.get(record.sandbox_id)
        if sandbox is not None and sandbox.record.handler in oci.RUNTIMES:
            oci_tools.delete(sandbox.record.handler, core.config.state, record.id)
        if not core.cgroups.remove(record.cgroup):
            log.warning("the container's cgroup cannot be removed", container=record.id, cgroup=record.cgroup)
        core.container_records.delete(record.id)
        shutil.rmtree(core.container_state(record.id), ignore_errors=True)

    async def update(self, name: str, resources: cri_pb2.LinuxContainerResources) -> None:
        """New limits, at once where it runs; they replace those in the container's config, which the next status shows."""
        container = self._core.container(name)
        async with container.lock:
            if container.record.phase == EXITED:
                raise FailedPrecondition(f"container {name!r} has ended")
            try:
                await asyncio.to_thread(self._core.cgroups.update, container.record.cgroup, resources)
            except OSError as error:
                raise CriError(f"cannot set the limits of container {name!r}: {error}") from error
            merge_resources(container.config.linux.resources, resources)
            container.record.config = pack(container.config)
            self._core.container_records.save(container.record)

    async def reopen_log(self, name: str) -> None:
        container = self._core.container(name)
        if container.record.phase != RUNNING:
            raise FailedPrecondition(f"container {name!r} is not running")
        await self._core.keeper.request("reopen", container=name)


def merge_resources(into: cri_pb2.LinuxContainerResources, new: cri_pb2.LinuxContainerResources) -> None:
    """Take over what `new` sets; a zero means "leave it"."""
    for descriptor, value in new.ListFields():
        if descriptor.name in ("unified", "hugepage_limits"):
            into.ClearField(descriptor.name)
            into.MergeFrom(cri_pb2.LinuxContainerResources(**{descriptor.name: value}))
        else:
            setattr(into, descriptor.name, value)


def log_path(sandbox: cri_pb2.PodSandboxConfig, config: cri_pb2.ContainerConfig) -> str:
    """Where the container's log is, or empty for none."""
    if not config.log_path or not sandbox.log_directory:
        return ""
    return os.path.join(sandbox.log_directory, config.log_path)


def labels_match(selector: Any, labels: Any) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())
