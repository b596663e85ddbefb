"""Sandboxes and containers, in memory and on disk.

A record is one JSON file, replaced atomically; the CRI config inside is kept as the bytes that the client sent, so that nothing of it is lost.
What a record says is written before what it speaks of is made, so that after a crash everything that may exist can be found and taken away.

Against a loss of power a record is made safe (:meth:`Folder.settle`) while its container's program is being started: what has not run yet may be
forgotten, since nothing of it survives the kernel but files that are cleared away; what may have run must not be.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from kubeling.crilite.held import write_atomically
from kubeling.daemon.log import get_logger
from kubeling.proto import cri_pb2

log = get_logger("crilite.records")

CREATING, READY, STOPPED = "creating", "ready", "stopped"
CREATED, RUNNING, EXITED = "created", "running", "exited"


@dataclass
class SandboxRecord:
    id: str
    config: str
    handler: str
    created_at: int
    phase: str = CREATING
    ip: str = ""
    #: All addresses, the main one first.
    ips: list[str] = field(default_factory=list)
    cgroup: str = ""
    #: Whether the cgroup was not there before: then it goes with the sandbox.
    owns_cgroup: bool = False
    #: Holds the pid namespace that the containers share.
    pause_pid: int = 0

    def __post_init__(self) -> None:
        if self.ip and not self.ips:
            self.ips = [self.ip]  # Written by an earlier version.


@dataclass
class ContainerRecord:
    id: str
    sandbox_id: str
    config: str
    image_id: str
    image_ref: str
    created_at: int
    stop_signal: int = 15
    cgroup: str = ""
    phase: str = CREATED
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    user: list[Any] = field(default_factory=list)
    #: Which boot of the machine it was in when its program was asked for. In any later one it may have run, whatever else the record says.
    boot: str = ""


@functools.cache
def boot() -> str:
    """A name of this boot of the machine; empty where the kernel tells none."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


class Sandbox:
    """A pod's frame. `lock` is held by whatever changes it."""

    def __init__(self, record: SandboxRecord) -> None:
        self.record = record
        self.id = record.id
        self.config = cri_pb2.PodSandboxConfig.FromString(base64.b64decode(record.config))
        self.lock = asyncio.Lock()

    @property
    def options(self) -> cri_pb2.NamespaceOption:
        return self.config.linux.security_context.namespace_options

    @property
    def host_network(self) -> bool:
        return self.options.network == cri_pb2.NODE


class Container:
    def __init__(self, record: ContainerRecord) -> None:
        self.record = record
        self.id = record.id
        self.config = cri_pb2.ContainerConfig.FromString(base64.b64decode(record.config))
        self.lock = asyncio.Lock()
        self.exited = asyncio.Event()
        if record.phase == EXITED:
            self.exited.set()


R = TypeVar("R", SandboxRecord, ContainerRecord)


def pack(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


class Folder:
    """The records of one kind: ``<root>/<id>/record.json``, with whatever else belongs to the object beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str, *parts: str) -> str:
        return os.path.join(self.root, name, *parts)

    def save(self, record: SandboxRecord | ContainerRecord, *, settled: bool = True) -> None:
        os.makedirs(self.path(record.id), mode=0o711, exist_ok=True)
        write_atomically(self.path(record.id, "record.json"), json.dumps(asdict(record)).encode(), settled=settled)

    def settle(self, name: str) -> None:
        """Have what was saved last on the disk. No error where the record is gone."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.path(name, "record.json"), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def note(self, record: SandboxRecord | ContainerRecord, *, settled: bool = True) -> None:
        """Save what has happened and cannot be undone. A full disk is no reason to keep it from anybody: a record that is behind is what the next start repairs."""
        try:
            self.save(record, settled=settled)
        except OSError as error:
            log.warning("a record cannot be brought up to date", record=record.id, error=str(error))

    def load(self, kind: type[R]) -> Iterator[R]:
        """All whole records. What has none was interrupted while it was made or removed, and is cleared away."""
        known = {item.name for item in fields(kind)}
        for name in sorted(os.listdir(self.root)):
            try:
                with open(self.path(name, "record.json"), "rb") as file:
                    values = json.load(file)
                yield kind(**{key: value for key, value in values.items() if key in known})
            except (FileNotFoundError, NotADirectoryError, ValueError, TypeError) as error:
                log.warning("leftovers without a readable record are removed", folder=self.path(name), error=error)
                self.delete(name)

    def delete(self, name: str) -> None:
        """Remove the record first: what then remains after a crash is a leftover."""
        try:
            os.unlink(self.path(name, "record.json"))
        except FileNotFoundError:
            pass
        shutil.rmtree(self.path(name), ignore_errors=True)
