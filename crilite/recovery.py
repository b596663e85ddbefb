"""After a start: make what is on disk, what runs, and what is in memory agree.

Whatever moment the last daemon died at, the records name all that it may have left: a sandbox whose making was not finished is taken back, a
container whose process is gone has ended (its exit code is in the keeper's file, or lost with the node's reboot), a directory or pin without a
record goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from pathlib import Path

from kubeling.crilite import namespaces, oci, oci_tools
from kubeling.crilite.attachment import Attachment
from kubeling.crilite.containers import Containers
from kubeling.crilite.core import Core
from kubeling.crilite.errors import CriError
from kubeling.crilite.held import process_start
from kubeling.crilite.keeper_client import KeeperError
from kubeling.crilite.records import CREATING, EXITED, READY, RUNNING, ContainerRecord, Sandbox, SandboxRecord, boot
from kubeling.crilite.sandboxes import Sandboxes
from kubeling.daemon.log import get_logger

log = get_logger("crilite.recovery")


async def recover(core: Core, sandboxes: Sandboxes, containers: Containers, held: dict[str, int]) -> None:
    """Load the records and repair; `held` is what the keeper holds (names and pids)."""
    for sandbox_record in core.sandbox_records.load(SandboxRecord):
        core.add_sandbox(sandbox_record)
    for container_record in core.container_records.load(ContainerRecord):
        if container_record.sandbox_id in core.sandboxes:
            core.add_container(container_record)
        else:
            core.container_records.delete(container_record.id)
    agree_on_containers(core, containers, held)
    await end_strays(core, held)
    for sandbox in list(core.sandboxes.values()):
        record = sandbox.record
        if record.phase == CREATING:
            log.warning("a sandbox that was not finished is taken back", sandbox=sandbox.id)
            await sandboxes.remove(sandbox.id)
        elif record.phase == READY and not _is_whole(core, record, sandbox.host_network, held):
            log.warning("a sandbox has lost its namespaces", sandbox=sandbox.id)
            await sandboxes.stop(sandbox.id)
    _clear_leftovers(core)
    those = [core.attachment(one) for one in core.sandboxes.values() if one.record.phase == READY and _is_connected(one)]
    if "native" in core.config.handlers:
        await asyncio.to_thread(_retain, core, those)
    await asyncio.to_thread(core.images.collect, {container.record.image_id for container in core.containers.values()})
    if core.config.default_handler == "native":
        await _probe_overlay(core)
    if core.containers or core.sandboxes:
        log.info("recovered", sandboxes=len(core.sandboxes), containers=len(core.containers), running=len(held))


def _is_connected(sandbox: Sandbox) -> bool:
    return sandbox.record.handler != "process" and not sandbox.host_network


def _retain(core: Core, those: list[Attachment]) -> None:
    try:
        core.native_network.retain(those)
    except (CriError, OSError) as error:
        log.warning("the pods' network cannot be repaired", error=error)


async def end_strays(core: Core, held: dict[str, int]) -> None:
    """End what the keeper holds and no record says should run."""
    for name in held:
        container = core.containers.get(name)
        if (container is None and name not in core.sandboxes) or (container is not None and container.record.phase == EXITED):
            log.warning("a process that should not be is ended", container=name)
            await core.keeper.request("kill", container=name, signal=int(signal.SIGKILL), everything=True)


def agree_on_containers(core: Core, containers: Containers, held: dict[str, int]) -> None:
    """Every container that should run and is not held has ended: say so, with what the keeper has written of it."""
    for container in list(core.containers.values()):
        record = container.record
        if record.phase == EXITED:
            continue
        folder = core.container_state(record.id)
        if record.id in held:
            if record.phase != RUNNING:
                _started_unseen(core, record, str(folder))
            continue
        before_power_was_lost = bool(record.boot) and record.boot != boot()
        if record.phase != RUNNING and not (folder / "pid").exists() and not before_power_was_lost:
            continue
        try:
            end = json.loads((folder / "exit").read_bytes())
        except (OSError, ValueError):
            now = time.time_ns()
            end = {"code": 255, "reason": "Unknown", "began": record.started_at or now, "ended": now}
        record.phase = RUNNING
        containers.ended(record.id, end)


def _started_unseen(core: Core, record: ContainerRecord, folder: str) -> None:
    """The daemon died between asking the keeper to start and writing down that it did."""
    with open(os.path.join(folder, "pid"), "rb") as file:
        begun = json.load(file)
    said = begun["said"]
    record.phase, record.pid, record.started_at = RUNNING, begun["pid"], begun["began"]
    record.user = [said.get("uid", 0), said.get("gid", 0), said.get("groups", [])]
    core.container_records.note(record)


def _is_whole(core: Core, record: SandboxRecord, host_network: bool, held: dict[str, int]) -> bool:
    if record.handler == "process":
        return True
    if not host_network and not namespaces.is_pinned(str(core.sandbox_state(record.id) / "net")):
        return False
    return not record.pause_pid or (record.id in held and bool(process_start(record.pause_pid)))


async def _probe_overlay(core: Core) -> None:
    """Try once how image layers can be put over each other here; copies are made where overlayfs is not allowed."""
    folder = core.config.root / "probe"
    folder.mkdir(exist_ok=True)
    try:
        await core.keeper.request("probe-overlay", folder=str(folder), userxattr=core.images.content.userxattr)
    except KeeperError as error:
        core.images.overlay = False
        log.warning("images are copied for each container: overlayfs does not work here", reason=error)
    shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers(core: Core) -> None:
    for folder, known in ((core.config.state / "sandboxes", core.sandboxes), (core.config.state / "containers", core.containers)):
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        for name in os.listdir(folder):
            if name not in known and name not in core.sandboxes:
                namespaces.unpin(str(folder / name))
                shutil.rmtree(folder / name, ignore_errors=True)
    for handler in oci.RUNTIMES:
        known_to_it = Path(oci_tools.state(core.config.state, handler))
        for name in os.listdir(known_to_it) if known_to_it.is_dir() else []:
            if name not in core.containers:
                oci_tools.delete(handler, core.config.state, name)
